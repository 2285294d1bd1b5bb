"""Writes prepared data as SeqIO's offline cache: TFRecords that stock SeqIO and T5X read alone.

    <folder>/prepared_<task>/train.tfrecord-00000-of-00016
                             info.train.json  stats.train.json  COMPLETED
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import seqio_source
from flanjax.data.seqio_source import IDS, PREFIX
from flanjax.errors import UserError
from flanjax.input import files, records, remote, staging
from flanjax.input import manifest as manifest_lib
from flanjax.input.manifest import SIDES, PreparedTask
from flanjax.input.records import Example

# SeqIO reads 16 files by turns, 16 examples of each at a time: written so, unshuffled reading gives
# them in their order.
_MOST_FILES = _TOGETHER = 16
_READ_TOGETHER = 256
_COMPLETED = 'COMPLETED'


def write(
    manifest_path: str | os.PathLike,
    folder: str | os.PathLike,
    prefix: str = PREFIX,
    vocabulary: seqio.Vocabulary | None = None,
    progress: Callable[[int, int, str], None] = lambda *unused: None,
) -> list[str]:
  """Writes the tasks of a prepared mixture; what is there already is kept.

  Args:
    manifest_path: what `prepare` returned.
    folder: what SeqIO calls a cache dir; it may be one of a store.
    prefix: what the names of the tasks begin with.
    vocabulary: the one they were prepared with; None: by the name that the manifest gives.
    progress: called with (examples done, examples in all, task).

  Returns:
    the names of the tasks.

  Raises:
    UserError: the manifest, its files or the vocabulary cannot be used; the folder cannot be
      written, or holds other data under such a name.
  """
  manifest = manifest_lib.load(manifest_path)
  vocabulary = vocabulary or seqio_source.vocabulary_of(manifest)
  files.check_files(manifest.tasks)
  total, done = sum(t.num_examples for t in manifest.tasks), 0
  for task in manifest.tasks:
    progress(done, total, task.name)
    target = remote.resolved(folder) / f'{prefix}{task.name}'
    try:
      _write_task(task, manifest.split, target, vocabulary)
    except OSError as e:
      raise UserError('A cache for SeqIO cannot be written.', where=os.fspath(target),
                      got=e.strerror or str(e)) from e
    done += task.num_examples
  progress(total, total, '')
  return [f'{prefix}{t.name}' for t in manifest.tasks]


def _write_task(
    task: PreparedTask, split: str, target: remote.AnyPath, vocabulary: seqio.Vocabulary
) -> None:
  completed = _completed(target)
  content = hashlib.sha256(''.join(s.sha256 for s in task.shards).encode()).hexdigest()
  if completed.get(split) == content:
    return
  if split in completed:
    raise UserError('A cache for SeqIO holds other data under this name.', where=os.fspath(target),
                    hint='remove it, or choose another folder or prefix')
  with _staged(target) as folder:
    _write_split(task, split, folder, vocabulary)
    marks = {**completed, split: content}
    (folder / _COMPLETED).write_text(''.join(f'{k} {v}\n' for k, v in sorted(marks.items())))


def _completed(target: remote.AnyPath) -> dict[str, str]:
  """Split -> what it was made of, of a task that is in the cache."""
  try:
    path = target / _COMPLETED
    text = remote.read_bytes(path) if remote.is_remote(path) else path.read_bytes()
  except FileNotFoundError:
    return {}
  return dict(line.split(' ', 1) for line in text.decode().splitlines() if ' ' in line)


@contextlib.contextmanager
def _staged(target: remote.AnyPath) -> Iterator[pathlib.Path]:
  """A folder whose files go to `target` when they are complete, the mark that says so last."""
  if remote.is_remote(target):
    with tempfile.TemporaryDirectory(prefix='flanjax-') as name:
      yield pathlib.Path(name)
      remote.upload(pathlib.Path(name), os.fspath(target), last=_COMPLETED)
    return
  with staging.beside(target) as folder:
    yield folder
    staging.sync(folder)
    target.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda p: p.name == _COMPLETED):
      os.replace(path, target / path.name)


def _write_split(
    task: PreparedTask, split: str, folder: pathlib.Path, vocabulary: seqio.Vocabulary
) -> None:
  count = max(1, min(_MOST_FILES, -(-task.num_examples // _TOGETHER)))
  prefix = seqio.get_cached_tfrecord_prefix(folder, split)
  special = [i for i in (vocabulary.eos_id, vocabulary.pad_id) if i is not None]
  lengths = []
  with _as_os_error(), contextlib.ExitStack() as stack:
    writers = [
        stack.enter_context(tf.io.TFRecordWriter(f'{prefix}-{i:05d}-of-{count:05d}'))
        for i in range(count)
    ]
    for number, example in enumerate(_examples(task)):
      writers[number // _TOGETHER % count].write(_serialised(example))
      lengths.append([np.isin(getattr(example, s), special, invert=True).sum() for s in SIDES])
  _write_json(seqio.get_cached_info_path(folder, split), _info(count))
  _write_json(seqio.get_cached_stats_path(folder, split), _statistics(np.array(lengths)))


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
  """Much of what is wrong with a disk shows when a file is closed."""
  try:
    yield
  except tf.errors.OpError as e:
    raise OSError(None, e.message) from e


def _examples(task: PreparedTask) -> Iterator[Example]:
  reader = records.RecordReader([task])
  for start in range(0, task.num_examples, _READ_TOGETHER):
    numbers = np.arange(start, min(start + _READ_TOGETHER, task.num_examples))
    yield from map(records.decode, reader.read(np.zeros_like(numbers), numbers))


def _serialised(example: Example) -> bytes:
  values = {
      **{side: getattr(example, side).tolist() for side in SIDES},
      'example_id': [example.example_id], 'template_id': [example.template_id],
  }
  lists = {name: tf.train.Int64List(value=ids) for name, ids in values.items()}
  features = {name: tf.train.Feature(int64_list=found) for name, found in lists.items()}
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)


def _info(num_files: int) -> dict[str, Any]:
  features = {side: {'shape': [None], 'dtype': 'int32'} for side in SIDES}
  features |= {name: {'shape': [], 'dtype': kind.name} for name, kind in IDS.items()}
  return {'num_shards': num_files, 'features': features, 'seqio_version': seqio.__version__}


def _statistics(lengths: np.ndarray) -> dict[str, int]:
  """As SeqIO counts: without EOS and padding."""
  totals, most = lengths.sum(axis=0), lengths.max(axis=0)
  found = {'examples': len(lengths)}
  for side, total, longest in zip(SIDES, totals, most):
    found |= {f'{side}_tokens': int(total), f'{side}_max_tokens': int(longest)}
  return found


def _write_json(path: str, content: Mapping[str, Any]) -> None:
  pathlib.Path(path).write_text(json.dumps(content, indent=2, sort_keys=True) + '\n')
