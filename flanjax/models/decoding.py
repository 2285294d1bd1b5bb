"""Greedy decoding with cached keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class LayerCache(NamedTuple):
  """What one decoder layer remembers; all of [batch, length, heads, kv].

  `key` and `value` are of the positions written so far, `context_*` of the encoder's
  output, computed once.
  """

  key: jax.Array
  value: jax.Array
  context_key: jax.Array
  context_value: jax.Array


def empty_cache(context: tuple[jax.Array, jax.Array], max_length: int) -> LayerCache:
  """A cache with room for `max_length` positions beside the encoder's keys and values."""
  batch, _, heads, kv = context[0].shape
  zeros = jnp.zeros((batch, max_length, heads, kv), context[0].dtype)
  return LayerCache(zeros, zeros, *context)


def write_cache(
    cache: LayerCache, new: tuple[jax.Array, jax.Array], index: jax.Array
) -> LayerCache:
  """`cache` with one position's key and value, [batch, 1, heads, kv], written at `index`."""
  write = lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, index, axis=1)
  return cache._replace(key=write(cache.key, new[0]), value=write(cache.value, new[1]))


def greedy(
    step: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]],
    caches: Any,
    batch_size: int,
    max_decode_steps: int,
    eos_id: int = 1,
) -> jax.Array:
  """Takes the likeliest token again and again, until every row has ended or room is out.

  Args:
    step: (previous tokens [batch], position, caches) -> (logits [batch, vocab], caches).
    caches: what `step` carries along.
    batch_size: rows.
    max_decode_steps: columns of the result.
    eos_id: the token that ends a row.

  Returns:
    int32 [batch, max_decode_steps]; a row's end token is kept, zeros follow it.
  """

  def unfinished(carry):
    index, _, ended, _, _ = carry
    return (index < max_decode_steps) & ~jnp.all(ended)

  def body(carry):
    index, tokens, ended, output, caches = carry
    logits, caches = step(tokens, index, caches)
    # 0 is padding, which no target holds.
    best = jnp.argmax(logits.at[:, 0].set(-jnp.inf), axis=-1).astype(jnp.int32)
    best = jnp.where(ended, 0, best)
    output = jax.lax.dynamic_update_slice_in_dim(output, best[:, None], index, axis=1)
    return index + 1, best, ended | (best == eos_id), output, caches

  start = (
      jnp.int32(0), jnp.zeros(batch_size, jnp.int32), jnp.zeros(batch_size, bool),
      jnp.zeros((batch_size, max_decode_steps), jnp.int32), caches)
  return jax.lax.while_loop(unfinished, body, start)[3]
