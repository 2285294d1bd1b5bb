"""Our models as lm-evaluation-harness sees them.

Needs `pip install 'flanjax[lm_eval]'`. As the harness treats encoder-decoders of transformers, a prompt
ends with the end token and a continuation does not, an empty prompt is the end token alone, and of
a prompt that is too long the end is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM

from flanjax.errors import UserError
from flanjax.inference.requests import Request, Sampling
from flanjax.inference.text import TextGenerator

_MAX_GEN_TOKS = 256
_READ = ('until', 'max_gen_toks', 'max_new_tokens', 'do_sample', 'temperature', 'top_k', 'top_p',
         'num_beams')


class HarnessModel(LM):
  """Answers the harness's requests.

  Args:
    generator: the model.
    max_gen_toks: tokens of an answer where a task does not say.
    seed: of what tasks have drawn.
  """

  def __init__(self, generator: TextGenerator, max_gen_toks: int = _MAX_GEN_TOKS, seed: int = 0):
    super().__init__()
    self._generator, self._seed = generator, seed
    self._max_gen_toks = min(max_gen_toks, generator.engine.max_decode_steps)

  def _prompt(self, text: str) -> list[int]:
    eos, room = self._generator.vocabulary.eos_id, self._generator.max_inputs_length - 1
    return [*self._generator.vocabulary.encode(text)[-room:], eos]

  def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
    # Spaces belong to what follows them.
    stripped = context.rstrip()
    continuation = context[len(stripped):] + continuation
    return self._prompt(stripped), self._generator.vocabulary.encode(continuation)

  def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
    """-> (log p(continuation | context), whether it is what greedy decoding would begin with)."""
    pairs = [self._pair(*request.args) for request in requests]
    scores = self._generator.engine.score(pairs)
    greedy = self._greedy(pairs)
    return [(float(np.sum(s)), greedy[tuple(x)][: len(y)] == y)
            for s, (x, y) in zip(scores, pairs)]

  def _greedy(
      self, pairs: Sequence[tuple[list[int], list[int]]]
  ) -> dict[tuple[int, ...], list[int]]:
    """Greedy answers to each prompt, as long as the longest of its continuations."""
    longest: dict[tuple[int, ...], int] = {}
    for x, y in pairs:
      longest[tuple(x)] = max(longest.get(tuple(x), 1), len(y))
    asked = (Request(x, list(x), Sampling(n)) for x, n in longest.items())
    return {a.id: a.completions[0].tokens for a in self._generator.engine.run(asked)}

  def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
    raise UserError('An encoder-decoder gives no likelihood of a whole text.', where='lm_eval',
                    expected='tasks that rank options or generate')

  def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
    """-> continuations, each up to the first of its stop strings."""
    answers: dict[int, str] = {}
    numbered = [(i, *request.args) for i, request in enumerate(requests)]
    key = lambda row: repr(sorted(row[2].items()))
    for _, group in itertools.groupby(sorted(numbered, key=key), key):
      group = list(group)
      stop, sampling = self._sampling(group[0][2])
      asked = [Request(i, self._prompt(context), sampling) for i, context, _ in group]
      for answer in self._generator.engine.run(asked):
        # Stop strings cut the whole text: the harness counts what a task may read, not our time.
        answers[answer.id] = _until(self._generator.decode(answer.completions[0].tokens), stop)
    return [answers[i] for i in range(len(requests))]

  def _sampling(self, wanted: Mapping[str, Any]) -> tuple[list[str], Sampling]:
    unknown = sorted(set(wanted) - set(_READ))
    if unknown:
      raise UserError('A task asks for what cannot be done.', where='generation_kwargs',
                      got=', '.join(unknown), expected=', '.join(_READ))
    until = wanted.get('until') or []
    steps = wanted.get('max_gen_toks', wanted.get('max_new_tokens', self._max_gen_toks))
    drawn = wanted.get('do_sample', bool(wanted.get('temperature')))
    beams = int(wanted.get('num_beams', 1))
    common = {'max_decode_steps': min(int(steps), self._generator.engine.max_decode_steps)}
    if drawn:
      common |= {'temperature': float(wanted.get('temperature', 1.0) or 1.0),
                 'top_k': int(wanted.get('top_k', 0)), 'top_p': float(wanted.get('top_p', 1.0)),
                 'seed': self._seed}
    elif beams > 1:
      common['beam_size'] = beams
    return [until] if isinstance(until, str) else list(until), Sampling(**common)


def _until(text: str, stop: Sequence[str]) -> str:
  """
  >>> _until('a b. c', ['.', 'b'])
  'a '
  """
  return text[: min((place for s in stop if s and (place := text.find(s)) >= 0),
                    default=len(text))]
