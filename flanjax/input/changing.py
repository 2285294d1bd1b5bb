"""One mixture after another: batch t comes from the mixture that holds at step t."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.input import audit as audit_lib
from flanjax.input.blocks import Rows
from flanjax.input.manifest import SIDES
from flanjax.input.mixture import MixtureSource


class ChangingSource:
  """Batches of several mixtures, each from a step of its own on; read as a `MixtureSource`.

  A mixture begins with its own batch 0 at its step, so that a batch stays a function of its number.

  Args:
    parts: step -> the mixture that holds from there on; one of them from step 0.

  Raises:
    UserError: no mixture holds at step 0, one ends before the next begins, or they are of
      different batch sizes, lengths or vocabularies.
  """

  def __init__(self, parts: Mapping[int, MixtureSource]):
    self._starts = sorted(parts)
    self._parts = [parts[s] for s in self._starts]
    first, last = self._parts[0], self._parts[-1]
    if self._starts[0] != 0:
      raise UserError('No mixture holds at the first step.', got=f'steps {self._starts}',
                      expected='one from step 0 on')
    for part, start, stop in zip(self._parts, self._starts, self._starts[1:]):
      if part.num_batches is not None and part.num_batches < stop - start:
        raise UserError('A mixture ends before the next one begins.',
                        where=f'mixture {part.manifest.mixture}, from step {start}',
                        got=f'{part.num_batches} batches', expected=f'at least {stop - start}')
    for part in self._parts[1:]:
      for name in ('batch_size', 'feature_lengths', 'packed', 'vocab_size'):
        if getattr(part, name) != getattr(first, name):
          raise UserError(f'Mixtures of one run must have the same {name}.',
                          where=f'mixture {part.manifest.mixture}', got=getattr(part, name),
                          expected=getattr(first, name))
    self.batch_size, self.vocab_size = first.batch_size, first.vocab_size
    self.manifest, self.feature_lengths = first.manifest, first.feature_lengths
    self.num_batches = None
    if last.num_batches is not None:
      self.num_batches = self._starts[-1] + last.num_batches

  @property
  def fingerprint(self) -> str:
    parts = [[s, p.fingerprint] for s, p in zip(self._starts, self._parts)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

  def _at(self, step: int) -> tuple[MixtureSource, int]:
    if step < 0:
      raise IndexError(f'there is no batch {step}')
    place = bisect.bisect_right(self._starts, step) - 1
    return self._parts[place], step - self._starts[place]

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    source, own = self._at(step)
    return source.batch(own, rows)

  def rows(self, step: int) -> Rows:
    source, own = self._at(step)
    return source.rows(own)

  def tally(self, step: int) -> dict[str, int]:
    source, own = self._at(step)
    return source.tally(own)

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    """As that of one mixture, over the tasks of all; shares are expected by steps and rows."""
    steps = counts.get('steps', 0)
    stops = [*self._starts[1:], max(steps, self._starts[-1])]
    lasted = [max(min(stop, steps) - start, 0) for start, stop in zip(self._starts, stops)]
    tasks, expected = {}, {}
    for part, own in zip(self._parts, lasted):
      for task, share in zip(part.manifest.tasks, part.promised(own)):
        tasks[task.name] = task
        weight = own * part.fill.examples_per_row
        expected[task.name] = expected.get(task.name, 0.0) + weight * share
    total = sum(expected.values()) or 1.0
    shares = np.array([expected[name] / total for name in tasks])
    places = {side: self.batch_size * self.feature_lengths[side] for side in SIDES}
    known = {'mixture': ', then '.join(p.manifest.mixture for p in self._parts),
             'split': self.manifest.split, 'batch_size': self.batch_size,
             'feature_lengths': self.feature_lengths}
    return known | audit_lib.audit(counts, list(tasks.values()), shares, places)
