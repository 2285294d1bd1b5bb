"""Layers of T5: projections, RMS norm, attention, feed-forward, relative positions.

The mathematics is in module-level functions of plain arrays, the modules only hold
parameters. Names and shapes of parameters are those of T5X's `examples/t5`, kernels of
attention being matrices `[embed, joined_kv]`. Logical axes: batch length embed heads kv
joined_kv mlp vocab relpos_buckets lora_rank.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flanjax.models import attention, linear
from flanjax.models import lora as lora_lib

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


def draw_kept(
    key: jax.Array | None, rate: float, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, jax.Array | None]:
  """-> for each shape what dropout keeps, booleans; None without a key or with a rate of 0."""
  if key is None or rate == 0:
    return dict.fromkeys(shapes)
  # One flat draw for all of them: each takes a CPU's compiler half a second, with more dimensions two.
  ends = np.cumsum([math.prod(shape) for shape in shapes.values()]).tolist()
  kept = jax.random.bits(key, (ends[-1],), 'uint32') >= np.uint32(rate * 2**32)
  return {name: kept[first:end].reshape(shape)
          for (name, shape), first, end in zip(shapes.items(), [0, *ends], ends)}


def dropout(x: jax.Array, kept: jax.Array | None, rate: float) -> jax.Array:
  """x where it is `kept`, scaled up by what is lost on average, and 0 elsewhere; None: x."""
  return x if kept is None else jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def split_key(key: jax.Array | None, n: int) -> Sequence[jax.Array | None]:
  """-> n keys, of None n times None."""
  return [None] * n if key is None else jax.random.split(key, n)


def lora_keys(
    lora: lora_lib.Lora | None, key: jax.Array | None, which: int, n: int
) -> Sequence[jax.Array | None]:
  """-> n keys for LoRA's dropout, derived from a layer's; None where there is none."""
  drops = key is not None and lora is not None and lora.dropout > 0
  return split_key(jax.random.fold_in(key, which) if drops else None, n)


class Dense(nn.Module):
  """A matrix product over the last axis, without bias; parameter `kernel`, float32.

  Computed in `dtype`; the result is of `out_dtype`, in which products are summed.

  Where `lora` adapts it, there are `lora_a` and `lora_b` too; given a tree without them, it is
  the plain product.
  """

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  kernel_init: Callable[..., jax.Array] = dense_init
  lora: lora_lib.Lora | None = None
  out_dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """[..., in] -> [..., out]; `key` is of the dropout of LoRA."""
    init = nn.with_logical_partitioning(self.kernel_init, self.axes)
    kernel = self.param('kernel', init, (x.shape[-1], self.features), jnp.float32)
    x = x.astype(self.dtype)
    y = linear.project(x, kernel, self.out_dtype)
    return y + self._low_rank(x, key).astype(y.dtype) if self._adapted() else y

  def _adapted(self) -> bool:
    if self.lora is None or self.has_variable('params', 'lora_a'):
      return self.lora is not None
    return self.is_initializing() and self.lora.adapts('/'.join(self.path))

  def _low_rank(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
    rank = self.lora.rank
    init = nn.with_logical_partitioning
    a = self.param('lora_a', init(lora_lib.a_init, (self.axes[0], 'lora_rank')),
                   (x.shape[-1], rank), jnp.float32)
    b = self.param('lora_b', init(lora_lib.b_init, ('lora_rank', self.axes[1])),
                   (rank, self.features), jnp.float32)
    kept = draw_kept(key, self.lora.dropout, {'x': x.shape})['x']
    x = dropout(x, kept, self.lora.dropout)
    return lora_lib.low_rank(x, a, b, self.lora.scale)


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
    # Gathered whole before the look-up: rows cut along `embed` would have to be moved after it.
    table = constrain(self.embedding, ('vocab', 'embed'))
    x = jnp.take(table, tokens, axis=0, mode='clip').astype(self.dtype)
    return constrain(x, ('batch', 'length', 'embed'))

  def attend(self, x: jax.Array) -> jax.Array:
    """Logits of the tied head, [..., vocab], float32."""
    return linear.project(x.astype(self.dtype), self.embedding.T, jnp.float32)


class RelativePositionBias(nn.Module):
  """One learned number per head and bucket of distance, shared by all layers of a stack."""

  num_heads: int
  bidirectional: bool
  prompt_length: int = 0

  def setup(self):
    init = nn.with_logical_partitioning(relpos_init, ('heads', 'relpos_buckets'))
    shape = (self.num_heads, attention.RELPOS_BUCKETS)
    self.rel_embedding = self.param('rel_embedding', init, shape, jnp.float32)

  def _buckets(self, length: int) -> np.ndarray:
    positions = attention.relative_positions(length, self.prompt_length)
    return attention.relative_position_bucket(positions, self.bidirectional)

  def __call__(self, length: int) -> jax.Array:
    """-> float32 [1, heads, length, length]."""
    return self.rel_embedding[:, self._buckets(length)][None]


class Attention(nn.Module):
  """Multi-head attention in three moves, so that a cache can stand between them."""

  num_heads: int
  head_dim: int
  features: int
  dtype: jnp.dtype
  dropout_rate: float = 0.0
  lora: lora_lib.Lora | None = None
  implementation: str = 'plain'

  def setup(self):
    project = functools.partial(
        Dense, self.num_heads * self.head_dim, ('embed', 'joined_kv'), self.dtype,
        lora=self.lora)
    self.query = project(kernel_init=query_init(self.head_dim))
    self.key = project(kernel_init=attention_init)
    self.value = project(kernel_init=attention_init)
    self.out = Dense(self.features, ('joined_kv', 'embed'), self.dtype, attention_init, self.lora)

  def _split_heads(self, x: jax.Array) -> jax.Array:
    x = x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
    return constrain(x, ('batch', 'length', 'heads', 'kv'))

  def keys_values(
      self, x: jax.Array, key: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """[batch, k_length, embed] -> two of [batch, k_length, heads, kv]."""
    keys = self._lora_keys(key, 1)
    return self._split_heads(self.key(x, keys[0])), self._split_heads(self.value(x, keys[1]))

  def attend(
      self, x: jax.Array, keys_values: tuple[jax.Array, jax.Array], bias: jax.Array | None,
      allowed: jax.Array, kept: jax.Array | None = None, key: jax.Array | None = None,
  ) -> jax.Array:
    """[batch, q_length, embed] -> the same shape, having looked at `keys_values`.

    Args:
      x: what asks.
      keys_values: of `keys_values`.
      bias: as in `attention.dot_product_attention`.
      allowed: the same.
      kept: [batch, heads, 1, k_length], which weights dropout keeps; one draw serves all queries.
      key: of LoRA's dropout.
    """
    keys = self._lora_keys(key, 2)
    query = self._split_heads(self.query(x, keys[0]))
    if self.implementation == 'plain':
      keep = None if kept is None else kept.astype(jnp.float32) / (1 - self.dropout_rate)
      y = attention.dot_product_attention(query, *keys_values, bias, allowed, keep)
    else:
      y = attention.library_attention(query, *keys_values, bias, allowed, self.implementation)
    return self.out(y.reshape(*x.shape[:-1], self.num_heads * self.head_dim), keys[1])

  def _lora_keys(self, key: jax.Array | None, which: int) -> Sequence[jax.Array | None]:
    return lora_keys(self.lora, key, which, 2)


class MLP(nn.Module):
  """Feed-forward: the product of activated projections, projected back (Shazeer 2020, GLU)."""

  mlp_dim: int
  features: int
  activations: Sequence[str]
  dtype: jnp.dtype
  dropout_rate: float = 0.0
  lora: lora_lib.Lora | None = None

  @nn.compact
  def __call__(
      self, x: jax.Array, kept: jax.Array | None = None, key: jax.Array | None = None
  ) -> jax.Array:
    keys = lora_keys(self.lora, key, 1, len(self.activations) + 1)
    branches = []
    for i, name in enumerate(self.activations):
      wi = 'wi' if len(self.activations) == 1 else f'wi_{i}'
      dense = Dense(self.mlp_dim, ('embed', 'mlp'), self.dtype, lora=self.lora, name=wi)
      branch = dense(x, keys[i])
      branches.append(branch if name == 'linear' else getattr(nn, name)(branch))
    hidden = dropout(functools.reduce(operator.mul, branches), kept, self.dropout_rate)
    hidden = constrain(hidden, ('batch', 'length', 'mlp'))
    out = Dense(self.features, ('mlp', 'embed'), self.dtype, lora=self.lora, name='wo')
    return out(hidden, keys[-1])
