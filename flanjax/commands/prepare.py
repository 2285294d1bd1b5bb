"""`flanjax prepare`: a mixture as files that training reads without TensorFlow."""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
from collections.abc import Mapping, Sequence

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError

INPUTS_LENGTH, TARGETS_LENGTH = 512, 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax prepare flan2021_holdout_nli_train --inputs_length 256\n')
  parser.add_argument('mixture', help='a mixture or a SeqIO task')
  parser.add_argument('--split', default='train', help='default: train')
  parser.add_argument('--inputs_length', type=int, default=INPUTS_LENGTH, metavar='N',
                      help=f'longest inputs in tokens (default: {INPUTS_LENGTH})')
  parser.add_argument('--targets_length', type=int, default=TARGETS_LENGTH, metavar='N',
                      help=f'longest targets in tokens (default: {TARGETS_LENGTH})')
  parser.add_argument('--vocabulary', help="'mini', 'bytes', 't5' or a SentencePiece model "
                      "(default: the suite's own)")
  parser.add_argument('--output_dir', metavar='DIR', help='default: WORKDIR/prepared')
  parser.add_argument('--on_missing', choices=('error', 'skip'), default='error',
                      help='what to do about tasks whose data is missing (default: error)')
  parser.add_argument('--locked', metavar='FILE',
                      help='refuse what differs from a lock (flanjax mixtures lock)')
  parser.add_argument('--num_workers', type=int, metavar='N', help='default: all cores')
  # Set by `flanjax train`, whose users know settings by their gin names.
  parser.add_argument('--from_gin', action='store_true', help=argparse.SUPPRESS)
  common.add_flags(parser, 'module', 'templates', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  if min(lengths.values()) < 1:
    raise UsageError('Sequence lengths must be at least 1.', got=lengths)
  if args.output_dir:
    common.writable(args.output_dir)
  try:
    path = _prepare(args, lengths)
  except UserError as e:
    raise _in_gin_terms(e) if args.from_gin else e
  manifest = json.loads(path.read_text())
  common.answer(args, {'manifest': str(path.absolute())},
                f'{_table(manifest)}\n\nprepared: {path}')
  return 0


def in_a_child(
    mixture: str, lengths: Mapping[str, int], split: str = 'train', vocabulary: str | None = None,
    output_dir: str | None = None, on_missing: str = 'error', modules: Sequence[str] = (),
    from_gin: bool = False,
) -> pathlib.Path:
  """The manifest of a mixture, prepared by a process of its own: this one needs no TensorFlow."""
  argv = ['prepare', mixture, '--split', split, '--on_missing', on_missing,
          '--inputs_length', str(lengths['inputs']), '--targets_length', str(lengths['targets']),
          *common.repeat('--module', modules), *(['--from_gin'] if from_gin else [])]
  for flag, value in (('--vocabulary', vocabulary), ('--output_dir', output_dir)):
    argv += [flag, value] if value else []
  return pathlib.Path(common.run_child(argv)['manifest'])


def _prepare(args: argparse.Namespace, lengths: dict[str, int]) -> pathlib.Path:
  common.load_tasks(args.module, args.vocabulary, args.templates)
  from flanjax.data import prepare

  muted = contextlib.nullcontext() if args.debug else common.native_code_muted()
  with muted, terminal.bar(f'preparing {args.mixture}') as progress:
    return prepare.prepare(
        args.mixture, lengths, split=args.split, output_dir=args.output_dir,
        vocabulary=args.vocabulary, modules=tuple(args.module), num_workers=args.num_workers,
        on_missing=args.on_missing, progress=progress, lock=args.locked)


def _in_gin_terms(e: UserError) -> UserError:
  """The error with flags replaced by the macros that set them."""
  if e.hint is None or '--vocabulary' not in e.hint:
    return e
  return UserError(
      e.what, where=e.where, got=e.got, expected=e.expected,
      hint="name another: --gin.VOCABULARY=\"'bytes'\" or "
      "--gin.VOCABULARY=\"'/path/to/sentencepiece.model'\"")


def _table(manifest: dict) -> str:
  rows = [dict(t, percent=f"{100 * t['share']:.2f} %", rate=f"{t['rate']:,.0f}")
          for t in manifest['tasks']]
  return terminal.table(rows, {'name': 'task', 'cluster': 'cluster', 'num_examples': 'examples',
                               'rate': 'rate', 'percent': 'share', 'truncated': 'truncated'})
