"""A run folder -> report.json, results.csv, plots and one page of HTML that needs no network.

Read from a run folder (only the records must be there):

  eval/records/<model>/<task>.jsonl       what the report is about
  eval/dev_records/<model>/<task>.jsonl   validation records, for the best-dev-template scores
  eval/clean.json                         examples that leakage was not found about (`flanjax audit leakage`)
  eval/eval.json                          `records.EvalInfo`: holdout, models and roles, split
  config.gin  environment.json            shown as they are
  train/log.jsonl                         the loss by step
  train/audit.json                        what the model was given, by task and template
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

import jinja2

from flanjax import errors
from flanjax.evaluation import plots, statistics, summary
from flanjax.evaluation import clean as clean_lib
from flanjax.evaluation import records as records_lib

FORMAT_VERSION = 1
_LOSS_POINTS = 600

RunDir = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class RunData:
  """What one run folder holds."""

  name: str
  info: records_lib.EvalInfo
  records: Sequence[records_lib.Record]
  dev_records: Sequence[records_lib.Record] = ()
  loss: Sequence[tuple[int, float]] = ()
  audit: Mapping[str, Any] | None = None
  config: str | None = None
  environment: Mapping[str, Any] | None = None
  warnings: Sequence[str] = ()


def load(run_dir: RunDir) -> RunData:
  """Reads a run folder; UserError when it holds no records or something unreadable."""
  run = pathlib.Path(run_dir)
  if not run.is_dir():
    raise errors.UserError('no such run folder', where=str(run))
  warnings: list[str] = []
  records = records_lib.read_all(run / 'eval' / 'records', warnings)
  dev = run / 'eval' / 'dev_records'
  warnings += [
      f'the records of {model} come from more than one set of parameters; remove '
      f'eval/records/{model} and evaluate again'
      for model in records_lib.mixed_models(run / 'eval' / 'records')
  ]
  environment, config = run / 'environment.json', run / 'config.gin'
  return RunData(
      name=run.resolve().name,
      info=_info(run),
      records=records,
      dev_records=records_lib.read_all(dev, warnings) if any(dev.glob('*/*.jsonl')) else (),
      loss=_loss(run / 'train' / 'log.jsonl'),
      audit=_audit(run),
      config=config.read_text() if config.exists() else None,
      environment=records_lib.read_json(environment) if environment.exists() else None,
      warnings=warnings,
  )


def _info(run: pathlib.Path) -> records_lib.EvalInfo:
  """eval.json; what it does not say of holdout and seed, the training run's own file does."""
  path, trained = run / 'eval' / 'eval.json', run / 'run.json'
  info = records_lib.EvalInfo.read(path) if path.exists() else records_lib.EvalInfo()
  said = records_lib.read_json(trained) if trained.exists() else {}
  return dataclasses.replace(
      info,
      holdout=said.get('holdout') if info.holdout is None else info.holdout,
      seed=said.get('seed') if info.seed is None else info.seed,
  )


def _loss(path: pathlib.Path) -> list[tuple[int, float]]:
  """(step, loss) of a training log; a resumed run's later line replaces the earlier one."""
  if not path.exists():
    return []
  points = {}
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
      points[int(row['step'])] = float(row['loss'])
    except (ValueError, KeyError, TypeError):
      continue  # a log is for looking at: a line that a crash cut off is no reason to stop
  return sorted(points.items())


def _audit(run: pathlib.Path) -> dict[str, Any] | None:
  """What the run was given, the tasks of the largest expected share first."""
  path = run / 'train' / 'audit.json'
  found = records_lib.read_json(path) if path.exists() else {}
  if not found.get('examples'):
    return None
  return found | {'tasks': sorted(found['tasks'], key=lambda t: (-t['expected'], t['task']))}


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
  text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
  records_lib.write_atomically(out / 'report.json', text + '\n')
  records_lib.write_atomically(out / 'results.csv', results_csv(report))
  page = render(report, {name: svg for name, (_, svg) in figures.items()})
  records_lib.write_atomically(out / 'report.html', page)
  return report


