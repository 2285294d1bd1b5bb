"""The next batches, made and brought to the devices while the present step runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_END = object()
_POLL_S = 0.02
_PATIENCE_S = 2.0


class Prefetcher:
  """Iterates over `make(step)` for the steps from `start` to `stop`, made in a thread.

  An error in `make` is raised where the batch would have come.

  Args:
    make: step -> what to hand out.
    start: the first step.
    stop: one past the last step.
    ahead: how many are kept ready.
    told_to_stop: asked while a batch is waited for; when it says so, that is the end.
  """

  def __init__(self, make: Callable[[int], Any], start: int, stop: int, ahead: int = 2,
               told_to_stop: Callable[[], bool] = lambda: False):
    self._told_to_stop = told_to_stop
    self._idle: Callable[[], bool] = lambda: True
    self._lost: Callable[[float], None] = lambda seconds: None
    self._queue: queue.Queue = queue.Queue(ahead)
    self._stopped = threading.Event()
    self._thread = threading.Thread(
        target=self._run, args=(make, start, stop), name='prefetch', daemon=True)
    self._thread.start()

  def _put(self, item: Any) -> bool:
    while not self._stopped.is_set():
      try:
        self._queue.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def _run(self, make: Callable[[int], Any], start: int, stop: int) -> None:
    try:
      for step in range(start, stop):
        if not self._put(make(step)):
          return
      self._put(_END)
    except BaseException as error:  # noqa: BLE001 (it is raised again elsewhere)
      self._put(error)

  def watch(self, idle: Callable[[], bool], lost: Callable[[float], None]) -> None:
    """Has the time told that is lost by waiting.

    Args:
      idle: -> whether the devices have nothing else to do; only then is time lost.
      lost: is told seconds.
    """
    self._idle, self._lost = idle, lost

  def _get(self) -> Any:
    if not self._queue.empty():
      return self._queue.get()
    since = time.monotonic() if self._idle() else None
    while True:
      try:
        item = self._queue.get(timeout=_POLL_S)
        break
      except queue.Empty:
        if self._told_to_stop():
          return _END
        if since is None and self._idle():
          since = time.monotonic()
    if since is not None:
      self._lost(time.monotonic() - since)
    return item

  def __iter__(self) -> Iterator[Any]:
    while (item := self._get()) is not _END:
      if isinstance(item, BaseException):
        raise item
      yield item

  def close(self) -> bool:
    """Ends the thread; -> whether it ended. It is waited for a while only when told to stop."""
    self._stopped.set()
    self._thread.join(_PATIENCE_S if self._told_to_stop() else None)
    return not self._thread.is_alive()
