"""Tests of what training survives: kills, signals, numbers that are none, evaluators that fail.

FLANJAX_KILLS says how many runs are killed (default 5).
"""

import json
import os
import pathlib
import signal

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_training
from flax import linen as nn

from flanjax import cli, errors
from flanjax.training import checkpoints, diagnosis, loop, nonfinite
from flanjax.training.nonfinite import NonFinite
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState

KILLS = int(os.environ.get('FLANJAX_KILLS', '5'))


def _program(*words):
  return forked.run([pathlib.Path(__file__).with_name('faulty_runs.py'), *words], timeout=1500)


def test_a_run_killed_again_and_again_ends_as_one_left_alone(tmp_path):
  done = _program('kills', tmp_path, KILLS)
  log = tmp_path / 'log'
  assert done.returncode == 0, done.stderr[-3000:] + (log.read_text()[-3000:] if log.exists() else '')
  seen = json.loads(done.stdout)
  statuses = [kill['status'] for kill in seen['kills']]
  # The last ones may find a run that is done.
  assert statuses.count(-signal.SIGKILL) > KILLS * 3 // 4 and set(statuses) <= {0, -signal.SIGKILL}
  # They were spread over the run.
  assert len({tuple(kill['checkpoints']) for kill in seen['kills']}) > 1
  assert seen['statuses'] == {'undisturbed': 0, 'killed': 0}
  assert seen['killed'] == seen['undisturbed']
  assert [step for step, _, _ in seen['killed']['losses']] == list(range(1, 61))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return tmp_path_factory.mktemp('stopped')


@pytest.mark.parametrize('when, at_least', [('compiling', 5), ('validating', 4), ('waiting', 1), ('writing', 3)])
def test_a_sigterm_saves_and_ends_a_run_whatever_it_is_doing(runs, when, at_least):
  done = _program('stopped', runs / when, when)
  assert done.returncode == 128 + signal.SIGTERM, done.stderr[-3000:]
  seen = json.loads(done.stdout)
  # What was left hangs for five minutes, and did not hold up the end.
  assert seen['step'] >= at_least and seen['left'] == (when != 'writing')
  assert 'SIGTERM: stopped at step' in done.stderr and 'the same command goes on' in done.stderr
  assert checkpoints.steps_in(runs / when)[-1] == seen['step']
  assert not list((runs / when / 'checkpoints').glob('*tmp*'))


def _trainer(folder, source=None, **arguments):
  defaults = {'total_steps': 12, 'saving': Saving(4), 'log_period': 2, 'seed': 3}
  model = arguments.pop('model', None) or toy_training.toy_model()
  return loop.Trainer(model, toy_training.toy_optimizer(), model_dir=folder,
                      batch_source=source or toy_training.ToySource(), **{**defaults, **arguments})


class _Poisoned(toy_training.ToySource):
  """Batches with a loss weight that is no number."""

  def __init__(self, *steps):
    super().__init__()
    self.steps = steps

  def batch(self, step, rows=None):
    batch = super().batch(step, rows)
    if step in self.steps:
      batch['decoder_loss_weights'][0] = np.nan
    return batch


class _Without(toy_training.ToySource):
  """The same, without some of the steps."""

  def __init__(self, *steps):
    super().__init__()
    self.kept = [s for s in range(100) if s not in steps]

  def batch(self, step, rows=None):
    return super().batch(self.kept[step], rows)


def test_an_update_that_is_not_finite_is_skipped_and_counted(tmp_path):
  skip = NonFinite('skip', most_in_a_row=2)
  state = _trainer(tmp_path / 'a', _Poisoned(3, 4, 7), non_finite=skip).run()
  expected = _trainer(tmp_path / 'b', _Without(3, 4, 7), total_steps=9).run()
  assert int(state.step) == 12 and int(expected.step) == 9
  for got, wanted in zip(jax.tree.leaves((state.params, state.opt_state)),
                         jax.tree.leaves((expected.params, expected.opt_state))):
    np.testing.assert_array_equal(got, wanted)
  lines = [json.loads(line) for line in (tmp_path / 'a/train/log.jsonl').open()]
  assert [line['step'] for line in lines] == [2, 4, 6, 8, 10, 12]
  assert all(np.isfinite(line['loss']) for line in lines)
  events = next((tmp_path / 'a' / 'train').glob('events*')).read_bytes()
  assert b'skipped_updates' in events


def test_too_many_updates_skipped_in_a_row_end_the_run(tmp_path):
  with pytest.raises(nonfinite.NotFinite, match='step 8, nor in the 2 before it'):
    _trainer(tmp_path, _Poisoned(5, 6, 7), non_finite=NonFinite('skip', most_in_a_row=2)).run()
  assert checkpoints.steps_in(tmp_path) == [4]


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
  state = TrainState(jnp.int32(3), {'a': {'b': jnp.ones(2)}}, {'m': jnp.array([1.0, jnp.inf])})
  with pytest.raises(nonfinite.NotFinite, match='after step 3 is not finite\n.*opt_state: m'):
    nonfinite.check_state(state)
  nonfinite.check_state(state._replace(opt_state={'m': jnp.ones(2), 'n': jnp.int32(1)}))


class _Sick(toy_training.ToySource):
  """Token 15 of batch 6 is what the model below stumbles over."""

  def batch(self, step, rows=None):
    batch = super().batch(step, rows)
    ids = batch['encoder_input_tokens']
    ids[ids == 15] = 14
    if step == 6:
      ids[0, 0] = 15
    return batch


