import time

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from flanjax.data import (
    TaskSpec,
    Template,
    availability,
    indexed_source,
    metrics,
    register,
    specs,
    vocabularies,
)
from flanjax.errors import UserError

TEMPLATES = [
    Template('Review: {review}\n{options_}', '{answer}'),
    Template('{review} Good or bad?', '{answer}'),
    Template('Write: {answer}', '{review}'),
]


def _dataset(split, shuffle_files, seed=None):
  n = {'train': 50, 'test': 7}[split]
  rows = {'text': [f'{split} film {i}' for i in range(n)], 'label': [i % 2 for i in range(n)]}
  return tf.data.Dataset.from_tensor_slices(rows)


def _fields(example):
  options = ['bad', 'good']
  answer = tf.constant(options)[example['label']]
  return {'review': example['text'], 'options': options, 'answer': answer}


def _source(dataset=_dataset, **counts):
  return seqio.FunctionDataSource(dataset, ['train', 'test'], num_input_examples=counts or None)


def make(name, **changes):
  settings = {
      'cluster': 'sentiment',
      'source': _source(),
      'fields': _fields,
      'templates': TEMPLATES,
      'metric_fns': [metrics.accuracy],
      'suite': 'specs_test',
  }
  return TaskSpec(name, **(settings | changes))


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('specs_test'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def _elements(name, split='test', lengths=None, shuffle=False, **kwargs):
  dataset = seqio.TaskRegistry.get(name).get_dataset(lengths, split, shuffle=shuffle, **kwargs)
  return list(dataset.as_numpy_iterator())


def test_registration_gives_the_names_of_flan():
  register(make('rev'))
  names = specs.task_names(specs.get('rev'))
  assert {n for n, task in names.items() if task.shots == 0 and not task.regime} == {
      'rev_1templates', 'rev_2templates', 'rev_10templates', 'rev_type_0', 'rev_type_1',
      'rev_type_2', 'rev_type_0_scoring_eval',
  }  # fmt: skip
  few_shot = {n for n in seqio.TaskRegistry.names() if n.startswith('rev_type_1_')}
  suffixes = [s for s in specs.SHOTS if s]
  balanced = [f'{s}_balanced' for s in suffixes if s != '_one_shot']
  assert few_shot == {f'rev_type_1{suffix}' for suffix in suffixes + balanced}


def test_regimes_have_names_of_their_own():
  register(make('rev', continuations=[Template('{review} It was', '{answer}', ranks=True)]))
  names = specs.task_names(specs.get('rev'))
  found = {n for n, task in names.items() if task.regime and task.shots in (0, 5)}
  plain = {f'{regime}_rev_{kind}' for regime in specs.REGIMES
           for kind in ('10templates', 'type_0', 'type_0_scoring_eval')}
  assert found == plain | {f'{n}_five_shot' for n in plain if n.startswith('continuations')}


def test_less_than_an_instruction_is_the_data_and_its_options():
  register(make('rev'))
  texts = {regime: _elements(f'{regime}_rev_type_0')[0]['inputs_pretokenized'].decode()
           for regime in ('no_instructions', 'dataset_name')}
  assert texts['no_instructions'] == 'test film 0\nOPTIONS:\n- bad\n- good'
  assert texts['dataset_name'] == f"[{make('rev').cluster}: rev]\n{texts['no_instructions']}"
  register(make('own', plain='{options_}\n{review}'))
  own = _elements('no_instructions_own_type_0')[0]['inputs_pretokenized'].decode()
  assert own == 'OPTIONS:\n- bad\n- good\ntest film 0'


def test_names_parse_back_into_what_they_say():
  register(make('rev'))
  parsed = specs.parse_task_name('rev_type_0_scoring_eval_five_shot')
  assert (parsed.spec.name, parsed.kind, parsed.n_or_i) == ('rev', 'type', 0)
  assert (parsed.scoring, parsed.shots, parsed.template_ids) == (True, 5, (0,))
  parsed = specs.parse_task_name('rev_10templates_multi_shot')
  assert (parsed.kind, parsed.n_or_i, parsed.shots) == ('templates', 10, 'multi')
  assert parsed.template_ids == (0, 1, 2)
  with pytest.raises(UserError, match='did you mean rev_type_0'):
    specs.parse_task_name('rev_typ_0')


def test_registration_reads_and_traces_nothing():
  def refuse(*args, **kwargs):
    raise AssertionError('used at registration')

  start = time.perf_counter()
  register(make('lazy', source=_source(lambda split, shuffle_files: refuse()), fields=refuse))
  assert time.perf_counter() - start < 0.5


def test_ten_templates_register_every_count():
  templates = [Template(f'{i} {{review}}', '{answer}') for i in range(12)]
  register(make('many', templates=templates))
  counts = {
      n: len(specs.parse_task_name(f'many_{n}templates').template_ids)
      for n in specs.TEMPLATE_COUNTS
  }
  assert counts == {1: 1, 2: 2, 4: 4, 7: 7, 10: 10}


def test_an_element_holds_what_the_contract_says():
  register(make('rev'))
  first = _elements('rev_10templates', lengths={'inputs': 12, 'targets': 64})[1]
  assert first['inputs'].dtype == first['targets'].dtype == first['template_id'].dtype == 'int32'
  assert first['example_id'] == 1 and first['example_id'].dtype == 'int64'
  assert len(first['inputs']) == 12 and first['inputs'][-1] == 1
  fields = {'review': 'test film 1', 'options': ['bad', 'good'], 'answer': 'good'}
  texts = tuple(first[f'{side}_pretokenized'].decode() for side in ('inputs', 'targets'))
  assert texts == TEMPLATES[first['template_id']].render(fields)


def test_every_template_is_used_evenly_and_the_same_in_every_run():
  register(make('rev'))
  ids = [int(x['template_id']) for x in _elements('rev_10templates', 'train')]
  assert [sorted(ids[i : i + 3]) for i in range(0, 48, 3)] == [[0, 1, 2]] * 16
  assert ids != [i % 3 for i in range(50)]
  assert ids == [int(x['template_id']) for x in _elements('rev_10templates', 'train')]


def test_shuffling_moves_examples_and_changes_none():
  register(make('rev'))
  plain = _elements('rev_10templates', 'train')
  mixed = _elements('rev_10templates', 'train', shuffle=True, seed=3)
  key = lambda x: (int(x['example_id']), x['inputs_pretokenized'], int(x['template_id']))
  assert [key(x) for x in plain] != [key(x) for x in mixed]
  assert [key(x) for x in plain] == sorted(key(x) for x in mixed)


def test_shards_divide_the_examples():
  register(make('rev'))
  shards = [
      {int(x['example_id']) for x in _elements('rev_type_0', shard_info=seqio.ShardInfo(i, 2))}
      for i in range(2)
  ]
  assert shards == [{0, 2, 4, 6}, {1, 3, 5}]


def test_training_is_capped_and_evaluation_is_not(monkeypatch):
  monkeypatch.setattr(indexed_source, 'MAX_TRAIN_EXAMPLES', 5)
  register(make('rev'))
  task = seqio.TaskRegistry.get('rev_type_0')
  assert len(_elements('rev_type_0', 'train')) == 5 == task.num_input_examples('train')
  assert len(_elements('rev_type_0', 'test')) == 7 == task.num_input_examples('test')


def test_a_filter_drops_examples_and_keeps_the_index_of_the_rest():
  register(make('rev', filter_fn=lambda x: x['label'] == 1))
  assert [int(x['example_id']) for x in _elements('rev_type_0')] == [1, 3, 5]


def test_a_mixture_of_suites_shares_one_vocabulary():
  register(make('one'))
  other = register(make('two', suite='specs_test_other'))
  mixture = seqio.Mixture('m', ['one_type_0', 'two_type_0'], default_rate=1.0)
  dataset = mixture.get_dataset({'inputs': 32, 'targets': 8}, 'train', shuffle=False, num_epochs=1)
  assert set(dataset.element_spec) == {'inputs', 'targets'}
  specs.unregister(other.name)


def test_a_name_is_registered_once():
  register(make('rev'))
  with pytest.raises(UserError, match='already registered'):
    register(make('rev'))
  specs.unregister('rev')
  register(make('rev'))


@pytest.mark.parametrize(
    'changes', [{'cluster': 'no space'}, {'suite': ''}, {'templates': []}, {'templates': ['x']}]
)
def test_a_malformed_spec_is_refused_at_once(changes):
  with pytest.raises(UserError):
    make('rev', **changes)


def test_unknown_task_names_the_nearest():
  register(make('reviews'))
  with pytest.raises(UserError, match='did you mean reviews'):
    specs.get('review')


def test_lineage_holds_the_tfds_name_without_its_version():
  source = seqio.TfdsDataSource('glue/qnli:2.0.0', splits={'train': 'train[:9]'})
  assert make('q', source=source, lineage=['squad']).all_lineage == {'glue/qnli', 'squad'}


def test_missing_tfds_data_is_told_all_at_once(tmp_path):
  source = seqio.TfdsDataSource('glue/qnli:2.0.0', tfds_data_dir=str(tmp_path), splits=['train'])
  gone = seqio.TfdsDataSource('no_such_set:1.0.0', tfds_data_dir=str(tmp_path), splits=['train'])
  here, missing, unknown = make('a'), make('b', source=source), make('c', source=gone)
  assert availability.check_available(here) is None
  assert 'not prepared' in availability.check_available(missing)
  with pytest.raises(UserError, match=r'(?s)2 task.*b: not prepared.*c: TFDS cannot build'):
    availability.require_available([here, missing, unknown])


class GeneratedReviews(tfds.core.GeneratorBasedBuilder):
  """Reviews made without a download."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = tfds.features.FeaturesDict({'text': tfds.features.Text(), 'label': np.int64})
    return tfds.core.DatasetInfo(builder=self, description='Reviews.', features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(6)}

  def _generate_examples(self, count):
    for i in range(count):
      yield i, {'text': f'film {i}', 'label': i % 2}


def test_a_generated_tfds_dataset_is_written_when_it_is_first_used(tmp_path):
  source = seqio.TfdsDataSource('generated_reviews:1.0.0', tfds_data_dir=str(tmp_path))
  spec = register(make('made', source=source))
  assert availability.check_available(spec) is None
  assert not list(tmp_path.iterdir())
  task = seqio.TaskRegistry.get('made_type_0')
  assert task.num_input_examples('train') == 6 == len(_elements('made_type_0', 'train'))
  assert availability.check_available(spec) is None


@pytest.mark.real_data
def test_real_data_is_available_and_reads():
  source = seqio.TfdsDataSource('super_glue/cb:1.0.2', splits={'train': 'train[:-50]'})

  def fields(example):
    options = ['Yes', 'No', 'Maybe']
    answer = tf.constant(options)[example['label']]
    return {'review': example['premise'], 'options': options, 'answer': answer}

  spec = register(make('cb_read', source=source, fields=fields))
  assert availability.check_available(spec) is None
  assert len(_elements('cb_read_10templates', 'train')) == 200
