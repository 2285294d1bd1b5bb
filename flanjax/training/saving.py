"""When checkpoints are written, and which of them are kept."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

from orbax.checkpoint import checkpoint_managers as managers

from flanjax import errors
from flanjax.input import remote

PINNED = 'PINNED'
MODES = ('min', 'max')


@dataclasses.dataclass(frozen=True)
class Saving:
  """When checkpoints are written, and which of them are kept.

  A checkpoint with a file named PINNED in its folder is never deleted, as in T5X.

  Args:
    period: steps between checkpoints; one is always written at the end.
    keep: how many of the newest are kept; None keeps all.
    keep_best: how many of the best are kept besides. Unless 0, one is also written with each
      evaluation: one that was not evaluated is neither good nor bad.
    best_metric: which number of an evaluation tells good from bad.
    best_mode: whether the smallest ('min') or the largest ('max') is best.
  """

  period: int = 1000
  keep: int | None = 3
  keep_best: int = 0
  best_metric: str = 'loss_per_nonpadding_target_token'
  best_mode: str = 'min'

  def __post_init__(self):
    least = {'period': 1, 'keep': 1, 'keep_best': 0}
    for name, number in least.items():
      value = getattr(self, name)
      if name == 'keep' and value is None:
        continue
      if isinstance(value, bool) or not isinstance(value, int) or value < number:
        raise errors.UserError(f'{name} must be a whole number of at least {number}',
                               where='Saving', got=repr(value))
    if self.best_mode not in MODES:
      raise errors.UserError(f'best_mode has no choice {self.best_mode!r}', where='Saving',
                             hint=errors.nearest(str(self.best_mode), MODES))

  def check(self, names: Sequence[str]) -> None:
    """UserError when the best are to be kept and evaluations, which give `names`, cannot tell."""
    if not names:
      raise errors.UserError('the best checkpoints are told by evaluations, and there are none',
                             where='Saving.keep_best', got=self.keep_best,
                             hint='set EVAL_PERIOD; the data needs a validation split')
    if self.best_metric not in names:
      raise errors.UserError(f'an evaluation gives no {self.best_metric!r}',
                             where='Saving.best_metric',
                             hint=errors.nearest(self.best_metric, names))

  def quality(self, metrics: Mapping[str, float]) -> float:
    """The number by which the best are found; one that is not finite is the worst."""
    value = float(metrics[self.best_metric])
    worst = math.inf if self.best_mode == 'min' else -math.inf
    return value if math.isfinite(value) else worst

  def policy(self, folder: str | os.PathLike[str]) -> managers.PreservationPolicy:
    """What Orbax is to preserve of the checkpoints in `folder`."""
    policies = [managers.LatestN(self.keep)]
    if self.keep_best:
      policies.append(managers.BestN(
          get_metric_fn=self.quality, reverse=self.best_mode == 'min', n=self.keep_best,
          keep_checkpoints_without_metrics=False))
    return _PinnedAnd(managers.AnyPreservationPolicy(policies), folder)


@dataclasses.dataclass(frozen=True)
class _PinnedAnd:
  """What `policy` preserves, and what is pinned."""

  policy: managers.PreservationPolicy
  folder: str | os.PathLike[str]

  def should_preserve(
      self, checkpoints: Sequence[managers.PolicyCheckpointInfo], *,
      context: managers.PreservationContext,
  ) -> list[bool]:
    preserved = self.policy.should_preserve(checkpoints, context=context)
    folder = remote.resolved(self.folder)
    return [bool(keep) or (folder / str(checkpoint.step) / PINNED).exists()
            for checkpoint, keep in zip(checkpoints, preserved)]
