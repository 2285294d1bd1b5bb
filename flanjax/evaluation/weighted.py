"""The value of a metric on weighted examples: means, and corpus metrics, which are none.

Resampling and swapping examples are both weights on them, so this is all that the bootstrap and
the tests of significance need to know of a metric.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from flanjax.evaluation.records import Record

MetricFn = Callable[..., Mapping[str, float]]
# weights [resamples, examples] -> values [resamples, templates], NaN where a template has no data
Statistic = Callable[[np.ndarray], np.ndarray]


def mean_statistic(scores: np.ndarray) -> Statistic:
  """Weighted mean over examples of `scores` [templates, examples], skipping NaN."""
  present = ~np.isnan(scores)
  filled = np.where(present, scores, 0.0)

  def values(weights: np.ndarray) -> np.ndarray:
    if present.all():
      total = np.repeat(weights.sum(axis=1, keepdims=True), len(scores), axis=1)
    else:
      total = weights @ present.T
    return np.divide(
        weights @ filled.T, total, out=np.full(total.shape, np.nan), where=total > 0
    )

  return values


def corpus_statistic(
    metric_fn: MetricFn, metric: str, grid: Sequence[Sequence[Record | None]]
) -> Statistic:
  """`metric_fn`'s value on the records repeated by their weights; `grid` is [templates][examples]."""
  sums = _bleu_statistic(metric_fn, metric, grid)
  if sums is not None:
    return sums

  def value(row: Sequence[Record | None], weights: np.ndarray) -> float:
    pairs = [pair(r) for r, w in zip(row, weights) if r is not None for _ in range(int(w))]
    if not pairs:
      return np.nan
    targets, predictions = zip(*pairs)
    return float(metric_fn(list(targets), list(predictions))[metric])

  return lambda weights: np.array([[value(row, w) for row in grid] for w in weights])


def _bleu_statistic(
    metric_fn: MetricFn, metric: str, grid: Sequence[Sequence[Record | None]]
) -> Statistic | None:
  """BLEU from its sums over sentences, which is exact and far quicker than from the text.

  None when the metric is another one, or BLEU with settings not tried (values are compared).
  """
  if metric != 'bleu':
    return None
  pairs = [pair(r) for r in grid[0] if r is not None]
  whole = metric_fn([t for t, _ in pairs], [p for _, p in pairs])[metric]
  for tokenize in ('intl', '13a'):
    values = functools.partial(_bleu_values, _bleu_sums(grid, tokenize))
    if np.isclose(values(np.ones((1, len(grid[0]))))[0, 0], whole, atol=1e-6):
      return values
  return None


def _bleu_sums(grid: Sequence[Sequence[Record | None]], tokenize: str) -> np.ndarray:
  """[templates, examples, 10]: n-gram matches and counts for n of 1 to 4, both lengths."""
  scorer = BLEU(tokenize=tokenize)

  def sums(record: Record | None) -> list[float]:
    if record is None:
      return [0.0] * 10
    references, prediction = pair(record)
    references = [references] if isinstance(references, str) else references
    s = scorer.corpus_score([prediction], [[r] for r in references])
    return [*s.counts, *s.totals, s.sys_len, s.ref_len]

  return np.array([[sums(r) for r in row] for row in grid], np.float64)


def _bleu_values(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Corpus BLEU per resample and template (Papineni et al. 2002; sacrebleu's smoothing 'exp')."""
  totals = np.einsum('be,tek->btk', weights, sums, optimize=True)
  matches, counts, said, wanted = totals[..., :4], totals[..., 4:8], totals[..., 8], totals[..., 9]
  # An order without a match counts as half a match, the next such order as a quarter, and so on.
  missed = np.cumsum(matches == 0, axis=-1)
  smoothed = np.where(matches > 0, matches, 0.5**missed)
  with np.errstate(divide='ignore', invalid='ignore'):
    precisions = np.where(counts > 0, smoothed / counts, 0.0)
    brevity = np.minimum(1.0, np.exp(1 - wanted / said))
    values = 100 * brevity * np.exp(np.log(precisions).mean(axis=-1))
  values = np.where((matches > 0).any(axis=-1) & (said > 0), values, 0.0)
  return np.where(wanted > 0, values, np.nan)


def pair(record: Record) -> tuple[Any, Any]:
  """Target and prediction as the metric takes them."""
  if 'postprocessed' not in record:
    return record['targets'], record['prediction']
  # A postprocessor's named tuple is an object in JSON; metrics read its fields by name.
  return tuple(
      types.SimpleNamespace(**v) if isinstance(v, Mapping) else v for v in record['postprocessed']
  )
