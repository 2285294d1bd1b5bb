"""Adafactor's state in T5X's checkpoints, and by our names.

Ours are `<slot>/<parameter>`: `v_row` and `v_col` where second moments are kept by rows and
columns, `v` where they are kept whole, `m` the momentum. T5X's `t5` has the same arrays. Its
`scalable_t5` keeps those of a stack of layers in one, with `v_row` always along `embed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from flanjax.errors import UserError
from flanjax.interop import layout, t5x_names
from flanjax.interop import tensors as tensors_lib
from flanjax.interop.t5x_names import LAYER_AXIS
from flanjax.interop.tensors import Tensor
from flanjax.models.t5 import T5Config

FACTORS = ('v_row', 'v_col')
SLOTS = (*FACTORS, 'v', 'm')
# What stands in T5X's checkpoints for a slot that is not used.
UNUSED = (1,)
# T5X's rule for what it does not stack: matrices are factored whose sides are all this long.
_FACTORED_FROM = 128
WITHOUT = '--params_only leaves it out'

# Opens an array: the whole, or one layer of it.
Opener = Callable[[int | None], Tensor]
Shape = tuple[int, ...]
State = dict[str, Tensor]


def sides(shape: Shape) -> tuple[int, int]:
  """-> the axes of a matrix along which `v_row` and `v_col` run: the shorter one first.

  >>> sides((512, 384))
  (1, 0)
  """
  row, column = np.argsort(shape)
  return int(row), int(column)


def shape_of(slot: str, shape: Shape) -> Shape:
  """The shape of a slot of a parameter of that shape."""
  return (shape[sides(shape)[FACTORS.index(slot)]],) if slot in FACTORS else tuple(shape)


def check(state: Mapping[str, Tensor], shapes: Mapping[str, Shape], where: str) -> None:
  """UserError unless each parameter has second moments, and all of them momentum or none."""
  needed = {}
  momentum = any(name.startswith('m/') for name in state)
  for name, shape in shapes.items():
    factored = len(shape) == 2 and any(f'{slot}/{name}' in state for slot in FACTORS)
    slots = (*(FACTORS if factored else ('v',)), *(('m',) if momentum else ()))
    needed |= {f'{slot}/{name}': shape_of(slot, shape) for slot in slots}
  if state:
    layout.check({name: tensor.shape for name, tensor in state.items()}, needed,
                 f'{where}: state of the optimizer', WITHOUT)


def read(openers: Mapping[str, Opener], cfg: T5Config, scanned: bool, where: str) -> State:
  """The state of a checkpoint, by our names; {} where it has none.

  Args:
    openers: `<parameter>/<slot>`, by T5X's names, -> what opens the array.
    cfg: the model.
    scanned: whether layers are stacked.
    where: the checkpoint, for errors.

  Raises:
    UserError: it is of another optimizer than Adafactor, or of another model.
  """
  shapes = t5x_names.shapes(cfg, scanned)
  used: dict[str, dict[str, Opener]] = {}
  for name, opener in openers.items():
    parameter, _, slot = name.rpartition('/')
    if parameter not in shapes or slot not in SLOTS:
      raise UserError("The optimizer's state is not that of Adafactor for this model.",
                      where=where, got=name, expected=f'parameters with {", ".join(SLOTS)}',
                      hint=WITHOUT)
    found = opener(None).shape
    if found != UNUSED:
      _check_shape(slot, parameter, shapes[parameter], found, where)
      used.setdefault(parameter, {})[slot] = opener
  state: State = {}
  for name, shape in layout.shapes(cfg).items():
    stacked = t5x_names.stacked_name(name) if scanned else None
    if stacked:
      found = _layer(used.get(stacked[0], {}), stacked[0], len(shapes[stacked[0]]), stacked[1],
                     shape)
    else:
      found = {slot: opener(None) for slot, opener in used.get(name, {}).items()}
    state |= {f'{slot}/{name}': tensors_lib.cast(tensor, np.float32)
              for slot, tensor in found.items()}
  check(state, layout.shapes(cfg), where)
  return state


def _check_shape(slot: str, parameter: str, shape: Shape, found: Shape, where: str) -> None:
  if slot not in FACTORS:
    expected = tuple(shape)
  elif t5x_names.is_stacked(parameter):
    expected = tuple(shape[axis] for axis in _axes(slot, parameter, len(shape)))
  else:
    expected = shape_of(slot, shape) if len(shape) == 2 else UNUSED
  if found != expected:
    raise UserError(f'{slot} of {parameter} has another shape.', where=where, got=found,
                    expected=expected, hint=WITHOUT)


def _side(slot: str, stacked: str) -> int:
  """The side of a layer's matrix along which a factor of its stack runs."""
  return int(t5x_names.ends_in_embed(stacked) == (slot == 'v_row'))


def _axes(slot: str, stacked: str, rank: int) -> tuple[int, ...]:
  """The axes that a factor of a stack has left: the layers, and those of its side."""
  embed = rank - 1 if t5x_names.ends_in_embed(stacked) else 0
  return tuple(axis for axis in range(rank)
               if axis == LAYER_AXIS or (axis == embed) == (slot == 'v_row'))


