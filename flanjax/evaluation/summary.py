"""Records of several models -> the tables of a report: clusters, tasks and samples, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation import baselines as baselines_lib
from flanjax.evaluation import conventions, evidence, samples, sensitivity, statistics
from flanjax.evaluation import task_records, variants
from flanjax.evaluation.records import EvalInfo, Record
from flanjax.evaluation.statistics import Analysis, TaskRecords


@dataclasses.dataclass(frozen=True)
class Tables:
  """Everything `summarise` looks at. Keys of `test` and `dev` are (task, mode).

  `clean`: task -> ids of the examples about which an audit of leakage found nothing.
  `trained`: task -> templates that training drew, where that is known.
  `varied`: records of options asked otherwise.
  """

  info: EvalInfo
  analysis: Analysis
  test: Mapping[tuple[str, str], TaskRecords]
  dev: Mapping[tuple[str, str], TaskRecords]
  clean: Mapping[str, frozenset[int]] = dataclasses.field(default_factory=dict)
  trained: Mapping[str, frozenset[int]] | None = None
  varied: Mapping[tuple[str, str], Sequence[Record]] = dataclasses.field(default_factory=dict)
  _memo: dict[tuple[str, str], Any] = dataclasses.field(default_factory=dict, repr=False)

  def headline_mode(self, task: str) -> str:
    """Rank classification where both models have it, as FLAN scores tasks with options."""
    pair = [m for m in (self.analysis.lead, self.analysis.untuned) if m]
    for mode in ('rank', 'generate'):
      table = self.test.get((task, mode))
      if table and all(m in table.by_model for m in pair):
        return mode
    return 'rank' if (task, 'rank') in self.test else 'generate'

  def baselines(self, table: TaskRecords) -> dict[str, float | None]:
    """The trivial baselines of a task, on the examples that its scores are about."""
    memo = (table.task, table.mode)
    if memo not in self._memo:
      keys = self.analysis.keys(table)
      cell = next(c for c in table.by_model.values() if keys <= c.keys())
      found = baselines_lib.trivial([cell[k] for k in sorted(keys)], table.metric_fn)
      found |= self.info.baselines.get(table.own_task, {})
      self._memo[memo] = {**found, 'best': baselines_lib.best(found)}
    return self._memo[memo]

  def status(self, cluster: str) -> str:
    own = (t.own_cluster for t in self.test.values() if t.cluster == cluster)
    cluster = next(own, cluster)
    if cluster == self.info.holdout:
      return 'held out'
    if cluster in self.info.excluded:
      return 'excluded'
    return 'unseen' if self.info.trained and cluster not in self.info.trained else 'seen'


def make_tables(
    records: Sequence[Record],
    info: EvalInfo,
    *,
    dev_records: Sequence[Record] = (),
    variant_records: Sequence[Record] = (),
    metric_fns: Mapping[str, statistics.MetricFn] | None = None,
    clean: Mapping[str, frozenset[int]] | None = None,
    audit: Mapping[str, Any] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> Tables:
  """Groups records and settles which models are compared; `audit` is the run's train/audit.json."""
  names = {r['model'] for r in records}
  models = tuple(m for m in info.models if m in names)
  models += tuple(sorted(names - set(models)))
  roles = dict(info.models) or {m: m for m in models}
  by_role = {role: m for m, role in reversed(roles.items()) if m in names}
  analysis = Analysis(
      models,
      tuned=by_role.get('tuned'),
      untuned=by_role.get('untuned') if 'tuned' in by_role else None,
      resamples=resamples,
      corpus_resamples=min(resamples, statistics.CORPUS_RESAMPLES),
      seed=seed,
  )
  label = task_records.labels(records)
  return Tables(
      info, analysis, statistics.group(records, metric_fns, label),
      statistics.group(dev_records, metric_fns, label), clean or {},
      sensitivity.trained_templates(audit), variants.group(variant_records, label))


