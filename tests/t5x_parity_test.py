"""flanjax against T5X: numbers kept in golden/t5x.npz, and T5X itself where it is installed."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flanjax.interop import safetensors
from flanjax.models import losses, t5
from flanjax.training import optimizers, restoring

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden' / 't5x.npz'
NETWORKS = {
    't5_1_1': {},
    't5_1_0': {'mlp_activations': ('relu',), 'logits_via_embedding': True},
}
ADAFACTOR_ARGUMENTS = {
    'default': {},
    'options': {'beta1': 0.9, 'weight_decay_rate': 1e-2, 'global_norm_clip_threshold': 0.5,
                    'multiply_by_parameter_scale': False, 'step_offset': 0, 'decay_rate': 0.7},
}
SCHEDULES = {
    'constant * linear_warmup * rsqrt_decay': {'warmup_steps': 10},
    'constant * rsqrt_normalized_decay': {'warmup_steps': 7},
    'linear_decay': {'warmup_steps': 5, 'decay_factor': 0.02},
    'constant * decay_every': {'steps_per_decay': 4},
    'constant * linear_warmup * cosine_decay': {'warmup_steps': 3, 'steps_per_cycle': 12},
}


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDEN) as file:
    return dict(file)


def _under(golden, prefix):
  return {k[len(prefix):]: v for k, v in golden.items() if k.startswith(prefix)}


def _model(name):
  config = t5.T5Config(vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24,
                       num_encoder_layers=2, num_decoder_layers=2, **NETWORKS[name])
  return t5.EncoderDecoderModel(config, z_loss=1e-2, label_smoothing=0.1)


@pytest.mark.parametrize('name', NETWORKS)
def test_parameter_tree_is_t5xs(golden, name):
  shapes = safetensors.flatten(_model(name).param_shapes())
  expected = _under(golden, f'{name}/params/')
  assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize('kind', ['plain', 'packed'])
@pytest.mark.parametrize('name', NETWORKS)
def test_logits_loss_and_gradients_are_t5xs(golden, name, kind):
  model, batch = _model(name), _under(golden, f'batch/{kind}/')
  params = safetensors.unflatten(_under(golden, f'{name}/params/'))
  expected = _under(golden, f'{name}/{kind}/')
  logits = jax.jit(model.logits)(params, batch)
  np.testing.assert_allclose(logits, expected['logits'], atol=1e-5, rtol=1e-5)
  (loss, metrics), grads = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))(params, batch)
  np.testing.assert_allclose(loss, expected['loss'], rtol=1e-5)
  for key in ('z_loss', 'weight_sum'):
    np.testing.assert_allclose(metrics[key], expected[key], rtol=1e-5)
  for path, grad in safetensors.flatten(grads).items():
    norm = float(jnp.sqrt(jnp.sum(jnp.square(grad))))
    np.testing.assert_allclose(norm, expected[f'grads/{path}'], rtol=1e-4, err_msg=path)


@pytest.mark.parametrize('name', ADAFACTOR_ARGUMENTS)
def test_adafactor_is_t5xs_for_twenty_steps(golden, name):
  params = _under(golden, 'adafactor/start/')
  factors = {k: [golden[f'adafactor/factor/{k}/{axis}'] for axis in range(v.ndim)]
             for k, v in params.items()}
  optimizer = optimizers.adafactor(lambda step: 0.1 / (step + 1), **ADAFACTOR_ARGUMENTS[name])
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for step in range(20):
    grads = {k: _gradient(parts, step) for k, parts in factors.items()}
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    for k, value in params.items():
      expected = golden[f'adafactor/{name}/{k}'][step]
      sample, (total, square) = expected[:-2], expected[-2:]
      exact = np.asarray(value, np.float64)
      rms = np.sqrt(np.mean(np.square(exact)))
      np.testing.assert_allclose(exact.reshape(-1)[::97], sample, rtol=1e-5, atol=2e-6 * rms,
                                 err_msg=f'{k} after step {step}')
      np.testing.assert_allclose(np.square(exact).sum(), square, rtol=1e-5)
      np.testing.assert_allclose(exact.sum(), total, rtol=1e-4, atol=1e-5 * np.abs(exact).sum())


def _gradient(factors, step):
  if len(factors) == 1:
    return factors[0][step]
  outer = np.outer(factors[0][step], factors[1][step])
  return (outer + outer**3).astype(np.float32)


def _hashed(shape, step):
  """As the tool that made the file."""
  place = sum((axis * factor for axis, factor in zip(np.indices(shape), (7_919, 104_729))),
              np.zeros(shape, np.int64))
  values = (place * (place + 31 * step + 1) + 1_299_709 * step) % 2_003
  return ((values / 1_001 - 1) * (10 if step % 17 == 16 else 1)).astype(np.float32)


SHAPES = {'wide': (128, 130), 'tall': (132, 128), 'square': (128, 128), 'small': (127, 4),
          'vector': (16,), 'tiny': (8,)}
LONG_ARGUMENTS = ADAFACTOR_ARGUMENTS | {
    'momentum and both clippings': {'beta1': 0.9, 'global_norm_clip_threshold': 1.0},
    'whole second moments': {'factored': False},
    'without clipping': {'clipping_threshold': None, 'weight_decay_rate': 1e-3},
}


@pytest.fixture(scope='module')
def long_golden():
  with np.load(GOLDEN.with_name('t5x_adafactor.npz')) as file:
    return dict(file)


def _is_summary_of(value, expected, name):
  sample, (total, square) = expected[:-2], expected[-2:]
  exact = np.asarray(value, np.float64)
  rms = np.sqrt(np.mean(np.square(exact)))
  np.testing.assert_allclose(exact.reshape(-1)[::97], sample, rtol=1e-5, atol=1e-5 * rms, err_msg=name)
  np.testing.assert_allclose(np.square(exact).sum(), square, rtol=1e-5, err_msg=name)
  np.testing.assert_allclose(exact.sum(), total, rtol=1e-4, atol=1e-5 * np.abs(exact).sum(), err_msg=name)


@pytest.mark.parametrize('name', LONG_ARGUMENTS)
def test_adafactor_is_t5xs_for_a_hundred_steps_with_its_state(long_golden, name):
  params = {k: _hashed(v, 1_000) * np.float32(1e-5 if k == 'small' else 1) for k, v in SHAPES.items()}
  optimizer = optimizers.adafactor(lambda step: 0.1 / (step + 1) ** 0.5, **LONG_ARGUMENTS[name])
  state = optimizer.init(params)

  @jax.jit
  def update(grads, state, params):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  compared = 0
  for step in range(100):
    params, state = update({k: _hashed(v, step) for k, v in SHAPES.items()}, state, params)
    expected = _under(long_golden, f'{name}/{step + 1}/')
    slots = {'m' if '/ema/' in k else k.split('/')[-2]: {} for k in restoring.by_name(state)}
    for key, value in restoring.by_name(state).items():
      *_, slot, k = key.split('/')
      if slot in ('v_row', 'v_col', 'v', 'ema') and value.shape != (1,):
        slots['m' if slot == 'ema' else slot][k] = value
    for key, summary in expected.items():
      k, _, slot = key.partition('/')
      _is_summary_of(slots[slot][k] if slot else params[k], summary, f'{key} after step {step + 1}')
      compared += 1
  assert compared == len(_under(long_golden, f'{name}/')) >= 4 * len(SHAPES)


@pytest.mark.parametrize('factors', SCHEDULES)
def test_learning_rates_are_t5xs(golden, factors):
  schedule = optimizers.create_learning_rate_scheduler(
      factors, base_learning_rate=0.3, **SCHEDULES[factors])
  rates = [schedule(step) for step in range(30)]
  np.testing.assert_allclose(rates, golden[f'schedule/{factors}'], rtol=1e-6)


def test_token_log_likelihood_is_the_loss_without_its_extras(golden):
  batch = _under(golden, 'batch/plain/')
  logits = golden['t5_1_1/plain/logits']
  targets, weights = batch['decoder_target_tokens'], batch['decoder_loss_weights']
  loss, _ = losses.cross_entropy(logits, targets, weights)
  likelihood = np.sum(losses.token_log_likelihood(logits, targets) * weights)
  np.testing.assert_allclose(loss, -likelihood, rtol=1e-6)


def test_golden_numbers_are_what_t5x_gives_now(golden, tmp_path):
  pytest.importorskip('t5x.examples.t5.network', reason='T5X is not installed')
  path = tmp_path / 'now.npz'
  subprocess.run([sys.executable, ROOT / 'tools' / 'make_t5x_golden.py', path], check=True)
  with np.load(path) as now:
    assert set(now) == set(golden)
    for name, value in golden.items():
      np.testing.assert_allclose(now[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
