"""What the trainer asks of those it works with: sources of batches, and an evaluator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


class BatchSource(Protocol):
  """Where batches come from. `batch` and `tally` are pure functions of the step."""

  fingerprint: str
  batch_size: int

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Batch of step 0, 1, ..., or its rows (first, stop): arrays [batch, length].

    Called from another thread.
    """
    ...

  def tally(self, step: int) -> Mapping[str, int]:
    """What it holds, as counts that can be added up."""
    ...

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the tallies of all steps so far, added up, say: plain data."""
    ...


@runtime_checkable
class StatefulSource(Protocol):
  """A source whose batches come in order, from a state that is kept beside the checkpoints."""

  def begin(self, step: int) -> None:
    """Calls its first batch number `step`, for a run that begins there."""
    ...

  def save(self, folder: os.PathLike[str], step: int) -> None:
    """Writes what it takes to go on with batch `step`."""
    ...

  def restore(self, folder: os.PathLike[str], step: int) -> None:
    """Goes on with batch `step`."""
    ...


class Evaluator(Protocol):
  """Measures a state while it is trained. What it raises is written down, and ends no run."""

  period: int
  names: Sequence[str]

  def __call__(self, step: int, params: Any) -> Mapping[str, float]:
    """-> numbers of the parameters after `step` steps. Called from another thread."""
    ...

  def missing(self, step: int) -> bool:
    """Whether there are no numbers of `step` yet."""
    ...
