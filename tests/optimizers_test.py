"""Tests of optimizers and schedules; that their numbers are T5X's is in t5x_parity_test."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flanjax import errors
from flanjax.training import optimizers


def test_adafactor_factors_only_large_matrices():
  params = {'large': jnp.ones((128, 256)), 'small': jnp.ones((127, 256)), 'vector': jnp.ones(256)}
  state = optimizers.adafactor(0.1).init(params)
  factored = next(s for s in state if hasattr(s, 'v_row'))
  assert factored.v_row['large'].shape == (128,) and factored.v_col['large'].shape == (256,)
  assert factored.v['large'].shape == (1,)
  assert factored.v['small'].shape == (127, 256) and factored.v['vector'].shape == (256,)


def test_weight_decay_of_adamw_is_scaled_by_the_rate():
  params = {'w': jnp.full(4, 2.0)}
  optimizer = optimizers.adamw(0.5, weight_decay_rate=0.1)
  updates, _ = optimizer.update({'w': jnp.zeros(4)}, optimizer.init(params), params)
  np.testing.assert_allclose(updates['w'], -0.5 * 0.1 * 2.0, rtol=1e-6)


def test_a_hundred_steps_of_adamw_are_those_of_its_paper_and_of_optax():
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(100, 5, 3)) * np.exp(rng.normal(size=(100, 1, 1)))
  rates = np.minimum(1.0, np.arange(100) / 20) * 0.01
  # Loshchilov and Hutter 2019, algorithm 2; the decay is scaled by the rate, as in optax.
  w, m, v = np.ones((5, 3)), np.zeros((5, 3)), np.zeros((5, 3))
  for t, (g, rate) in enumerate(zip(gradients, rates), start=1):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    w = w - rate * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8) + 0.1 * w)
  schedule = lambda step: jnp.asarray(rates, jnp.float32)[step]
  ours = optimizers.adamw(schedule, beta2=0.99, weight_decay_rate=0.1)
  theirs = optax.adamw(schedule, b2=0.99, weight_decay=0.1)
  ends = []
  for optimizer in (ours, theirs):
    params = {'w': jnp.ones((5, 3))}
    state = optimizer.init(params)
    for g in gradients:
      updates, state = optimizer.update({'w': jnp.asarray(g, jnp.float32)}, state, params)
      params = optax.apply_updates(params, updates)
    ends.append(params['w'])
  np.testing.assert_array_equal(*ends)
  np.testing.assert_allclose(ends[0], w, rtol=2e-5)


def test_global_norm_is_clipped_before_anything_else():
  params, grads = {'w': jnp.zeros(2)}, {'w': jnp.array([30.0, 40.0])}
  clipped = optimizers.adamw(0.1, beta1=0.0, global_norm_clip_threshold=1.0)
  _, state = clipped.update(grads, clipped.init(params), params)
  moments = optax.tree_utils.tree_get(state, 'mu')
  np.testing.assert_allclose(moments['w'], [0.6, 0.8], rtol=1e-6)


def test_the_rate_of_an_optimizer_can_be_read():
  schedule = optimizers.create_learning_rate_scheduler(
      'constant * linear_warmup', base_learning_rate=0.2, warmup_steps=10)
  optimizer = optimizers.adafactor(schedule)
  np.testing.assert_allclose([optimizer.learning_rate(s) for s in (0, 5, 10, 99)],
                             [1e-8, 0.1, 0.2, 0.2], rtol=1e-6)
  np.testing.assert_allclose(optimizers.adamw(3e-4).learning_rate(7), 3e-4, rtol=1e-6)


def test_a_rate_rises_stays_and_falls_to_the_end():
  schedule = optimizers.warmup_stable_decay(0.4, 20, warmup_steps=4, decay_steps=10,
                                            final_fraction=0.1)
  rates = [float(schedule(step)) for step in (0, 2, 4, 10, 15, 20)]
  np.testing.assert_allclose(rates, [0.0, 0.2, 0.4, 0.4, 0.22, 0.04], rtol=1e-6)
  with pytest.raises(errors.UserError, match='longer than the run'):
    optimizers.warmup_stable_decay(0.4, 10, warmup_steps=5, decay_steps=6)


def test_an_unknown_factor_names_the_nearest():
  with pytest.raises(errors.UserError, match='did you mean rsqrt_decay'):
    optimizers.create_learning_rate_scheduler('constant * rsqrt_decya')
  with pytest.raises(errors.UserError, match='warmup_steps'):
    optimizers.create_learning_rate_scheduler('constant * linear_warmup', warmup_steps=0)


def test_warmup_stable_decay_rises_stays_and_falls():
  rate = optimizers.warmup_stable_decay(0.02, total_steps=100, warmup_steps=10, decay_steps=20)
  np.testing.assert_allclose(
      [rate(s) for s in (0, 5, 10, 80, 90, 100, 200)], [0, 0.01, 0.02, 0.02, 0.01, 0, 0], atol=1e-7)
  with pytest.raises(errors.UserError, match='longer than the run'):
    optimizers.warmup_stable_decay(0.02, total_steps=10, decay_steps=20)
