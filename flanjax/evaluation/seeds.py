"""One experiment under several seeds: what tasks, templates and seeds like these would show.

Every interval names its population:

  'these tasks, other examples'   the tasks, templates and trained models at hand, on other examples
  'this task, other ...'          one task: other templates, examples and, of several runs, seeds
  'tasks like these, ...'         a cluster: other tasks of its kind, with templates and examples of
                                  their own and, of several runs, trained with other seeds
  'clusters like these, ...'      the mean over clusters

The last three are of the crossed random-effects analysis in `anova`, whose units are the tasks (or
clusters, or templates and examples) and the seeds. With two or three units they are wide: that is
what two or three units can tell. The hierarchical bootstrap stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.evaluation import (
    anova, bootstrap, intervals, runs, sensitivity, significance, statistics)
from flanjax.evaluation.bootstrap import Effect
from flanjax.evaluation.runs import Run
from flanjax.evaluation.task_records import Key, TaskRecords
from flanjax.evaluation.weighted import MetricFn, Statistic


def compare(
    run_dirs: Sequence[runs.RunDir],
    other: str = 'untuned',
    *,
    metric_fns: Mapping[str, MetricFn] | None = None,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """The tuned model minus another, over runs that differ in their seed; as `compare_runs`."""
  return compare_runs([runs.read(d, metric_fns) for d in run_dirs], other,
                      resamples=resamples, seed=seed)


def compare_runs(
    found: Sequence[Run], other: str = 'untuned', *, resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """The tuned model minus another, over runs that differ in their seed.

  Args:
    found: the runs; one is enough.
    other: the role of the model compared with.
    resamples: of the bootstrap.
    seed: of its draws.

  Returns:
    {runs, seeds, holdout, other, clusters, overall, warnings} of plain data. `clusters` has for
    each {cluster, tasks, n_examples, value, per_seed, examples, like_these, hierarchical, p,
    p_holm}, `overall` the same of the mean over those trained on, where they are two or more.

  Raises:
    UserError: the runs are not of one experiment, or have nothing in common.
  """
  if not found:
    raise UserError('There are no runs to compare.')
  runs.check_repeats(found)
  effects, tables, warnings = _effects(found, other)
  clusters = {c: [effects[t] for t in effects if tables[t].cluster == c]
              for c in sorted({tables[t].cluster for t in effects})}
  if any(tables[t].is_corpus and tables[t].metric != 'bleu' for t in effects):
    resamples = min(resamples, statistics.CORPUS_RESAMPLES)
  examples = bootstrap.hierarchical(clusters, resamples, seed, ('examples',))
  draws = bootstrap.hierarchical(clusters, resamples, seed)
  entries = [
      _entry(c, members, examples[c], draws[c]) | {'p': p_of(members, seed)} | _sensitive(members)
      for c, members in clusters.items()
  ]
  adjusted = significance.holm({e['cluster']: e['p'] for e in entries})
  seen = {c: m for c, m in clusters.items() if c != found[0].info.holdout}
  return {
      'runs': [r.name for r in found],
      'seeds': [r.info.seed for r in found],
      'holdout': found[0].info.holdout,
      'other': other,
      'clusters': [e | {'p_holm': adjusted[e['cluster']],
                        'held_out': e['cluster'] == found[0].info.holdout} for e in entries],
      'overall': _overall(seen, examples, draws, seed, entries) if len(seen) > 1 else None,
      'warnings': [w for r in found for w in r.warnings] + warnings,
  }


def _effects(
    found: Sequence[Run], other: str
) -> tuple[dict[str, Effect], dict[str, TaskRecords], list[str]]:
  """Task -> its effect on what all runs share, and its table in the first run; what was left out."""
  pairs = [(r.tuned, r.model(other)) for r in found]
  by_run = [r.headline(pair) for r, pair in zip(found, pairs)]
  effects, warnings = {}, []
  for task in sorted({t for tables in by_run for t in tables}):
    tables = [b.get(task) for b in by_run]
    if any(t is None for t in tables) or len({t.mode for t in tables}) > 1:
      warnings.append(f'{task} is not in every run in the same mode, and was left out')
      continue
    held = [frozenset(t.by_model[m]) for t, pair in zip(tables, pairs) for m in pair]
    keys = frozenset.intersection(*held)
    if not keys:
      warnings.append(f'{task} has no example that all models of all runs answered')
      continue
    missing = len(frozenset.union(*held)) - len(keys)
    if missing:
      warnings.append(f'{task}: {missing} answers have no counterpart in some run or model')
    rows = [[(t, m) for m in pair] for t, pair in zip(tables, pairs)]
    effects[task] = effect_of(task, rows, keys)
  if not effects:
    raise UserError('The runs have no task in common.', where=', '.join(r.name for r in found))
  return effects, {t: by_run[0][t] for t in effects}, warnings


def effect_of(
    task: str, rows: Sequence[Sequence[tuple[TaskRecords, str]]], keys: frozenset[Key]
) -> Effect:
  """Of each row (a seed) of tables and models: the first's score minus the mean of the others'."""
  templates, examples = statistics.axes(keys)

  def gap(row: Sequence[tuple[TaskRecords, str]]) -> Statistic:
    first, *others = [table.statistic(model, keys) for table, model in row]
    return lambda weights: first(weights) - sum(o(weights) for o in others) / len(others)

  grid = None
  if not any(table.is_corpus for row in rows for table, _ in row):
    scores = [[table.scores(model, keys) for table, model in row] for row in rows]
    grid = np.stack([first - np.mean(others, axis=0) for first, *others in scores])
  sides = ()
  if all(table.is_binary for row in rows for table, _ in row):
    right = np.array([[t.contributions(m, keys) / 100 for t, m in row] for row in rows])
    sides = (right[:, 0].mean(axis=0), right[:, 1:].mean(axis=(0, 1)))
  return Effect(task, len(examples), len(templates), tuple(map(gap, rows)), grid, sides)


def _entry(
    name: str, members: Sequence[Effect], examples: np.ndarray, draws: np.ndarray
) -> dict[str, Any]:
  values = task_values(members)
  return {
      'cluster': name,
      'tasks': [e.task for e in members],
      'n_examples': sum(e.num_examples for e in members),
      'value': float(values.mean()),
      'per_seed': values.mean(axis=1).tolist(),
      **_three(intervals.of_tasks(examples[1:], [e.sides for e in members]),
               *like_these(members), draws),
  }


def _sensitive(members: Sequence[Effect]) -> dict[str, Any]:
  """Parts of the variance of the differences: over the cluster's tasks, or of its only one."""
  grids = [e.grid for e in members if e.grid is not None]
  several = sensitivity.components(grids)
  alone = sensitivity.task_components(grids[0]) if len(grids) == 1 else None
  return {'components': several or alone}


