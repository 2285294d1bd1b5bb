"""Tests of when checkpoints are written, which are kept, and what of them is read."""

import contextlib
import json
import pathlib
import shutil
import subprocess
import threading
import time

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_training
from orbax import checkpoint as ocp

from flanjax import errors
from flanjax.interop import safetensors
from flanjax.training import checkpoints, loop, saving
from flanjax.training.restoring import Restoring, by_name
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState


def _state(step):
  params = {'scale': jnp.full(3, float(step))}
  return TrainState.create(params, toy_training.toy_optimizer())._replace(step=jnp.int32(step))


def _trainer(folder, source=None, **arguments):
  defaults = {'total_steps': 8, 'saving': Saving(2), 'log_period': 1}
  return loop.Trainer(toy_training.toy_model(), toy_training.toy_optimizer(), model_dir=folder,
                      batch_source=source or toy_training.ToySource(), **{**defaults, **arguments})


def _steps(folder):
  return sorted(int(p.name) for p in (folder / 'checkpoints').iterdir())


def _save_all(folder, settings, losses, pin=None):
  checkpointer = checkpoints.Checkpointer(folder, settings)
  for step, loss in losses.items():
    metrics = None if loss is None else {settings.best_metric: loss}
    checkpointer.save(_state(step), {}, metrics)
    checkpointer.wait()
    if step == pin:
      (checkpointer.folder / str(step) / saving.PINNED).touch()
  checkpointer.close()


LOSSES = {1: 3.0, 2: 1.0, 3: None, 4: float('nan'), 5: 2.0, 6: 4.0, 7: None, 8: 5.0}


@pytest.mark.parametrize('settings, kept', [
    (Saving(keep=2), [7, 8]),
    (Saving(keep=None), list(range(1, 9))),
    (Saving(keep=1, keep_best=2), [2, 5, 8]),
    (Saving(keep=1, keep_best=2, best_metric='accuracy', best_mode='max'), [6, 8]),
])
def test_the_newest_and_the_best_are_kept(tmp_path, settings, kept):
  _save_all(tmp_path, settings, LOSSES)
  assert _steps(tmp_path) == kept


def test_what_was_best_before_a_restart_still_is(tmp_path):
  settings = Saving(keep=1, keep_best=1)
  _save_all(tmp_path, settings, {1: 3.0, 2: 1.0, 3: 2.0})
  _save_all(tmp_path, settings, {4: 4.0, 5: 1.5, 6: 7.0})
  assert _steps(tmp_path) == [2, 6]


def test_a_pinned_checkpoint_is_never_deleted(tmp_path):
  _save_all(tmp_path, Saving(keep=1), dict.fromkeys(range(1, 5)), pin=2)
  _save_all(tmp_path, Saving(keep=1), dict.fromkeys(range(5, 8)))
  assert _steps(tmp_path) == [2, 7]
  assert checkpoints.restore_params(tmp_path, 2)[0]['scale'][0] == 2


