"""Reads the metrics of each step once the next is on its way; logs them, stops a run gone wrong."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from flanjax import errors, terminal
from flanjax.training import logs

_SIDES = ('encoder', 'decoder')


class Fed(NamedTuple):
  """One batch on the devices, and what the log says of it.

  `tokens` and `places` count, for encoder and decoder, what is no padding, and everything.
  """

  step: int
  arrays: Mapping[str, jax.Array]
  tally: Mapping[str, int]
  rows: int
  tokens: Mapping[str, int]
  places: Mapping[str, int]


class _Interval:
  """Sums since the last line of the log."""

  def __init__(self):
    self._sums: collections.Counter = collections.Counter()
    self._started = time.monotonic()

  def add(self, fed: Fed, metrics: Mapping[str, float]) -> None:
    self._sums.update({f'metric/{name}': value for name, value in metrics.items()})
    self._sums.update({'steps': 1, 'rows': fed.rows})
    self._sums.update({f'tokens/{side}': fed.tokens[side] for side in _SIDES})
    self._sums.update({f'places/{side}': fed.places[side] for side in _SIDES})

  def scalars(self) -> dict[str, float]:
    """Means over the interval, under T5X's names; unlike there, padding is no token."""
    sums, seconds = self._sums, max(time.monotonic() - self._started, 1e-9)
    weight = max(sums['metric/weight_sum'], 1.0)
    tokens, places = ({side: sums[f'{what}/{side}'] for side in _SIDES}
                      for what in ('tokens', 'places'))
    return {
        'loss': sums['metric/loss'] / sums['steps'],
        'loss_per_nonpadding_target_token': sums['metric/loss'] / weight,
        'cross_ent_loss': sums['metric/cross_ent_loss'] / weight,
        'z_loss': sums['metric/z_loss'] / weight,
        'accuracy': sums['metric/correct'] / weight,
        'gradient_norm': sums['metric/gradient_norm'] / sums['steps'],
        'non_padding_fraction/encoder': tokens['encoder'] / max(places['encoder'], 1),
        'non_padding_fraction/decoder': tokens['decoder'] / max(places['decoder'], 1),
        'non_padding_fraction/overall': sum(tokens.values()) / max(sum(places.values()), 1),
        'timing/seconds': seconds,
        'timing/steps_per_second': sums['steps'] / seconds,
        'timing/seqs_per_second': sums['rows'] / seconds,
        'timing/target_tokens_per_second': tokens['decoder'] / seconds,
        'timing/tokens_per_second': sum(tokens.values()) / seconds,
    }


class Monitor:
  """Takes a run's metrics, step by step.

  Args:
    bar: shows step, loss and real tokens per second.
    log: gets a line every `log_period` steps and at the last; None writes none.
    total_steps: the last step.
    log_period: steps between lines.
    learning_rate: its schedule, when the optimizer tells.
    last_checkpoint: -> where the newest checkpoint lies, for the error message.
  """

  def __init__(
      self, bar: terminal.Bar, log: logs.MetricLog | None, *, total_steps: int, log_period: int,
      learning_rate: Callable[[int], jax.Array] | None, last_checkpoint: Callable[[], object],
  ):
    self._bar, self._log = bar, log
    self._total_steps, self._log_period = total_steps, log_period
    self._learning_rate, self._last_checkpoint = learning_rate, last_checkpoint
    self._interval = _Interval()
    self._started = time.monotonic()
    self._pending: tuple[Fed, Mapping[str, jax.Array]] | None = None
    self._text = ''

  def add(self, fed: Fed, metrics: Mapping[str, jax.Array]) -> None:
    """Takes a step's metrics, which may still be computed, and reads those of the step before."""
    self.flush()
    self._pending = (fed, metrics)

  def flush(self) -> None:
    """Waits for the step in hand; UserError when its loss or gradient is not finite."""
    if self._pending is None:
      return
    (fed, metrics), self._pending = self._pending, None
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    self._check_finite(fed, values)
    self._interval.add(fed, values)
    done = fed.step + 1
    if done % self._log_period == 0 or done == self._total_steps:
      self._write(done)
    self._bar(done, self._total_steps, self._text)

  def _write(self, done: int) -> None:
    scalars = self._interval.scalars()
    scalars['timing/uptime'] = time.monotonic() - self._started
    if self._learning_rate is not None:
      scalars['learning_rate'] = float(self._learning_rate(done - 1))
    self._interval = _Interval()
    line = {
        'loss': scalars['loss_per_nonpadding_target_token'],
        'accuracy': scalars['accuracy'],
        'learning_rate': scalars.get('learning_rate'),
        'tokens_per_second': scalars['timing/tokens_per_second'],
        'seconds': scalars['timing/uptime'],
    }
    if self._log is not None:
      self._log.write(done, scalars, line)
    self._text = f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tokens/s"

  def _check_finite(self, fed: Fed, values: Mapping[str, float]) -> None:
    for name, what in (('loss', 'loss'), ('gradient_norm', 'gradient')):
      if not math.isfinite(values[name]):
        mix = ', '.join(f'{task} {n}' for task, n in sorted(_examples(fed.tally).items()))
        raise errors.UserError(
            f'the {what} is not finite in step {fed.step + 1}',
            where=f'batch {fed.step}, whose examples are: {mix}',
            got=values[name], expected='a finite number',
            hint=f"last good checkpoint: {self._last_checkpoint() or 'none'}; "
                 'a lower learning rate may help')


def _examples(tally: Mapping[str, int]) -> dict[str, int]:
  """Examples of each task, from counts named 'task/template/examples'."""
  found = collections.Counter()
  for key, count in tally.items():
    task, _, quantity = key.rpartition('/')
    if quantity == 'examples':
      found[task.rpartition('/')[0]] += count
  return dict(found)
