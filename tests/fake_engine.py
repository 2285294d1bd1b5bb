"""An engine without a model: it answers bytes with bytes, and tests hold it and make it fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np

from flanjax.inference import tokenizer
from flanjax.inference.requests import Answer, Completion, Request, Update
from flanjax.inference.text import TextGenerator

VOCABULARY = tokenizer.Bytes()
STEPS = 3


def reverse(prompt: str, sample: int) -> str:
  return f'{prompt[::-1]}{sample or ""}'


class FakeEngine:
  """Answers `answer(prompt, sample)`, three tokens a step.

  Attributes:
    gate: cleared, every step waits.
    hold_at: the step at which the gate clears itself.
    errors: raised by the next steps, one by each.
    steps: how many there were.
    rows: of each step, how many answers it went on with.
    cancelled: ids.
    scored: pairs, of which a batch has one; the gate holds them, too.
    fail_scoring: whether scoring raises.
  """

  def __init__(self, answer: Callable[[str, int], str] = reverse):
    self._answer = answer
    self.eos_id, self.max_decode_steps = VOCABULARY.eos_id, 1000
    self.gate = threading.Event()
    self.gate.set()
    self.hold_at: int | None = None
    self.errors: list[Exception] = []
    self.rows: list[int] = []
    self.cancelled: list[object] = []
    self.scored, self.fail_scoring = 0, False
    self._running: dict[object, list[list[int]]] = {}

  @property
  def steps(self) -> int:
    return len(self.rows)

  def add(self, request: Request) -> None:
    prompt = VOCABULARY.decode(request.inputs)
    limit = request.sampling.max_decode_steps
    tokens = [VOCABULARY.encode(self._answer(prompt, i)) + [self.eos_id]
              for i in range(request.sampling.num_samples)]
    self._running[request.id] = [t[:limit] for t in tokens]

  def cancel(self, id: object, sample: int | None = None) -> None:
    self.cancelled.append(id)
    for i, row in enumerate(self._running.get(id, ())):
      if sample in (None, i):
        row.clear()

  def step(self) -> list[Update]:
    if self.steps == self.hold_at:
      self.hold_at = None
      self.gate.clear()
    self.gate.wait(120)
    if self.errors:
      raise self.errors.pop(0)
    self.rows.append(sum(bool(row) for rows in self._running.values() for row in rows))
    updates = [
        self._advance(id, i, row) for id, rows in self._running.items()
        for i, row in enumerate(rows) if row]
    self._running = {id: rows for id, rows in self._running.items() if any(rows)}
    return updates

  def _advance(self, id: object, sample: int, row: list[int]) -> Update:
    new, row[:] = row[:STEPS], row[STEPS:]
    ended = bool(new) and new[-1] == self.eos_id
    reason = 'end' if ended else None if row else 'length'
    return Update(id, sample, [t for t in new if t != self.eos_id], [-t / 1000 for t in new],
                  reason, reason and -1.0)

  def run(self, requests: Iterable[Request]) -> Iterable[Answer]:
    for request in requests:
      yield Answer(request.id, [Completion([], [], 0.0, 'end')])

  def score_batches(self, pairs):
    for i, (_, targets) in enumerate(pairs):
      self.gate.wait(120)
      if self.fail_scoring:
        raise RuntimeError('scoring failed')
      self.scored += 1
      yield [(i, np.full(len(targets), -1.0))]


def generator(engine: FakeEngine, **settings) -> TextGenerator:
  return TextGenerator(engine, VOCABULARY, **{
      'max_inputs_length': 64, 'too_long': 'refuse', 'name': 'fake', **settings})
