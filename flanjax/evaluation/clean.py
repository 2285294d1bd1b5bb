"""Lists of the evaluation examples that an audit found nothing about; no TensorFlow.

  {"format": "flanjax-clean", "version": 1, "split": "test", "mixture": ..., "settings": {...},
   "tasks": {"rte": {"examples": 277, "clean": [0, 2, 3, ...]}}}

An id is the `example_id` of evaluation records: the place of the example in its split.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.errors import UserError
from flanjax.evaluation import records

FORMAT, VERSION = 'flanjax-clean', 1


def write_clean(
    path: str | os.PathLike[str], ids: Mapping[str, Sequence[int]], examples: Mapping[str, int],
    **about: Any,
) -> None:
  """Writes a list.

  Args:
    path: the file.
    ids: task -> ids of clean examples.
    examples: task -> examples in all.
    **about: what it comes from; `split` is asked for by `load_clean`.
  """
  tasks = {task: {'examples': examples[task], 'clean': list(found)} for task, found in ids.items()}
  content = {'format': FORMAT, 'version': VERSION, **about, 'tasks': tasks}
  records.write_atomically(path, json.dumps(content) + '\n')


def load_clean(
    path: str | os.PathLike[str], split: str | None = None
) -> dict[str, frozenset[int]]:
  """Task -> ids of its clean examples.

  Args:
    path: a file that `flanjax audit leakage` wrote as clean.json.
    split: the split that is evaluated; None: any.

  Raises:
    UserError: there is no such file, it is no such list, or it is about another split.
  """
  path = pathlib.Path(path)
  try:
    content = json.loads(path.read_bytes())
  except OSError as e:
    raise UserError('A list of clean examples cannot be read.', where=str(path), got=e.strerror,
                    hint='`flanjax audit leakage` writes one, clean.json') from e
  except ValueError as e:
    raise _wrong(path, f'no JSON: {e}') from e
  if not isinstance(content, dict) or content.get('format') != FORMAT:
    raise _wrong(path, f'format {content.get("format")!r}' if isinstance(content, dict) else
                 type(content).__name__)
  if content.get('version') != VERSION:
    raise UserError('A list of clean examples is of another version.', where=str(path),
                    got=f"version {content.get('version')!r}", expected=f'version {VERSION}')
  if split is not None and content.get('split') != split:
    raise UserError('A list of clean examples is about another split.', where=str(path),
                    got=content.get('split'), expected=split)
  tasks = content.get('tasks')
  if not isinstance(tasks, dict):
    raise _wrong(path, 'no tasks')
  return {task: _ids(path, task, entry) for task, entry in tasks.items()}


def _ids(path: pathlib.Path, task: str, entry: Any) -> frozenset[int]:
  ids = entry.get('clean') if isinstance(entry, dict) else None
  if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
    raise _wrong(path, f"task '{task}' without a list of ids")
  return frozenset(ids)


def _wrong(path: pathlib.Path, got: str) -> UserError:
  return UserError('This is no list of clean examples.', where=str(path), got=got,
                   expected='the file clean.json that `flanjax audit leakage` writes')
