"""The smallest difference between two models that an evaluation is likely to detect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from flanjax.errors import UserError
from flanjax.evaluation.task_records import TaskRecords, contributions

POWER, ALPHA = 0.8, 0.05
# The standard deviation of an example's paired difference, where no records tell it. For scores of
# 0 and 100 it is that of two models right half the time whose answers do not go together: fewer
# differ when they do. Graded scores spread less.
SPREAD = {'accuracy': 100 * math.sqrt(0.5)}
_OTHER_SPREAD = 35.0


@dataclasses.dataclass(frozen=True)
class Detectable:
  """What an evaluation of one cluster can see.

  Attributes:
    cluster: its name.
    tasks: how many.
    n_examples: over all tasks.
    alpha: the level of its test, after Holm's correction.
    effect: the difference of the cluster's means, in points, that is found with `POWER`.
  """

  cluster: str
  tasks: int
  n_examples: int
  alpha: float
  effect: float


def detectable(
    n_by_cluster: Mapping[str, int | Sequence[int]],
    *,
    spread: float | Mapping[str, float | Sequence[float]] = SPREAD['accuracy'],
    power: float = POWER,
    alpha: float = ALPHA,
) -> list[Detectable]:
  """The difference of each cluster's means that a paired test finds `power` of the time.

  (z_{1 - alpha / 2m} + z_power) * se, where m is the number of clusters (Holm's first step, the
  hardest) and se = sqrt(sum over tasks of spread^2 / n) / tasks: Cohen, Statistical Power Analysis
  for the Behavioral Sciences, 1988, chapter 2, for paired differences; with normal quantiles, as n
  is large. It speaks of these tasks; to say something of tasks like these takes more tasks.

  Args:
    n_by_cluster: cluster -> examples of each of its tasks.
    spread: standard deviation of an example's paired difference, in points: one for all, or by
      cluster, for all its tasks or each. `spread_of` reads it from records.
    power: the chance of finding it.
    alpha: the chance of finding anything where there is nothing.

  Raises:
    UserError: a cluster without tasks or a task without examples, or a spread that is none.
  """
  quantile = scipy.stats.norm.ppf
  found = []
  for cluster, counts in n_by_cluster.items():
    n = np.atleast_1d(np.asarray(counts, np.float64))
    given = spread.get(cluster, SPREAD['accuracy']) if isinstance(spread, Mapping) else spread
    spreads = np.asarray(given, np.float64)
    if not n.size or not (n >= 1).all():
      raise UserError('A cluster has no examples to detect anything on.', where=cluster, got=counts)
    if spreads.ndim and spreads.shape != n.shape or not (spreads >= 0).all():
      raise UserError('Spreads must be numbers from 0, one for all tasks or one each.',
                      where=cluster, got=given, expected=f'{n.size} of them')
    level = alpha / len(n_by_cluster)
    error = math.sqrt(float((spreads**2 / n).sum())) / n.size
    effect = float(quantile(1 - level / 2) + quantile(power)) * error
    found.append(Detectable(cluster, n.size, int(n.sum()), level, effect))
  return found


def default_spread(metric: str) -> float:
  """The spread to assume of a metric without records."""
  return SPREAD.get(metric, _OTHER_SPREAD)


def spread_of(table: TaskRecords, first: str, second: str) -> float | None:
  """The spread of two models' paired differences, from records (of validation data, say).

  None where there are too few examples in common, or the metric is no mean over examples.
  """
  keys = frozenset(table.by_model.get(first, ())) & frozenset(table.by_model.get(second, ()))
  if table.is_corpus or len({e for _, e in keys}) < 2:
    return None
  return float(contributions(table.scores(first, keys) - table.scores(second, keys)).std(ddof=1))


def text(found: Sequence[Detectable], power: float = POWER, assumed: bool = True) -> str:
  """What to say before a run; `assumed` when the spread comes from no records."""
  if not found:
    return 'No cluster is compared.'
  lines = [f'smallest difference found {power:.0%} of the time, in points '
           f'(paired by example, two-sided 5 % over {len(found)} clusters after Holm):']
  width = max(len(d.cluster) for d in found)
  lines += [f'  {d.cluster:<{width}}  {d.effect:5.1f}   {d.tasks} tasks, {d.n_examples:,} examples'
            for d in found]
  if assumed:
    lines.append('  assuming answers of two models that do not go together; if they do, less is seen too')
  return '\n'.join(lines)


def as_data(found: Sequence[Detectable]) -> list[dict[str, Any]]:
  """For JSON."""
  return [dataclasses.asdict(d) for d in found]
