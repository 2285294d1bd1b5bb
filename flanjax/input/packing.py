"""Several examples in one row: which go together, and the arrays that come of it."""

from __future__ import annotations

import bisect
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Way:
  """A way of packing; which of them works depends on how many examples a row holds.

  Attributes:
    spread: the longest examples, up to this part of all rows, go to the emptiest row instead of
      the fullest. Where rows hold many examples this deals those with long targets out evenly;
      otherwise they meet, short in inputs as they may be, in the rows that are filled last.
    by_scarce: whether "longest" is about the scarce side alone or about the longer of both.
  """

  spread: float = 0.0
  by_scarce: bool = False


WAYS = (Way(), Way(spread=0.3), Way(spread=0.8), Way(spread=0.8, by_scarce=True))


def best_fit(
    lengths: np.ndarray, capacity: tuple[int, int], num_rows: int, way: Way = WAYS[0]
) -> np.ndarray | None:
  """Puts each example into the fullest row that still has room for both of its sides.

  Best fit decreasing (Johnson 1973) in two dimensions: long examples are placed first. Rows are
  looked up by their room on the side that is scarce over all the examples; among rows with the
  same room there, the one whose room on the other side fits best is taken.

  >>> best_fit(np.array([[6, 1], [3, 1], [4, 1], [7, 1]]), (10, 4), num_rows=2).tolist()
  [1, 0, 1, 0]

  Args:
    lengths: int [examples, 2], tokens of inputs and targets; each at most its capacity.
    capacity: tokens in a row, of inputs and of targets.
    num_rows: rows to fill.
    way: what to place first, and where.

  Returns:
    int32 [examples]: the row of each example; None if one had no room.
  """
  lengths = np.asarray(lengths, np.int64)
  parts = lengths / np.asarray(capacity)
  scarce = int(np.argmax(parts.sum(axis=0)))
  size = parts[:, scarce] if way.by_scarce else parts.max(axis=1)
  order = np.argsort(-size, kind='stable')
  num_spread = int((np.cumsum(parts[order, scarce]) <= way.spread * num_rows).sum())
  rows = _Rows(capacity[scarce], capacity[1 - scarce], num_rows)
  placed = np.empty(len(lengths), np.int32)
  needs = lengths[order].tolist()
  for place, (i, need) in enumerate(zip(order.tolist(), needs)):
    take = rows.take_emptiest if place < num_spread else rows.take_fullest
    row = take(need[scarce], need[1 - scarce])
    if row is None:
      return None
    placed[i] = row
  return placed


class _Rows:
  """Rows by the room they have left, of which the fullest or emptiest fit is found quickly."""

  def __init__(self, full: int, other_full: int, num_rows: int):
    self._num_rows = num_rows
    # A row is held as `other_room * num_rows + row` in the sorted list of its scarce room.
    self._by_room: list[list[int]] = [[] for _ in range(full + 1)]
    self._by_room[full] = list(range(other_full * num_rows, (other_full + 1) * num_rows))
    self._occupied = 1 << full  # bit r is set when some row has room for exactly r more tokens

  def take_fullest(self, need: int, other_need: int) -> int | None:
    wanted = other_need * self._num_rows
    room, rooms = need, self._occupied >> need
    while rooms:
      step = (rooms & -rooms).bit_length() - 1
      room += step
      rows = self._by_room[room]
      if rows[-1] >= wanted:
        return self._use(room, bisect.bisect_left(rows, wanted), need, wanted)
      room += 1
      rooms >>= step + 1
    return None

  def take_emptiest(self, need: int, other_need: int) -> int | None:
    wanted = other_need * self._num_rows
    rooms = self._occupied
    while (room := rooms.bit_length() - 1) >= need:
      if self._by_room[room][-1] >= wanted:
        return self._use(room, -1, need, wanted)
      rooms ^= 1 << room
    return None

  def _use(self, room: int, place: int, need: int, wanted: int) -> int:
    rows = self._by_room[room]
    row = rows.pop(place)
    if not rows:
      self._occupied ^= 1 << room
    bisect.insort(self._by_room[room - need], row - wanted)
    self._occupied |= 1 << (room - need)
    return row % self._num_rows


def best_way(
    lengths: np.ndarray, capacity: tuple[int, int], num_rows: int, first: Way = WAYS[0]
) -> tuple[np.ndarray, Way] | None:
  """The rows of `best_fit` by the first way that finds room for everything; None if none does."""
  for way in (first, *(w for w in WAYS if w != first)):
    rows = best_fit(lengths, capacity, num_rows, way)
    if rows is not None:
      return rows, way
  return None


