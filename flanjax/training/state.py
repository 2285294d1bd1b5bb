"""What training carries from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def split(
    tree: Mapping[str, Any], predicate: Callable[[str], bool], prefix: str = ''
) -> tuple[dict[str, Any], dict[str, Any]]:
  """-> the part of a nested dict whose names satisfy `predicate`, and the rest.

  >>> split({'encoder': {'scale': 1, 'kernel': 2}}, lambda name: name == 'encoder/scale')
  ({'encoder': {'scale': 1}}, {'encoder': {'kernel': 2}})
  """
  parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
  for name, value in tree.items():
    if isinstance(value, Mapping):
      for part, found in zip(parts, split(value, predicate, f'{prefix}{name}/')):
        if found:
          part[name] = found
    else:
      parts[not predicate(prefix + name)][name] = value
  return parts


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
  """-> the nested dict of which `one` and `other` are the parts.

  >>> merge({'encoder': {'scale': 1}}, {'encoder': {'kernel': 2}})
  {'encoder': {'scale': 1, 'kernel': 2}}
  """
  merged = dict(one)
  for name, value in other.items():
    merged[name] = merge(one[name], value) if name in one else value
  return merged


class TrainState(NamedTuple):
  """`step`: int32 scalar, steps done. The others: trees of arrays.

  `params` are those that are trained, `frozen` the others of the model.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  frozen: Any = {}

  @classmethod
  def create(
      cls, params: Any, optimizer: optax.GradientTransformation, frozen: Any = None
  ) -> TrainState:
    """The state before the first step."""
    return cls(jnp.zeros((), jnp.int32), params, optimizer.init(params), frozen or {})

  @property
  def all_params(self) -> Any:
    """What the model's functions take: trained and frozen parameters in one tree."""
    return merge(self.params, self.frozen)
