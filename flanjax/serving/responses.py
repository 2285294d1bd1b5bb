"""Answers in the shapes of OpenAI's completions interface."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

from flanjax.serving.choices import Piece

DONE = b'data: [DONE]\n\n'


class Header:
  """What all parts of one answer share."""

  def __init__(self, model: str, kind: str = 'cmpl'):
    self.id, self.model = f'{kind}-{secrets.token_hex(12)}', model
    self.created = int(time.time())

  def body(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
    body = {'id': self.id, 'object': 'text_completion', 'created': self.created,
            'model': self.model, 'choices': choices}
    return body if usage is None else {**body, 'usage': usage}


def choice(piece: Piece, logprobs: int | None) -> dict[str, Any]:
  made = {'index': piece.index, 'text': piece.text, 'finish_reason': piece.finish_reason,
          'logprobs': None}
  if logprobs is not None:
    top = [{t: p} for t, p in zip(piece.tokens, piece.log_probs)] if logprobs else None
    made['logprobs'] = {'tokens': piece.tokens, 'token_logprobs': piece.log_probs,
                        'top_logprobs': top, 'text_offset': piece.offsets}
  if piece.score is not None:
    made['score'] = piece.score
  return made


def merge(pieces: Iterable[Piece], count: int) -> list[Piece]:
  """The pieces of each of `count` choices as one."""
  merged = [Piece(i) for i in range(count)]
  for piece in pieces:
    whole = merged[piece.index]
    whole.text += piece.text
    whole.tokens += piece.tokens
    whole.log_probs += piece.log_probs
    whole.offsets += piece.offsets
    whole.num_tokens += piece.num_tokens
    whole.finish_reason = piece.finish_reason or whole.finish_reason
    whole.score = whole.score if piece.score is None else piece.score
  return merged


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
  return {'prompt_tokens': prompt_tokens, 'completion_tokens': completion_tokens,
          'total_tokens': prompt_tokens + completion_tokens}


def event(body: dict[str, Any]) -> bytes:
  """A server-sent event; JSON has no line breaks of its own."""
  return b'data: ' + json.dumps(body, ensure_ascii=False).encode() + b'\n\n'


def models(name: str, created: int, **facts: Any) -> dict[str, Any]:
  model = {'id': name, 'object': 'model', 'created': created, 'owned_by': 'flanjax', **facts}
  return {'object': 'list', 'data': [model]}


def scores(
    header: Header, options: Sequence[str], log_probs: Sequence[float],
    num_tokens: Sequence[int], prompt_tokens: int,
) -> dict[str, Any]:
  """Options with their log-likelihoods; which is best depends on how one divides."""
  rows = [
      {'index': i, 'option': option, 'log_likelihood': total, 'num_tokens': n,
       'log_likelihood_per_token': total / n}
      for i, (option, total, n) in enumerate(zip(options, log_probs, num_tokens))]
  best = max(rows, key=lambda row: row['log_likelihood'])['index']
  return {'id': header.id, 'object': 'scores', 'created': header.created, 'model': header.model,
          'best': best, 'scores': rows, 'usage': usage(prompt_tokens, sum(num_tokens))}
