"""Which examples stand in which row, decided from their lengths alone, block by block.

Block b of a packed mixture is made of the draws [b * D, (b + 1) * D) and of nothing else. D is such
that a block is nearly always full and hardly ever has a draw too many; those are left out. Where
tasks end, D changes with the lengths of those that go on, and the last block has fewer rows.
"""

from __future__ import annotations

import bisect
import dataclasses

import numpy as np

from flanjax.errors import UserError
from flanjax.input import files
from flanjax.input import manifest as manifest_lib
from flanjax.input.draws import Draws, DrawSchedule, derive_key, permute
from flanjax.input.manifest import SIDES, Manifest, PreparedTask
from flanjax.input.memo import Memo
from flanjax.input.mixing import Mixing
from flanjax.input.packing import Way, best_way, fill_rows

# Rows packed together: more make fuller rows, fewer are quicker to reach. A block of a small
# mixture is about one epoch of it.
_BLOCK_ROWS = (256, 1024)
# Examples read at a time. Reading few at a time from many shards is what costs.
_READ_EXAMPLES = 1024
# By how many standard deviations of a block's length D stays below what a block holds on average.
# For normal lengths the part left out is then 0.12 standard deviations, which are about 1 %.
_SPARE_DEVIATIONS = 0.8
# D is tried on this many blocks, each time to one part in 128 of a block's room.
_TRIALS, _BISECTIONS = 2, 6


@dataclasses.dataclass(frozen=True)
class Fill:
  """How full the rows are, measured on the first two blocks.

  Attributes:
    inputs: part of the encoder's places that hold a token.
    targets: part of the decoder's.
    row: as either, each row by its fuller side: nothing more can go where one side is full.
    examples_per_row: on average.
    left_out: part of the draws for which their block had no room.
  """

  inputs: float
  targets: float
  row: float
  examples_per_row: float
  left_out: float


@dataclasses.dataclass(frozen=True)
class Rows:
  """Examples sorted by row.

  Attributes:
    tasks: int32 [examples], numbers of tasks.
    examples: int64 [examples], examples of these tasks.
    starts: int64 [rows + 1]; row r holds the examples from starts[r] to starts[r + 1].
  """

  tasks: np.ndarray
  examples: np.ndarray
  starts: np.ndarray

  def part(self, first: int, stop: int) -> Rows:
    """The rows [first, stop)."""
    begin, end = self.starts[first], self.starts[stop]
    starts = self.starts[first : stop + 1] - begin
    return Rows(self.tasks[begin:end], self.examples[begin:end], starts)


def joined(parts: list[Rows]) -> Rows:
  """Rows one after another."""
  offsets = np.cumsum([0] + [len(p.tasks) for p in parts])
  starts = [p.starts[:-1] + offset for p, offset in zip(parts, offsets)]
  return Rows(
      np.concatenate([p.tasks for p in parts]),
      np.concatenate([p.examples for p in parts]),
      np.concatenate(starts + [offsets[-1:]]),
  )


@dataclasses.dataclass(frozen=True)
class _Run:
  """Blocks of one size: `first` is the first of them, `start` its first draw, `size` their draws."""

  first: int
  start: int
  size: int


