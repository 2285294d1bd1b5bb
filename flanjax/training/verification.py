"""Equalities that a trainer must keep, measured on one's own model, batches and devices.

What differs between two roads to one result is rounding; what differs by more is a fault.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flanjax import partitioning
from flanjax.input.packing import unpacked
from flanjax.models import t5
from flanjax.training.checkpoints import Checkpointer, read_params
from flanjax.training.state import TrainState
from flanjax.training.step import make_train_step

Batch = Mapping[str, np.ndarray]
# Of a relative difference, by the dtype that is computed in: some hundred units in the last place
# for sums over thousands of terms.
ALLOWED = {'float32': 5e-5, 'bfloat16': 5e-2, 'float16': 1e-2}


@dataclasses.dataclass(frozen=True)
class Check:
  """What one comparison found.

  Attributes:
    name: the two things that should be equal.
    compared: what of them, and how much.
    difference: the largest, relative to the largest value of its kind.
    allowed: the largest that rounding explains; 0 where bits must be equal.
  """

  name: str
  compared: str
  difference: float
  allowed: float

  @property
  def holds(self) -> bool:
    """False too where a number is not finite."""
    return self.difference <= self.allowed


def difference(one: Any, other: Any) -> float:
  """The largest difference of two trees, of each pair of arrays relative to its largest value.

  >>> difference({'a': np.array([1., 2.])}, {'a': np.array([1., 1.5])})
  0.25
  """
  def of_pair(x, y):
    x, y = (np.asarray(v, np.float64) for v in (x, y))
    most = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0))
    return float(np.abs(x - y).max(initial=0) / most) if most else 0.0

  found = jax.tree.leaves(jax.tree.map(of_pair, one, other))
  return float(np.max(found)) if found else 0.0


def _without_dropout(model: Any) -> Any:
  config = dataclasses.replace(model.config, dropout_rate=0.0)
  return t5.EncoderDecoderModel(config, model.z_loss, model.label_smoothing)


def _allowed(model: Any) -> float:
  return ALLOWED.get(jnp.dtype(model.config.dtype).name, max(ALLOWED.values()))


def packing(model: Any, params: Any, batch: Batch) -> Check:
  """log p of each target token, of packed rows and of each example alone.

  Args:
    model: the pure functions of `t5.EncoderDecoderModel`.
    params: its parameters.
    batch: packed.
  """
  score = jax.jit(model.score_tokens)
  together = np.asarray(score(params, dict(batch)))
  alone, rows = unpacked(batch), len(together)
  count = len(alone['decoder_target_tokens'])
  scores = []
  for first in range(0, count, rows):
    part = {name: np.pad(x[first : first + rows], ((0, max(0, first + rows - count)), (0, 0)))
            for name, x in alone.items()}
    scores.append(np.asarray(score(params, part)))
  scores = np.concatenate(scores)[:count]
  real = alone['decoder_target_tokens'] > 0
  return Check('packed = unpacked', f'log p of {int(real.sum()):,} target tokens, {count} examples',
               difference(together[batch['decoder_target_tokens'] > 0], scores[real]),
               _allowed(model))


def _recorder() -> optax.GradientTransformation:
  """An optimizer that changes nothing and whose state is the last gradient."""
  return optax.GradientTransformation(
      lambda params: jax.tree.map(jnp.zeros_like, params),
      lambda grads, state, params=None: (jax.tree.map(jnp.zeros_like, grads), grads))


def microbatches(
    model: Any, trained: Any, frozen: Any, batch: Batch, num_microbatches: int
) -> Check:
  """The gradient of a batch cut into microbatches, and of the whole.

  Args:
    model: as of `packing`.
    trained: the parameters whose gradient it is.
    frozen: the others.
    batch: any.
    num_microbatches: must divide its rows.
  """
  model, recorder = _without_dropout(model), _recorder()
  gradients = []
  for parts in (1, num_microbatches):
    step = make_train_step(model, recorder, num_microbatches=parts)
    state = TrainState.create(jax.tree.map(jnp.array, trained), recorder, frozen)
    gradients.append(jax.device_get(step(state, dict(batch))[0].opt_state))
  tokens = int(np.sum(batch['decoder_loss_weights'] > 0))
  return Check(f'{num_microbatches} microbatches = whole batch',
               f'gradient of {len(jax.tree.leaves(trained))} parameters, {tokens:,} tokens',
               difference(*gradients), _allowed(model))


def meshes(
    make_trainer: Callable[..., Any], shapes: Sequence[Sequence[int]], batches: Sequence[Batch]
) -> list[Check]:
  """Losses and gradient norms of a few steps with dropout, on one device and on each mesh.

  Args:
    make_trainer: mesh -> a `loop.Trainer`.
    shapes: of meshes: (data, fsdp, model).
    batches: one for each step.
  """
  def trainer_on(shape: Sequence[int]) -> Any:
    devices = jax.devices()[: int(np.prod(shape))]
    return make_trainer(mesh=partitioning.make_mesh(*shape, devices=devices))

  one = trainer_on((1, 1, 1))
  expected = _steps(one, batches)
  checks = []
  for shape in shapes:
    found = _steps(trainer_on(shape), batches)
    named = zip(('data', 'fsdp', 'model'), shape)
    checks.append(Check(
        '1 device = ' + ' x '.join(f'{axis} {n}' for axis, n in named if n > 1),
        f'loss, gradient norm of {len(batches)} steps with dropout',
        float(np.max(np.abs(found / expected - 1))), _allowed(one.model)))
  return checks


def _steps(trainer: Any, batches: Sequence[Batch]) -> np.ndarray:
  """-> float64 [steps, 2]: loss and gradient norm of the trainer's own first steps."""
  state, rows = trainer.initial_state(), partitioning.batch_sharding(trainer.layout.mesh)
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows)
            for name, x in batches[0].items()}
  step = trainer.lower_step(shapes).compile()
  found = []
  for batch in batches:
    state, metrics = step(state, partitioning.put(batch, rows))
    found.append((float(metrics['loss']), float(metrics['gradient_norm'])))
  return np.array(found)


