"""A model that is asked and answers in text, whatever folder it lies in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from flanjax.errors import UserError, nearest
from flanjax.inference import tokenizer as tokenizers
from flanjax.inference.buckets import Buckets
from flanjax.inference.engine import Engine
from flanjax.inference.requests import Request, Sampling
from flanjax.inference.streams import TextCompletion, TextStream
from flanjax.inference.tokenizer import TOO_LONG
from flanjax.input import pieces

DEFAULT_INPUTS_LENGTH = 512


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt as the model reads it.

  Attributes:
    tokens: ids, the end token last.
    dropped: how many tokens the length had no room for.
  """

  tokens: list[int]
  dropped: int = 0


class TextGenerator:
  """An engine with the vocabulary of its model.

  Args:
    engine: has the model.
    tokenizer: its vocabulary.
    max_inputs_length: the most tokens of a prompt, its end token among them.
    too_long: what happens to a longer one: 'truncate' keeps its beginning, 'keep_end' its end,
      'refuse' is an error.
    name: what the model is called.
    fingerprint: tells models apart: a hash of sizes and parameters.

  Attributes:
    vocabulary: the tokenizer.
    truncated: prompts that were cut.
  """

  def __init__(
      self, engine: Engine, tokenizer: tokenizers.Tokenizer, *,
      max_inputs_length: int = DEFAULT_INPUTS_LENGTH, too_long: str = 'truncate', name: str = '',
      fingerprint: str = '',
  ):
    if too_long not in TOO_LONG:
      raise UserError(f'too_long has no choice {too_long!r}.', hint=nearest(too_long, TOO_LONG))
    if max_inputs_length < 2:
      raise UserError('A prompt needs room for a token and the end token.',
                      where='max_inputs_length', got=max_inputs_length, expected='at least 2')
    self.engine, self.vocabulary, self.name = engine, tokenizer, name
    self.max_inputs_length, self.too_long = max_inputs_length, too_long
    self.fingerprint, self.truncated = fingerprint, 0

  @classmethod
  def open(
      cls, model_dir: str, *, slots: int = 16, max_decode_steps: int = 1024,
      max_inputs_length: int | None = None, too_long: str = 'truncate',
      vocabulary: str | None = None, mesh: jax.sharding.Mesh | None = None,
      few_lengths: bool = False, **engine: Any,
  ) -> TextGenerator:
    """The model of a folder, as `flanjax eval` opens it; adapters are merged.

    Args:
      model_dir: a run's folder, one of its checkpoints, a converted folder, one of transformers,
        a checkpoint of T5X, or 'mini'.
      slots: how many prompts are answered at a time.
      max_decode_steps: the most that a request may ask for.
      max_inputs_length: None: what the run trained with, or 512.
      too_long: see above.
      vocabulary: where the folder does not name it, or it has moved.
      mesh: devices to be dealt over.
      few_lengths: whether the engine has few lengths, known beforehand; see `Engine.compile`.
      **engine: for `Engine`.

    Raises:
      UserError: there is no model, or its vocabulary is unknown, missing or another one.
    """
    from flanjax.interop import model_folders
    from flanjax.training import checkpoints, compilation

    opened = model_folders.find(model_dir, 'model_dir')
    lengths = opened.run.get('task_feature_lengths') or {}
    length = max_inputs_length or lengths.get('inputs') or DEFAULT_INPUTS_LENGTH
    model = model_folders.model_of(opened)
    tokenizer = _tokenizer(opened, vocabulary, model.config.vocab_size - model.config.vocab_padding)
    compilation.use_cache()
    params, _ = checkpoints.restore_params(opened.path)
    if few_lengths:
      engine['buckets'] = Buckets.of(length, max_decode_steps)
    made = Engine(model, params, slots=slots, max_decode_steps=max_decode_steps, mesh=mesh,
                  eos_id=tokenizer.eos_id, **engine)
    name = model_dir if model_dir in model_folders.BASES else opened.folder.name
    return cls(made, tokenizer, max_inputs_length=length, too_long=too_long, name=name,
               fingerprint=fingerprint(model.config, params))

  def prompt(self, text: str) -> Prompt:
    """The tokens of a prompt, cut to the model's length.

    Raises:
      UserError: it is empty, is no valid Unicode, or is too long and to be refused.
    """
    if not text.strip():
      raise UserError('The prompt is empty.')
    try:
      tokens = self.vocabulary.encode(text)
    except UnicodeEncodeError as e:
      raise UserError('The prompt is no valid Unicode.', got=f'a lone surrogate at {e.start}') from e
    if not tokens:
      raise UserError('The prompt is empty.', got=f'{text[:20]!r}, which is no token')
    room = self.max_inputs_length - 1
    dropped = max(0, len(tokens) - room)
    if dropped and self.too_long == 'refuse':
      raise UserError('The prompt is too long.', got=f'{len(tokens) + 1:,} tokens',
                      expected=f'at most {self.max_inputs_length:,}')
    self.truncated += dropped > 0
    kept = tokens[-room:] if self.too_long == 'keep_end' else tokens[:room]
    return Prompt([*kept, self.vocabulary.eos_id], dropped)

  def encode(self, text: str) -> list[int]:
    """As `prompt`, its tokens alone."""
    return self.prompt(text).tokens

  def decode(self, tokens: Sequence[int]) -> str:
    return self.vocabulary.decode(tokens)

  def request(self, id: Hashable, text: str, sampling: Sampling = Sampling()) -> Request:
    return Request(id, self.encode(text), sampling)

  def stream(self, stop: Sequence[str] = ()) -> TextStream:
    """What makes text of one answer's tokens as they come."""
    return TextStream(self.vocabulary, stop)

  def completion(self, stop: Sequence[str] = ()) -> TextCompletion:
    """What makes text of the updates of one sample, up to a stop string."""
    return TextCompletion(self.vocabulary, stop)

  def score_options(
      self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[str]]
  ) -> list[list[float]]:
    """log p(option | prompt), summed over the option's tokens, of each prompt's options.

    Args:
      prompts: tokens, as of `encode`.
      options: texts, for each prompt.
    """
    eos = self.vocabulary.eos_id
    pairs = [(tokens, [*self.vocabulary.encode(text), eos])
             for tokens, texts in zip(prompts, options, strict=True) for text in texts]
    scores = iter([float(np.sum(s)) for s in self.engine.score(pairs)])
    return [[next(scores) for _ in texts] for texts in options]


def _tokenizer(opened: Any, vocabulary: str | None, rows: int) -> tokenizers.Tokenizer:
  """The vocabulary of a model of so many rows: the one that it names, or that is said to be it."""
  name = vocabulary or opened.vocabulary
  if not name:
    raise UserError('The model does not name its vocabulary.', where=opened.path, expected=(
        "'mini', 'bytes', 't5', a SentencePiece model or a folder with one"),
                    hint='--vocabulary names it')
  known = pieces.Identity.of({**opened.run, **opened.model_info})
  if known is not None:
    pieces.check_same(pieces.identity(name), known, 'The vocabulary is not that of the model.',
                      opened.path)
  made = tokenizers.get(name)
  pieces.check_size(made.size, rows, name, opened.path)
  return made


def fingerprint(config: Any, params: Any) -> str:
  """Tells models apart: a hash over sizes, and over the start of every array."""
  digest = hashlib.sha256(repr(config).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    digest.update(f'{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}'.encode())
    start = leaf[(slice(0, 8),) * leaf.ndim]
    digest.update(np.ascontiguousarray(start).tobytes())
  return digest.hexdigest()[:16]
