"""Optimizers and learning-rate schedules with T5X's names and defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flanjax import errors

Schedule = Callable[[jax.Array | int], jax.Array]


class Optimizer(NamedTuple):
  """An optax transformation that also tells its learning rate, for the log."""

  init: Callable
  update: Callable
  learning_rate: Schedule


def _constant(step, base, **_):
  return base


def _linear_warmup(step, warmup, **_):
  return jnp.minimum(1.0, step / warmup)


def _linear_decay(step, base, warmup, decay_factor, **_):
  return base * jnp.minimum(step / warmup, 1.0 + decay_factor * (warmup - step))


def _rsqrt_decay(step, warmup, **_):
  return 1.0 / jnp.sqrt(jnp.maximum(step, warmup))


def _rsqrt_normalized_decay(step, warmup, **_):
  return jnp.sqrt(warmup) / jnp.sqrt(jnp.maximum(step, warmup))


def _decay_every(step, decay_factor, steps_per_decay, **_):
  return decay_factor ** (step // steps_per_decay)


def _cosine_decay(step, warmup, steps_per_cycle, **_):
  progress = jnp.maximum(0.0, (step - warmup) / float(steps_per_cycle))
  return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(jnp.pi * (progress % 1.0))))


_FACTORS = {
    'constant': _constant,
    'linear_warmup': _linear_warmup,
    'linear_decay': _linear_decay,
    'rsqrt_decay': _rsqrt_decay,
    'rsqrt_normalized_decay': _rsqrt_normalized_decay,
    'decay_every': _decay_every,
    'cosine_decay': _cosine_decay,
}


def create_learning_rate_scheduler(
    factors: str = 'constant * linear_warmup * rsqrt_decay',
    base_learning_rate: float = 0.5,
    warmup_steps: int = 1000,
    decay_factor: float = 0.5,
    steps_per_decay: int = 20000,
    steps_per_cycle: int = 100000,
    step_offset: int = 0,
    min_learning_rate: float = 1e-8,
) -> Schedule:
  """-> step -> learning rate, the product of `factors`; the formulas are T5X's.

  `linear_decay` holds the warm-up and the base rate already: it is used alone. Steps count
  from 0, so that a warm-up's first rate is `min_learning_rate`.
  """
  names = [name.strip() for name in factors.split('*')]
  for name in names:
    if name not in _FACTORS:
      raise errors.UserError(f'unknown factor {name!r} of a learning rate', where=factors,
                             hint=errors.nearest(name, _FACTORS))
  if warmup_steps < 1 and set(names) - {'constant', 'decay_every', 'cosine_decay'}:
    raise errors.UserError('warmup_steps must be at least 1 for these factors', where=factors,
                           got=warmup_steps)

  def schedule(step):
    step = jnp.maximum(0, step - step_offset)
    rate = 1.0
    for name in names:
      rate = rate * _FACTORS[name](
          step=step, base=base_learning_rate, warmup=warmup_steps, decay_factor=decay_factor,
          steps_per_decay=steps_per_decay, steps_per_cycle=steps_per_cycle)
    return jnp.asarray(jnp.maximum(rate, min_learning_rate), jnp.float32)

  return schedule


def warmup_stable_decay(
    base_learning_rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    decay_steps: int = 0,
    final_fraction: float = 0.0,
) -> Schedule:
  """-> step -> learning rate: a linear rise, a constant, a linear fall (Hu et al. 2024).

  The schedule of MiniCPM (arXiv 2404.06395, section 4), with a linear decay; optax joins it.

  Args:
    base_learning_rate: the rate in between.
    total_steps: the step at which the fall ends.
    warmup_steps: steps of the rise, from 0.
    decay_steps: steps of the fall.
    final_fraction: of the base rate, where the fall ends.
  """
  if total_steps < warmup_steps + decay_steps:
    raise errors.UserError(
        'a schedule is longer than the run', where='warmup_stable_decay',
        got=f'{warmup_steps} steps of warm-up and {decay_steps} of decay',
        expected=f'{total_steps} in all')
  start = total_steps - decay_steps
  return optax.join_schedules(
      [optax.linear_schedule(0.0, base_learning_rate, max(1, warmup_steps)),
       optax.constant_schedule(base_learning_rate),
       optax.linear_schedule(base_learning_rate, base_learning_rate * final_fraction,
                             max(1, decay_steps))],
      [warmup_steps, start])


def _as_schedule(learning_rate: float | Schedule) -> Schedule:
  if callable(learning_rate):
    return learning_rate
  return lambda step: jnp.asarray(learning_rate, jnp.float32)


def adafactor(
    learning_rate: float | Schedule,
    *,
    factored: bool = True,
    multiply_by_parameter_scale: bool = True,
    beta1: float | None = None,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    clipping_threshold: float | None = 1.0,
    weight_decay_rate: float | None = None,
    min_dim_size_to_factor: int = 128,
    epsilon1: float = 1e-30,
    epsilon2: float = 1e-3,
    global_norm_clip_threshold: float | None = None,
) -> Optimizer:
  """Adafactor (Shazeer and Stern 2018), with T5X's arguments, defaults and numbers.

  It is put together from optax's parts; `optax.adafactor` itself has other arguments.
  Second moments of a matrix are kept by rows and columns when both sides are at least
  `min_dim_size_to_factor`. Updates are clipped to a root mean square of
  `clipping_threshold`, then scaled by that of their parameter, at least `epsilon2`.
  """
  schedule = _as_schedule(learning_rate)
  parts = []
  if global_norm_clip_threshold is not None:
    parts.append(optax.clip_by_global_norm(global_norm_clip_threshold))
  parts.append(optax.scale_by_factored_rms(
      factored, decay_rate, step_offset, min_dim_size_to_factor, epsilon1))
  if clipping_threshold is not None:
    parts.append(optax.clip_by_block_rms(clipping_threshold))
  parts.append(optax.scale_by_schedule(schedule))
  if multiply_by_parameter_scale:
    parts.append(optax.scale_by_param_block_rms(epsilon2))
  if beta1 is not None:
    parts.append(optax.ema(beta1, debias=False))
  if weight_decay_rate is not None:
    parts.append(optax.add_decayed_weights(weight_decay_rate))
  chain = optax.chain(*parts, optax.scale(-1.0))
  return Optimizer(chain.init, chain.update, schedule)


def adamw(
    learning_rate: float | Schedule,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay_rate: float = 0.0,
    global_norm_clip_threshold: float | None = None,
) -> Optimizer:
  """AdamW (Loshchilov and Hutter 2019) through optax; the decay is scaled by the rate."""
  schedule = _as_schedule(learning_rate)
  chain = optax.adamw(schedule, beta1, beta2, epsilon, weight_decay=weight_decay_rate)
  if global_norm_clip_threshold is not None:
    chain = optax.chain(optax.clip_by_global_norm(global_norm_clip_threshold), chain)
  return Optimizer(chain.init, chain.update, schedule)
