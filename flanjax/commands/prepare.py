"""`flanjax prepare`: a mixture as files that training reads without TensorFlow."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError
from flanjax.input import remote

INPUTS_LENGTH, TARGETS_LENGTH = 512, 128
TOO_LONG = ('truncate', 'drop')
RUNNERS = ('local', 'direct', 'flink', 'spark', 'dataflow')
# What sets in a run's configuration what a flag sets here.
_MACROS = {'--max_bad_examples': 'MAX_BAD_EXAMPLES', '--output_dir': 'PREPARED_DIR'}


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
  parser.add_argument('--output_dir', metavar='DIR',
                      help='also one of a store, gs:// or s3:// (default: WORKDIR/prepared)')
  parser.add_argument('--on_missing', choices=('error', 'skip'), default='error',
                      help='what to do about tasks whose data is missing (default: error)')
  parser.add_argument('--locked', metavar='FILE',
                      help='refuse what differs from a lock (flanjax mixtures lock)')
  add_policy_flags(parser)
  parser.add_argument('--num_workers', type=int, metavar='N', help='default: all cores')
  parser.add_argument('--runner', choices=RUNNERS, default=RUNNERS[0], help=(
      "where it is prepared: here, or on Apache Beam, which takes flanjax[beam] (default: local)"))
  parser.add_argument('--runner_option', action='append', default=[], metavar='KEY=VALUE',
                      help='a pipeline option of Beam; may be repeated')
  parser.add_argument('--seqio_cache', metavar='DIR', help=(
      'also write it as an offline cache of SeqIO, which stock T5X reads'))
  # Set by `flanjax train`, whose users know settings by their gin names.
  parser.add_argument('--from_gin', action='store_true', help=argparse.SUPPRESS)
  common.add_flags(parser, 'module', 'templates', 'json', 'workdir')


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--too_long', choices=TOO_LONG, default='truncate',
                      help='what to do with examples longer than that (default: truncate)')
  parser.add_argument('--max_bad_examples', type=int, default=0, metavar='N',
                      help='leave out up to N examples of each task on which it fails (default: 0)')


def run(args: argparse.Namespace) -> int:
  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  if min(lengths.values()) < 1:
    raise UsageError('Sequence lengths must be at least 1.', got=lengths)
  if args.max_bad_examples < 0:
    raise UsageError('--max_bad_examples must be at least 0.', got=args.max_bad_examples)
  if args.output_dir and not remote.is_remote(args.output_dir):
    common.writable(args.output_dir)
  try:
    path, cached = _prepare(args, lengths)
  except UserError as e:
    raise _in_gin_terms(e) if args.from_gin else e
  tasks = json.loads(path.read_text())['tasks']
  bad = {t['name']: t['bad_examples'] for t in tasks if t['bad_examples']['number']}
  answer = {'manifest': os.fspath(path), 'bad_examples': bad}
  answer |= {key: sum(t[key] for t in tasks) for key in ('num_examples', 'truncated', 'dropped')}
  lines = [_table(tasks), *_left_out(bad), '', f'prepared: {path}']
  if args.seqio_cache:
    folder = os.fspath(remote.resolved(args.seqio_cache))
    answer['seqio_cache'] = {'folder': folder, 'tasks': cached}
    lines.append(f'cached for SeqIO: {len(cached)} tasks in {args.seqio_cache}')
  common.answer(args, answer, '\n'.join(lines))
  return 0


def _left_out(bad: Mapping[str, Any]) -> Iterator[str]:
  """Lines about examples on which tasks fail."""
  for name, found in bad.items():
    yield f'\nleft out of {name}, which fails on them: {found["number"]}'
    yield from (f'  example {b["example"]}: {b["reason"]}' for b in found['first'])
    yield from ['  ...'] if found['number'] > len(found['first']) else []


def in_a_child(
    mixture: str, lengths: Mapping[str, int], split: str = 'train', vocabulary: str | None = None,
    output_dir: str | None = None, on_missing: str = 'error', modules: Sequence[str] = (),
    from_gin: bool = False, too_long: str = 'truncate', max_bad_examples: int = 0,
) -> remote.AnyPath:
  """The manifest of a mixture, prepared by a process of its own: this one needs no TensorFlow."""
  argv = ['prepare', mixture, '--split', split, '--on_missing', on_missing,
          '--too_long', too_long, '--max_bad_examples', str(max_bad_examples),
          '--inputs_length', str(lengths['inputs']), '--targets_length', str(lengths['targets']),
          *common.repeat('--module', modules), *(['--from_gin'] if from_gin else [])]
  for flag, value in (('--vocabulary', vocabulary), ('--output_dir', output_dir)):
    argv += [flag, value] if value else []
  return remote.resolved(common.run_child(argv)['manifest'])


def _prepare(
    args: argparse.Namespace, lengths: dict[str, int]
) -> tuple[remote.AnyPath, list[str]]:
  """The manifest, and the names of what was cached for SeqIO."""
  common.load_tasks(args.module, args.vocabulary, args.templates)
  from flanjax.data import prepare

  muted = contextlib.nullcontext() if args.debug else common.native_code_muted()
  with muted, terminal.bar(f'preparing {args.mixture}') as progress:
    path = prepare.prepare(
        args.mixture, lengths, split=args.split, output_dir=args.output_dir,
        vocabulary=args.vocabulary, modules=tuple(args.module), num_workers=args.num_workers,
        on_missing=args.on_missing, progress=progress, lock=args.locked, too_long=args.too_long,
        max_bad_examples=args.max_bad_examples, runner=args.runner,
        runner_options=tuple(args.runner_option))
  if not args.seqio_cache:
    return path, []
  from flanjax.data import seqio_cache

  with terminal.bar('caching for SeqIO') as progress:
    return path, seqio_cache.write(path, args.seqio_cache, progress=progress)


def _in_gin_terms(e: UserError) -> UserError:
  """The error with flags replaced by the macros that set them."""
  hint = e.hint or ''
  if '--vocabulary' in hint:
    hint = ("name another: --gin.VOCABULARY=\"'bytes'\" or "
            "--gin.VOCABULARY=\"'/path/to/sentencepiece.model'\"")
  for flag, macro in _MACROS.items():
    hint = hint.replace(flag, f'--gin.{macro}')
  return UserError(e.what, where=e.where, got=e.got, expected=e.expected, hint=hint or None)


def _table(tasks: list[dict[str, Any]]) -> str:
  rows = [dict(t, percent=f"{100 * t['share']:.2f} %", rate=f"{t['rate']:,.0f}",
               bad=t['bad_examples']['number']) for t in tasks]
  columns = {'name': 'task', 'cluster': 'cluster', 'num_examples': 'examples', 'rate': 'rate',
             'percent': 'share', 'truncated': 'truncated'}
  rare = {'dropped': 'dropped', 'bad': 'bad'}
  columns |= {key: heading for key, heading in rare.items() if any(row[key] for row in rows)}
  return terminal.table(rows, columns)
