"""An index of texts, and which of them other texts repeat: whole, in runs of words, or nearly.

Every finding is read off the texts themselves; hashes only say where to look.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from flanjax.data import minhash, ngrams
from flanjax.data.ngrams import Texts, expand, same_runs

# Kinds of finding, as bits, the strongest highest.
NGRAM, NEAR, EXACT = KINDS = (1, 2, 4)
# Shorter texts are common by chance. Brown et al. 2020 (appendix C) look at no run below 8 words.
LEAST_WORDS = 8
_MOST_HITS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Settings:
  """What counts as a finding.

  Attributes:
    ngram: words of a run. A text of fewer words, if it has LEAST_WORDS, is a run as a whole.
    shingle: words of the runs whose sets are compared for near-duplicates.
    threshold: the Jaccard similarity of these sets from which on texts are near-duplicates.
  """

  ngram: int = 13
  shingle: int = 2
  threshold: float = 0.8

  @property
  def least_words(self) -> int:
    """Words of a text from which on it is evidence by itself."""
    return min(LEAST_WORDS, self.ngram)


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
  """Texts that repeat texts of an index: one entry for a pair of texts.

  Attributes:
    text: which of the texts looked up.
    known: which of the index.
    kinds: bits of KINDS.
    covered: words of the known text that are repeated; of a near-duplicate, its share of them.
    at: word of the known text where the first repeated run begins.
  """

  text: np.ndarray
  known: np.ndarray
  kinds: np.ndarray
  covered: np.ndarray
  at: np.ndarray

  @classmethod
  def merged(cls, parts: list[Matches], size: int) -> Matches:
    """One entry a pair: all its kinds, the most words, the first part's place."""
    columns = [np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(cls)]
    text, known, kinds, covered, at = columns
    pairs, first, inverse = np.unique(text * size + known, return_index=True, return_inverse=True)
    bits, most = np.zeros(len(pairs), np.uint8), np.zeros(len(pairs), np.float32)
    np.bitwise_or.at(bits, inverse, kinds)
    np.maximum.at(most, inverse, covered)
    return cls(*np.divmod(pairs, max(size, 1)), bits, most, at[first])


def _found(text, known, kind: int, covered, at=None) -> Matches:
  at = np.zeros(len(text), np.int32) if at is None else at
  return Matches(np.asarray(text, np.int64), np.asarray(known, np.int64),
                 np.full(len(text), kind, np.uint8), np.asarray(covered, np.float32), at)


