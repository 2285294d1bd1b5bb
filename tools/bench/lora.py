#!/usr/bin/env python3
"""A step of LoRA, and of prompt tuning, against one that trains everything; one run.

    tools/bench/lora.py                                    # embed 512, 6 + 6 layers, measured
    tools/bench/lora.py --size large --compile_only        # what XLA says, nothing allocated
    tools/bench/lora.py --size large --rows 64 --lengths 512 128 --dtype bfloat16   # on a GPU

The sides take steps by turns, so that a shared machine disturbs all alike; `cpu` is processor
seconds of a step, which hold still where it is shared. Memory and FLOPs are XLA's own figures for
the compiled step: arguments are parameters, optimizer and batch; temporaries are what the step
adds. XLA counts the body of a loop once. Prints a table in Markdown and, with --json, the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanjax.models import lora, t5
from flanjax.training import optimizers
from flanjax.training.freezing import predicate
from flanjax.training.state import TrainState, split
from flanjax.training.step import make_train_step

SIZES = {
    # emb_dim, heads, mlp_dim, layers of each stack; all but `middle` are T5 1.1's.
    'middle': (512, 8, 1024, 6), 'small': (512, 6, 1024, 8), 'base': (768, 12, 2048, 12),
    'large': (1024, 16, 2816, 24), 'xl': (2048, 32, 5120, 24),
}
VOCAB_SIZE = 32_128
SIDES = ('full', 'lora', 'lora_bf16', 'prompt')


def make_batch(rows: int, lengths: tuple[int, int]) -> dict[str, np.ndarray]:
  """Random tokens without padding."""
  rng = np.random.default_rng(0)
  inputs, targets = (rng.integers(2, 32_000, (rows, n), np.int32) for n in lengths)
  return {'encoder_input_tokens': inputs, 'decoder_target_tokens': targets,
          'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
          'decoder_loss_weights': np.ones(targets.shape, np.float32)}


class Side:
  """One way to train: its compiled step, and its state once it is asked for."""

  def __init__(self, name: str, args: argparse.Namespace, batch: dict[str, np.ndarray]):
    emb_dim, heads, mlp_dim, layers = SIZES[args.size]
    adapters = {'lora': lora.Lora(args.rank)} if name.startswith('lora') else {}
    if name == 'prompt':
      adapters = {'prompt_length': 100}
    config = t5.T5Config(VOCAB_SIZE, emb_dim, heads, 64, mlp_dim, layers, layers,
                         dtype=args.dtype, **adapters, **json.loads(args.options))
    self._model, self._optimizer = t5.EncoderDecoderModel(config), optimizers.adafactor(1e-3)
    self._trains = predicate(config.adapters or '.*')
    self._dtype = 'bfloat16' if name == 'lora_bf16' else 'float32'
    self.shapes = jax.eval_shape(self._create, jax.random.key(0))
    started = time.perf_counter()
    self.program = make_train_step(self._model, self._optimizer).lower(
        self.shapes, batch).compile()
    self.compile_s = time.perf_counter() - started
    self.state: TrainState | None = None

  def _create(self, key: jax.Array) -> TrainState:
    params, frozen = split(self._model.init(key), self._trains)
    frozen = jax.tree.map(lambda x: x.astype(self._dtype), frozen)
    return TrainState.create(params, self._optimizer, frozen)

  def step(self, batch: Any) -> tuple[float, float]:
    """-> wall and processor seconds of one step."""
    if self.state is None:
      self.state = jax.jit(self._create)(jax.random.key(0))
    jax.block_until_ready(self.state)
    wall, cpu = time.perf_counter(), time.process_time()
    self.state, metrics = self.program(self.state, batch)
    jax.block_until_ready((self.state, metrics))
    return time.perf_counter() - wall, time.process_time() - cpu

  def figures(self) -> dict[str, float]:
    """XLA's figures for the program, and the number of parameters that are trained."""
    memory, cost = self.program.memory_analysis(), self.program.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    bytes_of = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    return {
        'trained': t5.param_count(self.shapes.params),
        'state_MB': bytes_of(self.shapes) / 1e6,
        'arguments_MB': memory.argument_size_in_bytes / 1e6,
        'temporaries_MB': memory.temp_size_in_bytes / 1e6,
        'all_MB': (memory.argument_size_in_bytes + memory.temp_size_in_bytes
                   + memory.output_size_in_bytes - memory.alias_size_in_bytes) / 1e6,
        'TFLOP': cost['flops'] / 1e12, 'compile_s': self.compile_s}


def measure(sides: dict[str, Side], batch: dict[str, np.ndarray], repeats: int) -> dict[str, Any]:
  """-> {side: its steps' (wall, processor) seconds}, the sides by turns, after one step each."""
  arrays = jax.tree.map(jnp.asarray, batch)
  times: dict[str, list] = {name: [] for name in sides}
  for turn in range(repeats + 1):
    for name, side in sides.items():
      taken = side.step(arrays)
      if turn:
        times[name].append(taken)
  return times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--sides', nargs='+', choices=SIDES, default=list(SIDES))
  parser.add_argument('--size', choices=SIZES, default='middle')
  parser.add_argument('--rank', type=int, default=8)
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--lengths', type=int, nargs=2, default=[256, 64])
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--options', default='{}', help='JSON: more fields of T5Config')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--compile_only', action='store_true')
  parser.add_argument('--json')
  args = parser.parse_args()
  batch = make_batch(args.rows, tuple(args.lengths))
  sides = {}
  for name in args.sides:
    sides[name] = Side(name, args, batch)
    print(f'{name} compiled in {sides[name].compile_s:.0f} s', flush=True)
  found = {name: side.figures() for name, side in sides.items()}
  if not args.compile_only:
    for name, times in measure(sides, batch, args.repeats).items():
      wall, cpu = zip(*times)
      found[name] |= {'wall_s': statistics.median(wall), 'wall_least_s': min(wall),
                      'cpu_s': statistics.median(cpu), 'n': len(times)}
  columns = list(next(iter(found.values())))
  device = jax.devices()[0]
  print(f'{args.size}, {args.rows} x ({args.lengths[0]} + {args.lengths[1]}), {args.dtype}, '
        f'rank {args.rank}, {device.device_kind}, jax {jax.__version__}\n')
  print('| side | ' + ' | '.join(columns) + ' |\n' + '|---' * (len(columns) + 1) + '|')
  for name, row in found.items():
    print(f'| {name} | ' + ' | '.join(f'{row[c]:,.4g}' if isinstance(row[c], float)
                                      else f'{row[c]:,}' for c in columns) + ' |')
  if args.json:
    with open(args.json, 'w') as file:
      json.dump({'arguments': vars(args), 'found': found}, file, indent=1)


if __name__ == '__main__':
  main()
