"""The few lengths of an engine that is to compile all its programs before it is asked anything."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

_LEAST = 64
# Prompts are encoded whole, so their lengths are closer; a cache only has places to spare.
_INPUTS_GROW, _TEXTS_GROW = 2, 4
# What one row of a batch that is scored may hold; see `evaluation.predict.prompts`.
SCORED_TOKENS = 256


@dataclasses.dataclass(frozen=True)
class Buckets:
  """Lengths, each of which is a compiled program, from the least to the most.

  Attributes:
    inputs: numbers of columns that prompts are padded to.
    texts: of tokens that the caches of texts in the making have room for.
    targets: of tokens of a row that is scored.
  """

  inputs: tuple[int, ...]
  texts: tuple[int, ...]
  targets: tuple[int, ...]

  @classmethod
  def of(cls, inputs_length: int, max_decode_steps: int, multiple: int = 32) -> Buckets:
    """Few that hold prompts and texts of up to so many tokens.

    >>> Buckets.of(300, 256)
    Buckets(inputs=(64, 128, 256, 320), texts=(64, 256), targets=(64, 256))
    """
    most = -(-inputs_length // multiple) * multiple
    return cls(_ladder(most, _INPUTS_GROW), _ladder(max_decode_steps, _TEXTS_GROW),
               _ladder(max(max_decode_steps, SCORED_TOKENS), _TEXTS_GROW))


def _ladder(most: int, factor: int) -> tuple[int, ...]:
  """
  >>> _ladder(50, 2), _ladder(256, 2)
  ((50,), (64, 128, 256))
  """
  steps = (_LEAST * factor**i for i in itertools.count())
  return (*itertools.takewhile(lambda n: n < most, steps), most)


def holding(length: int, lengths: Sequence[int]) -> int:
  """The least of `lengths` that holds `length`."""
  return next(n for n in lengths if n >= length)
