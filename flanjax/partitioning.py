"""Where arrays live: a mesh with axes `data` and `model`, and one table of rules.

Modules say what an axis of an array *is* (batch, heads, mlp, ...); AXIS_RULES says which axis
of the mesh it is cut along. The names and the default cut are T5X's (one-dimensional
parameter and activation partitioning).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flanjax import errors

AXIS_RULES = (
    ('batch', 'data'),
    ('vocab', 'model'),
    ('heads', 'model'),
    ('joined_kv', 'model'),
    ('mlp', 'model'),
    ('embed', None),
    ('kv', None),
    ('length', None),
    ('layers', None),
    ('relpos_buckets', None),
)


def initialize_distributed(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> bool:
  """Joins the processes of a cluster, if there is one; to be called before any other use of jax.

  A cluster is what the arguments say, or a TPU VM, or a SLURM or Open MPI job of several
  tasks. One process on its own is left alone.

  Returns:
    Whether `jax.distributed.initialize` was called.
  """
  if coordinator_address is not None:
    if num_processes is None or process_id is None:
      raise errors.UsageError(
          'a coordinator address needs the number of processes and the index of this one',
          got=f'process_count={num_processes}, process_index={process_id}')
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
    return True
  if not _in_cluster(os.environ):
    return False
  jax.distributed.initialize()
  return True


def _in_cluster(environ: Mapping[str, str]) -> bool:
  several = lambda name: int(environ.get(name) or 1) > 1
  if several('SLURM_NTASKS') and 'SLURM_PROCID' in environ:
    return True
  if several('OMPI_COMM_WORLD_SIZE') or 'MEGASCALE_COORDINATOR_ADDRESS' in environ:
    return True
  if ',' in environ.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  # A Cloud TPU VM says nothing in its environment; there jax asks the metadata server.
  has_tpu = any(pathlib.Path(p).exists() for p in ('/dev/accel0', '/dev/vfio/0'))
  wanted = environ.get('JAX_PLATFORMS', 'tpu').startswith('tpu')
  return wanted and has_tpu and importlib.util.find_spec('libtpu') is not None


def make_mesh(data: int = -1, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """-> a mesh of `data` x `model` devices; -1 takes as many as there are.

  Its axes are of type Auto: with explicit axes, jax's default, Linen's logical constraints
  are refused.
  """
  devices = list(jax.devices() if devices is None else devices)
  if model < 1 or data == 0 or data < -1:
    raise errors.UserError('a mesh axis needs at least one device', got=f'{data=}, {model=}',
                           expected='positive numbers, or data=-1 for all devices')
  if data == -1:
    data = len(devices) // model
  if data * model != len(devices):
    raise errors.UserError(
        'the mesh does not use the devices that there are', where='make_mesh',
        got=f'data={data} x model={model}', expected=f'{len(devices)} devices in all')
  return jax.make_mesh((data, model), ('data', 'model'),
                       axis_types=(AxisType.Auto,) * 2, devices=devices)


@contextlib.contextmanager
def activate(mesh: Mesh | None) -> Iterator[None]:
  """Within it, the constraints that modules put on activations hold; None leaves them off."""
  if mesh is None:
    yield
    return
  with jax.set_mesh(mesh), nn.logical_axis_rules(AXIS_RULES):
    yield


def _spec(axes: Sequence[str | None]) -> PartitionSpec:
  known = dict(AXIS_RULES)
  for axis in axes:
    if axis is not None and axis not in known:
      raise errors.UserError(f'no rule for the logical axis {axis!r}', where='AXIS_RULES',
                             hint=errors.nearest(axis, known))
  return nn.logical_to_mesh_axes(tuple(axes), AXIS_RULES)


def param_shardings(mesh: Mesh, logical_axes: Any, shapes: Any = None) -> Any:
  """-> the tree of `NamedSharding`s for a tree of tuples of logical axis names.

  Args:
    mesh: from `make_mesh`.
    logical_axes: `model.logical_axes()`.
    shapes: arrays or shapes in the same tree; with them, a dimension that the mesh does not
      divide is a UserError that names the parameter.
  """
  is_axes = lambda x: isinstance(x, tuple)
  shardings = jax.tree.map(lambda axes: NamedSharding(mesh, _spec(axes)), logical_axes,
                           is_leaf=is_axes)
  if shapes is not None:
    jax.tree_util.tree_map_with_path(_check_divides, shapes, shardings)
  return shardings


def _check_divides(path, array, sharding: NamedSharding) -> None:
  for dimension, axis in enumerate(sharding.spec):
    if axis is not None and array.shape[dimension] % sharding.mesh.shape[axis]:
      raise errors.UserError(
          f'the mesh axis {axis!r} does not divide a parameter',
          where=jax.tree_util.keystr(path, simple=True, separator='/'),
          got=f'shape {array.shape}, dimension {dimension} over '
              f'{sharding.mesh.shape[axis]} devices',
          hint=f'choose a size of {axis!r} that divides {array.shape[dimension]}')


def replicated(mesh: Mesh) -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def opt_state_shardings(
    mesh: Mesh, optimizer: optax.GradientTransformation, opt_state: Any, shapes: Any,
    shardings: Any,
) -> Any:
  """-> shardings of an optimizer's state: a moment as large as its parameter lies as it does.

  Row and column moments, counters and the like are copied to every device.

  Args:
    mesh: from `make_mesh`.
    optimizer: whose `init` made the state.
    opt_state: the state or its shapes.
    shapes: the parameters or their shapes.
    shardings: those of the parameters.
  """
  everywhere = replicated(mesh)
  return optax.tree_utils.tree_map_params(
      optimizer,
      lambda moment, param, sharding: sharding if moment.shape == param.shape else everywhere,
      opt_state, shapes, shardings,
      transform_non_params=lambda _: everywhere)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over the axis `data`."""
  return NamedSharding(mesh, PartitionSpec('data'))


