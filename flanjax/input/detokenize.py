"""Token ids as text without TensorFlow, and where the files of vocabularies lie."""

from __future__ import annotations

import functools
import importlib.util
import os
import pathlib
from collections.abc import Callable, Sequence

from flanjax.errors import UserError

_BYTES_OFFSET = 3  # SeqIO's byte vocabulary: padding, end and unknown come before the bytes.
_SPACE = '\u2581'

Decode = Callable[[Sequence[int]], str]


def mini_path() -> pathlib.Path:
  """The file that ships in tasks/mini, found without importing the suite."""
  try:
    spec = importlib.util.find_spec('flanjax.tasks')
  except ModuleNotFoundError:
    spec = None
  checkout = pathlib.Path(__file__).parents[2] / 'tasks'
  roots = [pathlib.Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
  found = [r / 'mini/base/sentencepiece.model' for r in roots + [checkout]]
  return next((p for p in found if p.exists()), found[0])


def cache_folder() -> pathlib.Path:
  """Where vocabularies are kept that were downloaded or made."""
  cache = os.environ.get('FLANJAX_CACHE') or os.path.expanduser('~/.cache/flanjax')
  return pathlib.Path(cache) / 'vocabularies'


def t5_path() -> pathlib.Path:
  """Where T5's vocabulary lies once it was downloaded."""
  return cache_folder() / 't5' / 'sentencepiece.model'


def _decode_bytes(ids: Sequence[int]) -> str:
  """As seqio.ByteVocabulary, but that unknown bytes show, and the end of a text."""
  parts: list[bytes] = []
  for i in ids:
    if _BYTES_OFFSET <= i < 256 + _BYTES_OFFSET:
      parts.append(bytes([i - _BYTES_OFFSET]))
    else:
      parts.append(_special(i, 256 + _BYTES_OFFSET).encode())
  return b''.join(parts).decode('utf-8', errors='replace')


def _special(i: int, size: int) -> str:
  return {0: '<pad>', 1: '</s>', 2: '<unk>'}.get(i, f'<extra_id_{i - size}>')


def _decode_pieces(processor, extra: int, ids: Sequence[int]) -> str:
  """What the pieces say, whole: with the space before a first word, and the end of a text.

  Ids from `extra` on are T5's sentinels, the last being <extra_id_0>; rows of padding follow.
  """
  size, text, waiting = processor.vocab_size(), [], bytearray()
  for i in ids:
    if i < size and processor.is_byte(i):
      waiting.append(int(processor.id_to_piece(i)[3:-1], 16))
      continue
    text.append(waiting.decode('utf-8', errors='replace'))
    waiting.clear()
    if i >= extra:
      text.append(f'<extra_id_{size - 1 - i}>')
    else:
      text.append(processor.id_to_piece(i).replace(_SPACE, ' '))
  return ''.join(text) + waiting.decode('utf-8', errors='replace')


@functools.cache
def decoder(name: str, fingerprint: str | None = None) -> Decode:
  """ids -> text of a vocabulary by name, as `data.vocabularies.get` has them.

  Args:
    name: 'mini', 'bytes', 't5', or the path of a SentencePiece model or of a folder with one.
    fingerprint: the sha256 that the file must have.

  Raises:
    UserError: the file is not there, is another one, or is no SentencePiece model.
  """
  from flanjax.input import pieces  # It asks this module where files lie.

  if pieces.is_bytes(name):
    return _decode_bytes
  found = pieces.read(name)
  if fingerprint is not None and found.fingerprint != fingerprint:
    raise UserError('The vocabulary is not the one that the data was made with.',
                    where=str(found.path), got=f'sha256 {found.fingerprint}', expected=fingerprint)
  return functools.partial(_decode_pieces, found.processor, found.size - found.added_extra_ids)
