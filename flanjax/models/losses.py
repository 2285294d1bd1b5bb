"""Token losses, as sums: the step divides by the number of weighted tokens at the end."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Sums = tuple[jax.Array, dict[str, jax.Array]]


def _target_logit(logits: jax.Array, targets: jax.Array) -> jax.Array:
  return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def token_log_likelihood(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """log p(target) of every token: [batch, length, vocab], [batch, length] -> [batch, length]."""
  logits = logits.astype(jnp.float32)
  return _target_logit(logits, targets) - jax.nn.logsumexp(logits, axis=-1)


def cross_entropy(
    logits: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    num_classes: int | None = None,
) -> Sums:
  """Weighted sum over tokens of cross-entropy + z_loss * log(Z)^2.

  Smoothed targets put 1 - label_smoothing on the target and share the rest among the other
  classes; the smallest value that this can reach is subtracted, as in T5X, so that a perfect
  model costs 0. log(Z)^2 keeps logits near normalised (Mesh TensorFlow; Chowdhery et al.
  2022, section 5).

  Args:
    logits: [batch, length, vocab].
    targets: int32 [batch, length].
    weights: float32 [batch, length]; 0 leaves a token out.
    z_loss: coefficient of log(Z)^2.
    label_smoothing: probability given to the classes that are not the target.
    num_classes: the classes that there are; those behind them are masked. None: all.

  Returns:
    The scalar loss, and the sums cross_ent_loss, z_loss, weight_sum, correct. A target tied
    for the largest logit counts as correct.
  """
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  target_logit = _target_logit(logits, targets)
  losses = log_z - target_logit
  if label_smoothing:
    vocab = num_classes or logits.shape[-1]
    low = label_smoothing / (vocab - 1)
    confidence = 1.0 - label_smoothing
    floor = -(confidence * np.log(confidence) + (vocab - 1) * low * np.log(low + 1e-20))
    all_classes = vocab * log_z - jnp.sum(logits[..., :vocab], axis=-1)
    losses = (confidence - low) * losses + low * all_classes - floor
  cross_ent_sum = jnp.sum(losses * weights)
  z_sum = z_loss * jnp.sum(jnp.square(log_z) * weights)
  correct = target_logit >= jnp.max(logits, axis=-1)
  return cross_ent_sum + z_sum, {
      'cross_ent_loss': cross_ent_sum,
      'z_loss': z_sum,
      'weight_sum': jnp.sum(weights),
      'correct': jnp.sum(correct * weights),
  }


def in_chunks(
    loss: Callable[[jax.Array, jax.Array, jax.Array], Sums], chunk: int, hidden: jax.Array,
    targets: jax.Array, weights: jax.Array,
) -> Sums:
  """What `loss` gives of all positions, as the sum over `chunk` positions of every row at a time.

  The backward pass computes a chunk again, so that one chunk's logits are in memory at once.

  Args:
    loss: (hidden, targets, weights) of a chunk -> a scalar and sums.
    chunk: positions of a row.
    hidden: [batch, length, embed].
    targets: int32 [batch, length].
    weights: float32 [batch, length].
  """
  count = -(-targets.shape[1] // chunk)

  def cut(x):
    room = [(0, 0), (0, count * chunk - x.shape[1])] + [(0, 0)] * (x.ndim - 2)
    x = jnp.pad(x, room)
    return jnp.moveaxis(x.reshape(x.shape[0], count, chunk, *x.shape[2:]), 1, 0)

  def add(total, part):
    return jax.tree.map(jnp.add, total, jax.checkpoint(loss)(*part)), None

  parts = tuple(cut(x) for x in (hidden, targets, weights))
  shapes = jax.eval_shape(loss, *(x[0] for x in parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, zeros, parts)[0]
