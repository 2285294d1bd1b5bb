"""Before and after on everything, and what training without one cluster does to each other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.evaluation import bootstrap, intervals, runs, seeds, significance, statistics
from flanjax.evaluation.bootstrap import Effect
from flanjax.evaluation.runs import Run
from flanjax.evaluation.task_records import TaskRecords
from flanjax.evaluation.weighted import MetricFn


def forgetting(
    run_dirs: Sequence[runs.RunDir],
    *,
    metric_fns: Mapping[str, MetricFn] | None = None,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
  """Every cluster before and after tuning, worst change first: seeds of one experiment.

  Returns:
    of each cluster {cluster, held_out, n_examples, before, after, change, low, high, p, p_holm},
    plain data; the interval and p are of the change, over examples.
  """
  found = [runs.read(d, metric_fns) for d in run_dirs]
  compared = seeds.compare_runs(found, resamples=resamples, seed=seed)
  rows = []
  for c in compared['clusters']:
    before = np.mean([
        _score(r.headline((r.tuned, r.model('untuned')))[task], r) for r in found
        for task in c['tasks']])
    rows.append({
        'cluster': c['cluster'], 'held_out': c['held_out'], 'n_examples': c['n_examples'],
        'before': float(before), 'after': float(before) + c['value'], 'change': c['value'],
        'low': c['examples']['low'], 'high': c['examples']['high'],
        'p': c['p'], 'p_holm': c['p_holm'],
    })
  return sorted(rows, key=lambda row: (row['change'], row['cluster']))


def _score(table: TaskRecords, run: Run) -> float:
  """The untuned model's score on what the tuned one answered too."""
  before = run.model('untuned')
  keys = frozenset(table.by_model[before]) & frozenset(table.by_model[run.tuned])
  values = statistics.template_scores(table, before, keys)
  return float(np.nanmean(list(values.values())))


def matrix(
    run_dirs: Sequence[runs.RunDir],
    *,
    metric_fns: Mapping[str, MetricFn] | None = None,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """What training without a cluster does to each cluster; see `matrix_of`."""
  return matrix_of([runs.read(d, metric_fns) for d in run_dirs], resamples=resamples, seed=seed)


def matrix_of(
    found: Sequence[Run], *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> dict[str, Any]:
  """What training without a cluster does to each cluster.

  A cell is the tuned model's score on `cluster`, from training without `without`, minus the mean
  score there of the reference: the models trained on everything where there are such runs, else
  those trained without some third cluster (they had both). Runs are paired by seed, models by
  example; the interval and p are over examples, the models as they are.

  Args:
    found: leave-one-cluster-out runs of one or more seeds, and perhaps runs that held out nothing.
    resamples: of the bootstrap.
    seed: of its draws.

  Returns:
    {without: [...], clusters: [...], cells: [{without, cluster, value, low, high, p, p_holm,
    n_examples, tasks, seeds, reference}]}: no cell where there is no reference or no example in
    common.

  Raises:
    UserError: fewer than two holdouts, a seed repeated, or evaluations of different data.
  """
  by_holdout = _by_holdout(found)
  held = sorted(h for h in by_holdout if h is not None)
  if not held or len(by_holdout) < 2:
    raise UserError('A matrix of clusters needs runs that held out different clusters.',
                    got=', '.join(map(str, by_holdout)) or 'no runs', expected='two or more')
  runs.check_evaluated_alike(found)
  clusters = sorted({t.cluster for r in found for t in r.headline((r.tuned,)).values()})
  cells = [
      cell for h in held for c in clusters
      if (cell := _cell(by_holdout, h, c, resamples, seed)) is not None
  ]
  adjusted = significance.holm({(x['without'], x['cluster']): x['p'] for x in cells})
  return {'without': held, 'clusters': clusters,
          'cells': [x | {'p_holm': adjusted[x['without'], x['cluster']]} for x in cells]}


def _by_holdout(found: Sequence[Run]) -> dict[str | None, dict[int | None, Run]]:
  grouped: dict[str | None, dict[int | None, Run]] = {}
  for run in found:
    again = grouped.setdefault(run.info.holdout, {}).setdefault(run.info.seed, run)
    if again is not run:
      raise UserError('Two runs hold out the same cluster with the same seed.',
                      where=f'{again.name}, {run.name}',
                      got=f'{run.info.holdout}, seed {run.info.seed}')
  return grouped


def _references(
    by_holdout: Mapping[str | None, Mapping[int | None, Run]], without: str, cluster: str
) -> list[str | None]:
  """The holdouts that a cell is compared with."""
  if None in by_holdout:
    return [None]
  return [h for h, of in by_holdout.items() if h not in (without, cluster)
          and not any(c in r.info.excluded for r in of.values() for c in (without, cluster))]


def _cell(by_holdout, without: str, cluster: str, resamples: int, seed: int) -> dict | None:
  references = _references(by_holdout, without, cluster)
  common = set(by_holdout[without]).intersection(*(by_holdout[h] for h in references))
  if not references or not common:
    return None
  order = sorted(common, key=str)
  sets = [[by_holdout[without][s], *(by_holdout[h][s] for h in references)] for s in order]
  effects = _effects(sets, cluster)
  if not effects:
    return None
  if any(e.grid is None for e in effects):
    resamples = min(resamples, statistics.CORPUS_RESAMPLES)
  values = bootstrap.hierarchical({cluster: effects}, resamples, seed, ('examples',))[cluster]
  return {
      'without': without, 'cluster': cluster, 'value': float(values[0]),
      **intervals.of_tasks(values[1:], [e.sides for e in effects]), 'p': seeds.p_of(effects, seed),
      'n_examples': sum(e.num_examples for e in effects), 'tasks': [e.task for e in effects],
      'seeds': order, 'reference': ['nothing' if h is None else h for h in references],
  }


def _effects(sets: Sequence[Sequence[Run]], cluster: str) -> list[Effect]:
  """Each task's tuned score of the first run of a set minus the mean of the others', by set."""
  every = [[r.headline((r.tuned,)) for r in members] for members in sets]
  shared = set.intersection(*(set(tables) for members in every for tables in members))
  found = []
  for task in sorted(shared):
    rows = [[(tables[task], run.tuned) for tables, run in zip(ts, rs)]
            for ts, rs in zip(every, sets)]
    flat = [pair for row in rows for pair in row]
    if flat[0][0].cluster != cluster or len({t.mode for t, _ in flat}) > 1:
      continue
    keys = frozenset.intersection(*(frozenset(t.by_model[m]) for t, m in flat))
    if keys:
      found.append(seeds.effect_of(task, rows, keys))
  return found
