#!/usr/bin/env python3
"""Writes what T5X computes on small fixed cases, for tests/t5x_parity_test.py to compare with.

Needs T5X, airio and jestimator on the path, which their repositories hold and PyPI does not:

  PYTHONPATH=.:t5x:airio:jestimator tools/make_t5x_golden.py tests/golden/t5x.npz
  PYTHONPATH=.:t5x:airio:jestimator tools/make_t5x_golden.py --adafactor tests/golden/t5x_adafactor.npz

The first file holds parameters and batches beside the results, so that the test depends on no
random generator. The second is Adafactor alone, for a hundred steps.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from t5x import adafactor, losses, utils
from t5x.examples.t5 import network

from flanjax.interop import safetensors

SIZES = {'vocab_size': 40, 'emb_dim': 16, 'num_heads': 2, 'head_dim': 8, 'mlp_dim': 24,
             'num_encoder_layers': 2, 'num_decoder_layers': 2}
NETWORKS = {
    't5_1_1': {'mlp_activations': ('gelu', 'linear'), 'logits_via_embedding': False},
    't5_1_0': {'mlp_activations': ('relu',), 'logits_via_embedding': True},
}
STEPS = 20
SCHEDULES = {
    'constant * linear_warmup * rsqrt_decay': {'warmup_steps': 10},
    'constant * rsqrt_normalized_decay': {'warmup_steps': 7},
    'linear_decay': {'warmup_steps': 5, 'decay_factor': 0.02},
    'constant * decay_every': {'steps_per_decay': 4},
    'constant * linear_warmup * cosine_decay': {'warmup_steps': 3, 'steps_per_cycle': 12},
}
# Factored both ways round and square; too small to factor; vectors.
ADAFACTOR_SHAPES = {'wide': (128, 130), 'tall': (132, 128), 'square': (128, 128),
                    'small': (127, 4), 'vector': (16,), 'tiny': (8,)}
ADAFACTOR_ARGUMENTS = {
    'default': {},
    'options': {'beta1': 0.9, 'weight_decay_rate': 1e-2, 'global_norm_clip_threshold': 0.5,
                    'multiply_by_parameter_scale': False, 'step_offset': 0, 'decay_rate': 0.7},
}


def batches() -> dict[str, dict[str, np.ndarray]]:
  """A batch of two plain rows and one of two packed rows, both with padding."""
  rng = np.random.default_rng(0)

  def tokens(lengths, width):
    rows = [np.concatenate([np.append(rng.integers(2, 40, n - 1), 1) for n in row])
            for row in lengths]
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows]).astype(np.int32)

  def segments(lengths, width):
    rows = [np.concatenate([np.full(n, i + 1) for i, n in enumerate(row)]) for row in lengths]
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows]).astype(np.int32)

  def shift(targets, ids):
    moved = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return np.where(ids == np.pad(ids, ((0, 0), (1, 0)))[:, :-1], moved, 0).astype(np.int32)

  result = {}
  for name, sources, targets in [('plain', [[9], [6]], [[5], [7]]),
                                 ('packed', [[5, 4, 3], [8, 2]], [[3, 2, 4], [4, 4]])]:
    target_tokens, ids = tokens(targets, 10), segments(targets, 10)
    result[name] = {
        'encoder_input_tokens': tokens(sources, 13),
        'decoder_target_tokens': target_tokens,
        'decoder_input_tokens': shift(target_tokens, ids),
        'decoder_loss_weights': (target_tokens > 0).astype(np.float32),
    }
    if name == 'packed':
      result[name]['encoder_segment_ids'] = segments(sources, 13)
      result[name]['decoder_segment_ids'] = ids
  return result


def network_results() -> dict[str, np.ndarray]:
  """Logits, losses and the norm of each gradient, per network and batch."""
  results = {}
  for name, options in NETWORKS.items():
    module = network.Transformer(network.T5Config(**SIZES, **options, dropout_rate=0.0))
    data = batches()
    plain = {k: v for k, v in data['plain'].items() if k != 'decoder_loss_weights'}
    params = module.init(jax.random.key(3), **plain, enable_dropout=False)['params']
    params = jax.tree.map(np.asarray, dict(params))
    for path, value in safetensors.flatten(params).items():
      results[f'{name}/params/{path}'] = value
    for kind, batch in data.items():
      out = loss_and_gradients(module, params, batch)
      results.update({f'{name}/{kind}/{k}': np.asarray(v) for k, v in out.items()})
  for kind, batch in data.items():
    results.update({f'batch/{kind}/{k}': v for k, v in batch.items()})
  return results


def loss_and_gradients(module, params, batch) -> dict[str, np.ndarray]:
  inputs = {k: v for k, v in batch.items() if k != 'decoder_loss_weights'}

  def loss_and_logits(params):
    logits = module.apply({'params': params}, **inputs, enable_dropout=False)
    loss, z_loss, weight_sum = losses.compute_weighted_cross_entropy(
        logits, batch['decoder_target_tokens'], batch['decoder_loss_weights'],
        label_smoothing=0.1, z_loss=1e-2)
    return loss, {'logits': logits, 'z_loss': z_loss, 'weight_sum': weight_sum}

  (loss, out), grads = jax.value_and_grad(loss_and_logits, has_aux=True)(params)
  norms = {f'grads/{path}': np.sqrt(np.sum(np.square(value)))
           for path, value in safetensors.flatten(grads).items()}
  return {'loss': loss, **out, **norms}


def adafactor_results() -> dict[str, np.ndarray]:
  """Each parameter after every step, in `summary`."""
  rng = np.random.default_rng(1)
  scale = {'small': 1e-5}
  start = {k: (scale.get(k, 1.0) * rng.normal(size=v)).astype(np.float32)
           for k, v in ADAFACTOR_SHAPES.items()}
  # One vector per axis and step: 20 gradients from few numbers.
  factors = {k: [rng.normal(size=(STEPS, n)).astype(np.float32) for n in v]
             for k, v in ADAFACTOR_SHAPES.items()}
  results = {f'adafactor/start/{k}': v for k, v in start.items()}
  for k, parts in factors.items():
    for axis, part in enumerate(parts):
      results[f'adafactor/factor/{k}/{axis}'] = part
  for name, arguments in ADAFACTOR_ARGUMENTS.items():
    optimizer = adafactor.Adafactor(**arguments).create(start)
    seen = {k: [] for k in start}
    for step in range(STEPS):
      grads = {k: gradient(parts, step) for k, parts in factors.items()}
      optimizer = optimizer.apply_gradient(grads, learning_rate=0.1 / (step + 1))
      for k, value in optimizer.target.items():
        seen[k].append(summary(np.asarray(value)))
    results.update({f'adafactor/{name}/{k}': np.stack(rows) for k, rows in seen.items()})
  return results


def summary(value: np.ndarray) -> np.ndarray:
  """Sum, sum of squares and every 97th number."""
  exact = value.astype(np.float64)
  return np.append(value.reshape(-1)[::97], [exact.sum(), np.square(exact).sum()])


def gradient(factors: list[np.ndarray], step: int) -> np.ndarray:
  """The vectors' outer product plus its cube, which is of full rank."""
  if len(factors) == 1:
    return factors[0][step]
  outer = np.outer(factors[0][step], factors[1][step])
  return (outer + outer**3).astype(np.float32)


