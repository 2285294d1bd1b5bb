"""The files of prepared tasks: whether they are there, and are what the manifest says."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from flanjax import terminal
from flanjax.errors import UserError
from flanjax.input import remote
from flanjax.input.manifest import COLUMNS, File, PreparedTask

# Hashing half a gigabyte on every start would be felt; this much is hashed in a blink.
HASH_UP_TO_BYTES = 64 << 20


def sha256_of(path: str | os.PathLike) -> str:
  with open(path, 'rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def check_file(task: PreparedTask, file: File, hashed: bool) -> None:
  """Raises UserError unless a prepared file is there and is what the manifest says."""
  path = task.path / file.file
  where = f'task {task.name}, {path}'
  try:
    size = path.stat().st_size
  except OSError as e:
    raise UserError(
        'A file of prepared data is missing.', where=where, got=e.strerror or str(e),
        expected=f'{file.bytes} bytes', hint=task.remedy,
    ) from e
  if size != file.bytes:
    raise UserError(
        'A file of prepared data is truncated or was changed.', where=where,
        got=f'{size} bytes', expected=f'{file.bytes} bytes', hint=task.remedy,
    )
  if hashed and sha256_of(path) != file.sha256:
    raise UserError(
        'A file of prepared data is corrupted.', where=where,
        got=f'sha256 {sha256_of(path)[:16]}', expected=f'sha256 {file.sha256[:16]}',
        hint=task.remedy,
    )


def check_files(tasks: Sequence[PreparedTask], verify: bool | None = None) -> None:
  """Checks presence and size of all files of tasks, and their hashes.

  What is not there of data in a store is copied first.

  Args:
    tasks: the tasks.
    verify: whether to read and hash the records too; None: if they are at most HASH_UP_TO_BYTES.

  Raises:
    UserError: naming the first file that is missing, truncated or corrupted.
  """
  _fetch([t for t in tasks if t.origin])
  for task in tasks:
    for file in task.files:
      check_file(task, file, hashed=False)
  if verify is None:
    verify = sum(f.bytes for t in tasks for f in t.shards) <= HASH_UP_TO_BYTES
  # Records carry checksums of their own, which are looked at when they are read.
  files = [(t, f) for t in tasks for f in (t.files if verify else [t.index])]
  with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
    list(pool.map(lambda f: check_file(*f, hashed=True), files))


def _fetch(tasks: Sequence[PreparedTask]) -> None:
  """Copies what is not here yet."""
  copies = [
      remote.Copy(t.origin, t.path, [(f.file, f.bytes, f.sha256) for f in t.files]) for t in tasks]
  copies = [copy for copy in copies if not copy.is_here()]
  if copies:
    with terminal.bar('copying prepared data (bytes)') as progress:
      remote.fetch(copies, progress)


def open_index(task: PreparedTask) -> np.ndarray:
  """What is known of a task's examples: int32 [examples, 4] by COLUMNS, memory-mapped.

  Raises:
    UserError: the file is no such array, or the shards hold another number of records.
  """
  path = task.path / task.index.file
  try:
    index = np.load(path, mmap_mode='r', allow_pickle=False)
  except (OSError, ValueError, EOFError) as e:
    raise UserError(
        'The index of a prepared task cannot be read.', where=f'task {task.name}, {path}',
        got=str(e), hint=task.remedy,
    ) from e
  records = sum(s.records for s in task.shards)
  if index.shape != (task.num_examples, len(COLUMNS)) or records != task.num_examples:
    raise UserError(
        'A prepared task does not hold as many examples as its manifest says.',
        where=f'task {task.name}, {path}', got=f'index {index.shape}, {records} records',
        expected=f'({task.num_examples}, {len(COLUMNS)}), {task.num_examples} records',
        hint=task.remedy,
    )
  return index
