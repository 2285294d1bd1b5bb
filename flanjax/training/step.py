"""One step of training, a pure function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flanjax import errors
from flanjax.training import nonfinite
from flanjax.training.state import TrainState, merge

# T5X's name for what is the default here.
PER_TOKEN = 'NUM_REAL_TARGET_TOKENS'

Metrics = dict[str, jax.Array]
Batch = Mapping[str, jax.Array]


def _sum_over_microbatches(
    grad_fn: Callable[..., Any], params: Any, batch: Batch, rng: jax.Array, num_microbatches: int
) -> tuple[Metrics, Any]:
  """Sums of metrics and of gradients of the summed loss, one microbatch at a time.

  Rows are dealt out in turn, so that a batch sharded over devices stays where it is.
  """
  def split(x):
    rows = x.shape[0] // num_microbatches
    return jnp.swapaxes(x.reshape(rows, num_microbatches, *x.shape[1:]), 0, 1)

  def add(total, microbatch_and_index):
    microbatch, index = microbatch_and_index
    new = grad_fn(params, microbatch, jax.random.fold_in(rng, index))
    return jax.tree.map(jnp.add, total, new), None

  microbatches = jax.tree.map(split, dict(batch))
  first = jax.eval_shape(grad_fn, params, jax.tree.map(lambda x: x[0], microbatches), rng)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
  total, _ = jax.lax.scan(add, zeros, (microbatches, jnp.arange(num_microbatches)))
  return total


def _norm(tree: Any) -> jax.Array:
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Any,
    optimizer: optax.GradientTransformation,
    rng: jax.Array,
    num_microbatches: int = 1,
    skip_non_finite: bool = False,
    loss_normalizing_factor: float | str | None = PER_TOKEN,
) -> tuple[TrainState, Metrics]:
  """state, batch -> next state, metrics.

  The gradient is that of the loss summed over the whole batch, divided once by the batch's
  sum of loss weights: the same for any number of microbatches, however ragged the targets.

  Args:
    state: where training stands.
    batch: arrays [batch, length] under SeqIO's feature names.
    model: has `loss_fn(params, batch, rng)`.
    optimizer: an optax transformation.
    rng: the run's key; dropout of step t is drawn from (rng, t).
    num_microbatches: parts that the batch is cut into to save memory.
    skip_non_finite: whether to keep the old state where the new one is not finite.
    loss_normalizing_factor: divides the gradient instead of that sum; None: nothing does.

  Returns:
    Metrics are sums (loss, cross_ent_loss, z_loss, weight_sum, correct), and gradient_norm.
  """
  def loss_fn(params, batch, rng):
    return model.loss_fn(merge(params, state.frozen), batch, rng)

  def grad_fn(params, batch, rng):
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch, rng)
    return {'loss': loss, **metrics}, grads

  rng = jax.random.fold_in(rng, state.step)
  if num_microbatches == 1:
    metrics, grads = grad_fn(state.params, batch, rng)
  else:
    metrics, grads = _sum_over_microbatches(grad_fn, state.params, batch, rng, num_microbatches)
  divisor = jnp.maximum(metrics['weight_sum'], 1.0)
  if loss_normalizing_factor != PER_TOKEN:
    divisor = 1.0 if loss_normalizing_factor is None else loss_normalizing_factor
  grads = jax.tree.map(lambda g: g / divisor, grads)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics['gradient_norm'] = _norm(grads)
  new = TrainState(state.step + 1, params, opt_state, state.frozen)
  return nonfinite.keep_finite(state, new, metrics) if skip_non_finite else (new, metrics)


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int = 0,
    num_microbatches: int = 1,
    skip_non_finite: bool = False,
    loss_normalizing_factor: float | str | None = PER_TOKEN,
    **jit_arguments: Any,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """-> `train_step` of (state, batch), jitted, its state donated."""
  if num_microbatches < 1:
    raise errors.UserError('num_microbatches must be at least 1', got=num_microbatches)
  rng = jax.random.key(seed)
  step = functools.partial(
      train_step, model=model, optimizer=optimizer, rng=rng, num_microbatches=num_microbatches,
      skip_non_finite=skip_non_finite, loss_normalizing_factor=loss_normalizing_factor)
  return jax.jit(step, donate_argnums=0, **jit_arguments)
