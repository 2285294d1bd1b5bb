"""Normalised text as numpy arrays, and hashes of its words, runs of words and whole texts.

A hash here is a polynomial over code points, or over hashes of words, modulo 2**64. That of any
run is a difference of two prefix sums, so that a million of them cost a few passes over an array.
Two runs with one hash need not be equal: `same_runs` tells.
"""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Sequence

import numpy as np

# What every hash is cut to. A test sets it to a few bits, to see that no finding rests on a hash.
HASH_MASK = 2**64 - 1
_SEPARATOR, _LETTER, _WORD = 0, 1, 2
# Scripts without spaces between words: each of their characters counts as a word.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF),
             (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
# Odd numbers, to have inverses: the fractions of the square roots of 2 and 3.
_LETTER_BASE, _WORD_BASE = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_BLOCK_BITS = 16
_BLOCK = 1 << _BLOCK_BITS


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
  """Texts of which nothing is left but words, in arrays laid end to end.

    ["It's 5 o'clock.", '']  ->  letters  i t s 5 o c l o c k
                                 word_start  [0 2 3 4 5 10]   where words begin in `letters`
                                 text_start  [0 5 5]          where texts begin in words

  Case, width and other compatibility forms are gone (NFKC, case folded); marks that are neither
  letters nor digits part words and are gone too.
  """

  letters: np.ndarray
  word_start: np.ndarray
  text_start: np.ndarray

  def __len__(self) -> int:
    return len(self.text_start) - 1

  @property
  def num_words(self) -> np.ndarray:
    """Words of each text."""
    return np.diff(self.text_start)

  @property
  def word_lengths(self) -> np.ndarray:
    """Letters of each word."""
    return np.diff(self.word_start)

  def words(self, text: int, first: int = 0, count: int | None = None) -> list[str]:
    """Words of a text, from the first-th on."""
    start, end = int(self.text_start[text]) + first, int(self.text_start[text + 1])
    end = end if count is None else min(end, start + count)
    bounds = self.word_start[start : end + 1]
    run = _decode(self.letters[bounds[0] : bounds[-1]]) if end > start else ''
    cuts = [int(b - bounds[0]) for b in bounds]
    return [run[a:b] for a, b in zip(cuts, cuts[1:])]

  def string(self, text: int) -> str:
    """All letters of a text, without spaces: what `exact` compares."""
    start, end = self.word_start[self.text_start[text : text + 2]]
    return _decode(self.letters[start:end])


def _decode(letters: np.ndarray) -> str:
  return letters.astype(np.uint32).tobytes().decode('utf-32-le')


@functools.cache
def _classes() -> np.ndarray:
  """uint8 [code points]: whether a character parts words, is of one, or is one."""
  # C, Z, P and S are controls, spaces, punctuation and symbols; unpaired surrogates cannot come up.
  kinds = [unicodedata.category(chr(c))[0] in 'LMN' for c in range(0x40000)]
  classes = np.zeros(0x110000, np.uint8)
  classes[: len(kinds)] = kinds
  for first, last in _UNSPACED:
    classes[first : last + 1] *= _WORD
  return classes


def normalise(texts: Sequence[bytes | str]) -> Texts:
  """Reads texts (UTF-8) as words; see `Texts`."""
  joined = b'\0'.join(t.encode('utf-8', 'replace') if isinstance(t, str) else t for t in texts)
  if joined.count(b'\0') >= max(len(texts), 1):
    return normalise([(t.encode('utf-8', 'replace') if isinstance(t, str) else t)
                      .replace(b'\0', b' ') for t in texts])
  # A control character never joins what stands before and after it.
  string = joined.decode('utf-8', 'replace')
  if string.isascii():
    codes = np.frombuffer(string.lower().encode(), np.uint8)
  else:
    string = unicodedata.normalize('NFKC', unicodedata.normalize('NFKC', string).casefold())
    codes = np.frombuffer(string.encode('utf-32-le'), np.uint32)
  classes = _classes()[codes]
  used = classes != _SEPARATOR
  alone = classes == _WORD
  starts = used.copy()
  starts[1:] &= ~used[:-1] | alone[1:] | alone[:-1]
  letters = codes[used]
  narrow = np.min_scalar_type(int(letters.max())) if letters.size else np.uint8
  ends = np.append(np.flatnonzero(codes == 0), len(codes))[: len(texts)]
  first_words = np.searchsorted(np.flatnonzero(starts), ends)
  word_start = np.append(np.flatnonzero(starts[used]), len(letters))
  return Texts(letters.astype(narrow), word_start, np.append(0, first_words))


@functools.cache
def _powers(base: int) -> tuple[np.ndarray, np.ndarray]:
  """base**i and base**(65536 i), for i below 65536."""
  tables = []
  for step in (base, pow(base, _BLOCK, 2**64)):
    factors = np.full(_BLOCK, step, np.uint64)
    factors[0] = 1
    tables.append(np.cumprod(factors, dtype=np.uint64))
  return tuple(tables)


def _power(base: int, exponents: np.ndarray) -> np.ndarray:
  low, high = _powers(base)
  return low[exponents & (_BLOCK - 1)] * high[exponents >> _BLOCK_BITS]


def _mixed(values: np.ndarray) -> np.ndarray:
  """Spreads numbers over 64 bits; near ones come apart."""
  values = (values + np.uint64(1)) * _SPREAD
  return (values ^ (values >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _sums(values: np.ndarray, at: np.ndarray, base: int) -> np.ndarray:
  """Sums of mixed(values[i]) * base**i below each place of `at` (ascending)."""
  low, high = _powers(base)
  out = np.zeros(len(at), np.uint64)
  total = np.zeros(1, np.uint64)
  cuts = np.searchsorted(at, np.arange(0, len(values) + _BLOCK, _BLOCK))
  for block, start in enumerate(range(0, len(values), _BLOCK)):
    part = values[start : start + _BLOCK].astype(np.uint64)
    sums = np.cumsum(_mixed(part) * low[: len(part)], dtype=np.uint64) * high[block] + total
    here = slice(cuts[block], cuts[block + 1])
    out[here] = np.append(total, sums)[at[here] - start]
    total = sums[-1:]
  out[cuts[-1] :] = total
  return out


def _runs(sums: np.ndarray, starts: np.ndarray, ends: np.ndarray, places: np.ndarray,
          base: int) -> np.ndarray:
  """Hashes of runs from prefix sums: what begins at places[starts] is moved to place 0."""
  inverse = pow(base, -1, 2**64)
  values = (sums[ends] - sums[starts]) * _power(inverse, places[starts])
  return _mixed(values) & np.uint64(HASH_MASK)


@dataclasses.dataclass(frozen=True, eq=False)
class Hashes:
  """Hashes of some texts.

  Attributes:
    texts: uint64, of each text's letters, words run together.
    words: uint64, of each word.
  """

  texts: np.ndarray
  words: np.ndarray
  _sums: np.ndarray

  def grams(self, n: int) -> np.ndarray:
    """uint64: of the n words from each place on, across the bounds of texts too."""
    places = np.arange(len(self._sums))
    starts = places[: max(len(places) - n, 0)]
    size = np.uint64(n)
    return _mixed(_runs(self._sums, starts, starts + n, places, _WORD_BASE) + size) & np.uint64(
        HASH_MASK)


def hashes(texts: Texts) -> Hashes:
  """The hashes of texts and words."""
  sums = _sums(texts.letters, texts.word_start, _LETTER_BASE)
  places = np.arange(len(texts.word_start))
  words = _runs(sums, places[:-1], places[1:], texts.word_start, _LETTER_BASE)
  bounds = texts.text_start
  whole = _runs(sums, bounds[:-1], bounds[1:], texts.word_start, _LETTER_BASE)
  return Hashes(whole, words, _sums(words, places, _WORD_BASE))


def same_runs(a: np.ndarray, a_start: np.ndarray, b: np.ndarray, b_start: np.ndarray,
              lengths: np.ndarray) -> np.ndarray:
  """bool [k]: whether a[a_start[i]:][:lengths[i]] equals the run of b, for each i."""
  same = np.ones(len(lengths), bool)
  for i in np.flatnonzero(lengths > _BLOCK):
    run, other = (slice(start[i], start[i] + lengths[i]) for start in (a_start, b_start))
    same[i] = np.array_equal(a[run], b[other])
  short = np.flatnonzero((lengths > 0) & (lengths <= _BLOCK))
  # In parts, that a million runs need not lie in memory at once.
  total = np.cumsum(lengths[short], dtype=np.int64)
  cuts = np.searchsorted(total, np.arange(1 << 20, total[-1:].sum(), 1 << 20))
  for rows in np.split(short, cuts):
    if rows.size:
      run, step = expand(lengths[rows])
      equal = a[a_start[rows][run] + step] == b[b_start[rows][run] + step]
      same[rows] = np.logical_and.reduceat(equal, np.cumsum(lengths[rows]) - lengths[rows])
  return same


def expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Each i counts[i] times, and a count within: [2, 1] -> [0 0 1], [0 1 0]."""
  counts = np.asarray(counts, np.int64)
  parents = np.repeat(np.arange(len(counts)), counts)
  firsts = np.cumsum(counts) - counts
  return parents, np.arange(len(parents)) - firsts[parents]
