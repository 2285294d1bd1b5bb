"""Where arrays live: a mesh with axes `data`, `fsdp` and `model`, and one table of rules.

Modules say what an axis of an array *is* (batch, heads, mlp, ...); AXIS_RULES says which axis
of the mesh it is cut along, of a parameter and of an activation. The names are T5X's. Rows of a
batch are dealt over `data` and `fsdp`; parameters are cut along `fsdp`, to save memory, and
gathered where they are used; `model` cuts both them and the work (Megatron's way).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from flanjax import errors, meshes

ROWS = ('data', 'fsdp')
MeshAxes = str | tuple[str, ...] | None


class AxisRule(NamedTuple):
  """The mesh axes along which a logical axis is cut, in parameters and in activations."""

  axis: str
  parameters: MeshAxes = None
  activations: MeshAxes = None


AxisRules = tuple[AxisRule, ...]

AXIS_RULES: AxisRules = (
    AxisRule('batch', None, ROWS),
    AxisRule('embed', 'fsdp', None),
    AxisRule('vocab', 'model', 'model'),
    AxisRule('heads', 'model', 'model'),
    AxisRule('joined_kv', 'model', 'model'),
    AxisRule('mlp', 'model', 'model'),
    AxisRule('kv'),
    AxisRule('layers'),
    AxisRule('relpos_buckets'),
    AxisRule('lora_rank'),
    AxisRule('prompt'),
    AxisRule('length'),
)


def axis_rules(
    shard_length: bool = False, overrides: Mapping[str, Sequence[MeshAxes]] | None = None
) -> AxisRules:
  """AXIS_RULES, changed.

  Args:
    shard_length: between blocks, activations are cut along their length over `model`, which
      else holds copies of them (Korthikanti et al. 2022, sequence parallelism). It saves memory
      where `model` is more than 1 and rows are long.
    overrides: {logical axis: (mesh axes of parameters, mesh axes of activations)}.
  """
  rules = {rule.axis: rule for rule in AXIS_RULES}
  if shard_length:
    # The last of the table: heads, mlp and vocab take `model` before it, where they are.
    rules['length'] = AxisRule('length', None, 'model')
  for axis, pair in (overrides or {}).items():
    if isinstance(pair, str) or len(pair) != 2:
      raise errors.UserError('a rule is a pair of mesh axes', where=f'axis_rules, {axis!r}',
                             got=pair, expected="('fsdp', None): of parameters, of activations")
    pair = [tuple(x) if isinstance(x, list) else x for x in pair]
    for name in (n for x in pair for n in _names(x) if n not in meshes.AXES):
      raise errors.UserError(f'a mesh has no axis {name!r}', where=f'axis_rules, {axis!r}',
                             hint=errors.nearest(name, meshes.AXES))
    rules[axis] = AxisRule(axis, *pair)
  return tuple(rules.values())


class Layout(NamedTuple):
  """How a run lies on devices."""

  mesh: Mesh | AbstractMesh
  rules: AxisRules
  num_microbatches: int

  @property
  def shards_length(self) -> bool:
    return any(rule.axis == 'length' and rule.activations == 'model' for rule in self.rules)


def _names(axes: MeshAxes) -> tuple[str, ...]:
  return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def make_mesh(
    data: int = -1,
    fsdp: int | None = 1,
    model: int | None = 1,
    devices: Sequence[Any] | int | None = None,
    need: meshes.Need | None = None,
    per_host: int | None = None,
) -> Mesh | AbstractMesh:
  """-> a mesh of `data` x `fsdp` x `model` devices.

  Its axes are of type Auto: with explicit axes, jax's default, Linen's logical constraints
  are refused.

  Args:
    data: copies of the parameters; -1 takes as many devices as there are.
    fsdp: devices that share the parameters of a copy; None: as many as `need` asks for.
    model: devices that share the work on a row; None: the same.
    devices: None for all, or a number for a mesh without devices, to compute with.
    need: what the run needs; without it None means 1.
    per_host: devices of one host; None: as many as this one has.
  """
  if devices is None:
    devices = jax.devices()
    per_host = per_host or jax.local_device_count()
  count = devices if isinstance(devices, int) else len(devices)
  if need is not None and data == -1 and None in (fsdp, model):
    shape = meshes.choose_shape(need, count, per_host, fsdp, model)
  else:
    shape = (data, fsdp or 1, model or 1)
  shape = meshes.filled(*shape, count)
  axis_types = (AxisType.Auto,) * len(shape)
  if isinstance(devices, int):
    return AbstractMesh(shape, meshes.AXES, axis_types=axis_types)
  return Mesh(meshes.arrange(shape, list(devices)), meshes.AXES, axis_types=axis_types)


@contextlib.contextmanager
def activate(mesh: Mesh | None, rules: AxisRules = AXIS_RULES) -> Iterator[None]:
  """Within it, the constraints that modules put on activations hold; None leaves them off."""
  if mesh is None:
    yield
    return
  with jax.set_mesh(mesh), nn.logical_axis_rules(
      [(rule.axis, rule.activations) for rule in rules]):
    yield


def _spec(axes: Sequence[str | None], rules: AxisRules) -> PartitionSpec:
  known = {rule.axis: rule.parameters for rule in rules}
  for axis in axes:
    if axis is not None and axis not in known:
      raise errors.UserError(f'no rule for the logical axis {axis!r}', where='AXIS_RULES',
                             hint=errors.nearest(axis, known))
  return nn.logical_to_mesh_axes(tuple(axes), list(known.items()))


def _fit_fsdp(spec: PartitionSpec, shape: Sequence[int], size: int) -> PartitionSpec:
  """`spec` with 'fsdp' where it divides the shape: its place, else another free one, or none.

  Vectors (norms) are so small that every device keeps a copy.
  """
  places = [i for i, axes in enumerate(spec) if 'fsdp' in _names(axes)]
  if not places or (len(shape) > 1 and shape[places[0]] % size == 0):
    return spec
  without = [tuple(n for n in _names(axes) if n != 'fsdp') for axes in spec]
  free = [i for i, axes in enumerate(without) if not axes and shape[i] % size == 0]
  if free and len(shape) > 1:
    without[max(free, key=lambda i: shape[i])] = ('fsdp',)
  return PartitionSpec(*(axes if len(axes) > 1 else axes[0] if axes else None for axes in without))


def param_shardings(
    mesh: Mesh, logical_axes: Any, shapes: Any = None, rules: AxisRules = AXIS_RULES
) -> Any:
  """-> the tree of `NamedSharding`s for a tree of tuples of logical axis names.

  Args:
    mesh: from `make_mesh`.
    logical_axes: `model.logical_axes()`.
    shapes: arrays or shapes in the same tree; with them, a dimension that `model` does not
      divide is a UserError that names the parameter, and `fsdp` goes where it divides.
    rules: the table.
  """
  is_axes = lambda x: isinstance(x, tuple)
  specs = jax.tree.map(lambda axes: _spec(axes, rules), logical_axes, is_leaf=is_axes)
  if shapes is not None:
    is_spec = lambda x: isinstance(x, PartitionSpec)
    specs = jax.tree.map(lambda spec, x: _fit_fsdp(spec, x.shape, mesh.shape['fsdp']),
                         specs, shapes, is_leaf=is_spec)
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs,
                           is_leaf=lambda x: isinstance(x, PartitionSpec))
  if shapes is not None:
    jax.tree_util.tree_map_with_path(_check_divides, shapes, shardings)
  return shardings


def _check_divides(path, array, sharding: NamedSharding) -> None:
  for dimension, axes in enumerate(sharding.spec):
    parts = math.prod(sharding.mesh.shape[axis] for axis in _names(axes))
    if array.shape[dimension] % parts:
      raise errors.UserError(
          f'the mesh axis {axes!r} does not divide a parameter',
          where=jax.tree_util.keystr(path, simple=True, separator='/'),
          got=f'shape {array.shape}, dimension {dimension} over {parts} devices',
          hint=f'choose a size of {axes!r} that divides {array.shape[dimension]}')


def replicated(mesh: Mesh) -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def opt_state_shardings(
    mesh: Mesh, optimizer: optax.GradientTransformation, opt_state: Any, shapes: Any,
    shardings: Any,
) -> Any:
  """-> shardings of an optimizer's state: a moment as large as its parameter lies as it does.

  Row and column moments, counters and the like are copied to every device: those of a matrix
  [a, b] are a + b numbers, which take less to keep than to gather.

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
  """Rows over the axes `data` and `fsdp`."""
  return NamedSharding(mesh, PartitionSpec(ROWS))


