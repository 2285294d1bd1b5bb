"""Tensors in .safetensors files: whole trees, names joined with '/', or block by block."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from flanjax import errors
from flanjax.interop import tensors as tensors_lib

_DTYPES = {'F64': np.float64, 'F32': np.float32, 'F16': np.float16, 'BF16': ml_dtypes.bfloat16,
           'I64': np.int64, 'I32': np.int32, 'U8': np.uint8, 'BOOL': np.bool_}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'encoder': {'scale': x}} -> {'encoder/scale': x}."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{name}/'))
    else:
      flat[prefix + name] = value
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """{'encoder/scale': x} -> {'encoder': {'scale': x}}."""
  tree: dict[str, Any] = {}
  for path, value in flat.items():
    *folders, name = path.split('/')
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[name] = value
  return tree


def save_params(
    path: str | os.PathLike, params: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
  """Writes a tree of arrays, whole or not at all; `metadata` maps strings to strings."""
  path = pathlib.Path(path)
  flat = {name: np.ascontiguousarray(value) for name, value in sorted(flatten(params).items())}
  part = path.with_name(path.name + '.part')
  part.write_bytes(safetensors_numpy.save(flat, dict(metadata or {})))
  part.replace(path)


def load_params(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
  """-> the tree of numpy arrays and the metadata; UserError when the file is not whole."""
  with _open(path) as file:
    flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return unflatten(flat), dict(file.metadata() or {})


def _open(path: str | os.PathLike) -> Any:
  """The file as the library sees it, which checks that header and length agree."""
  try:
    return safetensors.safe_open(path, framework='numpy')
  except FileNotFoundError as error:
    raise errors.UserError('no such file', where=str(path)) from error
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError('this is no whole safetensors file', where=str(path), got=error,
                           hint='was the download or the copy cut short?') from error


def open_tensors(path: str | os.PathLike) -> tuple[dict[str, tensors_lib.Tensor], dict[str, str]]:
  """-> the tensors of a file by name, still on disk, and its metadata.

  They are read with plain reads of a block each: pages of a mapped file would count as the
  memory of this process.

  Raises:
    UserError: the file is not whole, or holds numbers of a kind that weights do not have.
  """
  path = pathlib.Path(path)
  _open(path)
  with open(path, 'rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    header = json.loads(file.read(length))
  metadata = header.pop('__metadata__', None) or {}
  found = {}
  for name, entry in header.items():
    if entry['dtype'] not in _DTYPES:
      raise errors.UserError(f'Tensor {name} cannot be used.', where=str(path),
                             got=entry['dtype'], expected=', '.join(_DTYPES))
    found[name] = _tensor(path, name, entry, 8 + length + entry['data_offsets'][0])
  return found, metadata


def _tensor(
    path: pathlib.Path, name: str, entry: Mapping[str, Any], offset: int
) -> tensors_lib.Tensor:
  shape, dtype = tuple(entry['shape']), np.dtype(_DTYPES[entry['dtype']])
  row = math.prod(shape[1:])

  def rows(start: int, stop: int) -> np.ndarray:
    count = (stop - start) * row if shape else 1
    with open(path, 'rb') as file:
      file.seek(offset + start * row * dtype.itemsize)
      data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
      raise errors.UserError(f'Tensor {name} is cut short.', where=str(path))
    return np.frombuffer(data, dtype).reshape((stop - start, *shape[1:]) if shape else ())

  return tensors_lib.from_rows(shape, dtype, rows, f'{path}: {name}')


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, tensors_lib.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes tensors of at most two dimensions block by block, whole or not at all."""
  path = pathlib.Path(path)
  header: dict[str, Any] = {'__metadata__': dict(metadata)} if metadata else {}
  offset, offsets = 0, {}
  for name, tensor in tensors.items():
    header[name] = {'dtype': _NAMES[tensor.dtype], 'shape': list(tensor.shape),
                    'data_offsets': [offset, offset + tensor.nbytes]}
    offsets[name] = offset
    offset += tensor.nbytes
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  part = path.with_name(path.name + '.part')
  try:
    with open(part, 'wb') as file:
      file.write(len(text).to_bytes(8, 'little') + text)
      file.truncate(8 + len(text) + offset)
      for name, tensor in tensors.items():
        _write(file, 8 + len(text) + offsets[name], tensor)
      file.flush()
      os.fsync(file.fileno())
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def _write(file: Any, offset: int, tensor: tensors_lib.Tensor) -> None:
  """Puts every block in its place; a block of columns is as many pieces as it has rows."""
  size = tensor.dtype.itemsize
  for index, block in tensor.read():
    block = np.ascontiguousarray(block)
    if len(index) < 2 or block.shape[1] == tensor.shape[1]:
      row = math.prod(tensor.shape[1:])
      file.seek(offset + (index[0].start if index else 0) * row * size)
      file.write(block.reshape(-1).view(np.uint8).data)
      continue
    for i, row in enumerate(block):
      file.seek(offset + ((index[0].start + i) * tensor.shape[1] + index[1].start) * size)
      file.write(row.view(np.uint8).data)
