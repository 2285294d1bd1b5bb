"""What clients may send: JSON read strictly, each field checked and named where it is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from flanjax.errors import UserError, nearest
from flanjax.inference import requests
from flanjax.serving.problems import ApiError, bad_field, of_user_error

Prompt = str | list[int]

MAX_STOPS = 16
MAX_STOP_LENGTH = 256
_NEUTRAL = {'presence_penalty': (0,), 'frequency_penalty': (0,), 'logit_bias': ({},),
            'suffix': ('',)}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one request may ask for.

  Attributes:
    max_tokens: of an answer; also what is taken where a request does not say.
    max_rows: answers, or beams, of one prompt: they are decoded side by side.
    max_prompts: prompts of one request, and options of one that is scored.
    max_body_bytes: of a request's body.
    timeout_s: until a request must be answered.
    beam_sizes: those above 1 that a request may have; None: all.
  """

  max_tokens: int = 256
  max_rows: int = 16
  max_prompts: int = 64
  max_body_bytes: int = 1 << 20
  timeout_s: float = 300.0
  beam_sizes: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class CompletionRequest:
  prompts: list[Prompt]
  sampling: requests.Sampling
  stop: tuple[str, ...]
  stream: bool
  include_usage: bool
  logprobs: int | None
  echo: bool


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
  prompt: Prompt
  options: list[str]


def load_json(body: bytes) -> dict[str, Any]:
  """The object that a body holds.

  Raises:
    ApiError: it is not UTF-8, not JSON, or no object.
  """
  try:
    value = json.loads(body.decode('utf-8'), parse_constant=_no_constant)
  except UnicodeDecodeError as e:
    raise ApiError(400, f'The body is not UTF-8: byte {e.start} cannot be read.',
                   code='invalid_utf8') from e
  except RecursionError as e:
    raise ApiError(400, 'The body is nested too deeply.', code='invalid_json') from e
  except ValueError as e:
    raise ApiError(400, f'The body is not JSON: {e}.', code='invalid_json') from e
  if not isinstance(value, dict):
    raise ApiError(400, 'The body must be a JSON object.', code='invalid_json')
  return value


def _no_constant(name: str) -> None:
  raise ValueError(f'{name} is no number of JSON')


def _text(name: str, value: Any) -> str:
  if not isinstance(value, str):
    raise bad_field(name, 'must be a string')
  try:
    value.encode('utf-8')
  except UnicodeEncodeError as e:
    raise bad_field(name, f'holds half a surrogate pair at character {e.start}') from e
  return value


def _boolean(name: str, value: Any) -> bool:
  if not isinstance(value, bool):
    raise bad_field(name, 'must be true or false')
  return value


def _integer(least: int, most: int | None = None) -> Callable[[str, Any], int]:
  limits = f'at least {least}' + (f' and at most {most}' if most is not None else '')

  def check(name: str, value: Any) -> int:
    if (not isinstance(value, int) or isinstance(value, bool) or value < least
        or (most is not None and value > most)):
      raise bad_field(name, f'must be an integer, {limits}')
    return value

  return check


def _number(least: float | None = None, most: float | None = None) -> Callable[[str, Any], float]:
  ends = [f'at least {least}'] * (least is not None) + [f'at most {most}'] * (most is not None)

  def check(name: str, value: Any) -> float:
    # An integer may be too large to become a float.
    if (not isinstance(value, (int, float)) or isinstance(value, bool)
        or abs(value) > 1e9 or not math.isfinite(value)
        or (least is not None and value < least) or (most is not None and value > most)):
      raise bad_field(name, ', '.join(['must be a number', *ends]))
    return float(value)

  return check


def _is_ids(value: Any) -> bool:
  return isinstance(value, list) and all(type(x) is int for x in value)


def _one_prompt(name: str, value: Any) -> Prompt:
  return value if _is_ids(value) and value else _text(name, value)


def _prompts(name: str, value: Any) -> list[Prompt]:
  if isinstance(value, str):
    return [_text(name, value)]
  if value == [] or not isinstance(value, list):
    raise bad_field(name, 'must be a string, token ids, or a list of either')
  if _is_ids(value):
    return [value]
  if all(isinstance(x, str) for x in value):
    return [_text(name, x) for x in value]
  if all(_is_ids(x) and x for x in value):
    return value
  raise bad_field(name, 'must be a string, token ids, or a list of either')


def _texts(name: str, value: Any) -> list[str]:
  if not isinstance(value, list) or not value:
    raise bad_field(name, 'must be a list of strings')
  return [_text(name, x) for x in value]


def _stop(name: str, value: Any) -> tuple[str, ...]:
  values = [value] if isinstance(value, str) else value
  if values == []:
    return ()
  stops = _texts(name, values)
  if len(stops) > MAX_STOPS or not all(1 <= len(s) <= MAX_STOP_LENGTH for s in stops):
    raise bad_field(name, f'at most {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters')
  return tuple(stops)


def _stream_options(name: str, value: Any) -> bool:
  if not isinstance(value, dict) or not set(value) <= {'include_usage'}:
    raise bad_field(name, "knows 'include_usage' alone")
  return _boolean(f'{name}.include_usage', value.get('include_usage', False))


def _neutral(name: str, value: Any) -> None:
  if isinstance(value, bool) or value not in _NEUTRAL[name]:
    raise bad_field(name, 'is not supported; leave it out')