def task_values(members: Sequence[Effect]) -> np.ndarray:
  """[seeds, tasks]."""
  return np.stack([statistics.mean_over_templates(e.values()) for e in members], axis=1)


def like_these(members: Sequence[Effect]) -> tuple[dict[str, Any] | None, str]:
  """The interval of a cluster's (or one task's) mean for members like those it has; which those are.

  The interval is None where there is nothing to tell it from: one task of one template with a
  corpus metric.
  """
  seeds = len(members[0].per_seed)
  if len(members) > 1:
    return _bounded(anova.mean_interval(task_values(members))), _like('tasks', seeds)
  whole = complete(members[0])
  values = members[0].values() if whole is None else whole
  others = ['templates'] if members[0].num_templates > 1 else []
  others += ['examples'] if whole is not None else []
  others += ['seeds'] if seeds > 1 else []
  population = f'this task, other {" and ".join(others)}' if others else 'this task alone'
  return _bounded(anova.mean_interval(values)), population


def complete(member: Effect) -> np.ndarray | None:
  """[seeds, templates, examples] of the examples that every template and seed has; None of none."""
  whole = None if member.grid is None else sensitivity.complete(member.grid)
  return whole if whole is not None and whole.shape[2] > 1 else None


def _overall(
    clusters: Mapping[str, Sequence[Effect]], examples: Mapping[str, np.ndarray],
    draws: Mapping[str, np.ndarray], seed: int, entries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
  """The mean over clusters; `examples` and `draws` are what the bootstrap gave for all of them."""
  values = np.stack([task_values(m).mean(axis=1) for m in clusters.values()], axis=1)
  fixed = bootstrap.overall({c: examples[c] for c in clusters}, draw_clusters=False)
  drawn = bootstrap.overall({c: draws[c] for c in clusters}, seed)
  ends = intervals.of_mean(fixed[1:], [
      {'value': e['value'], **e['examples']} for e in entries if e['cluster'] in clusters])
  return {
      'clusters': list(clusters),
      'value': float(values.mean()),
      'per_seed': values.mean(axis=1).tolist(),
      **_three(ends, _bounded(anova.mean_interval(values)), _like('clusters', len(values)), drawn),
  }


def _three(
    examples: dict[str, Any], ends: dict[str, Any] | None, population: str, draws: np.ndarray
) -> dict[str, Any]:
  """The three intervals of a mean."""
  return {
      'examples': examples | {'population': statistics.EXAMPLES},
      'like_these': ends and ends | {'method': 't', 'population': population},
      'hierarchical': bootstrap.interval(draws[1:]) | {
          'method': 'hierarchical bootstrap', 'population': population},
  }


def _like(what: str, seeds: int) -> str:
  return f'{what} like these{", other seeds" if seeds > 1 else ""}'


def _bounded(ends: dict[str, Any] | None) -> dict[str, Any] | None:
  """Within what differences of scores can be; two units alone know little more."""
  return ends and ends | {'low': max(-100.0, ends['low']), 'high': min(100.0, ends['high'])}


def p_of(members: Sequence[Effect], seed: int) -> float | None:
  """Whether the models differ on these tasks, averaged over seeds; None for corpus metrics.

  An example is swapped between the models in all runs at once: runs share their examples.
  """
  if any(e.grid is None for e in members):
    return None
  gaps = [np.mean([statistics.contributions(g) for g in e.grid], axis=0) for e in members]
  if len(gaps) == 1 and significance.is_mcnemar(gaps[0]):
    counts = significance.discordant(gaps[0])
    return significance.mcnemar(counts['won'], counts['lost'])
  flips = significance.flips_of(gaps)
  swapped = [
      significance.swapped_gaps(g / len(g), flips, significance.generator(e.task, len(g), seed))
      for e, g in zip(members, gaps)
  ]
  return significance.p_value(np.mean([g.mean() for g in gaps]), np.mean(swapped, axis=0))
