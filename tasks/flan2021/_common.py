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


def labels(options: Sequence[str], index: tf.Tensor, words: Sequence[str]) -> dict[str, tf.Tensor]:
  """`options` and `answer`, and the same in words that end a sentence, for continuations."""
  return {
      'options': options,
      'answer': pick(options, index),
      'options_word': words,
      'answer_word': pick(words, index),
  }


def as_question(text: tf.Tensor) -> tf.Tensor:
  """On one line, with a question mark at the end: queries are typed without."""
  return tf.strings.regex_replace(one_line(text), r'[ ?]*\z', '') + '?'


def lines(text: tf.Tensor) -> tf.Tensor:
  """As `one_line`, but line breaks stay, one at a time."""
  text = tf.strings.regex_replace(text, r'\s*[\r\n]\s*', '\n')
  return tf.strings.strip(tf.strings.regex_replace(text, r'[\t\p{Z}]+', ' '))


def numbered(texts: tf.Tensor) -> tf.Tensor:
  """['a', 'b'] -> '1. a\\n2. b'."""
  numbers = tf.strings.as_string(tf.range(1, tf.size(texts) + 1))
  return tf.strings.reduce_join(tf.strings.join([numbers, texts], separator='. '), separator='\n')