def summarise(tables: Tables) -> dict[str, list[dict[str, Any]]]:
  """{'clusters', 'tasks', 'samples'} of report.json; held-out clusters first."""
  tasks = [_task(tables, t) for t in tables.test.values()]
  by_cluster: dict[str, list[TaskRecords]] = {}
  for table in tables.test.values():
    by_cluster.setdefault(table.cluster, []).append(table)
  order = ['held out', 'seen', 'unseen', 'excluded']
  names = sorted(by_cluster, key=lambda c: (order.index(tables.status(c)), c))
  rank = {c: i for i, c in enumerate(names)}
  tasks.sort(key=lambda t: (rank[t['cluster']], t['task'], not t['headline']))
  clusters = [_cluster(tables, c, by_cluster[c]) for c in names]
  evidence.correct(clusters, tables.analysis.untuned)
  shown = []
  for task in tasks:
    task['outcomes'], answers = samples.choose(tables, task)
    shown += answers if task['headline'] else []
  found = evidence.detectable(
      tables.analysis, {c: _chosen(tables, by_cluster[c]) for c in names})
  return {
      'clusters': [c | {'detectable': found.get(c['cluster'])} for c in clusters],
      'tasks': tasks,
      'samples': shown,
  }


def _scores(tables: Tables, chosen: Sequence[TaskRecords]) -> dict[str, Any]:
  """What a cluster and a task have in common: scores, intervals, differences, baselines."""
  analysis = tables.analysis
  scores = {m: analysis.score(chosen, m) for m in analysis.models}
  others = [m for m in analysis.models if m != analysis.lead] if analysis.tuned else []
  differences = {m: analysis.difference(chosen, m) for m in others}
  baselines = [tables.baselines(t) for t in chosen]
  metrics = list(dict.fromkeys(t.metric for t in chosen))
  return {
      'metric': metrics[0] if len(metrics) == 1 else f'mixed: {", ".join(metrics)}',
      'n_examples': statistics.count_examples(analysis.keys(t) for t in chosen),
      'scores': {m: s and s['value'] for m, s in scores.items()},
      'intervals': {m: s and {k: s[k] for k in ('low', 'high', 'method')} for m, s in scores.items()},
      'difference': differences.get(analysis.untuned),
      'differences': [{'model': m, **d} for m, d in differences.items() if d],
      'baselines': {
          name: None if any(b[name] is None for b in baselines)
          else float(np.mean([b[name] for b in baselines]))
          for name in (*baselines_lib.NAMES, 'best')
      },
  }  # fmt: skip


def _clean_scores(tables: Tables, chosen: Sequence[TaskRecords]) -> dict[str, Any] | None:
  """Scores, intervals and difference on clean examples alone; None without a list of them.

  `tasks` are those that the list knows and that have clean examples, `of` their examples in all.
  """
  analysis = tables.analysis
  listed = [t for t in chosen if t.own_task in tables.clean]
  if not listed:
    return None
  pairs = [(t, t.restricted(tables.clean[t.own_task])) for t in listed]
  pairs = [(whole, part) for whole, part in pairs if analysis.has_keys(part)]
  parts = [part for _, part in pairs]
  scores = {m: analysis.score(parts, m) for m in analysis.models}
  return {
      'tasks': [t.task for t in parts],
      'n_examples': statistics.count_examples(map(analysis.keys, parts)),
      'of': statistics.count_examples(map(analysis.keys, listed)),
      'scores': {m: s and s['value'] for m, s in scores.items()},
      'intervals': {m: s and {k: s[k] for k in ('low', 'high', 'method')} for m, s in scores.items()},
      'difference': analysis.untuned and analysis.difference(parts, analysis.untuned),
  }


def _comparable(analysis: Analysis, candidates: Sequence[TaskRecords]) -> list[TaskRecords]:
  """Those that both models have, or all where there is none."""
  both = [t for t in candidates if {analysis.lead, analysis.untuned} - {None} <= t.by_model.keys()]
  return both or list(candidates)


def _chosen(tables: Tables, members: Sequence[TaskRecords]) -> list[TaskRecords]:
  """The tables of a cluster that its score is about."""
  headline = [t for t in members if t.mode == tables.headline_mode(t.task)]
  return _comparable(tables.analysis, headline)


