"""Compiles, before there are clients, all that they would else wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flanjax.inference.requests import Request, Sampling


def warm(
    generator: Any, beam_sizes: Sequence[int], progress: Callable[[int, int], None]
) -> None:
  """Compiles every program that a request may need, and answers as many as there are slots.

  Args:
    generator: a `TextGenerator` that was opened with `few_lengths`.
    beam_sizes: those that requests may have.
    progress: called with (lengths of prompts done, all).
  """
  engine, eos_id = generator.engine, generator.vocabulary.eos_id
  lengths = engine.buckets.inputs
  for done, _ in enumerate(engine.compile(beam_sizes), start=1):
    progress(done, len(lengths))
  # The most that there can be at a time: a lack of memory shows here.
  prompt = [eos_id] * generator.max_inputs_length
  steps = min(2, engine.max_decode_steps)
  asked = (Request(('warm', i), prompt, Sampling(steps, temperature=float(i % 2)))
           for i in range(engine.slots + 1))
  for _ in engine.run(asked):
    pass
  engine.clear()
