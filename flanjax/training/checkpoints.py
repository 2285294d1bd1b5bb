"""Checkpoints of everything that a run needs to go on as if it had not stopped.

`MODEL_DIR/checkpoints/<step>/` is written by Orbax, whole or not at all. It has the items
`params`, `opt_state` (a flat dict of arrays) and `position`: the step, the fingerprint of the
batches, and how many examples of each task were drawn. One that was evaluated has `metrics` too.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flanjax import errors
from flanjax.input import remote
from flanjax.interop import foreign, safetensors, tensors
from flanjax.training.restoring import by_name
from flanjax.training import freezing
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState

_log = logging.getLogger(__name__)

FOLDER = 'checkpoints'


def _shape_dtype(x: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Name -> shape, of the metadata of a checkpoint's item."""
  # The keys of opt_state, a flat dict, hold slashes already.
  return {name: tuple(leaf.shape) for name, leaf in safetensors.flatten(tree).items()}


def _check_shapes(folder: remote.AnyPath, saved: Mapping[str, tuple], wanted: Mapping[str, Any]):
  """UserError naming the first parameter that is missing, too many or of another shape."""
  for name in sorted(set(saved) | set(wanted)):
    got = saved.get(name, 'none')
    expected = tuple(wanted[name].shape) if name in wanted else 'none'
    if got != expected:
      raise errors.UserError(
          f'the checkpoint is of another model: parameter {name}', where=str(folder),
          got=f'shape {got}', expected=f'shape {expected}',
          hint='use another MODEL_DIR, or the model and optimizer that wrote this one')


def no_room(error: Exception) -> bool:
  """Whether an error says that a disk is full, or a quota used up."""
  if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
    return True
  # TensorStore gives the system's words alone.
  return any(os.strerror(n) in str(error) for n in (errno.ENOSPC, errno.EDQUOT))


