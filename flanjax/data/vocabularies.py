"""Vocabularies by name, and the lazy one that task features carry."""

from __future__ import annotations

import functools
import os
import tempfile
import urllib.error
import urllib.request

import seqio

from flanjax.errors import UserError
from flanjax.input import detokenize, pieces

ENVIRONMENT_VARIABLE = 'FLANJAX_VOCABULARY'
T5_PATH = 'gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model'
_T5_URL = T5_PATH.replace('gs://', 'https://storage.googleapis.com/')
_TIMEOUT_S = 20

_default: str | None = None


def set_default(name: str | None) -> None:
  """Chooses the vocabulary of every suite in this process; None takes the choice back."""
  global _default
  _default = name


def chosen() -> str | None:
  """What `set_default` was last told, for another process to be told the same."""
  return _default


def default_name(suite: str) -> str:
  """The vocabulary a suite's tasks use: `set_default`, environment, or the suite's own."""
  own = 'mini' if suite == 'mini' else 't5'
  return pieces.absolute(_default or os.environ.get(ENVIRONMENT_VARIABLE) or own)


def _cached_t5() -> str:
  """Downloads T5's public model once into the user's cache."""
  target = detokenize.t5_path()
  if not target.exists():
    target.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(_T5_URL, timeout=_TIMEOUT_S) as response:
      model = response.read()
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as f:
      f.write(model)
    os.replace(f.name, target)
  return str(target)


def _unreachable(name: str, path: str, reason: object) -> UserError:
  return UserError(
      f"The vocabulary '{name}' cannot be read.",
      where=path,
      got=str(reason).splitlines()[0] if str(reason) else type(reason).__name__,
      expected="a SentencePiece model, a folder with one, or one of the names 'mini', 'bytes', 't5'",
      hint=f'name another: --vocabulary, or {ENVIRONMENT_VARIABLE}=/path/to/sentencepiece.model',
  )


def _read(name: str) -> pieces.Pieces:
  """A SentencePiece model by name; that of T5 is downloaded where it is not here yet."""
  if name == 't5':
    try:
      _cached_t5()
    except (OSError, urllib.error.URLError) as e:
      raise _unreachable(name, T5_PATH, e) from e
  try:
    return pieces.read(name)
  except UserError as e:
    reason = f'{e.what[:1].lower()}{e.what[1:].rstrip(".")}: {e.got}'
    raise _unreachable(name, e.where, f'{reason}; {e.hint}' if e.hint else reason) from e


@functools.cache
def get(name: str) -> seqio.Vocabulary:
  """A vocabulary by name.

  Args:
    name: 'mini', 'bytes', 't5', the path of a SentencePiece model, or of a folder of transformers
      with one. Models that have no extra ids of their own get T5's 100 at their end.

  Raises:
    UserError: the file cannot be reached or is no SentencePiece model.
  """
  if pieces.is_bytes(name):
    return seqio.ByteVocabulary()
  found = _read(name)
  return seqio.SentencePieceVocabulary(os.fspath(found.path), extra_ids=found.added_extra_ids)


def identity(name: str) -> pieces.Identity:
  """Name and hashes of a vocabulary; UserError as for `get`."""
  if not pieces.is_bytes(name):
    _read(name)
  return pieces.identity(name)


def fingerprint(name: str) -> str:
  """Sha256 of the vocabulary's model file, or of its name where there is none."""
  return identity(name).fingerprint


class SuiteVocabulary(seqio.Vocabulary):
  """The vocabulary of a suite, looked up when it is first needed.

  Tasks are registered before anyone has chosen a vocabulary, and registration reads no
  file. Two of these are equal when they stand for the same vocabulary.
  """

  def __init__(self, suite: str):
    self.suite = suite

  @property
  def name(self) -> str:
    return default_name(self.suite)

  @property
  def resolved(self) -> seqio.Vocabulary:
    return get(self.name)

  @property
  def extra_ids(self) -> int:
    return self.resolved.extra_ids

  @property
  def vocab_size(self) -> int:
    return self.resolved.vocab_size

  @property
  def _base_vocab_size(self) -> int:
    return self.resolved._base_vocab_size

  @property
  def bos_id(self) -> int | None:
    return self.resolved.bos_id

  @property
  def eos_id(self) -> int | None:
    return self.resolved.eos_id

  @property
  def unk_id(self) -> int | None:
    return self.resolved.unk_id

  @property
  def pad_id(self) -> int:
    return self.resolved.pad_id

  def _encode(self, s):
    return self.resolved.encode(s)

  def _decode(self, ids):
    return self.resolved.decode(ids)

  def _encode_tf(self, s):
    return self.resolved.encode_tf(s)

  def _decode_tf(self, ids):
    return self.resolved.decode_tf(ids)

  def __eq__(self, other):
    if isinstance(other, SuiteVocabulary):
      return self.name == other.name
    return isinstance(other, seqio.Vocabulary) and self.resolved == other

  def __hash__(self):
    return hash(SuiteVocabulary)

  def __repr__(self):
    return f'SuiteVocabulary({self.suite!r}, name={self.name!r})'
