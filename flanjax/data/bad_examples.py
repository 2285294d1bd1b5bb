"""Examples on which a task fails: which they are, why, and what they hold.

They are counted by their place in the source. What is prepared is what the task makes of the
source without them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import preprocessors, specs, task_reading
from flanjax.data.task_reading import PartOfSource
from flanjax.errors import UserError

# So many are told with their reasons.
SHOWN = 5
_LARGEST_PART = 4_096
_COLUMNS_SHOWN, _VALUE_SHOWN, _REASON_SHOWN = 10, 100, 200


@dataclasses.dataclass(frozen=True)
class Failure:
  """Why an example cannot be prepared: in a word, and as far as `UserError` has places for it."""

  reason: str
  what: str = 'Preparing a task failed.'
  got: str | None = None
  expected: Any = None
  hint: str | None = None


def entry(bad: Mapping[int, Failure]) -> dict[str, Any]:
  """What a manifest says: how many examples were left out, and of the first ones why."""
  first = [{'example': k, 'reason': bad[k].reason} for k in sorted(bad)[:SHOWN]]
  return {'number': len(bad), 'first': first}


def refuse(task: str, split: str, bad: Mapping[str, Any], most: int) -> None:
  """Raises UserError if a task has more bad examples, by their entry, than it may have."""
  if bad['number'] > most:
    lines = [f'at least {bad["number"]}:', *_listed(bad)]
    raise UserError(
        'More examples of a task fail than may be left out.', where=f'task {task}, split {split}',
        got='\n    '.join(lines), expected=f'at most {most}',
        hint='correct the task, or allow more: --max_bad_examples',
    )


def _listed(bad: Mapping[str, Any]) -> list[str]:
  lines = [f'example {b["example"]}: {b["reason"]}' for b in bad['first']]
  return lines + (['...'] if bad['number'] > len(lines) else [])


class Search:
  """Finds the bad examples of a task.

  Args:
    task: the task.
    split: which split.
    lengths: longest inputs and targets.
    most: how many may be left out; with one more, the search is over.
  """

  def __init__(self, task: seqio.Task, split: str, lengths: Mapping[str, int], most: int):
    self._task, self._split, self._lengths, self._most = task, split, lengths, most
    self._where = f'task {task.name}, split {split}'
    self.found: dict[int, Failure] = {}

  def __call__(self, error: Exception | None) -> dict[int, Failure]:
    """Adds to those found before; called when reading what is left of the source failed.

    Args:
      error: how it failed, for the case that no example is to blame.

    Raises:
      UserError: there are more than may be; the source itself fails; or none is found.
    """
    known = len(self.found)
    for place, failure in self._failures():
      self.found[place] = failure
      if not self._most:
        raise self._error(place, failure)
      refuse(self._task.name, self._split, entry(self.found), self._most)
    if len(self.found) == known:
      with task_reading.named(self._where):
        raise error or RuntimeError('it fails at some times and not at others')
    return self.found

  def _failures(self) -> Iterator[tuple[int, Failure]]:
    """Reads on after each example that fails, as far as TensorFlow can."""
    part = self._task.replace(source=PartOfSource(self._task.source, self.found))
    dataset = task_reading.dataset_of(part, self._split, self._lengths, self._where)
    elements = dataset.as_numpy_iterator()
    good = 0  # The place after the last example that went well; a guess for tasks that do not say.
    while True:
      try:
        element = next(elements, None)
        if element is None:
          return
        failed = task_reading.problem_of(element) is not None
      except tf.errors.OpError:
        failed = True
      if not failed:
        good = max(good, int(element['example_id']) + 1)
        continue
      found = self._first_from(good) or self._first_from(0)
      if found is None:
        return
      yield found
      good = found[0] + 1

  def _first_from(self, start: int) -> tuple[int, Failure] | None:
    """The first example at or after `start` that fails: parts twice as large each, then halves."""
    size = 1
    while not (failure := self._failure_in(start, size)):
      if self._rows(start, size) < size:
        return None
      start, size = start + size, min(2 * size, _LARGEST_PART)
    while size > 1:
      half = size // 2
      earlier = self._failure_in(start, half)
      start, size = (start, half) if earlier else (start + half, size - half)
      failure = earlier or failure
    return start, failure

  def _failure_in(self, start: int, size: int) -> Failure | None:
    """Why the first of the examples [start, start + size) that fails does so, if any does."""
    source = PartOfSource(self._task.source, self.found, start, size)
    dataset = task_reading.dataset_of(
        self._task.replace(source=source), self._split, self._lengths, self._where)
    try:
      for element in dataset.as_numpy_iterator():
        problem = task_reading.problem_of(element)
        if problem:
          return Failure(problem, what=problem)
    except tf.errors.OpError as e:
      self._rows(start, size)
      return _failure(e)
    return None

  def _rows(self, start: int, size: int) -> int:
    """How many of the examples [start, start + size) there are.

    Raises:
      UserError: the source itself fails.
    """
    part = PartOfSource(self._task.source, (), start, size)
    with task_reading.named(f'{self._where}, reading the source from example {start} on'):
      rows = part.get_dataset(self._split).reduce(np.int64(0), lambda n, unused: n + 1)
    return int(rows.numpy())

  def _error(self, place: int, failure: Failure) -> UserError:
    """The error that shows an example as far as it can be shown."""
    lines = [failure.got] if failure.got else []
    source = PartOfSource(self._task.source, (), place, 1)
    shown = [('column', lambda: _first(source.get_dataset(self._split)))]
    if specs.is_task_name(self._task.name):
      spec = specs.parse_task_name(self._task.name).spec
      shown += [('field', lambda: _first(
          preprocessors.to_fields(source.get_dataset(self._split), spec)))]
    for kind, values in shown:
      lines += [f'{kind} {line}' for line in _shown(values)]
    return UserError(
        failure.what, where=f'{self._where}, example {place}', got='\n    '.join(lines),
        expected=failure.expected,
        hint=failure.hint or 'correct the task, or leave such examples out: --max_bad_examples',
    )


def _failure(error: Exception) -> Failure:
  explained = preprocessors.explain(error)
  if explained:
    reason = ' '.join(str(x) for x in (explained.what, explained.got) if x)
    return Failure(
        reason[:_REASON_SHOWN], explained.what, explained.got, explained.expected, explained.hint)
  got = f'{type(error).__name__}: {task_reading.message_of(error)}'
  return Failure(got[:_REASON_SHOWN], got=got)


def _first(dataset: tf.data.Dataset) -> Any:
  element = next(dataset.as_numpy_iterator())
  return next((element[k] for k in ('example', 'fields') if k in element), element)


def _shown(values: Callable[[], Any]) -> list[str]:
  """'name: value' of each feature of an example; nothing where it cannot be read."""
  try:
    lines = [f'{name}: {_value(value)}' for name, value in _leaves('', values())]
  except Exception:  # noqa: BLE001 (this is an example with which something is wrong)
    return []
  return lines[:_COLUMNS_SHOWN] + (['...'] if len(lines) > _COLUMNS_SHOWN else [])


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
  """The innermost values of nested dicts, with their paths."""
  if not isinstance(value, Mapping):
    yield name or 'value', value
    return
  for key, part in value.items():
    yield from _leaves(f'{name}/{key}' if name else str(key), part)


def _value(value: Any) -> str:
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if isinstance(value, list):
    text = f'[{", ".join(map(_value, itertools.islice(value, 20)))}]'
  else:
    text = repr(value.decode(errors='replace') if isinstance(value, bytes) else value)
  return text if len(text) <= _VALUE_SHOWN else f'{text[:_VALUE_SHOWN]}...'
