#!/usr/bin/env python3
"""Writes small checkpoints with T5X itself, and reads them, for tests/t5x_*_test.py.

Needs T5X, airio and jestimator on the path, which their repositories hold and PyPI does not:

  export PYTHONPATH=.:t5x:airio:jestimator
  tools/make_t5x_checkpoints.py write tests/golden/t5x_checkpoints.tgz
  tools/make_t5x_checkpoints.py read FOLDER --network scanned
  tools/make_t5x_checkpoints.py write-state tests/golden/t5x_state.tgz
  tools/make_t5x_checkpoints.py train FOLDER --network scanned --output OUTPUT.npz

`write` packs a folder per network and layout, and expected.npz with the networks' logits;
`read` prints the logits that T5X computes with a checkpoint as JSON. `write-state` packs a folder
per case of `CASES` with an optimizer's state, and an .npz of each with gradients and what a few
steps make of the parameters; `train` does these steps from a checkpoint.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import tarfile
import tempfile

import jax
import numpy as np
from flax import traverse_util
from t5x import adafactor, checkpoints, partitioning, train_state
from t5x.examples.scalable_t5 import network as scalable
from t5x.examples.t5 import network

SIZES = {'vocab_size': 40, 'emb_dim': 8, 'num_heads': 2, 'head_dim': 4, 'mlp_dim': 12,
         'num_encoder_layers': 2, 'num_decoder_layers': 3, 'dropout_rate': 0.0,
         'mlp_activations': ('gelu', 'linear')}
NETWORKS = {'per_layer': network, 'scanned': scalable}
STEP = 7

# Wide enough to be factored, no two sides of a kernel alike.
WIDE = SIZES | {'vocab_size': 128, 'emb_dim': 128, 'head_dim': 68, 'mlp_dim': 132,
                'num_decoder_layers': 1}
# Case -> (network, momentum, layout).
CASES = {'per_layer': ('per_layer', None, 'legacy'), 'scanned': ('scanned', None, 'orbax'),
         'per_layer_momentum': ('per_layer', 0.9, 'orbax'),
         'scanned_momentum': ('scanned', 0.9, 'legacy')}
STEPS, LEARNING_RATE = 3, 0.1
# The shape of a slot that is not used.
UNUSED = (1,)


def batch() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  return {'encoder_input_tokens': rng.integers(1, 40, (2, 9)).astype(np.int32),
          'decoder_input_tokens': rng.integers(1, 40, (2, 6)).astype(np.int32),
          'decoder_target_tokens': rng.integers(1, 40, (2, 6)).astype(np.int32)}


def module(name: str, sizes=SIZES):
  return NETWORKS[name].Transformer(NETWORKS[name].T5Config(**sizes))


def state(name: str, seed: int) -> train_state.FlaxOptimTrainState:
  variables = module(name).init(jax.random.key(seed), **batch(), enable_dropout=False)
  optimizer = adafactor.Adafactor(1e-3, factored=False)
  made = train_state.FlaxOptimTrainState.create(optimizer, variables)
  return made.replace_step(jax.numpy.int32(STEP))


def logits(name: str, params) -> np.ndarray:
  return np.asarray(module(name).apply({'params': params}, **batch(), enable_dropout=False))


def checkpointer(layout: str, made, folder: pathlib.Path):
  cls = {'legacy': checkpoints.Checkpointer,
         'orbax': checkpoints.OrbaxCheckpointManagerInterface}[layout]
  return cls(train_state=made, partitioner=partitioning.PjitPartitioner(num_partitions=1),
             **({'checkpoints_dir': str(folder)} if layout == 'legacy' else
                {'directory': str(folder)}))


def write(folder: pathlib.Path) -> None:
  expected = batch()
  for name in NETWORKS:
    made = state(name, 0)
    expected[name] = logits(name, made.params)
    for layout in ('legacy', 'orbax'):
      (folder / f'{name}_{layout}').mkdir(parents=True, exist_ok=True)
      writer = checkpointer(layout, made, folder / f'{name}_{layout}')
      writer.save(made)
      if layout == 'orbax':
        writer.close()
  np.savez_compressed(folder / 'expected.npz', **expected)


def read(folder: pathlib.Path, name: str) -> None:
  """`folder` holds checkpoint_<step>."""
  template = state(name, 1)
  # T5X itself notices from the files which layout it is.
  restored = checkpointer('legacy', template, folder).restore(fallback_state=template.state_dict())
  print(json.dumps({'step': int(restored.step), 'logits': logits(name, restored.params).tolist()}))


def pattern(name: str, shape: tuple[int, ...], positive: bool) -> np.ndarray:
  """Numbers that repeat, so that they pack well, and that tell every axis and name apart."""
  table = np.random.default_rng(len(name)).normal(size=61)
  table = np.square(table) + 0.01 if positive else table / 8
  index = sum((place * factor for place, factor in zip(np.indices(shape), (1, 5, 17, 23))),
              np.zeros(shape, int) + sum(name.encode()))
  return table[index % len(table)].astype(np.float32)


def wide_state(case: str) -> train_state.FlaxOptimTrainState:
  """A state as after some steps: no slot that is used is zero."""
  name, beta1, _ = CASES[case]
  init = functools.partial(module(name, WIDE).init, enable_dropout=False)
  variables = jax.eval_shape(init, jax.random.key(0), **batch())
  optimizer = adafactor.Adafactor(
      decay_rate=0.8, beta1=beta1,
      logical_factor_rules=adafactor.standard_logical_factor_rules())
  made = train_state.FlaxOptimTrainState.create(optimizer, variables)
  flat = traverse_util.flatten_dict(made.state_dict(), sep='/')
  for path, value in flat.items():
    if value.shape not in ((), UNUSED):
      moments = path.startswith('state/') and not path.endswith('/m')
      flat[path] = jax.numpy.asarray(pattern(path, value.shape, moments))
  flat['state/step'] = jax.numpy.int32(STEP)
  return made.restore_state(traverse_util.unflatten_dict(flat, sep='/'))


def train(made: train_state.FlaxOptimTrainState) -> dict[str, np.ndarray]:
  """Gradients, and of the parameters after each step every 499th number and the mean square."""
  shapes = {path: value.shape for path, value in
            traverse_util.flatten_dict(made.state_dict()['target'], sep='/').items()}
  grads = {path: pattern(f'gradient/{path}', shape, False) for path, shape in shapes.items()}
  found = {f'gradient/{path}': value for path, value in grads.items()}
  tree = traverse_util.unflatten_dict(grads, sep='/')
  for i in range(STEPS):
    # Scaled, so that steps differ in more than their rates.
    scaled = jax.tree.map(lambda x: x * (i + 1), tree)
    made = made.apply_gradient(scaled, learning_rate=LEARNING_RATE)
    for path, value in traverse_util.flatten_dict(made.state_dict()['target'], sep='/').items():
      exact = np.asarray(value, np.float64).reshape(-1)
      found[f'{i}/{path}'] = np.append(exact[::499], np.mean(np.square(exact)))
  return found


def write_state(folder: pathlib.Path) -> None:
  for case, (_, _, layout) in CASES.items():
    made = wide_state(case)
    (folder / case).mkdir(parents=True)
    writer = checkpointer(layout, made, folder / case)
    writer.save(made)
    if layout == 'orbax':
      writer.close()
    np.savez_compressed(folder / f'{case}.npz', **train(made))


def continue_from(folder: pathlib.Path, case: str, output: pathlib.Path) -> None:
  """Restores what must be whole, and trains."""
  template = wide_state(case)
  empty = template.restore_state(jax.tree.map(jax.numpy.zeros_like, template.state_dict()))
  # As T5X's train.py does, which finds out what layout it is.
  made = checkpointer('orbax', empty, folder).restore(path=str(folder / f'checkpoint_{STEP}'))
  np.savez_compressed(output, step=np.asarray(made.step), **train(made))


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('action', choices=('write', 'read', 'write-state', 'train'))
  parser.add_argument('folder', type=pathlib.Path, help='to write: the archive')
  parser.add_argument('--network', choices=(*NETWORKS, *CASES), default='per_layer',
                      help='to train: the case')
  parser.add_argument('--output', type=pathlib.Path)
  args = parser.parse_args()
  if args.action in ('write', 'write-state'):
    with tempfile.TemporaryDirectory() as folder, tarfile.open(args.folder, 'w:gz') as archive:
      (write if args.action == 'write' else write_state)(pathlib.Path(folder))
      archive.add(folder, '.')
  elif args.action == 'train':
    continue_from(args.folder.absolute(), args.network, args.output)
  else:
    read(args.folder.absolute(), args.network)
