"""Which evaluation examples the training examples of a task give away, pair by pair."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from flanjax.data import ngrams
from flanjax.data.held_out import HeldOut
from flanjax.data.ngrams import Texts, expand
from flanjax.data.overlap import EXACT, KINDS, Matches
from flanjax.data.task_texts import ANSWER, INPUT, OPTION, Rows

# Another bit beside overlap.KINDS.
GIVEN = 8
# Pairs looked at together, and pairs kept before all but the strongest are dropped.
_MOST_PAIRS, _MOST_KEPT = 1 << 16, 1 << 19


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
  """Evaluation examples and training examples that repeat something of theirs.

  Attributes:
    held: which evaluation example.
    train: the training example's place in its split.
    bits: of overlap.KINDS, and GIVEN where the answer stands there too.
    overlap: the part of the evaluation example's words that are repeated.
    own: the best of its own texts, as a place in `HeldOut.own`; -1 for all of them together.
    at: the word of that text at which the first repeated run begins.
  """

  held: np.ndarray
  train: np.ndarray
  bits: np.ndarray
  overlap: np.ndarray
  own: np.ndarray
  at: np.ndarray

  def take(self, which: np.ndarray) -> Pairs:
    return Pairs(*(getattr(self, f.name)[which] for f in dataclasses.fields(self)))

  @classmethod
  def joined(cls, parts: list[Pairs]) -> Pairs:
    return cls(*(np.concatenate([getattr(p, f.name) for p in parts])
                 for f in dataclasses.fields(cls)))

  def order(self, limit: int) -> np.ndarray:
    """Places of at most so many of each evaluation example, by example, the strongest first."""
    order = np.lexsort((self.train, -self.overlap, -strength(self.bits), self.held))
    held = self.held[order]
    rank = np.arange(len(held)) - np.searchsorted(held, held, 'left')
    return order[rank < limit]


def strongest(bits: np.ndarray) -> np.ndarray:
  """The strongest of the kinds that bits stand for, 0 for none."""
  return np.select([bits & kind > 0 for kind in KINDS[::-1]], KINDS[::-1], 0)


def strength(bits: np.ndarray) -> np.ndarray:
  """What pairs are ordered by: the answer given away, then the strongest kind."""
  return (bits & GIVEN).astype(np.int64) + strongest(bits)


class Finder:
  """Looks up training examples among evaluation examples."""

  def __init__(self, held_out: HeldOut):
    self._held_out, self.num_held = held_out, len(held_out)
    self._size = len(held_out.index.texts)
    self._words = held_out.index.texts.num_words
    owner, _ = expand(np.diff(held_out.own_start))
    evidence = np.flatnonzero(held_out.own_evidence)
    order = evidence[np.argsort(held_out.own[evidence], kind='stable')]
    # Evaluation examples by the texts that are evidence of them.
    self._examples = owner[order]
    self._first_example = np.searchsorted(held_out.own[order], np.arange(self._size + 1))
    self._total = np.maximum(_sums(self._words[held_out.own], held_out.own_start), 1)
    self._answer = functools.lru_cache(4096)(
        lambda text: ' ' + ' '.join(held_out.index.texts.words(text)) + ' ')
    self._index_wholes()

  def _index_wholes(self) -> None:
    """Sums of the hashes of all inputs, whatever their order, of examples of short texts."""
    held_out = self._held_out
    hashes = ngrams.hashes(held_out.index.texts).texts
    owner, _ = expand(np.diff(held_out.inputs_start))
    sums = np.zeros(len(held_out), np.uint64)
    np.add.at(sums, owner, hashes[held_out.inputs])
    wholes = np.flatnonzero(held_out.is_whole)
    self._wholes = wholes[np.argsort(sums[wholes], kind='stable')]
    self._whole_hashes = sums[self._wholes]

  def find(self, rows: Rows) -> Iterator[Pairs]:
    """The pairs of some training examples, in parts, each pair once."""
    if not len(rows.ids):
      return
    texts = ngrams.normalise(rows.texts)
    hashes = ngrams.hashes(texts)
    matches = self._held_out.index.match(texts, hashes)
    repeats = _Repeats.of(matches, rows, self._size)
    wholes = self._find_wholes(rows, texts, hashes)
    if len(wholes):
      yield self._pairs(rows, texts, repeats, *self._split(wholes), whole=True)
    for keys in self._candidates(repeats, len(rows.ids)):
      keys = keys[~np.isin(keys, wholes)]
      if len(keys):
        yield self._pairs(rows, texts, repeats, *self._split(keys))

  def _split(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, evaluation examples) of keys `row * examples + example`."""
    return np.divmod(keys, len(self._held_out))

  def _candidates(self, repeats: _Repeats, num_rows: int) -> Iterator[np.ndarray]:
    """Keys of pairs with any evidence, each once, a limited number at a time."""
    count = np.diff(self._first_example)[repeats.known]
    total = np.cumsum(np.bincount(repeats.row, count, num_rows))
    cuts = np.unique(np.searchsorted(total, np.arange(0, total[-1] + _MOST_PAIRS, _MOST_PAIRS)))
    bounds = np.searchsorted(repeats.row, np.append(cuts, num_rows))
    for first, last in zip(bounds[:-1], bounds[1:]):
      here = slice(first, last)
      entry, step = expand(count[here])
      held = self._examples[self._first_example[repeats.known[here]][entry] + step]
      yield np.unique(repeats.row[here][entry] * len(self._held_out) + held)

  def _find_wholes(self, rows: Rows, texts: Texts, hashes: ngrams.Hashes) -> np.ndarray:
    """Keys of pairs whose inputs are the same texts, whatever their names and their order."""
    inputs = (rows.role == INPUT) & (texts.num_words[rows.text] > 0)
    sums = np.zeros(len(rows.ids), np.uint64)
    np.add.at(sums, rows.row[inputs], hashes.texts[rows.text[inputs]])
    first = np.searchsorted(self._whole_hashes, sums, 'left')
    row, step = expand(np.searchsorted(self._whole_hashes, sums, 'right') - first)
    held = self._wholes[first[row] + step]
    same = [self._same_inputs(rows, texts, inputs, r, x)
            for r, x in zip(row.tolist(), held.tolist())]
    return (row * len(self._held_out) + held)[np.array(same, bool)]

  def _same_inputs(self, rows: Rows, texts: Texts, inputs: np.ndarray, row: int, held: int) -> bool:
    held_out = self._held_out
    own = held_out.inputs[held_out.inputs_start[held] : held_out.inputs_start[held + 1]]
    other = rows.text[inputs & (rows.row == row)]
    return sorted(map(held_out.index.texts.string, own)) == sorted(map(texts.string, other))

  def _pairs(self, rows: Rows, texts: Texts, repeats: _Repeats, row: np.ndarray, held: np.ndarray,
             whole: bool = False) -> Pairs:
    held_out = self._held_out
    pair, place = _listed(held_out.own_start, held)
    starts = _starts(held_out.own_start, held)
    kinds, covered, at = repeats.look_up(row[pair], held_out.own[place])
    kinds = np.where(held_out.own_evidence[place], kinds, 0).astype(np.uint8)
    some_input = whole | (_sums(held_out.own_input[place] & (kinds > 0), starts) > 0)
    if whole:
      bits, overlap = np.full(len(row), EXACT, np.uint8), np.ones(len(row))
      best, at = np.full(len(row), -1), np.zeros(len(row))
    else:
      bits, overlap = _any_bits(kinds, starts), _sums(covered, starts) / self._total[held]
      first = _first_best(strength(kinds) * 1e9 + covered, starts)
      best, at = place[first], at[first]
    given = self._given(rows, texts, repeats, row, held, some_input)
    bits = bits | np.where(given, GIVEN, 0).astype(np.uint8)
    # Rounded, for how sums are rounded depends on the pairs beside.
    overlap = np.minimum(np.round(overlap, 5), 1).astype(np.float32)
    return Pairs(held, rows.ids[row], bits, overlap, best, at.astype(np.int64))

  def _every_input(self, repeats: _Repeats, row: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether all inputs of an evaluation example are there, each as a text of its own."""
    held_out = self._held_out
    pair, place = _listed(held_out.inputs_start, held)
    kinds, _, _ = repeats.look_up(row[pair], held_out.inputs[place])
    lacking = (kinds & EXACT == 0) & ~held_out.inputs_fixed[place]
    return _sums(lacking, _starts(held_out.inputs_start, held)) == 0

  def _given(self, rows, texts, repeats, row, held, some_input) -> np.ndarray:
    """Whether the training example of a pair tells the evaluation example's answer.

    A label counts where all inputs are there, exactly, and the label is the training example's
    answer: to one passage there are many questions, and a word may turn a label. Any other answer
    counts where some input is repeated, and the answer is the training example's or stands in one
    of its texts (not just among its options) though in no input.
    """
    held_out = self._held_out
    pair, place = _listed(held_out.answers_start, held)
    same = repeats.is_answer(row[pair], held_out.answers[place])
    answered = _sums(same, _starts(held_out.answers_start, held)) > 0
    label = held_out.is_label[held]
    given = answered & np.where(label, self._every_input(repeats, row, held), some_input)
    open_pairs = some_input & ~label & ~given
    searched = held_out.answers_searched[place] & open_pairs[pair]
    page, last = '', -1
    for p, text in zip(pair[searched].tolist(), held_out.answers[place[searched]].tolist()):
      if row[p] != last:
        last = row[p]
        page = self._page(rows, texts, last)
      given[p] |= self._answer(text) in page
    return given

  def _page(self, rows: Rows, texts: Texts, row: int) -> str:
    """Everything a training example says but its options."""
    here = rows.text[(rows.row == row) & (rows.role != OPTION)]
    return ' | '.join(' ' + ' '.join(texts.words(t)) + ' ' for t in dict.fromkeys(here.tolist()))


@dataclasses.dataclass(frozen=True, eq=False)
class _Repeats:
  """What each training example repeats of each text of the index, ordered by both."""

  row: np.ndarray
  known: np.ndarray
  keys: np.ndarray
  matches: Matches
  answers: np.ndarray
  size: int

  @classmethod
  def of(cls, matches: Matches, rows: Rows, size: int) -> _Repeats:
    order = np.argsort(rows.text, kind='stable')
    first = np.searchsorted(rows.text[order], np.arange(len(rows.texts) + 1))
    entry, step = expand(np.diff(first)[matches.text])
    place = order[first[matches.text[entry]] + step]
    row = rows.row[place]
    merged = Matches.merged([Matches(row, *(
        getattr(matches, name)[entry] for name in ('known', 'kinds', 'covered', 'at')))], size)
    is_answer = (rows.role[place] == ANSWER) & (matches.kinds[entry] & EXACT > 0)
    answers = np.unique(row[is_answer] * size + matches.known[entry[is_answer]])
    keys = merged.text * size + merged.known
    return cls(merged.text, merged.known, keys, merged, answers, size)

  def look_up(self, row: np.ndarray, known: np.ndarray):
    """(kinds, covered, at) of each pair, zeros for what is not repeated."""
    wanted = row * self.size + known
    place = np.searchsorted(self.keys, wanted)
    there = np.append(self.keys, -1)[place] == wanted
    found = (self.matches.kinds, self.matches.covered, self.matches.at)
    return [np.where(there, np.append(column, column.dtype.type(0))[place], column.dtype.type(0))
            for column in found]

  def is_answer(self, row: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether a text is an answer of a training example."""
    return np.isin(row * self.size + known, self.answers)


def _listed(starts: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Places of the lists of some examples, laid end to end, and which example each is of."""
  pair, step = expand(np.diff(starts)[which])
  return pair, starts[which][pair] + step


def _starts(starts: np.ndarray, which: np.ndarray) -> np.ndarray:
  """Where those lists start, so laid end to end, and their end."""
  return np.append(0, np.cumsum(np.diff(starts)[which]))


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
  """Sums of values[starts[i]:starts[i + 1]], which may be empty."""
  total = np.append(0, np.cumsum(values, dtype=np.float64))
  return total[starts[1:]] - total[starts[:-1]]


def _any_bits(bits: np.ndarray, starts: np.ndarray) -> np.ndarray:
  out = np.zeros(len(starts) - 1, np.uint8)
  for kind in KINDS:
    out |= np.where(_sums(bits & kind, starts) > 0, kind, 0).astype(np.uint8)
  return out


def _first_best(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
  """Place of the first largest of values[starts[i]:starts[i + 1]], none of which may be empty."""
  group, _ = expand(np.diff(starts))
  order = np.lexsort((np.arange(len(values)), -values, group))
  return order[starts[:-1]]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a task's training examples found.

  Attributes:
    examples: how many they are.
    held, bits, counts: the evaluation examples met, all kinds of finding, and by how many.
    pairs: the strongest of each.
  """

  examples: int
  held: np.ndarray
  bits: np.ndarray
  counts: np.ndarray
  pairs: Pairs


class Tally:
  """Everything found by a task's training examples, and the strongest few pairs of each example."""

  def __init__(self, num_held: int, limit: int):
    self._bits = np.zeros(num_held, np.uint8)
    self._counts = np.zeros(num_held, np.int64)
    self._limit = limit
    self._parts: list[Pairs] = []
    self._waiting = 0

  def add(self, pairs: Pairs) -> None:
    np.bitwise_or.at(self._bits, pairs.held, pairs.bits)
    np.add.at(self._counts, pairs.held, 1)
    self._parts.append(pairs.take(pairs.order(self._limit)))
    self._waiting += len(self._parts[-1].held)
    if self._waiting > _MOST_KEPT:
      self._parts = [self._pairs()]
      self._waiting = 0

  def found(self, examples: int) -> Found:
    held = np.flatnonzero(self._bits)
    return Found(examples, held, self._bits[held], self._counts[held], self._pairs())

  def _pairs(self) -> Pairs:
    none = Pairs(*(np.zeros(0, kind) for kind in (
        np.int64, np.int64, np.uint8, np.float32, np.int64, np.int64)))
    pairs = Pairs.joined([none, *self._parts])
    return pairs.take(pairs.order(self._limit))
