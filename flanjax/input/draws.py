"""Which example the i-th draw of an endless mixture is, with no state to carry along.

The draws of a mixture come in cycles of M (a power of two). A cycle holds exactly n_k draws of task
k, so the number of task k's draws before draw i is

    count = (i // M) * n_k + (draws of k earlier in this cycle)

and draw i takes the example at position `count % size` of the task's permutation for epoch
`count // size`: every example of a task is used once before any is used twice.

Inside a cycle the r-th draw of task k falls at a random place of the r-th of n_k equal parts
(stratified sampling), anew for every cycle. Any W draws in a row hold W * n_k / M of task k to
within two, where a plain shuffle would stray by the square root.
"""

from __future__ import annotations

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


class DrawSchedule:
  """Draw i of a mixture, for any i >= 0, in constant time.

  Args:
    names: a name for each task. A task's order of examples depends on its name and the seed,
      not on its neighbours.
    sizes: examples in each task.
    shares: the part of the draws that each task shall have; they sum to one.
    seed: another seed, another order.
  """

  def __init__(
      self, names: Sequence[str], sizes: Sequence[int], shares: Sequence[float], seed: int
  ):
    shares = np.asarray(shares, np.float64)
    if not len(shares) or (shares <= 0).any() or not np.isfinite(shares).all():
      bad = [n for n, s in zip(names, shares) if not s > 0] or list(names)
      raise UserError(
          'every task of a mixture needs a share above zero', where=', '.join(bad[:5]),
          got=min(shares, default='no task'),
      )
    shares = shares / shares.sum()
    self.cycle = cycle_length(shares.tolist())
    self.counts = whole_draws(shares.tolist(), self.cycle)
    self._sizes = np.asarray(sizes, np.int64)
    self._keys = np.array([derive_key(seed, 'examples', n) for n in names], np.uint64)
    self._cycle_key = derive_key(seed, 'cycle')
    first = np.cumsum(self.counts) - self.counts
    self._slot_tasks = np.repeat(np.arange(len(names), dtype=np.int32), self.counts)
    self._slot_counts = self.counts[self._slot_tasks]
    self._slot_ranks = (np.arange(self.cycle) - first[self._slot_tasks]).astype(np.int32)
    self._cycles = Memo(self._order_of_cycle, keep=3)

  def _order_of_cycle(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
    """Task of every draw of a cycle, and how many draws of that task came before in it."""
    slots = np.arange(self.cycle, dtype=np.uint64)
    with np.errstate(over='ignore'):
      key = mix64(np.uint64(self._cycle_key) ^ mix64(cycle))
      jitter = mix64(key + _GOLDEN * slots) / 2.0**64
    order = np.argsort((self._slot_ranks + jitter) / self._slot_counts, kind='stable')
    return self._slot_tasks[order], self._slot_ranks[order]

  def __call__(self, start: int, stop: int) -> Draws:
    """The draws [start, stop)."""
    tasks, counts = [], []
    for cycle in range(start // self.cycle, -(-stop // self.cycle)):
      base = cycle * self.cycle
      part = slice(max(start - base, 0), min(stop - base, self.cycle))
      cycle_tasks, ranks = self._cycles(cycle)
      tasks.append(cycle_tasks[part])
      counts.append(cycle * self.counts[cycle_tasks[part]] + ranks[part])
    tasks, counts = np.concatenate(tasks), np.concatenate(counts)
    epochs, positions = np.divmod(counts, self._sizes[tasks])
    with np.errstate(over='ignore'):
      keys = mix64(self._keys[tasks] ^ mix64(epochs))
    return Draws(tasks, permute(positions, self._sizes[tasks], keys))
