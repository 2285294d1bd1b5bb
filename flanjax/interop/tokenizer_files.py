"""The files of a tokenizer, which travel with the weights."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from typing import Any

from flanjax.interop import json_files

SENTENCEPIECE = 'spiece.model'
_BESIDE = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json',
           'added_tokens.json', 'generation_config.json')
_CONFIG = 'tokenizer_config.json'
_SPECIAL = {'pad_token': '<pad>', 'eos_token': '</s>', 'unk_token': '<unk>'}


def copy_all(source: pathlib.Path, target: pathlib.Path) -> list[str]:
  """Copies what there is of a tokenizer of transformers; -> the names."""
  names = [name for name in (SENTENCEPIECE, *_BESIDE) if (source / name).is_file()]
  for name in names:
    shutil.copyfile(source / name, target / name)
  return names


def describe(source: pathlib.Path, target: pathlib.Path) -> dict[str, Any]:
  """What model.json says of the vocabulary in a folder of transformers.

  Args:
    source: that folder.
    target: where its files will lie.
  """
  path = source / SENTENCEPIECE
  if path.is_file():
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {'vocabulary': str(target.absolute() / SENTENCEPIECE), 'vocabulary_fingerprint': digest}
  config = json_files.read(source / _CONFIG) if (source / _CONFIG).is_file() else {}
  if config.get('tokenizer_class') in ('ByT5Tokenizer', 'ByT5TokenizerFast'):
    return {'vocabulary': 'bytes',
            'vocabulary_fingerprint': hashlib.sha256(b'seqio.ByteVocabulary').hexdigest()}
  return {}


def write(vocabulary: str, file: pathlib.Path | None, target: pathlib.Path) -> list[str]:
  """Writes a vocabulary of ours as a tokenizer of transformers; -> the names.

  Args:
    vocabulary: its name; 'bytes' has no file.
    file: its SentencePiece model.
    target: the folder.
  """
  made = []
  if file is not None:
    shutil.copyfile(file, target / SENTENCEPIECE)
    made = [SENTENCEPIECE]
    if file.name == SENTENCEPIECE:
      made = copy_all(file.parent, target)
  if _CONFIG not in made:
    byte = vocabulary == 'bytes'
    config = {'tokenizer_class': 'ByT5Tokenizer' if byte else 'T5Tokenizer',
              'extra_ids': 125 if byte else 100, **_SPECIAL}
    (target / _CONFIG).write_text(json.dumps(config, indent=2) + '\n')
    made.append(_CONFIG)
  return made
