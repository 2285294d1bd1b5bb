"""Token losses, as sums: the step divides by the number of weighted tokens at the end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


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
) -> tuple[jax.Array, dict[str, jax.Array]]:
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

  Returns:
    The scalar loss, and the sums cross_ent_loss, z_loss, weight_sum, correct. A target tied
    for the largest logit counts as correct.
  """
  logits = logits.astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  target_logit = _target_logit(logits, targets)
  losses = log_z - target_logit
  if label_smoothing:
    vocab = logits.shape[-1]
    low = label_smoothing / (vocab - 1)
    confidence = 1.0 - label_smoothing
    floor = -(confidence * np.log(confidence) + (vocab - 1) * low * np.log(low + 1e-20))
    all_classes = vocab * log_z - jnp.sum(logits, axis=-1)
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
