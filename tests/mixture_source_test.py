import concurrent.futures
import os
import pickle
import subprocess
import sys

import numpy as np
import prepared_data
import pytest

from flanjax.errors import UserError
from flanjax.input.mixture import open_mixture

LENGTHS = (64, 16)
SIZES = {'a_10templates': 900, 'b_10templates': 500, 'c_10templates': 60}
MEANS = {'a_10templates': (14, 2.5), 'b_10templates': (20, 3), 'c_10templates': (9, 2)}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  tasks = {
      name: prepared_data.examples(count, MEANS[name], LENGTHS, seed)
      for seed, (name, count) in enumerate(SIZES.items())
  }
  return prepared_data.write_mixture(tmp_path_factory.mktemp('world'), tasks), tasks


def _open(path, **changes):
  return open_mixture(path, **{'batch_size': 8, 'seed': 1, **changes})


def _same(one, two):
  return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def _segments(batch, side, row):
  """Token lists of the examples in a row."""
  tokens = batch['encoder_input_tokens' if side == 'inputs' else 'decoder_target_tokens'][row]
  ids = batch['encoder_segment_ids' if side == 'inputs' else 'decoder_segment_ids'][row]
  return [tokens[ids == s].tolist() for s in range(1, ids.max(initial=0) + 1)]


def test_a_batch_holds_exactly_the_examples_that_it_says(world):
  path, tasks = world
  source = _open(path)
  names = list(tasks)
  for step in (0, 3, 200):
    batch, rows = source.batch(step), source.rows(step)
    for row in range(8):
      numbers = range(rows.starts[row], rows.starts[row + 1])
      examples = [tasks[names[rows.tasks[i]]][rows.examples[i]] for i in numbers]
      assert _segments(batch, 'inputs', row) == [e.inputs.tolist() for e in examples]
      assert _segments(batch, 'targets', row) == [e.targets.tolist() for e in examples]


def test_batches_are_the_same_in_any_order_and_after_a_restart(world):
  path, _ = world
  forward = _open(path)
  expected = {step: forward.batch(step) for step in range(0, 60, 7)}
  backward = _open(path)
  for step in sorted(expected, reverse=True):
    assert _same(backward.batch(step), expected[step])
  sent = pickle.loads(pickle.dumps(backward))
  assert _same(sent.batch(7), expected[7])
  assert sent.fingerprint == forward.fingerprint


@pytest.mark.parametrize('hosts', [1, 2, 4, 8])
@pytest.mark.parametrize('pack', [False, True])
def test_hosts_read_their_rows_of_the_same_100_batches(world, hosts, pack):
  whole = _open(world[0], pack=pack)
  sources = [_open(world[0], pack=pack) for _ in range(hosts)]
  size = 8 // hosts
  for step in range(100):
    parts = [s.batch(step, (i * size, (i + 1) * size)) for i, s in enumerate(sources)]
    for name, expected in whole.batch(step).items():
      assert np.array_equal(np.concatenate([p[name] for p in parts]), expected), (step, name)


def test_a_host_reads_no_rows_but_its_own(world, monkeypatch):
  source, read = _open(world[0]), []
  original = source._reader.read
  monkeypatch.setattr(source._reader, 'read', lambda t, e: read.append(len(t)) or original(t, e))
  source.batch(0, (0, 2))
  part = sum(read)
  source.batch(0)
  assert part < 0.4 * (sum(read) - part)
  with pytest.raises(ValueError, match='no rows'):
    source.batch(0, (4, 9))


def test_threads_see_the_same_batches(world):
  path, _ = world
  source, alone = _open(path), _open(path)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    batches = list(pool.map(source.batch, [40, 3, 90, 3, 0, 41, 500, 2]))
  for step, batch in zip([40, 3, 90, 3, 0, 41, 500, 2], batches):
    assert _same(batch, alone.batch(step))


def test_a_batch_belongs_to_whoever_asked_for_it(world):
  source = _open(world[0])
  first = source.batch(0)
  for value in first.values():
    value[...] = 0
  assert source.batch(0)['encoder_input_tokens'].any()


def test_seeds_and_batch_sizes_are_told_apart(world):
  path, _ = world
  sources = [_open(path), _open(path, seed=2), _open(path, batch_size=4), _open(path, pack=False)]
  assert len({s.fingerprint for s in sources}) == 4
  assert not _same(sources[0].batch(0), sources[1].batch(0))


def test_rows_are_full_and_hardly_a_draw_is_left_out(world):
  source = _open(world[0], batch_size=32)
  batches = [source.batch(step) for step in range(40)]
  sides = [
      np.concatenate([(b[f'{side}_segment_ids'] > 0).mean(axis=1) for b in batches])
      for side in ('encoder', 'decoder')
  ]
  assert np.mean(sides[0]) > 0.92
  assert np.maximum(*sides).mean() > 0.95 and source.fill.row > 0.95
  assert source.fill.left_out < 0.01
  assert source.fill.examples_per_row > 2


def test_packed_batches_draw_tasks_at_their_rates(world):
  source = _open(world[0], batch_size=32)
  drawn = dict.fromkeys(SIZES, 0)
  for step in range(100):
    for name, count in prepared_data.drawn(source, step).items():
      drawn[name] += count
  total = sum(drawn.values())
  assert total > 5_000
  for name, share in source.shares.items():
    assert drawn[name] / total == pytest.approx(share, abs=0.015)
    assert share == pytest.approx(SIZES[name] / sum(SIZES.values()), rel=0.01)


