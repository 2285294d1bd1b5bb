"""Work as phases that a killed run takes up again, each a process of its own.

A file beside the work says which phases are done, what they answered and how long they took; a
lock keeps others away from the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UserError


class Phases:
  """The phases done, their answers, and the time spent on each, kept in a file.

  Args:
    path: of the file.
    lock: a descriptor that children inherit: those of a killed run hold the lock until they end.
    run_child: runs a phase: `common.run_child`, or the like.
  """

  def __init__(self, path: pathlib.Path, lock: int, run_child: Callable[..., Any] | None = None):
    self._path, self._lock, self._run_child = path, lock, run_child
    self._done: dict[str, Any] = {}
    self._seconds: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
      kept = json.loads(self._path.read_text())
      self._done, self._seconds = kept['done'], kept['seconds']
    self.skipped: list[str] = []

  @property
  def seconds(self) -> float:
    return sum(self._seconds.values())

  def _write(self) -> None:
    part = self._path.with_suffix('.part')
    part.write_text(json.dumps({'done': self._done, 'seconds': self._seconds}, indent=2) + '\n')
    part.replace(self._path)

  def run(self, name: str, title: str, argv: list[str], stamp: Mapping[str, Any] | None = None,
          **options: Any) -> Any:
    """Runs a phase unless it was done with the same `stamp`; its answer."""
    stamp = dict(stamp or {})
    found = self._done.get(name)
    if found and found['stamp'] == stamp and still_there(found['answer']):
      self.skipped.append(name)
      return found['answer']
    terminal.note(f'- {title}')
    started = time.monotonic()
    try:
      run_child = self._run_child or common.run_child
      answer = run_child(argv, keep_open=[self._lock], **options)
      self._done[name] = {'stamp': stamp, 'answer': answer}
      return answer
    finally:
      spent = self._seconds.get(name, 0.0) + time.monotonic() - started
      self._seconds[name] = round(spent, 1)
      self._write()


def still_there(answer: Mapping[str, Any]) -> bool:
  """Whether the files that a phase left are where they were."""
  paths = [v for v in answer.values() if isinstance(v, str) and os.path.isabs(v)]
  return all(os.path.exists(p) for p in paths)


class Busy(Exception):
  """Somebody else is working in a folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path, wait: bool = True, what: str = 'run') -> Iterator[int]:
  """Keeps two runs out of one folder; children of a killed run hold the lock until they end.

  Args:
    folder: which is there.
    wait: whether to wait for its end when somebody else is there.
    what: what they do there, to tell while waiting.

  Raises:
    Busy: somebody else is there, and we do not wait.
    UserError: the file system has no locks.
  """
  with open(folder / '.lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if not wait:
        raise Busy(str(folder)) from None
      terminal.note(f'waiting for another {what} in {folder} to end')
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as e:
      raise UserError('A folder cannot be locked.', where=str(folder), got=e.strerror,
                      expected='a file system with locks, so that two runs keep apart') from e
    yield file.fileno()
