"""SentencePiece models without TensorFlow: where they lie, their extra ids, what tells them apart."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input import detokenize, remote, tokenizer_json

EXTRA_IDS = 100
# transformers' name of the file in a folder, and that of T5's buckets.
FILES = ('spiece.model', 'sentencepiece.model')
CONFIG = 'tokenizer_config.json'
BYTES_FINGERPRINT = hashlib.sha256(b'seqio.ByteVocabulary').hexdigest()
BYTES_SIZE = 259
BYTE_CLASSES = ('ByT5Tokenizer', 'ByT5TokenizerFast')
_MAX_EXTRA_IDS = 10_000
_SHOWN = 16
# SeqIO writes the first form; a model may be trained with the second.
_EXTRA = re.compile('\u2581?<extra_id_(\\d+)>')


@dataclasses.dataclass(frozen=True)
class Pieces:
  """A SentencePiece model, with T5's extra ids at its end.

  Attributes:
    path: the file.
    proto: the model with the extra ids that were added, as SeqIO makes it.
    own_extra_ids: how many the file itself has, as those of mT5 and of cc_all.32000.100extra.
    added_extra_ids: how many were added.
    fingerprint: sha256 of the file.
    content: sha256 of what the model does; see `content_of`.
    model_type: 'unigram', 'bpe', 'word' or 'char'.
  """

  path: remote.AnyPath
  proto: bytes
  own_extra_ids: int
  added_extra_ids: int
  fingerprint: str
  content: str
  model_type: str = ''

  @functools.cached_property
  def processor(self) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=self.proto)

  @property
  def size(self) -> int:
    return self.processor.vocab_size()


@dataclasses.dataclass(frozen=True)
class Identity:
  """A vocabulary as data and models name it.

  Attributes:
    name: as `data.vocabularies.get` takes it.
    fingerprint: sha256 of its file.
    content: as `Pieces.content`; '' where it is not known.
  """

  name: str
  fingerprint: str
  content: str = ''

  @classmethod
  def of(cls, info: Any) -> Identity | None:
    """What model.json, run.json or a manifest says; None where it names no vocabulary."""
    get = info.get if isinstance(info, Mapping) else lambda key: getattr(info, key, None)
    values = [get(key) for key in ('vocabulary', 'vocabulary_fingerprint', 'vocabulary_content')]
    return cls(*(str(v or '') for v in values)) if values[0] and values[1] else None

  @property
  def entries(self) -> dict[str, str]:
    """What `of` reads."""
    made = {'vocabulary': self.name, 'vocabulary_fingerprint': self.fingerprint}
    return made | ({'vocabulary_content': self.content} if self.content else {})

  def __str__(self) -> str:
    return f"'{self.name}', sha256 {self.fingerprint[:_SHOWN]}"


def identity(name: str) -> Identity:
  """UserError when the vocabulary cannot be read."""
  if is_bytes(name):
    return Identity(name, BYTES_FINGERPRINT, BYTES_FINGERPRINT)
  found = read(name)
  return Identity(name, found.fingerprint, found.content)


def check_same(got: Identity | None, expected: Identity | None, what: str, where: str,
               hint: str | None = None) -> None:
  """UserError unless both are the same vocabulary, whatever its path; None is not known.

  Two files may be the same: T5's has its extra ids within in one place, and not in another.
  """
  if got is None or expected is None or _same(got, expected):
    return
  raise UserError(what, where=where, got=str(got), expected=str(expected), hint=hint)


def _same(a: Identity, b: Identity) -> bool:
  if a.content and b.content:
    return a.content == b.content
  if a.fingerprint == b.fingerprint:
    return True
  a, b = _completed(a), _completed(b)
  return bool(a.content) and a.content == b.content


def _completed(said: Identity) -> Identity:
  """With its content where its file is at hand, and still what it was."""
  if said.content:
    return said
  try:
    found = identity(said.name)
  except UserError:
    return said
  return found if found.fingerprint == said.fingerprint else said


def check_size(size: int, rows: int, name: str, where: str) -> None:
  """UserError when a vocabulary has more ids than a model has rows."""
  if size > rows:
    raise UserError("The vocabulary is larger than the model's.", where=where,
                    got=f"{size:,} ids in '{name}'", expected=f'at most {rows:,}')


def size_of(name: str) -> int:
  """Ids of a vocabulary, extra ids among them."""
  return BYTES_SIZE if is_bytes(name) else read(name).size


def absolute(name: str) -> str:
  """A name that means the same in every folder."""
  named = name in ('bytes', 'mini', 't5') or remote.is_remote(name)
  return name if named else os.fspath(remote.resolved(name))


def is_bytes(name: str) -> bool:
  """Whether a name stands for bytes: 'bytes', or a folder of a ByT5 tokenizer."""
  if name in ('bytes', 'mini', 't5'):
    return name == 'bytes'
  folder = remote.resolved(name)
  return _is_folder(folder) and not any((folder / file).exists() for file in FILES) and (
      _config(folder).get('tokenizer_class') in BYTE_CLASSES)


def _is_folder(path: remote.AnyPath) -> bool:
  try:
    return path.is_dir()
  except Exception as e:  # A store has errors of its own.
    raise UserError('The vocabulary cannot be read.', where=str(path),
                    got=f'{type(e).__name__}: {e}') from e


def file_of(name: str) -> remote.AnyPath:
  """The model's file: of 'mini', 't5', a file, or a folder of transformers that holds one.

  Of a folder that holds tokenizer.json alone, as transformers 5 saves it, a file in the cache that
  is made of it.

  Raises:
    UserError: there is none.
  """
  path = {'mini': detokenize.mini_path, 't5': detokenize.t5_path}.get(
      name, lambda: remote.resolved(name))()
  if not _is_folder(path):
    return path
  found = [path / file for file in FILES if (path / file).exists()]
  if found:
    return found[0]
  if (path / tokenizer_json.FILE).exists():
    return _rebuilt(path)
  raise UserError('There is no vocabulary in this folder.', where=str(path),
                  got=f'no {", ".join(FILES)} or {tokenizer_json.FILE}',
                  expected='the files of a tokenizer')


def _rebuilt(folder: remote.AnyPath) -> remote.AnyPath:
  file, where = folder / tokenizer_json.FILE, detokenize.cache_folder() / 'rebuilt'
  try:
    return tokenizer_json.cached(
        file.read_bytes(), str(file), _extra_ids_beside(folder / FILES[0]), where)
  except UserError:
    raise
  except Exception as e:  # A store has errors of its own.
    raise UserError('The vocabulary cannot be read.', where=str(file),
                    got=f'{type(e).__name__}: {e}') from e


@functools.cache
def read(name: str) -> Pieces:
  """The SentencePiece model by a name that `data.vocabularies.get` takes.

  T5's 100 extra ids are added at the end, or as many as the tokenizer_config.json of
  transformers beside the file says (300 for UMT5), unless the file has its own.

  Raises:
    UserError: there is no such file, or it is no SentencePiece model.
  """
  path = file_of(name)
  try:
    data = path.read_bytes()
  except Exception as e:  # A store has errors of its own.
    raise UserError('The vocabulary cannot be read.', where=str(path),
                    got=f'{type(e).__name__}: {e}') from e
  return parse(data, path)


def parse(data: bytes, path: remote.AnyPath) -> Pieces:
  """The model that the bytes of a file hold; see `read`."""
  from sentencepiece import sentencepiece_model_pb2

  try:
    proto = sentencepiece_model_pb2.ModelProto.FromString(data)
  except Exception as e:  # The parser of a foreign file may raise anything.
    raise _no_model(path, f'{type(e).__name__}: {e}') from e
  own = sum(_EXTRA.fullmatch(piece.piece) is not None for piece in proto.pieces)
  added = 0 if own else _extra_ids_beside(path)
  for i in reversed(range(added)):
    proto.pieces.add(piece=f'\u2581<extra_id_{i}>', score=0.0,
                     type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED)
  found = Pieces(path, proto.SerializeToString(), own, added, hashlib.sha256(data).hexdigest(),
                 _content(proto), _kind(proto))
  try:
    found.processor
  except Exception as e:  # So may that of its content.
    raise _no_model(path, str(e)[:200]) from e
  return found


def _kind(proto: Any) -> str:
  kinds = proto.trainer_spec.DESCRIPTOR.enum_types_by_name['ModelType'].values_by_number
  return kinds[proto.trainer_spec.model_type].name.lower()


def _no_model(path: remote.AnyPath, reason: str) -> UserError:
  return UserError('This is not a SentencePiece model.', where=str(path), got=reason)


def content_of(proto: bytes) -> str:
  """Sha256 of what a model does: its pieces in order, their scores, how it normalises.

  Neither how it was trained is in it, nor in which way its extra ids were written.
  """
  from sentencepiece import sentencepiece_model_pb2

  return _content(sentencepiece_model_pb2.ModelProto.FromString(proto))


def _content(proto: Any) -> str:
  hashed = hashlib.sha256()
  for part in _parts(proto):
    hashed.update(struct.pack('<q', len(part)) + part)
  return hashed.hexdigest()


def _parts(proto: Any) -> Iterator[bytes]:
  trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
  yield repr([trainer.model_type, trainer.byte_fallback, trainer.treat_whitespace_as_suffix,
              normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces,
              normalizer.escape_whitespaces]).encode()
  yield normalizer.precompiled_charsmap
  for piece in proto.pieces:
    extra = _EXTRA.fullmatch(piece.piece)
    text = piece.piece.encode()
    yield (f'extra {extra[1]}'.encode() if extra
           else struct.pack('<if', piece.type, piece.score) + text)


def _config(folder: remote.AnyPath) -> Mapping[str, Any]:
  try:
    config = json.loads((folder / CONFIG).read_text())
  except Exception:  # Not there, or of somebody else: then it says nothing.
    return {}
  return config if isinstance(config, dict) else {}


def _extra_ids_beside(path: remote.AnyPath) -> int:
  if path.name != FILES[0]:
    return EXTRA_IDS
  said = _config(path.parent).get('extra_ids')
  good = isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= _MAX_EXTRA_IDS
  return said if good else EXTRA_IDS