@pytest.mark.parametrize('arguments, message', [
    ({'period': 0}, 'period must be'), ({'keep': '3'}, 'keep must be'),
    ({'keep_best': -1}, 'keep_best must be'), ({'best_mode': 'mim'}, 'did you mean min'),
])
def test_settings_that_cannot_be_used_are_refused(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    Saving(**arguments)


def test_the_best_cannot_be_told_without_evaluations_or_by_a_number_they_do_not_give(tmp_path):
  with pytest.raises(errors.UserError, match='set EVAL_PERIOD'):
    _trainer(tmp_path, saving=Saving(keep_best=1))
  evaluator = _Evaluator({})
  with pytest.raises(errors.UserError, match='did you mean loss_per_token'):
    _trainer(tmp_path, saving=Saving(keep_best=1, best_metric='loss_per_tokn'), evaluator=evaluator)


class _Evaluator:
  period = 3
  names = ('loss_per_token',)

  def __init__(self, losses):
    self.losses, self.seen = losses, []

  def __call__(self, step, params):
    self.seen.append((step, float(jnp.sum(params['decoder']['decoder_norm']['scale']))))
    return {'loss_per_token': self.losses[step]}

  def missing(self, step):
    return step not in [seen for seen, _ in self.seen]


def test_evaluations_tell_the_trainer_which_checkpoint_is_best(tmp_path):
  evaluator = _Evaluator({3: 0.5, 6: 0.1, 8: 0.7})
  settings = Saving(period=100, keep=1, keep_best=1, best_metric='loss_per_token')
  _trainer(tmp_path, saving=settings, evaluator=evaluator).run()
  assert [step for step, _ in evaluator.seen] == [3, 6, 8]
  assert _steps(tmp_path) == [6, 8]
  params, _ = checkpoints.restore_params(tmp_path, 6)
  assert evaluator.seen[1][1] == pytest.approx(params['decoder']['decoder_norm']['scale'].sum())


def test_without_best_ones_an_evaluation_writes_no_checkpoint(tmp_path):
  evaluator = _Evaluator({3: 0.5, 6: 0.1, 8: 0.7})
  _trainer(tmp_path, saving=Saving(100), evaluator=evaluator).run()
  assert _steps(tmp_path) == [8]


class _Gated(toy_training.ToySource):
  """Notes what happens when; lets a checkpoint be finished once batch 5 was asked for."""

  def __init__(self, events, gate):
    super().__init__()
    self.events, self.gate = events, gate

  def batch(self, step, rows=None):
    self.events.append(f'batch {step}')
    if step == 7:
      self.gate.set()
    return super().batch(step, rows)


def test_steps_go_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
  events, gate = [], threading.Event()

  finalize = ocp.StandardCheckpointHandler.finalize

  def held(self, directory):
    assert gate.wait(60), 'no step was taken while the checkpoint was written'
    finalize(self, directory)
    events.append(f'wrote {pathlib.Path(directory).name.partition(".")[0]}')

  monkeypatch.setattr(ocp.StandardCheckpointHandler, 'finalize', held)
  _trainer(tmp_path, _Gated(events, gate), saving=Saving(3, keep=None), total_steps=12).run()
  # Batches are read two ahead; that of step 7 is asked for when step 5 is under way or done.
  assert events.index('batch 7') < events.index('wrote params')
  assert _steps(tmp_path) == [3, 6, 9, 12]


@pytest.fixture
def small_disk(tmp_path):
  """A file system of two megabytes."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(folder)]
  if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('a small file system can be mounted by root alone')
  yield folder
  subprocess.run(['umount', '-l', str(folder)], check=True)


class _Filling(toy_training.ToySource):
  """Fills the disk with batch `full`, once `after` is there, and makes room with batch `free`."""

  def __init__(self, folder, full, free, after=None):
    super().__init__()
    self.filler, self.full, self.free, self.after = folder / 'filler', full, free, after

  def batch(self, step, rows=None):
    if step == self.full:
      while self.after and not self.after.exists():
        time.sleep(0.05)
      with contextlib.suppress(OSError), self.filler.open('wb', buffering=0) as f:
        while True:
          f.write(bytes(4096))
    if step == self.free:
      self.filler.unlink(missing_ok=True)
    return super().batch(step, rows)


def test_a_full_disk_is_a_warning_and_training_saves_when_there_is_room(
    small_disk, tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(loop, '_PAUSES_S', ())
  # Batch 5 is made while step 3 runs: checkpoint 3 may find room or not, 6 and 9 do not.
  source = _Filling(small_disk, full=5, free=13)
  state = _trainer(small_disk / 'run', source, saving=Saving(3, keep=2), total_steps=18).run()
  warned = [r.getMessage() for r in caplog.records if 'cannot be written' in r.getMessage()]
  steps = [step for step in (3, 6, 9, 12) if any(f'checkpoints/{step} ' in w for w in warned)]
  assert {6, 9} <= set(steps) and len(warned) == len(steps)
  assert all(w.endswith('No space left on device') for w in warned), warned
  assert _steps(small_disk / 'run') == [15, 18]
  whole = _trainer(tmp_path / 'whole', total_steps=18).run()
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), jax.device_get(whole.params))
  restored, _ = checkpoints.restore_params(small_disk / 'run')
  jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(whole.params))


def test_a_run_whose_last_checkpoint_has_no_room_waits_and_then_says_so(small_disk, monkeypatch):
  monkeypatch.setattr(loop, '_PAUSES_S', (0.1, 0.1))
  source = _Filling(small_disk, full=5, free=99, after=small_disk / 'run' / 'checkpoints' / '2')
  with pytest.raises(errors.UserError, match='step 8 could not be written') as error:
    _trainer(small_disk / 'run', source, saving=Saving(2, keep=1)).run()
  assert 'make room; the same command goes on from' in str(error.value)
  source.filler.unlink()
  reached = _steps(small_disk / 'run')[-1]
  assert reached < 8 and f'checkpoints/{reached}' in str(error.value)
  assert int(_trainer(small_disk / 'run', saving=Saving(2, keep=1)).run().step) == 8


MODEL = {'encoder/a': np.zeros(2), 'encoder/b': np.zeros(3), 'decoder/a': np.zeros(4)}
FOUND = {'encoder/a': np.ones(2), 'encoder/b': np.ones(3), 'decoder/a': np.ones(5), 'head': np.ones(1)}


def _chosen(found=FOUND, **settings):
  tree, report = Restoring(**settings).choose(safetensors.unflatten(found), safetensors.unflatten(MODEL))
  assert set(by_name(tree)) == set(report.matched)
  return by_name(tree), report


def test_what_does_not_fit_is_refused_unless_told_otherwise():
  with pytest.raises(errors.UserError, match=r'decoder/a\n.*\(5,\)\n.*\(4,\)'):
    _chosen()
  with pytest.raises(errors.UserError, match=r'parameter head\n.*\(1,\)\n.*none'):
    _chosen({**MODEL, 'head': np.ones(1)})
  _, report = _chosen(strict=False)
  assert report.matched == ('encoder/a', 'encoder/b')
  assert (report.left, report.reshaped, report.unused) == ((), ('decoder/a',), ('head',))
  assert str(report).splitlines()[0] == '2 parameters are those of the checkpoint'
  assert 'decoder/a' in str(report) and '1 of the checkpoint are not used: head' in str(report)


def test_parameters_are_chosen_by_pattern():
  chosen, report = _chosen(include=['encoder/.*'])
  assert set(chosen) == {'encoder/a', 'encoder/b'} and report.left == ('decoder/a',)
  with pytest.raises(errors.UserError, match='parameter encoder/b'):
    _chosen({'encoder/a': np.ones(2)}, include=['encoder/.*'])
  with pytest.raises(errors.UserError, match='no parameter of the checkpoint fits'):
    _chosen(include=['encodr/.*'])


def test_parameters_are_read_under_other_names():
  found = {'model/enc/a': np.full(2, 7.0), 'model/enc/b': np.full(3, 8.0)}
  chosen, report = _chosen(found, assignment_map=[('encoder/(.*)', r'model/enc/\1'), ('decoder/.*', None)])
  assert chosen['encoder/a'][0] == 7 and chosen['encoder/b'][0] == 8
  assert report.left == ('decoder/a',) and report.unused == ()


@pytest.mark.parametrize('arguments', [
    {'include': 'encoder/.*'}, {'include': ['(']}, {'strict': 'no'}, {'assignment_map': ['x']},
    {'assignment_map': [('x', 3)]}])
def test_a_choice_that_cannot_be_used_is_refused(arguments):
  with pytest.raises(errors.UserError):
    Restoring(**arguments)


def test_a_run_begins_with_a_part_of_a_checkpoint_and_draws_the_rest(tmp_path):
  _trainer(tmp_path / 'first', total_steps=2).run()
  initial, _ = checkpoints.restore_params(tmp_path / 'first')
  begun = checkpoints.Checkpointer(tmp_path / 'none')
  trainer = _trainer(tmp_path / 'second', initial_params=initial, seed=5,
                     restoring=Restoring(include=['encoder/.*']))
  with trainer._context():
    (tmp_path / 'second' / 'train').mkdir(parents=True)
    state = trainer._restore_or_init(begun)
  begun.close()
  drawn = by_name(toy_training.toy_params(5))
  for name, x in by_name(state.params).items():
    expected = by_name(initial)[name] if name.startswith('encoder/') else drawn[name]
    np.testing.assert_array_equal(x, expected, err_msg=name)
  report = (tmp_path / 'second' / 'train' / 'restored.json').read_text()
  assert '"encoder/layers_0/mlp/wi_0/kernel"' in report and '"decoder/layers_0' in report


def test_a_checkpoint_is_the_same_to_the_bit_on_any_mesh(tmp_path):
  program = pathlib.Path(__file__).with_name('remesh_program.py')
  done = forked.run([program, tmp_path], env=forked.devices(8))
  assert done.returncode == 0, done.stderr[-3000:]
  seen = json.loads(done.stdout)
  assert {name: (s['devices'], s['shards']) for name, s in seen.items()} == {
      '8x1': (8, 1), '1': (1, 1), '2x4': (8, 4)}
  assert all(s['equal'] and s['placed'] for s in seen.values())