def local_rows(mesh: Mesh, rows: int) -> tuple[int, int]:
  """(first, stop): the rows of a batch that the devices of this process need."""
  places = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
  spans = [index[0].indices(rows)[:2] for index in places]
  return min(first for first, _ in spans), max(stop for _, stop in spans)


def put_rows(tree: Any, mesh: Mesh, first: int, rows: int) -> Any:
  """A batch on the mesh, of which this process holds the rows from `first` on.

  Args:
    tree: numpy arrays, the rows that `local_rows` names.
    mesh: from `make_mesh`.
    first: the number of their first row in the batch.
    rows: rows of the whole batch.
  """
  def put_one(x):
    part = lambda index: x[(slice(*(n - first for n in index[0].indices(rows)[:2])), *index[1:])]
    return jax.make_array_from_callback((rows, *x.shape[1:]), batch_sharding(mesh), part)

  return jax.tree.map(put_one, tree)


def put(tree: Any, shardings: Any) -> Any:
  """Host arrays -> arrays on the mesh; each process gives its devices their parts.

  Every process holds the whole `tree`, or at least calls with equal values.

  Args:
    tree: numpy arrays or anything like them.
    shardings: one sharding for all, or a tree of them.
  """
  def put_one(x, sharding):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

  if isinstance(shardings, jax.sharding.Sharding):
    return jax.tree.map(lambda x: put_one(x, shardings), tree)
  return jax.tree.map(put_one, tree, shardings)


def check_batch(mesh: Mesh, rows: int, num_microbatches: int = 1) -> None:
  """UserError when `rows` cannot be dealt out over the mesh and the microbatches evenly."""
  parts = mesh.shape['data'] * num_microbatches
  if rows % parts:
    raise errors.UserError(
        'the batch does not divide over the devices', got=f'{rows} rows',
        expected=f"a multiple of {parts}: {mesh.shape['data']} devices on the axis 'data' x "
                 f'{num_microbatches} microbatches')
