"""Batches of a prepared mixture: batch t is a function of (manifest, seed, t) alone.

Nothing is carried from batch to batch. `draws` says which example the i-th draw is, `blocks` which
draws share a row, `records` reads their tokens, and `packing` lays them out.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.input import audit as audit_lib
from flanjax.input import files
from flanjax.input import manifest as manifest_lib
from flanjax.input.blocks import BlockPlanner, Rows, joined
from flanjax.input.manifest import SIDES, Manifest, PreparedTask
from flanjax.input.memo import Memo
from flanjax.input.mixing import Mixing
from flanjax.input.packing import batch_arrays
from flanjax.input.records import Example, RecordReader, Tokens, decode, decode_tokens

# Part of every source's fingerprint: raised whenever the same manifest and seed give other batches.
ENGINE_VERSION = 1


class MixtureSource:
  """Batches of a mixture; see `open_mixture`.

  Attributes:
    manifest: what was prepared.
    feature_lengths: side -> length of a row.
    batch_size: rows in a batch.
    seed: the seed.
    packed: whether rows hold several examples.
    mixing: how often the tasks are drawn.
    num_batches: batches in all; None: without end.
    fingerprint: of everything that a batch depends on. Sources with one fingerprint give the
      same batches.
    shares: SeqIO task -> the part of the draws it has.
    vocab_size: no token id reaches it.
    fill: how full the rows are (`blocks.Fill`).
  """

  def __init__(
      self,
      manifest: Manifest,
      batch_size: int,
      seed: int,
      feature_lengths: Mapping[str, int],
      pack: bool,
      mixing: Mixing = Mixing(),
  ):
    self.manifest = manifest
    self.mixing = mixing
    self.batch_size = batch_size
    self.seed = seed
    self.packed = pack
    self.feature_lengths = dict(feature_lengths)
    self.vocab_size = manifest.vocab_size
    self._capacity = tuple(feature_lengths[side] for side in SIDES)
    self._names = [t.name for t in manifest.tasks]
    self._planner = BlockPlanner(manifest, batch_size, seed, self._capacity, pack, mixing)
    self.num_batches = self._planner.num_batches
    self._reader = RecordReader(manifest.tasks)
    self._chunks = Memo(self._read_chunk, keep=4)
    self.shares = dict(zip(self._names, self._planner.shares.tolist()))
    self.fill = self._planner.fill

  def _read_chunk(self, key: tuple[int, int, int]) -> tuple[Rows, Tokens]:
    """Rows [first, stop) of as many consecutive batches as are read together, and their tokens."""
    chunk, first, stop = key
    batches = range(chunk * self._planner.read_batches, (chunk + 1) * self._planner.read_batches)
    if self.num_batches is not None:
      batches = range(batches.start, min(batches.stop, self.num_batches))
    rows = joined([
        self._planner.rows(b * self.batch_size + first, b * self.batch_size + stop)
        for b in batches
    ])
    tokens = decode_tokens(self._reader.read(rows.tasks, rows.examples))
    self._check(rows, tokens)
    return rows, tokens

  def _check(self, rows: Rows, tokens: Tokens) -> None:
    expected = self._planner.lengths_of(rows)
    wrong = (tokens.lengths != expected).any(axis=1)
    if wrong.any():
      at = int(np.argmax(wrong))
      task = self.manifest.tasks[rows.tasks[at]]
      raise UserError(
          'A prepared example is not as long as the index says.',
          where=f'task {task.name}, example {rows.examples[at]}, {task.path}',
          got=tokens.lengths[at].tolist(), expected=expected[at].tolist(),
          hint=manifest_lib.PREPARE_AGAIN,
      )
    highest = max(int(tokens.inputs.max(initial=0)), int(tokens.targets.max(initial=0)))
    if highest >= self.vocab_size:
      names = sorted({self._names[k] for k in rows.tasks.tolist()})
      raise UserError(
          'A token id is not in the vocabulary.', where=f'tasks {", ".join(names)}',
          got=highest, expected=f'ids below {self.vocab_size}',
      )

  def _step(self, step: int) -> int:
    step = int(step)
    if step < 0 or self.num_batches is not None and step >= self.num_batches:
      raise IndexError(f'there is no batch {step} (of {self.num_batches or "any number"})')
    return step

  def rows(self, step: int) -> Rows:
    """Which examples batch `step` holds, by number of task and of example; reads no tokens."""
    first = self._step(step) * self.batch_size
    return self._planner.rows(first, first + self.batch_size)

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Batch `step`, as `packing.batch_arrays` describes it. Safe to call from many threads.

    Args:
      step: which batch.
      rows: (first, stop), for a host that needs these rows only; it reads no others.
    """
    chunk, place = divmod(self._step(step), self._planner.read_batches)
    begin, end = rows or (0, self.batch_size)
    if not 0 <= begin < end <= self.batch_size:
      raise ValueError(f'there are no rows {rows} in a batch of {self.batch_size}')
    rows, tokens = self._chunks((chunk, begin, end))
    first, stop = place * (end - begin), (place + 1) * (end - begin)
    begin, end = rows.starts[first], rows.starts[stop]
    ends = np.cumsum(np.concatenate([np.zeros((1, 2), np.int64), tokens.lengths]), axis=0)
    return batch_arrays(
        tokens.inputs[ends[begin, 0] : ends[end, 0]],
        tokens.targets[ends[begin, 1] : ends[end, 1]],
        tokens.lengths[begin:end],
        rows.starts[first : stop + 1] - begin,
        self._capacity,
        self.packed,
    )

  def example(self, task: int, example: int) -> Example:
    """One example, by number of task and of example."""
    return decode(self._reader.read(np.array([task]), np.array([example]))[0])

  def tally(self, step: int) -> dict[str, int]:
    """What batch `step` holds of each task and template; see `audit.tally`."""
    rows = self.rows(step)
    return {'steps': 1} | audit_lib.tally(self._names, rows.tasks, self._planner.index_of(rows))

  def promised(self, steps: int) -> np.ndarray:
    """The part of the draws of the first batches that each task should have, float64 [tasks]."""
    return self._planner.expected(steps)

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the tallies of the first steps, added up, say; see `audit.audit`."""
    places = {side: self.batch_size * self.feature_lengths[side] for side in SIDES}
    expected = self.promised(counts.get('steps', 0))
    found = audit_lib.audit(counts, self.manifest.tasks, expected, places)
    known = {'mixture': self.manifest.mixture, 'split': self.manifest.split,
             'batch_size': self.batch_size, 'feature_lengths': self.feature_lengths}
    return known | found

  @functools.cached_property
  def fingerprint(self) -> str:
    content = {
        'engine': ENGINE_VERSION,
        'tasks': [[t.name, t.fingerprint, t.num_examples, t.rate] for t in self.manifest.tasks],
        'shards': [s.sha256 for t in self.manifest.tasks for s in t.shards],
        'seed': self.seed,
        'batch_size': self.batch_size,
        'feature_lengths': [self.feature_lengths[side] for side in SIDES],
        'packed': self.packed,
    }
    if self.mixing != Mixing():
      content['mixing'] = dataclasses.asdict(self.mixing)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

  def describe(self) -> dict[str, Any]:
    """What the source is, for people and programs: plain values only."""
    return {
        'mixture': self.manifest.mixture,
        'split': self.manifest.split,
        'manifest': os.fspath(self.manifest.path),
        'tasks': len(self._names),
        'examples': sum(t.num_examples for t in self.manifest.tasks),
        'truncated': sum(t.truncated for t in self.manifest.tasks),
        'vocabulary': self.manifest.vocabulary,
        'batch_size': self.batch_size,
        'feature_lengths': self.feature_lengths,
        'packed': self.packed,
        'mixing': dataclasses.asdict(self.mixing),
        'num_batches': self.num_batches,
        'fill': dataclasses.asdict(self.fill),
        'rows_per_block': self._planner.block_rows,
        'draws_per_block': self._planner.draws_per_block,
        'draws_per_cycle': self._planner.draws.cycle,
        'shares': self.shares,
        'skipped': dict(self.manifest.skipped),
        'fingerprint': self.fingerprint,
    }

  def __reduce__(self):
    arguments = (self.batch_size, self.seed, self.feature_lengths, self.packed, self.mixing)
    return MixtureSource, (self.manifest, *arguments)


def open_mixture(
    manifest_path: str | os.PathLike,
    *,
    batch_size: int,
    seed: int,
    feature_lengths: Mapping[str, int] | None = None,
    pack: bool = True,
    mixing: Mixing = Mixing(),
    verify: bool | None = None,
) -> MixtureSource:
  """Opens a prepared mixture.

  Args:
    manifest_path: what `prepare` returned.
    batch_size: rows in a batch, over all hosts.
    seed: of the order of everything.
    feature_lengths: {'inputs': n, 'targets': n}, lengths of rows; None: those it was prepared
      with. Longer ones are filled with more examples.
    pack: whether a row holds several examples.
    mixing: how often the tasks are drawn, and how long.
    verify: whether to hash all files; None: if they are small together. Sizes are always checked.

  Raises:
    UserError: an argument is out of range; the manifest or a file is missing, truncated,
      corrupted or of a newer format; an example is longer than a row; a token id is not in the
      vocabulary.
  """
  _check_positive(batch_size, 'batch size')
  manifest = manifest_lib.load(manifest_path)
  lengths = dict(feature_lengths or manifest.sequence_length)
  for side in SIDES:
    _check_positive(lengths.get(side), f'length of {side}')
  for task in manifest.tasks:
    _check_task(task, manifest, lengths)
  files.check_files(manifest.tasks, verify)
  return MixtureSource(manifest, int(batch_size), int(seed), lengths, pack, mixing)


def _check_positive(value: Any, name: str) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
    raise UserError(
        f'The {name} is out of range.', got=repr(value), expected='a whole number above zero'
    )


def _check_task(task: PreparedTask, manifest: Manifest, lengths: Mapping[str, int]):
  """Checks a task by its statistics alone."""
  where = f'task {task.name}, {manifest.path}'
  if task.num_examples < 1:
    raise UserError('A task of the mixture has no example.', where=where)
  if not task.rate > 0 or not np.isfinite(task.rate):
    raise UserError('The rate of a task must be above zero.', where=where, got=task.rate)
  for side in SIDES:
    stats = task.tokens[side]
    if stats.min < 1:
      raise UserError(f'A task has examples without {side}.', where=where)
    if stats.max > lengths[side]:
      raise UserError(
          f'Prepared {side} are longer than a row.', where=where, got=f'{stats.max} tokens',
          expected=f'at most {lengths[side]}',
          hint=f'prepare the mixture with {side}={lengths[side]}, or train with longer rows',
      )
    if stats.max_id >= manifest.vocab_size:
      raise UserError(
          'A token id is not in the vocabulary.', where=where, got=stats.max_id,
          expected=f'ids below {manifest.vocab_size}, the size of {manifest.vocabulary}',
      )
