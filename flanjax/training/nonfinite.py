"""What becomes of a step whose loss or gradient is not finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanjax import errors
from flanjax.training.state import TrainState

ACTIONS = ('stop', 'skip')


class NotFinite(errors.UserError):
  """A step's loss or gradient is not finite."""


@dataclasses.dataclass(frozen=True)
class NonFinite:
  """What to do about a step whose loss, gradient or new state is not finite.

  Args:
    action: 'stop' ends the run; 'skip' leaves parameters and optimizer as they were, counts the
      step as done, and the metric `skipped_updates` up.
    most_in_a_row: how many updates in a row may be skipped before the run is stopped after all.
    debug: stops at the first, and names the layer and tensor that it came from. Costs a copy of
      the state, and the overlap of one step with the next.
  """

  action: str = 'stop'
  most_in_a_row: int = 10
  debug: bool = False

  def __post_init__(self):
    if self.action not in ACTIONS:
      raise errors.UserError(f'action has no choice {self.action!r}', where='NonFinite',
                             hint=errors.nearest(str(self.action), ACTIONS))
    number = self.most_in_a_row
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
      raise errors.UserError('most_in_a_row must be a whole number of at least 1',
                             where='NonFinite', got=repr(number))
    if not isinstance(self.debug, bool):
      raise errors.UserError('debug must be True or False', where='NonFinite',
                             got=repr(self.debug))

  @property
  def skips(self) -> bool:
    """Whether the step itself has to keep the old state."""
    return self.action == 'skip' and not self.debug


def _all_finite(tree: Any) -> jax.Array:
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def keep_finite(
    old: TrainState, new: TrainState, metrics: Mapping[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
  """-> `new`, or `old` with the step of `new`, and metrics with `skipped_updates`: 0 or 1."""
  finite = _all_finite((metrics['loss'], metrics['gradient_norm'], new.params, new.opt_state))
  choose = lambda a, b: jax.tree.map(lambda x, y: jnp.where(finite, x, y), a, b)
  state = new._replace(params=choose(new.params, old.params),
                       opt_state=choose(new.opt_state, old.opt_state))
  return state, {**metrics, 'skipped_updates': 1.0 - finite.astype(jnp.float32)}


_all_finite_jit = jax.jit(_all_finite)


def check_state(state: TrainState) -> None:
  """NotFinite when a parameter or moment is not finite, naming the first: such is not saved."""
  if bool(_all_finite_jit((state.params, state.opt_state))):
    return
  for part in ('params', 'opt_state'):
    for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, part)):
      if leaf.is_fully_addressable and not np.isfinite(np.asarray(leaf, np.float32)).all():
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        raise NotFinite(f'the state after step {int(state.step)} is not finite',
                        where=f'{part}: {name}', expected='finite numbers')
  raise NotFinite(f'the state after step {int(state.step)} is not finite')


class Streak:
  """Counts updates skipped in a row."""

  def __init__(self, settings: NonFinite):
    self._most = settings.most_in_a_row
    self._in_a_row = 0

  def take(self, skipped: bool) -> bool:
    """Takes a step; -> whether more were skipped in a row than may be."""
    self._in_a_row = self._in_a_row + 1 if skipped else 0
    return self._in_a_row > self._most

  def __str__(self) -> str:
    return f', nor in the {self._in_a_row - 1} before it' if self._in_a_row > 1 else ''


def culprit(values: Mapping[str, float]) -> tuple[str, float] | None:
  """-> what of a step's metrics is not finite, in words, and its value; None where all is."""
  for name, what in (('loss', 'loss'), ('gradient_norm', 'gradient')):
    if not math.isfinite(values[name]):
      return what, values[name]
  return None