def _layer(
    openers: Mapping[str, Opener], stacked: str, rank: int, layer: int, shape: Shape
) -> dict[str, Tensor]:
  """The slots of one layer, of those of its stack."""
  found = {slot: tensors_lib.reshaped(opener(layer), shape)
           for slot, opener in openers.items() if slot not in FACTORS}
  for slot in set(openers) & set(FACTORS):
    whole = tensors_lib.to_array(openers[slot](None))
    part = np.take(whole, layer, _axes(slot, stacked, rank).index(LAYER_AXIS)).reshape(-1)
    own = FACTORS[sides(shape).index(_side(slot, stacked))]
    found[own] = tensors_lib.from_array(part)
  return found


def fresh(cfg: T5Config) -> State:
  """The state before step 0, by our names: Adafactor then forgets it at once."""
  made: State = {}
  for name, shape in layout.shapes(cfg).items():
    factored = len(shape) == 2 and min(shape) >= _FACTORED_FROM
    for slot in FACTORS if factored else ('v',):
      zeros = np.zeros(shape_of(slot, shape), np.float32)
      made[f'{slot}/{name}'] = tensors_lib.from_array(zeros)
  return made


def write(state: Mapping[str, Tensor], cfg: T5Config, scanned: bool) -> dict[str, Tensor]:
  """`<parameter>/<slot>`, by T5X's names, with all slots of every parameter; {} without state.

  Raises:
    UserError: T5X's network of this kind cannot keep it so.
  """
  if not state:
    return {}
  unused = tensors_lib.from_array(np.zeros(UNUSED, np.float32))
  ours = layout.shapes(cfg)
  kernels = {name: shape for name, shape in ours.items() if len(shape) == 2}
  whole = {name for name in kernels if f'v/{name}' in state}
  factors = not any(min(kernels[name]) >= _FACTORED_FROM for name in whole)
  if not scanned:
    _check_rule(kernels, whole)
  made: dict[str, Tensor] = {}
  for name, shape in t5x_names.shapes(cfg, scanned).items():
    if t5x_names.is_stacked(name):
      slots = _slots_of_stack(state, name, shape, factors and name.endswith('/kernel'), ours)
    else:
      slots = {slot: state[f'{slot}/{name}'] for slot in SLOTS if f'{slot}/{name}' in state}
    made |= {f'{name}/{slot}': slots.get(slot, unused) for slot in SLOTS}
  return made


def _check_rule(kernels: Mapping[str, Shape], whole: set[str]) -> None:
  """UserError unless the matrices factored are those with sides from some length on."""
  factored = [min(shape) for name, shape in kernels.items() if name not in whole]
  kept = [min(shape) for name, shape in kernels.items() if name in whole]
  if factored and kept and max(kept) >= min(factored):
    raise UserError(
        "T5X's t5 factors second moments from one length of sides on.",
        where='state of the optimizer', got=f'of {min(factored)} factored, of {max(kept)} whole',
        hint=f'write for its scalable_t5: --scanned; or {WITHOUT}')


def _slots_of_stack(
    state: Mapping[str, Tensor], name: str, shape: Shape, factored: bool,
    ours: Mapping[str, Shape],
) -> dict[str, Tensor]:
  """The slots of a stacked parameter, of those of its layers."""
  made = {}
  for slot in FACTORS if factored else ('v',):
    if not factored:
      made[slot] = stacked({n: state[f'v/{n}'] for n in ours if f'v/{n}' in state}, name, shape)
      continue
    axes = _axes(slot, name, len(shape))
    size = tuple(shape[axis] for axis in axes if axis != LAYER_AXIS)
    means = [_means(state, layer, ours[layer], _side(slot, name)).reshape(size)
             for layer in t5x_names.layers(name, shape[LAYER_AXIS])]
    made[slot] = tensors_lib.from_array(np.stack(means, axes.index(LAYER_AXIS)))
  if any(n.startswith('m/') for n in state):
    made['m'] = stacked({n: state[f'm/{n}'] for n in ours}, name, shape)
  return made


def _means(state: Mapping[str, Tensor], name: str, shape: Shape, side: int) -> np.ndarray:
  """Second moments along a side of a matrix: a factor, or the means of what is kept whole."""
  if f'v/{name}' in state:
    return tensors_lib.to_array(state[f'v/{name}']).mean(axis=1 - side)
  return tensors_lib.to_array(state[f'{FACTORS[sides(shape).index(side)]}/{name}'])


def stacked(tensors: Mapping[str, Tensor], name: str, shape: Shape) -> Tensor:
  """What T5X stacks, of tensors by our names; a block is a layer.

  A table of relative positions that layers share is said again for each.
  """
  part = (shape[0], 1, *shape[LAYER_AXIS + 1:])

  def read() -> tensors_lib.Blocks:
    for i, layer in enumerate(t5x_names.layers(name, shape[LAYER_AXIS])):
      own = tensors.get(layer) or tensors[t5x_names.shared(name)]
      index = (slice(0, shape[0]), slice(i, i + 1), *(slice(0, n) for n in shape[2:]))
      yield index, tensors_lib.to_array(own).reshape(part)

  return Tensor(shape, np.dtype(np.float32), read, name)
