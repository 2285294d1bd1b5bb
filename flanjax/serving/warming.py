"""Compiles what the first clients would else wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flanjax.inference import engine as engines
from flanjax.inference.requests import Request, Sampling


def lengths(most: int, multiple: int, choice: str) -> list[int]:
  """The longest prompts that are padded to each number of columns; 'ends': of the first and last.

  >>> lengths(200, 32, 'all'), lengths(200, 32, 'ends')
  ([32, 64, 96, 128, 192, 200], [32, 200])
  """
  found, columns = [], 0
  while columns < most:
    columns = engines.input_columns(columns + 1, multiple)
    found.append(min(columns, most))
  return found if choice == 'all' else sorted({found[0], found[-1]})


def warm(generator: Any, choice: str, progress: Callable[[int, int], None]) -> None:
  """Answers prompts of several lengths, greedily and drawn, one and many at a time.

  Args:
    generator: a `TextGenerator`.
    choice: 'ends', the shortest and the longest prompts; 'all', those of every length; 'none'.
      Others are compiled as they come, or found in the compilation cache.
    progress: called with (lengths done, all).
  """
  if choice == 'none':
    return
  engine, end = generator.engine, generator.vocabulary.eos_id
  chosen = lengths(generator.max_inputs_length, engine.input_multiple, choice)
  steps = min(2, engine.max_decode_steps)
  for done, length in enumerate(chosen):
    # Any token does; the one after the end token is in every vocabulary.
    prompt = [end + 1] * (length - 1) + [end]
    counts = engines.group_sizes(1, engine.slots)
    for count, temperature in [(1, 1.0), *((n, 0.0) for n in counts)]:
      sampling = Sampling(max_decode_steps=steps, temperature=temperature)
      for _ in engine.run(Request(('warm', i), prompt, sampling) for i in range(count)):
        pass
    engine.score([(prompt, [end])])
    progress(done + 1, len(chosen))
