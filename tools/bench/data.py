#!/usr/bin/env python3
"""Reading a mixture: prepared data against SeqIO's own pipeline, over the same tasks, in one run.

    python tools/bench/data.py --tasks 10 55 1836 --seconds 60

Each measurement is a process of its own. Both sides read the same synthetic tasks (lines of text in
files, three fields, ten templates, a SentencePiece vocabulary, rows of 512 and 128 tokens). Prepared
data is made first, which is timed apart; beyond a hundred tasks it is written without SeqIO's graphs,
of which each takes half a second to build. Prints a table in Markdown and, with --json, the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LENGTHS = {'inputs': 512, 'targets': 128}
BATCH_SIZE, SEED = 64, 0
SUITE = 'bench'
TEMPLATES = [(f'Form {i}. {{text}}\n\nQuestion {i}: {{question}}', '{answer}') for i in range(10)]
_MOST_PREPARED = 100


def write_tasks(folder: pathlib.Path, tasks: int, examples: int) -> None:
  """Files of lines 'text <tab> question <tab> answer', with lengths as in FLAN's tasks."""
  words = [''.join(random.Random(i).choices('etaoinshrdlu', k=2 + i % 7)) for i in range(5_000)]
  for k in range(tasks):
    rng = random.Random(k)
    mean = rng.uniform(6, 40)
    with open(folder / f'{k:05d}.txt', 'w') as f:
      for _ in range(examples):
        sizes = (max(3, int(rng.lognormvariate(0, 0.6) * mean)), rng.randint(4, 10), rng.randint(1, 10))
        f.write('\t'.join(' '.join(rng.choices(words, k=n)) for n in sizes) + '\n')


def register(folder: pathlib.Path, tasks: int) -> str:
  """Registers the tasks and their mixture; returns its name."""
  import seqio
  import tensorflow as tf

  from flanjax.data import TaskSpec, Template, metrics, mixtures, specs, vocabularies
  from flanjax.data import register as register_spec

  vocabularies.set_default('mini')
  if specs.all_specs(SUITE):
    return f'{SUITE}_all_train'

  def fields(line):
    parts = tf.strings.split(line, '\t')
    return {'text': parts[0], 'question': parts[1], 'answer': parts[2]}

  templates = [Template(*forms) for forms in TEMPLATES]
  for k in range(tasks):
    source = seqio.TextLineDataSource({'train': str(folder / f'{k:05d}.txt')})
    register_spec(TaskSpec(f'{SUITE}_{k:05d}', f'cluster{k % 12}', source, fields, templates,
                           [metrics.accuracy], suite=SUITE))
  names = [f'{SUITE}_{k:05d}_10templates' for k in range(tasks)]
  seqio.MixtureRegistry.add(f'{SUITE}_all_train', names, default_rate=mixtures.capped_rate)
  return f'{SUITE}_all_train'


def write_prepared(folder: pathlib.Path, tasks: int) -> pathlib.Path:
  """The files that `flanjax prepare` would write, but for their fingerprints."""
  import numpy as np

  from flanjax.data import mixtures, vocabularies
  from flanjax.input import manifest, writer
  from flanjax.input.records import Example

  vocabulary = vocabularies.get('mini')
  ids = lambda text, side: np.array(vocabulary.encode(text)[: LENGTHS[side] - 1] + [1], np.int32)

  def examples(k: int) -> Iterator[Example]:
    for i, line in enumerate((folder / f'{k:05d}.txt').read_text().splitlines()):
      text, question, answer = line.split('\t')
      inputs, _ = TEMPLATES[i % 10]
      inputs = inputs.format(text=text, question=question)
      yield Example(ids(inputs, 'inputs'), ids(answer, 'targets'), i, i % 10)

  entries = []
  for k in range(tasks):
    name = f'{SUITE}_{k:05d}_10templates'
    (folder / 'prepared' / name).mkdir(parents=True)
    made = writer.write_examples(folder / 'prepared' / name, 'train', examples(k))
    rate = float(min(made['num_examples'], mixtures.MIXING_RATE_CAP))
    entries.append({'name': name, 'task': f'{SUITE}_{k:05d}', 'cluster': '', 'rate': rate,
                    'share': 1 / tasks, 'path': name, 'fingerprint': name, 'hashes': {}, **made})
  content = {
      'mixture': f'{SUITE}_all_train', 'split': 'train', 'sequence_length': LENGTHS,
      'vocabulary': 'mini', 'vocabulary_fingerprint': '', 'vocab_size': vocabulary.vocab_size,
      'versions': {}, 'tasks': entries, 'skipped': {},
  }
  path = folder / 'prepared' / 'mixture.json'
  path.write_text(manifest.dumps(content))
  return path


def seqio_batches(folder: pathlib.Path, tasks: int, pack: bool) -> Iterator[dict[str, Any]]:
  import seqio

  name = register(folder, tasks)
  return iter(seqio.get_dataset(
      name, task_feature_lengths=LENGTHS, dataset_split='train', shuffle=True, num_epochs=None,
      feature_converter=seqio.EncDecFeatureConverter(pack=pack), seed=SEED, batch_size=BATCH_SIZE,
      use_cached=False, trim_output_features=True).as_numpy_iterator())


