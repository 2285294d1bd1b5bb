"""A run folder -> report.json, results.csv, plots and one page of HTML that needs no network.

What is read of a run is in `run_data`, what report.json holds in docs/report.md.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.evaluation import clean as clean_lib
from flanjax.evaluation import comparison, headline, page, plots, provenance, statistics, summary
from flanjax.evaluation import records as records_lib
from flanjax.evaluation.run_data import RunData, RunDir, load

FORMAT_VERSION = 2
_LOSS_POINTS = 600


def build(
    run_dir: RunDir | Sequence[RunDir],
    out_dir: RunDir | None = None,
    *,
    metric_fns: Mapping[str, statistics.MetricFn] | None = None,
    clean: str | os.PathLike[str] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """Writes the report of a run, or of several side by side, and returns what report.json holds.

  Args:
    run_dir: a run folder. Of several, the first is the one reported; the models of the others
      stand beside its own, named after their folder, and are compared with its tuned model.
    out_dir: where to write; the (first) run's `report` folder by default.
    metric_fns: metric functions by name, for corpus metrics outside flanjax.data.metrics.
    clean: what `flanjax audit leakage` wrote as clean.json: scores on these examples stand beside
      those on all; None: the file eval/clean.json of the (first) run, if it has one.
    resamples: bootstrap resamples.
    seed: the bootstrap's seed.
  """
  run_dirs = [run_dir] if isinstance(run_dir, (str, os.PathLike)) else list(run_dir)
  runs = [load(r) for r in run_dirs]
  out = pathlib.Path(out_dir) if out_dir else pathlib.Path(run_dirs[0]) / 'report'
  beside = pathlib.Path(run_dirs[0]) / 'eval' / 'clean.json'
  clean = clean or (beside if beside.exists() else None)
  ids = clean_lib.load_clean(clean, runs[0].info.split) if clean else {}
  report = assemble(runs, metric_fns=metric_fns, clean=ids, resamples=resamples, seed=seed)
  figures = plots.draw(report)
  for name, (png, _) in figures.items():
    records_lib.write_atomically(out / 'plots' / f'{name}.png', png)
  records_lib.write_atomically(out / 'report.json', dumps(report))
  records_lib.write_atomically(out / 'results.csv', results_csv(report))
  text = page.render(report, {name: svg for name, (_, svg) in figures.items()})
  records_lib.write_atomically(out / 'report.html', text)
  return report


def dumps(report: Mapping[str, Any]) -> str:
  """The text of report.json."""
  return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def assemble(
    runs: Sequence[RunData],
    *,
    metric_fns: Mapping[str, statistics.MetricFn] | None = None,
    clean: Mapping[str, frozenset[int]] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """The report as plain data: what report.json holds."""
  first, *rest = comparison.distinct(runs)
  differences = [comparison.of(first, run) for run in rest]
  rest = [comparison.renamed(comparison.comparable(first, run)) for run in rest]
  shown = (first, *rest)
  roles = dict(first.info.models)
  for model in sorted({r['model'] for r in first.records}):
    roles.setdefault(model, model)
  for run in rest:
    roles |= {m: 'other run' for m in sorted({r['model'] for r in run.records})}
  tables = summary.make_tables(
      [r for run in shown for r in run.records],
      dataclasses.replace(first.info, models=roles),
      dev_records=[r for run in shown for r in run.dev_records],
      variant_records=[r for run in shown for r in run.variant_records],
      metric_fns=metric_fns, clean=clean, audit=first.audit, resamples=resamples, seed=seed,
  )  # fmt: skip
  tasks = summary.summarise(tables)
  models = tables.analysis.models
  report = {
      'format_version': FORMAT_VERSION,
      'name': first.name,
      'holdout': first.info.holdout,
      'models': list(models),
      'columns': _columns(models, first, differences),
      'roles': {m: roles[m] for m in models},
      'tuned': tables.analysis.tuned,
      'untuned': tables.analysis.untuned,
      'split': first.info.split,
      'num_examples': first.info.num_examples,
      'n_examples': sum(c['n_examples'] for c in tasks['clusters']),
      'n_records': sum(len(run.records) for run in shown),
      'seeds': {'run': first.info.seed, 'bootstrap': seed},
      'resamples': resamples,
      'command': list(first.info.command),
      'checkpoints': _checkpoints(shown, models),
      **tasks,
      'tasks': [t | {'behind': _behind(tables, t, shown)} for t in tasks['tasks']],
      'runs': [{'run': run.name, 'holdout': run.info.holdout, 'seed': run.info.seed,
                'cost': run.cost} for run in shown],
      'compared': differences,
      'loss': [_thin(run) for run in shown if run.loss],
      'audit': first.audit,
      'config': first.config,
      'environment': first.environment,
      'warnings': [w for run in shown for w in run.warnings],
  }
  report = finite(report)
  return {'headline': headline.of(report), **report}


def _columns(
    models: Sequence[str], first: RunData, compared: Sequence[Mapping[str, Any]]
) -> list[str]:
  """The models that tables and figures have room for: the first run's, and others' tuned ones."""
  wanted = {r['model'] for r in first.records} | {c['tuned'] for c in compared}
  if compared and None in wanted:
    return list(models)
  return [m for m in models if m in wanted]


def _checkpoints(runs: Sequence[RunData], models: Sequence[str]) -> dict[str, Any]:
  """Model -> where its parameters are."""
  found: dict[str, Any] = {}
  for run in runs:
    its = {r['model'] for r in run.records}
    found |= provenance.checkpoints(run.info, [m for m in models if m in its], run.stamps, run.name)
  return found


def _behind(
    tables: summary.Tables, task: Mapping[str, Any], runs: Sequence[RunData]
) -> dict[str, Any]:
  stamps = {key: told for run in runs for key, told in run.stamps.items()}
  return provenance.behind(tables.test[task['task'], task['mode']], stamps)


def _thin(run: RunData) -> dict[str, Any]:
  """A run's loss curve as averages over at most `_LOSS_POINTS` stretches."""
  width = math.ceil(len(run.loss) / _LOSS_POINTS)
  parts = [run.loss[i : i + width] for i in range(0, len(run.loss), width)]
  return {
      'run': run.name,
      'steps': [part[-1][0] for part in parts],
      'values': [sum(value for _, value in part) / len(part) for part in parts],
  }


def finite(value: Any) -> Any:
  """`value` with None for every number that JSON cannot hold."""
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {k: finite(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [finite(v) for v in value]
  return value


def results_csv(report: Mapping[str, Any]) -> str:
  """One row per score: of clusters, tasks and templates."""
  out = io.StringIO()
  names = ['level', 'cluster', 'held_out', 'task', 'mode', 'template_id', 'metric', 'n_examples',
           'model', 'score', 'low', 'high', 'majority', 'chance', 'copy']  # fmt: skip
  writer = csv.DictWriter(out, names, lineterminator='\n')
  writer.writeheader()
  for level, entries in (('cluster', report['clusters']), ('task', report['tasks'])):
    for entry in entries:
      shared = {k: entry.get(k) for k in names if k in entry}
      for model in report['models']:
        ends = {k: (entry['intervals'][model] or {}).get(k) for k in ('low', 'high')}
        row = shared | {'level': level, 'model': model, 'score': entry['scores'][model]}
        writer.writerow(row | ends | {k: entry['baselines'][k] for k in names[-3:]})
        for t in entry.get('templates', ()):
          row |= {'level': 'template', 'template_id': t['template_id']}
          writer.writerow(row | {'score': t['scores'][model]})
  return out.getvalue()
