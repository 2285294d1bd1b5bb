"""SeqIO postprocessors: decoded text, or a target's text -> what metrics compare.

Each has SeqIO's signature `(text, example=None, is_target=False)`, where `example` is the
task's element as numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


def _texts(values) -> list[str]:
  return [v.decode('utf-8') if isinstance(v, bytes) else str(v) for v in values]


def references(text: str, example=None, is_target: bool = False) -> str | list[str]:
  """A prediction stays text; a target becomes all of its references where there are some."""
  if is_target and example is not None and 'answers' in example:
    return _texts(example['answers'])
  return text


class Option(NamedTuple):
  """One row of rank classification."""

  idx: tuple[int, int]
  is_correct: bool
  num_options: int


def rank(text: str, example=None, is_target: bool = False) -> Option | str:
  """Keeps which option of which example a scored target is."""
  if not is_target:
    return text
  idx = tuple(int(i) for i in example['idx'])
  return Option(idx, bool(example['is_correct']), int(example['num_options']))


def label_ids(*classes: Sequence[str]) -> Callable[..., int]:
  """A postprocessor: text -> its index among `classes`, -1 for anything else.

  Several lists name the same classes in other words: label_ids(['no', 'yes'], ['bad', 'good']).
  """
  ids = {name.strip(): i for names in classes for i, name in enumerate(names)}

  def label_id(text: str, example=None, is_target: bool = False) -> int:
    del example, is_target
    return ids.get(text.strip(), -1)

  return label_id


def to_float(text: str, example=None, is_target: bool = False) -> float:
  """Text -> number; -1 where it is none, as T5's postprocessor for STS-B."""
  del example, is_target
  try:
    return float(text)
  except ValueError:
    return -1.0


class GroupedLabel(NamedTuple):
  """A label, and the group (a question, in MultiRC) that it belongs to."""

  value: int
  group: str


def grouped_label_ids(classes: Sequence[str]) -> Callable[..., Any]:
  """As `label_ids`, with the example's field `group` beside, for `metrics.multirc_f1`."""
  label_id = label_ids(classes)

  def grouped(text: str, example=None, is_target: bool = False) -> GroupedLabel:
    return GroupedLabel(label_id(text), _texts([example['group']])[0])

  return grouped
