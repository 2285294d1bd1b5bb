"""The texts of a task's examples as its fields give them, before any template adds words."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import indexed_source, preprocessors, specs
from flanjax.errors import UserError

# What a text is to its example. `group` and other numbers are no texts.
INPUT, OPTION, ANSWER = ROLES = (0, 1, 2)
_ROLE = re.compile(r'(?:(options)|answers?|targets?)(?:_\w+)?\Z')
_LEFT_OUT = ('group',)
_READ_TOGETHER = 1_024


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
  """Some examples of a task. A text that stands in many places is held once.

  Attributes:
    ids: int64, the examples' places in the split.
    texts: different texts, as UTF-8.
    row, text, role, field: of each occurrence, the place of its example in `ids`, of its text in
      `texts`, one of ROLES, and the place of its field's name in `fields`.
    fields: names.
  """

  ids: np.ndarray
  texts: list[bytes]
  row: np.ndarray
  text: np.ndarray
  role: np.ndarray
  field: np.ndarray
  fields: tuple[str, ...]


def read(task: str, split: str) -> Iterator[Rows]:
  """A split of a SeqIO task, in file order, after filters.

  Of a task that was not registered by flanjax, every text of its source is a field.

  Raises:
    UserError: the split is empty of texts, or reading or `fields` fails.
  """
  where = f'task {task}, split {split}'
  try:
    dataset = _dataset(task, split)
    if not dataset.element_spec['fields']:
      raise UserError('The source of a task gives no texts.', where=where)
    dataset = dataset.ragged_batch(_READ_TOGETHER).prefetch(2).with_options(_options())
    for batch in dataset.as_numpy_iterator():
      yield rows_of(batch['example_id'], batch['fields'])
  except tf.errors.OpError as e:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    raise preprocessors.explain(e) or UserError(
        'A task cannot be read.', where=where,
        got=f'{type(e).__name__}: {lines[0][:300] if lines else ""}') from e


def size(task: str, split: str) -> int:
  """Examples of a split before filters as far as known without reading, else 0."""
  source = seqio.TaskRegistry.get(task).source
  if specs.is_task_name(task):
    source = specs.parse_task_name(task).spec.source
  with contextlib.suppress(Exception):  # Whatever a user's source raises: it is for progress alone.
    count = int(source.num_input_examples(split) or 0)
    return min(count, indexed_source.MAX_TRAIN_EXAMPLES) if split == 'train' else count
  return 0


def _dataset(task: str, split: str) -> tf.data.Dataset:
  source = seqio.TaskRegistry.get(task).source
  dataset = source.get_dataset(split, shuffle=False)
  if specs.is_task_name(task):
    return preprocessors.to_fields(dataset, specs.parse_task_name(task).spec)
  known = dataset.element_spec
  names = [k for k, v in known.items() if _is_text(v)] if isinstance(known, Mapping) else []
  return dataset.enumerate().map(
      lambda i, x: {'example_id': i, 'fields': {k: x[k] for k in names}})


def _options() -> tf.data.Options:
  """Two threads: steps are small, and to hand them to more costs more than they do."""
  options = tf.data.Options()
  options.autotune.enabled = False
  options.threading.private_threadpool_size = 2
  options.threading.max_intra_op_parallelism = 1
  return options


def _is_text(feature: Any) -> bool:
  rank = getattr(getattr(feature, 'shape', None), 'rank', None)
  return getattr(feature, 'dtype', None) == tf.string and rank in (0, 1)


def rows_of(ids: np.ndarray, fields: Mapping[str, Any]) -> Rows:
  """Rows from a batch of fields, as TensorFlow gives it to numpy."""
  names = tuple(sorted(set(fields) - set(_LEFT_OUT)))
  table: dict[bytes, int] = {}
  columns = []
  for number, name in enumerate(names):
    texts, row = _flat(fields[name])
    place = [table.setdefault(t, len(table)) for t in texts]
    match = _ROLE.match(name)
    role = INPUT if match is None else OPTION if match[1] else ANSWER
    columns.append((row, place, np.full(len(row), role), np.full(len(row), number)))
  joined = [np.concatenate(c).astype(np.int64) for c in zip(*columns)]
  return Rows(np.asarray(ids, np.int64), list(table), *joined, names)


def _flat(values: Any) -> tuple[list[bytes], np.ndarray]:
  """Texts and the row of each: of n texts, of n rows of as many, or of n rows of any number."""
  values = np.asarray(values)
  if values.ndim == 1 and len(values) and isinstance(values[0], np.ndarray):
    sizes = [len(row) for row in values]
    texts = [text for row in values for text in row.tolist()]
    return texts, np.repeat(np.arange(len(values)), sizes)
  count = values.shape[1] if values.ndim > 1 else 1
  return values.reshape(-1).tolist(), np.repeat(np.arange(len(values)), count)