class Checkpointer:
  """Writes and reads the checkpoints of one run.

  A checkpoint that cannot be written is a warning and no error: what was written of it is removed,
  and the next one is tried like any other. Two in a row are an error, but for want of room.

  Args:
    model_dir: the run's folder, which may be in a store (gs://).
    saving: which checkpoints are kept.

  Attributes:
    newest: the step of the newest checkpoint, which may still be on its way to the disk.
    failure: why the last one could not be written, or None.
  """

  def __init__(self, model_dir: str | os.PathLike[str], saving: Saving = Saving()):
    self.folder = remote.resolved(model_dir) / FOLDER
    self._saving = saving
    self._manager = self._open()
    self.newest: int | None = self._manager.latest_step()
    self.failure: Exception | None = None
    self._pending: tuple[int, int | None] | None = None

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        self.folder,
        item_handlers={
            'params': ocp.StandardCheckpointHandler(),
            'opt_state': ocp.StandardCheckpointHandler(),
            'position': ocp.JsonCheckpointHandler(),
        },
        options=ocp.CheckpointManagerOptions(
            preservation_policy=self._saving.policy(self.folder),
            best_fn=self._saving.quality if self._saving.keep_best else None,
            best_mode=self._saving.best_mode,
            cleanup_tmp_directories=True, save_root_metadata=False))

  @property
  def newest_folder(self) -> remote.AnyPath | None:
    """Where the newest checkpoint lies."""
    return None if self.newest is None else self.folder / str(self.newest)

  def save(
      self, state: TrainState, position: Mapping[str, Any],
      metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Copies `state` to the host at once and writes it in the background.

    A step that is saved already is not saved again. Waits for the one before.

    Args:
      state: what is saved.
      position: where the data stands.
      metrics: what an evaluation of this state found, for `Saving.keep_best`.
    """
    step = int(state.step)
    if step == self.newest:
      return
    self.wait()
    if jax.default_backend() == 'cpu':
      # There "to the host" is no copy, and the next step overwrites a donated state.
      state = jax.tree.map(jax.numpy.copy, state)
    self._pending, self.newest = (step, self.newest), step
    with self._tolerant():
      self._manager.save(step, args=ocp.args.Composite(
          params=ocp.args.StandardSave(state.params),
          opt_state=ocp.args.StandardSave(by_name(state.opt_state)),
          position=ocp.args.JsonSave({'step': step, **position})),
                         metrics=None if metrics is None else dict(metrics), force=True)

  def poll(self) -> None:
    """Takes note of a checkpoint that was written, or could not be; does not wait for one."""
    if self._pending is not None and not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Returns when what was saved is on disk, or could not be written."""
    if self._pending is None:
      return
    with self._tolerant():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
      self._pending = self.failure = None

  def fail(self, step: int, error: Exception) -> None:
    """Takes note, with a warning, that the checkpoint of `step` cannot be written.

    Of several processes one may fail alone, and the others would wait for it: there it is raised.
    """
    if jax.process_count() > 1 or (self.failure is not None and not no_room(error)):
      raise errors.UserError('checkpoints cannot be written', where=str(self.folder / str(step)),
                             got=f'{type(error).__name__}: {error}') from error
    self.failure = error
    text = os.strerror(errno.ENOSPC) if no_room(error) else ' '.join(str(error).split())[:300]
    _log.warning('checkpoint %s cannot be written, training goes on: %s: %s',
                 self.folder / str(step), type(error).__name__, text)

  @contextlib.contextmanager
  def _tolerant(self):
    """Within it, an error means that the pending checkpoint is not there."""
    try:
      yield
    except Exception as error:  # noqa: BLE001
      # Orbax, TensorStore and stores each have their own errors for a full disk.
      step, self.newest = self._pending
      self._pending = None
      self.fail(step, error)
      with contextlib.suppress(Exception):
        self._manager.close()
      # Orbax knows no longer which ones are there; a new manager removes what was half written.
      self._manager = self._open()

  def close(self) -> None:
    self.wait()
    self._manager.close()

  def reached_preemption(self, step: int) -> bool:
    """Whether all processes agreed to stop at `step` because one of them was told to."""
    return self._manager.reached_preemption(step)

  def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """-> the newest readable state and its position, or None where nothing was saved.

    One that cannot be read is reported, moved aside and the next older one tried.

    Args:
      template: a state of the shapes and shardings to be restored.

    Raises:
      UserError: none can be read, or the newest is of another model.
    """
    unreadable = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        restored = self._restore(step, template)
      except errors.UserError:
        raise
      except Exception as error:  # noqa: BLE001
        # Orbax, TensorStore and JSON each have their own errors for a damaged file.
        _log.warning('checkpoint %s cannot be read, trying an older one: %s',
                     self.folder / str(step), str(error)[:300])
        unreadable.append(step)
        continue
      self._set_aside(unreadable)
      self.newest = step
      return restored
    if unreadable:
      raise errors.UserError('no checkpoint can be read', where=str(self.folder),
                             got=f'steps {unreadable}', hint='remove the folder to start again')
    return None

  def _restore(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    folder = self.folder / str(step)
    opt_state = by_name(template.opt_state)
    metadata = self._manager.item_metadata(step)
    for item, wanted in (('params', by_name(template.params)), ('opt_state', opt_state)):
      if metadata[item] is None:
        raise ValueError(f'{item} has no metadata')
      _check_shapes(folder, _shapes(metadata[item].tree), wanted)
    restored = self._manager.restore(step, args=ocp.args.Composite(
        params=ocp.args.StandardRestore(jax.tree.map(_shape_dtype, template.params)),
        opt_state=ocp.args.StandardRestore(jax.tree.map(_shape_dtype, opt_state)),
        position=ocp.args.JsonRestore()))
    treedef = jax.tree.structure(template.opt_state)
    leaves = [restored.opt_state[name] for name in opt_state]
    count = jax.device_put(np.int32(restored.position['step']), template.step.sharding)
    state = TrainState(count, restored.params, jax.tree.unflatten(treedef, leaves))
    return state, restored.position

  def _set_aside(self, steps: list[int]) -> None:
    """Renames them, so that the run can write these steps again."""
    if not steps:
      return
    if jax.process_index() == 0:
      for step in steps:
        folder, number = self.folder / str(step), 0
        while (aside := self.folder / f'unreadable-{step}-{number}').exists():
          number += 1
        folder.rename(aside)
    ocp.multihost.sync_global_processes('flanjax:set_aside')
    self._manager.reload()


def steps_in(model_dir: str | os.PathLike[str]) -> list[int]:
  """The steps of a run's checkpoints, the oldest first."""
  return _steps(remote.resolved(model_dir) / FOLDER)


def _steps(folder: remote.AnyPath) -> list[int]:
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def find(path: remote.AnyPath, step: int | None = None) -> remote.AnyPath:
  """The folder of one checkpoint, given that, the folder of all of them, or a run's."""
  if (path / 'params').is_dir():
    return path
  for folder in (path / FOLDER, path):
    steps = _steps(folder)
    if steps and step is not None and step not in steps:
      raise errors.UserError('no checkpoint of this step', where=str(folder), got=step,
                             expected=f'one of {steps}')
    if steps:
      return folder / str(steps[-1] if step is None else step)
  raise errors.UserError(
      'no checkpoint here', where=str(path),
      expected='a run folder, one of its checkpoints, a converted folder, one of transformers '
               'or T5X, or a .safetensors file')


def restore_params(
    path: str | os.PathLike[str], step: int | None = None, merged: bool = True
) -> tuple[dict[str, Any], int]:
  """-> parameters of the whole model as numpy arrays, and the step they are of.

  Args:
    path: a run's folder, a checkpoint's, one that holds params.safetensors, or such a file;
      or a folder of transformers' T5, or a checkpoint of T5X.
    step: which checkpoint of a run; the newest unless given.
    merged: whether LoRA's factors are folded into their kernels.

  Raises:
    UserError: there is none, or it cannot be read; or the base of what a run trained cannot.
  """
  params, step = read_params(path, step)
  return freezing.complete(params, remote.resolved(path), merged, restore_params), step


def read_params(
    path: str | os.PathLike[str], step: int | None = None
) -> tuple[dict[str, Any], int]:
  """-> what a checkpoint holds, of a run that trains a part of the parameters that part.

  Args and Raises: as `restore_params`.
  """
  path = remote.resolved(path)
  if not path.exists():
    raise errors.UserError('no such checkpoint', where=str(path))
  if path.is_dir() and not _steps(path / FOLDER) and (path / 'params.safetensors').exists():
    path /= 'params.safetensors'
  if path.is_dir() and foreign.is_folder(path):
    weights = foreign.open_folder(path)
    flat = {name: tensors.to_array(tensor) for name, tensor in weights.tensors.items()}
    return safetensors.unflatten(flat), weights.info.get('step', 0)
  if path.is_file():
    params, metadata = safetensors.load_params(path)
    # Files may be of bfloat16; the optimizer's steps are too small for that.
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    return params, int(metadata.get('step', 0))
  folder = find(path, step)
  try:
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(folder / 'params').tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    params = handler.restore(
        folder / 'params', args=ocp.args.PyTreeRestore(restore_args=as_numpy))
  except Exception as error:
    raise errors.UserError('the checkpoint cannot be read', where=str(folder),
                           got=error) from error
  return params, int(folder.name) if folder.name.isdigit() else 0
