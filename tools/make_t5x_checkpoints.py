#!/usr/bin/env python3
"""Writes small checkpoints with T5X itself, and reads them, for tests/t5x_checkpoints_test.py.

Needs T5X, airio and jestimator on the path, which their repositories hold and PyPI does not:

  export PYTHONPATH=.:t5x:airio:jestimator
  tools/make_t5x_checkpoints.py write tests/golden/t5x_checkpoints.tgz
  tools/make_t5x_checkpoints.py read FOLDER --network scanned

`write` packs a folder per network and layout, and expected.npz with the networks' logits;
`read` prints the logits that T5X computes with a checkpoint as JSON.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tarfile
import tempfile

import jax
import numpy as np
from t5x import adafactor, checkpoints, partitioning, train_state
from t5x.examples.scalable_t5 import network as scalable
from t5x.examples.t5 import network

SIZES = {'vocab_size': 40, 'emb_dim': 8, 'num_heads': 2, 'head_dim': 4, 'mlp_dim': 12,
         'num_encoder_layers': 2, 'num_decoder_layers': 3, 'dropout_rate': 0.0,
         'mlp_activations': ('gelu', 'linear')}
NETWORKS = {'per_layer': network, 'scanned': scalable}
STEP = 7


def batch() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  return {'encoder_input_tokens': rng.integers(1, 40, (2, 9)).astype(np.int32),
          'decoder_input_tokens': rng.integers(1, 40, (2, 6)).astype(np.int32),
          'decoder_target_tokens': rng.integers(1, 40, (2, 6)).astype(np.int32)}


def module(name: str):
  return NETWORKS[name].Transformer(NETWORKS[name].T5Config(**SIZES))


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


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('action', choices=('write', 'read'))
  parser.add_argument('folder', type=pathlib.Path, help='to write: the archive')
  parser.add_argument('--network', choices=tuple(NETWORKS), default='per_layer')
  args = parser.parse_args()
  if args.action == 'write':
    with tempfile.TemporaryDirectory() as folder, tarfile.open(args.folder, 'w:gz') as archive:
      write(pathlib.Path(folder))
      archive.add(folder, '.')
  else:
    read(args.folder.absolute(), args.network)
