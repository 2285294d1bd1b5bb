import functools
import json
import os
import pathlib
import pickle
import re
import shutil

import numpy as np
import prepared_tasks
import pytest
import seqio
import tensorflow as tf

import flanjax.tasks.flan2021  # noqa: F401 (registers)
from flanjax.data import Template, fingerprints, missing, mixtures, prepare, specs, vocabularies
from flanjax.errors import UserError
from flanjax.input import detokenize, files
from flanjax.input import manifest as manifest_lib
from flanjax.input import staging
from flanjax.input.mixture import open_mixture
from flanjax.input.records import RecordReader, decode

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'
TASKS = ['prep_a_10templates', 'prep_b_10templates']


pytestmark = pytest.mark.usefixtures('prepare_registry')


def _prepare(name, folder, **changes):
  return prepare.prepare(
      name, **{'sequence_length': LENGTHS, 'output_dir': folder, 'num_workers': 1, **changes}
  )


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  vocabularies.set_default('bytes')
  folder = tmp_path_factory.mktemp('prepared')
  path = _prepare(MIXTURE, folder)
  vocabularies.set_default(None)
  return folder, path


def _bytes(folder):
  files = [p for p in pathlib.Path(folder).rglob('*') if p.is_file()]
  return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def _records(path):
  """Task -> its examples."""
  tasks = manifest_lib.load(path).tasks
  reader = RecordReader(tasks)
  return {
      t.name: [
          decode(r)
          for r in reader.read(np.full(t.num_examples, k), np.arange(t.num_examples))
      ]
      for k, t in enumerate(tasks)
  }


def _mixture(name, tasks):
  seqio.MixtureRegistry.add(name, tasks, default_rate=mixtures.capped_rate)
  return name


def test_what_is_prepared_is_what_seqio_gives(prepared):
  _, path = prepared
  for name, examples in _records(path).items():
    dataset = seqio.TaskRegistry.get(name).get_dataset(LENGTHS, 'train', shuffle=False)
    elements = list(dataset.as_numpy_iterator())
    assert len(elements) == len(examples)
    for element, example in zip(elements, examples):
      assert np.array_equal(element['inputs'], example.inputs)
      assert np.array_equal(element['targets'], example.targets)
      assert element['example_id'] == example.example_id
      assert element['template_id'] == example.template_id
      assert example.inputs[-1] == example.targets[-1] == 1


def test_examples_that_were_cut_are_counted(prepared):
  manifest = manifest_lib.load(prepared[1])
  vocabulary = seqio.ByteVocabulary()
  for entry in manifest.tasks:
    dataset = seqio.TaskRegistry.get(entry.name).get_dataset(None, 'train', shuffle=False)
    whole = [
        [len(vocabulary.encode(x[f'{side}_pretokenized'].decode())) + 1 for side in LENGTHS]
        for x in dataset.as_numpy_iterator()
    ]
    cut = np.array(whole) > list(LENGTHS.values())
    assert 0 < cut[:, 0].sum() < cut.any(axis=1).sum() < len(whole)
    assert [entry.tokens[side].truncated for side in LENGTHS] == cut.sum(axis=0).tolist()
    assert entry.truncated == cut.any(axis=1).sum()


def test_examples_that_are_too_long_can_be_dropped(prepared, tmp_path):
  cut = manifest_lib.load(prepared[1])
  path = _prepare(MIXTURE, tmp_path, too_long='drop')
  whole = manifest_lib.load(path)
  assert (cut.too_long, whole.too_long) == ('truncate', 'drop')
  for one, other in zip(cut.tasks, whole.tasks):
    assert one.truncated == other.dropped > 0 == other.truncated == one.dropped
    assert other.num_examples == one.num_examples - other.dropped
    assert one.fingerprint != other.fingerprint
    # What stays is what it was.
    rows = files.open_index(one)
    kept = [e for e, row in zip(_records(prepared[1])[one.name], rows) if not row[3]]
    for left, right in zip(kept, _records(path)[one.name], strict=True):
      assert (left.example_id, left.template_id) == (right.example_id, right.template_id)
      assert left.inputs.tolist() == right.inputs.tolist()


