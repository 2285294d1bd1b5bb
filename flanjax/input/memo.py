"""A small cache of computed values that several threads may ask for at once."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from concurrent import futures
from typing import Any


class Memo:
  """`compute(key)` for the `keep` keys asked for last, each computed once.

  Threads that ask for a key which another one is computing wait for that value; other keys are
  not held up. A failed computation is not kept.

  >>> squares = Memo(lambda x: x * x, keep=2)
  >>> squares(3), squares(3)
  (9, 9)
  """

  def __init__(self, compute: Callable[[Any], Any], keep: int):
    self._compute = compute
    self._keep = keep
    self._lock = threading.Lock()
    self._values: collections.OrderedDict[Hashable, futures.Future] = collections.OrderedDict()

  def __call__(self, key: Hashable) -> Any:
    with self._lock:
      future = self._values.get(key)
      ours = future is None
      if ours:
        future = self._values[key] = futures.Future()
        while len(self._values) > self._keep:
          self._values.popitem(last=False)
      else:
        self._values.move_to_end(key)
    if ours:
      try:
        future.set_result(self._compute(key))
      except BaseException as error:  # noqa: BLE001 (it is raised again, in every waiting thread)
        with self._lock:
          self._values.pop(key, None)
        future.set_exception(error)
    return future.result()
