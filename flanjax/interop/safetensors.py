"""Parameters in one .safetensors file, names joined with '/'."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from flanjax import errors


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
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
      return unflatten(flat), dict(file.metadata() or {})
  except FileNotFoundError as error:
    raise errors.UserError('no such file', where=str(path)) from error
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError('this is no whole safetensors file', where=str(path),
                           got=error) from error
