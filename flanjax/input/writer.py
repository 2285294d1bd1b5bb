"""Writes one prepared task: shards of records, their index, and what to tell about them."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from array_record.python import array_record_module

from flanjax.input.files import sha256_of
from flanjax.input.manifest import COLUMNS, SIDES
from flanjax.input.records import WRITER_OPTIONS, Example, encode

# Fixed, so that the files do not depend on how many processes there are.
RECORDS_PER_SHARD = 1 << 16


def shard_name(split: str, index: int, count: int) -> str:
  """'train-00000-of-00003.array_record'."""
  return f'{split}-{index:05d}-of-{count:05d}.array_record'


class TaskWriter:
  """Collects the examples of a task into the files of a folder.

    writer = TaskWriter(folder, 'train')
    for example in examples:
      writer.add(example)
    entry = writer.close()

  Args:
    folder: an existing, empty folder.
    split: the split that the files are named after.
    records_per_shard: when a new shard is begun.
  """

  def __init__(
      self, folder: pathlib.Path, split: str, records_per_shard: int = RECORDS_PER_SHARD
  ):
    self._folder, self._split = folder, split
    self._records_per_shard = records_per_shard
    self._writer = None
    self._index = array.array('i')  # Millions of tuples would take a gigabyte.
    self._max_id = dict.fromkeys(SIDES, 0)
    self._bytes = 0

  def __len__(self) -> int:
    return len(self._index) // len(COLUMNS)

  def _part(self, index: int) -> pathlib.Path:
    return self._folder / f'part-{index:05d}'

  def add(self, example: Example, cut: Collection[str] = ()) -> None:
    """Adds an example, of which the sides `cut` were cut.

    Raises:
      OSError: it cannot be written. Most of what is wrong with a disk shows when a shard is closed.
    """
    record = encode(example)
    with _as_os_error():
      if len(self) % self._records_per_shard == 0:
        self.close_shard()
        path = self._part(len(self) // self._records_per_shard)
        self._writer = array_record_module.ArrayRecordWriter(os.fspath(path), WRITER_OPTIONS)
      self._writer.write(record)
    self._bytes += len(record)
    for side in SIDES:
      self._max_id[side] = max(self._max_id[side], int(getattr(example, side).max(initial=0)))
    bits = ('inputs' in cut) + 2 * ('targets' in cut)
    row = (len(example.inputs), len(example.targets), example.template_id, bits)
    self._index.extend(row)

  def close_shard(self) -> None:
    writer, self._writer = self._writer, None
    if writer is not None:
      with _as_os_error():
        writer.close()

  def discard(self) -> None:
    """Removes what was written so far."""
    with contextlib.suppress(OSError):
      self.close_shard()
    for path in self._folder.glob('part-*'):
      path.unlink()

  def bytes_for(self, num_examples: int) -> int:
    """What so many examples take on a disk, at most, judged by those there are."""
    return self._bytes * num_examples // max(1, len(self))

  def close(self) -> dict[str, Any]:
    """Finishes the files.

    Returns:
      the manifest's entries about them: num_examples, shards, index, tokens, templates,
      truncated.
    """
    self.close_shard()
    counts = [
        min(self._records_per_shard, len(self) - begin)
        for begin in range(0, len(self), self._records_per_shard)
    ]
    shards = []
    for i, records in enumerate(counts):
      path = self._folder / shard_name(self._split, i, len(counts))
      os.replace(self._part(i), path)
      shards.append({**_file_entry(path), 'records': records})
    index = np.array(self._index, np.int32).reshape(-1, len(COLUMNS))
    path = self._folder / f'{self._split}.index.npy'
    np.save(path, index)
    numbers, counts = np.unique(index[:, 2], return_counts=True)
    cut = index[:, 3]
    return {
        'num_examples': len(self),
        'shards': shards,
        'index': _file_entry(path),
        'tokens': {
            side: _statistics(index[:, i], self._max_id[side])
            | {'truncated': int(np.count_nonzero(cut & (1 << i)))}
            for i, side in enumerate(SIDES)
        },
        'templates': dict(zip(map(str, numbers.tolist()), counts.tolist())),
        'truncated': int(np.count_nonzero(cut)),
    }


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
  """ArrayRecord tells what went wrong with a file in words alone."""
  try:
    yield
  except RuntimeError as e:
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    code = next((c for c in codes if os.strerror(c) in str(e)), errno.EIO)
    raise OSError(code, os.strerror(code)) from e


def _file_entry(path: pathlib.Path) -> dict[str, Any]:
  return {'file': path.name, 'sha256': sha256_of(path), 'bytes': path.stat().st_size}


def _statistics(lengths: np.ndarray, max_id: int) -> dict[str, float]:
  if not len(lengths):
    return {'total': 0, 'mean': 0.0, 'std': 0.0, 'min': 0, 'max': 0, 'max_id': 0}
  return {
      'total': int(lengths.sum()),
      'mean': float(lengths.mean()),
      'std': float(lengths.std()),
      'min': int(lengths.min()),
      'max': int(lengths.max()),
      'max_id': max_id,
  }


def write_examples(
    folder: pathlib.Path, split: str, examples: Iterable[Example], **options: Any
) -> Mapping[str, Any]:
  """Writes a task's examples at once; see `TaskWriter.close`."""
  writer = TaskWriter(folder, split, **options)
  for example in examples:
    writer.add(example)
  return writer.close()
