import collections
import errno
import functools
import json
import tracemalloc

import numpy as np
import prepared_tasks
import pyarrow.parquet as parquet
import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, export, export_files, metrics, register, specs, vocabularies
from flanjax.data import mixtures as mixtures_lib
from flanjax.data import prepare as prepare_lib
from flanjax.errors import UserError
from flanjax.input.mixture import open_mixture
from flanjax.tasks import mini  # noqa: F401 (its tasks)

SUITE = 'export_suite'
HOSTILE = ['"quotes", \\ and {braces}', 'a\u2028line\u2029end\x85ed\r\n\tand\x00', '\u202eright\U0001f600',
           '</script><b>', "=cmd|' /C calc'!A0", '', 'NaN']


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs(SUITE):
    specs.unregister(spec.name)
  for name in [n for n in seqio.MixtureRegistry.names() if n.startswith(SUITE)]:
    seqio.MixtureRegistry.remove(name)
  vocabularies.set_default(None)


def _texts(split, shuffle_files, seed=None, *, rows):
  return tf.data.Dataset.from_tensor_slices({'q': rows})


def _fields(example):
  both = tf.stack([example['q'], example['q'] + '!'])
  return {'q': example['q'], 'options': both, 'answer': both[1], 'answers': both}


def _add(name, rows, **changes):
  source = seqio.FunctionDataSource(functools.partial(_texts, rows=rows), ['train'])
  templates = [Template('{q}\n{options_}', '{answer}'), Template('Ask for {answer}', '{q}')]
  settings = dict(cluster='qa', source=source, fields=_fields, templates=templates,
                  metric_fns=[metrics.accuracy], suite=SUITE)
  return register(TaskSpec(name, **{**settings, **changes}))


def _export(tmp_path, name, *args, ending='jsonl', **kwargs):
  done = export.export(name, tmp_path / f'out.{ending}', *args, download=False, **kwargs)
  if ending == 'parquet':
    return done, parquet.read_table(done.path).to_pylist()
  with open(done.path, encoding='utf-8', newline='') as f:
    return done, [json.loads(line) for line in f.read().splitlines()]


def _columns_of(task, split):
  """The columns that SeqIO's own dataset of a task has too."""
  for x in seqio.TaskRegistry.get(task).get_dataset(None, split, shuffle=False).as_numpy_iterator():
    texts = {k: x[f'{k}_pretokenized'].decode() for k in ('inputs', 'targets')}
    lists = {k: [t.decode() for t in x.get(k, ())] for k in ('options', 'answers')}
    yield {**texts, **lists, **{k: int(x[k]) for k in ('template_id', 'example_id')}}


@pytest.mark.parametrize('task', [
    'mini_kinds_10templates', 'mini_find_answer_4templates', 'mini_dialogues_type_1',
    'mini_moods_10templates_two_shot', 'dataset_name_mini_kinds_10templates'])
def test_rows_are_what_the_task_itself_gives(task, tmp_path):
  done, rows = _export(tmp_path, task, 'test')
  spec = specs.parse_task_name(task).spec
  expected = list(_columns_of(task, 'test'))
  assert done.examples == len(rows) == len(expected) > 100 and done.repeated == 0
  for row, own in zip(rows, expected):
    assert row == own | {'task': task, 'dataset': spec.name, 'cluster': spec.cluster, 'split': 'test'}
    assert list(row) == list(export_files.COLUMNS)


def test_parquet_holds_the_same_rows(tmp_path):
  _, lines = _export(tmp_path, 'mini_kinds_10templates', 'validation')
  _, rows = _export(tmp_path, 'mini_kinds_10templates', 'validation', ending='parquet')
  assert rows == lines


def test_a_tasks_own_name_stands_for_all_of_its_templates(tmp_path):
  done, rows = _export(tmp_path, 'mini_kinds', 'validation')
  templates = len(specs.get('mini_kinds').templates)
  assert list(done.tasks) == ['mini_kinds_10templates']
  assert {r['template_id'] for r in rows} == set(range(templates))


@pytest.mark.parametrize('changes', [
    {}, {'filter_fn': lambda x: tf.strings.length(x['q']) > 2}, {'drop_empty': True}])
