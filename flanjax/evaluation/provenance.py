"""What stands behind a number: checkpoint, prompts, split, lengths, how many were cut."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.evaluation import records as records_lib
from flanjax.evaluation.records import EvalInfo
from flanjax.evaluation.task_records import TaskRecords

# (model, SeqIO task) -> what its .done.json says.
Stamps = Mapping[tuple[str, str], Mapping[str, Any]]


def stamps(records_dir: pathlib.Path) -> dict[tuple[str, str], dict[str, Any]]:
  """What the records below a folder were made from; nothing of files that do not tell."""
  found = {}
  for path in sorted(records_dir.glob('*/*.done.json')):
    told = records_lib.read_json(path)
    if isinstance(told.get('stamp'), dict):
      found[path.parent.name, path.name.removesuffix('.done.json')] = told
  return found


def checkpoints(
    info: EvalInfo, models: Sequence[str], told: Stamps, run: str
) -> dict[str, dict[str, Any]]:
  """Model -> {run, path, step, fingerprint}, None where the evaluation did not keep it."""
  found = {}
  for model in models:
    prints = {t['stamp'].get('model') for (m, _), t in told.items() if m == model} - {None}
    kept = info.checkpoints.get(model, {})
    found[model] = {
        'run': run, 'path': kept.get('path'), 'step': kept.get('step'),
        'fingerprint': ' and '.join(sorted(map(str, prints))) or None}
  return found


def behind(table: TaskRecords, told: Stamps) -> dict[str, dict[str, Any]]:
  """Model -> how its records of a task were made.

  {seqio_tasks, split, num_examples, sequence_length, vocabulary, cut, n_records}: `cut` is
  {inputs, targets}, how many prompts and targets were longer than the model reads; None where
  the evaluation did not count.
  """
  return {model: _behind(model, cell.values(), told) for model, cell in table.by_model.items()}


def _behind(model: str, rows: Any, told: Stamps) -> dict[str, Any]:
  rows = list(rows)
  names = sorted({r['seqio_task'] for r in rows})
  known = [told[model, name] for name in names if (model, name) in told]
  said = [k['stamp'] for k in known]
  cuts = [k.get('cut') for k in known]
  counted = bool(cuts) and len(cuts) == len(names) and all(cuts)
  sums = {k: sum(c.get(k, 0) for c in cuts) for k in ('inputs', 'targets')} if counted else None
  only = lambda field: next((s.get(field) for s in said), None)
  return {
      'seqio_tasks': names,
      'split': only('split'),
      'num_examples': only('num_examples'),
      'sequence_length': only('sequence_length'),
      'vocabulary': only('vocabulary'),
      'cut': sums,
      'n_records': len(rows),
  }
