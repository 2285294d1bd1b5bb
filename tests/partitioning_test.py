"""Tests of meshes and shardings; those of several devices run in a process of their own."""

import json
import pathlib

import forked
import jax
import numpy as np
import pytest
import toy_training
from jax.sharding import AxisType

from flanjax import errors, partitioning

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def on_eight_devices(tmp_path_factory):
  folder = tmp_path_factory.mktemp('meshes')
  result = forked.run([ROOT / 'tests' / 'mesh_program.py', folder], env=forked.devices(8))
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


def test_every_mesh_gives_the_losses_and_parameters_of_one_device(on_eight_devices):
  expected = on_eight_devices['expected']
  assert len(expected) == 3 and expected[0] != expected[2]
  assert len(on_eight_devices['results']) == 5
  for name, (losses, difference) in on_eight_devices['results'].items():
    np.testing.assert_allclose(losses, expected, rtol=1e-6, err_msg=name)
    assert difference < 2e-6, name


def test_a_run_goes_on_on_another_mesh(on_eight_devices):
  assert len(on_eight_devices['resumed']) == 3
  assert on_eight_devices['resumed difference'] < 2e-6


def test_parameters_are_cut_along_fsdp_and_model_and_factored_moments_copied(on_eight_devices):
  assert on_eight_devices['layout'] == {
      'wi_0': ['fsdp', 'model'], 'norm': [None], 'v_row': [],
      'embedding': ['model', 'fsdp'], 'shard': [8, 8]}


def test_mesh_axes_are_automatic():
  mesh = partitioning.make_mesh()
  assert mesh.axis_names == ('data', 'fsdp', 'model')
  assert mesh.axis_types == (AxisType.Auto,) * 3


def test_a_mesh_of_other_than_all_devices_is_refused():
  for data, fsdp, model in ((2, 1, len(jax.devices())), (0, 1, 1), (-1, 1, -2), (-1, 3, 1)):
    with pytest.raises(errors.UserError, match='mesh'):
      partitioning.make_mesh(data, fsdp, model)


def test_every_logical_axis_of_the_model_has_a_rule():
  mesh, model = partitioning.make_mesh(devices=jax.devices()[:1]), toy_training.toy_model()
  shardings = partitioning.param_shardings(mesh, model.logical_axes(), model.param_shapes())
  assert (jax.tree.structure(shardings) == jax.tree.structure(model.param_shapes()))
  with pytest.raises(errors.UserError, match="'embde'.*\n.*\n.*did you mean embed"):
    partitioning.param_shardings(mesh, {'kernel': ('embde', 'mlp')})


def test_a_parameter_that_the_mesh_does_not_divide_is_named():
  mesh = partitioning.make_mesh(1, 1, 3, devices=3)
  model = toy_training.toy_model()
  with pytest.raises(errors.UserError, match='decoder/.*kernel'):
    partitioning.param_shardings(mesh, model.logical_axes(), model.param_shapes())


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
  mesh = partitioning.make_mesh(2, 2, devices=4)
  partitioning.check_batch(mesh, 16, num_microbatches=2)
  with pytest.raises(errors.UserError, match='a multiple of 8'):
    partitioning.check_batch(mesh, 12, num_microbatches=2)
