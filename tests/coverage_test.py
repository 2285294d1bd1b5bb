"""How often the intervals that reports give hold the truth.

FLANJAX_COVERAGE=long runs the settings of docs/statistics.md; `-s` prints what was measured.
"""

import os

import numpy as np
import pytest
import scipy.stats

from flanjax.evaluation import anova, bootstrap, intervals
from tests.anova_test import simulate

LONG = os.environ.get('FLANJAX_COVERAGE') == 'long'
RUNS = 4_000 if LONG else 1_000
# 93 to 97 % is what intervals shall hold; a simulation of so many runs misses by its own error.
SLACK = 2.5 * (0.95 * 0.05 / RUNS) ** 0.5


def holds(low, high, truth, name, least=0.93, most=0.97):
  share = float(np.mean((np.asarray(low) <= truth + 1e-9) & (truth - 1e-9 <= np.asarray(high))))
  print(f'{name}: {share:.3f} of {len(low)}')
  assert least - SLACK <= share <= most + SLACK, f'{name}: {share:.3f}'


def ends(found):
  return [f['low'] for f in found], [f['high'] for f in found]


@pytest.mark.parametrize('n', (100, 200, 400, 600) if LONG else (100, 600))
@pytest.mark.parametrize('p', (0.3, 0.5, 0.85, 0.95, 0.98) if LONG else (0.5, 0.95))
def test_a_tasks_accuracy(n, p):
  rng = np.random.default_rng([n, int(100 * p)])
  shares = [intervals.Share((rng.random(n) < p).astype(float)) for _ in range(RUNS)]
  low, high = zip(*(share.wilson() for share in shares))
  holds(low, high, p, f'accuracy {p}, n = {n}')


def correlated(rng, shape, first, second):
  """0/1 answers of two models: [examples, templates, runs] each; hard examples are hard for both."""
  hard = rng.normal(size=(shape[0], 1, shape[2]))
  return [(0.6 * hard + 0.8 * rng.normal(size=shape) < scipy.stats.norm.ppf(p)).astype(float) for p in (first, second)]


@pytest.mark.parametrize('n', (100, 200, 400, 600) if LONG else (100, 600))
@pytest.mark.parametrize('templates', (1, 5))
@pytest.mark.parametrize('pair', ((0.6, 0.4), (0.8, 0.75), (0.95, 0.5)) if LONG else ((0.6, 0.4),))
def test_a_paired_difference(n, templates, pair):
  runs = RUNS // 4
  a, b = correlated(np.random.default_rng([n, templates]), (n, templates, runs), *pair)
  weights = bootstrap.bootstrap_weights('t', n, 1_000, 0) / n
  low, high = np.percentile(weights @ (a - b).mean(axis=1), [2.5, 97.5], axis=0)
  holds(low, high, pair[0] - pair[1], f'difference {pair}, {templates} templates, n = {n}', 0.925)


def test_a_clusters_difference_on_these_three_tasks():
  rng, effects, sizes = np.random.default_rng(3), (8.0, -3.0, 20.0), (100, 200, 277)
  values = np.zeros((1_000, RUNS))
  for task, (effect, n) in enumerate(zip(effects, sizes)):
    weights = bootstrap.bootstrap_weights(f't{task}', n, 1_000, 0) / n
    values += weights @ rng.normal(effect, 60, (n, RUNS)) / 3
  holds(*np.percentile(values, [2.5, 97.5], axis=0), np.mean(effects), 'cluster of three tasks')


