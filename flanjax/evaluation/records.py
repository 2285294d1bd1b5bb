"""Evaluation records on disk: JSON lines, one file per model and task, written whole or not at all.

Layout below a records folder:

  <model>/<seqio task>.jsonl       one record per example (see `FIELDS`)
  <model>/<seqio task>.done.json   what the records were made from, SeqIO's own metrics, and a hash

The second file is what makes an evaluation resumable: a task counts as done only when it names the
same settings and the hash of the records beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flanjax import errors

Record = dict[str, Any]

# Every record has these. `postprocessed` ([target, prediction]) is there besides where a task's
# postprocessor makes something other than text, and of ranked options `option_tokens` and
# `unconditional_scores`, what `conventions` compares by.
FIELDS = (
    'model', 'task', 'cluster', 'seqio_task', 'mode', 'template_id', 'example_id', 'inputs',
    'targets', 'prediction', 'options', 'option_scores', 'score', 'metric', 'metric_fn',
)  # fmt: skip
MODES = ('generate', 'rank')

_SAFE_NAME = re.compile(r'[\w(][\w .,()+=\[\]-]*')


@dataclasses.dataclass(frozen=True)
class EvalInfo:
  """What an evaluation compared; `eval/eval.json` of a run.

  Attributes:
    holdout: the cluster withheld from training, or None.
    models: model name -> role, in the order of the report. Roles that mean something here are
      'tuned' and 'untuned'; any other is shown beside them.
    split: the split evaluated.
    num_examples: the cap per task, or None.
    excluded: clusters neither held out nor trained on (they overlap the holdout).
    trained: clusters trained on; empty when it is all that are neither held out nor excluded.
    baselines: task -> {'majority', 'chance', 'copy'}, where known better than from the records.
    seed: the seed of the run.
    checkpoints: model -> {'path', 'step'} of its parameters.
    command: the command line of the evaluation.
    detectable: `power.Detectable` of each cluster, as data: what was told before it began.
  """

  holdout: str | None = None
  models: Mapping[str, str] = dataclasses.field(default_factory=dict)
  split: str | None = None
  num_examples: int | None = None
  excluded: tuple[str, ...] = ()
  trained: tuple[str, ...] = ()
  baselines: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
  seed: int | None = None
  checkpoints: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
  command: tuple[str, ...] = ()
  detectable: tuple[Mapping[str, Any], ...] = ()

  def write(self, path: str | os.PathLike[str]) -> None:
    write_atomically(path, json.dumps(dataclasses.asdict(self), indent=2) + '\n')

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> EvalInfo:
    data = read_json(path)
    known = {f.name for f in dataclasses.fields(cls)}
    info = cls(**{k: v for k, v in data.items() if k in known and v is not None})
    return dataclasses.replace(info, excluded=tuple(info.excluded), trained=tuple(info.trained),
                               command=tuple(info.command), detectable=tuple(info.detectable))


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes beside `path` and renames, so that a reader never sees half a file."""
  path = pathlib.Path(path)
  data = content.encode() if isinstance(content, str) else content
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except OSError as e:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise errors.UserError(
        'cannot write', where=str(path), got=e.strerror, expected='a folder that can be written'
    ) from e


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
  """A JSON object from a file; UserError when it is not one."""
  try:
    data = json.loads(pathlib.Path(path).read_text())
  except (OSError, ValueError) as e:
    raise errors.UserError('cannot read a JSON file', where=str(path), got=e) from e
  if not isinstance(data, dict):
    raise errors.UserError(
        'not a JSON object', where=str(path), got=type(data).__name__, expected='an object'
    )
  return data


def task_path(records_dir: str | os.PathLike[str], model: str, seqio_task: str) -> pathlib.Path:
  """Where a model's records of one SeqIO task are."""
  if not _SAFE_NAME.fullmatch(model):
    raise errors.UserError(
        'a model name becomes a folder name', where='evaluation', got=repr(model),
        expected='letters, digits, spaces and .,()+-=[]',
    )  # fmt: skip
  return pathlib.Path(records_dir) / model / f'{seqio_task}.jsonl'


def write_task(
    path: pathlib.Path,
    records: Iterable[Record],
    stamp: Mapping[str, Any],
    metrics: Mapping[str, float],
    cut: Mapping[str, int] | None = None,
) -> None:
  """Writes one task's records and then the file that declares them done.

  `cut` counts the examples whose inputs, or targets, were longer than the model read.
  """
  text = ''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in records)
  write_atomically(path, text)
  done = {'stamp': dict(stamp), 'metrics': dict(metrics), 'sha256': _sha256(text.encode())}
  if cut is not None:
    done['cut'] = dict(cut)
  write_atomically(_done_path(path), json.dumps(done, indent=2) + '\n')


def is_done(path: pathlib.Path, stamp: Mapping[str, Any]) -> bool:
  """Whether `path` holds whole records made from exactly `stamp`."""
  try:
    done = json.loads(_done_path(path).read_text())
    return done['stamp'] == dict(stamp) and done['sha256'] == _sha256(path.read_bytes())
  except (OSError, ValueError, KeyError, TypeError):
    return False


def read_task(path: str | os.PathLike[str], warnings: list[str] | None = None) -> list[Record]:
  """The records of one file.

  A last line cut off by a crash is left out, and said in `warnings`; anything else that is no
  record is an error naming file and line.
  """
  data = pathlib.Path(path).read_bytes()
  lines = data.split(b'\n')
  records = []
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except ValueError as e:
      if number == len(lines):
        if warnings is not None:
          warnings.append(f'{path}:{number}: the last record is cut off and was left out')
        continue
      raise errors.UserError(
          'a corrupt line among the evaluation records', where=f'{path}:{number}', got=e,
          expected='one JSON record per line', hint='delete the file and run the evaluation again',
      ) from e  # fmt: skip
    _check(record, f'{path}:{number}')
    records.append(record)
  return records


def read_all(
    records_dir: str | os.PathLike[str], warnings: list[str] | None = None
) -> list[Record]:
  """All records below a folder, in the order of their file names."""
  paths = sorted(pathlib.Path(records_dir).glob('*/*.jsonl'))
  records = [r for p in paths for r in read_task(p, warnings)]
  if not records:
    raise errors.UserError(
        'no evaluation records', where=str(records_dir), got=f'{len(paths)} record files',
        expected='<model>/<task>.jsonl', hint='run the evaluation first',
    )  # fmt: skip
  return records


def mixed_models(records_dir: str | os.PathLike[str]) -> list[str]:
  """Models whose records come from more than one set of parameters: an evaluation left half way."""
  stamps: dict[str, set[str]] = {}
  for path in pathlib.Path(records_dir).glob('*/*.done.json'):
    stamp = read_json(path).get('stamp')
    if isinstance(stamp, dict) and 'model' in stamp:
      stamps.setdefault(path.parent.name, set()).add(str(stamp['model']))
  return sorted(model for model, found in stamps.items() if len(found) > 1)


def _check(record: Any, where: str) -> None:
  """Raises UserError unless `record` is one."""
  if not isinstance(record, dict):
    raise errors.UserError('not a record', where=where, got=type(record).__name__)
  missing = [f for f in FIELDS if f not in record]
  if missing:
    raise errors.UserError(
        'a record lacks fields', where=where, got=f'no {", ".join(missing)}',
        expected=', '.join(FIELDS),
    )  # fmt: skip
  if record['mode'] not in MODES:
    raise errors.UserError(
        'unknown mode of a record', where=where, got=record['mode'], expected=' or '.join(MODES)
    )


def _done_path(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(f'{path.stem}.done.json')


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()