def _seed(name: str, value: Any) -> int:
  """Clients may send 64 bits with a sign; the engine takes 32 without."""
  return _integer(-(2**63), 2**63 - 1)(name, value) & requests.MAX_SEED


_COMPLETION = {
    'model': _text, 'prompt': _prompts, 'max_tokens': _integer(1), 'temperature': _number(0),
    'top_p': _number(0, 1), 'top_k': _integer(0), 'n': _integer(1), 'best_of': _integer(1),
    'beam_size': _integer(1, requests.MAX_BEAM_SIZE), 'length_penalty': _number(-10, 10),
    'seed': _seed, 'stop': _stop, 'stream': _boolean, 'stream_options': _stream_options,
    'logprobs': _integer(0, 5), 'echo': _boolean, 'user': _text,
    **dict.fromkeys(_NEUTRAL, _neutral),
}
_SCORE = {'model': _text, 'prompt': _one_prompt, 'options': _texts, 'user': _text}


def _fields(
    body: Mapping[str, Any], known: Mapping[str, Callable[[str, Any], Any]], *required: str
) -> dict[str, Any]:
  """The fields of a body that are not null, checked."""
  for name in body:
    if name not in known:
      shown = ascii(name[:40])[1:-1]
      raise ApiError(400, f"There is no field '{shown}': {nearest(shown, known, limit=30)}.",
                     param=shown, code='unknown_field')
  fields = {name: known[name](name, value) for name, value in body.items() if value is not None}
  for name in required:
    if name not in fields:
      raise bad_field(name, 'is missing')
  return fields


def check_model(fields: Mapping[str, Any], name: str) -> None:
  asked = fields.get('model', name)
  if asked != name:
    raise ApiError(404, f'There is no model {ascii(asked[:80])} here, only {name!r}.',
                   param='model', code='model_not_found')


def completion(body: Mapping[str, Any], model: str, limits: Limits) -> CompletionRequest:
  """A request to continue prompts.

  Raises:
    ApiError: a field is unknown, wrong or more than the server allows.
  """
  fields = _fields(body, _COMPLETION, 'prompt')
  check_model(fields, model)
  if len(fields['prompt']) > limits.max_prompts:
    raise bad_field('prompt', f'at most {limits.max_prompts} of them in one request')
  sampling = _sampling(fields, limits)
  logprobs = fields.get('logprobs')
  if logprobs is not None and logprobs > (0 if sampling.temperature else 1):
    raise bad_field('logprobs', 'only those of the tokens taken are known: 0, or 1 at '
                    'temperature 0, where they are the likeliest')
  if logprobs is not None and sampling.beam_size > 1:
    raise bad_field('logprobs', 'are not given of beams; a choice has its score')
  if logprobs is not None and fields.get('echo'):
    raise bad_field('echo', 'an encoder-decoder gives its prompt no probabilities; leave out '
                    'logprobs, or see /v1/score')
  if 'stream_options' in fields and not fields.get('stream'):
    raise bad_field('stream_options', 'only with stream')
  return CompletionRequest(
      fields['prompt'], sampling, fields.get('stop', ()), fields.get('stream', False),
      fields.get('stream_options', False), logprobs, fields.get('echo', False))


def _sampling(fields: Mapping[str, Any], limits: Limits) -> requests.Sampling:
  n, beam_size = fields.get('n', 1), fields.get('beam_size', 1)
  if fields.get('best_of', n) != n:
    raise bad_field('best_of', 'only as many as n; or n of beam_size beams')
  for name, value in (('n', n), ('beam_size', beam_size)):
    if value > limits.max_rows:
      raise bad_field(name, f'at most {limits.max_rows} on this server')
  if beam_size > 1 and limits.beam_sizes is not None and beam_size not in limits.beam_sizes:
    raise bad_field('beam_size', 'this server has programs for '
                    + (f'{", ".join(map(str, limits.beam_sizes))} beams alone'
                       if limits.beam_sizes else 'no beams')
                    + '; see --beam_sizes of flanjax serve')
  max_tokens = fields.get('max_tokens', limits.max_tokens)
  if max_tokens > limits.max_tokens:
    raise bad_field('max_tokens', f'at most {limits.max_tokens} on this server')
  if fields.get('top_p', 1.0) == 0:
    raise bad_field('top_p', 'must be above 0; temperature 0 takes the likeliest token')
  seed = fields.get('seed')
  try:
    return requests.Sampling(
        max_decode_steps=max_tokens, num_samples=n, beam_size=beam_size,
        # OpenAI's default; beams draw nothing.
        temperature=fields.get('temperature', 1.0 if beam_size == 1 else 0.0),
        top_k=fields.get('top_k', 0), top_p=fields.get('top_p', 1.0),
        length_penalty=fields.get('length_penalty', 0.6),
        seed=secrets.randbits(32) if seed is None else seed)
  except UserError as e:
    raise of_user_error(e, 'beam_size' if beam_size > 1 else 'n') from e


def score(body: Mapping[str, Any], model: str, limits: Limits) -> ScoreRequest:
  """A request for the log-likelihoods of options.

  Raises:
    ApiError: a field is unknown, wrong or more than the server allows.
  """
  fields = _fields(body, _SCORE, 'prompt', 'options')
  check_model(fields, model)
  if len(fields['options']) > limits.max_prompts:
    raise bad_field('options', f'at most {limits.max_prompts} of them in one request')
  return ScoreRequest(fields['prompt'], fields['options'])