def assemble(
    runs: Sequence[RunData],
    *,
    metric_fns: Mapping[str, statistics.MetricFn] | None = None,
    clean: Mapping[str, frozenset[int]] | None = None,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
  """The report as plain data: what report.json holds."""
  first, *rest = runs
  rest = [_rename(run, f'[{run.name}]') for run in rest]
  roles = dict(first.info.models)
  for model in sorted({r['model'] for r in first.records}):
    roles.setdefault(model, model)
  for run in rest:
    roles |= {m: 'other run' for m in sorted({r['model'] for r in run.records})}
  tables = summary.make_tables(
      [r for run in (first, *rest) for r in run.records],
      dataclasses.replace(first.info, models=roles),
      dev_records=[r for run in (first, *rest) for r in run.dev_records],
      metric_fns=metric_fns, clean=clean, resamples=resamples, seed=seed,
  )  # fmt: skip
  tasks = summary.summarise(tables)
  report = {
      'format_version': FORMAT_VERSION,
      'name': first.name,
      'holdout': first.info.holdout,
      'models': list(tables.analysis.models),
      'roles': {m: roles[m] for m in tables.analysis.models},
      'tuned': tables.analysis.tuned,
      'untuned': tables.analysis.untuned,
      'split': first.info.split,
      'num_examples': first.info.num_examples,
      'n_examples': sum(c['n_examples'] for c in tasks['clusters']),
      'n_records': sum(len(run.records) for run in runs),
      'seeds': {'run': first.info.seed, 'bootstrap': seed},
      'resamples': resamples,
      **tasks,
      'loss': [_thin(run) for run in runs if run.loss],
      'audit': first.audit,
      'config': first.config,
      'environment': first.environment,
      'warnings': [w for run in runs for w in run.warnings],
  }
  report = _finite(report)
  return {'headline': headline(report), **report}


def _rename(run: RunData, suffix: str) -> RunData:
  """The run with its models' names marked."""
  renamed = [dict(r, model=f'{r["model"]} {suffix}') for r in run.records]
  dev = [dict(r, model=f'{r["model"]} {suffix}') for r in run.dev_records]
  return dataclasses.replace(run, records=renamed, dev_records=dev)


def _thin(run: RunData) -> dict[str, Any]:
  """A run's loss curve as averages over at most `_LOSS_POINTS` stretches."""
  width = math.ceil(len(run.loss) / _LOSS_POINTS)
  parts = [run.loss[i : i + width] for i in range(0, len(run.loss), width)]
  return {
      'run': run.name,
      'steps': [part[-1][0] for part in parts],
      'values': [sum(value for _, value in part) / len(part) for part in parts],
  }


def _finite(value: Any) -> Any:
  """`value` with None for every number that JSON cannot hold."""
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {k: _finite(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(v) for v in value]
  return value


def headline(report: Mapping[str, Any]) -> str:
  """What the report says, in a sentence or three.

  It says 'raised' or 'lowered' only where the interval of the difference excludes zero, and
  'above' a baseline only where the tuned model's interval does.
  """
  held = [c for c in report['clusters'] if c['held_out']]
  rest = [c for c in report['clusters'] if c['status'] == 'seen']
  parts = [_cluster_sentence(report, c) for c in held]
  compared = [c for c in rest if _known(c['difference'])]
  if compared:
    parts.append(_many_sentence(report, compared, 'seen in tuning'))
  elif rest and not held:
    parts += [_cluster_sentence(report, c) for c in rest[:3]]
  unseen = [c for c in report['clusters'] if c['status'] == 'unseen' and _known(c['difference'])]
  if unseen:
    parts.append(_many_sentence(report, unseen, 'not tuned on'))
  return ' '.join(parts) or 'No cluster was scored.'


def _many_sentence(
    report: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]], which_ones: str
) -> str:
  if len(clusters) == 1:
    return _cluster_sentence(report, clusters[0])
  clear = sum(c['difference']['low'] > 0 for c in clusters)
  worse = sum(c['difference']['high'] < 0 for c in clusters)
  n = len(clusters)
  which = f'All {n}' if clear == n else f'{clear} of the {n}' if clear else f'None of the {n}'
  verb = 'is' if clear == 1 < n else 'are'
  text = f'{which} clusters {which_ones} {verb} clearly better for it'
  return f'{text}, {worse} clearly worse.' if worse else f'{text}.'


def _cluster_sentence(report: Mapping[str, Any], c: Mapping[str, Any]) -> str:
  lead = report['tuned'] or report['models'][0]
  score, gap = c['scores'][lead], c['difference']
  where = f'{"held-out " if c["held_out"] else ""}{c["cluster"]}'
  if score is None:
    return f'On {where} there is no score of {lead}.'
  if not _known(gap):
    text = f'On {where}, {lead} scores {score:.1f} ({c["metric"]}, n = {c["n_examples"]:,})'
  else:
    verb = 'raised' if gap['low'] > 0 else 'lowered' if gap['high'] < 0 else 'did not clearly move'
    text = (
        f'On {where}, tuning {verb} {c["metric"]}: {c["scores"][report["untuned"]]:.1f} before, '
        f'{score:.1f} after ({signed(gap["value"])} points, 95 % interval {signed(gap["low"])} to '
        f'{signed(gap["high"])}, n = {gap["n_examples"]:,})'
    )
  baseline = c['baselines']['best']
  if baseline is None:
    return f'{text}.'
  low = c['intervals'][lead]['low']
  relation = (
      'above' if low is not None and low > baseline
      else 'not clearly above' if score > baseline else 'not above'
  )  # fmt: skip
  return f'{text}, {relation} the best trivial baseline of {baseline:.1f}.'


def _known(gap: Mapping[str, Any] | None) -> bool:
  return bool(gap) and all(gap[k] is not None for k in ('value', 'low', 'high'))


def signed(value: float | None, digits: int = 1) -> str:
  """A number with its sign, a true minus, and no negative zero."""
  if value is None:
    return '–'
  text = f'{value:+.{digits}f}'
  return f'{0:.{digits}f}' if float(text) == 0 else text.replace('-', '−')


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
        ends = entry['intervals'][model] or {}
        row = shared | {'level': level, 'model': model, 'score': entry['scores'][model]}
        writer.writerow(row | ends | {k: entry['baselines'][k] for k in names[-3:]})
        for t in entry.get('templates', ()):
          row |= {'level': 'template', 'template_id': t['template_id']}
          writer.writerow(row | {'score': t['scores'][model]})
  return out.getvalue()


def render(report: Mapping[str, Any], figures: Mapping[str, str]) -> str:
  """The page. `figures` are SVG elements; every other text is escaped by the template engine."""
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader('flanjax.evaluation', 'templates'),
      autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
  )  # fmt: skip
  environment.filters['signed'] = signed
  environment.filters['number'] = lambda v, d=1: '–' if v is None else f'{v:,.{d}f}'
  template = environment.get_template('report.html.j2')
  return template.render(
      report=report,
      figures=figures,
      samples=_by_task(report['samples']),
      has_dev=any(any(t['best_dev_template'].values()) for t in report['tasks']),
  )


def _by_task(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Any]]:
  """Samples under (cluster, task), in the report's order."""
  grouped: dict[tuple[str, str], list[Any]] = {}
  for s in samples:
    grouped.setdefault((s['cluster'], s['task']), []).append(s)
  return grouped
