"""Batches of random tokens, for looking at a model where there is no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flanjax.input.manifest import SIDES
from flanjax.input.packing import batch_arrays, fill_rows

_EOS = 1
# Examples of a row when packed, as they come about in mixtures at 512 + 128 tokens.
_PER_ROW = 4


class SyntheticSource:
  """A `protocols.BatchSource` of random examples of ragged lengths; packed unless told otherwise.

  Args:
    batch_size: rows.
    feature_lengths: {'inputs': n, 'targets': n}, lengths of rows.
    vocab_size: no token id reaches it.
    seed: of everything.
    pack: whether a row holds several examples.
  """

  def __init__(
      self, batch_size: int, feature_lengths: Mapping[str, int], vocab_size: int, seed: int = 0,
      pack: bool = True,
  ):
    self.batch_size, self.vocab_size, self.packed = batch_size, vocab_size, pack
    self._capacity = tuple(feature_lengths[side] for side in SIDES)
    self._seed = seed
    self.fingerprint = f'synthetic {batch_size} {self._capacity} {vocab_size} {seed} {pack}'

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Batch `step`, as `packing.batch_arrays` describes it, or its rows (first, stop)."""
    rng = np.random.default_rng([self._seed, step])
    longest = [max(2, n * 2 // _PER_ROW if self.packed else n) for n in self._capacity]
    count = self.batch_size * (_PER_ROW if self.packed else 1)
    lengths = np.stack([rng.integers(2, n + 1, count) for n in longest], axis=1)
    row = np.arange(count)
    if self.packed:
      row = fill_rows(lengths, self._capacity, self.batch_size)
    lengths = lengths[: len(row)][np.argsort(row, kind='stable')]
    starts = np.searchsorted(np.sort(row), np.arange(self.batch_size + 1))
    inputs, targets = (self._tokens(rng, lengths[:, i]) for i in range(2))
    made = batch_arrays(inputs, targets, lengths, starts, self._capacity, self.packed)
    return {name: x[slice(*(rows or (None,)))] for name, x in made.items()}

  def _tokens(self, rng: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """Texts one after another, each with its end token."""
    tokens = rng.integers(min(3, self.vocab_size - 1), self.vocab_size, lengths.sum())
    tokens[np.cumsum(lengths) - 1] = _EOS
    return tokens.astype(np.int32)

  def tally(self, step: int) -> dict[str, int]:
    return {'steps': 1}

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    return dict(counts)
