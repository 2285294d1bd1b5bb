"""What an engine is asked and what it answers: plain values, token ids in and out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import numbers
from collections.abc import Hashable, Sequence

import numpy as np

from flanjax import errors

# Seeds are folded into a key as 32 bits.
MAX_SEED = 2**32 - 1
MAX_BEAM_SIZE = 64


def _is_int(value: object) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to continue one prompt.

  `length_penalty` is T5X's alpha: a beam's score is its log-probability divided by
  ((5 + n) / 6) ** alpha, n counting the end token (Wu et al. 2016, 1609.08144, section 7).
  transformers divides by n ** length_penalty instead, its default being 1.0: no value of one
  gives the other, except 0 on both sides.

  Attributes:
    max_decode_steps: the most tokens, the end token among them.
    temperature: logits are divided by it before a token is drawn; 0 takes the likeliest.
    top_k: only that many of the likeliest tokens are drawn; 0: all.
    top_p: only the likeliest tokens whose probabilities come to it are drawn (Holtzman et al.
      2020, 1904.09751), the one that reaches it among them; after `top_k`.
    num_samples: answers to a prompt; greedy ones would be equal, so they are refused.
    beam_size: beams that are followed; above 1 the best `num_samples` of them are the answers.
    length_penalty: see above; read with beams alone.
    seed: of what is drawn.

  Raises:
    UserError: a value is impossible, or two exclude each other.
  """

  max_decode_steps: int = 128
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  num_samples: int = 1
  beam_size: int = 1
  length_penalty: float = 0.6
  seed: int = 0

  def __post_init__(self):
    for name, least, most in (
        ('max_decode_steps', 1, None), ('top_k', 0, None), ('num_samples', 1, None),
        ('beam_size', 1, MAX_BEAM_SIZE), ('seed', 0, MAX_SEED)):
      value = getattr(self, name)
      if not _is_int(value) or value < least or (most is not None and value > most):
        expected = f'an integer, at least {least}' + (f' and at most {most}' if most else '')
        raise errors.UserError(f'{name} is not possible', where='Sampling', got=repr(value),
                               expected=expected)
    for name, fits, expected in (
        ('temperature', lambda x: 0 <= x, 'a number, at least 0'),
        ('top_p', lambda x: 0 < x <= 1, 'a number above 0 and at most 1'),
        ('length_penalty', lambda x: True, 'a number')):
      value = getattr(self, name)
      if (isinstance(value, bool) or not isinstance(value, numbers.Real)
          or not math.isfinite(value) or not fits(value)):
        raise errors.UserError(f'{name} is not possible', where='Sampling', got=repr(value),
                               expected=expected)
    self._check_together()

  def _check_together(self) -> None:
    if self.beam_size > 1:
      if self.temperature or self.top_k or self.top_p < 1:
        raise errors.UserError(
            'beam search draws nothing', where='Sampling',
            got=f'beam_size {self.beam_size} with temperature, top_k or top_p',
            hint='leave those out, or set beam_size to 1')
      if self.num_samples > self.beam_size:
        raise errors.UserError('there are fewer beams than answers', where='Sampling',
                               got=f'{self.num_samples} samples of {self.beam_size} beams')
    elif self.num_samples > 1 and not self.temperature:
      raise errors.UserError('greedy samples would all be the same', where='Sampling',
                             got=f'num_samples {self.num_samples} at temperature 0',
                             hint='set a temperature, or a beam_size')

  @property
  def rows(self) -> int:
    """The slots that a request needs to be answered at once."""
    return self.beam_size if self.beam_size > 1 else self.num_samples


@dataclasses.dataclass(frozen=True)
class Request:
  """A prompt and how to continue it; `inputs` are token ids, the end token among them."""

  id: Hashable
  inputs: Sequence[int]
  sampling: Sampling = Sampling()

  def __post_init__(self):
    try:
      # Copied: a caller may go on to change its list.
      inputs = tuple(int(t) for t in self.inputs)
    except (TypeError, ValueError) as error:
      raise errors.UserError('inputs are not token ids', where=f'request {self.id!r}',
                             got=repr(self.inputs)[:80]) from error
    if not inputs:
      raise errors.UserError('a request without inputs', where=f'request {self.id!r}',
                             expected='token ids, at least an end token')
    if min(inputs) <= 0:
      raise errors.UserError('inputs hold what is no token', where=f'request {self.id!r}',
                             got=min(inputs), expected='ids above 0, which is padding')
    object.__setattr__(self, 'inputs', inputs)


@dataclasses.dataclass(frozen=True)
class Completion:
  """One answer to a prompt.

  Attributes:
    tokens: without the end token.
    log_probs: of each token under the model itself (temperature 1, nothing cut off), the end
      token's last if it came.
    score: their sum; of a beam, that divided by the length penalty.
    finish_reason: 'end': the end token came; 'length': there was no room for more; 'stop': it
      was ended from outside.
  """

  tokens: list[int]
  log_probs: list[float]
  score: float
  finish_reason: str


@dataclasses.dataclass(frozen=True)
class Answer:
  """All completions of a request: samples in their order, beams from the best."""

  id: Hashable
  completions: list[Completion]


@dataclasses.dataclass(frozen=True)
class Update:
  """What is new of one sample of a request since its last update.

  Attributes:
    id: of the request.
    sample: which of its samples; of beams, their rank.
    tokens: the new ones, without the end token.
    log_probs: theirs, the end token's last if it came.
    finish_reason: see `Completion`; None while it goes on.
    score: see `Completion`; None while it goes on.
  """

  id: Hashable
  sample: int
  tokens: list[int]
  log_probs: list[float]
  finish_reason: str | None = None
  score: float | None = None


def seed_of(sampling: Sampling, inputs: Sequence[int]) -> np.ndarray:
  """-> uint32 [2]: what a request's draws come from, its seed and its inputs, nothing else."""
  digest = hashlib.sha256(np.asarray(inputs, '<i8').tobytes() + sampling.seed.to_bytes(4, 'little'))
  return np.frombuffer(digest.digest()[:8], '<u4').astype(np.uint32)
