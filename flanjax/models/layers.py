"""Layers of T5: projections, RMS norm, attention, feed-forward, relative positions.

The mathematics is in module-level functions of plain arrays, the modules only hold
parameters. Names and shapes of parameters are those of T5X's `examples/t5`, kernels of
attention being matrices `[embed, joined_kv]`. Logical axes: batch length embed heads kv
joined_kv mlp vocab relpos_buckets.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

MASKED = -1e10
RELPOS_BUCKETS = 32
RELPOS_MAX_DISTANCE = 128

_variance_scaling = nn.initializers.variance_scaling
dense_init = _variance_scaling(1.0, 'fan_in', 'truncated_normal')
attention_init = _variance_scaling(1.0, 'fan_in', 'normal')
embedding_init = nn.initializers.normal(stddev=1.0)
relpos_init = _variance_scaling(1.0, 'fan_avg', 'uniform')

constrain = nn.with_logical_constraint


def query_init(head_dim: int) -> Callable[..., jax.Array]:
  """T5 leaves out the 1/sqrt(d) of attention and starts the query smaller by it instead."""
  return lambda *args: attention_init(*args) / np.sqrt(head_dim)


def rms_norm(x: jax.Array, scale: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """x / rms(x) * scale over the last axis, the statistics in float32; T5 has no mean, no bias.

  Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", epsilon as in T5.
  """
  x = x.astype(jnp.float32)
  inverse_rms = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
  return (x * inverse_rms).astype(dtype) * scale.astype(dtype)


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    keep: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
  """Softmax attention without scaling of the logits, which are float32 in any dtype.

  Args:
    query: [batch, q_length, heads, kv].
    key: [batch, k_length, heads, kv].
    value: [batch, k_length, heads, kv].
    bias: float32, broadcastable to [batch, heads, q_length, k_length], added to the logits.
    keep: dropout of the attention weights, or None.

  Returns:
    [batch, q_length, heads, kv].
  """
  logits = jnp.einsum('bqhd,bkhd->bhqk', query, key, preferred_element_type=jnp.float32)
  weights = jax.nn.softmax(logits + bias).astype(value.dtype)
  if keep is not None:
    weights = keep(weights)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value)


def mask_to_bias(allowed: jax.Array) -> jax.Array:
  """[batch, q_length, k_length] booleans -> additive [batch, 1, q_length, k_length]."""
  return jnp.where(allowed, 0.0, MASKED).astype(jnp.float32)[:, None]


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


class Dense(nn.Module):
  """A matrix product over the last axis, without bias; parameter `kernel`, float32."""

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  kernel_init: Callable[..., jax.Array] = dense_init

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(self.kernel_init, self.axes)
    kernel = self.param('kernel', init, (x.shape[-1], self.features), jnp.float32)
    return x.astype(self.dtype) @ kernel.astype(self.dtype)


class RMSNorm(nn.Module):
  """`rms_norm` with its parameter `scale`."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(nn.initializers.ones, ('embed',))
    scale = self.param('scale', init, (x.shape[-1],), jnp.float32)
    return rms_norm(x, scale, self.dtype)


class Embed(nn.Module):
  """Token embeddings, looked up by a gather; parameter `embedding` [vocab, embed]."""

  vocab_size: int
  features: int
  dtype: jnp.dtype

  def setup(self):
    init = nn.with_logical_partitioning(embedding_init, ('vocab', 'embed'))
    self.embedding = self.param('embedding', init, (self.vocab_size, self.features), jnp.float32)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    x = jnp.take(self.embedding, tokens, axis=0, mode='clip').astype(self.dtype)
    return constrain(x, ('batch', 'length', 'embed'))

  def attend(self, x: jax.Array) -> jax.Array:
    """Logits of the tied head, [..., vocab], float32."""
    return x.astype(jnp.float32) @ self.embedding.T


class RelativePositionBias(nn.Module):
  """One learned number per head and bucket of distance, shared by all layers of a stack."""

  num_heads: int
  bidirectional: bool

  def setup(self):
    init = nn.with_logical_partitioning(relpos_init, ('heads', 'relpos_buckets'))
    shape = (self.num_heads, RELPOS_BUCKETS)
    self.rel_embedding = self.param('rel_embedding', init, shape, jnp.float32)

  def _buckets(self, length: int) -> np.ndarray:
    positions = np.arange(length)
    return relative_position_bucket(positions[None, :] - positions[:, None], self.bidirectional)

  def __call__(self, length: int) -> jax.Array:
    """-> float32 [1, heads, length, length]."""
    return self.rel_embedding[:, self._buckets(length)][None]

  def row(self, index: jax.Array, length: int) -> jax.Array:
    """-> float32 [1, heads, 1, length], for the query at position `index`."""
    return self.rel_embedding[:, jnp.asarray(self._buckets(length))[index]][None, :, None]


class Attention(nn.Module):
  """Multi-head attention in three moves, so that a cache can stand between them."""

  num_heads: int
  head_dim: int
  features: int
  dtype: jnp.dtype
  dropout_rate: float = 0.0

  def setup(self):
    project = functools.partial(
        Dense, self.num_heads * self.head_dim, ('embed', 'joined_kv'), self.dtype)
    self.query = project(kernel_init=query_init(self.head_dim))
    self.key = project(kernel_init=attention_init)
    self.value = project(kernel_init=attention_init)
    self.out = Dense(self.features, ('joined_kv', 'embed'), self.dtype, attention_init)
    # One draw for all query positions, as T5 does.
    self.dropout = nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))

  def _split_heads(self, x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
    return constrain(x, ('batch', 'length', 'heads', 'kv'))

  def keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[batch, k_length, embed] -> two of [batch, k_length, heads, kv]."""
    return self._split_heads(self.key(x)), self._split_heads(self.value(x))

  def attend(
      self, x: jax.Array, keys_values: tuple[jax.Array, jax.Array], bias: jax.Array,
      deterministic: bool = True,
  ) -> jax.Array:
    """[batch, q_length, embed] -> the same shape, having looked at `keys_values`."""
    keep = None
    if not deterministic and self.dropout_rate > 0:
      keep = functools.partial(self.dropout, deterministic=False)
    y = dot_product_attention(self._split_heads(self.query(x)), *keys_values, bias, keep)
    return self.out(y.reshape(*x.shape[:-1], self.num_heads * self.head_dim))

  def __call__(
      self, x: jax.Array, context: jax.Array, bias: jax.Array, deterministic: bool = True
  ) -> jax.Array:
    return self.attend(x, self.keys_values(context), bias, deterministic)


class MLP(nn.Module):
  """Feed-forward: the product of activated projections, projected back (Shazeer 2020, GLU)."""

  mlp_dim: int
  features: int
  activations: Sequence[str]
  dtype: jnp.dtype
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
    branches = []
    for i, name in enumerate(self.activations):
      wi = 'wi' if len(self.activations) == 1 else f'wi_{i}'
      branch = Dense(self.mlp_dim, ('embed', 'mlp'), self.dtype, name=wi)(x)
      branches.append(branch if name == 'linear' else getattr(nn, name)(branch))
    hidden = functools.reduce(operator.mul, branches)
    hidden = nn.Dropout(self.dropout_rate, broadcast_dims=(-2,))(
        hidden, deterministic=deterministic)
    hidden = constrain(hidden, ('batch', 'length', 'mlp'))
    return Dense(self.features, ('mlp', 'embed'), self.dtype, name='wo')(hidden)