class BlockPlanner:
  """The rows of a mixture; any of them in constant time.

  Args:
    manifest: the mixture.
    batch_size: rows in a batch.
    seed: another seed, other rows.
    capacity: tokens in a row, of inputs and of targets.
    pack: whether a row holds several examples. Otherwise row r holds draw r.
    mixing: how often the tasks are drawn.

  Attributes:
    draws: the draws.
    shares: the part of the draws that each task has, float64 [tasks].
    fill: how full the rows are.
    num_batches: batches in all; None: without end.
  """

  def __init__(
      self, manifest: Manifest, batch_size: int, seed: int, capacity: tuple[int, int], pack: bool,
      mixing: Mixing = Mixing(),
  ):
    self._tasks, self._batch_size, self._seed = manifest.tasks, batch_size, seed
    self._capacity, self._pack = capacity, pack
    # All in memory: eight bytes for each example, or twelve where rows are very long.
    kind = np.uint16 if max(capacity) <= np.iinfo(np.uint16).max else np.int32
    indices = [files.open_index(t) for t in manifest.tasks]
    for task, index in zip(manifest.tasks, indices):
      self._check_lengths(task, index[:, :2])
    self._lengths = np.concatenate([index[:, :2].astype(kind) for index in indices])
    self._rest = np.concatenate([index[:, 2:].astype(np.uint16) for index in indices])
    sizes = [t.num_examples for t in manifest.tasks]
    self._starts = np.cumsum([0] + sizes)[:-1]
    arguments = ([t.name for t in manifest.tasks], sizes, mixing.shares(manifest), seed)
    budgets = mixing.budgets(manifest)
    self.draws = DrawSchedule(*arguments, budgets, repeat=mixing.at_end == 'repeat')
    self.shares = self.draws.shares
    self._blocks = Memo(self._plan, keep=4)
    if pack:
      self._size_packed_blocks(sum(sizes), DrawSchedule(*arguments) if budgets else self.draws)
    else:
      self.read_batches = self.batches_per_block = self._batches(_READ_EXAMPLES)
      self.draws_per_block = self.block_rows
    self._lay_out()
    self.fill = self._measure(2 if pack else 1)

  def _batches(self, rows: float) -> int:
    return max(1, round(rows / self._batch_size))

  @property
  def block_rows(self) -> int:
    return self.batches_per_block * self._batch_size

  def _size_packed_blocks(self, num_examples: int, draws: DrawSchedule) -> None:
    """Chooses batches per block, and D from the statistics of the lengths and trials."""
    parts = draws.shares
    means = parts @ self._statistics('mean')
    variances = parts @ self._statistics('std') ** 2
    scarce = int(np.argmax(means / self._capacity))
    mean, variance = means[scarce], variances[scarce]
    per_row = self._capacity[scarce] / mean
    self.read_batches = self._batches(_READ_EXAMPLES / per_row)
    reads = np.clip(num_examples / per_row, *_BLOCK_ROWS) / (self.read_batches * self._batch_size)
    self.batches_per_block = max(1, round(reads)) * self.read_batches
    most = int(per_row * self.block_rows)
    deviation = np.sqrt(variance / most) / mean
    spare = max(1 - _SPARE_DEVIATIONS * deviation, 0.5)
    trials = [self._reachable_fill(draws(i * most, (i + 1) * most)) for i in range(_TRIALS)]
    reached, self._way = min(trials, key=lambda trial: trial[0])
    self.draws_per_block = max(1, int(most * reached * spare))

  def _statistics(self, name: str) -> np.ndarray:
    """A statistic of the lengths of each task, float64 [tasks, 2]."""
    return np.array([[getattr(t.tokens[side], name) for side in SIDES] for t in self._tasks])

  def _lay_out(self) -> None:
    """Which draws each block of a lap is made of."""
    self._runs, self._lap_rows, self.num_batches = [_Run(0, 0, self.draws_per_block)], None, None
    if self.draws.lap is None:
      return
    self._runs, block, start = [], 0, 0
    means = self._statistics('mean') / self._capacity
    loads = [float((s.counts / s.size @ means).max()) for s in self.draws.stretches]
    for stretch, load in zip(self.draws.stretches, loads):
      end = stretch.start + stretch.cycles * stretch.size
      size = self.draws_per_block
      if self._pack:
        size = max(1, int(size * loads[0] / load))
      if start < end:
        self._runs.append(_Run(block, start, size))
        blocks = -(-(end - start) // size)
        block, start = block + blocks, start + blocks * size
    last = self._runs[-1].size
    rest = self.draws.lap - (start - last)
    batches = max(1, -(-rest * self.batches_per_block // last))
    self._lap_rows = ((block - 1) * self.batches_per_block + batches) * self._batch_size
    if self.draws.end is not None:
      self.num_batches = self._lap_rows // self._batch_size

  def _extent(self, lap: int, block: int) -> tuple[int, int, int]:
    """First draw, draw after the last, and rows of a block."""
    run = self._runs[bisect.bisect_right(self._runs, block, key=lambda r: r.first) - 1]
    start = run.start + (block - run.first) * run.size
    if self._lap_rows is None:
      return start, start + run.size, self.block_rows
    begin = lap * self.draws.lap
    rows = min(self.block_rows, self._lap_rows - block * self.block_rows)
    return begin + start, begin + min(start + run.size, self.draws.lap), rows

  def expected(self, steps: int) -> np.ndarray:
    """The part that each task is promised of the draws of the first batches, float64 [tasks]."""
    if self._lap_rows is None or not steps:
      return self.shares
    lap, row = divmod(steps * self._batch_size, self._lap_rows)
    draws = lap * self.draws.lap
    if row:
      start, stop, _ = self._extent(lap, (row - 1) // self.block_rows)
      part = (row - (row - 1) // self.block_rows * self.block_rows) / self.block_rows
      draws = int(start + part * (stop - start))
    return self.draws.expected(draws)

  def _reachable_fill(self, draws: Draws) -> tuple[float, Way]:
    """The part of a block's room that packing can use for some draws, and by which way."""
    lengths = self.lengths_of(draws)
    room = np.asarray(self._capacity, np.int64) * self.block_rows
    used = (np.cumsum(lengths, axis=0, dtype=np.int64) / room).max(axis=1)
    reached, too_much, way = 0.5, 1.0, Way()
    for _ in range(_BISECTIONS):
      part = (reached + too_much) / 2
      found = best_way(lengths[used <= part], self._capacity, self.block_rows, way)
      if found is None:
        too_much = part
      else:
        reached, way = part, found[1]
    return reached, way

  def _measure(self, blocks: int) -> Fill:
    if self._lap_rows is not None:
      blocks = min(blocks, -(-self._lap_rows // self.block_rows))
    plans = [self._blocks((0, b)) for b in range(blocks)]
    drawn = sum(stop - start for start, stop, _ in (self._extent(0, b) for b in range(blocks)))
    parts = np.concatenate([self._filled(p) for p in plans])
    inputs, targets = parts.mean(axis=0).tolist()
    kept = sum(len(p.tasks) for p in plans)
    row = float(parts.max(axis=1).mean())
    return Fill(inputs, targets, row, kept / len(parts), 1 - kept / drawn)

  def _filled(self, rows: Rows) -> np.ndarray:
    """How full both sides of each row are, [rows, 2]."""
    tokens = np.cumsum(self.lengths_of(rows), axis=0, dtype=np.int64)
    ends = np.concatenate([np.zeros((1, 2), np.int64), tokens])[rows.starts]
    return np.diff(ends, axis=0) / self._capacity

  def _check_lengths(self, task: PreparedTask, lengths: np.ndarray) -> None:
    """Raises UserError where a length is below 1 or above the length of a row."""
    bad = ((lengths < 1) | (lengths > self._capacity)).any(axis=1)
    if bad.any():
      at = int(np.argmax(bad))
      raise UserError(
          'A prepared example has a length that cannot be.',
          where=f'task {task.name}, example {at}, {task.path / task.index.file}',
          got=lengths[at].tolist(),
          expected=f'between [1, 1] and {list(self._capacity)}',
          hint=manifest_lib.PREPARE_AGAIN,
      )

  def lengths_of(self, draws: Draws | Rows) -> np.ndarray:
    """Lengths of examples, int32 [examples, 2]."""
    return self._lengths[self._starts[draws.tasks] + draws.examples].astype(np.int32)

  def index_of(self, draws: Draws | Rows) -> np.ndarray:
    """All that is known of examples without reading them, int32 [examples, 4]."""
    numbers = self._starts[draws.tasks] + draws.examples
    return np.concatenate([self._lengths[numbers], self._rest[numbers]], axis=1, dtype=np.int32)

  def _plan(self, key: tuple[int, int]) -> Rows:
    lap, block = key
    start, stop, num_rows = self._extent(lap, block)
    draws = self.draws(start, stop)
    if not self._pack:
      starts = np.minimum(np.arange(num_rows + 1), len(draws.tasks))
      return Rows(draws.tasks, draws.examples, starts)
    rows = fill_rows(self.lengths_of(draws), self._capacity, num_rows, self._way)
    number = block if self._lap_rows is None else lap * -(-self._lap_rows // self.block_rows) + block
    rows = permute(rows, num_rows, derive_key(self._seed, 'rows', number))
    order = np.argsort(rows, kind='stable')
    starts = np.searchsorted(rows[order], np.arange(num_rows + 1))
    return Rows(draws.tasks[order], draws.examples[order], starts)

  def rows(self, first: int, stop: int) -> Rows:
    """The rows [first, stop) of the mixture; row r belongs to batch r // batch_size.

    Raises:
      IndexError: the mixture ends before.
    """
    if self.num_batches is not None and stop > self.num_batches * self._batch_size:
      raise IndexError(f'the mixture ends after {self.num_batches} batches')
    parts = []
    while first < stop:
      lap, row = divmod(first, self._lap_rows) if self._lap_rows else (0, first)
      block, begin = divmod(row, self.block_rows)
      plan = self._blocks((lap, block))
      end = min(begin + stop - first, len(plan.starts) - 1)
      parts.append(plan.part(begin, end))
      first += end - begin
    return joined(parts)
