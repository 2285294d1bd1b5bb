"""Which mesh: how many devices for copies of the data, for cutting parameters, for the model.

Pure functions of numbers, so that `flanjax train --dry_run` gives for any machine the answer
that the machine itself would.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils

from flanjax import errors

AXES = ('data', 'fsdp', 'model')
# Of a device's memory; the rest goes to fragments, collectives and the runtime.
USABLE = 0.92

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Need:
  """What a run needs, in bytes, before anything is cut.

  Attributes:
    state: parameters, optimizer state and gradients; cut by `fsdp` and `model`.
    activations: of the rows that are in memory at once; cut by `data` and `fsdp`.
    model_activations: those that `model` cuts too.
    memory: of one device; None where it is not known.
    rows: that are dealt over `data` and `fsdp`: the rows of a microbatch.
    model_divisor: what `model` must divide.
  """

  state: int
  activations: int = 0
  model_activations: int = 0
  memory: int | None = None
  rows: int | None = None
  model_divisor: int | None = None

  def per_device(self, shape: Shape) -> float:
    """Bytes on each device of a mesh."""
    data, fsdp, model = shape
    activations = self.activations + self.model_activations / model
    return self.state / (fsdp * model) + activations / (data * fsdp)


def _divisors(n: int) -> list[int]:
  return [k for k in range(1, n + 1) if n % k == 0]


def _candidates(devices: int, per_host: int) -> Iterator[Shape]:
  """Shapes from the least cut to the most: first `fsdp`, up to a host's devices, then `model`."""
  for model in _divisors(devices):
    for fsdp in _divisors(math.gcd(devices // model, per_host)):
      yield devices // (fsdp * model), fsdp, model


def choose_shape(
    need: Need, devices: int, per_host: int | None = None,
    fsdp: int | None = None, model: int | None = None,
) -> Shape:
  """-> (data, fsdp, model): the least cut mesh on which a run fits.

  Copies of everything are fastest where they fit. Else parameters are cut over `fsdp` among the
  devices of one host, and at last by `model` too. A batch of fewer rows than devices is a
  reason for `model` as well. Where nothing fits, the mesh that needs the least memory.

  >>> choose_shape(Need(state=50, memory=80), 8)
  (8, 1, 1)
  >>> choose_shape(Need(state=300, memory=80), 16, per_host=8)
  (2, 8, 1)
  >>> choose_shape(Need(state=800, memory=80), 16, per_host=8)
  (1, 8, 2)

  Args:
    need: what the run needs.
    devices: how many there are.
    per_host: how many of them a host has; None: all.
    fsdp: a size that is given, not chosen.
    model: the same.
  """
  shapes = list(_candidates(devices, per_host or devices))
  if fsdp is not None or model is not None:
    shapes = [(devices // (f * m), f, m) for f in ([fsdp] if fsdp else _divisors(devices))
              for m in ([model] if model else _divisors(devices)) if devices % (f * m) == 0]
  possible = [s for s in shapes if _allowed(need, s)] or shapes[:1]
  if not possible:
    return devices, fsdp or 1, model or 1
  if need.memory is None:
    return possible[0]
  fitting = [s for s in possible if need.per_device(s) <= USABLE * need.memory]
  return fitting[0] if fitting else min(possible, key=need.per_device)


def _allowed(need: Need, shape: Shape) -> bool:
  data, fsdp, model = shape
  rows_dealt = need.rows is None or need.rows % (data * fsdp) == 0
  return rows_dealt and (need.model_divisor or model) % model == 0


def filled(data: int, fsdp: int, model: int, devices: int) -> Shape:
  """The sizes with -1 filled in.

  Raises:
    UserError: they do not come to `devices`.
  """
  got = f'data={data} x fsdp={fsdp} x model={model}'
  if min(fsdp, model) < 1 or data == 0 or data < -1:
    raise errors.UserError('a mesh axis needs at least one device', where='make_mesh', got=got,
                           expected='positive numbers, or data=-1 for all devices')
  if data == -1:
    data = devices // (fsdp * model)
  if data * fsdp * model != devices:
    raise errors.UserError('the mesh does not use the devices that there are', where='make_mesh',
                           got=got, expected=f'{devices} devices in all')
  return data, fsdp, model


def arrange(shape: Shape, devices: Sequence[Any]) -> np.ndarray:
  """Devices as an array of `shape`, neighbours near each other.

  Where devices are in slices with a slower network between them, `data` crosses slices, then
  `fsdp`; `model` lies within one.
  """
  slices = len({getattr(d, 'slice_index', None) for d in devices})
  between = math.gcd(slices, shape[0])
  between_fsdp = math.gcd(slices // between, shape[1])
  if slices > 1 and between * between_fsdp == slices:
    outer = (between, between_fsdp, 1)
    inner = tuple(n // k for n, k in zip(shape, outer))
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices)
  return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