def test_a_task_of_which_all_is_dropped_is_refused(tmp_path):
  with pytest.raises(UserError, match='No example is left') as error:
    _prepare(MIXTURE, tmp_path, too_long='drop', sequence_length={'inputs': 5, 'targets': 5})
  assert '230 are longer than a row' in str(error.value)


def test_the_manifest_tells_what_the_mixture_is(prepared):
  folder, path = prepared
  manifest = manifest_lib.load(path)
  assert path.parent == folder / 'mixtures' and path.name.startswith(MIXTURE)
  assert [t.name for t in manifest.tasks] == TASKS
  assert [t.num_examples for t in manifest.tasks] == [57, 230]
  assert [t.task for t in manifest.tasks] == ['prep_a', 'prep_b']
  assert {t.cluster for t in manifest.tasks} == {'echo'}
  assert manifest.tasks[1].share == pytest.approx(230 / 287)
  assert manifest.tasks[0].templates == {'0': 19, '1': 19, '2': 19}
  assert manifest.vocabulary == 'bytes' and manifest.vocab_size == 259
  assert {'flanjax', 'seqio', 'tensorflow'} <= set(manifest.versions)
  assert manifest.skipped == {}


def test_prepared_data_can_be_moved(prepared, tmp_path):
  folder, path = prepared
  shutil.copytree(folder, tmp_path / 'moved')
  source = open_mixture(
      tmp_path / 'moved' / path.relative_to(folder), batch_size=4, seed=0, pack=False
  )
  assert source.batch(0)['encoder_input_tokens'].shape == (4, 60)


def _converted(examples, lengths, pack):
  """What SeqIO's own feature converter makes of some examples."""
  dataset = tf.data.Dataset.from_generator(
      lambda: ({'inputs': x.inputs, 'targets': x.targets} for x in examples),
      output_signature={k: tf.TensorSpec([None], tf.int32) for k in LENGTHS},
  )
  return list(seqio.EncDecFeatureConverter(pack=pack)(dataset, lengths).as_numpy_iterator())


def test_batches_equal_those_of_seqios_feature_converter(prepared):
  source = open_mixture(prepared[1], batch_size=16, seed=3, pack=False)
  batch, rows = source.batch(2), source.rows(2)
  examples = list(_records(prepared[1]).values())
  drawn = [examples[t][e] for t, e in zip(rows.tasks, rows.examples)]
  for row, expected in enumerate(_converted(drawn, LENGTHS, pack=False)):
    assert set(expected) == set(batch)
    for key, value in expected.items():
      assert np.array_equal(batch[key][row], value), key


def test_packed_rows_equal_those_of_seqios_feature_converter(prepared):
  lengths = {'inputs': 256, 'targets': 160}
  source = open_mixture(prepared[1], batch_size=4, seed=3, feature_lengths=lengths)
  batch, rows = source.batch(1), source.rows(1)
  examples = list(_records(prepared[1]).values())
  part = rows.part(3, 4)
  drawn = [examples[t][e] for t, e in zip(part.tasks, part.examples)]
  assert len(drawn) > 2
  [expected] = _converted(drawn, lengths, pack=True)
  assert set(expected) == set(batch)
  for key, value in expected.items():
    assert np.array_equal(batch[key][3], value), key


