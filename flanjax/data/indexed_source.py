"""The source of a registered task: examples with their numbers, training capped as in FLAN."""

from __future__ import annotations

import math
from collections.abc import Sequence

import seqio
import tensorflow as tf

from flanjax.data import availability, sources

MAX_TRAIN_EXAMPLES = 30_000
_SHUFFLE_BUFFER = 4_000


class IndexedSource(seqio.DataSource):
  """A source whose examples carry their index in the split, and whose training is capped.

  The index is given in file order, before any shuffling, so that it names the same example in
  every run. Elements are {'example_id': int64, 'example': what the source gave}.
  """

  def __init__(self, source: seqio.DataSource, name: str, first: int | None = None):
    super().__init__(splits=(), performs_internal_shuffling=True)
    self._source, self._name, self._first = source, name, first
    self._counts: dict[str, int] = {}
    self._generated = False

  @property
  def _ready(self) -> seqio.DataSource:
    """The source, after TFDS has written what it makes here without a download."""
    if not self._generated and sources.is_tfds(self._source):
      availability.generate(self._source)
    self._generated = True
    return self._source

  @property
  def _most(self) -> int:
    """Training examples kept at most."""
    return MAX_TRAIN_EXAMPLES if self._first is None else min(self._first, MAX_TRAIN_EXAMPLES)

  @property
  def splits(self) -> Sequence[str]:
    return tuple(self._ready.splits)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return self._source.list_shards(split)

  def __repr__(self):
    return f'IndexedSource({self._name}, {self._source!r})'

  def told_examples(self, split: str) -> int | None:
    """Examples of a split as far as the source tells without being read."""
    count = self._ready.num_input_examples(split)
    # SeqIO: "infinite" for an empty TFDS split.
    return int(count) if count is not None and math.isfinite(count) else None

  def num_input_examples(self, split: str) -> int:
    """Examples kept of a split; counted by reading where the source does not tell."""
    if split not in self._counts:
      count = self.told_examples(split)
      if count is None:
        elements = self.get_dataset(split, shuffle=False)
        count = int(elements.reduce(0, lambda n, _: n + 1).numpy())
      self._counts[split] = min(count, self._most) if split == 'train' else count
    return self._counts[split]

  def get_dataset(
      self,
      split: str = 'train',
      shuffle: bool = True,
      seed: int | None = None,
      shard_info: seqio.ShardInfo | None = None,
      **unused,
  ) -> tf.data.Dataset:
    dataset = self._ready.get_dataset(split, shuffle=False)
    if split == 'train':
      dataset = dataset.take(self._most)
    dataset = dataset.enumerate()
    if shard_info:
      dataset = dataset.shard(shard_info.num_shards, shard_info.index)
    if shuffle:
      dataset = dataset.shuffle(_SHUFFLE_BUFFER, seed=seed)
    return dataset.map(lambda i, x: {'example_id': i, 'example': x})
