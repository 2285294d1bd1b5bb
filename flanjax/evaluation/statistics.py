"""From records to scores with intervals.

A score is the mean over examples (or a corpus metric), then over a task's templates, then over a
cluster's tasks. Its interval speaks of these tasks and templates on other examples like these, and
of nothing else. It is a percentile bootstrap interval, stratified by task, whose unit is the
example (its records under all templates stay together: they are not independent); both models of
a difference are read on the same resample, which pairs them. Scores of 0 and 100 have Wilson's
interval instead, and their differences Newcombe's where nearly all answers are right or wrong.
What tasks, templates and seeds like these would show is in `seeds`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flanjax import errors
from flanjax.evaluation import intervals, significance
from flanjax.evaluation.bootstrap import RESAMPLES, bootstrap_weights, interval
from flanjax.evaluation.task_records import (
    Key, TaskRecords, axes, contributions, count_examples, group)
from flanjax.evaluation.weighted import MetricFn, corpus_statistic, mean_statistic

# What others know by this module's name.
__all__ = ['MetricFn', 'RESAMPLES', 'bootstrap_weights', 'contributions', 'corpus_statistic', 'group',
           'interval', 'mean_statistic']

# A corpus metric is computed anew on every resample, so a cluster that holds one gets fewer.
CORPUS_RESAMPLES = 500
EXAMPLES = 'these tasks, other examples'


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What a comparison needs besides the records.

  `models` are all names in order; `tuned` and `untuned` the pair whose difference is reported.
  """

  models: tuple[str, ...]
  tuned: str | None = None
  untuned: str | None = None
  resamples: int = RESAMPLES
  corpus_resamples: int = CORPUS_RESAMPLES
  seed: int = 0
  _memo: dict[Any, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)

  @property
  def lead(self) -> str:
    """The model that others are compared with."""
    return self.tuned or self.models[0]

  def keys(self, table: TaskRecords) -> frozenset[Key]:
    """The (template, example) pairs that a table's scores are about.

    Those that the tuned and the untuned model share, or all of the only one's.
    """
    pair = [m for m in (self.lead, self.untuned) if m in table.by_model] or list(table.by_model)[:1]
    keys = frozenset.intersection(*(frozenset(table.by_model[m]) for m in pair))
    if not keys:
      raise errors.UserError(
          'two models have no example in common', where=f'{table.task} ({table.mode})',
          got=' and '.join(pair), expected='both evaluated on the same split and templates',
      )  # fmt: skip
    return keys

  def has_keys(self, table: TaskRecords) -> bool:
    """Whether there is anything that a table's scores would be about."""
    try:
      return bool(self.keys(table))
    except errors.UserError:
      return False

  def common(self, table: TaskRecords, model: str) -> frozenset[Key]:
    """Those of `keys` that `model` has too."""
    return self.keys(table) & frozenset(table.by_model.get(model, ()))

  def values(
      self, table: TaskRecords, model: str, keys: frozenset[Key], resamples: int
  ) -> np.ndarray:
    """The task's score on `keys` [1 + resamples]: first the value, then the bootstrap's."""
    memo = (table.task, table.mode, model, keys, resamples)
    if memo not in self._memo:
      num_examples = len({example for _, example in keys})
      draws = bootstrap_weights(table.task, num_examples, resamples, self.seed)
      weights = np.concatenate([np.ones((1, num_examples)), draws])
      self._memo[memo] = mean_over_templates(table.statistic(model, keys)(weights))
    return self._memo[memo]

  def score(self, tables: Sequence[TaskRecords], model: str) -> dict[str, Any] | None:
    """Mean over tasks with its interval; None unless the model has every task."""
    keys = [self.common(t, model) for t in tables]
    if not tables or not all(keys):
      return None
    n = self.resamples_for(tables)
    mean = np.mean([self.values(t, model, k, n) for t, k in zip(tables, keys)], axis=0)
    ends = intervals.of_tasks(mean[1:], _sides(tables, (model,), keys))
    return {'value': float(mean[0]), **ends, 'population': EXAMPLES}

  def difference(self, tables: Sequence[TaskRecords], other: str) -> dict[str, Any] | None:
    """The lead model minus `other`, paired by example; None unless both have every task."""
    keys = [self.common(t, self.lead) & self.common(t, other) for t in tables]
    if not tables or other == self.lead or not all(keys):
      return None
    n = self.resamples_for(tables)
    gaps = [
        self.values(t, self.lead, k, n) - self.values(t, other, k, n) for t, k in zip(tables, keys)
    ]
    mean = np.mean(gaps, axis=0)
    ends = intervals.of_tasks(mean[1:], _sides(tables, (self.lead, other), keys))
    return {'value': float(mean[0]), **ends, 'population': EXAMPLES,
            'n_examples': count_examples(keys), **self._test(tables, other, keys, float(mean[0]))}

  def _test(
      self, tables: Sequence[TaskRecords], other: str, keys: Sequence[frozenset[Key]], value: float
  ) -> dict[str, Any]:
    """{p, test, discordant}: whether the lead model and `other` differ."""
    plain = [not t.is_corpus for t in tables]
    gaps = [
        t.contributions(self.lead, k) - t.contributions(other, k)
        for t, k, mean in zip(tables, keys, plain) if mean
    ]
    found = None
    if all(plain):
      found = significance.discordant(np.concatenate(gaps))
    if len(tables) == 1 and all(plain) and significance.is_mcnemar(gaps[0]):
      p = significance.mcnemar(found['won'], found['lost'])
      return {'p': p, 'test': 'mcnemar' if tables[0].is_binary else 'sign', 'discordant': found}
    flips = significance.flips_of(gaps) if all(plain) else self.resamples_for(tables)
    swapped = [self._swapped(t, other, k, flips) for t, k in zip(tables, keys)]
    p = significance.p_value(value, np.mean(swapped, axis=0))
    return {'p': p, 'test': 'swap', 'discordant': found}

  def _swapped(
      self, table: TaskRecords, other: str, keys: frozenset[Key], flips: int
  ) -> np.ndarray:
    """A task's difference after random swaps of examples between the models: [flips]."""
    memo = ('swapped', table.task, table.mode, other, keys, flips)
    if memo not in self._memo:
      n = len({example for _, example in keys})
      rng = significance.generator(table.task, n, self.seed)
      if table.is_corpus:
        both = table.statistic_of((self.lead, other), keys)
        self._memo[memo] = significance.swapped_statistic(both, n, flips, rng)
      else:
        gaps = table.contributions(self.lead, keys) - table.contributions(other, keys)
        self._memo[memo] = significance.swapped_gaps(gaps / n, flips, rng)
    return self._memo[memo]

  def resamples_for(self, tables: Sequence[TaskRecords]) -> int:
    """How many resamples are affordable."""
    slow = any(t.is_corpus and t.metric != 'bleu' for t in tables)
    return self.corpus_resamples if slow else self.resamples


