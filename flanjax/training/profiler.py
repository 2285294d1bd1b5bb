"""A trace of some steps, for XProf and Perfetto."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import jax

from flanjax import errors, terminal
from flanjax.input import remote
from flanjax.training import goodput


def parse(text: str, total_steps: int | None = None) -> tuple[int, int]:
  """'10:15' -> (10, 15), the first and the last step; '10' is one step.

  Raises:
    UsageError: these are no steps, or not of this run.

  >>> parse('10:15'), parse('3')
  ((10, 15), (3, 3))
  """
  found = re.fullmatch(r'(\d+)(?::(\d+))?', text)
  first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
  if not 1 <= first <= last:
    raise errors.UsageError('These are no steps to profile.', where='--profile', got=text,
                            expected='FIRST:LAST, as 10:15; the first step of a run is 1')
  if total_steps is not None and last > total_steps:
    raise errors.UsageError('The run ends before the steps to profile.', where='--profile',
                            got=text, expected=f'steps 1 to {total_steps}, its TRAIN_STEPS')
  return first, last


class Profile:
  """Traces the steps from first to last into `folder`. It waits for the device at both ends alone.

  Args:
    steps: (first, last); None traces nothing.
    folder: where traces go.
    start: the step that training goes on from.
    clock: books the time that starting and writing take.
    quiet: whether another process speaks.
  """

  def __init__(
      self, steps: tuple[int, int] | None, folder: remote.AnyPath, start: int,
      clock: goodput.Clock, quiet: bool = False,
  ):
    self._steps, self._folder, self._quiet = steps, folder, quiet
    self._running, self._clock = False, clock
    if steps and steps[0] <= start:
      self._steps = None
      self._say(f'no profile: steps {steps[0]} to {steps[1]} began before step {start + 1}, '
                'at which training goes on')

  def before(self, step: int, wait: Callable[[], None]) -> None:
    """To be called before `step`, counted from 1, is dispatched; `wait` ends those before it."""
    if self._steps and step == self._steps[0]:
      wait()
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # Python's calls would be most of the file.
      with self._clock.losing('profile'):
        jax.profiler.start_trace(str(self._folder), profiler_options=options)
      self._running = True

  def step(self, step: int) -> contextlib.AbstractContextManager:
    """Marks what is dispatched within as `step`."""
    if not self._running:
      return contextlib.nullcontext()
    return jax.profiler.StepTraceAnnotation('train', step_num=step)

  def after(self, step: int, wait: Callable[[], None]) -> None:
    """To be called after `step` is dispatched."""
    if self._running and step == self._steps[1]:
      wait()
      self.close()

  def close(self) -> None:
    """Writes the trace, if one is being taken."""
    if not self._running:
      return
    self._running = False
    with self._clock.losing('profile'):
      jax.profiler.stop_trace()
    self._say(f'profile of steps {self._steps[0]} to {self._steps[1]}: {self._folder}\n'
              f"  pip install xprof, then: xprof --logdir {self._folder}\n"
              '  or its *.trace.json.gz at https://ui.perfetto.dev')

  def _say(self, text: str) -> None:
    if not self._quiet:
      terminal.note(text)