def test_the_rows_of_a_step_are_those_in_its_batch(world):
  source = _open(world[0])
  for step in range(20):
    batch = source.batch(step)
    assert sum(prepared_data.drawn(source, step).values()) == batch['encoder_segment_ids'].max(axis=1).sum()


def test_unpacked_rows_hold_one_example_each(world):
  path, tasks = world
  source = _open(path, pack=False)
  batch, rows = source.batch(5), source.rows(5)
  names = list(tasks)
  assert set(batch) == {
      'encoder_input_tokens', 'decoder_target_tokens', 'decoder_input_tokens',
      'decoder_loss_weights',
  }
  for row in range(8):
    example = tasks[names[rows.tasks[row]]][rows.examples[row]]
    n, m = len(example.inputs), len(example.targets)
    assert batch['encoder_input_tokens'][row].tolist() == example.inputs.tolist() + [0] * (64 - n)
    assert batch['decoder_target_tokens'][row].tolist() == example.targets.tolist() + [0] * (16 - m)
    assert batch['decoder_loss_weights'][row].tolist() == [1.0] * m + [0.0] * (16 - m)
  assert np.array_equal(
      batch['decoder_input_tokens'][:, 1:], batch['decoder_target_tokens'][:, :-1]
  )


def test_an_unpacked_epoch_holds_every_example_of_a_task_once(world):
  source = _open(world[0], pack=False, batch_size=10)
  rows = [source.rows(step) for step in range(1_000)]
  tasks = np.concatenate([r.tasks for r in rows])
  examples = np.concatenate([r.examples for r in rows])
  first = examples[tasks == 1][:500]
  assert sorted(first.tolist()) == list(range(500))


def test_longer_rows_hold_more_examples(world):
  path, _ = world
  short, long = _open(path), _open(path, feature_lengths={'inputs': 256, 'targets': 64})
  assert long.batch(0)['encoder_input_tokens'].shape == (8, 256)
  assert long.fill.examples_per_row > 3 * short.fill.examples_per_row
  assert long.fill.row > 0.95


def test_a_source_describes_itself_in_plain_values(world):
  import json

  told = json.loads(json.dumps(_open(world[0]).describe()))
  assert told['mixture'] == 'mix' and told['examples'] == sum(SIZES.values())
  assert told['feature_lengths'] == {'inputs': 64, 'targets': 16}


@pytest.mark.parametrize('changes, message', [
    ({'batch_size': 0}, 'batch size'),
    ({'batch_size': 2.5}, 'batch size'),
    ({'feature_lengths': {'inputs': 0, 'targets': 16}}, 'length of inputs'),
    ({'feature_lengths': {'inputs': 64}}, 'length of targets'),
    ({'feature_lengths': {'inputs': 20, 'targets': 16}}, 'longer than a row'),
])
def test_bad_arguments_are_refused(world, changes, message):
  with pytest.raises(UserError, match=message):
    _open(world[0], **changes)


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
  data = prepared_data.examples(50, (12, 4), LENGTHS, 0)
  path = prepared_data.write_mixture(tmp_path, {'a': data}, vocab_size=500)
  with pytest.raises(UserError, match='not in the vocabulary') as error:
    _open(path)
  assert 'task a' in str(error.value) and 'below 500' in str(error.value)


@pytest.mark.parametrize('rate', [0.0, -1.0, float('nan')])
def test_rates_must_be_above_zero(tmp_path, rate):
  data = {n: prepared_data.examples(50, (12, 4), LENGTHS, 0) for n in 'ab'}
  path = prepared_data.write_mixture(tmp_path, data, rates={'a': 1.0, 'b': rate})
  with pytest.raises(UserError, match='above zero') as error:
    _open(path)
  assert 'task b' in str(error.value)


def test_shards_that_were_swapped_are_noticed(tmp_path):
  """Without hashing, sizes alone may agree; lengths beside the tokens still do not."""
  def fixed(first):
    ids = lambda n: np.full(n, 2, np.int32)
    return [prepared_data.Example(ids(first + i % 2), ids(3), i, 0) for i in range(50)]

  path = prepared_data.write_mixture(tmp_path, {'a': fixed(4), 'b': fixed(5)})
  one, two = (tmp_path / n / 'f00d' / 'train-00000-of-00001.array_record' for n in 'ab')
  size = two.stat().st_size
  two.write_bytes(one.read_bytes())
  os.truncate(two, max(size, two.stat().st_size))
  with pytest.raises(UserError) as error:
    _open(path, verify=False).batch(0)
  assert 'task b' in str(error.value)


_WITHOUT_TENSORFLOW = '''
import importlib, pkgutil, sys
for room in ('flanjax.input', 'flanjax.models', 'flanjax.training'):
  package = importlib.import_module(room)
  for module in pkgutil.walk_packages(package.__path__, room + '.'):
    importlib.import_module(module.name)
found = {'tensorflow', 'seqio', 'tensorflow_datasets'} & set(sys.modules)
assert not found, found
'''


def test_what_trains_imports_no_tensorflow():
  done = subprocess.run(
      [sys.executable, '-c', _WITHOUT_TENSORFLOW],
      check=False, capture_output=True, text=True, timeout=300,
  )
  assert done.returncode == 0, done.stderr[-2_000:]
