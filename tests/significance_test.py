import numpy as np
import pytest
import scipy.stats
import statsmodels.stats.contingency_tables as tables
import statsmodels.stats.multitest as multitest
import statsmodels.stats.power as sm_power
import statsmodels.stats.proportion as proportion
from sacrebleu.metrics import BLEU

from flanjax.errors import UserError
from flanjax.evaluation import intervals, power, significance, weighted
from tests.statistics_test import grid, only_cluster


@pytest.mark.parametrize(('won', 'lost'), [(0, 0), (1, 0), (9, 2), (40, 61), (5, 5)])
def test_mcnemar_is_statsmodels_exact_test(won, lost):
  theirs = tables.mcnemar([[30, won], [lost, 7]], exact=True).pvalue
  assert significance.mcnemar(won, lost) == pytest.approx(min(1.0, theirs))


def test_holm_is_statsmodels_and_leaves_out_what_has_no_p():
  p = dict(zip('abcdef', [0.01, 0.04, 0.03, 0.005, 0.9, 0.04]))
  theirs = multitest.multipletests(list(p.values()), method='holm')[1]
  assert list(significance.holm(p).values()) == pytest.approx(theirs)
  assert significance.holm({'x': None, 'y': 0.02, 'z': 0.5}) == {'x': None, 'y': 0.04, 'z': 0.5}
  assert significance.holm({}) == {}


def test_swapping_answers_is_scipys_permutation_test():
  rng = np.random.default_rng(0)
  a, b = rng.normal(0.9, 1, 11), rng.normal(0, 1, 11)
  exact = scipy.stats.permutation_test(
      (a, b), lambda x, y: np.mean(x - y), permutation_type='samples', n_resamples=np.inf).pvalue
  draws = significance.swapped_gaps((a - b) / 11, 20_000, np.random.default_rng(1))
  assert significance.p_value(float(np.mean(a - b)), draws) == pytest.approx(exact, abs=0.012)


def test_swapping_answers_of_one_template_is_mcnemars_test():
  gaps = np.array([100.0] * 14 + [-100.0] * 5 + [0.0] * 30)
  draws = significance.swapped_gaps(gaps, 40_000, np.random.default_rng(1))
  assert significance.p_value(gaps.sum(), draws) == pytest.approx(significance.mcnemar(14, 5), abs=0.01)


def test_swapping_whole_answers_of_a_corpus_metric_agrees_with_swapping_scores():
  rng = np.random.default_rng(2)
  a, b = rng.normal(55, 10, (1, 40)), rng.normal(50, 10, (1, 40))
  both = weighted.mean_statistic(np.concatenate([a, b], axis=1))
  slow = significance.swapped_statistic(both, 40, 4_000, np.random.default_rng(3))
  fast = significance.swapped_gaps((a - b)[0] / 40, 4_000, np.random.default_rng(4))
  np.testing.assert_allclose(np.percentile(slow, [5, 50, 95]), np.percentile(fast, [5, 50, 95]), atol=0.35)


def test_a_p_value_is_never_zero_and_one_where_nothing_differs():
  assert significance.p_value(50.0, np.zeros(99)) == 0.01
  assert significance.p_value(0.0, significance.swapped_gaps(np.zeros(5), 99, np.random.default_rng(0))) == 1


def test_a_report_tells_the_test_its_counts_and_its_correction():
  records = grid('a', [[100.0] * 8 + [0.0] * 2]) + grid('b', [[0.0] * 6 + [100.0] * 2 + [100.0, 0.0]])
  gap = only_cluster(records)['difference']
  assert gap['discordant'] == {'won': 6, 'lost': 1, 'tied': 3} and gap['test'] == 'mcnemar'
  assert gap['p'] == gap['p_holm'] == pytest.approx(significance.mcnemar(6, 1))
  several = only_cluster(grid('a', [[100.0] * 8] * 2) + grid('b', [[0.0] * 8, [100.0, 0.0] * 4]))
  assert several['difference']['test'] == 'swap' and several['difference']['p'] < 0.02


@pytest.mark.parametrize(('right', 'n'), [(0, 10), (3, 10), (97, 100), (100, 100)])
def test_wilsons_interval_is_statsmodels(right, n):
  theirs = proportion.proportion_confint(right, n, method='wilson')
  assert intervals.wilson(right / n, n) == pytest.approx(theirs, abs=1e-9)


def test_all_answers_right_is_no_certainty():
  cluster = only_cluster(grid('a', [[100.0] * 50]) + grid('b', [[100.0] * 50]))
  ends, gap = cluster['intervals']['a'], cluster['difference']
  assert ends['high'] == 100 and ends['low'] == pytest.approx(100 * intervals.wilson(1, 50)[0])
  assert gap['low'] < 0 < gap['high'] and gap['method'] == 'newcombe' and gap['p'] == 1


def test_a_task_with_one_example_has_wide_intervals_and_no_evidence():
  gap = only_cluster(grid('a', [[100.0]]) + grid('b', [[0.0]]))['difference']
  assert gap['value'] == 100 and gap['low'] < 0 and gap['p'] == 1


def test_bleu_from_arrays_is_sacrebleus():
  rng = np.random.default_rng(0)
  for case in range(300):
    matches = np.sort(rng.integers(0, 7, 4))[::-1] * (case % 7 > 0)
    counts = matches + np.sort(rng.integers(0, 5, 4))[::-1]
    lengths = rng.integers(0, 12), rng.integers(1, 12)
    theirs = BLEU.compute_bleu(matches.tolist(), counts.tolist(), *map(int, lengths), smooth_method='exp')
    sums = np.array([[[*matches, *counts, *lengths]]], float)
    assert weighted._bleu_values(sums, np.ones((1, 1)))[0, 0] == pytest.approx(theirs.score)


def test_a_detectable_effect_is_detected_as_often_as_promised():
  n, rng, found = (150, 300), np.random.default_rng(0), 0
  (made,) = power.detectable({'nli': n}, spread=40.0)
  for _ in range(1_000):
    gaps = [rng.normal(made.effect, 40, size) for size in n]
    error = np.sqrt(sum(g.var(ddof=1) / len(g) for g in gaps)) / 2
    found += abs(np.mean([g.mean() for g in gaps])) / error > 1.96
  assert 0.77 <= found / 1_000 <= 0.83


def test_a_detectable_effect_is_statsmodels_and_grows_with_the_clusters_compared():
  alone = power.detectable({'nli': 400}, spread=50.0)[0]
  theirs = sm_power.NormalIndPower(ddof=0).solve_power(nobs1=400, ratio=0, alpha=0.05, power=0.8)
  assert alone.effect / 50 == pytest.approx(theirs, rel=1e-3)
  both = power.detectable({'nli': 400, 'topic': [200, 200]}, spread=50.0)
  assert both[0].alpha == 0.025 and both[0].effect > alone.effect
  assert both[1].effect == pytest.approx(both[0].effect)
  said = power.text(both)
  assert 'nli' in said and f'{both[0].effect:.1f}' in said
  with pytest.raises(UserError, match='no examples'):
    power.detectable({'nli': [3, 0]})
