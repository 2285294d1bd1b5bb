"""The files of a tokenizer, which travel with the weights."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from typing import Any

from flanjax.errors import UserError
from flanjax.input import pieces, remote, tokenizer_json
from flanjax.interop import json_files

SENTENCEPIECE = pieces.FILES[0]
_BESIDE = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
           'added_tokens.json', 'generation_config.json')
_CONFIG = pieces.CONFIG
_SPECIAL = {'pad_token': '<pad>', 'eos_token': '</s>', 'unk_token': '<unk>'}
_SHOWN = 5


def copy_all(source: pathlib.Path, target: pathlib.Path) -> list[str]:
  """Copies what there is of a tokenizer of transformers, its model made anew where it is not
  there; -> the names."""
  names = [name for name in _BESIDE if (source / name).is_file()]
  for name in names:
    shutil.copyfile(source / name, target / name)
  if (model := _model(source)) is not None:
    shutil.copyfile(model, target / SENTENCEPIECE)
    names.insert(0, SENTENCEPIECE)
  return names


def _model(source: pathlib.Path) -> pathlib.Path | None:
  """The SentencePiece model of a folder of transformers, or what is made of its tokenizer.json."""
  if (source / SENTENCEPIECE).is_file():
    return source / SENTENCEPIECE
  if not (source / tokenizer_json.FILE).is_file():
    return None
  with contextlib.suppress(UserError):
    return pathlib.Path(os.fspath(pieces.file_of(str(source))))
  return None


def describe(source: pathlib.Path, target: pathlib.Path) -> dict[str, Any]:
  """What model.json says of the vocabulary in a folder of transformers.

  Args:
    source: that folder.
    target: where its files will lie.

  Raises:
    UserError: its SentencePiece model is none.
  """
  if pieces.is_bytes(str(source)):
    return pieces.identity('bytes').entries
  model = _model(source)
  if model is None:
    return {}
  there = model if source == target else target.absolute() / SENTENCEPIECE
  return pieces.identity(str(model)).entries | {'vocabulary': str(there.absolute())}


def remarks(source: pathlib.Path, rows: int) -> list[str]:
  """What a user should know of the tokenizer in a folder of transformers.

  Args:
    source: that folder.
    rows: ids that its model has.
  """
  if pieces.is_bytes(str(source)):
    return []
  model = _model(source)
  if model is None:
    return [f'There is no {SENTENCEPIECE}: say VOCABULARY when training.{_why_not(source)}']
  size, made = pieces.size_of(str(model)), []
  if size > rows:
    made.append(f'The vocabulary is larger than the model: {size:,} ids, {rows:,} rows. '
                'It cannot be used with it.')
  if added := _added(source, size):
    more = f' and {len(added) - _SHOWN} more' if len(added) > _SHOWN else ''
    made.append(f'Tokens that were added to the tokenizer are not in {SENTENCEPIECE}, and will be '
                f'cut into pieces: {", ".join(added[:_SHOWN])}{more}')
  return made


def _why_not(source: pathlib.Path) -> str:
  """What is wrong with its tokenizer.json, where it has one."""
  if (source / tokenizer_json.FILE).is_file():
    try:
      pieces.file_of(str(source))
    except UserError as e:
      return f' {tokenizer_json.FILE} cannot be used: {e.what} {e.got or ""}; {e.hint}'
  return ''


def _added(source: pathlib.Path, size: int) -> list[str]:
  """Tokens with ids beyond the SentencePiece model's."""
  path = source / _CONFIG
  said = json_files.read(path).get('added_tokens_decoder') if path.is_file() else None
  found = []
  for number, token in said.items() if isinstance(said, dict) else ():
    content = token.get('content') if isinstance(token, dict) else None
    if number.isdigit() and int(number) >= size and isinstance(content, str):
      found.append(repr(content)[:60])
  return found


def found_again(name: str, folder: remote.AnyPath) -> str:
  """A vocabulary that a folder names; where it is no longer there, the one in the folder."""
  if pieces.absolute(name) != name or '/' not in name:
    return name
  path = remote.resolved(name)
  with contextlib.suppress(Exception):  # A store that cannot be reached has none.
    if path.exists():
      return name
  candidates = (folder / file for file in (path.name, *pieces.FILES))
  return next((str(p) for p in candidates if p.is_file()), name)


def keep(name: str, folder: remote.AnyPath) -> list[str]:
  """Copies a vocabulary's file into a folder, so that this can move alone; -> the names.

  Those that go by a name stay where they are, and one that is not on this host is left out.
  """
  kept: list[str] = []
  if '/' not in name:
    return kept
  with contextlib.suppress(UserError, OSError):
    path = pieces.file_of(name)
    for file in (path, path.parent / _CONFIG) if path.name == SENTENCEPIECE else (path,):
      if file.exists() and not (folder / file.name).exists():
        (folder / file.name).write_bytes(file.read_bytes())
        kept.append(file.name)
  return kept


def file_in(name: str, folder: pathlib.Path) -> pathlib.Path | None:
  """The SentencePiece model of a vocabulary that a folder names, where it is on this machine."""
  try:
    path = pieces.file_of(found_again(name, folder))
  except UserError:
    return None
  return pathlib.Path(os.fspath(path)) if path.is_file() else None


def write(file: pathlib.Path | None, target: pathlib.Path) -> list[str]:
  """Writes a vocabulary of ours as a tokenizer of transformers; -> the names.

  Args:
    file: its SentencePiece model; None: bytes.
    target: the folder.
  """
  made = []
  if file is not None:
    shutil.copyfile(file, target / SENTENCEPIECE)
    made = [SENTENCEPIECE]
    if file.name == SENTENCEPIECE:
      made = copy_all(file.parent, target)
  if _CONFIG not in made:
    extra = 125 if file is None else pieces.read(str(file)).added_extra_ids
    config = {'tokenizer_class': 'ByT5Tokenizer' if file is None else 'T5Tokenizer',
              'extra_ids': extra, **_SPECIAL}
    (target / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')
    made.append(_CONFIG)
  return made
