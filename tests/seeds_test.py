import json

import numpy as np
import pytest

from flanjax.errors import UserError
from flanjax.evaluation import bootstrap, records, seeds, transfer, weighted
from tests.statistics_test import record

MODELS = {'a': 'tuned', 'b': 'untuned'}


def write_run(folder, tasks, holdout='nli', seed=0, split='test', **changes):
  """A run folder; `tasks` is {(cluster, task): {model: scores [templates][examples]}}."""
  for (cluster, task), by_model in tasks.items():
    for model, scores in by_model.items():
      for t, row in enumerate(scores):
        rows = [record(model, task, t, e, float(s), cluster=cluster, **changes) for e, s in enumerate(row)]
        path = records.task_path(folder / 'eval' / 'records', model, f'{task}_type_{t}')
        records.write_task(path, rows, {}, {})
  records.EvalInfo(holdout=holdout, models=MODELS, split=split, seed=seed).write(folder / 'eval' / 'eval.json')
  return folder


def answers(rng, share, templates=2, examples=30):
  return (100.0 * (rng.random((templates, examples)) < share)).tolist()


@pytest.fixture(scope='module')
def three_runs(tmp_path_factory):
  rng = np.random.default_rng(0)
  tasks = (('nli', 't', 0.9), ('nli', 'u', 0.8), ('topic', 'v', 0.4), ('topic', 'w', 0.7))
  before = {task: answers(rng, 0.4) for _, task, _ in tasks}
  return [
      write_run(tmp_path_factory.mktemp(f'run{seed}'), {
          (c, task): {'a': answers(rng, p), 'b': before[task]} for c, task, p in tasks}, seed=seed)
      for seed in range(3)
  ]  # fmt: skip


def test_an_effect_over_seeds_is_the_mean_and_names_its_populations(three_runs):
  found = seeds.compare(three_runs, resamples=200)
  assert found['seeds'] == [0, 1, 2] and found['warnings'] == []
  nli = next(c for c in found['clusters'] if c['cluster'] == 'nli')
  score = lambda folder, model, task: np.mean([
      r['score'] for t in (0, 1)
      for r in records.read_task(folder / 'eval' / 'records' / model / f'{task}_type_{t}.jsonl')])
  gaps = [[score(f, 'a', t) - score(f, 'b', t) for t in 'tu'] for f in three_runs]
  assert nli['per_seed'] == pytest.approx(np.mean(gaps, axis=1))
  assert nli['value'] == pytest.approx(np.mean(gaps)) == pytest.approx(nli['like_these']['value'])
  assert nli['examples']['population'] == 'these tasks, other examples'
  assert nli['like_these']['population'] == 'tasks like these, other seeds'
  assert nli['examples']['low'] < nli['value'] < nli['examples']['high']
  assert nli['p'] < nli['p_holm'] < 0.05 and nli['held_out'] and found['overall'] is None
  assert set(nli['components']['share']) >= {'task', 'seed', 'template', 'example'}
  json.dumps(found, allow_nan=False)


def test_one_run_says_nothing_of_other_seeds(three_runs):
  found = seeds.compare(three_runs[:1], resamples=100)
  assert {c['like_these']['population'] for c in found['clusters']} == {'tasks like these'}


@pytest.mark.parametrize(('changes', 'message'), [
    ({'seed': 0}, 'same seed'), ({'holdout': 'topic'}, 'held-out cluster'), ({'split': 'train'}, 'splits'),
    ({'targets': 'no'}, 'different data')])
def test_runs_that_are_not_one_experiment_are_refused(tmp_path, three_runs, changes, message):
  rng = np.random.default_rng(1)
  tasks = {('nli', 't'): {'a': answers(rng, 0.5), 'b': answers(rng, 0.5)}}
  other = write_run(tmp_path / 'other', tasks, **{'seed': 7} | changes)
  with pytest.raises(UserError, match=message):
    seeds.compare([three_runs[0], other])


def test_runs_on_other_training_data_are_refused(tmp_path):
  tasks = {('nli', 't'): {'a': [[100.0, 0.0]], 'b': [[0.0, 0.0]]}}
  folders = [write_run(tmp_path / str(s), tasks, seed=s) for s in (0, 1)]
  for s, folder in enumerate(folders):
    (folder / 'run.json').write_text(json.dumps({'mixture_manifest': f'/data/mix-{s}.json'}))
  with pytest.raises(UserError, match='training data'):
    seeds.compare(folders)


