"""What a run tells, and to whom: the settings of it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

import jax

from flanjax import errors, terminal
from flanjax.input import remote
from flanjax.training import logs, profiler, sinks

# Key in train/log.jsonl -> the scalar's name.
TRAIN_COLUMNS = {
    'loss': 'loss_per_nonpadding_target_token',
    'accuracy': 'accuracy',
    'learning_rate': 'learning_rate',
    'tokens_per_second': 'timing/tokens_per_second',
    'step_seconds': 'timing/step_seconds',
    'mfu': 'timing/mfu',
    'goodput': 'timing/goodput',
    'memory_bytes': 'memory/peak_bytes',
    'seconds': 'timing/uptime',
}


@dataclasses.dataclass(frozen=True)
class Reporting:
  """What a run reports beside its bar and its JSON lines.

  Attributes:
    tensorboard: whether to write TensorBoard's event files.
    wandb_project: a project at Weights & Biases, from `pip install 'flanjax[wandb]'`; None: none.
      Its own variables hold: WANDB_MODE=offline writes into MODEL_DIR alone.
    wandb_name: what the run is called there; None: as its folder.
    profile: (first, last) step to write a trace of.
  """

  tensorboard: bool = True
  wandb_project: str | None = None
  wandb_name: str | None = None
  profile: tuple[int, int] | None = None

  def __post_init__(self):
    for name in ('wandb_project', 'wandb_name'):
      value = getattr(self, name)
      if value is not None and not isinstance(value, str):
        raise errors.UserError(f'{name} must be a text', where='Reporting', got=repr(value))
    if self.wandb_project and 'wandb' not in sys.modules and not importlib.util.find_spec('wandb'):
      raise errors.UserError('Weights & Biases is not installed', where='Reporting.wandb_project',
                             got=self.wandb_project, hint="pip install 'flanjax[wandb]'")

  def open(
      self, model_dir: remote.AnyPath, part: str, step: int,
      columns: Mapping[str, str] | None = None, description: Mapping[str, Any] | None = None,
  ) -> sinks.Sinks | None:
    """The sinks of one part of a run; None where another process writes.

    Args:
      model_dir: the run's folder.
      part: 'train', or another folder in it.
      step: the step resumed from; what was written of later ones is dropped.
      columns: of the JSON lines; None: every scalar.
      description: settings of the run, for those who show them beside it.

    Raises:
      UserError: the folder cannot be written, or Weights & Biases takes no new run.
    """
    if jax.process_index():
      return None
    folder = model_dir / part
    logs.make_folder(folder)
    opened: dict[str, sinks.Sink] = {}
    if self.wandb_project:
      run = self._wandb_run(model_dir, description or {}, resumed=step > 0)
      opened |= {'Weights & Biases': sinks.WeightsAndBiases(run, f'{part}/')} if run else {}
    opened['log.jsonl'] = sinks.JsonLines(folder / 'log.jsonl', step, columns)
    if self.tensorboard:
      try:
        opened['TensorBoard'] = sinks.TensorBoard(folder, step)
      except Exception as error:  # Of a store for which it lacks a library, say.
        terminal.note(f'warning: TensorBoard is left out: {type(error).__name__}: {error}')
    return sinks.Sinks(opened)

  def _wandb_run(
      self, model_dir: remote.AnyPath, description: Mapping[str, Any], resumed: bool
  ) -> Any:
    """The run of this folder, opened once in a process; None if it had to be given up."""
    import wandb

    # Of the folder, so that a run started again goes on with its own curves.
    run_id = hashlib.sha256(str(remote.resolved(model_dir)).encode()).hexdigest()[:16]
    open_run = getattr(wandb, 'run', None)
    if open_run is not None and open_run.id == run_id:
      return open_run
    try:
      return wandb.init(
          project=self.wandb_project, name=self.wandb_name or model_dir.name, id=run_id,
          resume='allow',
          dir=None if remote.is_remote(model_dir) else str(model_dir), config=dict(description))
    except Exception as error:  # No key, no network: its errors are of many kinds.
      got = f'{type(error).__name__}: {error}'
      if resumed:  # Nobody may be there to help; the run matters more.
        terminal.note(f'warning: Weights & Biases is left out: {got}')
        return None
      raise errors.UserError(
          'Weights & Biases takes no run', where=f'project {self.wandb_project}', got=got,
          hint='wandb login, or WANDB_MODE=offline') from error


def profiled(reporting: Reporting | None, steps: str, total_steps: int) -> Reporting:
  """`reporting` with a trace of `steps`, as '10:15', of a run of `total_steps`."""
  return dataclasses.replace(
      reporting or Reporting(), profile=profiler.parse(steps, total_steps))
