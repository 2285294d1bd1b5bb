"""What a model was really given: examples and tokens for each task and template, as drawn.

A tally is a flat dict of counts that can be added up, kept in checkpoints and read again:

  {'steps': 1, 'rte_10templates/3/examples': 2, 'rte_10templates/3/inputs': 310, ...}

An audit is what it says, beside what the mixture promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.input.manifest import SIDES, PreparedTask

FORMAT_VERSION = 1
QUANTITIES = ('examples', *SIDES, *(f'cut_{side}' for side in SIDES), 'truncated')
# Below this many expected draws a task is pooled with others in the chi-square test, as is usual.
_FEWEST_EXPECTED = 5


def tally(names: Sequence[str], tasks: np.ndarray, index: np.ndarray) -> dict[str, int]:
  """Counts of some examples.

  Args:
    names: of the tasks.
    tasks: int [examples], number of each example's task.
    index: int [examples, 4], what the index of prepared data says of each (`manifest.COLUMNS`).
  """
  templates = index[:, 2]
  width = int(templates.max(initial=0)) + 1
  keys, inverse = np.unique(tasks.astype(np.int64) * width + templates, return_inverse=True)
  cut = index[:, 3]
  columns = [np.ones(len(tasks)), index[:, 0], index[:, 1], cut & 1, cut >> 1, cut > 0]
  found = {}
  for quantity, values in zip(QUANTITIES, columns):
    sums = np.bincount(inverse, values, len(keys)).astype(np.int64).tolist()
    for key, total in zip(keys.tolist(), sums):
      if total:
        task, template = divmod(key, width)
        found[f'{names[task]}/{template}/{quantity}'] = total
  return found


def audit(
    counts: Mapping[str, int],
    tasks: Sequence[PreparedTask],
    expected: np.ndarray,
    places: Mapping[str, int],
) -> dict[str, Any]:
  """What a tally says.

  Args:
    counts: a tally, with 'steps'.
    tasks: the tasks of the mixture.
    expected: float64 [tasks], the part of the draws that each task was promised.
    places: side -> places for tokens in a batch.

  Returns:
    {steps, examples, tokens, padding, test, tasks}. `tokens` counts EOS; `padding` is the part
    of the places of each side without a token; `test` is a chi-square test of the examples drawn
    against those expected (draws are stratified, so that a p near 1 is usual and one near 0 shows a
    bias); `tasks` has an entry for each, with its `templates`.
  """
  rows = [_task_entry(counts, task, part) for task, part in zip(tasks, expected.tolist())]
  examples = sum(r['examples'] for r in rows)
  for row in rows:
    row['drawn'] = row['examples'] / examples if examples else 0.0
  steps = counts.get('steps', 0)
  tokens = {side: sum(r[side] for r in rows) for side in SIDES}
  room = {side: max(1, steps * places[side]) for side in SIDES}
  return {
      'format_version': FORMAT_VERSION,
      'steps': steps,
      'examples': examples,
      'tokens': tokens,
      'padding': {side: 1 - tokens[side] / room[side] for side in SIDES},
      'truncated': sum(r['truncated'] for r in rows),
      'test': chi_square([r['examples'] for r in rows], expected),
      'tasks': rows,
  }


def _task_entry(counts: Mapping[str, int], task: PreparedTask, expected: float) -> dict[str, Any]:
  templates = {}
  for template in task.templates:
    row = {q: counts.get(f'{task.name}/{template}/{q}', 0) for q in QUANTITIES}
    templates[template] = row
  total = {q: sum(t[q] for t in templates.values()) for q in QUANTITIES}
  return {
      'task': task.name,
      'dataset': task.task,
      'cluster': task.cluster,
      'num_examples': task.num_examples,
      'rate': task.rate,
      'expected': expected,
      **total,
      'epochs': total['examples'] / task.num_examples,
      'templates': templates,
  }


def chi_square(drawn: Sequence[int], expected: np.ndarray) -> dict[str, float] | None:
  """Pearson's test of counts against parts; None where there is too little to test.

  Returns:
    {statistic, degrees_of_freedom, p}.
  """
  total = sum(drawn)
  pairs = sorted(zip((np.asarray(expected) * total).tolist(), drawn))
  pooled = [0.0, 0]
  kept = []
  for wanted, got in pairs:
    if pooled[0] < _FEWEST_EXPECTED:
      pooled = [pooled[0] + wanted, pooled[1] + got]
    else:
      kept.append((wanted, got))
  kept.append(tuple(pooled))
  if len(kept) < 2 or kept[-1][0] < _FEWEST_EXPECTED:
    return None
  wanted, got = (np.array(column, np.float64) for column in zip(*kept))
  from scipy import stats  # It takes a second, which a first batch would wait for.

  result = stats.chisquare(got, wanted * got.sum() / wanted.sum())
  return {'statistic': float(result.statistic), 'degrees_of_freedom': len(kept) - 1,
          'p': float(result.pvalue)}