def test_debug_nans_names_the_layer_that_was_first(tmp_path):
  params = jax.tree.map(np.array, toy_training.toy_params())
  # So large that the query of the encoder's first layer overflows, and nothing before it does.
  params['token_embedder']['embedding'][15] = 1e30
  params['encoder']['layers_0']['attention']['query']['kernel'][:] = 1e38
  with pytest.raises(nonfinite.NotFinite) as error:
    _trainer(tmp_path, _Sick(), initial_params=params, saving=Saving(2),
             non_finite=NonFinite(debug=True)).run()
  text = str(error.value)
  assert 'is not finite in step' in text and 'first: the output of encoder/layers_0/attention' in text, text


class _Net(nn.Module):
  """A root whose gradient at zero is infinite, before a layer that hides it from the loss."""

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(2, name='first')(x)
    x = nn.Dense(2, name='second', kernel_init=nn.initializers.zeros)(x)
    return jnp.sum(jnp.sqrt(x * x)) if self.has_variable('params', 'second') else x


class _Model:

  def __init__(self):
    self.module = _Net()

  def loss_fn(self, params, batch, rng=None):
    return self.module.apply({'params': params}, batch['x']), {}


def test_what_is_not_finite_is_looked_for_in_the_order_of_the_step():
  model, batch = _Model(), {'x': jnp.ones((2, 3))}
  params = {'first': {'kernel': jnp.ones((3, 2)), 'bias': jnp.zeros(2)},
            'second': {'kernel': jnp.zeros((2, 2)), 'bias': jnp.zeros(2)}}
  blame = lambda p, b=batch: diagnosis.blame(model, p, b, jax.random.key(0))
  assert 'the gradient of second/' in blame(params) and 'this is the first going backwards' in blame(params)
  fine = {**params, 'second': {'kernel': jnp.eye(2), 'bias': jnp.ones(2)}}
  assert blame(fine).startswith('nothing')
  broken = {**fine, 'first': {'kernel': jnp.full((3, 2), 1e38), 'bias': jnp.zeros(2)}}
  assert blame(broken, {'x': jnp.full((2, 3), 10.0)}).startswith('the output of first, shape (2, 2): 0 nan, 4 inf')
  broken = {**fine, 'first': {'kernel': jnp.full((3, 2), jnp.nan), 'bias': jnp.zeros(2)}}
  assert blame(broken).startswith('the parameter first/kernel, shape (3, 2): 6 nan')
  assert blame(fine, {'x': jnp.full((2, 3), jnp.inf)}).startswith('of the batch x, shape (2, 3): 0 nan, 6')


class _Failing:
  period, names = 4, ('loss',)

  def __call__(self, step, params):
    if step == 8:
      raise RuntimeError('the evaluator is broken')
    return {'loss': 1.0 / step}

  def missing(self, step):
    return True


def test_an_evaluator_that_raises_is_written_down_and_the_run_goes_on(tmp_path):
  trainer = _trainer(tmp_path / 'a', evaluator=_Failing())
  state = trainer.run()
  plain = _trainer(tmp_path / 'b').run()
  jax.tree.map(np.testing.assert_array_equal, state.params, plain.params)
  assert trainer.failed_evaluations == {8: tmp_path / 'a/errors/evaluation-8.txt'}
  text = (tmp_path / 'a/errors/evaluation-8.txt').read_text()
  assert 'Traceback' in text and 'the evaluator is broken' in text and 'faults_test.py' in text


TRAIN = ['train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin', '--gin.TRAIN_STEPS=1',
         '--gin.MIXTURE_OR_TASK_NAME="no_such_mixture"', '--gin.VOCAB_SIZE=128']


@pytest.mark.parametrize('binding, expected', [
    ('CHECKPOINT_PERIOD=0', 'period must be a whole number'),
    ('CHECKPOINTS_KEPT="3"', 'keep must be a whole number'),
    ('BEST_CHECKPOINTS_KEPT=1', 'set EVAL_PERIOD'),
    ('saving.Saving.best_mode="mim"', 'did you mean min'),
    ('saving.Saving.best_metrik="x"', 'did you mean best_metric'),
    ('ON_NON_FINITE="skp"', 'did you mean skip'),
    ('ON_NON_FINTE="skip"', 'did you mean ON_NON_FINITE'),
    ('restoring.Restoring.include=["("]', 'no regular expression'),
    ('loop.Trainer.log_period="often"', 'log_period must be a whole number'),
    ('loop.Trainer.num_microbatches=0', 'num_microbatches must be'),
    ('loop.Trainer.saving=3', 'saving must be a Saving'),
    ('TRAIN_STEPS=1.5', 'total_steps must be a whole number'),
    ('DROPOUT_RATE="none"', 'gin configuration of T5Config'),
])
def test_a_wrong_binding_is_refused_before_anything_is_prepared(binding, expected, tmp_path, capsys):
  status = cli.main([*TRAIN, f'--gin.MODEL_DIR="{tmp_path / "run"}"', f'--gin.{binding}'])
  text = capsys.readouterr().err
  assert status in (1, 2) and expected in text, text
  assert not (tmp_path / 'run').exists() and 'Traceback' not in text
  assert 'no_such_mixture' not in text


def test_other_files_that_a_run_cannot_begin_with_are_refused(tmp_path):
  with pytest.raises(errors.UserError, match='saving must be a Saving'):
    _trainer(tmp_path, saving=3)