def test_a_few_shot_training_mixture_is_prepared_and_drawn_from(tmp_path):
  lengths = {'inputs': 900, 'targets': 100}
  path = _prepare(f'{MIXTURE}_two_shot', tmp_path, sequence_length=lengths)
  manifest = manifest_lib.load(path)
  assert [(t.name, t.rate) for t in manifest.tasks] == [
      ('prep_a_10templates_two_shot', 57), ('prep_b_10templates_two_shot', 230)]
  source = open_mixture(path, batch_size=8, seed=0, feature_lengths=lengths, pack=False)
  texts = [seqio.ByteVocabulary().decode(row.tolist())
           for row in source.batch(0)['encoder_input_tokens']]
  # Two exemplars and the query, each with a numbered line under the same template.
  assert all(len(re.findall(r'line \d+|LINE \d+', text)) == 5 for text in texts)


def test_files_fetched_by_hand_are_enough_without_a_network(tmp_path, monkeypatch):
  from flanjax.tasks.flan2021 import dialogsum  # noqa: F401 (TFDS finds its builder)

  monkeypatch.setattr(missing, '_online', lambda: False)
  prepared_tasks.add(
      'prep_by_hand', source=seqio.TfdsDataSource('dialogsum:1.0.0', tfds_data_dir=str(tmp_path)),
      fields=lambda x: {'text': x['dialogue'], 'answer': x['summaries'][0]})
  with pytest.raises(prepare.UserError, match='github.com/cylnlp/dialogsum'):
    _prepare('prep_by_hand_10templates', tmp_path / 'out')
  folder = tmp_path / 'downloads' / 'manual'
  folder.mkdir(parents=True)
  row = {'fname': 'd_0', 'dialogue': 'Hello. Good day.', 'summary': 'They greet.', 'topic': 'hello'}
  for split in ('train', 'dev', 'test'):
    (folder / f'dialogsum.{split}.jsonl').write_text(json.dumps(row) + '\n')
  manifest = manifest_lib.load(_prepare('prep_by_hand_10templates', tmp_path / 'out'))
  assert [t.num_examples for t in manifest.tasks] == [1]


def test_a_second_run_keeps_what_is_there(prepared, tmp_path):
  folder = tmp_path / 'again'
  shutil.copytree(prepared[0], folder)
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*.array_record')}
  path = _prepare(MIXTURE, folder)
  assert {p: p.stat().st_mtime_ns for p in folder.rglob('*.array_record')} == before
  assert _bytes(folder) == _bytes(prepared[0])
  assert path.name == prepared[1].name


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'manifest', 'remove'])
def test_a_damaged_task_is_prepared_anew(prepared, tmp_path, damage):
  folder = tmp_path / 'damaged'
  shutil.copytree(prepared[0], folder)
  [task] = (folder / TASKS[0]).iterdir()
  shard, manifest = task / 'train-00000-of-00001.array_record', task / 'manifest.json'
  content = shard.read_bytes()
  if damage == 'truncate':
    shard.write_bytes(content[:-7])
  elif damage == 'flip':
    shard.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
  elif damage == 'manifest':
    manifest.write_text(manifest.read_text()[:300])
  else:
    manifest.unlink()
  _prepare(MIXTURE, folder)
  assert _bytes(folder) == _bytes(prepared[0])


def test_a_failing_example_is_named_and_finished_tasks_are_kept(tmp_path):
  def break_at_41(example):
    number = tf.strings.to_number(tf.strings.split(example['line'])[3])
    with tf.control_dependencies([tf.debugging.Assert(number != 41, ['a broken line'])]):
      return {k: tf.identity(v) for k, v in prepared_tasks.fields(example).items()}

  prepared_tasks.add(
      'prep_bad', fields=break_at_41, source=prepared_tasks.source('prep_bad', {'prep_bad': 50})
  )
  mixture = _mixture('with_bad', ['prep_b_10templates', 'prep_bad_10templates'])
  with pytest.raises(UserError, match='Preparing a task failed') as error:
    _prepare(mixture, tmp_path)
  assert 'task prep_bad_10templates' in str(error.value)
  assert 'example 41' in str(error.value) and 'a broken line' in str(error.value)
  [kept] = tmp_path.rglob('manifest.json')
  assert kept.parent.parent.name == 'prep_b_10templates'
  assert not (tmp_path / 'mixtures').exists()
  assert not [p for p in tmp_path.rglob('*') if p.name.startswith('.')]


