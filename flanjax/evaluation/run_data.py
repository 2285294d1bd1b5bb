"""A run folder as a report reads it; only the records must be there.

  eval/records/<model>/<task>.jsonl       what the report is about; .done.json what it was made from
  eval/dev_records/<model>/<task>.jsonl   validation records, for the best-dev-template scores
  eval/variant_records/<model>/<task>.jsonl   the same examples with their options asked otherwise
  eval/clean.json                         examples that `flanjax audit leakage` found nothing about
  eval/eval.json                          `records.EvalInfo`: holdout, models and roles, split
  config.gin  environment.json  run.json  shown as they are
  train/log.jsonl                         the loss by step, and where the time went
  train/audit.json                        what the model was given, by task and template
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax import errors
from flanjax.evaluation import costs, provenance
from flanjax.evaluation import records as records_lib

RunDir = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class RunData:
  """What one run folder holds.

  `made` is run.json, `stamps` as of `provenance.stamps`, `cost` as of `costs.of`.
  """

  name: str
  info: records_lib.EvalInfo
  records: Sequence[records_lib.Record]
  dev_records: Sequence[records_lib.Record] = ()
  variant_records: Sequence[records_lib.Record] = ()
  loss: Sequence[tuple[int, float]] = ()
  audit: Mapping[str, Any] | None = None
  config: str | None = None
  environment: Mapping[str, Any] | None = None
  made: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  stamps: provenance.Stamps = dataclasses.field(default_factory=dict)
  cost: Mapping[str, Any] | None = None
  warnings: Sequence[str] = ()


def load(run_dir: RunDir) -> RunData:
  """Reads a run folder; UserError when it holds no records or something unreadable."""
  run = pathlib.Path(run_dir)
  if not run.is_dir():
    raise errors.UserError('no such run folder', where=str(run))
  warnings: list[str] = []
  records = records_lib.read_all(run / 'eval' / 'records', warnings)
  warnings += [
      f'the records of {model} come from more than one set of parameters; remove '
      f'eval/records/{model} and evaluate again'
      for model in records_lib.mixed_models(run / 'eval' / 'records')
  ]
  stamps = provenance.stamps(run / 'eval' / 'records')
  config, made = run / 'config.gin', _object(run / 'run.json') or {}
  audit, environment = _audit(run), _object(run / 'environment.json')
  log = rows(run / 'train' / 'log.jsonl')
  return RunData(
      name=run.resolve().name,
      info=_info(run, made),
      records=records,
      dev_records=_beside(run / 'eval', 'dev_records', stamps, warnings),
      variant_records=_beside(run / 'eval', 'variant_records', stamps, warnings),
      loss=_loss(log),
      audit=audit,
      config=config.read_text() if config.exists() else None,
      environment=environment,
      made=made,
      stamps=stamps,
      cost=costs.of(log, audit, environment, _object(run / 'model.json'), made),
      warnings=warnings,
  )


def _beside(
    folder: pathlib.Path, name: str, stamps: provenance.Stamps, warnings: list[str]
) -> list[records_lib.Record]:
  """The records of a folder that need not be there; those of other parameters are left out."""
  prints: dict[str, set[str]] = {}
  for (model, _), told in stamps.items():
    if 'model' in told['stamp']:
      prints.setdefault(model, set()).add(str(told['stamp']['model']))
  own = provenance.stamps(folder / name)
  found, odd = [], set()
  for path in sorted((folder / name).glob('*/*.jsonl')):
    model = path.parent.name
    told = str(own.get((model, path.stem), {'stamp': {}})['stamp'].get('model'))
    if told != 'None' and told not in prints.get(model, {told}):
      odd.add(model)
    else:
      found += records_lib.read_task(path, warnings)
  warnings += [f'eval/{name}/{model} comes from other parameters than eval/records/{model}, and is '
               'left out; evaluate again' for model in sorted(odd)]
  return found


def cost_of(run: pathlib.Path) -> dict[str, Any] | None:
  """What a training cost, without reading what it was evaluated on."""
  return costs.of(
      rows(run / 'train' / 'log.jsonl'), _audit(run), _object(run / 'environment.json'),
      _object(run / 'model.json'), _object(run / 'run.json') or {})


def _object(path: pathlib.Path) -> dict[str, Any] | None:
  return records_lib.read_json(path) if path.exists() else None


def _info(run: pathlib.Path, made: Mapping[str, Any]) -> records_lib.EvalInfo:
  """eval.json; what it does not say of holdout and seed, the training run's own file does."""
  path = run / 'eval' / 'eval.json'
  info = records_lib.EvalInfo.read(path) if path.exists() else records_lib.EvalInfo()
  return dataclasses.replace(
      info,
      holdout=made.get('holdout') if info.holdout is None else info.holdout,
      seed=made.get('seed') if info.seed is None else info.seed,
  )


def rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of a training log, as far as they are whole."""
  found = []
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      row = json.loads(line)
      found.append(row | {'step': int(row['step'])})
    except (ValueError, KeyError, TypeError):
      continue  # a log is for looking at: a line that a crash cut off is no reason to stop
  return found


def _loss(log: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
  """(step, loss); a resumed run's later line replaces the earlier one."""
  points = {}
  for row in log:
    try:
      points[row['step']] = float(row['loss'])
    except (ValueError, KeyError, TypeError):
      continue
  return sorted(points.items())


def _audit(run: pathlib.Path) -> dict[str, Any] | None:
  """What the run was given, the tasks of the largest expected share first."""
  found = _object(run / 'train' / 'audit.json') or {}
  if not found.get('examples'):
    return None
  return found | {'tasks': sorted(found['tasks'], key=lambda t: (-t['expected'], t['task']))}