def resuming(make_trainer: Callable[..., Any], folder: pathlib.Path, steps: int = 4) -> list[Check]:
  """A run stopped half way, saved, restored and gone on with, and one that never stopped.

  Args:
    make_trainer: (model_dir, total_steps) -> a `loop.Trainer`.
    folder: an empty one, with room for four checkpoints.
    steps: of a run.
  """
  whole = jax.device_get(make_trainer(model_dir=folder / 'whole', total_steps=steps).run())
  first = make_trainer(model_dir=folder / 'halves', total_steps=steps // 2)
  saved = jax.device_get(first.run())
  checkpointer = Checkpointer(folder / 'halves')
  try:
    restored, _ = checkpointer.restore(first.abstract_state()._replace(frozen={}))
  finally:
    checkpointer.close()
  restored = jax.device_get(restored)._replace(frozen=saved.frozen)
  second = make_trainer(model_dir=folder / 'halves', total_steps=steps)
  resumed = jax.device_get(second.run())
  # A GPU adds up in an order that is not always the same.
  exact = 0.0 if jax.default_backend() != 'gpu' else _allowed(first.model)
  arrays = f'{len(jax.tree.leaves(saved)):,} arrays: parameters and optimizer'
  return [
      Check('saved = restored', arrays, difference(saved, restored), 0.0),
      Check('saved = read for evaluation', f'{len(jax.tree.leaves(saved.params)):,} parameters',
            difference(saved.params, read_params(folder / 'halves', steps // 2)[0]), 0.0),
      Check('resumed = uninterrupted', f'{arrays}, after {steps} steps',
            difference(whole, resumed), exact),
  ]