def test_what_a_killed_run_left_never_counts(prepared, tmp_path, monkeypatch):
  folder = tmp_path / 'killed'
  shutil.copytree(prepared[0], folder)
  [task] = (folder / TASKS[0]).iterdir()
  left = task.parent / f'.{task.name}-killed'
  task.rename(left)
  _prepare(MIXTURE, folder)
  # Nobody says whose it is, and it is not old.
  assert task.is_dir() and left.is_dir()
  monkeypatch.setattr(staging, '_STALE_AFTER_S', -1)
  shutil.rmtree(task)
  _prepare(MIXTURE, folder)
  assert _bytes(folder) == _bytes(prepared[0])


def test_what_someone_is_writing_is_left_alone(tmp_path):
  place = tmp_path / 'place'
  with staging.beside(place) as first, staging.beside(place) as second:
    staging.remove_leftovers(place)
    assert first.is_dir() and second.is_dir() and first != second
    os.rename(first, place)
  dead = tmp_path / '.place~dead'
  dead.mkdir()
  staging.remove_leftovers(place)
  assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_is_taken_for_a_leftover_while_it_is_made_is_made_again(tmp_path, monkeypatch):
  made, real = [], staging.tempfile.mkdtemp

  def mkdtemp(**settings):
    folder = real(**settings)
    made.append(folder)
    if len(made) == 1:
      os.rmdir(folder)
    return folder

  monkeypatch.setattr(staging.tempfile, 'mkdtemp', mkdtemp)
  with staging.beside(tmp_path / 'place') as folder:
    assert str(folder) == made[1] and folder.is_dir()


def test_whoever_comes_second_leaves_what_is_whole_and_replaces_what_is_not(tmp_path):
  place = tmp_path / 'place'

  def put(text):
    with staging.beside(place) as folder:
      (folder / 'file').write_text(text)
      staging.put(folder, place, lambda: (place / 'file').read_text() == 'whole')
    assert [p.name for p in tmp_path.iterdir()] == ['place']
    return (place / 'file').read_text()

  assert [put('torn'), put('whole'), put('later')] == ['torn', 'whole', 'whole']


def test_any_number_of_workers_writes_the_same_bytes(prepared, tmp_path):
  seen = []
  path = _prepare(MIXTURE, tmp_path, num_workers=2, modules=['prepared_tasks'],
                  progress=lambda *event: seen.append(event))
  assert path.name == prepared[1].name and _bytes(tmp_path) == _bytes(prepared[0])
  assert seen[0] == (0, 287, '') and seen[-1][:2] == (287, 287)


def test_an_error_in_a_worker_comes_back_as_it_was(tmp_path):
  error = prepare.UserError('what', where='task t', got='x')
  copy = pickle.loads(pickle.dumps(error))
  assert str(copy) == str(error) and copy.where == 'task t'


def _fingerprint(name='prep_a_10templates', lengths=LENGTHS, split='train'):
  return prepare._job(name, split, lengths, pathlib.Path('/')).entry['fingerprint']


