"""The files that `export` writes: JSON lines and Parquet, whole under their name or not there."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import parquet

from flanjax.errors import UserError, nearest
from flanjax.input import staging

COLUMNS = {
    'inputs': pa.string(),
    'targets': pa.string(),
    'task': pa.string(),  # The SeqIO task.
    'dataset': pa.string(),  # The task's own name.
    'cluster': pa.string(),
    'template_id': pa.int32(),
    'example_id': pa.int64(),  # Its place in the split, before filters.
    'options': pa.list_(pa.string()),  # Empty without options.
    'answers': pa.list_(pa.string()),  # All references, where the data has several.
    'split': pa.string(),
}
_ROWS_TOGETHER = 2_000
# Line ends to some readers, and to JSON ordinary characters.
_LINE_ENDS = {ord(c): f'\\u{ord(c):04x}' for c in '\x85\u2028\u2029'}

Row = dict[str, Any]


class Writer(Protocol):
  """Takes rows with the columns of COLUMNS; a context manager that finishes the file."""

  def write(self, row: Row) -> None: ...


def encode(row: Row) -> bytes:
  """A row as one line of JSON in UTF-8."""
  return json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS).encode() + b'\n'


class JsonLines(contextlib.AbstractContextManager):
  """A JSON object on each line."""

  def __init__(self, path: pathlib.Path):
    self._file = path.open('wb')

  def write(self, row: Row) -> None:
    self._file.write(encode(row))

  def __exit__(self, *unused):
    self._file.close()


class Parquet(contextlib.AbstractContextManager):
  """Parquet, in row groups small enough to hold in memory."""

  def __init__(self, path: pathlib.Path):
    self._schema = pa.schema(list(COLUMNS.items()))
    self._writer = parquet.ParquetWriter(path, self._schema, compression='zstd')
    self._rows: list[Row] = []

  def write(self, row: Row) -> None:
    self._rows.append(row)
    if len(self._rows) == _ROWS_TOGETHER:
      self._flush()

  def _flush(self) -> None:
    if self._rows:
      self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
      self._rows = []

  def __exit__(self, kind, *unused):
    try:
      if kind is None:
        self._flush()
    finally:
      self._writer.close()


WRITERS: dict[str, Callable[[pathlib.Path], Writer]] = {'.jsonl': JsonLines, '.parquet': Parquet}


def writer_for(path: pathlib.Path) -> Callable[[pathlib.Path], Writer]:
  """What writes a file of that name.

  Raises:
    UserError: its ending is none of WRITERS, or there is a folder of that name.
  """
  if path.suffix not in WRITERS:
    raise UserError(
        'The ending of a file to export to must say its format.', where=str(path),
        got=repr(path.suffix), expected=' or '.join(WRITERS), hint=nearest(path.suffix, WRITERS))
  if path.is_dir():
    raise UserError('There is a folder where the file shall be.', where=str(path))
  return WRITERS[path.suffix]


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder beside `path`; its file 'rows' becomes `path` if all went well.

  Raises:
    UserError: something cannot be written, as when the disk is full.
  """
  try:
    with staging.beside(path) as folder:
      yield folder
      os.replace(folder / 'rows', path)
  except OSError as e:
    raise UserError('The file cannot be written.', where=str(path), got=e.strerror or str(e)) from e


class Spool(contextlib.AbstractContextManager):
  """Rows kept on disk, to be read in any order."""

  def __init__(self, path: pathlib.Path):
    self._file = path.open('w+b')
    self._end = 0

  def add(self, row: Row) -> int:
    """Keeps a row; returns its place."""
    place, line = self._end, encode(row)
    self._file.write(line)
    self._end += len(line)
    return place

  def read(self, place: int) -> Row:
    self._file.seek(place)
    return json.loads(self._file.readline())

  def __exit__(self, *unused):
    self._file.close()
