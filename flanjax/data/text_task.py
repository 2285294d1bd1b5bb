"""The examples of a SeqIO task as text: rendered, whole, and read without a tokeniser."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import preprocessors, sources, specs, task_reading
from flanjax.data.export_files import Row
from flanjax.errors import UserError, nearest


class TextTask:
  """A SeqIO task to be read as text.

  Args:
    name: the task.
    split: which split.
    inputs_length: tokens of inputs, where the prompt holds as many exemplars as fit; None: 1024.

  Raises:
    UserError: it has no such split.
  """

  def __init__(self, name: str, split: str, inputs_length: int | None):
    self.name, self._split = name, split
    self._lengths = {'inputs': inputs_length} if inputs_length else None
    self._task = seqio.TaskRegistry.get(name)
    self._parsed = specs.parse_task_name(name) if specs.is_task_name(name) else None
    self._where = f'task {name}, split {split}'
    if split not in self._task.splits:
      raise UserError(
          f"Task '{name}' has no split '{split}'.", hint=nearest(split, self._task.splits))

  @property
  def size_at_most(self) -> int:
    """Examples of the source, before filters; 0 when it does not tell."""
    return self._task.num_input_examples(self._split) or 0

  @functools.cached_property
  def size(self) -> int:
    """Examples that are left; counted, where something may leave some out."""
    spec = self._parsed and self._parsed.spec
    if spec and sources.is_tfds(spec.source) and not (spec.filter_fn or spec.drop_empty):
      return self.size_at_most
    with task_reading.named(self._where):
      return int(self._kept().reduce(np.int64(0), lambda n, _: n + 1).numpy())

  def rows(self, chosen: np.ndarray | None = None) -> Iterator[Row]:
    """The rows, in the order of the data; `chosen`, a mask over them, names those to give."""
    with task_reading.named(f'{self._where}, building the dataset'):
      dataset = self._kept()
      if chosen is not None:
        dataset = _only(dataset, chosen)
      dataset = self._as_text(dataset)
    for x in task_reading.read(dataset, self._where):
      yield {
          'inputs': _text(x['inputs']),
          'targets': _text(x['targets']),
          'task': self.name,
          'dataset': self._parsed.spec.name if self._parsed else self.name,
          'cluster': self._parsed.spec.cluster if self._parsed else '',
          'template_id': int(x['template_id']),
          'example_id': int(x['example_id']),
          'options': [_text(t) for t in x.get('options', ())],
          'answers': [_text(t) for t in x.get('answers', ())],
          'split': self._split,
      }

  def _kept(self) -> tf.data.Dataset:
    """The examples after everything that leaves some out; rendered only if that does."""
    if not self._parsed:
      return self._foreign()
    dataset = self._task.source.get_dataset(self._split, shuffle=False)
    dataset = preprocessors.to_fields(dataset, self._parsed.spec)
    return self._rendered(dataset) if self._parsed.spec.drop_empty else dataset

  def _as_text(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    if self._parsed and not self._parsed.spec.drop_empty:
      dataset = self._rendered(dataset)
    names = ('example_id', 'template_id', 'inputs', 'targets', 'options', 'answers')
    return dataset.map(lambda x: {k: x[k] for k in names if k in x})

  def _rendered(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    if not self._parsed.shots:
      return preprocessors.render(dataset, self._parsed)
    return preprocessors.render_few_shot(
        dataset, self._task.output_features, self._lengths,
        task=self._parsed, source=self._task.source)

  def _foreign(self) -> tf.data.Dataset:
    """A task that is not made of a TaskSpec, by the text that SeqIO's tokeniser keeps."""
    dataset = self._task.get_dataset(
        self._lengths, self._split, shuffle=False, seed=0, try_in_mem_cache=False)
    sides = {side: f'{side}_pretokenized' for side in ('inputs', 'targets')}
    if not set(sides.values()) <= set(dataset.element_spec):
      raise UserError(
          'A task keeps no text.', where=f'task {self.name}',
          got=', '.join(sorted(dataset.element_spec)), expected=', '.join(sides.values()))
    ids = {'template_id': tf.constant(0, tf.int32)}
    return dataset.enumerate().map(
        lambda i, x: {'example_id': i, **ids, **{side: x[key] for side, key in sides.items()}})


def _text(value: bytes) -> str:
  return value.decode(errors='replace')


def _only(dataset: tf.data.Dataset, chosen: np.ndarray) -> tf.data.Dataset:
  mask = tf.constant(chosen)
  dataset = dataset.enumerate().take(len(chosen)).filter(lambda i, unused: mask[i])
  return dataset.map(lambda unused, x: x)
