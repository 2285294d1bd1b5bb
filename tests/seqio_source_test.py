import collections
import itertools
import json
import os

import numpy as np
import prepared_tasks  # noqa: F401 (registers)
import pytest
import seqio
import tensorflow as tf

from flanjax import cli
from flanjax.data import prepare, seqio_cache, seqio_source, vocabularies
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib

pytestmark = pytest.mark.usefixtures('registry')

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'
TASKS = ['prep_a_10templates', 'prep_b_10templates']


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Manifests of the training and of the test split."""
  vocabularies.set_default('bytes')
  folder = tmp_path_factory.mktemp('prepared')
  paths = [prepare.prepare(MIXTURE, LENGTHS, split, folder, num_workers=1) for split in ('train', 'test')]
  vocabularies.set_default(None)
  return paths


@pytest.fixture
def cache(tmp_path, prepared, monkeypatch):
  """A folder that SeqIO looks for cached tasks in."""
  monkeypatch.setattr(seqio.utils, '_GLOBAL_CACHE_DIRECTORIES', [])
  seqio.add_global_cache_dirs([str(tmp_path / 'cache')])
  return tmp_path / 'cache'


def _read(name, lengths=LENGTHS, split='train', **settings):
  task = seqio.get_mixture_or_task(name)
  return list(task.get_dataset(lengths, split, **{'shuffle': False, **settings}).as_numpy_iterator())


def _same(some, others, keys=('inputs', 'targets', 'example_id', 'template_id')):
  assert len(some) == len(others) > 0
  for one, other in zip(some, others):
    for key in keys:
      assert np.array_equal(one[key], other[key]) and one[key].dtype == other[key].dtype, key


def test_prepared_tasks_give_what_their_tasks_give(prepared):
  names = seqio_source.register_prepared(prepared[0])
  assert names == ('prepared_prepare_suite_all_train', tuple(f'prepared_{n}' for n in TASKS))
  for name in TASKS:
    _same(_read(f'prepared_{name}'), _read(name))
    task = seqio.TaskRegistry.get(f'prepared_{name}')
    assert task.output_features['inputs'].vocabulary == seqio.ByteVocabulary()
    assert task.num_input_examples('train') == prepared_tasks.SIZES[name[:6]]


def test_shorter_lengths_cut_as_the_task_does(prepared):
  seqio_source.register_prepared(prepared[0])
  lengths = {'inputs': 33, 'targets': 17}
  _same(_read('prepared_prep_b_10templates', lengths), _read('prep_b_10templates', lengths))


def test_batches_of_the_mixture_are_those_of_the_mixture_it_was_made_of(prepared):
  names = seqio_source.register_prepared(prepared[0])
  for pack in (False, True):
    batches = [
        list(seqio.get_dataset(
            name, LENGTHS, seqio.EncDecFeatureConverter(pack=pack), 'train', shuffle=False, num_epochs=1,
            seed=3).as_numpy_iterator())
        for name in (names.mixture, MIXTURE)
    ]
    _same(*batches, keys=sorted(batches[0][0]))


def test_rates_are_those_of_the_manifest(prepared):
  names = seqio_source.register_prepared(prepared[0])
  mixture = seqio.MixtureRegistry.get(names.mixture)
  assert {t.name: mixture.get_rate(t) for t in mixture.tasks} == {
      'prepared_prep_a_10templates': 57, 'prepared_prep_b_10templates': 230}


def test_several_splits_make_one_task(prepared):
  names = seqio_source.register_prepared(*prepared)
  assert set(seqio.TaskRegistry.get(names.tasks[0]).splits) == {'train', 'test'}
  _same(_read(names.tasks[1], split='test'), _read(TASKS[1], split='test'))
  with pytest.raises(UserError, match='same split'):
    seqio_source.register_prepared(prepared[0], prepared[0], prefix='twice_')


def test_hosts_share_the_examples_of_a_task(prepared):
  source = seqio_source.prepared_source(prepared[0], TASKS[1])
  parts = [
      [int(x['example_id']) for x in source.get_dataset(
          shuffle=False, shard_info=seqio.ShardInfo(i, 3)).as_numpy_iterator()]
      for i in range(3)
  ]
  assert sorted(itertools.chain(*parts)) == list(range(230)) and {len(p) for p in parts} == {76, 77}


def test_shuffling_is_whole_repeatable_and_new_each_epoch(prepared):
  source = seqio_source.prepared_source(prepared[0], TASKS[1])

  def order(seed):
    dataset = source.get_dataset(shuffle=True, seed=seed)
    return [[int(x['example_id']) for x in dataset.as_numpy_iterator()] for _ in range(2)]

  first, second = order(1)
  assert sorted(first) == sorted(second) == list(range(230))
  assert first != second and order(1) == [first, second] and order(2)[0] != first
  assert np.corrcoef(first, range(230))[0, 1] < 0.3


def test_a_cached_task_gives_what_the_task_gives(prepared, cache):
  names = seqio_cache.write(prepared[0], cache)
  seqio_source.register_prepared(prepared[0])
  assert names == [f'prepared_{n}' for n in TASKS]
  for name in TASKS:
    _same(_read(f'prepared_{name}', use_cached=True), _read(name))
  assert len(list((cache / names[1]).glob('train.tfrecord-*-of-00015'))) == 15


def test_a_cache_needs_seqio_alone(prepared, cache):
  [name, _] = seqio_cache.write(prepared[0], cache)
  feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
  nothing = seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, ['train'])
  seqio.TaskRegistry.add(
      name, source=nothing, preprocessors=[seqio.CacheDatasetPlaceholder(required=True)],
      output_features={'inputs': feature, 'targets': feature})
  _same(_read(name, use_cached=True), _read(TASKS[0]))
  task = seqio.TaskRegistry.get(name)
  assert seqio.mixing_rate_num_examples(task) == 57
  whole = _read(TASKS[0])
  assert task.get_cached_stats('train')['targets_tokens'] == sum(
      int((x['targets'] != 1).sum()) for x in whole)


def test_what_is_cached_is_kept_and_other_data_is_refused(prepared, cache, tmp_path):
  seqio_cache.write(prepared[0], cache)
  before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cache.rglob('*')}
  seqio_cache.write(prepared[0], cache)
  assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in cache.rglob('*')} == before
  seqio_cache.write(prepared[1], cache)  # Another split goes beside it.
  seqio_source.register_prepared(*prepared)
  for split in ('train', 'test'):
    _same(_read(f'prepared_{TASKS[0]}', split=split, use_cached=True), _read(TASKS[0], split=split))
  other = prepare.prepare(MIXTURE, {'inputs': 50, 'targets': 40}, 'train', tmp_path / 'other', num_workers=1)
  with pytest.raises(UserError, match='other data under this name') as error:
    seqio_cache.write(other, cache)
  assert str(cache / f'prepared_{TASKS[0]}') in str(error.value)


def test_a_cache_that_was_not_completed_is_none(prepared, cache, monkeypatch):
  def killed(path, content):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(seqio_cache, '_write_json', killed)
    seqio_cache.write(prepared[0], cache)
  assert not list(cache.rglob('*'))
  seqio_cache.write(prepared[0], cache)
  assert (cache / f'prepared_{TASKS[0]}' / 'COMPLETED').exists()


def test_a_cache_on_a_full_disk_is_told_and_not_completed(prepared, cache, monkeypatch):
  class Full:
    def __init__(self, path):
      self._file = open(path, 'wb')

    def write(self, record):
      pass

    def __enter__(self):
      return self

    def __exit__(self, *unused):
      self._file.close()
      raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device')

  monkeypatch.setattr(tf.io, 'TFRecordWriter', Full)
  with pytest.raises(UserError, match='cannot be written') as error:
    seqio_cache.write(prepared[0], cache)
  assert 'No space left' in str(error.value) and str(cache) in str(error.value)
  assert not list(cache.rglob('*'))


@pytest.mark.beam
def test_statistics_are_those_that_seqio_itself_writes(prepared, cache):
  beam = pytest.importorskip('apache_beam')
  from seqio import beam_utils

  [name, _] = seqio_cache.write(prepared[0], cache)
  seqio_source.register_prepared(prepared[0])
  task, found = seqio.TaskRegistry.get(name), {}
  with beam.Pipeline(runner='DirectRunner') as pipeline:
    rows = pipeline | beam.Create([{k: v for k, v in x.items()} for x in _read(name, None)])
    stats = rows | beam_utils.GetStats(task.output_features)
    info = rows | beam_utils.GetInfo(len(list((cache / name).glob('*tfrecord*'))))
    for key, part in (('stats', stats), ('info', info)):
      part | f'json {key}' >> beam.Map(json.dumps) | f'w {key}' >> beam.io.WriteToText(
          str(cache / key), shard_name_template='')
  for key in ('stats', 'info'):
    found[key] = json.loads((cache / key).read_text())
    assert found[key] == json.loads((cache / name / f'{key}.train.json').read_text())


def test_a_corrupted_shard_is_never_read(prepared, tmp_path):
  vocabularies.set_default('bytes')
  path = prepare.prepare(TASKS[0], LENGTHS, 'train', tmp_path, num_workers=1)
  [task] = manifest_lib.load(path).tasks
  shard = task.path / task.shards[0].file
  content = bytearray(shard.read_bytes())
  content[len(content) // 3] ^= 16
  shard.write_bytes(content)
  source = seqio_source.prepared_source(path, TASKS[0])
  with pytest.raises(UserError, match='corrupted') as error:
    source.get_dataset(shuffle=False)
  assert shard.name in str(error.value)
  with pytest.raises(UserError, match='corrupted'):
    seqio_cache.write(path, tmp_path / 'cache')


def test_wrong_names_and_vocabularies_are_refused(prepared, tmp_path):
  with pytest.raises(UserError, match='did you mean prep_a_10templates'):
    seqio_source.prepared_source(prepared[0], 'prep_a_10template')
  seqio_source.register_prepared(prepared[0])
  with pytest.raises(UserError, match='already registered') as error:
    seqio_source.register_prepared(prepared[0])
  assert 'another prefix' in str(error.value)
  content = json.loads(prepared[0].read_text())
  for changes, message in (({'vocabulary_fingerprint': '00', 'vocabulary_content': '00'}, 'not the one'),
                           ({'vocabulary': '/no/such.model'}, 'is not here')):
    path = prepared[0].with_name('changed.json')
    path.write_text(manifest_lib.dumps({**content, **changes}))
    with pytest.raises(UserError, match=message):
      seqio_source.register_prepared(path, prefix='other_')
    vocabulary = seqio.ByteVocabulary()
    assert seqio_source.register_prepared(path, prefix=f'{message[:2]}_', vocabulary=vocabulary)
    path.unlink()


def test_tokens_are_cut_with_their_end_kept():
  feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
  rows = tf.data.Dataset.from_generator(
      lambda: ({'inputs': row, 'targets': [5]} for row in ([5, 6, 7, 1], [5, 6, 7, 8], [5, 1])),
      output_signature={side: tf.TensorSpec([None], tf.int32) for side in ('inputs', 'targets')})
  dataset = seqio_source.fit(rows, {'inputs': feature, 'targets': feature}, {'inputs': 3, 'targets': 9})
  assert [x['inputs'].tolist() for x in dataset.as_numpy_iterator()] == [[5, 6, 1], [5, 6, 7], [5, 1]]


def test_the_command_writes_a_cache(cache, tmp_path, capsys):
  arguments = ['prepare', MIXTURE, '--inputs_length', '60', '--targets_length', '40', '--num_workers', '1',
               '--vocabulary', 'bytes', '--output_dir', str(tmp_path), '--seqio_cache', str(cache)]
  assert cli.main([*arguments, '--json']) == 0
  answer = json.loads(capsys.readouterr().out)
  assert answer['seqio_cache'] == {'folder': str(cache), 'tasks': [f'prepared_{n}' for n in TASKS]}
  seqio_source.register_prepared(answer['manifest'])
  counts = collections.Counter(x['template_id'] for x in _read('prepared_prep_a_10templates', use_cached=True))
  assert counts == {0: 19, 1: 19, 2: 19}
  assert os.path.exists(cache / 'prepared_prep_a_10templates' / 'info.train.json')
