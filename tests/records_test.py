import json
import os
import pickle

import numpy as np
import prepared_data
import pytest

from flanjax.errors import UserError
from flanjax.input import files, manifest, records, writer
from flanjax.input.memo import Memo


@pytest.fixture
def mixture(tmp_path):
  tasks = {
      name: prepared_data.examples(count, (12, 4), (64, 16), seed)
      for seed, (name, count) in enumerate({'a_10templates': 250, 'b_10templates': 40}.items())
  }
  path = prepared_data.write_mixture(tmp_path, tasks, records_per_shard=100)
  return path, list(tasks.values())


def test_a_record_comes_back_as_it_was():
  ids = np.array([5, 1 << 30, 1], np.int32)
  example = records.Example(ids, ids[-1:], 1 << 40, 9)
  back = records.decode(records.encode(example))
  assert back.inputs.tolist() == [5, 1 << 30, 1] and back.targets.tolist() == [1]
  assert back.inputs.dtype == np.int32
  assert (back.example_id, back.template_id) == (1 << 40, 9)


def test_examples_are_read_in_any_order_across_tasks_and_shards(mixture):
  path, data = mixture
  reader = records.RecordReader(manifest.load(path).tasks)
  tasks, examples = np.array([1, 0, 0, 0, 1, 0]), np.array([39, 249, 0, 100, 0, 99])
  tokens = records.decode_tokens(reader.read(tasks, examples))
  expected = [data[t][e] for t, e in zip(tasks, examples)]
  assert np.array_equal(tokens.inputs, np.concatenate([e.inputs for e in expected]))
  assert np.array_equal(tokens.targets, np.concatenate([e.targets for e in expected]))
  assert tokens.lengths.tolist() == [[len(e.inputs), len(e.targets)] for e in expected]
  assert records.decode_tokens(reader.read(tasks[:0], examples[:0])).lengths.shape == (0, 2)


def test_a_reader_can_be_sent_to_another_process(mixture):
  path, data = mixture
  reader = records.RecordReader(manifest.load(path).tasks)
  reader.read(np.array([0]), np.array([0]))
  copy = pickle.loads(pickle.dumps(reader))
  [record] = copy.read(np.array([1]), np.array([7]))
  assert np.array_equal(records.decode(record).inputs, data[1][7].inputs)


def test_the_writer_tells_counts_and_statistics(mixture):
  path, data = mixture
  task = manifest.load(path).tasks[0]
  assert [s.records for s in task.shards] == [100, 100, 50]
  assert [s.file for s in task.shards][1] == 'train-00001-of-00003.array_record'
  lengths = np.array([len(e.inputs) for e in data[0]])
  stats = task.tokens['inputs']
  assert (stats.total, stats.min, stats.max) == (lengths.sum(), lengths.min(), lengths.max())
  assert stats.mean == pytest.approx(lengths.mean()) and stats.std == pytest.approx(lengths.std())
  assert stats.max_id == max(e.inputs.max() for e in data[0])
  assert task.templates == {str(t): 25 for t in range(10)}


def test_the_same_examples_give_the_same_bytes(tmp_path):
  made = []
  for name in ('one', 'two'):
    (tmp_path / name).mkdir()
    data = prepared_data.examples(300, (12, 4), (64, 16), seed=3)
    made.append(writer.write_examples(tmp_path / name, 'train', data))
  assert made[0] == made[1]


def test_a_flipped_bit_is_found_and_its_shard_named(mixture):
  path, _ = mixture
  tasks = manifest.load(path).tasks
  shard = tasks[0].path / tasks[0].shards[1].file
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 4
  shard.write_bytes(content)
  with pytest.raises(UserError, match='corrupted') as error:
    files.check_files(tasks)
  assert shard.name in str(error.value)
  files.check_files(tasks, verify=False)
  reader = records.RecordReader(tasks)
  with pytest.raises(UserError, match='corrupted') as error:
    reader.read(np.zeros(250, int), np.arange(250))
  assert shard.name in str(error.value)


def test_a_truncated_or_missing_shard_is_named(mixture):
  path, _ = mixture
  tasks = manifest.load(path).tasks
  shard = tasks[1].path / tasks[1].shards[0].file
  shard.write_bytes(shard.read_bytes()[:-100])
  with pytest.raises(UserError, match='truncated') as error:
    files.check_files(tasks, verify=False)
  assert shard.name in str(error.value) and 'b_10templates' in str(error.value)
  os.remove(shard)
  with pytest.raises(UserError, match='missing') as error:
    files.check_files(tasks, verify=False)
  assert shard.name in str(error.value)


@pytest.mark.parametrize('damage, message', [
    (lambda t: t[: len(t) // 2], 'truncated or corrupted'),
    (lambda t: '', 'truncated or corrupted'),
    (lambda t: t.replace('"rate": 250.0', '"rate": 950.0'), 'does not match its checksum'),
    (lambda t: t.replace('"format_version": 2', '"format_version": 3'), 'newer flanjax'),
    (lambda t: t.replace('"format_version": 2', '"format_version": 1'), 'older flanjax'),
    (lambda t: '[]', 'no manifest'),
    (lambda t: '{"mixture": "x"}', 'no manifest'),
])
def test_a_damaged_manifest_is_refused(mixture, damage, message):
  path, _ = mixture
  path.write_text(damage(path.read_text()))
  with pytest.raises(UserError, match=message) as error:
    manifest.load(path)
  assert str(path) in str(error.value)


def test_a_manifest_that_describes_no_mixture_is_refused(mixture, tmp_path):
  path, _ = mixture
  prepared_data.edit_manifest(path, tasks=[])
  with pytest.raises(UserError, match='no mixture'):
    manifest.load(path)
  content = json.loads(path.read_text())
  del content['vocabulary']
  path.write_text(manifest.dumps(content))
  with pytest.raises(UserError, match='no entry vocabulary'):
    manifest.load(path)
  with pytest.raises(UserError, match='cannot be read'):
    manifest.load(tmp_path / 'none.json')


def test_the_index_must_be_of_as_many_examples_as_the_manifest_says(mixture):
  path, _ = mixture
  task = manifest.load(path).tasks[0]
  assert files.open_index(task).shape == (250, 4)
  file = task.path / task.index.file
  np.save(file, np.ones((249, 4), np.int32))
  with pytest.raises(UserError, match='as many examples'):
    files.open_index(task)
  file.write_bytes(b'nothing')
  with pytest.raises(UserError, match='cannot be read'):
    files.open_index(task)


def test_memo_computes_once_and_forgets_failures():
  calls = []

  def compute(key):
    calls.append(key)
    if len(calls) == 1:
      raise KeyError(key)
    return -key

  memo = Memo(compute, keep=2)
  with pytest.raises(KeyError):
    memo(1)
  assert [memo(1), memo(1), memo(2), memo(3), memo(1)] == [-1, -1, -2, -3, -1]
  assert calls == [1, 1, 2, 3, 1]
