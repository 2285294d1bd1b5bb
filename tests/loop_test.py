"""Tests of the trainer."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import forked
import jax
import numpy as np
import pytest
import toy_training

from flanjax import errors
from flanjax.training import checkpoints, loop, saving

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 12


def _trainer(folder, source=None, **arguments):
  model = arguments.pop('model', None) or toy_training.toy_model(dropout_rate=0.1)
  defaults = {'total_steps': STEPS, 'saving': saving.Saving(5), 'log_period': 2, 'seed': 3}
  return loop.Trainer(model, toy_training.toy_optimizer(), model_dir=folder,
                      batch_source=source or toy_training.ToySource(), **{**defaults, **arguments})


def _lines(folder):
  return [json.loads(line) for line in (folder / 'train' / 'log.jsonl').open()]


def _steps_on_disk(folder):
  return sorted(int(p.name) for p in (folder / 'checkpoints').iterdir())


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('uninterrupted')
  return folder, jax.device_get(_trainer(folder).run())


class _Stopping(toy_training.ToySource):
  """Sends a signal to its own process when a batch is asked for."""

  def __init__(self, step, number, folder):
    super().__init__()
    self.at, self.number, self.folder = step, number, folder

  def batch(self, step, rows=None):
    if step == self.at:
      # The checkpoint of step 5 is written in the background.
      while not (self.folder / 'checkpoints' / '5').exists():
        time.sleep(0.05)
      os.kill(os.getpid(), self.number)
    return super().batch(step, rows)


def main_killed(folder: str) -> None:
  """Runs, in a process of its own, until SIGKILL."""
  folder = pathlib.Path(folder)
  _trainer(folder, _Stopping(9, signal.SIGKILL, folder)).run()


def test_a_run_killed_and_stopped_ends_as_one_that_was_not(uninterrupted, tmp_path):
  killed = forked.run(['-c', f'import loop_test; loop_test.main_killed({str(tmp_path)!r})'])
  assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
  assert 5 in _steps_on_disk(tmp_path) and STEPS not in _steps_on_disk(tmp_path)

  stopped = _trainer(tmp_path, _Stopping(9, signal.SIGTERM, tmp_path))
  reached = int(stopped.run().step)
  assert stopped.interrupted == 'SIGTERM' and 5 < reached < STEPS
  assert reached in _steps_on_disk(tmp_path)
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

  state = _trainer(tmp_path).run()
  folder, expected = uninterrupted
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected)
  assert [line['step'] for line in _lines(tmp_path)] == [2, 4, 6, 8, 10, 12]
  read = lambda f: json.loads((f / 'train' / 'audit.json').read_text())
  assert read(tmp_path) == read(folder) == {'copy/0/examples': 90, 'copy_odd/0/examples': 6}


def test_a_run_leaves_logs_checkpoints_and_a_description(uninterrupted):
  folder, state = uninterrupted
  assert int(state.step) == STEPS and _steps_on_disk(folder) == [5, 10, 12]
  for line in _lines(folder):
    assert set(line) == {'step', 'loss', 'accuracy', 'learning_rate', 'tokens_per_second', 'mfu',
                         'step_seconds', 'goodput', 'memory_bytes', 'seconds'}
  events = next((folder / 'train').glob('events*')).read_bytes()
  for tag in (b'loss_per_nonpadding_target_token', b'accuracy', b'learning_rate',
              b'timing/target_tokens_per_second', b'non_padding_fraction/overall'):
    assert tag in events
  environment = json.loads((folder / 'environment.json').read_text())
  assert environment['versions']['jax'] == jax.__version__
  assert json.loads((folder / 'model.json').read_text())['config']['emb_dim'] == 8
  params, step = checkpoints.restore_params(folder)
  assert step == STEPS
  jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_a_finished_run_is_left_as_it_is(uninterrupted):
  folder, expected = uninterrupted
  state = _trainer(folder).run()
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected)


def test_other_batches_are_refused_on_resume(uninterrupted):
  folder, _ = uninterrupted
  with pytest.raises(errors.UserError, match='trained on other batches.*\n.*\n.*other'):
    _trainer(folder, toy_training.ToySource(fingerprint='other'), total_steps=14).run()


def test_a_folder_of_another_model_is_refused(uninterrupted):
  folder, _ = uninterrupted
  before = (folder / 'model.json').read_text()
  with pytest.raises(errors.UserError, match=r'kernel\n.*\n.*\(8, 16\)\n.*\(8, 32\)'):
    _trainer(folder, model=toy_training.toy_model(mlp_dim=32)).run()
  assert (folder / 'model.json').read_text() == before


class _Poisoned(toy_training.ToySource):

  def batch(self, step, rows=None):
    batch = super().batch(step, rows)
    if step == 7:
      batch['decoder_loss_weights'][0] = np.nan
    return batch


def test_a_loss_that_is_no_number_stops_the_run_and_is_not_saved(tmp_path):
  with pytest.raises(errors.UserError) as error:
    _trainer(tmp_path, _Poisoned(), saving=saving.Saving(4)).run()
  text = str(error.value)
  assert 'not finite in step 8' in text and 'copy 7, copy_odd 1' in text
  assert f"last good checkpoint: {tmp_path / 'checkpoints' / '4'}" in text
  assert _steps_on_disk(tmp_path) == [4]


class _Buckets(toy_training.ToySource):

  def batch(self, step, rows=None):
    batch = super().batch(step, rows)
    if step == 2:
      raise errors.UserError('a shard is damaged')
    return batch if step else {k: np.pad(v, ((0, 0), (0, 2))) for k, v in batch.items()}


def test_batches_may_change_shape_and_their_errors_come_through(tmp_path):
  initial = toy_training.toy_params()
  with pytest.raises(errors.UserError, match='a shard is damaged'):
    _trainer(tmp_path, _Buckets(), log_period=1, initial_params=initial).run()
  assert [line['step'] for line in _lines(tmp_path)] == [1]


def test_what_cannot_be_trained_is_said_before_training(tmp_path):
  shapes = toy_training.toy_model(mlp_activations=('relu',)).param_shapes()
  wrong = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  with pytest.raises(errors.UserError, match='initial parameters are of another model'):
    _trainer(tmp_path, initial_params=wrong).run()
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='cannot be written'):
    _trainer(tmp_path / 'file').run()
  with pytest.raises(errors.UserError, match='log_period'):
    _trainer(tmp_path, log_period=0)
  source = toy_training.ToySource()
  source.vocab_size = 17
  with pytest.raises(errors.UserError, match='vocabulary is smaller'):
    _trainer(tmp_path, source)
  with pytest.raises(errors.UserError, match='does not divide'):
    _trainer(tmp_path / 'new', num_microbatches=3).run()


def test_training_imports_no_tensorflow_and_no_seqio():
  program = ('import sys, flanjax.training.loop, flanjax.models.t5, flanjax.partitioning; '
             'print([m for m in ("tensorflow", "seqio", "torch") if m in sys.modules])')
  result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=True)
  assert result.stdout.strip() == '[]'
