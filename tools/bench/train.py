#!/usr/bin/env python3
"""A training step: ours against T5X's own model and step, same shapes, same batch, in one run.

    PYTHONPATH=t5x:airio:jestimator tools/bench/train.py --sides t5x flanjax --rounds 2

Each measurement is a process of its own, the sides by turns; without T5X on the path only ours
is measured. Nothing is read from the compilation cache, so that the first step is a cold one.
Prints a table in Markdown and, with --json, the figures. `cpu` is processor seconds of a step,
which hold still where the machine is shared.

    small on a CPU:   tools/bench/train.py
    large on a GPU:   tools/bench/train.py --sides flanjax --size large --rows 64 --lengths 512 128 \
                        --dtype bfloat16 --steps 20
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZES = {
    # emb_dim, heads, mlp_dim, layers of each stack (Raffel et al. 2020; T5 1.1's checkpoints).
    'tiny': (128, 4, 256, 2), 'small': (512, 6, 1024, 8), 'base': (768, 12, 2048, 12),
    'large': (1024, 16, 2816, 24), 'xl': (2048, 32, 5120, 24),
}
VOCAB_SIZE = 32_128
SIDES = ('t5x', 't5x_gather', 't5x_scan', 'flanjax')


def make_batch(rows: int, lengths: tuple[int, int], segments: int) -> dict[str, np.ndarray]:
  """Random tokens without padding; rows of `segments` examples each, 1 for none packed."""
  rng = np.random.default_rng(0)
  inputs, targets = (rng.integers(2, 32_000, (rows, n), np.int32) for n in lengths)
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  batch = {
      'encoder_input_tokens': inputs, 'decoder_target_tokens': targets,
      'decoder_input_tokens': shifted,
      'decoder_loss_weights': np.ones(targets.shape, np.float32),
  }
  for side, n in zip(('encoder', 'decoder'), lengths):
    places = np.broadcast_to(np.arange(n, dtype=np.int32), (rows, n))
    batch[f'{side}_segment_ids'] = places // -(-n // segments) + 1
    batch[f'{side}_positions'] = places % -(-n // segments)
  return batch


def t5x_step(args: argparse.Namespace, batch: dict[str, np.ndarray]) -> Callable[[], float]:
  """T5X's trainer, as its gin files put it together; -> one step, its loss."""
  import jax
  import seqio
  from t5x import adafactor, models, partitioning, trainer, utils

  emb_dim, heads, mlp_dim, layers = SIZES[args.size]
  sizes = dict(vocab_size=VOCAB_SIZE, emb_dim=emb_dim, num_heads=heads, head_dim=64,
               mlp_dim=mlp_dim, num_encoder_layers=layers, num_decoder_layers=layers,
               mlp_activations=('gelu', 'linear'), dropout_rate=args.dropout,
               logits_via_embedding=False, dtype=args.dtype)
  if args.one == 't5x_scan':
    from t5x.examples.scalable_t5 import network
    sizes.update(scan_layers=True, remat_policy='minimal')
  else:
    from t5x.examples.t5 import layers as t5x_layers
    from t5x.examples.t5 import network
    if args.one == 't5x_gather':
      t5x_layers.Embed.one_hot = False
      original = t5x_layers.Embed.__post_init__
      t5x_layers.Embed.__post_init__ = lambda self: (
          object.__setattr__(self, 'one_hot', False), original(self))[1]
  vocabulary = seqio.PassThroughVocabulary(VOCAB_SIZE, eos_id=1)
  model = models.EncoderDecoderModel(
      module=network.Transformer(config=network.T5Config(**sizes)), input_vocabulary=vocabulary,
      output_vocabulary=vocabulary, z_loss=1e-4, optimizer_def=adafactor.Adafactor(
          decay_rate=0.8, step_offset=0,
          logical_factor_rules=adafactor.standard_logical_factor_rules()))
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  shapes = {name: value.shape for name, value in batch.items()}
  types = {name: value.dtype for name, value in batch.items()}
  initializer = utils.TrainStateInitializer(
      optimizer_def=model.optimizer_def, init_fn=model.get_initial_variables,
      input_shapes=shapes, input_types=types, partitioner=partitioner)
  state = initializer.from_scratch(jax.random.PRNGKey(0))
  made = trainer.Trainer(
      model=model, train_state=state, partitioner=partitioner, eval_names=[], summary_dir=None,
      train_state_axes=initializer.train_state_axes, rng=jax.random.PRNGKey(1),
      learning_rate_fn=lambda step: 1e-3, num_microbatches=args.microbatches)
  del state
  rng = jax.random.PRNGKey(1)
  step_fn = made._partitioned_train_step

  def step() -> float:
    made.train_state, metrics = step_fn(made.train_state, batch)
    return float(metrics['loss'].compute())

  del rng
  return step