def test_a_fingerprint_tells_everything_the_content_depends_on():
  def shout(example):
    return {'text': example['line'], 'answer': tf.strings.upper(example['line'] + '!')}

  def upper_by(function):
    return lambda example: {'text': example['line'], 'answer': function(example['line'])}

  changes = {
      'same': {},
      'fields': {'fields': shout},
      'closure': {'fields': upper_by(tf.strings.upper)},
      'other closure': {'fields': upper_by(tf.strings.lower)},
      'filter': {'filter_fn': lambda x: tf.strings.length(x['line']) > 3},
      'templates': {'templates': [Template('Repeat {text}', '{answer}')]},
      'data': {'source': prepared_tasks.source('one', {'one': 58})},
  }
  found = {}
  for what, change in changes.items():
    prepared_tasks.add('one', **{'source': prepared_tasks.source('one', {'one': 57}), **change})
    found[what] = _fingerprint('one_10templates')
    if what == 'same':
      found['split'] = _fingerprint('one_10templates', split='test')
      found['lengths'] = _fingerprint('one_10templates', {'inputs': 61, 'targets': 40})
      found['template'] = _fingerprint('one_type_1')
      found['shots'] = _fingerprint('one_10templates_two_shot')
      vocabularies.set_default('mini')
      found['vocabulary'] = _fingerprint('one_10templates')
      vocabularies.set_default('bytes')
    specs.unregister('one')
  assert len(set(found.values())) == len(found)
  prepared_tasks.add('one', source=prepared_tasks.source('one', {'one': 57}), citation='new')
  assert _fingerprint('one_10templates') == found['same']


def test_comments_and_docstrings_do_not_change_a_fingerprint():
  def one(x):
    """Adds."""
    return x + 1  # one

  first = fingerprints.describe_code(one)

  def one(x):
    return x + 1

  assert fingerprints.describe_code(one) == first

  def one(x):
    return x + 2

  assert fingerprints.describe_code(one) != first


class _Reader:
  """Fields as an object, as which some would write them."""

  def __init__(self, word):
    self.word = word

  def __call__(self, example):
    return {'text': example['line'], 'answer': self.word}

  def fields(self, example):
    return self(example)


def test_an_object_that_is_called_counts_with_what_it_holds():
  of = fingerprints.describe_code
  assert of(_Reader('a')) == of(_Reader('a')) != of(_Reader('b'))
  assert of(_Reader('a').fields) == of(_Reader('a').fields) != of(_Reader('b').fields)
  assert '_Reader' in str(of(_Reader('a'))) and 'self.word' in str(of(_Reader('a')))


def test_code_without_a_source_is_described_alike_in_every_process():
  code = (lambda x: x in {'b', 'c', 'a', 'd'}).__code__  # Sets of texts have an order by chance.
  assert str(["'a'", "'b'", "'c'", "'d'"]) in fingerprints._bytecode(code)
  assert 'frozenset' not in fingerprints._bytecode(code)


def test_missing_data_is_listed_at_once_or_skipped(tmp_path):
  for name, data in (('prep_x', 'wsc273:1.0.0'), ('prep_y', 'natural_questions_open:1.0.0')):
    splits = {'train': 'test'} if name == 'prep_x' else None
    prepared_tasks.add(name, source=seqio.TfdsDataSource(data, splits=splits))
  names = [f'prep_{x}_10templates' for x in 'axby']
  mixture = _mixture('with_missing', names)
  with pytest.raises(UserError, match='missing') as error:
    _prepare(mixture, tmp_path, download=False)
  assert all(f'prep_{x}_10templates' in str(error.value) for x in 'xy')
  assert not list(tmp_path.iterdir())
  path = _prepare(mixture, tmp_path, download=False, on_missing='skip')
  manifest = manifest_lib.load(path)
  assert sorted(manifest.skipped) == [names[1], names[3]]
  assert {t.name: t.share for t in manifest.tasks} == {
      names[0]: pytest.approx(57 / 287), names[2]: pytest.approx(230 / 287)
  }
  with pytest.raises(UserError, match='No task'):
    _prepare(names[1], tmp_path, download=False, on_missing='skip')


def test_a_split_that_the_filter_empties_is_refused(tmp_path):
  prepared_tasks.add(
      'prep_none', filter_fn=lambda x: False, source=prepared_tasks.source('prep_a')
  )
  with pytest.raises(UserError, match='No example is left') as error:
    _prepare('prep_none_10templates', tmp_path)
  assert 'task prep_none_10templates' in str(error.value)
  assert not list((tmp_path / 'prep_none_10templates').iterdir())


