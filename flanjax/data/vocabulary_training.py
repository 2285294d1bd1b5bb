"""A SentencePiece model with T5's ids, trained on texts that pass by once."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input import pieces

MODEL_TYPES = ('unigram', 'bpe')
NORMALIZATIONS = ('nmt_nfkc', 'nmt_nfkc_cf', 'nfkc', 'nfkc_cf', 'identity')
# Longer lines are cut, at a space where there is one.
MAX_LINE_BYTES = 4_000
_JSON_LINES = ('.jsonl', '.json')
# A sum of floats depends on how it is divided: the number of cores must not matter.
_THREADS = 16


def texts_of(path: str, fields: Iterable[str]) -> Iterator[str]:
  """The texts of a file: its lines, or `fields` of its JSON lines; '-' is standard input.

  Raises:
    UserError: it is not there, no UTF-8, or no JSON lines with these fields.
  """
  if path == '-':
    yield from _decoded(sys.stdin.buffer, path)
    return
  name = path.removesuffix('.gz')
  opener = gzip.open if name != path else open
  try:
    with opener(pathlib.Path(path).expanduser(), 'rb') as file:
      lines = _decoded(file, path)
      if pathlib.PurePath(name).suffix in _JSON_LINES:
        yield from _fields(lines, tuple(fields), path)
      else:
        yield from lines
  except (OSError, EOFError) as e:
    raise UserError('A file of texts cannot be read.', where=path,
                    got=getattr(e, 'strerror', None) or str(e)) from e


def _decoded(lines: Iterable[bytes], path: str) -> Iterator[str]:
  for number, line in enumerate(lines, 1):
    try:
      yield line.decode('utf-8')
    except UnicodeDecodeError as e:
      raise UserError('A file of texts is not UTF-8.', where=f'{path}, line {number}',
                      got=str(e)[:200], hint='convert it, or drop what is broken: iconv -c') from e


def _fields(lines: Iterable[str], names: tuple[str, ...], path: str) -> Iterator[str]:
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    where = f'{path}, line {number}'
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as e:
      raise UserError('A line is no JSON.', where=where, got=str(e)[:200]) from e
    for name in names:
      value = row.get(name) if isinstance(row, dict) else None
      if not isinstance(value, str):
        held = ', '.join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise UserError(f"A line has no text '{name}'.", where=where, got=held[:200],
                        hint='--field names the texts of JSON lines')
      yield value


def lines_of(texts: Iterable[str]) -> Iterator[str]:
  """The lines of texts, none empty and none longer than MAX_LINE_BYTES."""
  for text in texts:
    for line in text.replace('\0', ' ').splitlines():
      yield from _short(line.strip())


def _short(line: str) -> Iterator[str]:
  while len(line.encode('utf-8', 'replace')) > MAX_LINE_BYTES:
    # No character has more than four bytes.
    start = line[:MAX_LINE_BYTES // 4]
    cut = start.rfind(' ') + 1 or len(start)
    yield line[:cut].strip()
    line = line[cut:].strip()
  if line:
    yield line


class Sample:
  """Some of many lines, each with the same chance (Vitter's algorithm R), in little memory.

  Attributes:
    lines: those chosen.
    seen: how many there were.
  """

  def __init__(self, size: int, seed: int):
    self.lines: list[str] = []
    self.seen, self._size, self._random = 0, size, random.Random(seed)

  def add(self, line: str) -> None:
    self.seen += 1
    if len(self.lines) < self._size:
      self.lines.append(line)
    elif (place := self._random.randrange(self.seen)) < self._size:
      self.lines[place] = line


def train(lines: list[str], settings: Mapping[str, Any]) -> bytes:
  """A model with T5's ids: padding 0, end 1, unknown 2, and no beginning.

  Args:
    lines: texts.
    settings: vocab_size, model_type, byte_fallback, normalization, character_coverage and
      user_symbols.

  Raises:
    UserError: no such vocabulary can be made of these texts.
  """
  import sentencepiece

  if not lines:
    raise UserError('There are no texts to train a vocabulary on.')
  made = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, vocab_size=settings['vocab_size'],
        model_type=settings['model_type'], byte_fallback=settings['byte_fallback'],
        normalization_rule_name=settings['normalization'],
        remove_extra_whitespaces=settings['normalization'] != 'identity',
        character_coverage=settings['character_coverage'],
        user_defined_symbols=list(settings['user_symbols']), pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, num_threads=_THREADS, max_sentence_length=2 * MAX_LINE_BYTES, minloglevel=2)
  except (RuntimeError, OSError, ValueError) as e:
    raise _explained(str(e), settings['vocab_size']) from e
  return made.getvalue()


def _explained(message: str, size: int) -> UserError:
  most = re.search(r'value <= (\d+)', message)
  least = re.search(r'vocab_size.*?(?:smaller|too small).*?(\d+) vs (\d+)', message)
  if most:
    return UserError('The texts do not give a vocabulary of this size.', where='--vocab_size',
                     got=f'{size:,}', expected=f'at most {int(most[1]):,}',
                     hint='give more texts, or ask for fewer pieces')
  said = message.rpartition('] ')[2].strip() or message
  hint = 'ask for more pieces' if least or 'required_chars' in message else None
  return UserError('SentencePiece cannot train this vocabulary.', where='--vocab_size',
                   got=said[:300], hint=hint)


def card(model: bytes, path: pathlib.Path, sample: Sample, **said: Any) -> dict[str, Any]:
  """What stands beside a model: what it is, and what it was made from."""
  import sentencepiece

  found = pieces.parse(model, path)
  return {
      'file': path.name, 'sha256': found.fingerprint, 'content_sha256': found.content,
      'pieces': found.size - found.added_extra_ids,
      'extra_ids': found.own_extra_ids or found.added_extra_ids, 'vocab_size': found.size,
      'sentencepiece': sentencepiece.__version__,
      'lines_seen': sample.seen, 'lines_used': len(sample.lines), **said}


def write(path: pathlib.Path, model: bytes, described: Mapping[str, Any]) -> None:
  """Writes the card and then the model, each whole or not at all."""
  text = json.dumps(described, indent=2, ensure_ascii=False) + '\n'
  for target, data in ((path.with_name(path.name + '.json'), text.encode()), (path, model)):
    part = target.with_name(f'.{target.name}-{os.getpid()}')
    try:
      part.write_bytes(data)
      os.replace(part, target)
    except OSError as e:
      raise UserError('A file cannot be written.', where=str(target), got=e.strerror) from e
    finally:
      part.unlink(missing_ok=True)