def prepared_batches(manifest: str, pack: bool) -> Iterator[dict[str, Any]]:
  from flanjax.input import mixture

  source = mixture.open_mixture(manifest, batch_size=BATCH_SIZE, seed=SEED, pack=pack)
  step = 0
  while True:
    yield source.batch(step)
    step += 1


def measure(make: Callable[[], Iterator[dict[str, Any]]], seconds: float) -> dict[str, float]:
  """Time to the first batch from the start of the process, then throughput for `seconds`."""
  import numpy as np

  batches = make()
  batch = next(batches)
  first = time.time() - _process_start()
  examples = tokens = places = used = rows = 0
  start, cpu = time.perf_counter(), time.process_time()
  while time.perf_counter() - start < seconds:
    batch = next(batches)
    inputs, targets = batch['encoder_input_tokens'], batch['decoder_target_tokens']
    ids = batch.get('encoder_segment_ids')
    examples += len(inputs) if ids is None else int(ids.max(axis=1).sum())
    filled = np.stack([(x > 0).mean(axis=1) for x in (inputs, targets)])
    tokens += int((inputs > 0).sum() + (targets > 0).sum())
    used, rows = used + filled.max(axis=0).sum(), rows + len(inputs)
    places += inputs.size + targets.size
  wall = time.perf_counter() - start
  return {
      'first_batch_s': first, 'examples_per_s': examples / wall, 'tokens_per_s': tokens / wall,
      'row_fill': used / rows, 'cores': (time.process_time() - cpu) / wall,
      'memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
      'threads': len(os.listdir('/proc/self/task')) if os.path.isdir('/proc') else threading.active_count(),
  }


def _process_start() -> float:
  import psutil

  return psutil.Process().create_time()


def _child(arguments: list[str], timeout: float) -> dict[str, Any]:
  command = [sys.executable, __file__, *arguments]
  environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'JAX_PLATFORMS': 'cpu'}
  start = time.time()
  try:
    done = subprocess.run(command, env=environment, timeout=timeout, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
  except subprocess.TimeoutExpired:
    return {'gave_up_after_s': time.time() - start}
  return json.loads(done.stdout.splitlines()[-1])


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
  rows = []
  for tasks in args.tasks:
    with tempfile.TemporaryDirectory(prefix='flanjax_bench_') as root:
      folder = pathlib.Path(root)
      write_tasks(folder, tasks, max(args.examples // tasks, 100))
      common = ['--folder', root, '--seconds', str(args.seconds), '--tasks', str(tasks)]
      made = _child(['--one', 'prepare', *common], 3_600)
      for side in args.sides:
        for pack in [rows == 'packed' for rows in args.rows]:
          found = _child(['--one', side, *common, '--manifest', made['manifest'],
                          *(['--pack'] if pack else [])], args.timeout + args.seconds)
          rows.append({'side': side, 'tasks': tasks, 'packed': pack, 'prepare_s': made['seconds'],
                       **found})
          print(_line(rows[-1]), flush=True)
  return rows


def _line(row: dict[str, Any]) -> str:
  head = f"| {row['tasks']:,} | {row['side']} | {'packed' if row['packed'] else 'unpacked'} |"
  if 'gave_up_after_s' in row:
    return f"{head} none after {row['gave_up_after_s']:.0f} s | | | | | | |"
  return (f"{head} {row['first_batch_s']:.1f} s | {row['examples_per_s']:,.0f} | "
          f"{row['tokens_per_s']:,.0f} | {100 * row['row_fill']:.1f} % | {row['cores']:.1f} | "
          f"{row['memory_mb']:,.0f} MB | {row['threads']} |")


def one(args: argparse.Namespace) -> dict[str, Any]:
  """What a child does."""
  folder, tasks = pathlib.Path(args.folder), args.tasks[0]
  if args.one == 'prepare':
    from flanjax.data import prepare

    start = time.perf_counter()
    if tasks > _MOST_PREPARED:
      path = write_prepared(folder, tasks)
    else:
      name = register(folder, tasks)
      path = prepare.prepare(name, LENGTHS, output_dir=folder / 'prepared', num_workers=1)
    return {'manifest': str(path), 'seconds': time.perf_counter() - start}
  make = {
      'seqio': lambda: seqio_batches(folder, tasks, args.pack),
      'flanjax': lambda: prepared_batches(args.manifest, args.pack),
  }[args.one]
  return measure(make, args.seconds)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--tasks', type=int, nargs='+', default=[10, 55, 1836])
  parser.add_argument('--examples', type=int, default=200_000, help='in all tasks together')
  parser.add_argument('--seconds', type=float, default=30)
  parser.add_argument('--timeout', type=float, default=420, help='to the first batch')
  parser.add_argument('--sides', nargs='+', default=['seqio', 'flanjax'])
  parser.add_argument('--rows', nargs='+', default=['packed', 'unpacked'])
  parser.add_argument('--json', help='a file for the figures')
  for name in ('one', 'folder', 'manifest'):
    parser.add_argument(f'--{name}', help=argparse.SUPPRESS)
  parser.add_argument('--pack', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(one(args)))
    return
  print('| tasks | | rows | first batch | examples/s | tokens/s | fill | cores | memory | threads |')
  print('|---|---|---|---|---|---|---|---|---|---|')
  rows = run(args)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
  main()
