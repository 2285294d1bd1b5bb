import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
import statsmodels.formula.api as smf

from flanjax.evaluation import anova, sensitivity


def test_mean_squares_are_statsmodels():
  values = np.random.default_rng(0).normal(size=(3, 4, 5))
  rows = [(*map(str, i), v) for i, v in np.ndenumerate(values)]
  frame = pd.DataFrame(rows, columns=[*'abc', 'v'])
  fit = smf.ols('v ~ C(a) * C(b) + C(a) * C(c) + C(b) * C(c)', frame).fit()
  theirs = sm.stats.anova_lm(fit, typ=2)
  own = anova.mean_squares(values)
  for subset, name in {(0,): 'C(a)', (1,): 'C(b)', (2,): 'C(c)', (0, 2): 'C(a):C(c)', (1, 2): 'C(b):C(c)'}.items():
    assert own[subset][0] == pytest.approx(theirs['sum_sq'][name] / theirs['df'][name])
    assert own[subset][1] == theirs['df'][name]
  assert own[0, 1, 2] == pytest.approx((fit.ssr / fit.df_resid, fit.df_resid))


def simulate(rng, shape, spreads):
  """Sums of random effects, `spreads` by axes."""
  values = np.zeros(shape)
  for axes, spread in spreads.items():
    values = values + spread * rng.normal(size=[n if a in axes else 1 for a, n in enumerate(shape)])
  return values


def test_components_of_simulated_scores_are_those_they_were_made_of():
  rng, spreads = np.random.default_rng(1), {(0,): 3, (1,): 5, (2,): 10, (1, 2): 6, (0, 1, 2): 4}
  found = [anova.components(simulate(rng, (4, 6, 12), spreads), sensitivity.FACTORS) for _ in range(500)]
  names = {(0,): 'seed', (1,): 'template', (2,): 'example', (1, 2): 'template x example',
           (0, 1, 2): 'seed x template x example', (0, 1): 'seed x template', (0, 2): 'seed x example'}
  for axes, name in names.items():
    values = [f[name] for f in found]
    assert abs(np.mean(values) - spreads.get(axes, 0) ** 2) < 4 * np.std(values) / 500**0.5


def test_components_over_tasks_do_not_count_templates_and_examples_as_tasks():
  rng, sums = np.random.default_rng(2), []
  for _ in range(300):
    seed, grids = 2 * rng.normal(size=3), []
    for _ in range(4):
      own = simulate(rng, (3, 3, 20), {(1,): 6, (2,): 15, (0, 1, 2): 10})
      grids.append(own + 4 * rng.normal() + seed[:, None, None] + 3 * rng.normal(size=(3, 1, 1)))
    sums.append(sensitivity.components(grids)['variance'])
  for name, truth in {'task': 16, 'seed': 4, 'seed x task': 9, 'template': 36, 'example': 225}.items():
    values = [s[name] for s in sums]
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / 300**0.5, name


def test_an_interval_over_one_factor_is_students():
  values = np.array([3.0, 5.0, 10.0, 4.0])
  theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
  for shaped in (values[None], values[:, None]):
    own = anova.mean_interval(shaped)
    assert (own['low'], own['high'], own['df']) == pytest.approx((*theirs, 3))
  assert anova.mean_interval(np.array([[7.0]])) is None
  flat = anova.mean_interval(np.full((3, 2), 7.0))
  assert (flat['low'], flat['high']) == (7, 7)


def test_spread_over_templates_names_the_worst():
  found = sensitivity.spread({0: 50.0, 1: 70.0, 2: 60.0, 3: 40.0})
  assert (found['median'], found['worst'], found['worst_template'], found['best']) == (55, 40, 3, 70)
  assert (found['lower_quartile'], found['upper_quartile']) == (47.5, 62.5)
  assert sensitivity.spread({0: 50.0}) is None


def test_templates_seen_in_training_are_told_by_its_audit():
  row = lambda name, drawn: {'task': name, 'templates': {t: {'examples': n} for t, n in drawn.items()}}
  audit = {'tasks': [row('rte_4templates', {'0': 9, '1': 3, '2': 0}), row('no_instructions_cb_10templates', {'0': 1})]}
  assert sensitivity.trained_templates(audit) == {'rte': {0, 1}, 'no_instructions_cb': {0}}
  assert sensitivity.trained_templates(None) is None
  found = sensitivity.seen_and_unseen({0: 80.0, 1: 60.0, 2: 10.0}, frozenset({0, 1}))
  assert found == {'seen': {'value': 70.0, 'templates': 2}, 'unseen': {'value': 10.0, 'templates': 1}}


def test_scores_all_alike_have_no_parts_of_variance():
  assert sensitivity.task_components(np.full((1, 3, 9), 100.0)) is None
  assert sensitivity.task_components(np.zeros((1, 3, 1))) is None
