"""What stands in files of prompts: lines of text or JSON, rows of CSV or Parquet, and their places."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from flanjax.errors import UserError
from flanjax.input import remote

FORMATS = ('txt', 'jsonl', 'csv', 'parquet')
INPUTS, OPTIONS = 'inputs', 'options'
MAX_LINE_BYTES = 16 << 20
SHOWN = 80
_ROWS_TOGETHER = 256


@dataclasses.dataclass(frozen=True)
class Bad:
  """A line that holds no object, and why."""

  reason: str


# The number of a line, and its object.
Row = tuple[int, Mapping[str, Any] | Bad]


def kind_of(value: Any) -> str:
  """What JSON calls a value, for errors."""
  names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'true or false',
           type(None): 'null'}
  return names.get(type(value), 'a number')


def read_lines(file: BinaryIO, kind: str | None, where: str) -> Iterator[Row]:
  """The rows of a file of lines.

  Args:
    file: what is read.
    kind: 'txt', 'jsonl' or 'csv'; None: JSON if the first line begins like an object, else text.
    where: the file's name, for errors.
  """
  lines = _lines(file)
  if kind is None:
    first = next(lines, None)
    if first is None:
      return
    kind = 'jsonl' if (first[1] or b'').lstrip(b'\xef\xbb\xbf \t').startswith(b'{') else 'txt'
    lines = _chain(first, lines)
  if kind == 'csv':
    yield from _csv(lines, where)
  else:
    yield from _each(lines, _json_row if kind == 'jsonl' else _text_row)


def _chain(first: Any, rest: Iterable[Any]) -> Iterator[Any]:
  yield first
  yield from rest


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
  """Lines with their numbers, without their ends; None for one that is too long."""
  number = 0
  while line := file.readline(MAX_LINE_BYTES + 1):
    number += 1
    if len(line) > MAX_LINE_BYTES:
      while line and not line.endswith(b'\n'):
        line = file.readline(MAX_LINE_BYTES)
      yield number, None
      continue
    if number == 1:
      line = line.removeprefix(b'\xef\xbb\xbf')
    yield number, line.removesuffix(b'\n').removesuffix(b'\r')


def _each(
    lines: Iterable[tuple[int, bytes | None]], parse: Callable[[str], Mapping[str, Any] | Bad]
) -> Iterator[Row]:
  """A row for each line; empty ones at the end are none."""
  empty: list[int] = []
  for number, line in lines:
    if line is not None and not line.strip():
      empty.append(number)
      continue
    yield from ((n, Bad('The line is empty.')) for n in empty)
    empty.clear()
    yield number, _decoded(line, parse)


def _decoded(
    line: bytes | None, parse: Callable[[str], Mapping[str, Any] | Bad]
) -> Mapping[str, Any] | Bad:
  if line is None:
    return Bad(f'The line is longer than {MAX_LINE_BYTES >> 20} MB.')
  try:
    return parse(line.decode())
  except UnicodeDecodeError as e:
    return Bad(f'The line is no valid UTF-8: byte {e.start + 1} is 0x{line[e.start]:02x}.')


def _text_row(line: str) -> Mapping[str, Any]:
  return {INPUTS: line}


def _json_row(line: str) -> Mapping[str, Any] | Bad:
  try:
    value = json.loads(line, parse_constant=_no_constant)
  except (ValueError, RecursionError) as e:
    return Bad(f'The line is no JSON: {str(e)[:SHOWN] or "nested too deeply"}.')
  if not isinstance(value, dict):
    return Bad(f'The line must be an object, not {kind_of(value)}.')
  return value


def _no_constant(name: str) -> Any:
  raise ValueError(f'{name} is none')


def _csv(lines: Iterable[tuple[int, bytes | None]], where: str) -> Iterator[Row]:
  """Rows under the names of the first; `options` stand between bars, as 'yes | no'."""
  csv.field_size_limit(MAX_LINE_BYTES)
  # Bytes that are no UTF-8 become surrogates, which are found where records are checked.
  reader = csv.reader(map(_csv_line, lines), strict=True)
  try:
    header = next(reader, [])
    if INPUTS not in header or len(set(header)) < len(header):
      raise UserError('The first line must name the columns, each once.', where=f'{where}:1',
                      got=', '.join(header)[:SHOWN], expected=f"one of them '{INPUTS}'")
    begin = reader.line_num + 1
    for row in reader:
      if row:
        yield begin, _csv_row(header, row)
      begin = reader.line_num + 1
  except csv.Error as e:
    yield reader.line_num, Bad(f'From here on this is no CSV: {e}.')


def _csv_line(numbered: tuple[int, bytes | None]) -> str:
  line = numbered[1]
  if line is None:
    raise csv.Error(f'a line is longer than {MAX_LINE_BYTES >> 20} MB')
  return line.decode(errors='surrogateescape') + '\n'


def _csv_row(header: Sequence[str], row: Sequence[str]) -> Mapping[str, Any] | Bad:
  if len(row) != len(header):
    return Bad(f'The row has {len(row)} columns, and the first line {len(header)}.')
  value: dict[str, Any] = dict(zip(header, row))
  if OPTIONS in value:
    value[OPTIONS] = split_options(value[OPTIONS])
  return value


def split_options(text: str) -> list[str]:
  """'yes | no' -> ['yes', 'no']."""
  return [part.strip() for part in text.split('|')] if text.strip() else []


def read_parquet(path: remote.AnyPath, where: str) -> Iterator[Row]:
  """The rows of a Parquet file, by their numbers."""
  import pyarrow as pa
  from pyarrow import parquet

  try:
    with path.open('rb') as stream:
      file = parquet.ParquetFile(stream)
      names = file.schema_arrow.names
      if INPUTS not in names:
        raise UserError(f"There is no column '{INPUTS}'.", where=where,
                        got=', '.join(names)[:SHOWN])
      line = 0
      for batch in file.iter_batches(batch_size=_ROWS_TOGETHER):
        for row in batch.to_pylist():
          line += 1
          yield line, _plain_row(row)
  except (pa.ArrowException, UnicodeDecodeError) as e:
    raise UserError('The file is no Parquet that can be read.', where=where,
                    got=str(e).splitlines()[0][:200]) from e


def _plain_row(row: Mapping[str, Any]) -> Mapping[str, Any] | Bad:
  try:
    return {str(name): _plain(value) for name, value in row.items()}
  except UnicodeDecodeError:
    return Bad('A column of bytes is no valid UTF-8.')


def _plain(value: Any) -> Any:
  """What JSON has for a value of Parquet; dates and decimals become text."""
  if isinstance(value, dict):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  if isinstance(value, bytes):
    return value.decode()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value if isinstance(value, (str, int, float, type(None))) else str(value)


