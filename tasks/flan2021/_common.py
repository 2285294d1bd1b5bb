"""What the clusters of this suite share: splits, and small steps on text in TF ops."""

from __future__ import annotations

from collections.abc import Sequence

import seqio
import tensorflow as tf

SUITE = 'flan2021'


def tfds_source(name: str, train: str, validation: str, test: str) -> seqio.TfdsDataSource:
  """A TFDS dataset with its version pinned, and its three splits by TFDS's split syntax."""
  splits = {'train': train, 'validation': validation, 'test': test}
  return seqio.TfdsDataSource(name, splits=splits)


def held_back(
    name: str, count: int, train: str = 'train', test: str = 'validation'
) -> seqio.TfdsDataSource:
  """A dataset whose labels of the test split are hidden, as FLAN divides it.

  The last `count` training examples are for validation, and the validation split of TFDS is
  for testing.

    >>> held_back('glue/wnli:2.0.0', 30)
    train[:-30] / train[-30:] / validation
  """
  return tfds_source(name, f'{train}[:-{count}]', f'{train}[-{count}:]', test)


def one_line(text: tf.Tensor) -> tf.Tensor:
  """White space of any kind becomes single spaces; none is left at the ends.

  Words stay as they are, tokenised ("is n't") where the dataset is: it is on this text that
  results are published.
  """
  return tf.strings.strip(tf.strings.regex_replace(text, r'[\s\p{Z}]+', ' '))


def pick(options: Sequence[str] | tf.Tensor, index: tf.Tensor) -> tf.Tensor:
  """The option that a label names: pick(['no', 'yes'], 1) -> 'yes'."""
  return tf.gather(tf.convert_to_tensor(options), index)
