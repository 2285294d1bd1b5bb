"""What asking with the options in another order, or under other labels, does to a model's answers.

An answer is right when it is (stripped) a right option's text, in every mode and whatever the
task's metric is, so that all ways of asking compare. They compare on the same prompts: those that were
asked in order 1 and reworded, where either was done at all. A prompt whose options have fewer other
orders than were asked for counts again in those that it has.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation import baselines as baselines_lib
from flanjax.evaluation import bootstrap, intervals, sensitivity, statistics
from flanjax.evaluation.records import Record
from flanjax.evaluation.task_records import Key, Label, TaskRecords

ORIGINAL, REWORDED = 'original', 'reworded'
# A way of asking -> the record of each prompt.
Cells = Mapping[str, Mapping[Key, Record]]


def group(records: Sequence[Record], label: Label) -> dict[tuple[str, str], list[Record]]:
  """Records of variants by (task, mode), named as the tables of the task itself are."""
  found: dict[tuple[str, str], list[Record]] = {}
  for r in records:
    found.setdefault((label(r)[0], r['mode']), []).append(r)
  return found


def of(
    table: TaskRecords, records: Sequence[Record], analysis: statistics.Analysis
) -> dict[str, dict[str, Any] | None] | None:
  """Of a task, by model; None where its options were asked in one way alone.

  {n_examples, templates, ways, spread, flips, position, wordings} of each: `ways` has for each way
  {variant, value, low, high, method, flips, difference}, the difference paired against the
  original; `flips` the share of prompts whose answer is not the same in all orders; `position` how
  often the first (last) option listed is chosen, and how often it is right.
  """
  by_model: dict[str, dict[str, dict[Key, Record]]] = {}
  for r in records:
    cells = by_model.setdefault(r['model'], {})
    cells.setdefault(r['variant'], {})[r['template_id'], r['example_id']] = r
  known = {m: c for m, c in by_model.items() if m in table.by_model}
  if not known:
    return None
  return {m: _of_model(table, m, known[m], analysis) if m in known else None
          for m in analysis.models}


def _of_model(
    table: TaskRecords, model: str, asked: Cells, analysis: statistics.Analysis
) -> dict[str, Any] | None:
  original = table.by_model[model]
  orders = sorted((v for v in asked if v != REWORDED), key=_number)
  needed = [asked[v] for v in (*orders[:1], REWORDED) if v in asked]
  keys = frozenset(original).intersection(*needed)
  if not keys:
    return None
  cells: dict[str, dict[Key, Record]] = {ORIGINAL: {k: original[k] for k in keys}}
  cells |= {v: {k: _in_order(asked, v, k) for k in keys} for v in orders}
  if REWORDED in asked:
    cells[REWORDED] = {k: asked[REWORDED][k] for k in keys}
  scored = dataclasses.replace(
      table, metric='accuracy', metric_fn=None, by_model={
          v: {k: r | {'score': 100.0 * is_right(r)} for k, r in cell.items()}
          for v, cell in cells.items()})
  ways = [_way(scored, v, cells, analysis) for v in cells]
  spread = sensitivity.spread({i: w['value'] for i, w in enumerate(ways)})
  return {
      'n_examples': statistics.count_examples([keys]),
      'templates': sorted({t for t, _ in keys}),
      'ways': ways,
      'spread': spread and _named(spread, list(cells)),
      'flips': _flips(cells, [ORIGINAL, *orders]) if orders else None,
      'position': _position(table, cells, [ORIGINAL, *orders], analysis),
      'wordings': dict(collections.Counter(r['wording'] for r in cells.get(REWORDED, {}).values())),
  }


def _number(variant: str) -> int:
  return int(variant.rpartition('_')[2])


def _in_order(asked: Cells, variant: str, key: Key) -> Record:
  """A prompt in that order, or in the one that stands for it where its options have fewer."""
  if key in asked[variant]:
    return asked[variant][key]
  others = sorted((v for v in asked if v != REWORDED and key in asked[v]), key=_number)
  return asked[others[(_number(variant) - 1) % len(others)]][key]


def _way(
    scored: TaskRecords, variant: str, cells: Cells, analysis: statistics.Analysis
) -> dict[str, Any]:
  pair = dataclasses.replace(
      analysis, models=tuple(cells), tuned=variant, untuned=None, _memo={})
  score = pair.score([scored], variant)
  same = variant == ORIGINAL
  # Answers in other words are told to be the same by their place among the options alone.
  told = variant != REWORDED or all(map(right_places, cells[variant].values()))
  return {
      'variant': variant, **{k: score[k] for k in ('value', 'low', 'high', 'method')},
      'difference': None if same else pair.difference([scored], ORIGINAL),
      'flips': None if same or not told else _flips(cells, [ORIGINAL, variant]),
  }


def _named(spread: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  """`sensitivity.spread` over ways instead of templates."""
  found = {k: v for k, v in spread.items() if 'template' not in k}
  return found | {f'{end}_variant': names[spread[f'{end}_template']] for end in ('worst', 'best')}


def _flips(cells: Cells, names: Sequence[str]) -> dict[str, Any]:
  """The share of prompts whose answer is not the same in all of these ways."""
  flipped = {k: float(len({_choice(cells[n][k]) for n in names}) > 1) for k in cells[ORIGINAL]}
  x = _by_example(flipped)
  return {'value': 100 * float(x.mean()), **intervals.mean_of_shares([intervals.Share(x)]),
          'method': 'wilson'}


def _position(
    table: TaskRecords, cells: Cells, names: Sequence[str], analysis: statistics.Analysis
) -> dict[str, Any] | None:
  """{first, last: {chosen, right, lean, low, high}, none, n_examples}: `lean` is chosen less right.

  `none` is the share of answers that are none of the options. None where no right option is known.
  """
  # An order that stands for another counts once.
  rows = {(k, id(r)): r for n in names for k, r in cells[n].items() if right_places(r)}
  if not rows:
    return None
  found: dict[str, Any] = {'none': 100 * float(_means(rows, lambda r: place(r) is None).mean())}
  n = len(_means(rows, bool))
  weights = bootstrap.bootstrap_weights(table.task, n, analysis.resamples, analysis.seed)
  for name, index in (('first', lambda r: 0), ('last', lambda r: len(r['options']) - 1)):
    chosen = _means(rows, lambda r, index=index: place(r) == index(r))
    right = _means(rows, lambda r, index=index: index(r) in right_places(r))
    gaps = chosen - right
    draws = 100 * (weights @ gaps) / weights.sum(axis=1)
    found[name] = {'chosen': 100 * float(chosen.mean()), 'right': 100 * float(right.mean()),
                   'lean': 100 * float(gaps.mean()), **bootstrap.interval(draws)}
  return found | {'n_examples': n}


def _means(rows: Mapping[tuple[Key, int], Record], fact: Any) -> np.ndarray:
  """Of each example how often a fact holds: over its orders, then its templates."""
  by_key: dict[Key, list[float]] = {}
  for (key, _), record in rows.items():
    by_key.setdefault(key, []).append(float(fact(record)))
  return _by_example({k: float(np.mean(v)) for k, v in by_key.items()})


def _by_example(values: Mapping[Key, float]) -> np.ndarray:
  """Values of prompts, averaged over each example's templates."""
  found: dict[int, list[float]] = {}
  for (_, example), value in sorted(values.items()):
    found.setdefault(example, []).append(value)
  return np.array([np.mean(v) for v in found.values()])


def place(record: Record) -> int | None:
  """Which of the options as listed was answered; None: none of them."""
  if record['option_scores'] is not None:
    return int(np.argmax(record['option_scores']))
  options = [o.strip() for o in record['options'] or ()]
  answer = record['prediction'].strip()
  return options.index(answer) if answer in options else None


def right_places(record: Record) -> list[int]:
  """Which of the options as listed are right."""
  right = {t.strip() for t in baselines_lib.references(record)}
  return [i for i, o in enumerate(record['options'] or ()) if o.strip() in right]


def is_right(record: Record) -> bool:
  if record['mode'] == 'rank':
    return record['score'] == 100
  return record['prediction'].strip() in {t.strip() for t in baselines_lib.references(record)}


def _choice(record: Record) -> Any:
  """The answer as an option of the original list, or its text where it is none."""
  index = place(record)
  if index is None:
    return record['prediction'].strip()
  order = record.get('option_order')
  return index if order is None else order[index]
