"""Our own folders, as the other side of every conversion: tensors on disk and model.json."""

from __future__ import annotations

import dataclasses
import pathlib

from flanjax.errors import UserError
from flanjax.interop import json_files, layout, opt_state, safetensors, stores, t5x_state
from flanjax.interop import tensors as tensors_lib
from flanjax.models import t5

MODEL, WEIGHTS, STATE = 'model.json', 'params.safetensors', 'opt_state.safetensors'


def open_path(
    path: pathlib.Path, adapters: bool = False, with_state: bool = False
) -> tensors_lib.Weights:
  """The model of a run's folder, one of its checkpoints, a converted folder or a file.

  What a run did not train is read from its base, and LoRA's factors are folded into kernels.

  Args:
    path: of the weights.
    adapters: give instead what the run trained alone.
    with_state: whether to open Adafactor's state, too, where it is there and of all parameters.

  Raises:
    UserError: there is none, nothing describes it, or its tensors are of another model.
  """
  path = path.absolute()
  folder = _described(path)
  info = json_files.read(folder / MODEL)
  config = t5.from_folder(folder).config
  if adapters and 'frozen' not in info:
    raise UserError('This run trained all parameters.', where=str(path), hint='without --adapters')
  if config.lora is not None or 'frozen' in info:
    return _adapted(path, config, info, adapters)
  file, state = path / WEIGHTS if path.is_dir() else path, {}
  if file.is_file():
    tensors, metadata = safetensors.open_tensors(file)
    step = metadata.get('step', 0)
    if with_state and file.with_name(STATE).is_file():
      state, _ = safetensors.open_tensors(file.with_name(STATE))
  else:
    from flanjax.training import checkpoints

    checkpoint = checkpoints.find(path)
    tensors = stores.open_orbax(checkpoint / 'params')
    step = checkpoint.name if checkpoint.name.isdigit() else 0
    if with_state:
      state = opt_state.of_run(checkpoint)
  shapes = layout.shapes(config)
  layout.check({name: t.shape for name, t in tensors.items()}, shapes, str(path))
  t5x_state.check(state, shapes, str(path))
  info = {k: v for k, v in info.items() if k not in ('config', 'architecture')}
  return tensors_lib.Weights(config, tensors, info | {'step': int(step)}, state)


def _adapted(
    path: pathlib.Path, config: t5.T5Config, info: dict, adapters: bool
) -> tensors_lib.Weights:
  """A model of which a run trained a part; it passes through memory as a whole."""
  from flanjax.training import checkpoints

  params, step = (checkpoints.read_params if adapters else checkpoints.restore_params)(path)
  flat = safetensors.flatten(params)
  if not adapters:
    config, info = dataclasses.replace(config, lora=None), {**info, 'frozen': None}
    layout.check({name: x.shape for name, x in flat.items()}, layout.shapes(config), str(path))
  kept = {k: v for k, v in info.items() if k not in ('config', 'architecture') and v is not None}
  tensors = {name: tensors_lib.from_array(x, f'{path}: {name}') for name, x in flat.items()}
  return tensors_lib.Weights(config, tensors, kept | {'step': step})


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
  """Writes params.safetensors and model.json, which `restore_params` and every verb read.

  The optimizer's state goes into opt_state.safetensors, for `Restoring.optimizer_state`.
  """
  tensors = {name: tensors_lib.cast(tensor, dtype)
             for name, tensor in sorted(weights.tensors.items())}
  info = dict(weights.info)
  step = {'step': str(info.pop('step', 0))}
  safetensors.write_tensors(folder / WEIGHTS, tensors, step)
  if weights.opt_state:
    safetensors.write_tensors(folder / STATE, dict(sorted(weights.opt_state.items())), step)
  (folder / MODEL).write_text(t5.to_json(weights.config, **info))
