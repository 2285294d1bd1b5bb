"""MinHash and locality-sensitive hashing: which sets are probably alike, without comparing all.

Broder 1997: under a random order of all elements, two sets have the same least element with
probability |A and B| / |A or B|, their Jaccard similarity. A signature is the least element under
many orders; signatures are cut into bands of a few rows, and sets that agree in a whole band are
candidates: 1 - (1 - J**rows)**bands of the pairs of similarity J.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from flanjax.data.ngrams import expand

MOST_HASHES = 128
# Pairs at the threshold itself that are not missed; those above it are missed less often.
RECALL = 0.999


def bands(threshold: float) -> tuple[int, int]:
  """(bands, rows of a band) that find RECALL of the pairs at a similarity, with few candidates.

  >>> bands(0.8)
  (18, 5)
  """
  best = (MOST_HASHES, 1)
  for rows in range(1, 9):
    missed = 1 - threshold**rows
    count = math.ceil(math.log(1 - RECALL) / math.log(missed)) if missed > 0 else 1
    if count * rows <= MOST_HASHES:
      best = (count, rows)
  return best


def band_hashes(elements: np.ndarray, counts: np.ndarray, threshold: float) -> np.ndarray:
  """uint64 [bands, sets]: what candidates agree in.

  Args:
    elements: uint64 hashes of the elements of all sets, one set after the other; repeated ones do
      no harm.
    counts: elements of each set, each above zero.
    threshold: see `bands`.
  """
  num_bands, rows = bands(threshold)
  starts = np.cumsum(counts) - counts
  generator = np.random.Generator(np.random.PCG64(0))
  factors = generator.integers(0, 2**63, (num_bands, rows, 2), np.uint64) * np.uint64(2)
  factors += np.uint64(1)
  out = np.zeros((num_bands, len(counts)), np.uint64)
  if not len(counts):
    return out
  for band in range(num_bands):
    for factor, joint in factors[band]:
      # The upper half of a product with an odd number: near 2-universal (Dietzfelbinger 1997).
      least = np.minimum.reduceat((elements * factor) >> np.uint64(32), starts)
      out[band] = (out[band] ^ least) * joint
      out[band] ^= out[band] >> np.uint64(31)
  return out


@dataclasses.dataclass(frozen=True, eq=False)
class Bands:
  """Some sets, to look up which of them others may be like.

  Attributes:
    hashes: uint64 [bands, sets], each band in ascending order.
    sets: int32 [bands, sets], whose they are: any numbers.
  """

  hashes: np.ndarray
  sets: np.ndarray

  @classmethod
  def of(cls, hashes: np.ndarray) -> Bands:
    """From what `band_hashes` gives."""
    order = np.argsort(hashes, axis=1, kind='stable')
    return cls(np.take_along_axis(hashes, order, axis=1), order.astype(np.int32))

  def candidates(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (which of the given sets, which of those here), each once, in order."""
    found = [np.zeros(0, np.int64)]
    for own, sets, looked_up in zip(self.hashes, self.sets, hashes):
      first = np.searchsorted(own, looked_up, 'left')
      count = np.searchsorted(own, looked_up, 'right') - first
      which, step = expand(count)
      found.append((which << 32) | sets[first[which] + step])
    pairs = np.unique(np.concatenate(found))
    return pairs >> 32, pairs & 0xFFFFFFFF
