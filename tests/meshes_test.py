"""Tests of the choice of a mesh, as a table."""

import math
import types

import numpy as np
import pytest

from flanjax import errors, meshes, partitioning
from flanjax.meshes import Need, choose_shape

GB = 10**9
LARGE = Need(state=10 * GB, activations=20 * GB, model_activations=180 * GB, memory=80 * GB,
             rows=128, model_divisor=64)
XXL = Need(state=90 * GB, activations=200 * GB, memory=32 * GB, rows=128, model_divisor=64)


@pytest.mark.parametrize('need, devices, per_host, expected', [
    (LARGE, 1, None, (1, 1, 1)),
    (LARGE, 8, None, (8, 1, 1)),              # It fits: copies.
    (XXL, 8, None, (1, 8, 1)),                # Cut over all of a host, and still too large.
    (XXL, 16, 8, (2, 8, 1)),                  # 90 / 8 + 200 / 16 is below 29.4, 90 / 4 is not.
    (XXL, 64, 8, (16, 4, 1)),
    (Need(state=900 * GB, memory=32 * GB, model_divisor=64), 64, 8, (2, 8, 4)),
    (Need(state=900 * GB, memory=32 * GB, model_divisor=6), 64, 8, (4, 8, 2)),
    (Need(state=GB, memory=80 * GB, rows=8, model_divisor=8), 16, 8, (8, 1, 2)),
    (Need(state=900 * GB), 8, None, (8, 1, 1)),   # Memory is not known.
    (Need(state=900 * GB, rows=12, model_divisor=4), 8, None, (4, 1, 2)),
])
def test_the_least_cut_mesh_that_fits_is_chosen(need, devices, per_host, expected):
  chosen = choose_shape(need, devices, per_host)
  assert math.prod(chosen) == devices
  assert chosen == expected, (chosen, need.per_device(chosen) / GB)


def test_sizes_that_are_given_are_kept():
  assert choose_shape(Need(state=90 * GB, memory=32 * GB), 8, fsdp=2) == (2, 2, 2)
  assert choose_shape(LARGE, 8, model=4) == (2, 1, 4)
  assert choose_shape(LARGE, 8, fsdp=4, model=2) == (1, 4, 2)


def test_a_mesh_is_made_of_what_is_chosen():
  mesh = partitioning.make_mesh(fsdp=None, model=None, devices=16, need=XXL, per_host=8)
  assert tuple(mesh.shape.values()) == choose_shape(XXL, 16, 8)
  assert tuple(partitioning.make_mesh(fsdp=None, model=None, devices=16).shape.values()) == (
      16, 1, 1)


def test_sizes_that_do_not_come_to_the_devices_are_refused():
  with pytest.raises(errors.UserError, match='data=3 x fsdp=2 x model=1\n.*8 devices'):
    partitioning.make_mesh(3, 2, devices=8)


def _devices(slices, each):
  return [types.SimpleNamespace(id=i, process_index=i // 4, slice_index=i // each, platform='gpu',
                                device_kind='a device', coords=None)
          for i in range(slices * each)]


@pytest.mark.parametrize('shape', [(4, 2, 1), (2, 1, 4), (1, 8, 1), (1, 4, 2)])
def test_only_data_and_then_fsdp_cross_slices(shape):
  laid = meshes.arrange(shape, _devices(2, 4))
  slice_of = np.vectorize(lambda d: d.slice_index)(laid)
  assert laid.shape == shape and len({d.id for d in laid.flat}) == 8
  assert (slice_of == slice_of[:, :, :1]).all()  # `model` stays within one.
  if shape[0] > 1:
    assert (slice_of == slice_of[:, :1, :1]).all()
