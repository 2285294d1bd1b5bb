"""What training carries from step to step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
  """`step`: int32 scalar, steps done. `params`, `opt_state`: trees of arrays."""

  step: jax.Array
  params: Any
  opt_state: Any

  @classmethod
  def create(cls, params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return cls(jnp.zeros((), jnp.int32), params, optimizer.init(params))
