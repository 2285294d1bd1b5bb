"""How much a score depends on the template, and on what else: spread, and parts of variance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation import anova
from flanjax.evaluation.task_records import TaskRecords

FACTORS = ('seed', 'template', 'example')
# The name of a SeqIO task up to what says which templates: dataset_name_rte_type_3_scoring_eval
_STEM = re.compile(r'_(\d+templates|type_\d+)(_\w+)?\Z')


def spread(scores: Mapping[int, float]) -> dict[str, float] | None:
  """Median, quartiles, best and worst over templates (id -> score); None of fewer than two."""
  known = {t: s for t, s in scores.items() if not math.isnan(s)}
  if len(known) < 2:
    return None
  low, median, high = np.percentile(list(known.values()), [25, 50, 75]).tolist()
  worst = min(known, key=lambda t: (known[t], t))
  best = max(known, key=lambda t: (known[t], -t))
  return {'median': median, 'lower_quartile': low, 'upper_quartile': high,
          'worst': known[worst], 'worst_template': worst,
          'best': known[best], 'best_template': best, 'templates': len(known)}


def trained_templates(audit: Mapping[str, Any] | None) -> dict[str, frozenset[int]] | None:
  """Task, in its regime -> templates that training drew, from a run's train/audit.json.

  None where the run kept no such counts.
  """
  if not audit or 'tasks' not in audit:
    return None
  found: dict[str, frozenset[int]] = {}
  for row in audit['tasks']:
    drawn = {int(t) for t, counts in row.get('templates', {}).items() if counts.get('examples')}
    stem = _STEM.sub('', row['task'])
    found[stem] = found.get(stem, frozenset()) | drawn
  return found


def stem(table: TaskRecords) -> str:
  """The task of a table with its regime, as `trained_templates` names it."""
  record = next(iter(next(iter(table.by_model.values())).values()))
  return _STEM.sub('', record['seqio_task'])


def seen_and_unseen(
    scores: Mapping[int, float], seen: frozenset[int]
) -> dict[str, dict[str, Any] | None]:
  """The mean over templates that training drew, and over those that it did not."""
  def part(chosen: Sequence[float]) -> dict[str, Any] | None:
    known = [s for s in chosen if not math.isnan(s)]
    return {'value': float(np.mean(known)), 'templates': len(known)} if known else None

  return {'seen': part([s for t, s in scores.items() if t in seen]),
          'unseen': part([s for t, s in scores.items() if t not in seen])}


def complete(grid: np.ndarray) -> np.ndarray:
  """The examples [seeds, templates, examples] that every seed and template has."""
  return grid[:, :, ~np.isnan(grid).any(axis=(0, 1))]


def task_components(grid: np.ndarray) -> dict[str, Any] | None:
  """Parts of the variance of one task's scores: of seeds, templates, examples and what crosses.

  Args:
    grid: [seeds, templates, examples], NaN where there is none; examples that lack any are out.

  Returns:
    {n: {factor: members}, variance: {effect: estimate}, share: {effect: of the sum}}, negative
    estimates as zero in the shares; the highest interaction holds the error too. None with fewer
    than two examples or all scores equal.
  """
  whole = complete(grid)
  if whole.shape[2] < 2 or not whole.std():
    return None
  return _shares(anova.components(whole, FACTORS)) | {'n': dict(zip(FACTORS, whole.shape))}


def components(grids: Sequence[np.ndarray]) -> dict[str, Any] | None:
  """Parts of the variance over several tasks: as of `task_components`, averaged, and of tasks.

  A task's mean varies by its templates and examples too, so what those explain of the variance
  between task means (their components over their numbers) is taken off; 'seed' and 'seed x task'
  are of task means. Effects within tasks are averaged over the tasks that tell them. None with fewer than two tasks to tell from.
  """
  wholes = [w for w in map(complete, grids) if w.shape[2] > 1]
  if len(wholes) < 2:
    return None
  means = anova.components(np.stack([w.mean(axis=(1, 2)) for w in wholes], axis=1), ('seed', 'task'))
  within: dict[str, list[float]] = {}
  explained = []
  for whole in wholes:
    members = dict(zip(FACTORS, whole.shape))
    parts = anova.components(whole, FACTORS)
    parts.pop('seed', None)  # of this task alone; means of all tell seeds from seeds x tasks
    for effect, value in parts.items():
      within.setdefault(effect, []).append(value)
    explained.append({
        crossed: sum(v / math.prod(members[f] for f in e.split(' x ') if f != 'seed')
                     for e, v in parts.items() if ('seed' in e.split(' x ')) == crossed)
        for crossed in (False, True)})
  variance = {e: float(np.mean(v)) for e, v in within.items()}
  variance['task'] = means['task'] - float(np.mean([x[False] for x in explained]))
  if 'seed' in means:
    variance['seed'] = means['seed']
    variance['seed x task'] = means['seed x task'] - float(np.mean([x[True] for x in explained]))
  return _shares(variance) | {'n': {'seed': len(wholes[0]), 'task': len(wholes)}}


def _shares(variance: Mapping[str, float]) -> dict[str, Any]:
  positive = {e: max(0.0, v) for e, v in variance.items()}
  total = sum(positive.values())
  return {'variance': dict(variance),
          'share': {e: v / total if total else 0.0 for e, v in positive.items()}}
