"""Where the wall time of a run goes: steps, and what keeps it from steps."""

from __future__ import annotations

import collections
import contextlib
import functools
import resource
import sys
import time
from collections.abc import Callable, Iterator

import jax

from flanjax import terminal

# What is not a step, under T5X's names ('timing/<name>_seconds') where it has one.
LOSSES = {
    'init_or_restore': 'first state',
    'compilation': 'compiling',
    'data_wait': 'waiting for data',
    'checkpoint': 'checkpoints',
    'evaluate': 'validation',
    'profile': 'profile',
}
_COMPILED = '/jax/core/compile/backend_compile_duration'
_compilations = 0


@functools.cache
def _listen() -> None:
  """Counts the programs that are compiled, or come from the compilation cache."""

  def count(event: str, duration: float, **_) -> None:
    global _compilations
    del duration
    _compilations += event == _COMPILED

  jax.monitoring.register_event_duration_secs_listener(count)


class Clock:
  """Runs from when it is made. What no one books as lost counts as time in steps.

  Args:
    now: -> seconds, growing.
  """

  def __init__(self, now: Callable[[], float] = time.monotonic):
    _listen()
    self._now = now
    self._started = now()
    self._lost: collections.Counter[str] = collections.Counter(dict.fromkeys(LOSSES, 0.0))
    self._losing = False

  @contextlib.contextmanager
  def losing(self, what: str) -> Iterator[None]:
    """Books the time within, but for what stands within another such block already."""
    if self._losing:
      yield
      return
    self._losing, start = True, self._now()
    try:
      yield
    finally:
      self._losing = False
      self._lost[what] += self._now() - start

  @contextlib.contextmanager
  def dispatching(self) -> Iterator[None]:
    """Books the time within as compilation if anything was compiled there."""
    before, start = _compilations, self._now()
    yield
    if _compilations != before:
      self.lose('compilation', self._now() - start)

  def lose(self, what: str, seconds: float) -> None:
    """Books time that was measured elsewhere."""
    self._lost[what] += seconds

  @property
  def elapsed(self) -> float:
    return self._now() - self._started

  @property
  def in_steps(self) -> float:
    """Seconds that went into steps."""
    return max(self.elapsed - sum(self._lost.values()), 0.0)

  def scalars(self) -> dict[str, float]:
    """Goodput, and seconds of the run so far: altogether, and lost by reason."""
    elapsed = self.elapsed
    return {
        'timing/goodput': self.in_steps / elapsed if elapsed > 0 else 0.0,
        'timing/uptime': elapsed,
        **{f'timing/{name}_seconds': seconds for name, seconds in self._lost.items()},
    }

  def summary(self) -> str:
    """As '93 % of 2h 13m in steps; compiling 1m 02s, checkpoints 12s'."""
    share = self.scalars()['timing/goodput']
    rest = ', '.join(f'{what} {terminal.seconds(s)}' for what, s in self.losses() if s >= 0.5)
    return (f'{100 * share:.0f} % of {terminal.seconds(self.elapsed)} in steps'
            + (f'; {rest}' if rest else ''))

  def losses(self) -> list[tuple[str, float]]:
    """(what it is called, seconds) of all that took time, the longest first."""
    taken = [(LOSSES[name], seconds) for name, seconds in self._lost.items() if seconds > 0]
    return sorted(taken, key=lambda pair: -pair[1])


def memory() -> dict[str, int]:
  """Peaks in bytes: of the fullest device of this process, where devices tell, and of the process."""
  peaks = [(device.memory_stats() or {}).get('peak_bytes_in_use', 0)
           for device in jax.local_devices()]
  # Kilobytes, but on macOS, where ru_maxrss is in bytes.
  unit = 1 if sys.platform == 'darwin' else 1024
  host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  device = {'memory/device_peak_bytes': max(peaks)} if max(peaks) else {}
  return {**device, 'memory/host_peak_bytes': host}
