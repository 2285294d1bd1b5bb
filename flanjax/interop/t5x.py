"""Checkpoints of T5X, in and out, without T5X.

Read are both of its layouts: a msgpack index with zarr arrays beside it, as published models
have, and Orbax's. Written is the first, which every version of T5X reads.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorstore
from flax import serialization

from flanjax.errors import UserError
from flanjax.interop import json_files, layout, stores, t5x_names, t5x_state
from flanjax.interop import tensors as tensors_lib
from flanjax.interop.safetensors import unflatten
from flanjax.interop.t5x_state import Opener
from flanjax.interop.tensors import Tensor, Weights
from flanjax.models.t5 import T5Config

INDEX = 'checkpoint'
_PREFIX = 'checkpoint_'
_MAX_INDEX_BYTES = 1 << 29
_VERSION = 3
_PARAMS, _STATE = 'target/', 'state/param_states/'


def open_path(
    path: pathlib.Path, activation: str | None = None, with_state: bool = False
) -> Weights:
  """The parameters of a checkpoint, still on disk.

  Args:
    path: a checkpoint's folder, or one of checkpoints, of which the newest is taken.
    activation: see `t5x_names.config_of`.
    with_state: whether to open the optimizer's state, too, where there is one.

  Raises:
    UserError: there is none; it is of another network; an array is not whole; `with_state`, and
      the optimizer is not Adafactor.
  """
  folder = _find(path)
  everything, step = _orbax(folder / 'state') if _is_orbax(folder) else _legacy(folder, with_state)
  openers = _under(_PARAMS, everything)
  whole = {name: opener(None) for name, opener in openers.items()}
  found = {name: tensor.shape for name, tensor in whole.items()}
  cfg = t5x_names.config_of(found, activation, str(folder))
  scanned = t5x_names.is_scanned(found)
  layout.check(found, t5x_names.shapes(cfg, scanned), str(folder))
  tensors = {}
  for name, shape in layout.shapes(cfg).items():
    stacked = t5x_names.stacked_name(name) if scanned else None
    tensor = openers[stacked[0]](stacked[1]) if stacked else whole[name]
    tensors[name] = tensors_lib.cast(tensors_lib.reshaped(tensor, shape), np.float32)
  states = _under(_STATE, everything) if with_state else {}
  state = t5x_state.read(states, cfg, scanned, str(folder))
  if scanned:
    cfg, tensors, state = _shared_relpos(cfg, tensors, state)
  return Weights(cfg, tensors, {'step': step}, state)


def _under(prefix: str, openers: Mapping[str, Opener]) -> dict[str, Opener]:
  return {name[len(prefix):]: opener for name, opener in openers.items()
          if name.startswith(prefix)}


def _shared_relpos(
    cfg: T5Config, *trees: dict[str, Tensor]
) -> tuple[T5Config, dict[str, Tensor], dict[str, Tensor]]:
  """Takes tables that are the same in all layers for one: `write_folder` repeated it."""
  deep = max(cfg.num_encoder_layers, cfg.num_decoder_layers) > 1
  kept: list[dict[str, Tensor]] = []
  for tree in trees:
    tables = {name: tensors_lib.to_array(tensor) for name, tensor in tree.items()
              if name.endswith('relpos_bias/rel_embedding')}
    first = {re.sub(r'layers_\d+/', '', name): table for name, table in reversed(tables.items())}
    if not deep or any(not np.array_equal(table, first[re.sub(r'layers_\d+/', '', name)])
                       for name, table in tables.items()):
      return cfg, *trees
    kept.append({name: tensor for name, tensor in tree.items() if name not in tables}
                | {name: tensors_lib.from_array(table) for name, table in first.items()})
  return dataclasses.replace(cfg, relpos_per_layer=False), *kept


def is_folder(path: pathlib.Path) -> bool:
  """Whether this is a checkpoint of T5X, or a folder of them."""
  return (path / INDEX).is_file() or _is_orbax(path) or bool(_steps(path))


def _steps(path: pathlib.Path) -> list[pathlib.Path]:
  return [p for p in path.glob(f'{_PREFIX}*') if p.name[len(_PREFIX):].isdigit()]


def _find(path: pathlib.Path) -> pathlib.Path:
  if (path / INDEX).is_file() or _is_orbax(path):
    return path
  steps = _steps(path)
  if not steps:
    raise UserError('There is no checkpoint of T5X here.', where=str(path),
                    expected=f'a file {INDEX!r}, a folder state, or {_PREFIX}<step>')
  newest = max(steps, key=lambda p: int(p.name[len(_PREFIX):]))
  if not (newest / INDEX).is_file() and not _is_orbax(newest):
    raise UserError('This checkpoint of T5X is not whole.', where=str(newest),
                    expected=f'a file {INDEX!r}, or a folder state')
  return newest


def _is_orbax(folder: pathlib.Path) -> bool:
  return (folder / 'state' / '_METADATA').is_file()


def _orbax(folder: pathlib.Path) -> tuple[dict[str, Opener], int]:
  """What opens the arrays `target/...` and `state/param_states/...`, and the step."""
  specs = stores.orbax_specs(folder)
  openers = {name: _opener(spec, f'{folder}: {name}') for name, spec in specs.items()
             if name.startswith((_PARAMS, _STATE))}
  if 'state/step' not in specs:
    return openers, 0
  step = tensors_lib.to_array(stores.open_array(specs['state/step'], f'{folder}: state/step'))
  return openers, int(step)


def _opener(spec: Mapping[str, Any], where: str) -> Opener:
  store = stores.open_store(spec, where)

  def opener(layer: int | None) -> Tensor:
    return stores.view(store if layer is None else store[:, layer], where)

  return opener


def _legacy(folder: pathlib.Path, with_state: bool) -> tuple[dict[str, Opener], int]:
  """As `_orbax`; arrays of the state only where they are asked for."""
  path = folder / INDEX
  if path.stat().st_size > _MAX_INDEX_BYTES:
    raise UserError('The index is too large.', where=str(path), got=path.stat().st_size)
  try:
    index = serialization.msgpack_restore(path.read_bytes())['optimizer']
    target, step = index['target'], int(index['state']['step'])
    states = index['state'].get('param_states', {}) if with_state else {}
  except Exception as error:  # msgpack has errors of its own, and numpy others.
    raise UserError('This is no index of T5X.', where=str(path),
                    got=f'{type(error).__name__}: {str(error)[:200]}') from error
  for tree in (target, states):
    if not isinstance(tree, Mapping):
      raise UserError('This is no index of T5X.', where=str(path), got=type(tree).__name__)
  leaves = _leaves(target, _PARAMS) | _leaves(states, _STATE)
  return {name: _leaf(folder, name, leaf) for name, leaf in leaves.items()}, step


def _leaves(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Name -> array, or what describes one beside the index."""
  found: dict[str, Any] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping) and 'driver' not in value:
      found |= _leaves(value, f'{prefix}{name}/')
    else:
      found[f'{prefix}{name}'] = value
  return found