def _sides(
    tables: Sequence[TaskRecords], models: Sequence[str], keys: Sequence[frozenset[Key]]
) -> list[list[np.ndarray]]:
  """Each task's shares of right answers by model; none unless every task's scores are 0 and 100."""
  if not all(t.is_binary for t in tables):
    return []
  return [[t.contributions(m, k) / 100 for m in models] for t, k in zip(tables, keys)]


def mean_over_templates(values: np.ndarray) -> np.ndarray:
  """[resamples, templates] -> [resamples], over the templates that have a value."""
  present = ~np.isnan(values)
  total = np.where(present, values, 0.0).sum(axis=1)
  count = present.sum(axis=1)
  return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def template_scores(
    table: TaskRecords, model: str, keys: frozenset[Key] | None = None
) -> dict[int, float]:
  """Score per template id, on `keys` or on all the model has."""
  keys = frozenset(table.by_model[model]) if keys is None else keys
  templates, examples = axes(keys)
  values = table.statistic(model, keys)(np.ones((1, len(examples))))[0]
  return {t: float(v) for t, v in zip(templates, values)}


def best_dev_template(
    dev: TaskRecords | None, test: TaskRecords, model: str, keys: frozenset[Key]
) -> dict[str, Any] | None:
  """FLAN's second number: the test score of the template that does best on the dev records.

  {'template_id', 'value', 'dev_value', 'n_dev', 'of' (how many templates)}, or None without dev
  records; the lowest id wins a tie.
  """
  if dev is None or model not in dev.by_model or not keys:
    return None
  scores = template_scores(test, model, keys)
  on_dev = {t: v for t, v in template_scores(dev, model).items() if t in scores}
  if not on_dev:
    return None
  best = min(on_dev, key=lambda t: (-on_dev[t], t))
  return {'template_id': best, 'value': scores[best], 'dev_value': on_dev[best],
          'n_dev': sum(t == best for t, _ in dev.by_model[model]), 'of': len(on_dev)}
