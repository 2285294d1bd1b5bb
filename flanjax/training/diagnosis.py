"""Where a number that is not finite came from: the first layer, tensor or gradient that has one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
      yield jax.tree_util.keystr(path, simple=True, separator='/'), leaf


def _counts(x: jax.Array) -> tuple[int, int]:
  return jnp.sum(jnp.isnan(x)), jnp.sum(jnp.isinf(x))


def _said(kind: str, name: str, shape: tuple[int, ...], nans: int, infs: int) -> str:
  return (f'{kind} {name}, shape {tuple(shape)}: {int(nans):,} nan, {int(infs):,} infinite of '
          f'{int(np.prod(shape)):,}')


def _first_of(kind: str, tree: Any) -> str | None:
  for name, leaf in _named(tree):
    nans, infs = _counts(leaf)
    if nans or infs:
      return _said(kind, name, leaf.shape, nans, infs)
  return None


class _Outputs:
  """The outputs of all modules of one run of a model, in order."""

  def __init__(self):
    self.names: list[str] = []
    self._bad: dict[int, str] = {}
    self._order = itertools.count()

  def __call__(self, next_fn, args, kwargs, context):
    output = next_fn(*args, **kwargs)
    name = '/'.join(context.module.path) or type(context.module).__name__
    if context.method_name != '__call__':
      name += f'.{context.method_name}'
    for leaf in jax.tree.leaves(output):
      if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact):
        index = next(self._order)
        self.names.append(name)
        jax.debug.callback(functools.partial(self._note, index, name, leaf.shape), *_counts(leaf))
    return output

  def _note(self, index: int, name: str, shape: tuple[int, ...], nans: Any, infs: Any) -> None:
    if nans or infs:
      self._bad.setdefault(index, _said('the output of', name, shape, nans, infs))

  @property
  def first(self) -> str | None:
    return self._bad[min(self._bad)] if self._bad else None


def _last_in_forward_order(grads: Any, names: list[str]) -> str | None:
  """Of the gradients that are not finite that of the layer nearest to the loss."""
  def position(name: str) -> int:
    return max((i for i, module in enumerate(names) if name.startswith(f'{module}/')), default=-1)

  bad = []
  for name, leaf in _named(grads):
    nans, infs = _counts(leaf)
    if nans or infs:
      bad.append((position(name), _said('the gradient of', name, leaf.shape, nans, infs)))
  if not bad:
    return None
  return f'{max(bad)[1]} ({len(bad)} gradients are not finite; this is the first going backwards)'


def blame(
    model: Any, params: Any, batch: Mapping[str, jax.Array], rng: jax.Array,
    num_microbatches: int = 1,
) -> str:
  """-> the first tensor that is not finite in a step, in words.

  Looks at the parameters, the batch, the output of every module in the order of the forward
  pass, the loss, and the gradients in the order of the backward pass.

  Args:
    model: has `loss_fn(params, batch, rng)`, made of Linen modules.
    params: the parameters before the step.
    batch: the step's batch.
    rng: the key of the step.
    num_microbatches: as in the step.
  """
  model = getattr(model, 'unrolled', model)
  found = _first_of('the parameter', params) or _first_of('of the batch', dict(batch))
  if found:
    return found
  for index in range(num_microbatches):
    part, key = batch, rng
    if num_microbatches > 1:
      part = {name: x[index::num_microbatches] for name, x in batch.items()}
      key = jax.random.fold_in(rng, index)
    found = _blame_one(model, params, part, key)
    if found:
      return found
  return 'nothing: each part of the step is finite when it is looked at alone'


def _blame_one(model: Any, params: Any, batch: Mapping[str, Any], rng: jax.Array) -> str | None:
  outputs = _Outputs()
  with nn.intercept_methods(outputs):
    loss, _ = jax.jit(lambda p, b, r: model.loss_fn(p, b, r))(params, batch, rng)
  jax.block_until_ready(loss)
  jax.effects_barrier()
  if outputs.first:
    return outputs.first
  if not np.isfinite(loss):
    return f'the loss itself, {float(loss)}: the outputs of all layers are finite'
  grads = jax.jit(jax.grad(lambda p, b, r: model.loss_fn(p, b, r)[0]))(params, batch, rng)
  return _last_in_forward_order(grads, outputs.names)
