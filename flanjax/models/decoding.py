"""Caches of decoding: what a decoder remembers of the tokens that it has made.

A cache is a ring of columns. All rows write the same column at a step, wherever each of them
stands in its own text; `column - c`, modulo the length, is how long ago column c was written, and
a row sees what was written since its own first token. Relative positions are such distances, so
that rows of any age share one bias and one write.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Context(NamedTuple):
  """What the encoder made of the inputs, for every layer of the decoder.

  Attributes:
    layers: keys and values of each layer, [prompts, heads, length, kv].
    valid: bool [prompts, length]: which columns are inputs.
  """

  layers: list[tuple[jax.Array, jax.Array]]
  valid: jax.Array


Cache = list[tuple[jax.Array, jax.Array]]


def write(
    cache: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array], column: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`cache`, two of [rows, heads, length, kv], with [rows, heads, 1, kv] at a column."""
  put = lambda old, x: jax.lax.dynamic_update_slice_in_dim(
      old, x.astype(old.dtype), column, axis=2)
  return put(cache[0], new[0]), put(cache[1], new[1])


def ages(column: jax.Array, length: int) -> jax.Array:
  """int32 [length]: how many steps ago each column was written, `column` being the newest.

  >>> ages(1, 4).tolist()
  [1, 0, 3, 2]
  """
  return (column - jnp.arange(length, dtype=jnp.int32)) % length


def resize(cache: Cache, column: jax.Array, length: int) -> Cache:
  """The ring with another number of columns; `column` is the newest, before and after modulo.

  What does not fit any more, the oldest, is lost; new columns hold anything.
  """
  old = cache[0][0].shape[2]
  places = (column - ages(column % length, length)) % old
  return jax.tree.map(lambda x: jnp.take(x, places, axis=2), cache)


def constrain(tree: Any) -> Any:
  """A cache or a context, laid out on the mesh as models lay theirs."""
  axes = {2: ('batch', 'length'), 4: ('batch', 'heads', 'length', 'kv')}
  return jax.tree.map(lambda x: nn.with_logical_constraint(x, axes[x.ndim]), tree)


def pad_context(context: Context, length: int) -> Context:
  """`context` with its columns made or cut to `length`; those cut must hold no inputs."""
  def fit(x: Any, axis: int) -> jax.Array:
    if x.shape[axis] >= length:
      return jax.lax.slice_in_dim(x, 0, length, axis=axis)
    widths = [(0, length - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths)

  return Context([tuple(fit(x, 2) for x in layer) for layer in context.layers],
                 fit(context.valid, 1))
