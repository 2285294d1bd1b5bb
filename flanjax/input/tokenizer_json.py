"""T5's vocabulary out of tokenizer.json, where transformers saved no SentencePiece model.

The file holds pieces, scores and the table of the normaliser: all that a SentencePiece model needs
to cut as the one it was made from. What it does not hold, T5 has by default.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.errors import UserError

FILE = 'tokenizer.json'
_MAX_BYTES = 200 << 20
_MAX_SCORE = 1e6
_SPACE = '\u2581'
_PAD, _EOS = '<pad>', '</s>'
_EXTRA = re.compile('\u2581?<extra_id_(\\d+)>')
_BYTES = [f'<0x{i:02X}>' for i in range(256)]
_HINT = ('copy spiece.model from the model that this one was trained from: transformers 5 no '
         'longer saves it')
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6


def rebuilt(data: bytes, where: str, extra_ids: int) -> bytes:
  """The SentencePiece model that a tokenizer.json was made from.

  Args:
    data: the content of the file.
    where: its name, for errors.
    extra_ids: how many sentinels are added to a model that has none: where the file has as many
      at its end, they are left out.

  Raises:
    UserError: it is none of T5's kind, so that another program would cut other pieces.
  """
  from sentencepiece import sentencepiece_model_pb2

  said = _object(data, where)
  model, refuse = said.get('model'), _refusing(where)
  if not isinstance(model, dict) or model.get('type', 'Unigram') != 'Unigram':
    raise refuse('another model', 'Unigram, with pieces and scores')
  pieces = _pieces(model.get('vocab'), refuse)
  names = [piece for piece, _ in pieces]
  unknown = model.get('unk_id')
  if type(unknown) is not int or not 0 <= unknown < len(names):
    raise refuse(f'unk_id {unknown!r}', 'the id of a piece')
  if not {_PAD, _EOS} <= set(names):
    raise refuse(f'no piece {_PAD} or {_EOS}', "T5's special tokens")
  proto = sentencepiece_model_pb2.ModelProto()
  proto.trainer_spec.model_type = 1
  proto.trainer_spec.unk_piece, proto.trainer_spec.unk_id = names[unknown], unknown
  proto.trainer_spec.pad_piece, proto.trainer_spec.pad_id = _PAD, names.index(_PAD)
  proto.trainer_spec.eos_piece, proto.trainer_spec.eos_id = _EOS, names.index(_EOS)
  proto.trainer_spec.bos_id = -1
  proto.trainer_spec.byte_fallback = set(_BYTES) <= set(names)
  proto.normalizer_spec.precompiled_charsmap = _charsmap(said.get('normalizer'), refuse)
  _check_spaces(said.get('pre_tokenizer'), refuse)
  special = {_PAD: _CONTROL, _EOS: _CONTROL, names[unknown]: _UNKNOWN}
  if proto.trainer_spec.byte_fallback:
    special |= dict.fromkeys(_BYTES, _BYTE)
  for name, score in _without_extra(pieces, extra_ids):
    kind = special.get(name, _USER_DEFINED if _EXTRA.fullmatch(name) else _NORMAL)
    if kind == _NORMAL and score == 0:
      raise refuse(f'the piece {name!r} with score 0', 'no symbols of a user: whether they are '
                   'never cut is not in the file')
    proto.pieces.add(piece=name, score=score, type=kind)
  proto.trainer_spec.vocab_size = len(proto.pieces)
  return proto.SerializeToString()


def _object(data: bytes, where: str) -> Mapping[str, Any]:
  if len(data) > _MAX_BYTES:
    raise UserError('The file is too large.', where=where, expected=f'at most {_MAX_BYTES:,} bytes')
  try:
    said = json.loads(data.decode())
  except (ValueError, RecursionError) as e:
    raise UserError('This is no JSON.', where=where, got=str(e)[:200], hint=_HINT) from e
  if not isinstance(said, dict):
    raise UserError('This is no JSON object.', where=where, got=type(said).__name__, hint=_HINT)
  return said


def _refusing(where: str) -> Any:
  return lambda got, expected: UserError(
      "This tokenizer is not one of T5's kind.", where=where, got=got, expected=expected,
      hint=_HINT)


def _pieces(vocab: Any, refuse: Any) -> list[tuple[str, float]]:
  if not isinstance(vocab, list) or not all(_is_piece(row) for row in vocab) or (
      len({name for name, _ in vocab}) != len(vocab)):
    raise refuse('a vocabulary of another form', 'pieces with scores, each once')
  return [(name, float(score)) for name, score in vocab]


def _is_piece(row: Any) -> bool:
  return (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and row[0] != ''
          and not any('\ud800' <= c <= '\udfff' for c in row[0])
          and type(row[1]) in (int, float) and abs(row[1]) <= _MAX_SCORE)


def _without_extra(
    pieces: Sequence[tuple[str, float]], extra_ids: int
) -> Sequence[tuple[str, float]]:
  tail = [_EXTRA.fullmatch(name) for name, _ in pieces[len(pieces) - extra_ids:]]
  numbers = [int(found[1]) if found else None for found in tail]
  return pieces[: len(pieces) - extra_ids] if numbers == list(range(extra_ids))[::-1] else pieces


def _steps(value: Any, inner: str, refuse: Any) -> list[Mapping[str, Any]]:
  """The parts of a normaliser, or of what cuts words, one after another."""
  steps = value[inner] if isinstance(value, dict) and inner in value else [value]
  steps = [step for step in steps if step is not None] if isinstance(steps, list) else [steps]
  if not all(isinstance(step, dict) for step in steps):
    raise refuse(f'another form of {inner}', 'objects with a type')
  return steps


def _charsmap(normalizer: Any, refuse: Any) -> bytes:
  """The table; what stands beside it does with spaces what SentencePiece does by itself."""
  found = b''
  for step in _steps(normalizer, 'normalizers', refuse):
    kind, pattern = step.get('type'), step.get('pattern')
    if kind == 'Precompiled' and not found and isinstance(step.get('precompiled_charsmap'), str):
      try:
        found = base64.b64decode(step['precompiled_charsmap'], validate=True)
      except ValueError as e:
        raise refuse('a broken table of characters', 'base64') from e
    elif kind == 'Replace' and (pattern, step.get('content')) in (
        ({'Regex': ' {2,}'}, ' '), ({'Regex': ' {2,}'}, _SPACE)):
      continue
    elif kind != 'Strip':
      raise refuse(f'a normaliser {str(kind)[:40]!r}', 'Precompiled')
  return found


def _check_spaces(pre_tokenizer: Any, refuse: Any) -> None:
  steps = _steps(pre_tokenizer, 'pretokenizers', refuse)
  kinds = [step.get('type') for step in steps]
  if kinds not in (['WhitespaceSplit', 'Metaspace'], ['Metaspace']):
    raise refuse(f'words cut by {str(kinds)[:80]}', 'Metaspace')
  last = steps[-1]
  first = last.get('prepend_scheme', 'always' if last.get('add_prefix_space', True) else 'never')
  if last.get('replacement') != _SPACE or first != 'always':
    raise refuse('spaces written in another way', f'{_SPACE} before each word')


def cached(data: bytes, where: str, extra_ids: int, folder: pathlib.Path) -> pathlib.Path:
  """A file with `rebuilt`, for programs that read files; its folder is named after its content."""
  key = hashlib.sha256(data + str(extra_ids).encode()).hexdigest()[:24]
  path = folder / key / 'spiece.model'
  if path.is_file():
    return path
  model = rebuilt(data, where, extra_ids)
  path.parent.mkdir(parents=True, exist_ok=True)
  _write(path.with_name('tokenizer_config.json'),
         json.dumps({'extra_ids': extra_ids}).encode())
  _write(path, model)
  return path


def _write(path: pathlib.Path, data: bytes) -> None:
  """Whole or not at all, whoever else does the same."""
  with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
    file.write(data)
  os.replace(file.name, path)
