"""Text as token ids and back without TensorFlow: the same ids and text that SeqIO gives."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Protocol

from flanjax.input import pieces

# What may be done about a prompt that is longer than the model's length.
TOO_LONG = ('truncate', 'refuse', 'keep_end')
# What an unfinished character decodes to.
REPLACEMENT = '\ufffd'
_BYTES_OFFSET, _BYTES = 3, 256


class Tokenizer(Protocol):
  """A vocabulary: `encode` gives no end token, `decode` stops at the first.

  Attributes:
    eos_id: the end token.
    size: how many ids there are, sentinels among them.
  """

  eos_id: int
  size: int

  def encode(self, text: str) -> list[int]: ...

  def decode(self, tokens: Iterable[int]) -> str: ...


class Bytes:
  """As seqio.ByteVocabulary."""

  eos_id, size = 1, _BYTES_OFFSET + _BYTES

  def encode(self, text: str) -> list[int]:
    return [b + _BYTES_OFFSET for b in text.encode()]

  def decode(self, tokens: Iterable[int]) -> str:
    kept = (i - _BYTES_OFFSET for i in _before_end(tokens, self.eos_id))
    return bytes(b for b in kept if 0 <= b < _BYTES).decode(errors='ignore')


class Pieces:
  """As seqio.SentencePieceVocabulary with its extra ids."""

  def __init__(self, model: pieces.Pieces):
    self._processor = model.processor
    self.eos_id, self.size = self._processor.eos_id(), model.size

  def encode(self, text: str) -> list[int]:
    text.encode()  # Lone surrogates would end in an error of another kind, or in none.
    return self._processor.encode(text)

  def decode(self, tokens: Iterable[int]) -> str:
    unknown = self._processor.unk_id()
    return self._processor.decode(
        [i if i < self.size else unknown for i in _before_end(tokens, self.eos_id)])


def _before_end(tokens: Iterable[int], eos_id: int) -> list[int]:
  tokens = [int(i) for i in tokens]
  return tokens[:tokens.index(eos_id)] if eos_id in tokens else tokens


@functools.cache
def get(name: str) -> Tokenizer:
  """A vocabulary by name, as `data.vocabularies.get` has them; UserError without it."""
  return Bytes() if pieces.is_bytes(name) else Pieces(pieces.read(name))
