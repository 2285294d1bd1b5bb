"""`flanjax vocab`: trains a SentencePiece model, or shows what a vocabulary does with texts."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.data import vocabulary_training as training
from flanjax.errors import UsageError, UserError
from flanjax.input import pieces
from flanjax.terminal import visible

ROW_MULTIPLE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax vocab train texts.txt more.jsonl.gz --vocab_size 32000 --output my.model\n'
      '  flanjax vocab train --task mini_all_train --vocab_size 1000 --output my.model\n'
      "  flanjax vocab show my.model 'A dog ran home.'\n"))
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  _train_arguments(actions.add_parser('train', help='train a SentencePiece model on texts'))
  show = actions.add_parser('show', help='size, ids and hash of a vocabulary, and its pieces')
  show.add_argument('vocabulary', help="'mini', 'bytes', 't5', a SentencePiece model, or a folder "
                    'of transformers with one')
  show.add_argument('text', nargs='*', help='texts to be cut into pieces')
  common.add_flags(show, 'json', 'workdir')


def _train_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('file', nargs='*', help=(
      'lines of text, or JSON lines (.jsonl); .gz too; - is standard input'))
  parser.add_argument('--output', required=True, metavar='FILE', help=(
      'the model; FILE.json says what it was made from'))
  parser.add_argument('--vocab_size', type=int, required=True, metavar='N', help=(
      "pieces, special ones among them; T5's 100 extra ids come on top"))
  parser.add_argument('--model_type', choices=training.MODEL_TYPES, default='unigram', help=(
      'default: unigram'))
  parser.add_argument('--byte_fallback', action='store_true', help=(
      'characters that are not in the vocabulary become bytes, of which 256 pieces are kept'))
  parser.add_argument('--normalization', choices=training.NORMALIZATIONS, default='nmt_nfkc',
                      help="SentencePiece's rules (default: nmt_nfkc, T5's); identity keeps every "
                      'character and space')
  parser.add_argument('--character_coverage', type=float, default=0.9995, metavar='X', help=(
      'part of the characters that become pieces (default: 0.9995)'))
  parser.add_argument('--user_symbol', action='append', default=[], metavar='TEXT', help=(
      'a piece that is never cut; may be repeated'))
  parser.add_argument('--field', action='append', default=[], metavar='NAME', help=(
      'a text of JSON lines (default: text); may be repeated'))
  parser.add_argument('--task', action='append', default=[], metavar='NAME', help=(
      'inputs and targets of a task or mixture; may be repeated'))
  parser.add_argument('--split', default='train', help='of the tasks (default: train)')
  parser.add_argument('--max_lines', type=int, default=1_000_000, metavar='N', help=(
      'lines to train on, drawn from all of them (default: 1000000)'))
  common.add_flags(parser, 'module', 'json', 'seed', 'workdir')


def run(args: argparse.Namespace) -> int:
  return _show(args) if args.action == 'show' else _train(args)


def _train(args: argparse.Namespace) -> int:
  path = _target(args)
  sample = training.Sample(args.max_lines, args.seed or 0)
  with terminal.bar('reading texts') as bar:
    for line in training.lines_of(_texts(args)):
      sample.add(line)
      if sample.seen % 1024 == 0:
        bar(sample.seen)
  settings = {name: getattr(args, name) for name in (
      'vocab_size', 'model_type', 'byte_fallback', 'normalization', 'character_coverage')}
  settings['user_symbols'] = args.user_symbol
  model = training.train(sample.lines, settings)
  described = training.card(
      model, path, sample, settings=settings, seed=args.seed or 0,
      source={'files': args.file, 'fields': _fields(args), 'tasks': args.task,
              'split': args.split if args.task else None})
  training.write(path, model, described)
  common.answer(args, {'vocabulary': str(path), **described}, (
      f"{described['pieces']:,} pieces and {described['extra_ids']} extra ids of "
      f"{described['lines_used']:,} of {sample.seen:,} lines: {path}\n"
      f"use it: --gin.VOCABULARY=\"'{path}'\""))
  return 0


def _target(args: argparse.Namespace) -> pathlib.Path:
  """Where the model goes; UsageError for what cannot be asked for."""
  if not args.file and not args.task:
    raise UsageError('There is nothing to train on.', where='flanjax vocab train',
                     expected='files, or --task')
  for name, least in (('vocab_size', 4), ('max_lines', 1)):
    if getattr(args, name) < least:
      raise UsageError(f'--{name} is too small.', got=getattr(args, name),
                       expected=f'at least {least}')
  if not 0 < args.character_coverage <= 1:
    raise UsageError('--character_coverage is a part of all.', got=args.character_coverage,
                     expected='above 0 and at most 1')
  path = pathlib.Path(args.output).expanduser().absolute()
  if path.exists():
    raise UserError('There is a file already.', where=str(path),
                    hint='name another one, or remove it')
  common.writable(path.parent)
  return path


def _fields(args: argparse.Namespace) -> list[str]:
  return args.field or ['text']


def _texts(args: argparse.Namespace) -> Iterator[str]:
  for path in args.file:
    yield from training.texts_of(path, _fields(args))
  if args.task:
    yield from _task_texts(args)


def _task_texts(args: argparse.Namespace) -> Iterator[str]:
  """Inputs and targets of tasks, without their tokens."""
  common.load_tasks(args.module)
  from flanjax.data import mixtures, text_task

  for name in dict.fromkeys(t for n in args.task for t in mixtures.tasks_of(n)):
    for row in text_task.TextTask(name, args.split, None).rows():
      yield row['inputs']
      yield row['targets']


def _show(args: argparse.Namespace) -> int:
  name = args.vocabulary
  if name == 't5':
    common.import_tensorflow()
    from flanjax.data import vocabularies

    vocabularies.get(name)  # Downloads it.
  found = _describe(name)
  texts = [_cut(name, text) for text in args.text]
  lines = [f'{key.replace("_", " ")}: {value}' for key, value in found.items()]
  for cut in texts:
    lines += ['', *visible(' | '.join(cut['pieces'])), ' '.join(map(str, cut['ids'])), (
        f"{len(cut['ids'])} tokens, {cut['characters_per_token']:.2f} characters a token; "
        + ('back the same' if cut['same'] else 'back as: ' + ' '.join(visible(cut['decoded']))))]
  common.answer(args, {**found, 'texts': texts}, '\n'.join(lines))
  return 0


def _describe(name: str) -> dict[str, Any]:
  size = pieces.size_of(name)
  known = pieces.identity(name)
  found: dict[str, Any] = {'vocabulary': name}
  special = {'padding': 0, 'end': 1, 'unknown': 2, 'beginning': None}
  kind, extra = 'bytes', 'none'
  if not pieces.is_bytes(name):
    model = pieces.read(name)
    processor = model.processor
    found['file'] = str(model.path)
    values = (processor.pad_id(), processor.eos_id(), processor.unk_id(), processor.bos_id())
    special = {key: v if v >= 0 else None for key, v in zip(special, values)}
    kind = model.model_type
    extra = (f'{model.own_extra_ids}, in the file' if model.own_extra_ids else
             f'{model.added_extra_ids}, added' if model.added_extra_ids else 'none')
  return found | {
      'kind': kind, 'ids': size, 'rows_of_a_model': -(-size // ROW_MULTIPLE) * ROW_MULTIPLE,
      **{f'{key}_id': value for key, value in special.items()}, 'extra_ids': extra,
      'sha256': known.fingerprint, 'content_sha256': known.content}


def _cut(name: str, text: str) -> dict[str, Any]:
  """A text's pieces and ids, and what they are as text again."""
  from flanjax.inference import tokenizer

  vocabulary = tokenizer.get(name)
  try:
    ids = [int(i) for i in vocabulary.encode(text)]
  except UnicodeEncodeError as e:
    raise UserError('A text is no valid Unicode.', where='TEXT', got=str(e)[:200]) from e
  if pieces.is_bytes(name):
    parts = [f'<0x{i - 3:02X}>' for i in ids]
  else:
    parts = [pieces.read(name).processor.id_to_piece(i) for i in ids]
  decoded = vocabulary.decode(ids)
  return {'text': text, 'ids': ids, 'pieces': parts, 'decoded': decoded, 'same': decoded == text,
          'characters_per_token': len(text) / max(1, len(ids))}