# Steps after which parameters and state are kept.
LONG_KEPT = (1, 20, 50, 100)
LONG_ARGUMENTS = ADAFACTOR_ARGUMENTS | {
    'momentum and both clippings': {'beta1': 0.9, 'global_norm_clip_threshold': 1.0},
    'whole second moments': {'factored': False},
    'without clipping': {'clipping_threshold': None, 'weight_decay_rate': 1e-3},
}


def hashed(shape: tuple[int, ...], step: int) -> np.ndarray:
  """Numbers of -1 to 1 by whole-number arithmetic, the same everywhere; every 17th time tenfold."""
  place = sum((axis * factor for axis, factor in zip(np.indices(shape), (7_919, 104_729))),
              np.zeros(shape, np.int64))
  values = (place * (place + 31 * step + 1) + 1_299_709 * step) % 2_003
  return ((values / 1_001 - 1) * (10 if step % 17 == 16 else 1)).astype(np.float32)


def adafactor_long_results() -> dict[str, np.ndarray]:
  """Each parameter, and each slot of its state, in `summary` after the steps of LONG_KEPT."""
  start = {k: hashed(v, 1_000) * (1e-5 if k == 'small' else 1) for k, v in ADAFACTOR_SHAPES.items()}
  results = {}
  for name, arguments in LONG_ARGUMENTS.items():
    optimizer = adafactor.Adafactor(**arguments).create(start)
    for step in range(max(LONG_KEPT)):
      grads = {k: hashed(v, step) for k, v in ADAFACTOR_SHAPES.items()}
      optimizer = optimizer.apply_gradient(grads, learning_rate=0.1 / (step + 1) ** 0.5)
      if step + 1 not in LONG_KEPT:
        continue
      for k, value in optimizer.target.items():
        results[f'{name}/{step + 1}/{k}'] = summary(np.asarray(value))
        for slot, moment in vars(optimizer.state.param_states[k]).items():
          if moment.shape != (1,):
            results[f'{name}/{step + 1}/{k}/{slot}'] = summary(np.asarray(moment))
  return results


def schedule_results() -> dict[str, np.ndarray]:
  steps = jnp.arange(30)
  return {
      f'schedule/{factors}': np.asarray([
          utils.create_learning_rate_scheduler(factors, base_learning_rate=0.3, **arguments)(i)
          for i in steps])
      for factors, arguments in SCHEDULES.items()}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('output', help='the .npz file to write')
  parser.add_argument('--adafactor', action='store_true', help='a hundred steps of it')
  args = parser.parse_args()
  output = args.output
  if args.adafactor:
    np.savez_compressed(output, **adafactor_long_results())
    return
  np.savez_compressed(output, **network_results(), **adafactor_results(), **schedule_results())


if __name__ == '__main__':
  main()
