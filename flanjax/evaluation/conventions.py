"""Which option a model prefers: the conventions that results are published under.

    sum             log p(option | prompt), FLAN's and T5's; lm-evaluation-harness's acc
    per_token       that sum by the option's tokens, the end token among them
    per_character   that sum by the option's characters; its acc_norm
    per_byte        that sum by the bytes of its UTF-8; its acc_bytes
    unconditional   log p(option | prompt) - log p(option | nothing); its acc_mutual_info, and
                    "domain conditional PMI" without a domain (Holtzman et al. 2021)

Here an option ends with the end token, as a target in training does; a decoder-only harness leaves
it out, so that equal conventions are not equal numbers. "Nothing" is a prompt of the end token alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from flanjax.evaluation import intervals
from flanjax.evaluation.records import Record
from flanjax.evaluation.task_records import Key, TaskRecords, axes, contributions


def _tokens(record: Record) -> np.ndarray:
  return np.array(record['option_tokens'], np.float64)


def _characters(record: Record) -> np.ndarray:
  return np.array([len(o) for o in record['options']], np.float64)


def _bytes(record: Record) -> np.ndarray:
  return np.array([len(o.encode()) for o in record['options']], np.float64)


def _per(size: Callable[[Record], np.ndarray]) -> Callable[[Record], np.ndarray]:
  """The sum by a size; an option that has none counts as of size 1."""
  return lambda record: _sum(record) / np.maximum(size(record), 1)


def _sum(record: Record) -> np.ndarray:
  return np.array(record['option_scores'], np.float64)


def _unconditional(record: Record) -> np.ndarray:
  return _sum(record) - np.array(record['unconditional_scores'], np.float64)


@dataclasses.dataclass(frozen=True)
class Convention:
  """How options are compared.

  Attributes:
    label: for people.
    values: record -> a number for each option, the largest being the model's choice.
    needs: fields of a record that not every evaluation has.
  """

  label: str
  values: Callable[[Record], np.ndarray]
  needs: tuple[str, ...] = ()


CONVENTIONS: Mapping[str, Convention] = {
    'sum': Convention('sum', _sum),
    'per_token': Convention('per token', _per(_tokens), ('option_tokens',)),
    'per_character': Convention('per character', _per(_characters)),
    'per_byte': Convention('per byte', _per(_bytes)),
    'unconditional': Convention('against no prompt', _unconditional, ('unconditional_scores',)),
}


def choice(record: Record, convention: str) -> int | None:
  """Which option is preferred, the first of equals; None where the record does not tell.

  >>> record = {'options': ['no', 'certainly'], 'option_scores': [-2.0, -6.0]}
  >>> choice(record, 'sum'), choice(record, 'per_character'), choice(record, 'per_token')
  (0, 1, None)
  """
  found = CONVENTIONS[convention]
  if not record.get('option_scores') or any(record.get(field) is None for field in found.needs):
    return None
  return int(np.argmax(found.values(record)))


def score(record: Record, convention: str) -> float | None:
  """100 where the preferred option is a right one, else 0; None where the record does not tell."""
  preferred = choice(record, convention)
  if preferred is None:
    return None
  right = record['targets']
  right = [right] if isinstance(right, str) else right
  return 100.0 * (record['options'][preferred] in right)


def scores(
    table: TaskRecords, keys: Mapping[str, frozenset[Key]]
) -> dict[str, dict[str, dict[str, float] | None]]:
  """Convention -> model -> {value, low, high} of ranked options; nothing of generated answers.

  The mean over examples and then templates, as of any score, with Wilson's interval; None where
  the records of a model do not tell.

  Args:
    table: a task's records.
    keys: model -> the answers to score.
  """
  if table.mode != 'rank':
    return {}
  return {name: {model: _share(table, model, chosen, name) for model, chosen in keys.items()}
          for name in CONVENTIONS}


def _share(
    table: TaskRecords, model: str, keys: frozenset[Key], convention: str
) -> dict[str, float] | None:
  found = {key: score(table.by_model[model][key], convention) for key in keys}
  if not found or None in found.values():
    return None
  templates, examples = axes(keys)
  grid = np.array([[found.get((t, e), np.nan) for e in examples] for t in templates], np.float64)
  share = intervals.Share(contributions(grid) / 100)
  return {'value': 100 * share.value, **intervals.mean_of_shares([share])}
