"""Tests of meshes and shardings; those of several devices run in a process of their own."""

import json
import os
import pathlib
import subprocess
import sys

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
  environment = {
      **os.environ, 'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'xla'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0'}
  result = subprocess.run(
      [sys.executable, ROOT / 'tests' / 'mesh_program.py', folder],
      env=environment, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


def test_losses_on_meshes_are_those_on_one_device(on_eight_devices):
  expected = on_eight_devices['expected']
  assert len(expected) == 4 and expected[0] != expected[3]
  np.testing.assert_allclose(on_eight_devices['8x1'], expected, rtol=2e-6)
  np.testing.assert_allclose(on_eight_devices['4x2'], expected[:2], rtol=2e-6)


def test_a_run_goes_on_on_another_mesh(on_eight_devices):
  resumed = on_eight_devices['resumed']
  assert len(resumed) == 6 and np.isfinite(resumed).all()
  assert resumed[:4] == on_eight_devices['expected']


def test_parameters_are_cut_along_model_and_factored_moments_copied(on_eight_devices):
  assert on_eight_devices['kernel'] == [None, 'model']
  assert on_eight_devices['shards'] == 2
  assert on_eight_devices['moment'] == []


def test_mesh_axes_are_automatic():
  mesh = partitioning.make_mesh()
  assert mesh.axis_names == ('data', 'model') and mesh.axis_types == (AxisType.Auto,) * 2


def test_a_mesh_of_other_than_all_devices_is_refused():
  for data, model in ((2, len(jax.devices())), (0, 1), (-1, 0)):
    with pytest.raises(errors.UserError, match='mesh'):
      partitioning.make_mesh(data, model)


def test_every_logical_axis_of_the_model_has_a_rule():
  mesh, model = partitioning.make_mesh(devices=jax.devices()[:1]), toy_training.toy_model()
  shardings = partitioning.param_shardings(mesh, model.logical_axes(), model.param_shapes())
  assert (jax.tree.structure(shardings) == jax.tree.structure(model.param_shapes()))
  with pytest.raises(errors.UserError, match="'embde'.*\n.*\n.*did you mean embed"):
    partitioning.param_shardings(mesh, {'kernel': ('embde', 'mlp')})


def test_a_parameter_that_the_mesh_does_not_divide_is_named():
  mesh = jax.sharding.AbstractMesh((1, 3), ('data', 'model'), axis_types=(AxisType.Auto,) * 2)
  model = toy_training.toy_model()
  with pytest.raises(errors.UserError, match='decoder/.*kernel'):
    partitioning.param_shardings(mesh, model.logical_axes(), model.param_shapes())


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
  mesh = jax.sharding.AbstractMesh((4, 1), ('data', 'model'), axis_types=(AxisType.Auto,) * 2)
  partitioning.check_batch(mesh, 16, num_microbatches=2)
  with pytest.raises(errors.UserError, match='a multiple of 8'):
    partitioning.check_batch(mesh, 12, num_microbatches=2)


def test_a_process_alone_joins_no_cluster(monkeypatch):
  for name in ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  assert partitioning.initialize_distributed() is False
  with pytest.raises(errors.UsageError, match='index of this one'):
    partitioning.initialize_distributed('localhost:1234')


@pytest.mark.parametrize('variables', [
    {'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'}, {'OMPI_COMM_WORLD_SIZE': '4'},
    {'TPU_WORKER_HOSTNAMES': 'a,b'}, None])
def test_a_cluster_is_joined(monkeypatch, variables):
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args: calls.append(args))
  for name, value in (variables or {}).items():
    monkeypatch.setenv(name, value)
  explicit = () if variables else ('localhost:1234', 2, 1)
  assert partitioning.initialize_distributed(*explicit) is True
  assert calls == [explicit]
