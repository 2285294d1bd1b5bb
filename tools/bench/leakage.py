#!/usr/bin/env python3
"""Time and memory of `flanjax audit leakage` on synthetic tasks, and whether planted copies are found.

    python tools/bench/leakage.py --tasks 50 --examples 30000

Training examples are drawn by TensorFlow while they are read, word by word, log-uniformly from a
vocabulary; nothing is stored. Each has a text of 30 to 170 words, a question of 8 and an answer of 3.
Every 10,000th holds the text of an evaluation example, or half of it, or all but one word: by tasks in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import threading
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

SUITE, VOCABULARY, EVERY = 'leakage_bench', 50_000, 10_000
KINDS = ('exact', 'ngram', 'near_duplicate')
# What a worker process registers when it imports this module.
_SIZES = 'FLANJAX_BENCH_LEAKAGE'


def register(tasks: int, examples: int, eval_tasks: int, eval_examples: int) -> None:
  """Registers the tasks of both sides and their mixtures."""
  import seqio
  import tensorflow as tf

  from flanjax.data import TaskSpec, Template, metrics, specs
  from flanjax.data import register as register_spec

  if specs.all_specs(SUITE):
    return
  vocabulary = tf.constant([_word(i) for i in range(VOCABULARY)])

  def words(seed, task, count):
    draw = tf.random.stateless_uniform([count], tf.stack([seed, task]), alg='philox')
    return tf.gather(vocabulary, tf.cast(float(VOCABULARY) ** draw, tf.int32) - 1)

  def join(texts):
    return tf.strings.reduce_join(texts, separator=' ')

  def text(i, task):
    draw = tf.random.stateless_uniform([], tf.stack([i, task + 500_000]), 30, 171, tf.int32)
    return words(i, task, draw)

  def planted(i, task):
    """The text of an evaluation example, as the kind of the example's turn has it."""
    copy = text(i // EVERY + task * 3, tf.cast(10**6, tf.int64))
    changed = tf.where(tf.range(tf.size(copy)) == tf.size(copy) // 2, 'other', copy)
    half = tf.concat([words(i, task, 30), copy[: tf.maximum(tf.size(copy) // 2, 13)]], 0)
    return tf.switch_case(tf.cast(task % 3, tf.int32), [lambda: copy, lambda: half, lambda: changed])

  def dataset(task, count, plant):
    def one(i):
      own = lambda: text(i, task)
      return {
          'text': join(tf.cond(i % EVERY == 7, lambda: planted(i, task), own) if plant else own()),
          'question': join(words(i, task + 10**7, 8)), 'answer': join(words(i, task + 2 * 10**7, 3))}
    return lambda split, shuffle_files=False, seed=None: tf.data.Dataset.range(count).map(one)

  def add(name, split, task, count):
    source = seqio.FunctionDataSource(
        dataset(tf.constant(task, tf.int64), count, split == 'train'), [split],
        num_input_examples={split: count})
    register_spec(TaskSpec(name, split, source, lambda x: x, [Template('{text} {question}', '{answer}')],
                           [metrics.accuracy], suite=SUITE, eval_only=split == 'test'))

  for k in range(tasks):
    add(f'bench_train_{k:03d}', 'train', k, examples)
  for k in range(eval_tasks):
    add(f'bench_eval_{k:03d}', 'test', 10**6 + k, eval_examples)
  for side, count in (('train', tasks), ('eval', eval_tasks)):
    names = [f'bench_{side}_{k:03d}_type_0' for k in range(count)]
    seqio.MixtureRegistry.add(f'{SUITE}_{side}', names, default_rate=1.0)


def _word(i: int) -> str:
  letters = ''
  while i or not letters:
    i, letter = divmod(i, 20)
    letters += 'bcdfghjklmnprstvwxyz'[letter] + 'aeiou'[letter % 5]
  return letters


class Memory(threading.Thread):
  """The most memory of this process and its children, sampled."""

  def __init__(self):
    super().__init__(daemon=True)
    self.most = {'rss_mb': 0.0, 'pss_mb': 0.0}

  def run(self) -> None:
    import psutil

    here = psutil.Process()
    while True:
      found = {'rss_mb': 0.0, 'pss_mb': 0.0}
      for process in [here, *here.children(recursive=True)]:
        try:
          memory = process.memory_full_info()
        except psutil.Error:
          continue
        found['rss_mb'] += memory.rss / 2**20
        found['pss_mb'] += memory.pss / 2**20
      self.most = {name: max(value, found[name]) for name, value in self.most.items()}
      time.sleep(0.5)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--tasks', type=int, default=50)
  parser.add_argument('--examples', type=int, default=30_000, help='of each task')
  parser.add_argument('--eval_tasks', type=int, default=4)
  parser.add_argument('--eval_examples', type=int, default=5_000)
  parser.add_argument('--num_workers', type=int)
  parser.add_argument('--json', action='store_true')
  args = parser.parse_args()
  sizes = (args.tasks, args.examples, args.eval_tasks, args.eval_examples)
  os.environ[_SIZES] = json.dumps(sizes)
  from flanjax import terminal
  from flanjax.data import leakage, task_texts

  register(*sizes)
  started = time.monotonic()
  read = sum(len(rows.ids) for rows in task_texts.read('bench_train_000_type_0', 'train'))
  reading = (time.monotonic() - started) / read
  memory = Memory()
  memory.start()
  started, used = time.monotonic(), time.process_time()
  with terminal.bar('auditing') as progress:
    found = leakage.audit(f'{SUITE}_train', f'{SUITE}_eval', num_workers=args.num_workers,
                          modules=('leakage',), progress=progress)
  seconds, cpu = time.monotonic() - started, time.process_time() - used
  per_task = -(-(args.examples - 7) // EVERY)
  copies, halves, near = (per_task * len(range(k, args.tasks, 3)) for k in range(3))
  # A copy is a near-duplicate of itself, and both share runs of 13 words.
  planted = {'exact': copies, 'ngram': copies + halves + near, 'near_duplicate': copies + near}
  counts = {kind: sum(row[kind] for row in found.tasks) for kind in KINDS}
  figures = {
      'train_examples': sum(found.train.values()), 'eval_examples': sum(r['examples'] for r in found.tasks),
      'seconds': round(seconds, 1), 'cpu_seconds_of_this_process': round(cpu, 1),
      'examples_per_second': round(sum(found.train.values()) / seconds),
      'seconds_of_making_and_reading_alone': round(reading * sum(found.train.values()), 1),
      **{name: round(value) for name, value in memory.most.items()},
      'planted': planted, 'found': counts, 'pairs': sum(r['pairs'] for r in found.tasks)}
  if args.json:
    print(json.dumps(figures, indent=1))
  else:
    print('\n'.join(f'{name}: {value}' for name, value in figures.items()))


if os.environ.get(_SIZES) and __name__ == 'leakage':
  register(*json.loads(os.environ[_SIZES]))
if __name__ == '__main__':
  main()
