"""Reads the metrics of each step once the next is on its way; logs them, stops a run gone wrong."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping

import jax

from flanjax import terminal
from flanjax.training import goodput, intervals, nonfinite, sinks
from flanjax.training.intervals import Fed


class Monitor:
  """Takes a run's metrics, step by step.

  Args:
    bar: shows step, loss, real tokens per second and MFU.
    log: gets the scalars every `log_period` steps and at the last; None writes none.
    total_steps: the last step.
    log_period: steps between lines.
    learning_rate: its schedule, when the optimizer tells.
    last_checkpoint: -> where the newest checkpoint lies, for the error message.
    non_finite: whether a step that is not finite was to be skipped, and how many may be.
    clock: the run's.
    work: what a step costs.
  """

  def __init__(
      self, bar: terminal.Bar, log: sinks.Sink | None, *, total_steps: int, log_period: int,
      learning_rate: Callable[[int], jax.Array] | None, last_checkpoint: Callable[[], object],
      non_finite: nonfinite.NonFinite = nonfinite.NonFinite(),
      clock: goodput.Clock | None = None, work: intervals.Work | None = None,
  ):
    self._bar, self._log = bar, log
    self._total_steps, self._log_period = total_steps, log_period
    self._learning_rate, self._last_checkpoint = learning_rate, last_checkpoint
    self._clock, self._work = clock or goodput.Clock(), work
    self._interval = intervals.Interval(self._clock, work)
    self._began = False
    self._streak = nonfinite.Streak(non_finite)
    self._pending: tuple[Fed, Mapping[str, jax.Array]] | None = None
    self._text = ''

  def add(self, fed: Fed, metrics: Mapping[str, jax.Array]) -> None:
    """Takes a step's metrics, which may still be computed, and reads those of the step before."""
    if self._learning_rate is not None and self._is_logged(fed.step + 1):
      # Dispatched here, behind this step and before the next: reading it will wait for neither.
      metrics = {**metrics, 'learning_rate': self._learning_rate(fed.step)}
    self.flush()
    self._pending = (fed, metrics)

  def idle(self) -> bool:
    """Whether the devices have nothing left to do of the steps given to `add`."""
    if self._pending is None:
      return True
    ready = (getattr(value, 'is_ready', None) for value in self._pending[1].values())
    return all(is_ready is None or is_ready() for is_ready in ready)

  def _is_logged(self, done: int) -> bool:
    return done % self._log_period == 0 or done == self._total_steps

  def flush(self) -> None:
    """Waits for the step in hand; UserError when its loss or gradient is not finite."""
    if self._pending is None:
      return
    (fed, metrics), self._pending = self._pending, None
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    self._check_finite(fed, values)
    self._interval.add(fed, values)
    done, loss = fed.step + 1, self._interval.loss
    if self._is_logged(done):
      self._write(done, values.get('learning_rate'))
    if not self._began:
      # Compiling, which is over, says nothing of the time left.
      self._began = True
      self._bar.restart(done)
    self._bar(done, self._total_steps, f'loss {loss:.3f}{self._text}')

  def _write(self, done: int, learning_rate: float | None) -> None:
    memory = goodput.memory()
    scalars = {**self._interval.scalars(), **self._clock.scalars(), **memory}
    scalars['memory/peak_bytes'] = next(iter(memory.values()))
    if learning_rate is not None:
      scalars['learning_rate'] = learning_rate
    self._interval = intervals.Interval(self._clock, self._work)
    if self._log is not None:
      self._log.write(done, scalars)
    self._text = _rates(scalars)

  def _check_finite(self, fed: Fed, values: Mapping[str, float]) -> None:
    found = nonfinite.culprit(values)
    if values.get('skipped_updates'):
      if not self._streak.take(skipped=True):
        return
      what, value = found or ('state', None)
    elif found:
      what, value = found
    else:
      self._streak.take(skipped=False)
      return
    mix = ', '.join(f'{task} {n}' for task, n in sorted(_examples(fed.tally).items()))
    raise nonfinite.NotFinite(
        f'the {what} is not finite in step {fed.step + 1}{self._streak}',
        where=f'batch {fed.step}, whose examples are: {mix}', got=value,
        expected='a finite number',
        hint=f"last good checkpoint: {self._last_checkpoint() or 'none'}; a lower learning rate "
             'may help, and --debug_nans goes on from there and names the layer')


def _rates(scalars: Mapping[str, float]) -> str:
  text = f", {scalars['timing/tokens_per_second']:,.0f} tokens/s"
  if 'timing/mfu' in scalars:
    text += f", MFU {100 * scalars['timing/mfu']:.1f} %"
  return text


def _examples(tally: Mapping[str, int]) -> dict[str, int]:
  """Examples of each task, from counts named 'task/template/examples'."""
  found = collections.Counter()
  for key, count in tally.items():
    task, _, quantity = key.rpartition('/')
    if quantity == 'examples':
      found[task.rpartition('/')[0]] += count
  return dict(found)
