"""Adafactor's state out of a run of ours, by `t5x_state`'s names, and into another run."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.interop import stores, t5x_state
from flanjax.interop import tensors as tensors_lib
from flanjax.interop.t5x_state import State

# A slot of `optimizers.adafactor`, an optax chain; the places depend on its arguments.
_SLOT = re.compile(r'\d+/(v_row|v_col|v|ema)/(.+)')
_COUNT = re.compile(r'(\d+/)*count')
WHERE = 'Restoring.optimizer_state'


def _slot(name: str) -> tuple[str, str] | None:
  """(slot, parameter) of a leaf of the optimizer's state.

  >>> _slot('0/v_row/encoder/layers_0/mlp/wo/kernel')
  ('v_row', 'encoder/layers_0/mlp/wo/kernel')
  """
  match = _SLOT.fullmatch(name)
  return match and ('m' if match[1] == 'ema' else match[1], match[2])


def of_run(checkpoint: pathlib.Path) -> State:
  """The state that a run of ours saved, still on disk; {} when it is not Adafactor's."""
  state: State = {}
  for name, tensor in stores.open_orbax(checkpoint / 'opt_state').items():
    slot = _slot(name)
    if slot is None and not _COUNT.fullmatch(name):
      return {}
    if slot and tensor.shape != t5x_state.UNUSED:
      state['/'.join(slot)] = tensor
  return state


def fitted(state: State, template: Mapping[str, Any], step: int) -> dict[str, np.ndarray]:
  """-> the leaves of an optimizer's state, by name: those of `state`, counting from `step`.

  What is kept whole is averaged where the new optimizer keeps rows and columns, which is what it
  would have kept.

  Args:
    state: by `t5x_state`'s names.
    template: name -> array or shape of each leaf.
    step: the step of the state.

  Raises:
    UserError: the optimizer is not Adafactor, or keeps its state in another way.
  """
  made: dict[str, np.ndarray] = {}
  for name, leaf in template.items():
    slot = _slot(name)
    if _COUNT.fullmatch(name):
      made[name] = np.int32(step)
    elif slot is None:
      raise UserError('The state of the optimizer is for Adafactor.', where=WHERE, got=name)
    elif tuple(leaf.shape) == t5x_state.UNUSED:
      made[name] = np.zeros(t5x_state.UNUSED, np.float32)
    else:
      made[name] = _value(state, *slot, tuple(leaf.shape))
  momentum = any(key.startswith('m/') for key in state)
  if momentum and not any((_slot(name) or '')[:1] == ('m',) for name in template):
    raise UserError('The state of the optimizer has momentum, and the optimizer has none.',
                    where=WHERE, hint='set optimizers.adafactor.beta1')
  return made


def _value(state: State, slot: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
  found = state.get(f'{slot}/{name}')
  whole = state.get(f'v/{name}')
  if found is None and whole is not None and slot in t5x_state.FACTORS:
    side = t5x_state.sides(whole.shape)[t5x_state.FACTORS.index(slot)]
    value = tensors_lib.to_array(whole).mean(axis=1 - side)
  elif found is not None:
    value = tensors_lib.to_array(found)
  else:
    held = [s for s in t5x_state.SLOTS if f'{s}/{name}' in state]
    raise UserError(
        f'The state of the optimizer has no {slot} of {name}.', where=WHERE,
        got=', '.join(held) or 'nothing of it',
        hint='optimizers.adafactor must have the beta1, factored and min_dim_size_to_factor with '
             'which it was made')
  if value.shape != shape:
    raise UserError(f'{slot} of {name} has another shape.', where=WHERE, got=value.shape,
                    expected=shape)
  return value
