"""Whether two models differ: exact tests of paired scores, and Holm's correction over many.

The unit is the example: its answers under all templates are swapped together between the models,
for they are not independent of each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import scipy.stats

from flanjax.evaluation.weighted import Statistic

FLIPS = 20_000
_MOST_DRAWS = 40_000_000
_BLOCK = 4_000_000
_K = TypeVar('_K')


def mcnemar(won: int, lost: int) -> float:
  """McNemar's exact test: the two-sided p value of that many discordant pairs each way.

  Were the models alike, each discordant pair would go either way evenly (McNemar, Psychometrika
  12(2), 1947; the exact form is the binomial test).
  """
  if won + lost == 0:
    return 1.0
  return float(scipy.stats.binomtest(won, won + lost, 0.5).pvalue)


def discordant(gaps: np.ndarray) -> dict[str, int]:
  """Examples that the first model wins, loses and ties, by its mean over templates."""
  return {'won': int((gaps > 0).sum()), 'lost': int((gaps < 0).sum()),
          'tied': int((gaps == 0).sum())}


def is_mcnemar(gaps: np.ndarray) -> bool:
  """Whether swapping examples is McNemar's test: the gaps are of one size or none."""
  sizes = np.abs(gaps[gaps != 0])
  return not len(sizes) or bool(np.allclose(sizes, sizes[0]))


def flips_of(gaps: Sequence[np.ndarray]) -> int:
  """How many random swaps are affordable for tasks of such gaps."""
  draws = max(len(_sizes(g)[0]) for g in gaps) or 1
  return int(min(FLIPS, max(2_000, _MOST_DRAWS // draws)))


def _sizes(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sizes of gaps that are not zero, and how often each occurs."""
  return np.unique(np.round(np.abs(gaps[gaps != 0]), 12), return_counts=True)


def swapped_gaps(gaps: np.ndarray, flips: int, rng: np.random.Generator) -> np.ndarray:
  """The sum of `gaps` [examples] with random signs, `flips` times.

  Gaps of one size need one binomial draw between them, whatever their number.
  """
  sizes, counts = _sizes(gaps)
  if not len(sizes):
    return np.zeros(flips)
  step = max(1, _BLOCK // len(sizes))
  parts = [
      (2 * rng.binomial(counts, 0.5, size=(min(step, flips - start), len(sizes))) - counts) @ sizes
      for start in range(0, flips, step)
  ]
  return np.concatenate(parts)


def swapped_statistic(
    both: Statistic, num_examples: int, flips: int, rng: np.random.Generator
) -> np.ndarray:
  """The difference of a corpus metric after random swaps of examples between two models: [flips].

  "Approximate randomization": Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989;
  Riezler and Maxwell, ACL workshop MTSE, 2005.

  Args:
    both: weights [resamples, 2 * examples] -> values [resamples, templates]: the metric on the
      first model's answers followed by the second's.
    num_examples: of each.
    flips: how many swaps.
    rng: draws them.
  """
  kept = rng.integers(0, 2, size=(flips, num_examples)).astype(np.float64)
  first = both(np.concatenate([kept, 1 - kept], axis=1))
  second = both(np.concatenate([1 - kept, kept], axis=1))
  return np.nanmean(first - second, axis=1)


def generator(task: str, num_examples: int, seed: int) -> np.random.Generator:
  """Draws that depend on nothing else; not those of the bootstrap."""
  return np.random.default_rng([seed, zlib.crc32(f'swap {task}'.encode()), num_examples])


def p_value(observed: float, under_null: np.ndarray) -> float:
  """The two-sided p value of a difference among those after swaps.

  What was observed counts as one of them, so that it is never zero (Phipson and Smyth,
  Statistical Applications in Genetics and Molecular Biology 9(1), 2010).
  """
  as_large = np.abs(under_null) >= abs(observed) * (1 - 1e-9) - 1e-9
  return float((1 + as_large.sum()) / (1 + len(under_null)))


def holm(p: Mapping[_K, float | None]) -> dict[_K, float | None]:
  """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 6(2), 1979).

    {'a': 0.01, 'b': 0.04, 'c': 0.03} -> {'a': 0.03, 'b': 0.06, 'c': 0.06}

  Rejecting those at most alpha keeps the chance of any false rejection at alpha, however the
  tests depend on each other. None stays None and does not count.
  """
  known = sorted((value, i, key) for i, (key, value) in enumerate(p.items()) if value is not None)
  adjusted: dict[_K, float | None] = dict.fromkeys(p)
  highest = 0.0
  for rank, (value, _, key) in enumerate(known):
    highest = max(highest, min(1.0, (len(known) - rank) * value))
    adjusted[key] = highest
  return adjusted
