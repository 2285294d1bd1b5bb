"""Sums of what was trained on, and the rates that follow from them."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flanjax.models import flops
from flanjax.training import goodput

SIDES = ('encoder', 'decoder')


class Fed(NamedTuple):
  """One batch on the devices, and what the log says of it.

  `tokens` and `places` count, for encoder, decoder and loss_weights, what is no padding, and
  everything; `examples`, for encoder and decoder, the segments of packed rows, or rows.
  """

  step: int
  arrays: Mapping[str, jax.Array]
  tally: Mapping[str, int]
  rows: int
  tokens: Mapping[str, int]
  places: Mapping[str, int]
  examples: Mapping[str, int]

  @classmethod
  def of(
      cls, step: int, batch: Mapping[str, np.ndarray], arrays: Mapping[str, jax.Array],
      tally: Mapping[str, int], rows: int,
  ) -> Fed:
    """Of several hosts each sees its own rows, `batch`, and takes them for all `rows`."""
    scale = rows / len(batch['encoder_input_tokens'])
    sides = {'encoder': batch['encoder_input_tokens'], 'decoder': batch['decoder_target_tokens']}
    parts = dict(sides)
    if 'decoder_loss_weights' in batch:
      parts['loss_weights'] = batch['decoder_loss_weights']
    segments = {side: batch.get(f'{side}_segment_ids') for side in sides}
    examples = {side: len(x) if segments[side] is None else segments[side].max(axis=-1).sum()
                for side, x in sides.items()}
    scaled = lambda counts: {name: round(scale * int(n)) for name, n in counts.items()}
    return cls(step, arrays, tally, rows, scaled({k: np.count_nonzero(x) for k, x in parts.items()}),
               scaled({k: x.size for k, x in parts.items()}), scaled(examples))


@dataclasses.dataclass(frozen=True)
class Work:
  """What a step costs, and what the devices could do.

  Attributes:
    config: the model's sizes.
    devices: those of the mesh, all of one kind.
    weights_trained: as of `flops.step`.
  """

  config: Any
  devices: Sequence[jax.Device]
  weights_trained: bool = True

  def flops(self, fed: Fed) -> float:
    lengths = [fed.places[side] // fed.rows for side in SIDES]
    return flops.step(self.config, fed.rows, *lengths, weights_trained=self.weights_trained)

  def utilization(self, flops_per_second: float) -> float | None:
    return flops.utilization(flops_per_second, self.devices[0].device_kind, len(self.devices))


class Interval:
  """Sums since the last line of the log.

  Args:
    clock: tells time in steps from other time.
    work: None: FLOPs are not told.
  """

  def __init__(self, clock: goodput.Clock, work: Work | None = None):
    self._sums: collections.Counter = collections.Counter()
    self._clock, self._work, self._skips = clock, work, False
    self._started, self._in_steps = clock.elapsed, clock.in_steps

  def add(self, fed: Fed, metrics: Mapping[str, float]) -> None:
    if not metrics.get('skipped_updates'):  # Else they are not finite.
      self._sums.update({f'metric/{name}': value for name, value in metrics.items()})
      self._sums['learnt'] += 1
    self._skips |= 'skipped_updates' in metrics
    self._sums.update({'steps': 1, 'rows': fed.rows})
    if self._work is not None:
      self._sums['flops'] += self._work.flops(fed)
    for what in ('tokens', 'places', 'examples'):
      self._sums.update({f'{what}/{name}': n for name, n in getattr(fed, what).items()})

  @property
  def loss(self) -> float:
    """Per target token."""
    weight = self._sums['metric/weight_sum']
    return self._sums['metric/loss'] / weight if weight else math.nan

  def scalars(self) -> dict[str, float]:
    """Means over the interval, under T5X's names; unlike there, padding is no token."""
    sums, steps = self._sums, self._sums['steps']
    learnt = sums['learnt'] or math.nan
    weight = max(sums['metric/weight_sum'], 1.0) if sums['learnt'] else math.nan
    fractions = {name: sums[f'tokens/{name}'] / max(sums[f'places/{name}'], 1)
                 for name in (*SIDES, 'loss_weights') if f'places/{name}' in sums}
    tokens, places = (sum(sums[f'{what}/{side}'] for side in SIDES) for what in ('tokens', 'places'))
    return {
        'loss': sums['metric/loss'] / learnt,
        'loss_per_nonpadding_target_token': sums['metric/loss'] / weight,
        'cross_ent_loss': sums['metric/cross_ent_loss'] / weight,
        'z_loss': sums['metric/z_loss'] / weight,
        'accuracy': sums['metric/correct'] / weight,
        'gradient_norm': sums['metric/gradient_norm'] / learnt,
        **({'skipped_updates': steps - sums['learnt']} if self._skips else {}),
        **{f'effective_batch_size/{side}': sums[f'examples/{side}'] / steps for side in SIDES},
        **{f'non_padding_fraction/{name}': value for name, value in fractions.items()},
        'non_padding_fraction/overall': tokens / max(places, 1),
        **self._rates(),
    }

  def _rates(self) -> dict[str, float]:
    """Of rows and tokens by the clock on the wall, of FLOPs by the time in steps."""
    sums, clock = self._sums, self._clock
    seconds = max(clock.elapsed - self._started, 1e-9)
    in_steps = max(clock.in_steps - self._in_steps, 1e-9)
    targets, inputs = sums['tokens/decoder'] / seconds, sums['tokens/encoder'] / seconds
    rates = {
        'timing/seconds': seconds,
        'timing/step_seconds': in_steps / sums['steps'],
        'timing/steps_per_second': sums['steps'] / seconds,
        'timing/seqs': sums['rows'],
        'timing/seqs_per_second': sums['rows'] / seconds,
        'timing/input_tokens_per_second': inputs,
        'timing/target_tokens_per_second': targets,
        'timing/tokens_per_second': inputs + targets,
    }
    if self._work is None:
      return rates
    rate, cores = sums['flops'] / in_steps, len(self._work.devices)
    utilization = self._work.utilization(rate)
    return rates | {
        'timing/seqs_per_second_per_core': rates['timing/seqs_per_second'] / cores,
        'timing/target_tokens_per_second_per_core': targets / cores,
        'timing/model_flops_per_second': rate,
        **({} if utilization is None else {'timing/mfu': utilization}),
    }
