"""Softmax attention as T5 has it: masks, relative positions, and the product itself.

Pure functions of plain arrays. Logical axes: batch length heads kv.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

MASKED = -1e10
RELPOS_BUCKETS = 32
RELPOS_MAX_DISTANCE = 128
IMPLEMENTATIONS = ('plain', 'xla', 'cudnn')


@jax.custom_vjp
def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    allowed: jax.Array | None = None,
    keep: jax.Array | None = None,
) -> jax.Array:
  """Softmax attention without scaling of the logits, which are float32 in any dtype.

  Args:
    query: [batch, q_length, heads, kv].
    key: [batch, k_length, heads, kv].
    value: [batch, k_length, heads, kv].
    bias: float32 [1, heads, q_length, k_length], added to the logits of every row.
    allowed: booleans, broadcastable to [batch, q_length, k_length]: who may see whom.
    keep: [batch, heads, 1, k_length], what weights are multiplied by: dropout.

  Returns:
    [batch, q_length, heads, kv]. A query that may see nothing gets the mean of all values.
  """
  return _forward(query, key, value, bias, allowed, keep)[0]


def _heads_first(x: jax.Array) -> jax.Array:
  return jnp.swapaxes(x, 1, 2)


def _forward(query, key, value, bias, allowed, keep):
  query, key, value = map(_heads_first, (query, key, value))
  logits = jnp.einsum('bhqd,bhkd->bhqk', query, key, preferred_element_type=jnp.float32)
  if bias is not None:
    logits = logits + bias
  if allowed is not None:
    logits = jnp.where(allowed[:, None], logits, MASKED)
  weights = jax.nn.softmax(logits).astype(value.dtype)
  kept = weights if keep is None else weights * keep.astype(weights.dtype)
  result = _heads_first(jnp.einsum('bhqk,bhkd->bhqd', kept, value))
  has_bias = None if bias is None else ()
  return result, (query, key, value, weights, result, has_bias, keep)


def _backward(saved, gradient):
  """As in FlashAttention (Dao et al. 2022, appendix B.2); weights are kept, not computed again."""
  query, key, value, weights, result, has_bias, keep = saved
  inner = jnp.sum((gradient * result).astype(jnp.float32), axis=-1)
  gradient = _heads_first(gradient)
  kept = weights if keep is None else weights * keep.astype(weights.dtype)
  d_value = jnp.einsum('bhqk,bhqd->bhkd', kept, gradient)
  d_weights = jnp.einsum('bhqd,bhkd->bhqk', gradient, value, preferred_element_type=jnp.float32)
  if keep is not None:
    d_weights = d_weights * keep
  d_logits = weights * (d_weights - _heads_first(inner)[..., None])
  # As a product: sums over rows of the batch are slow on a CPU.
  d_bias = None
  if has_bias is not None:
    d_bias = jnp.einsum('b,bhqk->hqk', jnp.ones(d_logits.shape[0]), d_logits)[None]
  d_logits = d_logits.astype(query.dtype)
  d_query = jnp.einsum('bhqk,bhkd->bhqd', d_logits, key)
  d_key = jnp.einsum('bhqk,bhqd->bhkd', d_logits, query)
  return (*map(_heads_first, (d_query, d_key, d_value)), d_bias, None, None)


dot_product_attention.defvjp(_forward, _backward)


def library_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None,
    allowed: jax.Array | None, implementation: str,
) -> jax.Array:
  """The same through jax.nn: 'cudnn' are flash kernels of NVIDIA's, 'xla' works anywhere."""
  mask = None if allowed is None else allowed[:, None]
  if bias is not None:
    bias = bias.astype(query.dtype)
  return jax.nn.dot_product_attention(
      query, key, value, bias=bias, mask=mask, scale=1.0, implementation=implementation)


def attention_mask(
    query_valid: jax.Array,
    key_valid: jax.Array,
    query_segments: jax.Array | None = None,
    key_segments: jax.Array | None = None,
) -> jax.Array:
  """Who may see whom: both real, and of one segment where both sides are packed.

  >>> attention_mask(jnp.array([[1, 1]]) > 0, jnp.array([[1, 1, 0]]) > 0,
  ...                jnp.array([[1, 2]]), jnp.array([[1, 2, 0]])).astype(int).tolist()
  [[[1, 0, 0], [0, 1, 0]]]
  """
  mask = query_valid[:, :, None] & key_valid[:, None, :]
  if query_segments is not None and key_segments is not None:
    mask &= query_segments[:, :, None] == key_segments[:, None, :]
  return mask


def relative_positions(length: int, prompt: int = 0) -> np.ndarray:
  """Key minus query, [length, length]; every later query is right after the `prompt` first keys.

  >>> relative_positions(4, 2).tolist()
  [[0, 1, 2, 3], [-1, 0, 1, 2], [-2, -1, 0, 1], [-2, -1, -1, 0]]
  """
  keys, queries = np.arange(length)[None, :], np.arange(length)[:, None]
  return keys - np.where(keys < prompt, np.minimum(queries, prompt), queries)


def relative_position_bucket(
    relative_position: np.ndarray, bidirectional: bool,
    num_buckets: int = RELPOS_BUCKETS, max_distance: int = RELPOS_MAX_DISTANCE,
) -> np.ndarray:
  """Bucket of (key position - query position).

  Half of the buckets are one per distance, the other half grow logarithmically up to
  `max_distance`; Raffel et al. 2020, section 2.1. When `bidirectional`, one half of all
  is for keys after the query; otherwise these fall into bucket 0.

  >>> relative_position_bucket(np.array([-200, -8, -1, 0, 1, 8, 200]), True).tolist()
  [15, 8, 1, 0, 17, 24, 31]
  """
  bucket, distance = np.zeros_like(relative_position), -relative_position
  if bidirectional:
    num_buckets //= 2
    bucket = (distance < 0) * num_buckets
    distance = np.abs(distance)
  else:
    distance = np.maximum(distance, 0)
  exact = num_buckets // 2
  # float32, as in T5X: some distances lie on a border of two buckets.
  ratio = distance.astype(np.float32) / exact + np.finfo(np.float32).eps
  logarithmic = exact + (
      np.log(ratio) / np.log(max_distance / exact) * (num_buckets - exact)).astype(np.int32)
  logarithmic = np.minimum(logarithmic, num_buckets - 1)
  return bucket + np.where(distance < exact, distance, logarithmic)
