"""Arrays in TensorStore: Orbax's item folders, and zarr folders, one per array."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore

from flanjax.errors import UserError
from flanjax.interop import json_files
from flanjax.interop import tensors as tensors_lib


def _dtype(name: str) -> np.dtype:
  return np.dtype(ml_dtypes.bfloat16 if name == 'bfloat16' else name)


def open_store(spec: Mapping[str, Any], where: str) -> tensorstore.TensorStore:
  """What a spec describes; UserError when it is not there or cannot be read."""
  return _result(lambda: tensorstore.open(dict(spec), open=True, read=True), where)


def view(store: tensorstore.TensorStore, where: str) -> tensors_lib.Tensor:
  """A store, or a part of one, as a tensor; UserError when its numbers cannot be read."""
  def rows(start: int, stop: int) -> np.ndarray:
    part = store[start:stop] if store.rank else store
    return np.asarray(_result(part.read, where))

  return tensors_lib.from_rows(tuple(store.shape), _dtype(store.dtype.name), rows, where)


def open_array(spec: Mapping[str, Any], where: str) -> tensors_lib.Tensor:
  """The array that a spec describes, still on disk."""
  return view(open_store(spec, where), where)


def _result(start: Any, where: str) -> Any:
  try:
    return start().result()
  except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
    raise UserError('An array cannot be read.', where=where, got=str(error)[:300]) from error


def orbax_specs(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  """The specs of the arrays of an item that Orbax wrote, names joined with '/'.

  Raises:
    UserError: the folder is no such item.
  """
  path = folder / '_METADATA'
  metadata = json_files.read(path)
  found = {}
  try:
    for entry in metadata['tree_metadata'].values():
      if entry['value_metadata'].get('value_type') not in ('None', 'string'):
        keys = [str(key['key']) for key in entry['key_metadata']]
        found['/'.join(keys)] = _orbax_spec(folder, '.'.join(keys), metadata)
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError('This is no tree of arrays by Orbax.', where=str(path), got=error) from error
  return found


def open_orbax(folder: pathlib.Path) -> dict[str, tensors_lib.Tensor]:
  """The arrays of an item that Orbax wrote; UserError when one cannot be opened."""
  return {name: open_array(spec, f'{folder}: {name}')
          for name, spec in orbax_specs(folder).items()}


def _orbax_spec(folder: pathlib.Path, name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
  driver = 'zarr3' if metadata.get('use_zarr3') else 'zarr'
  if metadata.get('use_ocdbt', True):
    store = {'driver': 'ocdbt', 'base': f'file://{folder.absolute()}/', 'path': f'{name}/'}
  else:
    store = {'driver': 'file', 'path': f'{folder.absolute()}/{name}/'}
  return {'driver': driver, 'kvstore': store}
