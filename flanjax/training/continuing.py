"""Going on with the optimizer of another run, of ours or of T5X."""

from __future__ import annotations

import os

import jax
import numpy as np

from flanjax import errors, partitioning
from flanjax.input import remote
from flanjax.interop import hf, native, opt_state, t5x
from flanjax.training.restoring import by_name
from flanjax.training.state import TrainState


def told(step: int, loss_normalizing_factor: float | str | None) -> str:
  """What to say to a user whose run goes on so.

  Second moments are those of gradients as they were: of the loss per token here, of its sum in
  T5X. With the other division they are wrong by the tokens of a batch squared, and for long.
  """
  return (f'Going on at step {step:,} with the optimizer of INITIAL_CHECKPOINT_PATH. '
          f'LOSS_NORMALIZING_FACTOR must be what it was there; it is {loss_normalizing_factor!r} '
          "(T5X's default is None).")


def continued(state: TrainState, path: str | os.PathLike[str] | None) -> TrainState:
  """-> `state` at the step, and with the optimizer's state, that belong to initial parameters.

  Args:
    state: on the mesh, before its first step.
    path: of the parameters: a run's folder, one of its checkpoints, a folder converted from one,
      or a checkpoint of T5X.

  Raises:
    UserError: there is no such state, the optimizer is not Adafactor, or one with other
      arguments; or the run trains a part of the parameters.
  """
  if path is None:
    raise errors.UserError('there is no optimizer to go on with', where=opt_state.WHERE,
                           expected='INITIAL_CHECKPOINT_PATH')
  if state.frozen:
    raise errors.UserError('an optimizer of all parameters cannot go on with a part of them',
                           where=opt_state.WHERE, expected='TRAINABLE = None, and no adapters')
  path = remote.resolved(path)
  if path.is_dir() and t5x.is_folder(path):
    weights = t5x.open_path(path, with_state=True)
  elif path.is_dir() and hf.is_folder(path):
    weights = None
  else:
    weights = native.open_path(path, with_state=True)
  if weights is None or not weights.opt_state:
    raise errors.UserError('there is no state of Adafactor', where=str(path),
                           expected='a run, a checkpoint of T5X, or what was converted from one',
                           hint=f'{opt_state.WHERE} = False begins it anew')
  step = int(weights.info['step'])
  template = by_name(state.opt_state)
  values = opt_state.fitted(weights.opt_state, template, step)
  leaves = [partitioning.put(values[name], leaf.sharding) for name, leaf in template.items()]
  return state._replace(
      step=jax.device_put(np.int32(step), state.step.sharding),
      opt_state=jax.tree.unflatten(jax.tree.structure(state.opt_state), leaves))
