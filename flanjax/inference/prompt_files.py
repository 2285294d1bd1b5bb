"""Prompts from files: a line of text, an object of JSON, a row of CSV or Parquet each.

A record is `{"inputs": "...", ...}`; `options`, a list of texts, are ranked instead of generated, and
every other field is kept. Files are read as they are needed, and hold what anybody wrote.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from flanjax.errors import UserError, nearest
from flanjax.inference.prompt_formats import (
    FORMATS, INPUTS, OPTIONS, SHOWN, Bad, Row, kind_of, read_lines, read_parquet)
from flanjax.input import remote

MODE = 'mode'


@dataclasses.dataclass(frozen=True)
class Record:
  """A prompt of a file, or what is wrong with its line.

  Attributes:
    line: where it stands; of Parquet, its row.
    fields: what an answer begins with.
    inputs: the prompt.
    options: texts to rank; empty: an answer is generated.
    error: why the line cannot be used; None: it can.
  """

  line: int
  fields: Mapping[str, Any]
  inputs: str = ''
  options: tuple[str, ...] = ()
  error: str | None = None


@dataclasses.dataclass(frozen=True)
class PromptFile:
  """A file of prompts, which may be read again unless it is standard input.

  Args:
    path: the file, which may be in a store; '-' is standard input.
    format: one of FORMATS; None: what its ending says, or on standard input its first line.
    stdin: in place of the process's.
    name: what errors call it.
  """

  path: str
  format: str | None = None
  stdin: BinaryIO | None = None
  name: str | None = None

  def __post_init__(self):
    if self.format is not None and self.format not in FORMATS:
      raise UserError(f"There is no format '{self.format}'.", where=self.shown,
                      hint=nearest(self.format, FORMATS))
    if self.path == '-':
      if self.format == 'parquet':
        raise UserError('Parquet cannot be read from standard input.', hint='name the file')
      return
    path = remote.resolved(self.path)
    if not path.exists() or path.is_dir():
      raise UserError('There is no such file.', where=str(path),
                      got='a folder' if path.is_dir() else None)
    if self.format is None and self.can_be_read_again and path.suffix.lower().lstrip('.') not in FORMATS:
      raise UserError('The ending of the file says no format.', where=str(path),
                      got=repr(path.suffix), expected=', '.join(f'.{f}' for f in FORMATS),
                      hint='--input_format says it otherwise')

  @property
  def can_be_read_again(self) -> bool:
    return self.path != '-' and remote.resolved(self.path).is_file()

  @property
  def shown(self) -> str:
    return self.name or ('standard input' if self.path == '-' else self.path)

  def records(self, options: Sequence[str] = ()) -> Iterator[Record]:
    """The records in order; those that cannot be used say why.

    Args:
      options: of the prompts that have none of their own.

    Raises:
      UserError: the file as a whole cannot be used.
    """
    for line, value in self._rows():
      yield _record(line, value, options)

  def _rows(self) -> Iterator[Row]:
    if self.path == '-':
      yield from read_lines(self.stdin or sys.stdin.buffer, self.format, self.shown)
      return
    path = remote.resolved(self.path)
    kind = self.format or path.suffix.lower().lstrip('.')
    kind = kind if kind in FORMATS else None
    try:
      if kind == 'parquet':
        yield from read_parquet(path, self.shown)
        return
      with path.open('rb') as file:
        yield from read_lines(file, kind, self.shown)
    except OSError as e:
      raise UserError('The file cannot be read.', where=self.shown, got=e.strerror or str(e)) from e


def error_of(where: str, record: Record) -> UserError:
  """What is wrong with a line, to be told."""
  return UserError(record.error, where=f'{where}:{record.line}',
                   hint='--on_bad_line=skip writes an error in its place and goes on')


def _record(line: int, value: Mapping[str, Any] | Bad, options: Sequence[str]) -> Record:
  if isinstance(value, Bad):
    return Record(line, {}, error=value.reason)
  reason = _unwritable(value)
  if reason:
    return Record(line, {}, error=reason)
  try:
    own = _options(value.get(OPTIONS))
    return Record(line, value, _inputs(value), _ranked(value, own or tuple(options)))
  except UserError as e:
    return Record(line, value, error=e.what)


def _inputs(value: Mapping[str, Any]) -> str:
  if INPUTS not in value:
    known = ', '.join(map(str, value))[:SHOWN] or 'nothing'
    raise UserError(f'The record has no "{INPUTS}", but {known}.')
  inputs = value[INPUTS]
  if not isinstance(inputs, str):
    raise UserError(f'"{INPUTS}" must be a text, not {kind_of(inputs)}.')
  if not inputs.strip():
    raise UserError('The prompt is empty.')
  return inputs


def _options(value: Any) -> tuple[str, ...]:
  if value is None:
    return ()
  if isinstance(value, list) and all(isinstance(o, str) and o for o in value):
    return tuple(value)
  raise UserError(f'"{OPTIONS}" must be a list of texts, none of them empty.')


def _ranked(value: Mapping[str, Any], options: tuple[str, ...]) -> tuple[str, ...]:
  """Options, unless the record says that an answer is to be generated for all that."""
  return () if value.get(MODE) == 'generate' else options


def _unwritable(value: Mapping[str, Any]) -> str | None:
  """Why a record cannot be written again, if it cannot."""
  try:
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
  except UnicodeEncodeError:
    return 'The line is no valid UTF-8, or has half of a character.'
  except (ValueError, RecursionError) as e:
    return f'The record holds what JSON has no words for: {e}.'
  return None
