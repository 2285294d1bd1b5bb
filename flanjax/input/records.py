"""Records of prepared examples in ArrayRecord shards, read in any order."""

from __future__ import annotations

import dataclasses
import os
import resource
import threading
from collections.abc import Sequence

import msgpack
import numpy as np
from array_record.python import array_record_module

from flanjax.errors import UserError
from flanjax.input.manifest import PreparedTask

# One record per chunk: any record is then read without its neighbours.
WRITER_OPTIONS = 'group_size:1'
_SPARE_FILES = 128


@dataclasses.dataclass(frozen=True)
class Example:
  """One prepared example: token ids int32 [length], its number in the split, its template."""

  inputs: np.ndarray
  targets: np.ndarray
  example_id: int
  template_id: int


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Examples one after another.

  Attributes:
    inputs: int32, the inputs of all examples.
    targets: int32, the targets of all examples.
    lengths: int64 [examples, 2].
  """

  inputs: np.ndarray
  targets: np.ndarray
  lengths: np.ndarray


def encode(example: Example) -> bytes:
  """A msgpack map; ids as little-endian int32."""
  return msgpack.packb({
      'inputs': np.asarray(example.inputs, '<i4').tobytes(),
      'targets': np.asarray(example.targets, '<i4').tobytes(),
      'example_id': int(example.example_id),
      'template_id': int(example.template_id),
  })


def decode(record: bytes) -> Example:
  fields = msgpack.unpackb(record)
  return Example(
      inputs=np.frombuffer(fields['inputs'], '<i4'),
      targets=np.frombuffer(fields['targets'], '<i4'),
      example_id=fields['example_id'],
      template_id=fields['template_id'],
  )


def decode_tokens(records: Sequence[bytes]) -> Tokens:
  """The tokens of many records at once, without an array for each of them."""
  fields = [msgpack.unpackb(r) for r in records]
  inputs, targets = [f['inputs'] for f in fields], [f['targets'] for f in fields]
  lengths = np.array([[len(i), len(t)] for i, t in zip(inputs, targets)], np.int64)
  return Tokens(
      inputs=np.frombuffer(b''.join(inputs), '<i4'),
      targets=np.frombuffer(b''.join(targets), '<i4'),
      lengths=lengths.reshape(-1, 2) // 4,
  )


class RecordReader:
  """The records of several tasks.

  Files are opened when they are first read, and read in the calling thread: a batch takes a few
  records from each of many files, for which a thread each costs more than the reading. Safe to
  share between threads; a copy sent to another process opens the files for itself.
  """

  def __init__(self, tasks: Sequence[PreparedTask]):
    self._tasks = tuple(tasks)
    shards = [(t.path / s.file, s.records) for t in tasks for s in t.shards]
    _allow_open_files(2 * len(shards))
    self._paths = [os.fspath(path) for path, _ in shards]
    # Every record has a number: task 0's examples, then task 1's, ...
    self._shard_starts = np.cumsum([0] + [records for _, records in shards])
    self._task_starts = np.cumsum([0] + [t.num_examples for t in tasks])[:-1]
    self._readers: dict[int, array_record_module.ArrayRecordReader] = {}
    self._lock = threading.Lock()

  def __reduce__(self):
    return RecordReader, (self._tasks,)

  def _reader(self, shard: int) -> array_record_module.ArrayRecordReader:
    reader = self._readers.get(shard)
    if reader is None:
      with self._lock:
        reader = self._readers.get(shard)
        if reader is None:
          # One record is a chunk, so that there is nothing to read ahead.
          options = 'readahead_buffer_size:0'
          reader = array_record_module.ArrayRecordReader(self._paths[shard], options)
          self._readers[shard] = reader
    return reader

  def read(self, tasks: np.ndarray, examples: np.ndarray) -> list[bytes]:
    """Records of the given examples of the given tasks, in the order asked for.

    Raises:
      UserError: a shard is corrupted; it is named.
    """
    if not len(tasks):
      return []
    numbers = self._task_starts[tasks] + examples
    order = np.argsort(numbers, kind='stable')
    shards = np.searchsorted(self._shard_starts, numbers[order], side='right') - 1
    places = (numbers[order] - self._shard_starts[shards]).tolist()
    bounds = np.flatnonzero(np.diff(shards, prepend=-1, append=-1)).tolist()
    found = []
    try:
      for first, stop in zip(bounds, bounds[1:]):
        found += self._reader(int(shards[first])).read(places[first:stop])
    except (RuntimeError, ValueError, IndexError, OSError) as e:
      raise self._explain(e, sorted(set(tasks.tolist()))) from e
    records = [b''] * len(found)
    for place, record in zip(order.tolist(), found):
      records[place] = record
    return records

  def _explain(self, error: Exception, tasks: Sequence[int]) -> UserError:
    """Finds the shard that cannot be read."""
    for task in (self._tasks[k] for k in tasks):
      for shard in task.shards:
        problem = _problem(task.path / shard.file, shard.records)
        if problem:
          return UserError(
              'A shard of prepared data is corrupted.',
              where=f'task {task.name}, {task.path / shard.file}', got=problem,
              expected=f'{shard.records} records, sha256 {shard.sha256[:16]}',
              hint=task.remedy,
          )
    return UserError('Prepared data cannot be read.', got=_short(error))


def _problem(path: os.PathLike, records: int) -> str | None:
  try:
    reader = array_record_module.ArrayRecordReader(os.fspath(path))
    found = reader.num_records()
    reader.read_all()
    reader.close()
  except (RuntimeError, ValueError, IndexError, OSError) as e:
    return _short(e)
  return None if found == records else f'{found} records'


def _short(error: Exception) -> str:
  return str(error).split(';')[0][:200] or type(error).__name__


def _allow_open_files(number: int) -> None:
  """Raises this process's limit of open files as far as it may, if it is too low."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = number + _SPARE_FILES
  if soft != resource.RLIM_INFINITY and soft < wanted:
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