def test_options_without_the_answer_are_refused(tmp_path):
  def no_answer(example):
    return {'text': example['line'], 'options': ['a', 'b'], 'answer': 'c'}

  prepared_tasks.add(
      'prep_c', fields=no_answer, source=prepared_tasks.source('prep_a'),
      templates=[Template('{text} {options_}', '{answer}')],
  )
  with pytest.raises(UserError, match='do not contain its answer') as error:
    _prepare('prep_c_10templates', tmp_path)
  assert 'task prep_c_10templates, split train, example 0' in str(error.value)


@pytest.mark.parametrize('changes, message', [
    ({'sequence_length': {'inputs': 0, 'targets': 40}}, 'sequence length of inputs'),
    ({'sequence_length': {'inputs': 60}}, 'sequence length of targets'),
    ({'split': 'trian'}, "no split 'trian'"),
    ({'on_missing': 'ignore'}, 'on_missing'),
    ({'num_workers': 0}, 'at least one worker'),
    ({'too_long': 'cut'}, "'truncate' or 'drop'"),
    ({'modules': ['no_such_module']}, 'no_such_module'),
])
def test_bad_arguments_are_refused(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    _prepare('prep_a_10templates', tmp_path, **changes)


def test_an_unknown_name_brings_the_nearest(tmp_path):
  with pytest.raises(UserError, match='prep_a_10templates'):
    _prepare('prep_a_10template', tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written') as error:
    _prepare('prep_a_10templates', tmp_path / 'file' / 'below')
  assert str(tmp_path / 'file' / 'below') in str(error.value)


def test_a_plain_seqio_task_is_prepared_too(tmp_path):
  def rename(dataset, word):
    join = tf.strings.join
    return dataset.map(lambda x: {'inputs': x['line'], 'targets': join([word, x['line']])})

  texts = functools.partial(prepared_tasks.texts, name='prep_a', sizes=prepared_tasks.SIZES)
  feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
  seqio.TaskRegistry.add(
      'plain_task',
      source=seqio.FunctionDataSource(texts, ['train'], num_input_examples={'train': 57}),
      preprocessors=[
          functools.partial(rename, word='so: '), seqio.preprocessors.tokenize_and_append_eos,
      ],
      output_features={'inputs': feature, 'targets': feature},
  )
  seqio.MixtureRegistry.add('plain_mixture', [('plain_task', 1.0)])
  path = _prepare('plain_mixture', tmp_path)
  [task] = manifest_lib.load(path).tasks
  assert task.num_examples == 57 and task.name == task.task == 'plain_task'
  first = _records(path)['plain_task'][0]
  assert seqio.ByteVocabulary().decode(first.targets.tolist()).startswith('so: prep_a train line 0')


def test_progress_counts_what_is_done_already(prepared, tmp_path):
  shutil.copytree(prepared[0], tmp_path / 'p')
  shutil.rmtree(tmp_path / 'p' / TASKS[0])
  seen = []
  _prepare(MIXTURE, tmp_path / 'p', progress=lambda *event: seen.append(event))
  assert seen[0] == (230, 287, '') and seen[-1] == (287, 287, TASKS[0])


def test_the_default_folder_is_in_the_cache(monkeypatch, tmp_path):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path))
  assert prepare.default_output_dir() == tmp_path / 'prepared'


@pytest.mark.real_data
def test_cb_is_prepared_and_trains_from_files(tmp_path):
  vocabularies.set_default('mini' if os.path.exists(detokenize.mini_path()) else 'bytes')
  path = _prepare('cb_10templates', tmp_path, sequence_length={'inputs': 256, 'targets': 32})
  [task] = manifest_lib.load(path).tasks
  assert task.num_examples == 200 and len(task.templates) == 10
  assert set(task.templates.values()) == {20}
  source = open_mixture(path, batch_size=4, seed=0)
  assert source.fill.row > 0.8
  assert json.loads(json.dumps(source.describe()))['examples'] == 200
