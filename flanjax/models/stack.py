"""A stack of like layers: one after the other, or as one scanned layer; what is kept for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

# What the backward pass finds kept; the rest it computes again.
REMAT_POLICIES = {
    'none': None,
    'minimal': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    'full': jax.checkpoint_policies.nothing_saveable,
}


def run(
    parent: nn.Module,
    blocks: Sequence[nn.Module],
    x: jax.Array,
    drops: Any,
    arguments: tuple[Any, ...],
    *,
    scan: bool,
    remat: str,
) -> jax.Array:
  """x through `blocks` one after the other, block i being `blocks[i](x, *arguments, drop)`.

  With `scan` a layer is traced and compiled once: parameters, which keep a tree of their own for
  each layer, are stacked for it. Where layers have different parameters, as when LoRA adapts
  some of them, they are not scanned.

  Args:
    parent: the module that holds the blocks as submodules.
    blocks: layers of one kind.
    x: [batch, length, embed].
    drops: what dropout keeps, a tree of arrays [layers, ...], of which each block gets its part.
    arguments: what all blocks are given.
    scan: whether to scan.
    remat: one of REMAT_POLICIES.
  """
  drop_of = lambda i: jax.tree.map(lambda drop: drop[i], drops)
  if parent.is_initializing() or (not scan and remat == 'none'):
    for i, block in enumerate(blocks):
      x = block(x, *arguments, drop_of(i))
    return x
  params = [parent.variables['params'][block.name] for block in blocks]
  pure = type(blocks[0])(blocks[0].config, parent=None)
  body = _body(lambda x, p, drop: pure.apply({'params': p}, x, *arguments, drop), remat)
  if scan and len({jax.tree.structure(p) for p in params}) == 1:
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    return jax.lax.scan(lambda x, part: (body(x, *part), None), x, (stacked, drops))[0]
  for i, p in enumerate(params):
    x = body(x, p, drop_of(i))
  return x


def _body(apply: Callable[..., jax.Array], remat: str) -> Callable[..., jax.Array]:
  if remat == 'none':
    return apply
  return jax.checkpoint(apply, policy=REMAT_POLICIES[remat], prevent_cse=False)
