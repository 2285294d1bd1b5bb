"""Resampling of examples, and of seeds, tasks, templates and examples together.

Two populations, two bootstraps. Resampling examples alone asks what other examples of the same
datasets would have shown of these tasks, templates and trained models. The hierarchical bootstrap
asks what tasks like these would have shown, under other templates, after other trainings.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from flanjax.evaluation.weighted import Statistic

RESAMPLES = 2_000
CONFIDENCE = 0.95
LEVELS = ('seeds', 'tasks', 'templates', 'examples')
# Entries of the largest array of weights held at once.
_BLOCK = 4_000_000


def bootstrap_weights(task: str, num_examples: int, resamples: int, seed: int) -> np.ndarray:
  """How often each example is drawn in each resample: float64 [resamples, examples].

  A function of the arguments alone: two statistics of one task on the same examples are paired,
  and those of different tasks independent.
  """
  rng = np.random.default_rng([seed, zlib.crc32(task.encode()), num_examples])
  even = np.full(num_examples, 1 / num_examples)
  return rng.multinomial(num_examples, even, size=resamples).astype(np.float64)


def interval(values: np.ndarray, confidence: float = CONFIDENCE) -> dict[str, float]:
  """The percentile interval of bootstrap values [resamples]; resamples without a value are out.

  Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
  """
  tail = 100 * (1 - confidence) / 2
  known = values[~np.isnan(values)]
  low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
  return {'low': float(low), 'high': float(high)}


@dataclasses.dataclass(frozen=True)
class Effect:
  """A score, or a difference of scores, of one task as several runs measured it.

  Attributes:
    task: its name.
    num_examples: examples, the same for all runs.
    num_templates: templates, the same for all runs.
    per_seed: for each run, weights [resamples, examples] -> values [resamples, templates]. Both
      models of a difference are read on the same weights, which keeps them paired.
    grid: the same by example, [seeds, templates, examples], NaN where there is none; None for a
      metric that is no mean over examples.
    sides: the share of right answers by example [examples], over templates and runs, of the score
      or of the two sides of the difference; empty where scores are others than 0 and 100.
  """

  task: str
  num_examples: int
  num_templates: int
  per_seed: tuple[Statistic, ...]
  grid: np.ndarray | None = None
  sides: tuple[np.ndarray, ...] = ()

  def values(self) -> np.ndarray:
    """What was measured: [seeds, templates]."""
    even = np.ones((1, self.num_examples))
    return np.concatenate([statistic(even) for statistic in self.per_seed])


def hierarchical(
    effects: Mapping[str, Sequence[Effect]],
    resamples: int = RESAMPLES,
    seed: int = 0,
    levels: Sequence[str] = LEVELS,
) -> dict[str, np.ndarray]:
  """Bootstrap values of each cluster's mean.

  Seeds are drawn with replacement, within a cluster its tasks, within a task its templates and its
  examples. Seeds cross everything, and examples cross templates, so a draw of each is shared by
  all that it crosses: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
  A level of one member cannot be drawn from: nothing is said about it. `overall` draws clusters.

  Percentiles of these values are too narrow where a level has few members (docs/statistics.md has
  the measured coverage); `anova.mean_interval` is made for that.

  Args:
    effects: cluster -> its tasks, all of the same number of seeds.
    resamples: how many.
    seed: of the draws.
    levels: those to draw; the others stay as they are.

  Returns:
    cluster -> float64 [1 + resamples], what was measured and then the draws.
  """
  seeds = len(next(iter(effects.values()))[0].per_seed)
  drawn = _Draws(resamples, seed, frozenset(levels))
  by_seed = drawn.weights('seeds', 'seeds', seeds)
  found = {}
  for cluster, members in effects.items():
    by_task = drawn.weights('tasks', cluster, len(members))
    tasks = [_task(effect, drawn, by_seed) for effect in members]
    found[cluster] = _weighted(np.stack(tasks, axis=1), by_task)
  return found


def overall(
    clusters: Mapping[str, np.ndarray], seed: int = 0, draw_clusters: bool = True
) -> np.ndarray:
  """The mean over clusters of what `hierarchical` gave: [1 + resamples].

  Args:
    clusters: cluster -> [1 + resamples].
    seed: of the draws.
    draw_clusters: whether clusters are drawn too, or are these.
  """
  values = np.stack(list(clusters.values()), axis=1)
  levels = frozenset({'clusters'} if draw_clusters else ())
  drawn = _Draws(len(values) - 1, seed, levels)
  return _weighted(values, drawn.weights('clusters', 'clusters', len(clusters)))


@dataclasses.dataclass(frozen=True)
class _Draws:
  """Weights of any level's members; the first row is what was measured."""

  resamples: int
  seed: int
  levels: frozenset[str]

  def weights(self, level: str, name: str, n: int) -> np.ndarray:
    """float64 [1 + resamples, n]."""
    if level not in self.levels or n == 1:
      return np.ones((1 + self.resamples, n))
    rng = np.random.default_rng([self.seed, zlib.crc32(f'{level} of {name}'.encode()), n])
    drawn = rng.integers(0, n, size=(self.resamples, n))
    # Counted in one go, which is far quicker than multinomial draws of many members.
    drawn += n * np.arange(self.resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=self.resamples * n)
    return np.concatenate([np.ones((1, n)), counts.reshape(self.resamples, n)])


def _task(effect: Effect, drawn: _Draws, by_seed: np.ndarray) -> np.ndarray:
  """A task's mean over drawn seeds, templates and examples: [1 + resamples]."""
  by_template = drawn.weights('templates', effect.task, effect.num_templates)
  by_example = drawn.weights('examples', effect.task, effect.num_examples)
  step = max(1, _BLOCK // effect.num_examples)
  parts = []
  for start in range(0, len(by_seed), step):
    rows = slice(start, start + step)
    values = np.stack([statistic(by_example[rows]) for statistic in effect.per_seed], axis=1)
    weights = by_seed[rows, :, None] * by_template[rows, None, :]
    flat = (len(values), -1)
    parts.append(_weighted(values.reshape(flat), weights.reshape(flat)))
  return np.concatenate(parts)


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Weighted means of rows, over what has a value; NaN where nothing has."""
  weights = np.where(np.isnan(values), 0.0, weights)
  total = weights.sum(axis=1)
  summed = (np.where(np.isnan(values), 0.0, values) * weights).sum(axis=1)
  return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)
