"""One prepared task: a folder that is whole or not there at all."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import preprocessors, specs
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib
from flanjax.input.manifest import SIDES
from flanjax.input.records import Example
from flanjax.input.writer import TaskWriter

MANIFEST = 'manifest.json'
_REPORT_EVERY = 500
# TensorFlow hands over a batch about as quickly as one example.
_READ_TOGETHER = 128
_STALE_AFTER_S = 24 * 3600
_PACKAGES = ('flanjax', 'seqio', 'tensorflow', 'tensorflow-datasets', 'array_record')
# What TensorFlow puts before the message of an error in a data pipeline.
_PREAMBLE = re.compile(
    r'^\{\{.*?\}\} '
    r'|Error in user-defined function passed to \S+ transformation with iterator: \S+: '
)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """One task to prepare, as it is sent to a worker process.

  Attributes:
    name: the SeqIO task.
    split: which split.
    sequence_length: longest inputs and targets.
    folder: where the result goes.
    entry: what its manifest says besides what is counted.
  """

  name: str
  split: str
  sequence_length: Mapping[str, int]
  folder: pathlib.Path
  entry: Mapping[str, Any]


def finished(job: Job) -> dict[str, Any] | None:
  """The manifest entry of a task that is there and whole, else None."""
  try:
    content = manifest_lib.read(job.folder / MANIFEST)
    entry = {**content['entry'], 'rate': 1.0, 'share': 1.0, 'path': '.'}
    task = manifest_lib.task_from(entry, job.folder)
    manifest_lib.check_files([task], verify=True)
  except (UserError, KeyError, TypeError):
    return None
  return content['entry'] if task.fingerprint == job.entry['fingerprint'] else None


def write(job: Job, report: Callable[[str, int], None]) -> dict[str, Any]:
  """Prepares one task in its folder; returns its manifest entry."""
  try:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(job.folder)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=f'.{job.folder.name}-', dir=job.folder.parent)
    )
    try:
      entry = _write_task(job, temporary, report)
      _move_into_place(temporary, job)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)
  except OSError as e:
    raise unwritable(job.folder, e) from e
  return entry


def remove_leftovers(folder: pathlib.Path) -> None:
  """Removes what killed runs left beside `folder`; a running one touches its own."""
  for path in folder.parent.glob(f'.{folder.name}-*'):
    with contextlib.suppress(OSError):
      newest = max(p.stat().st_mtime for p in [path, *path.iterdir()])
      if time.time() - newest > _STALE_AFTER_S:
        shutil.rmtree(path, ignore_errors=True)


def _move_into_place(temporary: pathlib.Path, job: Job) -> None:
  temporary.chmod(0o755)
  while True:
    try:
      os.rename(temporary, job.folder)
      return
    except OSError:
      if finished(job):  # Another run was quicker, with the same content.
        return
      if not job.folder.exists():
        raise
      damaged = tempfile.mkdtemp(prefix=f'.{job.folder.name}-', dir=job.folder.parent)
      os.rename(job.folder, damaged)
      shutil.rmtree(damaged, ignore_errors=True)


def _write_task(
    job: Job, folder: pathlib.Path, report: Callable[[str, int], None]
) -> dict[str, Any]:
  writer = TaskWriter(folder, job.split)
  for example, cut in _examples(job):
    writer.add(example, cut)
    if len(writer) % _REPORT_EVERY == 0:
      report(job.name, len(writer))
  if not len(writer):
    raise UserError(
        f'No example is left in split {job.split}.', where=f'task {job.name}',
        expected='at least one example that the filter keeps',
    )
  entry = {**job.entry, **writer.close()}
  content = {
      'split': job.split, 'sequence_length': dict(job.sequence_length),
      'versions': versions(), 'entry': entry,
  }
  (folder / MANIFEST).write_text(manifest_lib.dumps(content))
  return entry


def versions() -> dict[str, str]:
  """Versions of what the content of prepared data comes from."""
  found = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def _examples(job: Job) -> Iterator[tuple[Example, list[str]]]:
  """The examples of a task, and which of their sides were cut."""
  task = seqio.TaskRegistry.get(job.name)
  where = f'task {job.name}, split {job.split}'
  with named(f'{where}, building the dataset'):
    dataset = task.get_dataset(
        job.sequence_length, job.split, shuffle=False, seed=0, try_in_mem_cache=False
    )
    dataset = _needed(dataset, indexed=specs.is_task_name(job.name))
  for element in read(dataset, where):
    number = int(element['example_id'])
    sides = {side: np.asarray(element[side], np.int32) for side in SIDES}
    empty = [side for side, ids in sides.items() if not ids.size]
    if empty:
      raise UserError(
          f'An example has empty {empty[0]}.',
          where=f'{where}, example {number}',
          expected='at least one token',
      )
    cut = [side for side in SIDES if _was_cut(task, element, side, job.sequence_length[side])]
    yield Example(**sides, example_id=number, template_id=int(element['template_id'])), cut


def read(dataset: tf.data.Dataset, where: str) -> Iterator[dict[str, Any]]:
  """The elements of a dataset of numbers, texts and lists of them, as numpy.

  Args:
    dataset: its elements have an `example_id`.
    where: the task and split, for errors.

  Raises:
    UserError: the dataset fails; the example that did it is named.
  """
  with named(where):
    batches = dataset.ragged_batch(_READ_TOGETHER).as_numpy_iterator()
  for batch in _located(batches, dataset, where):
    yield from _elements(batch)


def _needed(dataset: tf.data.Dataset, indexed: bool) -> tf.data.Dataset:
  """Only the features that are kept or looked at; numbered, where the task does not do it."""
  texts = [f'{side}_pretokenized' for side in SIDES]
  texts = [k for k in texts if k in dataset.element_spec and dataset.element_spec[k].shape == ()]
  ids = ['example_id', 'template_id'] if indexed else []

  @tf.autograph.experimental.do_not_convert
  def pick(i, x):
    numbers = {'example_id': i, 'template_id': tf.constant(0, tf.int32)}
    return numbers | {k: x[k] for k in [*SIDES, *texts, *ids]}

  return dataset.enumerate().map(pick)


def _elements(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
  """The elements of a batch of numbers, texts, and ragged or even rows."""
  columns = {}
  for key, values in batch.items():
    splits = getattr(values, 'row_splits', None)
    columns[key] = values if splits is None else np.split(values.values, splits[1:-1])
  for row in zip(*columns.values()):
    yield dict(zip(columns, row))


def _located(
    batches: Iterator[Any], dataset: tf.data.Dataset, where: str
) -> Iterator[Mapping[str, Any]]:
  """The batches; if one fails, the example that did it is looked for and named."""
  try:
    yield from batches
  except tf.errors.OpError as e:
    number = -1
    elements = dataset.as_numpy_iterator()
    while True:
      with named(f'{where}, example {number + 1}'):
        element = next(elements, None)
      if element is None:
        break
      number = int(element['example_id'])
    with named(where):
      raise e


def _was_cut(task: seqio.Task, element: Mapping[str, Any], side: str, limit: int) -> bool:
  """Whether text was longer than it may be. Only ids that fill their room leave it open."""
  if len(element[side]) < limit:
    return False
  text = element.get(f'{side}_pretokenized')
  feature = task.output_features[side]
  if not isinstance(text, bytes):
    return True
  tokens = feature.vocabulary.encode(text.decode())
  return len(tokens) + int(feature.add_eos) > limit


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
  """Errors of a task's own code come as UserErrors that say where it failed."""
  try:
    yield
  except UserError:
    raise
  except Exception as e:
    explained = preprocessors.explain(e)
    if explained:
      raise explained from e
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    message = _PREAMBLE.sub('', lines[0])[:300] if lines else ''
    raise UserError(
        'Preparing a task failed.', where=where, got=f'{type(e).__name__}: {message}'
    ) from e


def unwritable(path: pathlib.Path, error: OSError) -> UserError:
  """The error for a folder that cannot be written."""
  return UserError(
      'Prepared data cannot be written.', where=os.fspath(path), got=error.strerror or str(error),
      hint='choose another folder: --output_dir, or the environment variable FLANJAX_CACHE',
  )
