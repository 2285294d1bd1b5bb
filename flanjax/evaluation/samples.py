"""Examples of a task that two models answer, and which of them is right."""

from __future__ import annotations

import typing
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.evaluation import baselines as baselines_lib
from flanjax.evaluation.records import Record
from flanjax.evaluation.task_records import Key, TaskRecords

if typing.TYPE_CHECKING:
  from flanjax.evaluation import summary

# How many of each outcome are shown.
SHOWN = {'won': 3, 'lost': 3, 'both right': 2, 'neither': 2, 'right': 3, 'wrong': 3}
_RIGHT = 100 - 1e-6


def verdict(record: Record) -> str:
  """'right', 'wrong' or, for graded metrics, 'partly'."""
  score = _score(record)
  return 'right' if score >= _RIGHT else 'wrong' if score <= 0 else 'partly'


def _score(record: Record) -> float:
  """The record's score; of a corpus metric, whether the answer is a right one."""
  if record['score'] is not None:
    return record['score']
  return 100.0 if record['prediction'] in baselines_lib.references(record) else 0.0


def outcome(lead: Record, other: Record | None) -> str:
  """Who does better: 'won' is the lead, 'lost' the other; else 'both right' or 'neither'.

  Without another, 'right' or 'wrong' (or partly so).
  """
  right = verdict(lead) == 'right'
  if other is None:
    return 'right' if right else 'wrong'
  gap = _score(lead) - _score(other)
  if abs(gap) > 1e-9:
    return 'won' if gap > 0 else 'lost'
  return 'both right' if right else 'neither'


def choose(
    tables: summary.Tables, task: Mapping[str, Any]
) -> tuple[dict[str, int], list[dict[str, Any]]]:
  """How many answers to a task ended how, and a few of each outcome.

  Which are shown depends on a hash of their ids, so nobody chose them.
  """
  table, analysis = tables.test[task['task'], task['mode']], tables.analysis
  if analysis.lead not in table.by_model:
    return {}, []
  found = _outcomes(table, analysis.lead, analysis.untuned, analysis.keys(table))
  counts = {name: len(found[name]) for name in SHOWN if name in found}
  return counts, [
      _sample(table, analysis.models, analysis.lead, name, key)
      for name in counts for key in _of_other_examples(found[name])[: SHOWN[name]]
  ]


def _outcomes(
    table: TaskRecords, lead: str, other: str | None, keys: frozenset[Key]
) -> dict[str, list[Key]]:
  """Outcome -> the answers that ended so, by a hash of their ids."""
  rivals = table.by_model.get(other, {})
  order = sorted(keys, key=lambda k: (zlib.crc32(f'{table.task} {k}'.encode()), k))
  found: dict[str, list[Key]] = {}
  for key in order:
    found.setdefault(outcome(table.by_model[lead][key], rivals.get(key)), []).append(key)
  return found


def _of_other_examples(keys: Sequence[Key]) -> list[Key]:
  """Keys whose example was not there yet, then the others."""
  first = {key[1]: key for key in reversed(keys)}
  return sorted(keys, key=lambda k: first[k[1]] != k)


def _sample(
    table: TaskRecords, models: Sequence[str], lead: str, outcome_name: str, key: Key
) -> dict[str, Any]:
  record = table.by_model[lead][key]
  return {
      'task': table.task,
      'cluster': table.cluster,
      'mode': table.mode,
      'outcome': outcome_name,
      'template_id': key[0],
      'example_id': key[1],
      'inputs': record['inputs'],
      'targets': baselines_lib.references(record),
      'options': record['options'],
      'answers': [_answer(m, table.by_model[m][key], record) for m in models
                  if key in table.by_model.get(m, {})],
  }


def _answer(model: str, record: Record, lead: Record) -> dict[str, Any]:
  return {
      'model': model,
      'prediction': record['prediction'],
      'verdict': verdict(record),
      'score': record['score'],
      'option_scores': record['option_scores'],
      'inputs': record['inputs'] if record['inputs'] != lead['inputs'] else None,
  }
