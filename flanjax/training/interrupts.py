"""SIGINT and SIGTERM as something to ask about, also while a program is compiled."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

_POLL_S = 0.1


class Stopped(Exception):
  """A signal came before the work was done."""


class Interrupts:
  """Whether a run was told to stop.

  Attributes:
    signal: the first that came, or None.
    left: whether a thread was left at work, which may hold up or crash the interpreter's end.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None
    self.left = False

  def set(self, number: int) -> None:
    """Takes note of a signal, real or not."""
    self.signal = self.signal or signal.Signals(number)

  def wait(self, seconds: float) -> bool:
    """Waits that long, or until a signal comes; -> whether one came."""
    end = time.monotonic() + seconds
    while self.signal is None and time.monotonic() < end:
      time.sleep(min(_POLL_S, seconds))
    return self.signal is not None

  def run(self, work: Callable[[], Any]) -> Any:
    """-> what `work` returns, or Stopped as soon as a signal comes.

    Python's handlers wait for calls like XLA's compiler to return, so `work` is done in another
    thread, and left there. Of several processes each does it in place: they must stay in step.
    """
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
      return work()
    outcome: dict[str, Any] = {}
    done = threading.Event()

    def target():
      try:
        outcome['value'] = work()
      except BaseException as error:  # noqa: BLE001 (it is raised again below)
        outcome['error'] = error
      done.set()

    threading.Thread(target=target, name='interruptible', daemon=True).start()
    while not done.wait(_POLL_S):
      if self.signal is not None:
        self.left = True
        raise Stopped
    if 'error' in outcome:
      raise outcome['error']
    return outcome['value']

  @contextlib.contextmanager
  def caught(self) -> Iterator[None]:
    """Within it, the first SIGINT or SIGTERM is noted; a second one is not caught."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    previous = {}

    def restore():
      for which, handler in previous.items():
        signal.signal(which, handler)

    def note(number, frame):
      # Nothing is printed here: it may be a print that was interrupted.
      del frame
      self.set(number)
      restore()

    wanted = [signal.SIGINT]
    if jax.process_count() == 1:  # Else jax itself tells all processes of a SIGTERM.
      wanted.append(signal.SIGTERM)
    for which in wanted:
      previous[which] = signal.signal(which, note)
    try:
      yield
    finally:
      restore()


class Program:
  """A jitted function of (state, batch), compiled for each shape of batch; see `Interrupts.run`.

  Args:
    function: jitted; its outputs lie on the mesh as its inputs do.
    interrupts: raises Stopped out of a compilation.
    context: makes the context manager in which it is traced: a thread inherits none.
  """

  def __init__(
      self, function: Any, interrupts: Interrupts,
      context: Callable[[], contextlib.AbstractContextManager[Any]],
  ):
    self._function, self._interrupts, self._context = function, interrupts, context
    self._programs: dict[Any, Any] = {}

  def __call__(self, state: Any, batch: Any) -> Any:
    key = tuple((name, x.shape, str(x.dtype)) for name, x in sorted(batch.items()))
    if key not in self._programs:
      self._programs[key] = self._interrupts.run(lambda: self._compiled(state, batch))
    return self._programs[key](state, batch)

  def _compiled(self, state: Any, batch: Any) -> Any:
    with self._context():
      return self._function.lower(state, batch).compile()