def test_hostile_text_survives_filters_and_both_formats(changes, tmp_path):
  _add('hostile', HOSTILE, **changes)
  expected = list(_columns_of('hostile_2templates', 'train'))
  assert len(expected) >= 6
  for ending in ('jsonl', 'parquet'):
    for number in (None, len(expected)):
      _, rows = _export(tmp_path, 'hostile_2templates', num_examples=number, ending=ending)
      shown = sorted(({k: r[k] for k in expected[0]} for r in rows), key=lambda r: r['example_id'])
      assert shown == expected


def test_bytes_that_are_no_text_become_the_replacement_character(tmp_path):
  _add('broken', [b'caf\xe9 x'])
  assert _export(tmp_path, 'broken_type_0')[1][0]['inputs'].startswith('caf\ufffd x')


def test_a_mixture_gives_the_examples_that_training_draws(tmp_path):
  name = f'{prepared_tasks.SUITE}_all_train'
  manifest = prepare_lib.prepare(
      name, {'inputs': 128, 'targets': 128}, output_dir=tmp_path, num_workers=1, download=False)
  source = open_mixture(manifest, batch_size=50, seed=3, pack=False)
  decode = lambda ids: vocabularies.get('bytes').decode(ids.tolist())
  drawn = [(decode(x), decode(y)) for step in range(4) for x, y in zip(
      *(source.batch(step)[k] for k in ('encoder_input_tokens', 'decoder_target_tokens')))]
  _, rows = _export(tmp_path, name, num_examples=200, seed=3)
  assert [(r['inputs'], r['targets']) for r in rows] == drawn


def test_the_shares_of_a_mixture_are_its_rates(tmp_path):
  name = f'{prepared_tasks.SUITE}_all_train'
  for seed, number in ((0, 64), (1, 256)):
    done, rows = _export(tmp_path, name, num_examples=number, seed=seed)
    counts = collections.Counter(r['task'] for r in rows)
    assert dict(counts) == done.tasks
    for task, rate in mixtures_lib.mixture_rates(name).items():
      assert abs(counts[task] - number * rate.share) <= 2  # Drawn by strata: see input.draws.


def test_embedded_tasks_of_one_size_are_drawn_alike(tmp_path):
  done, rows = _export(tmp_path, 'mini_only_nli_train', num_examples=300, ending='parquet')
  shares = np.array(list(done.tasks.values())) / 300
  assert len(shares) >= 2 and done.repeated == 0
  assert np.abs(shares - 1 / len(shares)).max() < 0.03
  runs = sum(a['task'] != b['task'] for a, b in zip(rows, rows[1:]))
  assert runs > 100  # Interleaved, not one after the other.


def test_draws_are_the_same_for_one_seed_and_no_example_twice_before_all(tmp_path):
  size = prepared_tasks.SIZES['prep_a']
  read = lambda seed, number: _export(tmp_path, 'prep_a_10templates', num_examples=number, seed=seed)
  done, rows = read(1, size + 10)
  assert read(1, size + 10)[1] == rows != read(2, size + 10)[1]
  ids = [r['example_id'] for r in rows]
  assert sorted(ids[:size]) == list(range(size)) != ids[:size]
  assert done.repeated == 10


def test_without_a_number_everything_comes_once(tmp_path):
  done, rows = _export(tmp_path, f'{prepared_tasks.SUITE}_all_train')
  assert done.tasks == {f'{k}_10templates': n for k, n in prepared_tasks.SIZES.items()}
  assert len({(r['task'], r['example_id']) for r in rows}) == len(rows) == done.examples


def test_tasks_that_rank_options_are_left_out(tmp_path):
  _add('ranked', ['a', 'b'])
  mixtures_lib.register_suite_mixtures(SUITE)
  done, rows = _export(tmp_path, f'{SUITE}_holdout_qa_eval')
  assert done.scoring == ['ranked_type_0_scoring_eval'] and {r['task'] for r in rows} == {'ranked_type_0'}
  with pytest.raises(UserError, match=r"(?s)ranks options.*export 'ranked_type_0'"):
    _export(tmp_path, 'ranked_type_0_scoring_eval')