def row_parts(mesh: Mesh | AbstractMesh) -> int:
  """The number of parts that the rows of a batch are dealt into."""
  return mesh.shape['data'] * mesh.shape['fsdp']


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


def fetch(x: jax.Array) -> np.ndarray:
  """The whole array on this host, also where its parts are on several."""
  if x.is_fully_addressable:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def check_batch(mesh: Mesh, rows: int, num_microbatches: int = 1) -> None:
  """UserError when `rows` cannot be dealt out over the mesh and the microbatches evenly."""
  parts = row_parts(mesh) * num_microbatches
  if rows % parts:
    raise errors.UserError(
        'the batch does not divide over the devices', got=f'{rows} rows',
        expected=f"a multiple of {parts}: {row_parts(mesh)} devices on the axes 'data' and "
                 f"'fsdp' x {num_microbatches} microbatches")


def state_shardings(
    mesh: Mesh, logical_axes: Any, optimizer: optax.GradientTransformation, shapes: Any,
    rules: AxisRules = AXIS_RULES,
) -> tuple[Any, Any]:
  """-> the shardings of parameters and of the optimizer's state.

  Args:
    mesh: from `make_mesh`.
    logical_axes: `model.logical_axes()`.
    optimizer: whose state it is.
    shapes: the parameters or their shapes.
    rules: the table.
  """
  params = param_shardings(mesh, logical_axes, shapes, rules)
  opt_state = jax.eval_shape(optimizer.init, shapes)
  return params, opt_state_shardings(mesh, optimizer, opt_state, shapes, params)