def test_the_mean_over_clusters_of_three_seeds_some_nearly_always_right():
  """What an experiment gives: examples drawn anew, the trained models as they are."""
  rng, n = np.random.default_rng(100), 100
  clusters = (((0.98, 0.6), (0.95, 0.5)), ((0.6, 0.55), (0.85, 0.5), (0.9, 0.9)), ((0.97, 0.3),))
  draws = np.zeros(1)
  scores, gaps = [[] for _ in range(RUNS)], [[] for _ in range(RUNS)]
  for pairs in clusters:
    tasks = [[x.mean(axis=1) for x in correlated(rng, (n, 3, RUNS), *pair)] for pair in pairs]
    for i in range(RUNS):
      both = [[a[:, i], b[:, i]] for a, b in tasks]
      for rows, sides in ((scores[i], [[a] for a, _ in both]), (gaps[i], both)):
        value = 100 * np.mean([s[0].mean() - sum(x.mean() for x in s[1:]) for s in sides])
        rows.append({'value': value, **intervals.of_tasks(draws, sides)})
  # Newcombe's where a side is nearly always right, as here in each cluster, else the bootstrap's.
  kept = [rows for rows in gaps if {r['method'] for r in rows} == {'newcombe'}]
  assert len(kept) > 0.5 * RUNS
  first, second = (100 * np.mean([np.mean([p[i] for p in pairs]) for pairs in clusters])
                   for i in (0, 1))
  holds(*ends([intervals.of_mean(draws, rows) for rows in scores]), first, 'mean of clusters')
  holds(*ends([intervals.of_mean(draws, rows) for rows in kept]), first - second,
        'mean of differences')


SETTINGS = {
    'tasks differ': {(1,): 6, (0, 1): 1},
    'seeds differ': {(0,): 5, (0, 1): 1},
    'tasks and seeds differ': {(0,): 2, (1,): 6, (0, 1): 2},
}


@pytest.mark.parametrize('shape', ((3, 2), (3, 3), (5, 3), (3, 12), (10, 12)) if LONG else ((3, 3),))
@pytest.mark.parametrize('setting', SETTINGS)
def test_tasks_and_seeds_like_these(shape, setting):
  rng = np.random.default_rng(4)
  found = [anova.mean_interval(simulate(rng, shape, SETTINGS[setting])) for _ in range(RUNS)]
  holds(*ends(found), 0, f'{shape[0]} seeds, {shape[1]} tasks, {setting}', most=0.98)


@pytest.mark.parametrize('tasks', (2, 3, 5, 12) if LONG else (3,))
def test_tasks_like_these_of_one_seed(tasks):
  rng = np.random.default_rng(5)
  found = [anova.mean_interval(simulate(rng, (1, tasks), {(1,): 6})) for _ in range(RUNS)]
  holds(*ends(found), 0, f'{tasks} tasks')


@pytest.mark.parametrize('shape', ((3, 10, 100), (3, 5, 200)) if LONG else ((3, 5, 40),))
def test_templates_examples_and_seeds_like_those_of_one_task(shape):
  rng = np.random.default_rng(6)
  spreads = {(0,): 3, (1,): 5, (2,): 30, (1, 2): 20, (0, 1, 2): 20}
  found = [anova.mean_interval(simulate(rng, shape, spreads)) for _ in range(RUNS)]
  holds(*ends(found), 0, f'{shape} seeds, templates, examples', most=0.98)


def test_where_only_noise_differs_the_interval_is_too_wide_never_too_narrow():
  rng = np.random.default_rng(7)
  found = [anova.mean_interval(simulate(rng, (3, 3), {(0, 1): 5})) for _ in range(RUNS)]
  holds(*ends(found), 0, 'noise alone, 3 seeds, 3 tasks', 0.97, 1.0)


@pytest.mark.parametrize('shape', ((3, 3), (3, 12), (10, 12)) if LONG else ((3, 3),))
def test_percentiles_of_the_hierarchical_bootstrap_are_too_narrow_with_few_members(shape):
  rng, found = np.random.default_rng(8), []
  statistic = lambda value: lambda weights: np.full((len(weights), 1), value)
  for _ in range(600 if LONG else 200):
    values = simulate(rng, shape, SETTINGS['tasks and seeds differ'])
    effects = [bootstrap.Effect(f't{k}', 1, 1, tuple(statistic(v) for v in values[:, k])) for k in range(shape[1])]
    found.append(bootstrap.interval(bootstrap.hierarchical({'c': effects}, 1_000)['c'][1:]))
  holds(*ends(found), 0, f'hierarchical percentiles, {shape}', 0.6, 0.93)