def test_examples_missing_on_one_side_are_left_out_and_said(tmp_path):
  whole, part = [[100.0] * 9], [[100.0] * 5]
  found = seeds.compare([
      write_run(tmp_path / 'x', {('nli', 't'): {'a': whole, 'b': part}, ('nli', 'u'): {'a': whole, 'b': whole}}),
      write_run(tmp_path / 'y', {('nli', 't'): {'a': whole, 'b': whole}}, seed=1)], resamples=50)
  (cluster,) = found['clusters']
  assert cluster['n_examples'] == 5 and cluster['tasks'] == ['t'] and cluster['p'] == 1
  assert any('no counterpart' in w for w in found['warnings']) and any('u is not' in w for w in found['warnings'])
  assert cluster['components'] is None


def brute_force(grid, w_seed, w_template, w_example):
  weights = w_seed[:, None, None] * w_template[None, :, None] * w_example
  return (weights * grid).sum() / weights.sum()


def test_a_hierarchical_draw_is_the_weighted_mean_of_repeated_members():
  grid = np.random.default_rng(0).normal(size=(3, 2, 5))
  effect = bootstrap.Effect('t', 5, 2, tuple(weighted.mean_statistic(g) for g in grid))
  found = bootstrap.hierarchical({'c': [effect]}, resamples=6, seed=3)['c']
  drawn = bootstrap._Draws(6, 3, frozenset(bootstrap.LEVELS))
  names = [drawn.weights(*of) for of in (('seeds', 'seeds', 3), ('templates', 't', 2), ('examples', 't', 5))]
  assert all((weights.sum(axis=1) == weights.shape[1]).all() and weights.std() > 0 for weights in names)
  np.testing.assert_allclose(found, [brute_force(grid, *(n[i] for n in names)) for i in range(7)])


def test_blocks_of_resamples_are_the_same_draws(monkeypatch):
  grid = np.random.default_rng(0).normal(size=(2, 3, 40))
  effects = {'c': [bootstrap.Effect('t', 40, 3, tuple(weighted.mean_statistic(g) for g in grid))]}
  whole = bootstrap.hierarchical(effects, 50)['c']
  monkeypatch.setattr(bootstrap, '_BLOCK', 300)
  np.testing.assert_allclose(bootstrap.hierarchical(effects, 50)['c'], whole)


def test_only_the_levels_asked_for_are_drawn():
  grid = np.tile(np.arange(4.0)[:, None, None], (1, 2, 6))  # seeds differ, nothing else
  effects = {'c': [bootstrap.Effect('t', 6, 2, tuple(weighted.mean_statistic(g) for g in grid))]}
  assert bootstrap.hierarchical(effects, 40, levels=('examples', 'templates'))['c'].std() < 1e-12
  assert bootstrap.hierarchical(effects, 40, levels=('seeds',))['c'].std() > 0.3


def matrix_runs(tmp_path):
  """Training without nli costs topic 50 points; nothing else matters."""
  folders, half, all_right = [], [[100.0, 0.0] * 10], [[100.0] * 20]
  for holdout in ('nli', 'topic', 'sentiment'):
    tasks = {
        (c, f'{c}_task'): {'a': half if (holdout, c) == ('nli', 'topic') else all_right, 'b': half}
        for c in ('nli', 'topic', 'sentiment')
    }
    folders += [write_run(tmp_path / f'{holdout}{s}', tasks, holdout, s) for s in (0, 1)]
  return folders


def test_the_matrix_tells_what_leaving_a_cluster_out_costs_another(tmp_path):
  found = transfer.matrix(matrix_runs(tmp_path), resamples=100)
  cells = {(c['without'], c['cluster']): c for c in found['cells']}
  assert found['without'] == ['nli', 'sentiment', 'topic'] and len(cells) == 9
  hit = cells['nli', 'topic']
  assert hit['value'] == -50 and hit['low'] < -50 < hit['high'] < 0 and hit['reference'] == ['sentiment']
  assert hit['p_holm'] < 0.05 and hit['seeds'] == [0, 1] and hit['n_examples'] == 20
  assert cells['sentiment', 'nli']['value'] == 0 and cells['sentiment', 'nli']['p'] == 1


def test_a_matrix_of_one_holdout_or_of_repeated_seeds_is_refused(tmp_path):
  folders = matrix_runs(tmp_path)
  with pytest.raises(UserError, match='different clusters'):
    transfer.matrix(folders[:2])
  with pytest.raises(UserError, match='same seed'):
    transfer.matrix([*folders, folders[0]])


def test_forgetting_puts_the_worst_first(three_runs):
  rows = transfer.forgetting(three_runs, resamples=100)
  assert [r['change'] for r in rows] == sorted(r['change'] for r in rows)
  assert all(r['after'] - r['before'] == pytest.approx(r['change']) for r in rows)
  assert next(r for r in rows if r['cluster'] == 'nli')['low'] > 0
