"""One prepared task: a folder that is whole or not there at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from flanjax import terminal
from flanjax.data import bad_examples, task_reading
from flanjax.errors import UserError
from flanjax.input import files, remote, staging
from flanjax.input import manifest as manifest_lib
from flanjax.input.manifest import SIDES
from flanjax.input.writer import TaskWriter

MANIFEST = manifest_lib.OF_TASK
TRUNCATE, DROP = TOO_LONG = ('truncate', 'drop')
_REPORT_EVERY = 500
_PACKAGES = ('flanjax', 'seqio', 'tensorflow', 'tensorflow-datasets', 'array_record')


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """One task to prepare, as it is sent to a worker process.

  Attributes:
    name: the SeqIO task.
    split: which split.
    sequence_length: longest inputs and targets.
    folder: where the result goes, on this machine.
    entry: what its manifest says besides what is counted.
    too_long: 'truncate' or 'drop', what becomes of longer examples.
    max_bad_examples: how many examples may be left out because the task fails on them.
    store: the folder of an object store in which the result shall be, or ''.
  """

  name: str
  split: str
  sequence_length: Mapping[str, int]
  folder: pathlib.Path
  entry: Mapping[str, Any]
  too_long: str = TRUNCATE
  max_bad_examples: int = 0
  store: str = ''


def finished(job: Job) -> dict[str, Any] | None:
  """The manifest entry of a task that is where it shall be, and whole; else None.

  Raises:
    UserError: it was prepared without examples that fail, of which there are more than may be now;
      or a store cannot be reached.
  """
  entry = _finished_in_store(job) if job.store else _finished_here(job)
  if entry:
    bad_examples.refuse(job.name, job.split, entry['bad_examples'], job.max_bad_examples)
  return entry


def _finished_here(job: Job) -> dict[str, Any] | None:
  try:
    entry, task = _read(job, job.folder)
    files.check_files([task], verify=True)
  except (UserError, KeyError, TypeError):
    return None
  return entry


def _finished_in_store(job: Job) -> dict[str, Any] | None:
  """By the sizes of the files: to read them all would take as long as to copy them."""
  try:
    if remote.size(f'{job.store}/{MANIFEST}') is None:
      return None
    entry, task = _read(job, remote.resolved(job.store))
  except (UserError, KeyError, TypeError):
    return None
  whole = all(remote.size(f'{job.store}/{f.file}') == f.bytes for f in task.files)
  return entry if whole else None


def _read(job: Job, folder: remote.AnyPath) -> tuple[dict[str, Any], manifest_lib.PreparedTask]:
  """What the manifest of a task says, if it is of this job."""
  content = manifest_lib.read(folder / MANIFEST)
  entry = {**content['entry'], 'rate': 1.0, 'share': 1.0, 'path': '.'}
  task = manifest_lib.task_from(entry, folder)
  if task.fingerprint != job.entry['fingerprint']:
    raise KeyError(task.fingerprint)
  found = {'dropped': task.dropped, 'bad_examples': dict(task.bad_examples)}
  return content['entry'] | found, task


def write(job: Job, report: Callable[[str, int], None]) -> dict[str, Any]:
  """Prepares one task, where it shall be; returns its manifest entry."""
  if not job.store:
    return _write_here(job, report)
  entry = _finished_here(job) or _write_here(job, report)
  remote.upload(job.folder, job.store, last=MANIFEST)
  return entry


def _write_here(job: Job, report: Callable[[str, int], None]) -> dict[str, Any]:
  try:
    with staging.beside(job.folder) as temporary:
      entry = _write_task(job, temporary, report)
      staging.put(temporary, job.folder, lambda: _finished_here(job) is not None)
  except OSError as e:
    raise unwritable(job.folder, e) from e
  return entry


def _write_task(
    job: Job, folder: pathlib.Path, report: Callable[[str, int], None]
) -> dict[str, Any]:
  task = seqio.TaskRegistry.get(job.name)
  search = bad_examples.Search(task, job.split, job.sequence_length, job.max_bad_examples)
  while True:
    try:
      counted = _write_examples(job, task, folder, search.found, report)
      break
    except _Failed as e:
      search(e.__cause__)
  entry = {**job.entry, **counted, 'bad_examples': bad_examples.entry(search.found)}
  content = {
      'split': job.split, 'sequence_length': dict(job.sequence_length),
      'versions': versions(), 'entry': entry,
  }
  (folder / MANIFEST).write_text(manifest_lib.dumps(content))
  return entry


class _Failed(Exception):
  """The task fails on an example that is still to be found."""


def _write_examples(
    job: Job, task: seqio.Task, folder: pathlib.Path, bad: Mapping[int, Any],
    report: Callable[[str, int], None],
) -> dict[str, Any]:
  """Writes the examples but the bad ones; returns what the manifest says of them."""
  where = f'task {job.name}, split {job.split}'
  writer, dropped = TaskWriter(folder, job.split), 0
  part = task.replace(source=task_reading.PartOfSource(task.source, bad)) if bad else task
  dataset = task_reading.dataset_of(part, job.split, job.sequence_length, where)
  try:
    for element in task_reading.batched(dataset):
      if task_reading.problem_of(element):
        raise _Failed
      cut = task_reading.cut_sides(task, element, job.sequence_length)
      if cut and job.too_long == DROP:
        dropped += 1
        continue
      writer.add(task_reading.as_example(element), cut)
      if len(writer) % _REPORT_EVERY == 0:
        report(job.name, len(writer) + dropped)
    _check_something_is_left(job, where, len(writer), dropped, len(bad))
    counted = writer.close()
  except tf.errors.OpError as e:
    writer.discard()
    raise _Failed from e
  except BaseException as e:
    writer.discard()
    if isinstance(e, OSError):
      e.needed = writer.bytes_for(max(job.entry['num_input_examples'], len(writer)))
    raise
  _check_ids(task, counted, where)
  return counted | {'dropped': dropped}


def _check_something_is_left(job: Job, where: str, kept: int, dropped: int, bad: int) -> None:
  if kept:
    return
  causes = [f'{dropped} are longer than a row'] if dropped else []
  causes += [f'{bad} fail'] if bad else []
  raise UserError(
      f'No example is left in split {job.split}.', where=where, got=', '.join(causes) or None,
      expected='at least one example that the filter keeps',
  )


def _check_ids(task: seqio.Task, counted: Mapping[str, Any], where: str) -> None:
  for side in SIDES:
    size = task.output_features[side].vocabulary.vocab_size
    highest = counted['tokens'][side]['max_id']
    if highest >= size:
      raise UserError(
          f'A token id of the {side} is not in the vocabulary.', where=where, got=highest,
          expected=f'ids below {size}',
          hint='the task names another vocabulary than it tokenises with',
      )


def versions() -> dict[str, str]:
  """Versions of what the content of prepared data comes from."""
  found = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def unwritable(path: pathlib.Path, error: OSError) -> UserError:
  """The error for a folder that cannot be written."""
  elsewhere = 'choose another folder: --output_dir, or the environment variable FLANJAX_CACHE'
  if error.errno not in (errno.ENOSPC, errno.EDQUOT):
    return UserError(
        'Prepared data cannot be written.', where=os.fspath(path),
        got=error.strerror or str(error), hint=elsewhere)
  needed, there = getattr(error, 'needed', 0), next(p for p in path.parents if p.exists())
  return UserError(
      'There is no room for prepared data.', where=os.fspath(path),
      got=f'{error.strerror}, {terminal.size(shutil.disk_usage(there).free)} are free',
      expected=f'about {terminal.size(needed)} for this task' if needed else None,
      hint=f'make room and start again, what is finished is kept; or {elsewhere}',
  )
