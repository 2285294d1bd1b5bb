"""A process that does jobs for this one, and ends when this one does."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from flanjax.errors import UserError

# TensorFlow does not survive a fork once it has run anything. On Linux, workers are forks of a
# process that has imported it and run nothing: they begin at once, and share its memory.
START_METHOD = 'forkserver' if sys.platform == 'linux' else 'spawn'
_IMPORTED_ONCE = ['flanjax.data.workers']
# A task leaves about two thirds of a megabyte behind; to start a process takes some seconds.
MOST_JOBS = 200
MOST_GROWTH_BYTES = 512 << 20
_END_S = 10
_READY, _REPORT, _DONE, _FAILED = 'ready', 'report', 'done', 'failed'
NOT_YET = object()


class Worker:
  """A process to which jobs are given, one after the other.

  Args:
    function: `function(job, report)`, of a module.
    set_up: called there first.
    what: what is being done, for errors.

  Attributes:
    job: what it is doing, or None.
    tired: whether another one should take its place.
  """

  def __init__(self, function: Callable[..., Any], set_up: Callable[[], None], what: str):
    context = multiprocessing.get_context(START_METHOD)
    if START_METHOD == 'forkserver':
      context.set_forkserver_preload(_IMPORTED_ONCE)
    self._connection, theirs = context.Pipe()
    self._process = context.Process(target=_serve, args=(
        theirs, function, set_up, MOST_JOBS, MOST_GROWTH_BYTES, dict(os.environ)))
    self._process.start()
    theirs.close()
    self._what, self._ready, self._ended = what, False, False
    self.job, self.tired = None, False

  def fileno(self) -> int:
    return self._connection.fileno()

  def give(self, job: Any) -> None:
    self.job = job
    with contextlib.suppress(OSError):  # It has died, as `result` will tell.
      self._connection.send(job)

  def result(self, report: Callable[..., None]) -> Any:
    """The job's result, or NOT_YET: hears one message, for which it waits.

    Args:
      report: called with what the job reports.

    Raises:
      UserError: the process died.
      Exception: what the job raised.
    """
    try:
      kind, content = self._connection.recv()
    except (EOFError, OSError) as e:
      raise self._death() from e
    if kind == _FAILED:
      raise content
    if kind == _DONE:
      result, self.tired = content
      self.job = None
      return result
    if kind == _REPORT:
      report(*content)
    self._ready = True
    return NOT_YET

  def _death(self) -> UserError:
    self._process.join(_END_S)
    status = self._process.exitcode
    if status and status < 0:
      got, hint = signal.Signals(-status).name, 'memory may have run out: '
    else:
      got, hint = f'exit status {status}', ''
    if not self._ready and not hint:
      return UserError(
          'A worker process could not start.', where=self._what, got=got,
          hint="a program that does this needs the line: if __name__ == '__main__':")
    return UserError(
        'A worker process died.', where=self._what, got=got,
        hint=f'{hint}what is finished is kept, start again with fewer workers (--num_workers)')

  def let_go(self) -> None:
    """Asks it to end, as it has nothing to do any more."""
    self._ended = True
    with contextlib.suppress(OSError):
      self._connection.send(None)
    self._connection.close()

  def end(self) -> None:
    """Ends it now, if need be in the middle of its job: it clears away what is half done."""
    if not self._ended:
      self._process.terminate()
    self._process.join(_END_S)
    self._process.kill()
    self._process.join()


def waiting(team: Iterable[Worker]) -> list[Worker]:
  """Those that have something to say; waits until there are some."""
  return multiprocessing.connection.wait(list(team))


def _serve(
    connection: multiprocessing.connection.Connection, function: Callable[..., Any],
    set_up: Callable[[], None], most_jobs: int, most_growth: int, environment: dict[str, str],
) -> None:
  os.environ.clear()  # It may be that of when the first worker began.
  os.environ.update(environment)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  # Whoever is interrupted is the parent, which then ends this process.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
  try:
    set_up()
    connection.send((_READY, None))
    at_first, done = _resident_bytes(), 0
    while (job := connection.recv()) is not None:
      result = function(job, lambda *what: connection.send((_REPORT, what)))
      done += 1
      tired = done >= most_jobs or _resident_bytes() - at_first > most_growth
      connection.send((_DONE, (result, tired)))
  except Exception as e:  # noqa: BLE001 (it is raised again, in the parent)
    connection.send((_FAILED, _sendable(e)))


def _sendable(error: Exception) -> Exception:
  """An error that any process can read, with the traceback as text."""
  told = RuntimeError(f'{type(error).__name__}: {error}')
  if isinstance(error, UserError):
    got, expected = (None if x is None else str(x) for x in (error.got, error.expected))
    told = type(error)(
        error.what, where=error.where, got=got, expected=expected, hint=error.hint)
  told.add_note('In a worker process:\n' + ''.join(traceback.format_exception(error)))
  return told


def _end_with_parent() -> None:
  """A worker whose parent was killed would go on, and then wait for work for ever."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _resident_bytes() -> int:
  """Memory that this process holds; 0 where the system does not tell."""
  try:
    pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
  except OSError:
    return 0
  return int(pages) * resource.getpagesize()
