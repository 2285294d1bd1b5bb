"""What a task gives to those who do not read it: majority answer, chance, copying the prompt."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation.records import Record

NAMES = ('majority', 'chance', 'copy')
_TEXTS = 500


def metric_fn(name: str) -> Callable[..., Mapping[str, float]] | None:
  """The metric of that name in flanjax.data.metrics, or None."""
  from flanjax.data import metrics

  found = getattr(metrics, name, None)
  own = callable(found) and getattr(found, '__module__', None) == metrics.__name__
  return found if own else None


def trivial(
    records: Sequence[Record], fn: Callable[..., Mapping[str, float]] | None
) -> dict[str, float | None]:
  """The baselines of one task in one mode, 0..100, None where one means nothing.

  All are chosen with the evaluated targets in hand, so they are if anything too high:
    majority: the commonest answer, or the commonest position among the options if that is better;
      for tasks without options, the commonest target as the answer to everything.
    chance: an option drawn evenly.
    copy: for generation, the best of: the whole prompt, its first sentence, its last line, its
      longest line.

  Constant and copied answers to many examples are scored on an even sample of them, since
  metrics of text take their time.

  Args:
    records: one model's records.
    fn: the metric, where known.
  """
  by_template = collections.defaultdict(list)
  for row in records:
    by_template[row['template_id']].append(row)
  tables = []
  for rows in by_template.values():
    sample = rows[:: math.ceil(len(rows) * len(by_template) / _TEXTS) or 1]
    tables.append({
        'majority': _majority(rows, sample, fn),
        'chance': _chance(rows),
        'copy': _copy(sample, fn),
    })
  return {name: _mean([t[name] for t in tables]) for name in NAMES}


def best(values: Mapping[str, float | None]) -> float | None:
  """The highest baseline there is."""
  known = [values[n] for n in NAMES if values.get(n) is not None]
  return max(known) if known else None


def references(record: Record) -> list[str]:
  """The right answers of a record."""
  targets = record['targets']
  return [targets] if isinstance(targets, str) else list(targets)


def _is_choice(rows: Sequence[Record]) -> bool:
  """Whether the score is that of picking an option."""
  return all(
      r['metric'] == 'accuracy' and r['options'] and set(references(r)) & set(r['options'])
      for r in rows
  )


def _majority(rows: Sequence[Record], sample: Sequence[Record], fn) -> float | None:
  answers = collections.Counter(a for r in rows for a in set(references(r)))
  if not answers:
    return None
  answer = min(answers, key=lambda a: (-answers[a], a))
  if not _is_choice(rows):
    return _constant(sample, [answer] * len(sample), fn)
  positions = collections.Counter(
      i for r in rows for i, o in enumerate(r['options']) if o in references(r)
  )
  return 100 * max([answers[answer], *positions.values()]) / len(rows)


def _chance(rows: Sequence[Record]) -> float | None:
  if not _is_choice(rows):
    return None
  shares = [sum(o in references(r) for o in r['options']) / len(r['options']) for r in rows]
  return 100 * float(np.mean(shares))


def _copy(rows: Sequence[Record], fn) -> float | None:
  if any(r['mode'] != 'generate' for r in rows):
    return None
  scores = [_constant(rows, [f(r['inputs']) for r in rows], fn) for f in _COPIES]
  known = [s for s in scores if s is not None]
  return max(known) if known else None


def _constant(rows: Sequence[Record], predictions: list[str], fn) -> float | None:
  """The metric of given answers; None where the metric takes no plain text or is not known."""
  if fn is None or any('postprocessed' in r for r in rows):
    return None
  from flanjax.data import metrics

  targets = [r['targets'] for r in rows]
  units = metrics.unit_scores(fn, targets, predictions)
  return float(np.mean(units) if units is not None else fn(targets, predictions)[rows[0]['metric']])


def _lines(text: str) -> list[str]:
  return [line.strip() for line in text.splitlines() if line.strip()] or ['']


def _first_sentence(text: str) -> str:
  line = _lines(text)[0]
  ends = [i for i in (line.find(mark) for mark in ('. ', '? ', '! ')) if i >= 0]
  return line[: min(ends) + 1] if ends else line


_COPIES: tuple[Callable[[str], str], ...] = (
    str,
    _first_sentence,
    lambda text: _lines(text)[-1],
    lambda text: max(_lines(text), key=len),
)


def _mean(values: Sequence[Any]) -> float | None:
  return None if any(v is None for v in values) else float(np.mean(values))
