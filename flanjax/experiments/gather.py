"""Cells that are there -> every number of an experiment, with intervals, as plain data.

A score is the mean over examples, templates, the tasks of a cluster and seeds. Its interval is of
the kind that a run's has, about these tasks and trained models on other examples
(`evaluation.statistics`); `like_these` is about others of their kind and other seeds
(`evaluation.seeds`). A difference is paired by example, so both sides are read on the examples that
both have.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation import anova, bootstrap, intervals, records, seeds, significance, statistics
from flanjax.evaluation import task_records
from flanjax.evaluation.task_records import TaskRecords
from flanjax.experiments import paper, running, units
from flanjax.experiments.matrix import Experiment
from flanjax.experiments.units import Cell

FORMAT_VERSION = 1
MEAN = 'mean'
_RESAMPLES, _CORPUS_RESAMPLES = 2_000, 300
_MODEL = 'tuned'  # What `flanjax eval` calls the one model that it is given.


@dataclasses.dataclass(frozen=True)
class _Result:
  """What a cell's evaluation found: the tasks of each cluster, in their headline mode."""

  cell: Cell
  clusters: Mapping[str, Mapping[str, TaskRecords]]
  stamps: Mapping[str, Mapping[str, Any]]


def gather(
    experiment: Experiment, cells: Sequence[Cell], root: pathlib.Path,
    metric_fns: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The content of experiment.json, which docs/experiments.md describes.

  The tasks must be registered.
  """
  problems: list[str] = []
  found = [_read(cell, root, metric_fns, problems)
           for cell in cells if running.state(root, cell) == running.DONE]
  read = {r.cell.name: sorted(r.stamps) for r in found if r}
  results = _comparable([r for r in found if r], problems)
  by_condition = {c.name: [r for r in results if r.cell.condition.name == c.name]
                  for c in experiment.conditions}
  scores = [row for c in experiment.conditions for row in _scores(c, by_condition[c.name])]
  differences = [row for a, b in experiment.pairs
                 for row in _differences(a, b, by_condition, problems)]
  _correct(differences)
  return {
      'format_version': FORMAT_VERSION,
      'experiment': experiment.name, 'question': experiment.question, 'suite': experiment.suite,
      'figure': experiment.figure, 'x_label': experiment.x_label, 'baseline': experiment.baseline,
      'conditions': [c.name for c in experiment.conditions],
      'holdouts': ['+'.join(h) for h in experiment.holdouts], 'seeds': list(experiment.seeds),
      'cells': [_cell(cell, root) | {'seqio_tasks': read.get(cell.name)} for cell in cells],
      'scores': scores, 'differences': differences,
      'problems': list(dict.fromkeys(problems)), 'paper': paper.of(experiment.name),
  }


def _cell(cell: Cell, root: pathlib.Path) -> dict[str, Any]:
  """What became of a cell, and what it cost."""
  *trainings, evaluation = running.parts(root, cell)
  state = running.state(root, cell)
  return {
      'cell': cell.name, 'condition': cell.condition.name, 'holdout': '+'.join(cell.holdout),
      'seed': cell.seed, 'x': cell.condition.x, 'state': state,
      'error': running.why_failed(root, cell) if state == running.FAILED else None,
      'mixture': cell.training and cell.training.mixture,
      'trainings': [f.relative_to(root).as_posix() for f in trainings],
      'evaluation': evaluation.relative_to(root).as_posix(),
      'train_seconds': _sum(running.seconds(f, 'train') for f in trainings),
      'eval_seconds': running.seconds(evaluation, 'eval'),
  }


def _sum(values: Iterable[float | None]) -> float | None:
  known = [v for v in values if v is not None]
  return round(sum(known), 1) if known else None


def _read(
    cell: Cell, root: pathlib.Path, metric_fns: Mapping[str, Any] | None, problems: list[str]
) -> _Result | None:
  """A finished cell's records; None, and a problem, where they cannot be read."""
  from flanjax.data import mixtures

  folder = units.folder(root, cell.evaluation) / 'records' / _MODEL
  wanted = {task for name in cell.names for task in mixtures.tasks_of(name)}
  paths = [p for p in sorted(folder.glob('*.jsonl')) if p.stem in wanted]
  try:
    rows = [r for p in paths for r in records.read_task(p, problems)]
    stamps = {p.stem: records.read_json(p.with_name(f'{p.stem}.done.json')).get('stamp', {})
              for p in paths}
  except records.errors.UserError as e:
    problems.append(f'{cell.name} is left out: {" ".join(str(e).split())}')
    return None
  clusters: dict[str, dict[str, TaskRecords]] = {}
  for (task, mode), table in task_records.group(rows, metric_fns).items():
    members = clusters.setdefault(table.cluster, {})
    # Options are ranked where there are options, as FLAN scores.
    if mode == 'rank' or task not in members:
      members[task] = table
  if not clusters:
    problems.append(f'{cell.name} is left out: it has no records')
    return None
  return _Result(cell, clusters, stamps)


def _comparable(results: Sequence[_Result], problems: list[str]) -> list[_Result]:
  """Those whose evaluation sets agree with what most of them have; the others are named."""
  fields = ('split', 'num_examples', 'vocabulary', 'templates')
  seen: dict[str, dict[str, list[_Result]]] = {}
  for result in results:
    for task, stamp in result.stamps.items():
      about = repr([stamp.get(f) for f in fields])
      seen.setdefault(task, {}).setdefault(about, []).append(result)
  odd = set()
  for task, kinds in seen.items():
    usual = max(kinds.values(), key=len)
    for result in (r for members in kinds.values() if members is not usual for r in members):
      if result.cell.name not in odd:
        odd.add(result.cell.name)
        problems.append(f'{result.cell.name} is not compared: {task} was evaluated on another '
                        'split, number of examples, vocabulary or wording than in other cells')
  return [r for r in results if r.cell.name not in odd]


def _scores(condition: Any, results: Sequence[_Result]) -> list[dict[str, Any]]:
  """A row for each holdout and cluster that a condition was evaluated on, and their mean."""
  rows, draws = [], []
  for (holdout, cluster), members in _by_group(results).items():
    effects, n = _effects([(m, None) for m in members], cluster)
    if not effects:
      continue
    values = _bootstrap(effects, members, cluster)
    draws.append(values)
    tables = members[0].clusters[cluster].values()
    rows.append(_row(values, effects) | {
        'condition': condition.name, 'series': condition.series, 'x': condition.x,
        'holdout': holdout, 'group': cluster, 'held_out': cluster in holdout.split('+'),
        'metric': '+'.join(sorted({t.metric for t in tables})),
        'tasks': sorted(members[0].clusters[cluster]), 'n_examples': n,
        'n_seeds': len(members), 'by_seed': _by_seed(effects, members),
        'cells': [m.cell.name for m in members]})
  return rows + _mean_row(rows, draws, ('condition', 'series', 'x'))


def _differences(
    a: str, b: str, by_condition: Mapping[str, Sequence[_Result]], problems: list[str]
) -> list[dict[str, Any]]:
  """Rows of `a` minus `b`, paired by example, seed and holdout."""
  rows, draws = [], []
  others = _by_group(by_condition[b])
  for (holdout, cluster), members in _by_group(by_condition[a]).items():
    pairs = [(m, o) for m in members for o in others.get((holdout, cluster), ())
             if o.cell.seed in (m.cell.seed, None) or m.cell.seed is None]
    effects, n = _effects(pairs, cluster, problems)
    if not effects:
      continue
    values = _bootstrap(effects, [m for m, _ in pairs], cluster)
    draws.append(values)
    rows.append(_row(values, effects) | {
        'condition': a, 'minus': b, 'holdout': holdout, 'group': cluster,
        'held_out': cluster in holdout.split('+'), 'n_examples': n, 'n_seeds': len(pairs),
        'by_seed': _by_seed(effects, [m if m.cell.seed is not None else o for m, o in pairs]),
        'p': _p_value(pairs, cluster), 'p_holm': None,
        'cells': sorted({r.cell.name for pair in pairs for r in pair})})
  return rows + _mean_row(rows, draws, ('condition', 'minus'))


def _by_group(results: Sequence[_Result]) -> dict[tuple[str, str], list[_Result]]:
  """(holdout, cluster) -> the results of each seed."""
  found: dict[tuple[str, str], list[_Result]] = {}
  for result in results:
    for cluster in result.clusters:
      found.setdefault(('+'.join(result.cell.holdout), cluster), []).append(result)
  return found


def _effects(
    pairs: Sequence[tuple[_Result, _Result | None]], cluster: str,
    problems: list[str] | None = None,
) -> tuple[list[bootstrap.Effect], int]:
  """Each task's score, or difference, as a function of weights on examples that all have.

  A task's templates are averaged first: two sides may have been asked under different ones.
  """
  effects, count = [], 0
  sides = [side for pair in pairs for side in pair if side]
  tasks = set.intersection(*(set(s.clusters.get(cluster, ())) for s in sides)) if sides else set()
  for task in sorted(tasks):
    tables = [s.clusters[cluster][task] for s in sides]
    ids = [{e for _, e in t.by_model[_MODEL]} for t in tables]
    common = set.intersection(*ids)
    if problems is not None and any(i != common for i in ids):
      problems.append(f'{task}: {len(set.union(*ids) - common)} examples are not in every cell '
                      'compared, and are left out')
    if not common:
      continue
    count += len(common)
    per_seed = tuple(_statistic(a, b, cluster, task, common) for a, b in pairs)
    right = ()
    if all(t.is_binary for t in tables):
      right = tuple(_right([m.clusters[cluster][task] for m in side], common)
                    for side in zip(*pairs) if side[0])
    effects.append(bootstrap.Effect(task, len(common), 1, per_seed, sides=right))
  return effects, count


def _right(tables: Sequence[TaskRecords], examples: set[int]) -> np.ndarray:
  """The share of right answers by example [examples], over templates and seeds."""
  return np.mean([t.contributions(_MODEL, _keys(t, examples)) for t in tables], axis=0) / 100


def _statistic(
    a: _Result, b: _Result | None, cluster: str, task: str, examples: set[int]
) -> Any:
  """weights [resamples, examples] -> [resamples, 1]."""
  one = _side(a.clusters[cluster][task], examples)
  if b is None:
    return one
  other = _side(b.clusters[cluster][task], examples)
  return lambda weights: one(weights) - other(weights)


def _side(table: TaskRecords, examples: set[int]) -> Any:
  statistic = table.statistic(_MODEL, _keys(table, examples))
  return lambda weights: statistics.mean_over_templates(statistic(weights))[:, None]


def _keys(table: TaskRecords, examples: set[int]) -> frozenset[tuple[int, int]]:
  return frozenset(k for k in table.by_model[_MODEL] if k[1] in examples)


def _bootstrap(
    effects: Sequence[bootstrap.Effect], members: Sequence[_Result], cluster: str
) -> np.ndarray:
  """[1 + resamples]: what was measured, and the draws."""
  slow = any(t.is_corpus and t.metric != 'bleu'
             for m in members for t in m.clusters[cluster].values())
  return bootstrap.hierarchical(
      {cluster: effects}, resamples=_CORPUS_RESAMPLES if slow else _RESAMPLES,
      levels=('examples',))[cluster]


def _row(values: np.ndarray, effects: Sequence[bootstrap.Effect]) -> dict[str, Any]:
  by_task = seeds.task_values(effects)
  ends = intervals.of_tasks(values[1:], [e.sides for e in effects])
  return {'value': float(values[0]), **ends, 'resamples': len(values) - 1,
          'like_these': anova.mean_interval(by_task) if by_task.size > 1 else None}


def _by_seed(
    effects: Sequence[bootstrap.Effect], members: Sequence[_Result]
) -> dict[str, float]:
  """Seed -> the value of its training alone; '' where nothing depends on a seed."""
  values = np.mean([e.values()[:, 0] for e in effects], axis=0)
  return {str('' if m.cell.seed is None else m.cell.seed): float(v)
          for m, v in zip(members, values)}


def _p_value(pairs: Sequence[tuple[_Result, _Result]], cluster: str) -> float | None:
  """Whether swapping the sides of examples would often give as large a difference.

  The seeds of an example are averaged first: one example is one piece of evidence.
  """
  gaps = []
  tasks = set.intersection(*(set(r.clusters[cluster]) for pair in pairs for r in pair))
  for task in sorted(tasks):
    tables = [(a.clusters[cluster][task], b.clusters[cluster][task]) for a, b in pairs]
    if any(t.is_corpus for pair in tables for t in pair):
      return None
    examples = set.intersection(*({e for _, e in t.by_model[_MODEL]} for p in tables for t in p))
    if not examples:
      continue
    found = [a.contributions(_MODEL, _keys(a, examples)) - b.contributions(
        _MODEL, _keys(b, examples)) for a, b in tables]
    gaps.append((task, np.mean(found, axis=0)))
  flips = significance.flips_of([g for _, g in gaps])
  null = [significance.swapped_gaps(g / len(g), flips, significance.generator(task, len(g), 0))
          for task, g in gaps]
  observed = float(np.mean([g.mean() for _, g in gaps]))
  return significance.p_value(observed, np.mean(null, axis=0))


def _correct(rows: Sequence[dict[str, Any]]) -> None:
  """Holm's correction over the clusters of each comparison."""
  for pair in {(r['condition'], r['minus']) for r in rows}:
    members = {i: r['p'] for i, r in enumerate(rows) if (r['condition'], r['minus']) == pair
               and r['group'] != MEAN}
    for i, p in significance.holm(members).items():
      rows[i]['p_holm'] = p


def _mean_row(
    rows: Sequence[Mapping[str, Any]], draws: Sequence[np.ndarray], same: Sequence[str]
) -> list[dict[str, Any]]:
  """The mean over the rows, where there are several: over held-out clusters if any are."""
  chosen = [i for i, r in enumerate(rows) if r['held_out']] or list(range(len(rows)))
  if len(chosen) < 2:
    return []
  size = min(len(draws[i]) for i in chosen)
  values = np.mean([draws[i][:size] for i in chosen], axis=0)
  members = [rows[i] for i in chosen]
  # A cluster that several holdouts were measured on has the same examples in each.
  apart = len({m['group'] for m in members}) == len(members)
  ends = intervals.of_mean(values[1:], members if apart else ())
  seeds_of_all = [s for s in members[0]['by_seed'] if all(s in r['by_seed'] for r in members)]
  return [{'value': float(values[0]), **ends, 'resamples': size - 1, 'like_these': None}
          | {key: members[0][key] for key in same} | {
      'holdout': MEAN, 'group': MEAN, 'held_out': members[0]['held_out'],
      'n_examples': sum(r['n_examples'] for r in members),
      'n_seeds': min(r['n_seeds'] for r in members),
      'by_seed': {s: float(np.mean([r['by_seed'][s] for r in members])) for s in seeds_of_all},
      'of': [f"{r['holdout']}: {r['group']}" if r['holdout'] != r['group'] else r['group']
             for r in members],
      'p': None, 'p_holm': None,
      'cells': sorted({c for r in members for c in r['cells']})}]
