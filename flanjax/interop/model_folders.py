"""Where a model lies and what its folder says of it, whichever project wrote it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input import remote
from flanjax.interop import tokenizer_files

# Base models of the suite `mini` that ship, by the name that stands for them: folders in tasks/mini.
BASES = {'mini': 'base', 'mini_64': 'base_64', 'mini_32': 'base_32'}


@dataclasses.dataclass(frozen=True)
class Opened:
  """A checkpoint, and what its folder says of it.

  Attributes:
    path: of the checkpoint.
    folder: of its run, or of the model.
    model_info: model.json, or what there is of it in a folder of another project.
    run: run.json; empty where no run wrote the folder.
  """

  path: str
  folder: pathlib.Path
  model_info: Mapping[str, Any]
  run: Mapping[str, Any]

  @property
  def vocabulary(self) -> str | None:
    """The name or file of its vocabulary, where it is known."""
    return self.model_info.get('vocabulary') or self.run.get('vocabulary')


def find_checkpoint(path: str | None, setting: str = 'INITIAL_CHECKPOINT_PATH') -> str | None:
  """The absolute path of a checkpoint that is there; `BASES` are those that ship.

  Raises:
    UserError: there is nothing.
  """
  if path is None or path == '':
    return None
  found = mini_base(path) / 'model.safetensors' if path in BASES else remote.resolved(path)
  if not found.exists():
    raise UserError('There is no such checkpoint.', where=setting,
                    got=str(found),
                    expected="a run folder, one of its checkpoints, a converted folder, one of "
                             "transformers or T5X, a .safetensors file, "
                             f"or one of the names {', '.join(BASES)}")
  return str(found)


def mini_base(name: str = 'mini') -> pathlib.Path:
  """The folder of an embedded base model, found without importing its suite."""
  try:
    spec = importlib.util.find_spec('flanjax.tasks')
  except ModuleNotFoundError:
    spec = None
  roots = [pathlib.Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
  roots.append(pathlib.Path(__file__).parents[2] / 'tasks')
  folders = [root / 'mini' / BASES[name] for root in roots]
  return next((f for f in folders if f.is_dir()), folders[0])


def find(path: Any, setting: str) -> Opened:
  """Finds a checkpoint and its folder: itself, or one of the folders it lies in.

  Args:
    path: of a run, one of its checkpoints, a converted folder, one of transformers or T5X, a file
      of weights, or a name of `BASES`.
    setting: what named it, for errors.

  Raises:
    UserError: there is none, or nothing describes it.
  """
  if not isinstance(path, str) or not path:
    raise UserError(f'{setting} must be a text.', got=repr(path))
  from flanjax.interop import foreign, hf

  found = remote.resolved(find_checkpoint(path, setting))
  for folder in [found, *found.parents][:4]:
    if (folder / 'model.json').is_file():
      run_file = folder / 'run.json'
      run_info = json.loads(run_file.read_text()) if run_file.is_file() else {}
      return Opened(_weights_in(found), folder, _model_info(folder), run_info)
  if foreign.is_folder(found):
    info = tokenizer_files.describe(found, found) if hf.is_folder(found) else {}
    return Opened(str(found), found, info, {})
  raise UserError('There is no model.json in or above the checkpoint.', where=str(found),
                  expected='a run folder, or a file with the model.json of its model beside it')


def _weights_in(found: pathlib.Path) -> str:
  """The embedded model's folder names its file otherwise than converted ones do."""
  file = found / 'model.safetensors'
  return str(file if file.is_file() and not (found / 'params.safetensors').is_file() else found)


def _model_info(folder: pathlib.Path) -> dict[str, Any]:
  """What model.json says; a converted folder that was moved holds its vocabulary still."""
  info = json.loads((folder / 'model.json').read_text())
  if info.get('vocabulary'):
    info['vocabulary'] = tokenizer_files.found_again(info['vocabulary'], folder)
  return info


def model_of(opened: Opened) -> Any:
  """The model, adapters folded into its kernels, without its parameters."""
  from flanjax.interop import foreign
  from flanjax.models import t5

  if foreign.is_folder(opened.folder):
    return t5.EncoderDecoderModel(foreign.open_folder(opened.folder).config)
  return t5.from_folder(opened.folder, merged=True)
