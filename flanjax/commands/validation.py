"""Losses on a mixture's validation split while it trains: T5X's `training_eval`."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from flanjax import partitioning, terminal
from flanjax.training import checkpoints, logs


def train(settings: Any, make_trainer: Callable[..., Any], source: Any,
          folder: pathlib.Path, name: str) -> tuple[Any, Any]:
  """Trains to each multiple of `eval_period` in turn and writes the loss on `source` there.

  Every stretch resumes from the checkpoint of the one before, as a run started again does, and
  so sees the same batches as an uninterrupted run.

  Args:
    settings: has model, mesh, total_steps, eval_period and eval_steps.
    make_trainer: `loop.Trainer` with all arguments but total_steps.
    source: batches of the validation split.
    folder: the run's folder; losses go to training_eval/<name>.
    name: of the mixture.

  Returns:
    the last trainer and its state.
  """
  steps = [int(p.name) for p in (folder / checkpoints.FOLDER).glob('*') if p.name.isdigit()]
  done = max(steps, default=0)
  period, total = settings.eval_period, settings.total_steps
  stops = [s for s in range(period, total, period) if s > done] + [total]
  loss_fn = jax.jit(lambda params, batch: settings.model.loss_fn(params, batch, None))
  for stop in stops:
    trainer = make_trainer(total_steps=stop)
    state = trainer.run()
    if trainer.interrupted:
      break
    values = evaluate(loss_fn, state.params, source, settings.eval_steps, settings.mesh)
    _write(folder / 'training_eval' / name, stop, values)
    terminal.note(f"step {stop}: loss {values['loss_per_nonpadding_target_token']:.3f}, "
                  f"accuracy {values['accuracy']:.3f} on the validation split")
  return trainer, state


def evaluate(loss_fn: Callable[..., Any], params: Any, source: Any, steps: int,
             mesh: Any) -> dict[str, float]:
  """Means per target token over the first `steps` batches of `source`, without dropout."""
  sums: collections.Counter = collections.Counter()
  with partitioning.activate(mesh):
    for step in range(steps):
      rows = partitioning.local_rows(mesh, source.batch_size)
      batch = partitioning.put_rows(source.batch(step, rows), mesh, rows[0], source.batch_size)
      loss, metrics = loss_fn(params, batch)
      sums.update({'loss': float(loss)} | {k: float(v) for k, v in metrics.items()})
  weight = max(sums['weight_sum'], 1.0)
  return {
      'loss_per_nonpadding_target_token': sums['loss'] / weight,
      'cross_ent_loss': sums['cross_ent_loss'] / weight,
      'accuracy': sums['correct'] / weight,
  }


def _write(folder: pathlib.Path, step: int, values: dict[str, float]) -> None:
  if jax.process_index():
    return
  logs.make_folder(folder)
  log = logs.MetricLog(folder, step - 1)
  log.write(step, values, values)
  log.close()
