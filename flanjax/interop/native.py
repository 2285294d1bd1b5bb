"""Our own folders, as the other side of every conversion: tensors on disk and model.json."""

from __future__ import annotations

import pathlib

from flanjax.errors import UserError
from flanjax.interop import json_files, layout, safetensors, stores
from flanjax.interop import tensors as tensors_lib
from flanjax.models import t5

MODEL, WEIGHTS = 'model.json', 'params.safetensors'


def open_path(path: pathlib.Path) -> tensors_lib.Weights:
  """The model of a run's folder, one of its checkpoints, a converted folder or a file.

  Raises:
    UserError: there is none, nothing describes it, or its tensors are of another model.
  """
  path = path.absolute()
  folder = _described(path)
  info = json_files.read(folder / MODEL)
  config = t5.from_folder(folder).config
  file = path / WEIGHTS if path.is_dir() else path
  if file.is_file():
    tensors, metadata = safetensors.open_tensors(file)
    step = metadata.get('step', 0)
  else:
    from flanjax.training import checkpoints

    checkpoint = checkpoints.find(path)
    tensors = stores.open_orbax(checkpoint / 'params')
    step = checkpoint.name if checkpoint.name.isdigit() else 0
  layout.check({name: t.shape for name, t in tensors.items()}, layout.shapes(config), str(path))
  info = {k: v for k, v in info.items() if k not in ('config', 'architecture')}
  return tensors_lib.Weights(config, tensors, info | {'step': int(step)})


def _described(path: pathlib.Path) -> pathlib.Path:
  if not path.exists():
    raise UserError('There is no such file or folder.', where=str(path))
  for folder in [path, *path.parents][:4]:
    if (folder / MODEL).is_file():
      return folder
  raise UserError('There is no model.json in or above the weights.', where=str(path),
                  expected='a run folder, or a file with the model.json of its model beside it')


def write_folder(
    folder: pathlib.Path, weights: tensors_lib.Weights, dtype: str = 'float32'
) -> None:
  """Writes params.safetensors and model.json, which `restore_params` and every verb read."""
  tensors = {name: tensors_lib.cast(tensor, dtype)
             for name, tensor in sorted(weights.tensors.items())}
  info = dict(weights.info)
  safetensors.write_tensors(folder / WEIGHTS, tensors, {'step': str(info.pop('step', 0))})
  (folder / MODEL).write_text(t5.to_json(weights.config, **info))
