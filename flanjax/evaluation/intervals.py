"""Intervals for shares of right answers; near none or all, resampling shows too little.

A hundred right answers of a hundred resample to a hundred every time, and the percentile interval
is a point. Wilson's interval is not; here it is made for means over templates and tasks too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from flanjax.evaluation.bootstrap import CONFIDENCE, interval

# Fewer right or wrong answers than this, in examples' worth, and percentile intervals of
# differences may hold the truth too seldom.
FEWEST = 10


@dataclasses.dataclass(frozen=True)
class Share:
  """A task's mean of 0/1 scores, in examples' contributions `x` [examples], whose mean it is."""

  x: np.ndarray

  @property
  def value(self) -> float:
    return float(self.x.mean())

  @property
  def is_extreme(self) -> bool:
    return len(self.x) * min(self.value, 1 - self.value) < FEWEST

  @property
  def effective(self) -> float:
    """Independent answers that would vary as much: more than examples under several templates.

    Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24(2), 1998.
    """
    n, p = len(self.x), self.value
    variance = float(self.x.var(ddof=1)) / n if n > 1 else 0.0
    return max(n, p * (1 - p) / variance) if variance > 0 else n

  def wilson(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
    return wilson(self.value, self.effective, confidence)


def wilson(p: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
  """Wilson's score interval of a share (JASA 22(158), 1927)."""
  z = float(scipy.stats.norm.ppf((1 + confidence) / 2))
  p = min(max(p, 0.0), 1.0)
  centre = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
  return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def mean_of_shares(shares: Sequence[Share], confidence: float = CONFIDENCE) -> dict[str, float]:
  """The interval of the mean over tasks, from each task's: {low, high}, 0..100.

  Each side's distances are added as variances would be: Zou and Donner, "Construction of
  confidence limits about effect measures", Statistics in Medicine 27(10), 2008.
  """
  ends = [share.wilson(confidence) for share in shares]
  below = [share.value - low for share, (low, _) in zip(shares, ends)]
  above = [high - share.value for share, (_, high) in zip(shares, ends)]
  return _around(np.mean([s.value for s in shares]), below, above)


def mean_of_gaps(
    pairs: Sequence[tuple[Share, Share]], confidence: float = CONFIDENCE
) -> dict[str, float]:
  """The interval of the mean over tasks of paired differences, first minus second: {low, high}.

  One task, one template: Newcombe's for paired proportions (Statistics in Medicine 17(22), 1998,
  method 10, without its correction of the correlation).
  """
  below, above = [], []
  for first, second in pairs:
    (low, high), (other_low, other_high) = first.wilson(confidence), second.wilson(confidence)
    r = _correlation(first.x, second.x)
    below.append(_side(first.value - low, other_high - second.value, r))
    above.append(_side(high - first.value, second.value - other_low, r))
  return _around(np.mean([a.value - b.value for a, b in pairs]), below, above)


def of_tasks(draws: np.ndarray, sides: Sequence[Sequence[np.ndarray]]) -> dict[str, Any]:
  """The interval of a mean over tasks of scores, or of paired differences: {low, high, method}.

  Scores have Wilson's, differences Newcombe's where a side is nearly all right or wrong; else the
  percentiles of the bootstrap.

  Args:
    draws: bootstrap values of the mean [resamples], 0..100.
    sides: of each task the share of right answers by example [examples], of one side or of the two
      that are compared; empty where scores are others than 0 and 100.
  """
  shares = [tuple(map(Share, members)) for members in sides]
  if shares and all(len(members) == 1 for members in shares):
    return mean_of_shares([share for share, in shares]) | {'method': 'wilson'}
  if all(shares) and any(share.is_extreme for members in shares for share in members):
    return mean_of_gaps(shares) | {'method': 'newcombe'}
  return interval(draws) | {'method': 'bootstrap'}


def of_mean(draws: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The interval of a mean over groups of other examples each: {low, high, method}.

  Percentiles of the bootstrap, or, where a group has another interval, the distances of all
  added as those of tasks are (`mean_of_shares`).

  Args:
    draws: bootstrap values of the mean [resamples], 0..100.
    rows: {value, low, high, method} of each group; none where groups share examples.
  """
  methods = sorted({row['method'] for row in rows})
  if methods in ([], ['bootstrap']):
    return interval(draws) | {'method': 'bootstrap'}
  below = [(row['value'] - row['low']) / 100 for row in rows]
  above = [(row['high'] - row['value']) / 100 for row in rows]
  value = float(np.mean([row['value'] for row in rows])) / 100
  return _around(value, below, above) | {'method': '+'.join(methods)}


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  if len(a) < 2 or not a.std() or not b.std():
    return 0.0
  return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def _side(a: float, b: float, r: float) -> float:
  return math.sqrt(max(0.0, a * a - 2 * r * a * b + b * b))


def _around(value: float, below: Sequence[float], above: Sequence[float]) -> dict[str, float]:
  n = len(below)
  return {'low': 100 * (float(value) - math.hypot(*below) / n),
          'high': 100 * (float(value) + math.hypot(*above) / n)}