def fill_rows(
    lengths: np.ndarray, capacity: tuple[int, int], num_rows: int, first: Way = WAYS[0]
) -> np.ndarray:
  """Packs as many of the first examples as fit; what is left over is always the end.

  Leaving out whatever does not fit would leave out short examples, which are placed last, and so
  change the mixture. Leaving out the end of the draws does not.

  Returns:
    int32 [kept]: the row of each of the first `kept` examples.
  """
  tokens = np.cumsum(lengths, axis=0, dtype=np.int64)
  kept = int((tokens <= np.asarray(capacity, np.int64) * num_rows).all(axis=1).sum())
  while (found := best_way(lengths[:kept], capacity, num_rows, first)) is None:
    kept -= max(1, kept // 100)
  return found[0]


def _row_offsets(lengths: np.ndarray, row_starts: np.ndarray) -> np.ndarray:
  """Where each example begins in its row, in tokens; int64 [examples]."""
  before = np.cumsum(lengths) - lengths
  per_row = np.diff(row_starts)
  first = np.minimum(row_starts[:-1], max(len(lengths) - 1, 0))
  return before - np.repeat(before[first] if len(lengths) else first, per_row)


def _scatter(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  out = np.zeros(shape[0] * shape[1], np.int32)
  out[places] = values
  return out.reshape(shape)


def _side(
    tokens: np.ndarray, lengths: np.ndarray, row_starts: np.ndarray, row_length: int
) -> dict[str, np.ndarray]:
  """Tokens, segment ids, positions and shifted tokens of one side, each [batch, length]."""
  lengths = lengths.astype(np.int64)
  num_rows = len(row_starts) - 1
  row = np.repeat(np.arange(num_rows), np.diff(row_starts))
  segment = np.arange(len(lengths)) - row_starts[row] + 1
  first_token = np.cumsum(lengths) - lengths
  positions = np.arange(len(tokens)) - np.repeat(first_token, lengths)
  start = row * row_length + _row_offsets(lengths, row_starts)
  places = np.repeat(start, lengths) + positions
  shifted = np.concatenate([np.zeros(1, np.int32), tokens[:-1]]) * (positions > 0)
  shape = (num_rows, row_length)
  return {
      'tokens': _scatter(tokens, places, shape),
      'segment_ids': _scatter(np.repeat(segment, lengths), places, shape),
      'positions': _scatter(positions, places, shape),
      'shifted': _scatter(shifted, places, shape),
  }


def batch_arrays(
    inputs: np.ndarray,
    targets: np.ndarray,
    lengths: np.ndarray,
    row_starts: np.ndarray,
    feature_lengths: tuple[int, int],
    packed: bool,
) -> dict[str, np.ndarray]:
  """The batch dictionary of SeqIO's encoder-decoder feature converter.

  Two examples in one row, inputs [7 8 1] [9 1], targets [5 1] [6 1], lengths 6 and 5:

      encoder_input_tokens   7 8 1 9 1 0     decoder_target_tokens  5 1 6 1 0
      encoder_segment_ids    1 1 1 2 2 0     decoder_segment_ids    1 1 2 2 0
      encoder_positions      0 1 2 0 1 0     decoder_positions      0 1 0 1 0
                                             decoder_input_tokens   0 5 0 6 0
                                             decoder_loss_weights   1 1 1 1 0

  Args:
    inputs: int32, the inputs of all examples one after another.
    targets: int32, their targets likewise.
    lengths: int [examples, 2].
    row_starts: int [batch + 1]; row r holds examples row_starts[r] to row_starts[r + 1].
    feature_lengths: row lengths of inputs and targets.
    packed: whether segment ids and positions are given. Without them a row holds one example.

  Returns:
    int32 [batch, length] arrays; `decoder_loss_weights` is float32.
  """
  encoder = _side(inputs, lengths[:, 0], row_starts, feature_lengths[0])
  decoder = _side(targets, lengths[:, 1], row_starts, feature_lengths[1])
  batch = {
      'encoder_input_tokens': encoder['tokens'],
      'decoder_target_tokens': decoder['tokens'],
      'decoder_input_tokens': decoder['shifted'],
      'decoder_loss_weights': (decoder['segment_ids'] > 0).astype(np.float32),
  }
  if not packed:
    # SeqIO shifts the whole row here, so the last target token is fed to the first padding place.
    batch['decoder_input_tokens'] = np.pad(decoder['tokens'][:, :-1], ((0, 0), (1, 0)))
    return batch
  return batch | {
      'encoder_segment_ids': encoder['segment_ids'],
      'decoder_segment_ids': decoder['segment_ids'],
      'encoder_positions': encoder['positions'],
      'decoder_positions': decoder['positions'],
  }


def unpacked(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The examples of packed rows, each in a row of its own, in the order of rows and segments.

  Args:
    batch: packed, as `batch_arrays` gives it.

  Returns:
    the same features but segment ids and positions, [examples, length].
  """
  places = []
  for row, segments in enumerate(batch['decoder_segment_ids']):
    places += [(row, segment) for segment in range(1, int(segments.max(initial=0)) + 1)]
  made = {}
  for name, values in batch.items():
    side, _, feature = name.partition('_')
    if feature in ('segment_ids', 'positions'):
      continue
    made[name] = np.zeros((len(places), values.shape[1]), values.dtype)
    for example, (row, segment) in enumerate(places):
      own = values[row][batch[f'{side}_segment_ids'][row] == segment]
      made[name][example, : len(own)] = own
  return made
