"""The next batches, made and brought to the devices while the present step runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

_END = object()


class Prefetcher:
  """Iterates over `make(step)` for the steps from `start` to `stop`, made in a thread.

  An error in `make` is raised where the batch would have come.

  Args:
    make: step -> what to hand out.
    start: the first step.
    stop: one past the last step.
    ahead: how many are kept ready.
  """

  def __init__(self, make: Callable[[int], Any], start: int, stop: int, ahead: int = 2):
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

  def __iter__(self) -> Iterator[Any]:
    while (item := self._queue.get()) is not _END:
      if isinstance(item, BaseException):
        raise item
      yield item

  def close(self) -> None:
    """Ends the thread, whatever it was doing."""
    self._stopped.set()
    self._thread.join()
