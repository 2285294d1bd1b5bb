"""Which example the i-th draw of a mixture is, with no state to carry along.

The draws of a mixture come in cycles of M (a power of two). A cycle holds exactly n_k draws of task
k, so the number of task k's draws before draw i is

    count = (i // M) * n_k + (draws of k earlier in this cycle)

and draw i takes the example at position `count % size` of the task's permutation for epoch
`count // size`: every example of a task is used once before any is used twice.

Inside a cycle the r-th draw of task k falls at a random place of the r-th of n_k equal parts
(stratified sampling), anew for every cycle. Any W draws in a row hold W * n_k / M of task k to
within two, where a plain shuffle would stray by the square root.

Where tasks may be drawn only so often, the draws come in stretches of cycles: one ends where a task
has had its last draw, and in the next its share is divided among the others.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from flanjax.errors import UserError
from flanjax.input.memo import Memo

MIN_CYCLE = 4096
MAX_CYCLE = 1 << 20
# A cycle is long enough for the rarest task to be drawn this often, so that rounding to whole draws
# moves no task's share by more than one part in 128.
_RAREST_DRAWS = 64
_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(x: np.ndarray | int) -> np.ndarray:
  """The finaliser of splitmix64 (Steele, Lea and Flood 2014): 64 bits to 64 well-mixed bits."""
  x = np.atleast_1d(np.asarray(x, np.uint64))
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def derive_key(*parts: int | str) -> int:
  """A 64-bit key for a purpose, e.g. `derive_key(seed, 'cycle')`."""
  text = '\0'.join(str(p) for p in parts)
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'little')


def _scramble(
    x: np.ndarray, low_bits: np.ndarray, high_bits: np.ndarray, key: np.ndarray
) -> np.ndarray:
  """A keyed bijection of `low_bits + high_bits` wide numbers: a Feistel network."""
  one = np.uint64(1)
  low_mask, high_mask = (one << low_bits) - one, (one << high_bits) - one
  low, high = x & low_mask, x >> low_bits
  for i in range(0, _ROUNDS, 2):
    low = low ^ (mix64(high ^ (key + _GOLDEN * np.uint64(i + 1))) & low_mask)
    high = high ^ (mix64(low ^ (key + _GOLDEN * np.uint64(i + 2))) & high_mask)
  return (high << low_bits) | low


def permute(index: np.ndarray, size: np.ndarray | int, key: np.ndarray | int) -> np.ndarray:
  """Where a keyed permutation of [0, size) sends `index`; elementwise, without building it.

  The network permutes the next larger power of two; numbers that fall outside [0, size) are sent
  on until they fall inside, which keeps it a bijection (cycle walking, Black and Rogaway 2002).

  >>> sorted(permute(np.arange(5), 5, key=7).tolist())
  [0, 1, 2, 3, 4]

  Args:
    index: integers in [0, size).
    size: how many numbers are permuted, one for all or one per index.
    key: 64-bit key of the permutation, one for all or one per index.

  Returns:
    int64, of the shape of `index`.
  """
  index, size, key = np.broadcast_arrays(
      np.asarray(index, np.uint64), np.asarray(size, np.uint64), np.asarray(key, np.uint64)
  )
  if index.size and not (index < size).all():
    raise ValueError('an index lies outside the permutation')
  bits = np.ceil(np.log2(np.maximum(size, 4).astype(np.float64))).astype(np.uint64)
  low_bits = bits // np.uint64(2)
  high_bits = bits - low_bits
  out = np.zeros(index.shape, np.uint64)
  walking = np.arange(index.size)
  x = index
  with np.errstate(over='ignore'):
    while walking.size:
      x = _scramble(x, low_bits[walking], high_bits[walking], key[walking])
      inside = x < size[walking]
      out[walking[inside]] = x[inside]
      walking, x = walking[~inside], x[~inside]
  return out.astype(np.int64)


def whole_draws(shares: Sequence[float], total: int) -> np.ndarray:
  """Splits `total` draws by `shares`: largest remainder, and at least one for everyone.

  >>> whole_draws([0.5, 0.3, 0.2], 11).tolist()
  [6, 3, 2]
  """
  exact = np.asarray(shares, np.float64) * total
  counts = np.maximum(np.floor(exact).astype(np.int64), 1)
  missing = total - int(counts.sum())
  if missing > 0:
    by_remainder = np.argsort(-(exact - np.floor(exact)), kind='stable')
    np.add.at(counts, np.resize(by_remainder, missing), 1)
  for _ in range(-missing):
    counts[np.argmax(counts)] -= 1
  return counts


def cycle_length(shares: Sequence[float]) -> int:
  """The draws per cycle: a power of two, longer where a task is rare."""
  wanted = _RAREST_DRAWS / min(shares)
  length = MIN_CYCLE
  while length < wanted and length < MAX_CYCLE:
    length *= 2
  while length < 2 * len(shares):
    length *= 2
  return length


@dataclasses.dataclass(frozen=True)
class Draws:
  """Consecutive draws: `tasks` int32[n] numbers the tasks, `examples` int64[n] their examples."""

  tasks: np.ndarray
  examples: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stretch:
  """Cycles that are made up alike.

  Attributes:
    start: its first draw.
    cycles: how many there are; None: without end.
    counts: int64 [tasks], draws of each task in a cycle.
    before: int64 [tasks], draws of each task before it.
    first_cycle: cycles before it.
  """

  start: int
  cycles: int | None
  counts: np.ndarray
  before: np.ndarray
  first_cycle: int

  @property
  def size(self) -> int:
    """Draws in a cycle."""
    return int(self.counts.sum())


def stretches(shares: np.ndarray, budgets: Sequence[int] | None) -> list[Stretch]:
  """The stretches of draws in which every task k has `budgets[k]` of them; None: one, endless.

    >>> [(s.cycles, s.counts.tolist()) for s in stretches(np.array([0.5, 0.5]), [2048, 5000])]
    [(1, [2048, 2048]), (1, [0, 2952])]
  """
  number = len(shares)
  used = np.zeros(number, np.int64)
  if budgets is None:
    counts = whole_draws(shares, cycle_length(shares.tolist()))
    return [Stretch(0, None, counts, used, 0)]
  left, found = np.array(budgets, np.int64), []
  start = cycle = 0
  while (active := np.flatnonzero(left)).size:
    counts = np.zeros(number, np.int64)
    parts = shares[active] / shares[active].sum()
    counts[active] = whole_draws(parts, cycle_length(parts.tolist()))
    cycles_left = left[active] / counts[active]
    ending, whole = active[np.argmin(cycles_left)], int(cycles_left.min())
    # The cycle in which a task ends is as short as what is left of that task makes it.
    rest = left - whole * counts
    short = (counts * (rest[ending] / counts[ending])).astype(np.int64)
    short[ending] = rest[ending]
    for cycles, part in ((whole, counts), (1, np.minimum(short, rest))):
      if cycles and part.any():
        found.append(Stretch(start, cycles, part, used.copy(), cycle))
        start, cycle, used = start + cycles * int(part.sum()), cycle + cycles, used + cycles * part
        left = left - cycles * part
  return found


class DrawSchedule:
  """Draw i of a mixture, for any i >= 0, in constant time.

  Args:
    names: a name for each task. A task's order of examples depends on its name and the seed,
      not on its neighbours.
    sizes: examples in each task.
    shares: the part of the draws that each task shall have; they sum to one.
    seed: another seed, another order.
    budgets: draws that each task has in all; None: without end.
    repeat: whether all begin anew when all budgets are used.

  Attributes:
    stretches: the stretches of a lap (all budgets together).
    lap: draws in a lap; None: without end.
    end: draws in all; None: without end.
  """

  def __init__(
      self,
      names: Sequence[str],
      sizes: Sequence[int],
      shares: Sequence[float],
      seed: int,
      budgets: Sequence[int] | None = None,
      repeat: bool = True,
  ):
    shares = np.asarray(shares, np.float64)
    if not len(shares) or (shares <= 0).any() or not np.isfinite(shares).all():
      bad = [n for n, s in zip(names, shares) if not s > 0] or list(names)
      raise UserError(
          'every task of a mixture needs a share above zero', where=', '.join(bad[:5]),
          got=min(shares, default='no task'),
      )
    self.stretches = stretches(shares / shares.sum(), budgets)
    self._starts = [s.start for s in self.stretches]
    last = self.stretches[-1]
    self.lap = None if last.cycles is None else last.start + last.cycles * last.size
    self.end = None if repeat else self.lap
    self._lap_cycles = None if last.cycles is None else last.first_cycle + last.cycles
    self._lap_counts = None if budgets is None else np.asarray(budgets, np.int64)
    self._sizes = np.asarray(sizes, np.int64)
    self._keys = np.array([derive_key(seed, 'examples', n) for n in names], np.uint64)
    self._cycle_key = derive_key(seed, 'cycle')
    self._slots = Memo(self._slots_of, keep=3)
    self._cycles = Memo(self._order_of_cycle, keep=3)

  @property
  def cycle(self) -> int:
    """Draws in a cycle of the first stretch."""
    return self.stretches[0].size

  @property
  def shares(self) -> np.ndarray:
    """The part of the draws that each task has, float64 [tasks]: of a lap, or without end."""
    if self._lap_counts is not None:
      return self._lap_counts / self.lap
    return self.stretches[0].counts / self.cycle

  def expected(self, draws: int) -> np.ndarray:
    """The part of the first draws that each task is promised, float64 [tasks]."""
    if self.lap is None or not draws:
      return self.shares
    laps, rest = divmod(draws, self.lap)
    counts = laps * self._lap_counts.astype(np.float64)
    for stretch in self.stretches:
      part = min(max(rest - stretch.start, 0), (stretch.cycles or 0) * stretch.size)
      counts += stretch.counts * (part / stretch.size)
    return counts / draws

  def _slots_of(self, stretch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Task, rank among its task's draws, and number of these, of the slots of a cycle."""
    counts = self.stretches[stretch].counts
    first = np.cumsum(counts) - counts
    tasks = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    ranks = (np.arange(len(tasks)) - first[tasks]).astype(np.int32)
    return tasks, ranks, counts[tasks]

  def _order_of_cycle(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Task of every draw of a cycle, and how many draws of that task came before in it."""
    stretch, cycle = key
    tasks, ranks, counts = self._slots(stretch)
    slots = np.arange(len(tasks), dtype=np.uint64)
    with np.errstate(over='ignore'):
      key = mix64(np.uint64(self._cycle_key) ^ mix64(cycle))
      jitter = mix64(key + _GOLDEN * slots) / 2.0**64
    order = np.argsort((ranks + jitter) / counts, kind='stable')
    return tasks[order], ranks[order]

  def __call__(self, start: int, stop: int) -> Draws:
    """The draws [start, stop)."""
    parts = []
    while start < stop:
      lap, place = divmod(start, self.lap) if self.lap else (0, start)
      number = bisect.bisect_right(self._starts, place) - 1
      stretch = self.stretches[number]
      cycle, first = divmod(place - stretch.start, stretch.size)
      unique = lap * (self._lap_cycles or 0) + stretch.first_cycle + cycle
      tasks, ranks = self._cycles((number, unique))
      part = slice(first, min(first + stop - start, stretch.size))
      tasks = tasks[part]
      counts = stretch.before[tasks] + cycle * stretch.counts[tasks] + ranks[part]
      if lap:
        counts += lap * self._lap_counts[tasks]
      parts.append((tasks, counts))
      start += len(tasks)
    tasks, counts = (np.concatenate(p) for p in zip(*parts))
    epochs, positions = np.divmod(counts, self._sizes[tasks])
    with np.errstate(over='ignore'):
      keys = mix64(self._keys[tasks] ^ mix64(epochs))
    return Draws(tasks, permute(positions, self._sizes[tasks], keys))
