"""The examples of a SeqIO task as they are prepared, and errors that say where they were met."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import preprocessors, specs
from flanjax.errors import UserError
from flanjax.input.manifest import SIDES
from flanjax.input.records import Example

# TensorFlow hands over a batch about as quickly as one example.
_READ_TOGETHER = 128
# What TensorFlow puts before the message of an error in a data pipeline.
_PREAMBLE = re.compile(
    r'^\{\{.*?\}\} '
    r'|Error in user-defined function passed to \S+ transformation with iterator: \S+: '
)


class PartOfSource(seqio.DataSource):
  """Some consecutive examples of a source, without those at some places.

  Args:
    source: the source, read in its order.
    without: places of examples to leave out.
    start: place of the first example.
    count: how many; None: all that follow.
  """

  def __init__(
      self, source: seqio.DataSource, without: Collection[int] = (), start: int = 0,
      count: int | None = None,
  ):
    super().__init__(splits=(), performs_internal_shuffling=True)
    self._source, self._without = source, sorted(without)
    self._start, self._count = start, count

  @property
  def splits(self):
    return self._source.splits

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return False

  def list_shards(self, split: str):
    return self._source.list_shards(split)

  def num_input_examples(self, split: str) -> int | None:
    return self._source.num_input_examples(split)

  def get_dataset(self, split='train', shuffle=False, seed=None, **unused) -> tf.data.Dataset:
    dataset = self._source.get_dataset(split, shuffle=False, seed=seed).skip(self._start)
    if self._count is not None:
      dataset = dataset.take(self._count)
    if self._without:
      places = tf.constant(self._without, tf.int64)
      dataset = dataset.enumerate(self._start)
      dataset = dataset.filter(lambda i, unused: ~tf.reduce_any(i == places))
      dataset = dataset.map(lambda unused, x: x)
    return dataset


def dataset_of(
    task: seqio.Task, split: str, lengths: Mapping[str, int], where: str
) -> tf.data.Dataset:
  """A task's examples: tokens, `example_id`, `template_id`, and texts where the task keeps them.

  Raises:
    UserError: the task cannot be built.
  """
  with named(f'{where}, building the dataset'):
    dataset = task.get_dataset(lengths, split, shuffle=False, seed=0, try_in_mem_cache=False)
    return _needed(dataset, indexed=specs.is_task_name(task.name))


def _needed(dataset: tf.data.Dataset, indexed: bool) -> tf.data.Dataset:
  """Only the features that are kept or looked at; numbered, where the task does not do it."""
  texts = [f'{side}_pretokenized' for side in SIDES]
  texts = [k for k in texts if k in dataset.element_spec and dataset.element_spec[k].shape == ()]
  ids = ['example_id', 'template_id'] if indexed else []

  @tf.autograph.experimental.do_not_convert
  def pick(i, x):
    numbers = {'example_id': i, 'template_id': tf.constant(0, tf.int32)}
    return numbers | {k: x[k] for k in [*SIDES, *texts, *ids]}

  return dataset.enumerate().map(pick)


def batched(dataset: tf.data.Dataset) -> Iterator[dict[str, Any]]:
  """The elements of a dataset of numbers, texts and lists of them, as numpy."""
  for batch in dataset.ragged_batch(_READ_TOGETHER).as_numpy_iterator():
    columns = {}
    for key, values in batch.items():
      splits = getattr(values, 'row_splits', None)
      columns[key] = values if splits is None else np.split(values.values, splits[1:-1])
    for row in zip(*columns.values()):
      yield dict(zip(columns, row))


def read(dataset: tf.data.Dataset, where: str) -> Iterator[dict[str, Any]]:
  """As `batched`, of elements that have an `example_id`.

  Raises:
    UserError: the dataset fails; the example that did it is looked for and named.
  """
  with named(where):
    elements = batched(dataset)
  try:
    yield from elements
  except tf.errors.OpError as e:
    number = -1
    elements = dataset.as_numpy_iterator()
    while True:
      with named(f'{where}, example {number + 1}'):
        element = next(elements, None)
      if element is None:
        break
      number = int(element['example_id'])
    with named(where):
      raise e


def problem_of(element: Mapping[str, Any]) -> str | None:
  """What is wrong with an example that was read, or None."""
  empty = [side for side in SIDES if not len(element[side])]
  return f'An example has empty {empty[0]}.' if empty else None


def as_example(element: Mapping[str, Any]) -> Example:
  sides = {side: np.asarray(element[side], np.int32) for side in SIDES}
  numbers = {key: int(element[key]) for key in ('example_id', 'template_id')}
  return Example(**sides, **numbers)


def cut_sides(
    task: seqio.Task, element: Mapping[str, Any], lengths: Mapping[str, int]
) -> list[str]:
  """The sides of an example that were cut."""
  return [side for side in SIDES if _was_cut(task, element, side, lengths[side])]


def _was_cut(task: seqio.Task, element: Mapping[str, Any], side: str, limit: int) -> bool:
  """Whether text was longer than it may be. Only ids that fill their room leave it open."""
  if len(element[side]) < limit:
    return False
  text = element.get(f'{side}_pretokenized')
  feature = task.output_features[side]
  if not isinstance(text, bytes):
    return True
  tokens = feature.vocabulary.encode(text.decode())
  return len(tokens) + int(feature.add_eos) > limit


def message_of(error: Exception) -> str:
  """The first line of an error, without what TensorFlow says about its own insides."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return _PREAMBLE.sub('', lines[0])[:300] if lines else ''


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
  """Errors of a task's own code come as UserErrors that say where it failed."""
  try:
    yield
  except UserError:
    raise
  except Exception as e:
    explained = preprocessors.explain(e)
    if explained:
      raise explained from e
    raise UserError(
        'Preparing a task failed.', where=where, got=f'{type(e).__name__}: {message_of(e)}'
    ) from e
