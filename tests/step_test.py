"""Tests of the train step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_training

from flanjax import errors
from flanjax.training.state import TrainState
from flanjax.training.step import make_train_step

OPTIMIZER = optax.sgd(1.0)


@functools.cache
def _step_fn(num_microbatches):
  return make_train_step(toy_training.toy_model(), OPTIMIZER, num_microbatches=num_microbatches)


def _start():
  return TrainState.create(jax.tree.map(jnp.asarray, toy_training.toy_params()), OPTIMIZER)


def test_gradients_do_not_depend_on_the_number_of_microbatches():
  batch = toy_training.ToySource().batch(0)
  # Rows of very different weight: per-microbatch normalisation would show.
  batch['decoder_loss_weights'][:3, 1:] = 0
  whole, metrics = _step_fn(1)(_start(), batch)
  parts, again = _step_fn(4)(_start(), batch)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
               (parts.params, again), (whole.params, metrics))


def test_a_gradient_is_that_of_the_mean_over_weighted_tokens():
  model, batch = toy_training.toy_model(), toy_training.ToySource().batch(0)
  params = toy_training.toy_params()

  def mean_loss(params):
    loss, metrics = model.loss_fn(params, batch)
    return loss / metrics['weight_sum']

  expected = jax.tree.map(lambda p, g: p - g, params, jax.jit(jax.grad(mean_loss))(params))
  state, metrics = _step_fn(1)(_start(), batch)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
               state.params, expected)
  assert metrics['weight_sum'] == (batch['decoder_target_tokens'] > 0).sum()
  assert int(state.step) == 1


@pytest.mark.parametrize('factor, times', [(None, 1.0), (4.0, 0.25)])
def test_a_loss_normalizing_factor_divides_instead_of_the_tokens(factor, times):
  """None is the gradient of the sum, T5X's default."""
  batch = toy_training.ToySource().batch(0)
  _, per_token = _step_fn(1)(_start(), batch)
  step = make_train_step(toy_training.toy_model(), OPTIMIZER, loss_normalizing_factor=factor)
  _, metrics = step(_start(), batch)
  expected = float(per_token['gradient_norm'] * per_token['weight_sum']) * times
  np.testing.assert_allclose(metrics['gradient_norm'], expected, rtol=1e-5)
  assert metrics['loss'] == per_token['loss']


def test_rows_without_weight_do_not_train():
  batch = toy_training.ToySource().batch(0)
  batch['decoder_loss_weights'][:] = 0
  state, metrics = _step_fn(1)(_start(), batch)
  jax.tree.map(np.testing.assert_array_equal, state.params, toy_training.toy_params())
  assert metrics['loss'] == 0 and metrics['gradient_norm'] == 0


def test_training_lowers_the_loss():
  state, source, losses = _start(), toy_training.ToySource(), []
  for i in range(200):
    state, metrics = _step_fn(1)(state, source.batch(i))
    losses.append(float(metrics['loss'] / metrics['weight_sum']))
  assert np.mean(losses[-20:]) < 0.85 * np.mean(losses[:5])


def test_no_microbatch_is_refused():
  with pytest.raises(errors.UserError, match='num_microbatches'):
    make_train_step(toy_training.toy_model(), OPTIMIZER, num_microbatches=0)