class Bits:
  """A set of hashes that may claim one too many (about one of thirty), in four bytes a hash."""

  def __init__(self, table: np.ndarray):
    self.table = table
    self._shift = np.uint64(64 - (len(table) * 8 - 1).bit_length())

  @classmethod
  def of(cls, hashes: np.ndarray) -> Bits:
    size = 1 << max(10, min(33, (32 * len(hashes)).bit_length()))
    bits = cls(np.zeros(size // 8, np.uint8))
    places = bits._places(hashes)
    np.bitwise_or.at(bits.table, places >> 3, bits._bit(places))
    return bits

  def _places(self, hashes: np.ndarray) -> np.ndarray:
    return (hashes >> self._shift).astype(np.int64)

  @staticmethod
  def _bit(places: np.ndarray) -> np.ndarray:
    return np.uint8(1) << (places & 7).astype(np.uint8)

  def may_hold(self, hashes: np.ndarray) -> np.ndarray:
    places = self._places(hashes)
    return (self.table[places >> 3] & self._bit(places)) > 0


def _look_up(table: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """First place and number of each hash in an ascending table."""
  first = np.searchsorted(table, hashes, 'left')
  return first, np.searchsorted(table, hashes, 'right') - first


def _text_of_word(texts: Texts) -> np.ndarray:
  return np.repeat(np.arange(len(texts)), texts.num_words)


def _same_words(a: Texts, i: np.ndarray, b: Texts, j: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Whether so many words from a's i-th and b's j-th on are the same words."""
  same = same_runs(a.word_lengths, i, b.word_lengths, j, counts)
  i, j = i[same], j[same]
  lengths = a.word_start[i + counts[same]] - a.word_start[i]
  same[same] = same_runs(a.letters, a.word_start[i], b.letters, b.word_start[j], lengths)
  return same


def _shingles(texts: Texts, grams: np.ndarray, which: np.ndarray, n: int):
  """Of the hashes of all runs of n words: those of some texts, and how many each has."""
  counts = texts.num_words[which] - n + 1
  rows, step = expand(counts)
  return grams[texts.text_start[which][rows] + step], counts


def jaccard(a: frozenset, b: frozenset) -> float:
  """|a and b| / |a or b|."""
  return len(a & b) / max(len(a | b), 1)


def shingle_set(words: list[str], n: int) -> frozenset[tuple[str, ...]]:
  """The runs of n words of a text."""
  return frozenset(zip(*(words[i:] for i in range(n))))


class Index:
  """Texts, to be looked up by others.

  Args:
    texts: the texts.
    arrays: from `build`, or as `save` wrote them.
    settings: what counts as a finding.
  """

  def __init__(self, texts: Texts, arrays: dict[str, np.ndarray], settings: Settings):
    self.texts, self.settings, self._arrays = texts, settings, arrays
    self._text_of_word = arrays['text_of_word']
    # A run is as long as its text where that is shorter than the runs asked for.
    self._sizes = np.minimum(texts.num_words, settings.ngram)
    self._gram_bits, self._shingle_bits = Bits(arrays['gram_bits']), Bits(arrays['shingle_bits'])
    self._bands = minhash.Bands(arrays['band_hashes'], arrays['band_texts'])
    self._shingle_set = functools.lru_cache(4096)(self._read_shingles)

  @classmethod
  def build(cls, texts: Texts, wanted: np.ndarray, settings: Settings) -> Index:
    """Of `texts`; runs and near-duplicates are looked for of the `wanted` ones (bool) alone."""
    hashes = ngrams.hashes(texts)
    order = np.argsort(hashes.texts, kind='stable').astype(np.int32)
    arrays = {'exact_hashes': hashes.texts[order], 'exact_texts': order,
              'text_of_word': _text_of_word(texts).astype(np.int32)}
    words = texts.num_words
    sizes = np.where(
        wanted & (words >= settings.least_words), np.minimum(words, settings.ngram), 0)
    grams, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for size in np.unique(sizes[sizes > 0]):
      which = np.flatnonzero(sizes == size)
      rows, step = expand(words[which] - size + 1)
      places.append(texts.text_start[which][rows] + step)
      grams.append(hashes.grams(int(size))[places[-1]])
    grams, places = np.concatenate(grams), np.concatenate(places)
    order = np.argsort(grams, kind='stable')
    arrays |= {'gram_hashes': grams[order], 'gram_words': places[order].astype(np.int32),
               'gram_sizes': np.unique(sizes[sizes > 0]), 'gram_bits': Bits.of(grams).table}
    compared = np.flatnonzero(wanted & (words >= LEAST_WORDS))
    shingles, counts = _shingles(
        texts, hashes.grams(settings.shingle), compared, settings.shingle)
    bands = minhash.Bands.of(minhash.band_hashes(shingles, counts, settings.threshold))
    arrays |= {'shingle_bits': Bits.of(shingles).table, 'band_hashes': bands.hashes,
               'band_texts': compared.astype(np.int32)[bands.sets]}
    return cls(texts, arrays, settings)

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes arrays that several processes can map into their memory."""
    texts = {f.name: getattr(self.texts, f.name) for f in dataclasses.fields(Texts)}
    for name, array in {**texts, **self._arrays}.items():
      np.save(pathlib.Path(folder) / f'{name}.npy', array)

  @classmethod
  def load(cls, folder: str | os.PathLike[str], settings: Settings) -> Index:
    """What `save` wrote, as far as it is touched."""
    arrays = {p.stem: np.asarray(np.load(p, mmap_mode='r', allow_pickle=False))
              for p in pathlib.Path(folder).glob('*.npy')}
    texts = Texts(**{f.name: arrays.pop(f.name) for f in dataclasses.fields(Texts)})
    return cls(texts, arrays, settings)

  def match(self, texts: Texts, hashes: ngrams.Hashes) -> Matches:
    """The texts of the index that some texts repeat."""
    exact = self._exact(texts, hashes)
    parts = [*self._grams(texts, hashes), exact, self._near(texts, hashes, exact)]
    return Matches.merged(parts, len(self.texts))

  def _exact(self, texts: Texts, hashes: ngrams.Hashes) -> Matches:
    first, count = _look_up(self._arrays['exact_hashes'], hashes.texts)
    count[texts.num_words == 0] = 0
    text, step = expand(count)
    known = self._arrays['exact_texts'][first[text] + step].astype(np.int64)
    starts, others = (t.word_start[t.text_start] for t in (texts, self.texts))
    lengths = np.diff(starts)[text]
    same = lengths == np.diff(others)[known]
    text, known, lengths = text[same], known[same], lengths[same]
    same = same_runs(texts.letters, starts[text], self.texts.letters, others[known], lengths)
    text, known = text[same], known[same]
    return _found(text, known, EXACT, self.texts.num_words[known])

  def _grams(self, texts: Texts, hashes: ngrams.Hashes) -> Iterator[Matches]:
    text_of_word = _text_of_word(texts)
    room = texts.text_start[1:][text_of_word] - np.arange(len(text_of_word))
    for size in self._arrays['gram_sizes']:
      grams = hashes.grams(int(size))
      word = np.flatnonzero(self._gram_bits.may_hold(grams))
      word = word[room[word] >= size]
      first, count = _look_up(self._arrays['gram_hashes'], grams[word])
      word, first, count = word[count > 0], first[count > 0], count[count > 0]
      once = _once(texts, word, text_of_word, grams, size)
      word, first, count = word[once], first[once], count[once]
      for part in _parts(text_of_word[word], count):
        yield self._runs(texts, text_of_word, word[part], first[part], count[part], size)

  def _runs(self, texts, text_of_word, word, first, count, size) -> Matches:
    """Matches of runs of a size that begin at `word`, and may be those of a stretch of the table."""
    row, step = expand(count)
    here, there = word[row], self._arrays['gram_words'][first[row] + step].astype(np.int64)
    fits = self._sizes[self._text_of_word[there]] == size
    here, there = here[fits], there[fits]
    same = _same_words(texts, here, self.texts, there, np.full(len(here), size))
    here, there = text_of_word[here[same]], there[same]
    # By text and place in the index, to add up what overlapping runs cover together.
    keys = np.unique(here * len(self._text_of_word) + there)
    text, there = np.divmod(keys, max(len(self._text_of_word), 1))
    known = self._text_of_word[there].astype(np.int64)
    covers = np.full(len(there), size)
    follows = (np.diff(text) == 0) & (np.diff(known) == 0)
    covers[:-1][follows] = np.minimum(np.diff(there)[follows], size)
    firsts = np.flatnonzero(np.append(True, ~follows)) if len(there) else np.zeros(0, np.int64)
    total = np.add.reduceat(covers, firsts) if len(there) else covers
    at = (there - self.texts.text_start[known])[firsts].astype(np.int32)
    return _found(text[firsts], known[firsts], NGRAM, total, at)

  def _near(self, texts: Texts, hashes: ngrams.Hashes, exact: Matches) -> Matches:
    grams = hashes.grams(self.settings.shingle)
    which = self._promising(texts, grams)
    shingles, counts = _shingles(texts, grams, which, self.settings.shingle)
    signatures = minhash.band_hashes(shingles, counts, self.settings.threshold)
    size = len(self.texts)
    row, known = self._bands.candidates(signatures)
    text = which[row]
    done = exact.text * size + exact.known
    same = np.isin(text * size + known, done)
    # A copy is its own near-duplicate. Short texts are not compared at all.
    copied = self.texts.num_words[exact.known] >= LEAST_WORDS
    text, known = text[~same], known[~same]
    alike = self._alike(texts, text, known)
    close = alike >= self.settings.threshold
    return Matches.merged([
        _found(text[close], known[close], NEAR,
               alike[close] * self.texts.num_words[known[close]]),
        _found(exact.text[copied], exact.known[copied], NEAR, exact.covered[copied]),
    ], size)

  def _promising(self, texts: Texts, grams: np.ndarray) -> np.ndarray:
    """Texts of which enough shingles are in the index, in whatever text, to be near one of its.

    Similarity t of A and B leaves A at most (1 - t) |A| shingles that B lacks. None that could
    pass is left out: a text's number of shingles is taken too high where some repeat, and the
    number of those unknown too low where hashes meet.
    """
    n, threshold = self.settings.shingle, self.settings.threshold
    if not self._bands.sets.size:
      return np.zeros(0, np.int64)
    which = np.flatnonzero(texts.num_words >= max(n, threshold * (LEAST_WORDS - n + 1) + n - 1))
    shingles, counts = _shingles(texts, grams, which, n)
    unknown = ~self._shingle_bits.may_hold(shingles)
    row = expand(counts)[0][unknown].astype(np.uint64)
    keys = np.unique((row << np.uint64(40)) | (shingles[unknown] >> np.uint64(24)))
    strange = np.bincount((keys >> np.uint64(40)).astype(np.int64), minlength=len(which))
    return which[strange <= (1 - threshold) * counts + 1e-9]

  def _alike(self, texts: Texts, text: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Jaccard similarities of pairs (ordered by text), over the words themselves."""
    alike, last, own = np.zeros(len(text)), -1, frozenset()
    for i, (a, b) in enumerate(zip(text.tolist(), known.tolist())):
      if a != last:
        last, own = a, shingle_set(texts.words(a), self.settings.shingle)
      alike[i] = jaccard(own, self._shingle_set(b))
    return alike

  def _read_shingles(self, known: int) -> frozenset[tuple[str, ...]]:
    return shingle_set(self.texts.words(known), self.settings.shingle)


def _once(texts: Texts, word: np.ndarray, text_of_word: np.ndarray, grams: np.ndarray,
          size: int) -> np.ndarray:
  """Indices of `word`, by text, without runs that repeat an earlier one of their text.

  A word repeated a million times would otherwise meet itself a million times a million times.
  """
  order = np.lexsort((word, grams[word], text_of_word[word]))
  text, gram = text_of_word[word[order]], grams[word[order]]
  new = np.append(True, (np.diff(text) != 0) | (np.diff(gram) != 0))[: len(word)]
  leader = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
  again = np.flatnonzero(~new)
  here, there = word[order[again]], word[leader[again]]
  same = _same_words(texts, here, texts, there, np.full(len(again), size))
  return np.delete(order, again[same])


def _parts(groups: np.ndarray, counts: np.ndarray) -> Iterator[slice]:
  """Stretches of about _MOST_HITS counts that keep a group (ascending) whole."""
  total, start = np.cumsum(counts), 0
  while start < len(groups):
    before = total[start] - counts[start]
    end = max(int(np.searchsorted(total, before + _MOST_HITS, 'right')), start + 1)
    end = int(np.searchsorted(groups, groups[end - 1], 'right'))
    yield slice(start, end)
    start = end
