"""Losses on a mixture's validation split while it trains: T5X's `training_eval`."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from flanjax import partitioning, terminal
from flanjax.training import reporting

NAMES = ('loss_per_nonpadding_target_token', 'cross_ent_loss', 'accuracy')


class Validation:
  """A `protocols.Evaluator`: writes the loss on `source` to training_eval/<name>.

  Args:
    settings: has model, mesh, eval_period and eval_steps.
    source: batches of the validation split; None where only `period` and `names` are asked for.
    folder: the run's folder.
    name: of the mixture.
  """

  names = NAMES

  def __init__(self, settings: Any, source: Any, folder: pathlib.Path, name: str):
    self.period = settings.eval_period
    self._settings, self._source = settings, source
    self._folder, self._name = folder, f'training_eval/{name}'
    self._reporting = getattr(settings, 'reporting', None) or reporting.Reporting()
    self._log: Any = None
    self._loss_fn = jax.jit(
        lambda params, batch: settings.model.loss_fn(params, batch, None))

  def __call__(self, step: int, params: Any) -> dict[str, float]:
    """-> the numbers after `step` steps, which it writes down."""
    settings = self._settings
    values = evaluate(self._loss_fn, params, self._source, settings.eval_steps, settings.mesh)
    # Opened here: what an earlier run wrote of this step and later ones is dropped.
    self._log = self._log or self._reporting.open(self._folder, self._name, step - 1)
    if self._log is not None:
      self._log.write(step, values)
      self._log.drain()
    terminal.note(f"step {step}: loss {values['loss_per_nonpadding_target_token']:.3f}, "
                  f"accuracy {values['accuracy']:.3f} on the validation split")
    return values

  def close(self) -> None:
    """Closes the log."""
    if self._log is not None:
      self._log.close()

  def missing(self, step: int) -> bool:
    """Whether the log has no line of `step`, as when a stop cut its evaluation short."""
    path = self._folder / self._name / 'log.jsonl'
    if not path.exists():
      return True
    steps = set()
    for line in path.read_text().splitlines():
      try:
        steps.add(json.loads(line)['step'])
      except (ValueError, KeyError, TypeError):
        continue  # A line that was being written when the run was killed.
    return step not in steps


def train(settings: Any, make_trainer: Callable[..., Any], source: Any,
          folder: pathlib.Path, name: str) -> tuple[Any, Any]:
  """Trains, and writes the loss on `source` at each multiple of `eval_period` and at the end.

  Args:
    settings: as for `Validation`, and has total_steps.
    make_trainer: `loop.Trainer` with all arguments but total_steps and evaluator.
    source: batches of the validation split, or None: nothing is evaluated.
    folder: the run's folder.
    name: of the mixture.

  Returns:
    the trainer and its state.
  """
  evaluator = None if source is None else Validation(settings, source, folder, name)
  trainer = make_trainer(total_steps=settings.total_steps, evaluator=evaluator)
  try:
    return trainer, trainer.run()
  finally:
    if evaluator is not None:
      evaluator.close()


def evaluate(loss_fn: Callable[..., Any], params: Any, source: Any, steps: int,
             mesh: Any) -> dict[str, float]:
  """Means per target token over the first `steps` batches of `source`, without dropout.

  To be called where the mesh is active.
  """
  sums: collections.Counter = collections.Counter()
  for step in range(steps):
    rows = partitioning.local_rows(mesh, source.batch_size)
    batch = partitioning.put_rows(source.batch(step, rows), mesh, rows[0], source.batch_size)
    loss, metrics = loss_fn(params, batch)
    sums.update({'loss': float(loss)} | {k: float(v) for k, v in metrics.items()})
  weight = max(sums['weight_sum'], 1.0)
  values = (sums['loss'], sums['cross_ent_loss'], sums['correct'])
  return {name: value / weight for name, value in zip(NAMES, values)}
