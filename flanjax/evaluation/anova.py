"""Where the variance of a score lies, and what that means for its mean: crossed random effects.

A table of scores with one value for each combination of the members of its factors (seeds and
tasks; or seeds, templates and examples) is read as a sum of random effects, one for each set of
factors. Balanced analysis of variance estimates their variances without bias, whatever the
distributions, so also for scores of 0 and 100: Searle, Casella and McCulloch, Variance Components,
1992, chapter 4; for factors all of which cross, Brennan, Generalizability Theory, 2001, chapter 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from flanjax.evaluation.bootstrap import CONFIDENCE

Subset = tuple[int, ...]  # axes, ascending


def _subsets(axes: Sequence[int]) -> Iterator[Subset]:
  """All sets of axes but the empty one."""
  for size in range(1, len(axes) + 1):
    yield from itertools.combinations(axes, size)


def mean_squares(values: np.ndarray) -> dict[Subset, tuple[float, int]]:
  """Sets of axes -> mean square and degrees of freedom of their interaction.

  Axes of length one have none. `values` are whole: no NaN.
  """
  axes = [a for a, n in enumerate(values.shape) if n > 1]
  means = {
      subset: values.mean(axis=tuple(set(range(values.ndim)) - set(subset)), keepdims=True)
      for subset in ((), *_subsets(axes))
  }
  found = {}
  for subset in _subsets(axes):
    effect = sum((-1) ** (len(subset) - len(inner)) * means[inner]
                 for inner in ((), *_subsets(subset)))
    degrees = math.prod(values.shape[a] - 1 for a in subset)
    repeats = values.size / math.prod(values.shape[a] for a in subset)
    found[subset] = (float(repeats * np.square(effect).sum() / degrees), degrees)
  return found


def components(values: np.ndarray, factors: Sequence[str]) -> dict[str, float]:
  """The variance of each effect: factor, or 'a x b' -> estimate; negative ones are as they come.

  E[MS_A] is the sum over sets B that hold A of sigma^2_B times the product of the lengths of the
  factors outside B; turned around, sigma^2_A is the alternating sum of those mean squares over the
  product of the lengths outside A. The highest interaction holds the error too.
  """
  squares = mean_squares(values)
  found = {}
  for subset in squares:
    total = sum((-1) ** (len(outer) - len(subset)) * ms
                for outer, (ms, _) in squares.items() if set(subset) <= set(outer))
    repeats = values.size / math.prod(values.shape[a] for a in subset)
    found[' x '.join(factors[a] for a in subset)] = total / repeats
  return found


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> dict[str, Any] | None:
  """The mean of `values` with an interval for the mean over all members that factors might have.

  Var(mean) is estimated by the alternating sum of mean squares over N, for two factors
  (MS_a + MS_b - MS_ab) / N, which is what clustering on several ways comes to (Cameron, Gelbach
  and Miller, JBES 29(2), 2011). It is never taken for less than any one factor's own MS / N, as
  it cannot be in expectation. The interval is Student's, with Satterthwaite's degrees of freedom
  (Biometrics Bulletin 2(6), 1946).

  Args:
    values: [members of a factor, members of another, ...], whole. Factors of one member are
      left out: the interval then says nothing of other members.
    confidence: of the interval.

  Returns:
    {value, low, high, se, df}; None where no factor has two members.
  """
  squares = mean_squares(values)
  if not squares:
    return None
  parts = {s: ((-1) ** (len(s) + 1) * ms / values.size, df) for s, (ms, df) in squares.items()}
  variance = sum(part for part, _ in parts.values())
  degrees = _satterthwaite(parts, variance)
  floor = max((parts[s] for s in parts if len(s) == 1), key=lambda part: part[0])
  if variance < floor[0]:
    variance, degrees = floor
  half = math.sqrt(variance) * float(scipy.stats.t.ppf((1 + confidence) / 2, degrees))
  value = float(values.mean())
  return {'value': value, 'low': value - half, 'high': value + half,
          'se': math.sqrt(variance), 'df': float(degrees)}


def _satterthwaite(parts: Mapping[Subset, tuple[float, int]], variance: float) -> float:
  """Degrees of freedom of a sum of mean squares; at least the least of a factor's own."""
  least = min(df for s, (_, df) in parts.items() if len(s) == 1)
  spread = sum(part**2 / df for part, df in parts.values())
  return max(least, variance**2 / spread) if spread > 0 else float(least)
