"""Evaluated run folders, read for comparison with each other."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.errors import UserError
from flanjax.evaluation import records as records_lib
from flanjax.evaluation import task_records
from flanjax.evaluation.task_records import TaskRecords
from flanjax.evaluation.weighted import MetricFn

RunDir = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Run:
  """What one run's records say. Keys of `tables` are (task, mode)."""

  name: str
  info: records_lib.EvalInfo
  tables: Mapping[tuple[str, str], TaskRecords]
  lock: str | None = None
  audit: Mapping[str, Any] | None = None
  warnings: Sequence[str] = ()

  @property
  def tuned(self) -> str:
    return self.model('tuned')

  def model(self, role: str) -> str:
    """The name of the model of a role; UserError without one."""
    found = [m for m, r in self.info.models.items() if r == role]
    if not found:
      raise UserError(f"No model of a run is '{role}'.", where=self.name,
                      got=', '.join(f'{m} ({r})' for m, r in self.info.models.items()) or 'none')
    return found[0]

  def headline(self, models: Sequence[str]) -> dict[str, TaskRecords]:
    """Task -> its table, ranked where all `models` were, as FLAN scores tasks with options."""
    found: dict[str, TaskRecords] = {}
    for (task, mode), table in sorted(self.tables.items()):
      if all(m in table.by_model for m in models) and (mode == 'rank' or task not in found):
        found[task] = table
    return found


def read(run_dir: RunDir, metric_fns: Mapping[str, MetricFn] | None = None) -> Run:
  """Reads a run folder that was evaluated; UserError when it holds no records."""
  run = pathlib.Path(run_dir)
  warnings: list[str] = []
  records = records_lib.read_all(run / 'eval' / 'records', warnings)
  path, trained, audit = run / 'eval' / 'eval.json', run / 'run.json', run / 'train' / 'audit.json'
  info = records_lib.EvalInfo.read(path) if path.exists() else records_lib.EvalInfo()
  said = records_lib.read_json(trained) if trained.exists() else {}
  info = dataclasses.replace(
      info, holdout=said.get('holdout') if info.holdout is None else info.holdout,
      seed=said.get('seed') if info.seed is None else info.seed)
  return Run(
      name=run.resolve().name, info=info, tables=task_records.group(records, metric_fns),
      lock=_lock(said), audit=records_lib.read_json(audit) if audit.exists() else None,
      warnings=warnings)


def _lock(said: Mapping[str, Any]) -> str | None:
  """What a run was trained on, as far as its run.json names it: the file of its mixture."""
  manifest = said.get('mixture_manifest')
  return pathlib.PurePath(manifest).name if isinstance(manifest, str) else None


def check_repeats(runs: Sequence[Run]) -> None:
  """Raises UserError unless `runs` are the same experiment under several seeds."""
  first = runs[0]
  for run in runs[1:]:
    for what, get in (('held-out cluster', lambda r: r.info.holdout),
                      ('training data', lambda r: r.lock)):
      if get(run) != get(first):
        raise UserError(f'Runs of one experiment differ in their {what}.',
                        where=f'{first.name} and {run.name}', got=f'{get(first)} and {get(run)}',
                        expected='runs that differ in their seed alone')
  check_evaluated_alike(runs)
  seeds = [r.info.seed for r in runs]
  again = [s for s in seeds if s is not None and seeds.count(s) > 1]
  if again:
    names = [r.name for r in runs if r.info.seed == again[0]]
    raise UserError('Two runs have the same seed, so they are one, not two.',
                    where=', '.join(names), got=f'seed {again[0]}', expected='a seed of its own')


def check_evaluated_alike(runs: Sequence[Run]) -> None:
  """Raises UserError unless all read the same split, and the same answers are right."""
  first = runs[0]
  for run in runs[1:]:
    if run.info.split != first.info.split:
      raise UserError('Runs were evaluated on different splits.',
                      where=f'{first.name} and {run.name}',
                      got=f'{first.info.split} and {run.info.split}')
    for key in first.tables.keys() & run.tables.keys():
      other = _targets(run.tables[key])
      differs = [k for k, t in _targets(first.tables[key]).items() if other.get(k, t) != t]
      if differs:
        raise UserError(
            'Runs were evaluated on different data.', where=f'{first.name} and {run.name}',
            got=f'{key[0]} ({key[1]}), template {differs[0][0]}, example {differs[0][1]}: '
                'not the same right answer', expected='evaluations of the same data and templates')


def _targets(table: TaskRecords) -> dict[task_records.Key, Any]:
  """The right answer to each example under each template."""
  return {k: r['targets'] for cell in table.by_model.values() for k, r in cell.items()}
