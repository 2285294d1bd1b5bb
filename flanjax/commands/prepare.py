"""`flanjax prepare`: a mixture as files that training reads without TensorFlow."""

from __future__ import annotations

import argparse
import json
import pathlib

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError

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
  parser.add_argument('--num_workers', type=int, metavar='N', help='default: all cores')
  common.add_flags(parser, 'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  if min(lengths.values()) < 1:
    raise UsageError('Sequence lengths must be at least 1.', got=lengths)
  if args.output_dir:
    common.writable(args.output_dir)
  common.load_tasks(args.module, args.vocabulary)
  from flanjax.data import prepare

  with terminal.bar(f'preparing {args.mixture}') as progress:
    path = prepare.prepare(
        args.mixture, lengths, split=args.split, output_dir=args.output_dir,
        vocabulary=args.vocabulary, modules=tuple(args.module), num_workers=args.num_workers,
        on_missing=args.on_missing, progress=progress)
  manifest = json.loads(pathlib.Path(path).read_text())
  common.answer(args, {'manifest': str(pathlib.Path(path).absolute())},
                f'{_table(manifest)}\n\nprepared: {path}')
  return 0


def _table(manifest: dict) -> str:
  rows = [dict(t, percent=f"{100 * t['share']:.2f} %", rate=f"{t['rate']:,.0f}")
          for t in manifest['tasks']]
  return terminal.table(rows, {'name': 'task', 'cluster': 'cluster', 'num_examples': 'examples',
                               'rate': 'rate', 'percent': 'share', 'truncated': 'truncated'})