def flanjax_step(args: argparse.Namespace, batch: dict[str, np.ndarray]) -> Callable[[], float]:
  """What `flanjax train` puts together; -> one step, its loss."""
  import jax

  from flanjax import partitioning
  from flanjax.models import t5
  from flanjax.training import optimizers
  from flanjax.training.state import TrainState
  from flanjax.training.step import make_train_step

  emb_dim, heads, mlp_dim, layers = SIZES[args.size]
  options = json.loads(args.options)
  model = t5.EncoderDecoderModel(t5.T5Config(
      VOCAB_SIZE, emb_dim, heads, 64, mlp_dim, layers, layers, dropout_rate=args.dropout,
      dtype=args.dtype, **options))
  optimizer = optimizers.adafactor(1e-3)
  mesh = partitioning.make_mesh()
  create = lambda key: TrainState.create(model.init(key), optimizer)
  state = [jax.jit(create)(jax.random.key(0))]
  step_fn = make_train_step(model, optimizer, num_microbatches=args.microbatches or 1)
  arrays = jax.device_put(batch, partitioning.batch_sharding(mesh))

  def step() -> float:
    with partitioning.activate(mesh):
      state[0], metrics = step_fn(state[0], arrays)
    return float(metrics['loss'])

  return step


def one(args: argparse.Namespace) -> dict[str, Any]:
  """What a child does: the first step from the start of the process, then the others."""
  import psutil

  batch = make_batch(args.rows, tuple(args.lengths), args.segments)
  step = (flanjax_step if args.one == 'flanjax' else t5x_step)(args, batch)
  first_loss = step()
  first = time.time() - psutil.Process().create_time()
  first_cpu = time.process_time()
  wall, cpu = [], []
  for _ in range(args.steps):
    start, used = time.perf_counter(), time.process_time()
    loss = step()
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - used)
  import jax

  stats = jax.devices()[0].memory_stats() or {}
  return {
      'first_step_s': first, 'first_step_cpu_s': first_cpu, 'wall': wall, 'cpu': cpu,
      'host_memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
      'device_memory_mb': stats.get('peak_bytes_in_use', 0) / 2**20,
      'first_loss': first_loss, 'last_loss': loss, 'device': jax.devices()[0].device_kind,
  }


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
  found: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
  for _ in range(args.rounds):
    for side in args.sides:
      command = [sys.executable, __file__, '--one', side, *sys.argv[1:]]
      environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
                     'JAX_ENABLE_COMPILATION_CACHE': 'false'}
      done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True,
                            stderr=None if args.debug else subprocess.DEVNULL)
      if done.returncode:
        print(f'{side}: failed with status {done.returncode}; --debug shows why', file=sys.stderr)
        continue
      found[side].append(json.loads(done.stdout.splitlines()[-1]))
  return [summary(side, results, args) for side, results in found.items() if results]


def summary(side: str, results: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
  wall, cpu = ([x for r in results for x in r[kind]] for kind in ('wall', 'cpu'))
  step = statistics.median(wall)
  return {
      'side': side, 'n': len(wall), 'step_s': step, 'fastest_s': min(wall),
      'cpu_s': statistics.median(cpu), 'sequences_per_s': args.rows / step,
      'tokens_per_s': args.rows * sum(args.lengths) / step,
      'first_step_s': min(r['first_step_s'] for r in results),
      'first_step_cpu_s': min(r['first_step_cpu_s'] for r in results),
      'memory_mb': max(r['device_memory_mb'] or r['host_memory_mb'] for r in results),
      'first_loss': results[0]['first_loss'], 'last_loss': results[0]['last_loss'],
      'device': results[0]['device'],
  }


def line(row: dict[str, Any]) -> str:
  return (f"| {row['side']} | {row['n']} | {row['step_s']:.3f} s | {row['fastest_s']:.3f} s | "
          f"{row['cpu_s']:.2f} s | {row['sequences_per_s']:,.1f} | {row['tokens_per_s']:,.0f} | "
          f"{row['first_step_s']:.1f} s | {row['first_step_cpu_s']:.1f} s | "
          f"{row['memory_mb']:,.0f} MB | {row['first_loss']:.1f} |")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sides', nargs='+', default=['t5x', 'flanjax'], choices=SIDES)
  parser.add_argument('--size', default='small', choices=SIZES)
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--lengths', type=int, nargs=2, default=[256, 64], metavar=('INPUTS', 'TARGETS'))
  parser.add_argument('--segments', type=int, default=1, help='examples packed into a row')
  parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
  parser.add_argument('--dropout', type=float, default=0.1)
  parser.add_argument('--microbatches', type=int)
  parser.add_argument('--steps', type=int, default=8, help='measured, after the first')
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--options', default='{}', help='more of T5Config, as JSON')
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--debug', action='store_true')
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(one(args)))
    return
  rows = run(args)
  print('| side | n | step, median | fastest | cpu | sequences/s | tokens/s | first step | its cpu | memory | first loss |')
  print('|---|---|---|---|---|---|---|---|---|---|---|')
  print('\n'.join(map(line, rows)))
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
  main()