def _leaf(folder: pathlib.Path, name: str, leaf: Any) -> Opener:
  if isinstance(leaf, np.ndarray):
    return lambda layer: tensors_lib.from_array(
        leaf if layer is None else leaf[:, layer], f'{folder}: {name}')
  # Of the description only the folder's name is believed: it may point anywhere.
  store = leaf.get('kvstore', {}) if isinstance(leaf, Mapping) else {}
  path = str(store.get('path') or (leaf.get('path') if isinstance(leaf, Mapping) else '') or '')
  file = path.strip('/').rpartition('/')[2]
  if not isinstance(leaf, Mapping) or leaf.get('driver') != 'zarr' or file in ('', '.', '..'):
    raise UserError(f'The index describes {name} in a way that is not known.',
                    where=str(folder / INDEX), got=repr(leaf)[:200], expected='a zarr array')
  _check_zarr(folder / file, name)
  spec = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': f'{folder / file}/'}}
  return _opener(spec, str(folder / file))


def _check_zarr(folder: pathlib.Path, name: str) -> None:
  """UserError where a part is not there: TensorStore would read zeros."""
  if not (folder / '.zarray').is_file():
    raise UserError(f'The array of {name} is not there.', where=str(folder),
                    expected='.zarray and its parts')
  metadata = json_files.read(folder / '.zarray')
  try:
    counts = [-(-n // c) for n, c in zip(metadata['shape'], metadata['chunks'], strict=True)]
    separator = metadata.get('dimension_separator') or '.'
    parts = itertools.product(*map(range, counts))
    missing = next((p for p in (separator.join(map(str, c)) or '0' for c in parts)
                    if not (folder / p).is_file()), None)
  except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
    raise UserError('This is no zarr array.', where=str(folder / '.zarray'), got=error) from error
  if missing is not None:
    raise UserError(f'A part of {name} is not there.', where=str(folder), got=f'no file {missing}',
                    expected=f'{math.prod(counts):,} parts', hint='was the download cut short?')


def write_folder(
    folder: pathlib.Path, weights: Weights, dtype: str = 'float32', scanned: bool = False
) -> None:
  """Writes `folder`/checkpoint_<step>, as T5X's own Checkpointer lays it out.

  Args:
    folder: where checkpoints lie.
    weights: the model, and the optimizer's state with which T5X goes on training. At step 0 a
      fresh one is written where there is none: T5X would not begin without.
    dtype: of the parameters written.
    scanned: for T5X's scalable_t5, whose layers are stacked; else for its t5.

  Raises:
    UserError: T5X's network cannot be of this shape, or keep the state so.
  """
  cfg = weights.config
  if cfg.relpos_per_layer and not scanned:
    raise UserError("T5X's t5 has one table of relative positions per stack.", where='T5Config',
                    got='relpos_per_layer = True', hint='write for its scalable_t5: --scanned')
  step = int(weights.info.get('step', 0))
  state = weights.opt_state or ({} if step else t5x_state.fresh(cfg))
  states = t5x_state.write(state, cfg, scanned)
  target = folder / f'{_PREFIX}{step}'
  target.mkdir(parents=True)
  index = {}
  for name, shape in t5x_names.shapes(cfg, scanned).items():
    tensor = weights.tensors.get(name) or t5x_state.stacked(weights.tensors, name, shape)
    index[f'{_PARAMS}{name}'] = _write_array(target, f'{_PARAMS}{name}', tensor, dtype)
  for name, tensor in states.items():
    # Like T5X itself: what is not spread over devices is in the index.
    index[f'{_STATE}{name}'] = (
        _write_array(target, f'{_STATE}{name}', tensor, 'float32')
        if name.endswith(('/v', '/m')) and tensor.shape != t5x_state.UNUSED
        else tensors_lib.to_array(tensor))
  index['state/step'] = np.int32(step)
  contents = {'version': _VERSION, 'optimizer': unflatten(index)}
  (target / INDEX).write_bytes(serialization.msgpack_serialize(contents))


def _write_array(
    folder: pathlib.Path, name: str, tensor: Tensor, dtype: str
) -> dict[str, Any]:
  """Writes a zarr array whose parts are the blocks; -> its description for the index."""
  name = name.replace('/', '.')
  spec, store = {}, None
  for index, block in tensor.read():
    if store is None:
      metadata = {'shape': list(tensor.shape), 'chunks': list(block.shape),
                  'compressor': {'id': 'gzip', 'level': 1}}
      spec = {'driver': 'zarr', 'dtype': dtype, 'metadata': metadata,
              'kvstore': {'driver': 'file', 'path': f'{name}/'}}
      where = spec | {'kvstore': {'driver': 'file', 'path': f'{folder / name}/'}}
      # Zeros too are written: a part that is not there reads as a file that was lost.
      store = tensorstore.open(where | {'store_data_equal_to_fill_value': True},
                               create=True).result()
    store[index].write(block.astype(store.dtype.numpy_dtype)).result()
  return spec