def _cluster(tables: Tables, name: str, members: Sequence[TaskRecords]) -> dict[str, Any]:
  """One entry of `clusters`: each task in its headline mode, and each mode by itself."""
  analysis = tables.analysis
  chosen = _chosen(tables, members)
  modes = sorted({t.mode for t in members})
  best_dev = {m: [_best_dev(tables, t, m) for t in chosen] for m in analysis.models}
  return {
      'cluster': name,
      'held_out': tables.status(name) == 'held out',
      'status': tables.status(name),
      'mode': chosen[0].mode if len({t.mode for t in chosen}) == 1 else 'mixed',
      'tasks': [t.task for t in chosen],
      **_scores(tables, chosen),
      **evidence.of_tasks(analysis, chosen),
      'clean': _clean_scores(tables, chosen),
      'best_dev_template': {
          m: float(np.mean([b['value'] for b in found])) if all(found) else None
          for m, found in best_dev.items()
      },
      'median_template': {m: _median_template(tables, chosen, m) for m in analysis.models},
      'by_mode': {
          mode: _scores(tables, _comparable(analysis, [t for t in members if t.mode == mode]))
          for mode in modes
      },
  }


def _task(tables: Tables, table: TaskRecords) -> dict[str, Any]:
  """One entry of `tasks`: a task in one mode, with each of its templates."""
  analysis = tables.analysis
  per_model = {
      m: statistics.template_scores(table, m, analysis.common(table, m))
      for m in analysis.models
      if analysis.common(table, m)
  }
  templates = sorted({t for scores in per_model.values() for t in scores})
  return {
      'task': table.task,
      'cluster': table.cluster,
      'held_out': tables.status(table.cluster) == 'held out',
      'mode': table.mode,
      'headline': table.mode == tables.headline_mode(table.task),
      **_scores(tables, [table]),
      **evidence.of_tasks(analysis, [table]),
      **evidence.of_templates(table, analysis, per_model, tables.trained),
      'conventions': conventions.scores(
          table, {m: analysis.common(table, m) for m in analysis.models}),
      'clean': _clean_scores(tables, [table]),
      'templates': [
          {'template_id': t, 'scores': {m: per_model.get(m, {}).get(t) for m in analysis.models},
           'mcnemar': evidence.mcnemar(analysis, table, t)}
          for t in templates
      ],
      'template_range': {
          m: {'low': min(s.values()), 'high': max(s.values())} if len(s) > 1 else None
          for m, s in ((m, per_model.get(m, {})) for m in analysis.models)
      },
      'best_dev_template': {m: _best_dev(tables, table, m) for m in analysis.models},
      'variants': variants.of(table, tables.varied.get((table.task, table.mode), ()), analysis),
  }


def _best_dev(tables: Tables, table: TaskRecords, model: str) -> dict[str, Any] | None:
  """As `statistics.best_dev_template`, with the interval of the test score."""
  analysis, dev = tables.analysis, tables.dev.get((table.task, table.mode))
  keys = analysis.common(table, model)
  found = statistics.best_dev_template(dev, table, model, keys)
  if not found:
    return None
  cell = {k: table.by_model[model][k] for k in keys if k[0] == found['template_id']}
  alone = dataclasses.replace(table, by_model={model: cell})
  score = dataclasses.replace(analysis, models=(model,), tuned=None, untuned=None, _memo={}).score(
      [alone], model)
  return found | {k: score[k] for k in ('low', 'high', 'method')}


def _median_template(
    tables: Tables, chosen: Sequence[TaskRecords], model: str
) -> float | None:
  """The mean over tasks of the median over templates; None where a task has but one."""
  medians = []
  for table in chosen:
    keys = tables.analysis.common(table, model)
    found = sensitivity.spread(statistics.template_scores(table, model, keys)) if keys else None
    medians.append(found and found['median'])
  return float(np.mean(medians)) if medians and None not in medians else None
