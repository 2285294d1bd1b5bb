"""The file of answers: a line each, in the order of the prompts, written so that a run may go on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from flanjax.errors import UserError
from flanjax.inference import answers
from flanjax.inference.prompt_files import Record

_VERSION = 1
_CHUNK = 1 << 20
# Characters that are line ends to some readers, and to JSON ordinary ones.
_LINE_ENDS = {ord(c): f'\\u{ord(c):04x}' for c in '\x85\u2028\u2029'}


def encode(answer: Mapping[str, Any]) -> bytes:
  """An answer as a line."""
  return json.dumps(answer, ensure_ascii=False).translate(_LINE_ENDS).encode() + b'\n'


def settings_path(path: pathlib.Path) -> pathlib.Path:
  """What wrote a file stands beside it."""
  return path.with_name(path.name + '.settings.json')


class AnswerFile(contextlib.AbstractContextManager):
  """A file that has the answers to the first so many prompts, and gets those to the others.

  What a killed run left of a line is cut off. Nobody else may write while this is open.

  Args:
    path: the file.
    settings: what its answers depend on; those that wrote a file are kept beside it.

  Attributes:
    done: answers that were there.
    written: answers that were added.

  Raises:
    UserError: it was written with other settings, by something else, or is being written; or it
      cannot be written.
  """

  def __init__(self, path: pathlib.Path, settings: Mapping[str, Any]):
    self.path, self._settings = path, {'format_version': _VERSION, **settings}
    self._checked = self.written = 0
    with self._explained():
      self._file: BinaryIO = path.open('a+b')
      try:
        self._lock()
        self._check_settings()
        self.done = self._cut_half_line()
        self._end = self._file.seek(0, os.SEEK_END)
        self._reader = path.open('rb')
      except BaseException:
        self._file.close()
        raise

  def skip(self, records: Sequence[Record]) -> int:
    """Takes the next of the prompts; -> how many of them are answered already, from the first on.

    Raises:
      UserError: the prompts are not those that the file answers.
    """
    count = min(len(records), self.done - self._checked)
    for record in records[:count]:
      self._checked += 1
      if not _answers(self._reader.readline(), record):
        self._refuse(f'another one at line {record.line}')
    return count

  def check_end(self) -> None:
    """UserError when there are answers to more prompts than `skip` was told of."""
    if self._checked < self.done:
      self._checked += 1
      self._refuse('no prompt')

  def _refuse(self, got: str) -> None:
    raise UserError(
        'The file answers other prompts.', where=f'{self.path}:{self._checked}', got=got,
        expected='the prompts that it was begun with, to which some may be added',
        hint='name another --output, or remove this one')

  def write(self, answer: Mapping[str, Any]) -> None:
    """Adds an answer, and gives it to the system.

    Raises:
      UserError: there is no room, or another failure; the file ends with a whole line.
    """
    line = encode(answer)
    with self._explained():
      try:
        self._file.write(line)
        self._file.flush()
      except OSError:
        # What is left in Python's buffer would be tried again when the file is closed.
        with contextlib.suppress(OSError):
          self._file.raw.close()
        with contextlib.suppress(OSError):
          os.truncate(self.path, self._end)
        raise
    self._end += len(line)
    self.written += 1

  def __exit__(self, *unused):
    self._reader.close()
    with contextlib.suppress(OSError, ValueError):
      self._file.close()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    try:
      yield
    except OSError as e:
      full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
      raise UserError(
          'There is no room for the answers.' if full else 'The answers cannot be written.',
          where=str(self.path), got=e.strerror or str(e),
          hint='what is written is kept: the same command goes on from there') from e

  def _lock(self) -> None:
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise UserError('Another run is writing this file.', where=str(self.path)) from e

  def _check_settings(self) -> None:
    beside = settings_path(self.path)
    if not os.fstat(self._file.fileno()).st_size:
      temporary = beside.with_name(f'.{beside.name}-{os.getpid()}')
      temporary.write_text(json.dumps(self._settings, indent=2, ensure_ascii=False) + '\n')
      os.replace(temporary, beside)
      return
    try:
      kept = json.loads(beside.read_text())
    except (OSError, ValueError) as e:
      raise UserError(
          'There is a file that no run of this kind wrote.', where=str(self.path),
          expected=f'{beside.name} beside it', hint='name another --output') from e
    ours = json.loads(json.dumps(self._settings))
    other = [k for k in sorted({*ours, *kept}) if ours.get(k) != kept.get(k)]
    if other:
      told = lambda values: ', '.join(f'{k} {values.get(k)!r}' for k in other)
      raise UserError('The file was begun with other settings.', where=str(self.path),
                      got=told(ours), expected=told(kept),
                      hint='use those, name another --output, or remove the file')

  def _cut_half_line(self) -> int:
    """Leaves whole lines alone; -> how many."""
    self._file.seek(0)
    lines = end = place = 0
    while chunk := self._file.read(_CHUNK):
      lines += chunk.count(b'\n')
      if (last := chunk.rfind(b'\n')) >= 0:
        end = place + last + 1
      place += len(chunk)
    if end < place:
      self._file.truncate(end)
    return lines


def _answers(line: bytes, record: Record) -> bool:
  try:
    answer = json.loads(line)
  except ValueError:
    return False
  if not isinstance(answer, dict):
    return False
  kept = {k: v for k, v in answer.items() if k not in answers.FIELDS}
  return kept == json.loads(json.dumps(answers.fields_of(record)))