def test_a_seqio_task_of_another_library_is_exported_by_its_text(tmp_path):
  task = seqio.TaskRegistry.get('prep_a_type_0')
  seqio.TaskRegistry.add(
      'foreign_task',
      source=seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensors(
          {'inputs': 'in', 'targets': 'out'}), ['train']),
      preprocessors=[seqio.preprocessors.tokenize], output_features=task.output_features)
  try:
    _, rows = _export(tmp_path, 'foreign_task')
  finally:
    seqio.TaskRegistry.remove('foreign_task')
  assert [(r['inputs'], r['targets'], r['dataset'], r['cluster']) for r in rows] == [
      ('in', 'out', 'foreign_task', '')]


def test_missing_data_stops_or_is_left_out(tmp_path):
  missing = seqio.TfdsDataSource('glue/cola:2.0.0', tfds_data_dir=str(tmp_path / 'none'))
  _add('absent', ['a'], source=missing)
  _add('present', ['a', 'b'])
  names = ['absent_2templates', 'present_2templates']
  seqio.MixtureRegistry.add(f'{SUITE}_both', names, default_rate=1.0)
  with pytest.raises(UserError, match='not prepared'):
    _export(tmp_path, f'{SUITE}_both')
  done, rows = _export(tmp_path, f'{SUITE}_both', num_examples=4, on_missing='skip')
  assert list(done.skipped) == ['absent_2templates'] and done.tasks == {'present_2templates': 4}


@pytest.mark.parametrize('number', [None, 50])
@pytest.mark.parametrize('ending', ['jsonl', 'parquet'])
def test_a_full_disk_leaves_what_was_there(ending, number, tmp_path, monkeypatch):
  path = tmp_path / f'out.{ending}'
  path.write_text('before')
  writer = export_files.WRITERS[f'.{ending}']

  def full(self, row):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(writer, 'write', full)
  with pytest.raises(UserError, match=r'(?s)cannot be written.*No space left'):
    export.export('prep_a_10templates', path, num_examples=number)
  assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]


def test_an_example_that_fails_is_named_and_leaves_no_file(tmp_path):
  _add('failing', ['a', 'b'], fields=lambda x: _fields(x) | {'answer': 'c'})
  with pytest.raises(UserError, match='example 0'):
    _export(tmp_path, 'failing_type_0')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name, output, split, expected', [
    ('prep_a_10templates', 'out.csv', 'train', r"(?s)got: '.csv'.*\.jsonl or \.parquet"),
    ('prep_a_10templates', 'folder.jsonl', 'train', 'There is a folder'),
    ('prep_a_10templates', 'out.jsonl', 'tset', 'did you mean test'),
    ('prep_a_10template', 'out.jsonl', 'train', 'did you mean prep_a_10templates'),
    ('prep_a_10templates', '/proc/out.jsonl', 'train', 'cannot be written'),
])
def test_wrong_use_is_told(name, output, split, expected, tmp_path):
  (tmp_path / 'folder.jsonl').mkdir()
  with pytest.raises(UserError, match=expected):
    export.export(name, tmp_path / output, split, download=False)


@pytest.mark.parametrize('ending', ['jsonl', 'parquet'])
def test_memory_does_not_grow_with_the_rows(ending, tmp_path, monkeypatch):
  monkeypatch.setattr(export_files, '_ROWS_TOGETHER', 500)
  size, number = 8_000, 1_500

  def long_texts(split, shuffle_files, seed=None):
    texts = tf.data.Dataset.range(number).map(lambda i: tf.strings.as_string(i))
    return texts.map(lambda text: {'q': text + '.' * size})

  source = seqio.FunctionDataSource(long_texts, ['train'], num_input_examples={'train': number})
  _add('large', [], source=source, fields=lambda x: {'q': x['q'], 'answer': 'a'},
       templates=[Template('{q}', '{answer}')])
  tracemalloc.start()
  export.export('large_1templates', tmp_path / f'out.{ending}', num_examples=number, download=False)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 0.7 * size * number
