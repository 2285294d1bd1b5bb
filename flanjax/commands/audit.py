"""`flanjax audit`: what a model really saw, and what it should not have seen."""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import re
from typing import TYPE_CHECKING, Any

from flanjax import terminal
from flanjax.commands import audit_mixture, common
from flanjax.errors import UsageError, UserError

if TYPE_CHECKING:
  from flanjax.data.leakage import Leakage

FORMAT, VERSION = 'flanjax-leakage', 1
_MOST_NAMED, _MOST_SKIPPED = 3, 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax audit mixture /runs/no_nli\n'
                 '  flanjax audit batch /runs/no_nli --step 12000\n'
                 '  flanjax audit leakage flan2021_holdout_nli_train --on_missing skip\n')
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  audit_mixture.add_mixture(actions)
  audit_mixture.add_batch(actions)
  _add_leakage(actions)


def _add_leakage(actions: Any) -> None:
  leakage = actions.add_parser(
      'leakage', help='evaluation examples that stand in the training mixture')
  leakage.add_argument('mixture', help='the training mixture, or a SeqIO task')
  leakage.add_argument('--eval', metavar='EVAL_MIXTURE', help=(
      'what is evaluated (default: the name of the mixture with _eval for _train)'))
  leakage.add_argument('--split', default='test', help='the split evaluated (default: test)')
  leakage.add_argument('--ngram', type=int, default=13, metavar='N', help=(
      'shared runs of N words count (default: 13)'))
  leakage.add_argument('--threshold', type=float, default=0.8, metavar='X', help=(
      'texts whose pairs of words have this Jaccard similarity are near-duplicates (default: 0.8)'))
  leakage.add_argument('--max_pairs', type=int, default=5, metavar='N', help=(
      'pairs to name of an evaluation example, all are counted (default: 5)'))
  leakage.add_argument('--output', metavar='DIR', help='default: WORKDIR/audits/MIXTURE')
  leakage.add_argument('--on_missing', choices=('error', 'skip'), default='error', help=(
      'what to do about tasks whose data is missing (default: error)'))
  leakage.add_argument('--num_workers', type=int, metavar='N', help=(
      'processes (default: one for two cores)'))
  common.example(leakage, '  flanjax audit leakage flan2021_holdout_nli_train --ngram 8\n'
                 '  flanjax audit leakage my_train --eval my_eval --module my_tasks\n')
  common.add_flags(leakage, 'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  actions = {'mixture': audit_mixture.mixture, 'batch': audit_mixture.batch, 'leakage': _leakage}
  return actions[args.action](args)


def _leakage(args: argparse.Namespace) -> int:
  if args.ngram < 3:
    raise UsageError('--ngram must be at least 3.', got=args.ngram)
  if not 0 < args.threshold <= 1:
    raise UsageError('--threshold must be above 0 and at most 1.', got=args.threshold)
  if args.max_pairs < 0 or (args.num_workers is not None and args.num_workers < 1):
    raise UsageError('A number is too small.', where='--max_pairs, --num_workers')
  common.load_tasks(args.module)
  from flanjax.data import mixtures

  mixtures.known(args.mixture)
  folder = common.writable(args.output or _default_folder(args.mixture))
  found = _audit(args, folder)
  paths = write(found, folder)
  data = {**found.summary(), **{name: str(path) for name, path in paths.items()}}
  common.answer(args, data, text(found) + '\n\n' + '\n'.join(
      f'{name}: {path}' for name, path in paths.items()))
  return 0


def _default_folder(mixture: str) -> pathlib.Path:
  return common.default_workdir() / 'audits' / re.sub(r'[^\w.-]', '_', mixture)


def _audit(args: argparse.Namespace, folder: pathlib.Path) -> Leakage:
  from flanjax.data import leakage
  from flanjax.data.overlap import Settings

  muted = contextlib.nullcontext() if args.debug else common.native_code_muted()
  with muted, terminal.bar(f'auditing {args.mixture}') as progress:
    return leakage.audit(
        args.mixture, args.eval, split=args.split,
        settings=Settings(ngram=args.ngram, threshold=args.threshold), max_pairs=args.max_pairs,
        modules=tuple(args.module), num_workers=args.num_workers, on_missing=args.on_missing,
        progress=progress, scratch=str(folder))


def write(found: Leakage, folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Writes what was found: all of it, and the list of clean examples; returns where."""
  from flanjax.evaluation import clean, records

  paths = {'leakage': folder / 'leakage.json', 'clean': folder / 'clean.json'}
  summary = {'format': FORMAT, 'version': VERSION, **found.summary()}
  head = json.dumps(summary, indent=1, ensure_ascii=False)
  lines = ',\n'.join(json.dumps(pair, ensure_ascii=False) for pair in found.pairs)
  try:
    records.write_atomically(paths['leakage'], f'{head[:-2]},\n "pairs": [\n{lines}\n]}}\n')
    clean.write_clean(
        paths['clean'], found.clean, {row['task']: row['examples'] for row in found.tasks},
        split=found.split, mixture=found.mixture, eval_mixture=found.eval_mixture,
        settings=summary['settings'], skipped=found.skipped)
  except OSError as e:
    raise UserError('The audit cannot be written.', where=str(folder), got=e.strerror) from e
  return paths


def text(found: Leakage) -> str:
  """The table that a person reads."""
  columns = {
      'task': 'task', 'cluster': 'cluster', 'examples': 'examples', 'exact': 'exact',
      'ngram': f'{found.settings.ngram}-gram', 'near_duplicate': 'near',
      'answer_given': 'answer given', 'percent': 'clean', 'meets': 'meets'}
  rows = [dict(row, percent=f"{100 * row['share_clean']:.1f} %", meets=_named(row['train_tasks']))
          for row in found.tasks]
  total = sum(found.train.values())
  lines = [f'{found.eval_mixture}, split {found.split}, against {total:,} training examples of '
           f'{found.mixture}, {len(found.train)} task(s)', '', terminal.table(rows, columns)]
  kin = [r for r in found.lineage if not r['same_task']]
  if kin:
    lines += ['', 'declared kin on both sides: ' + ', '.join(
        f"{r['train_task']} and {r['task']} ({', '.join(r['shared']) or 'overlaps'})" for r in kin)]
  met = [r for r in found.kinships if not r['declared']]
  if met:
    lines += ['', 'no kinship declared: ' + ', '.join(
        f"{r['train_task']} and {r['task']} ({r['leaked']:,})" for r in met)]
  for side, what in (('train', 'training'), ('eval', 'evaluation')):
    if found.skipped[side]:
      lines += ['', f'{len(found.skipped[side])} {what} task(s) not read, their data is missing: '
                f'{_some(sorted(found.skipped[side]), _MOST_SKIPPED)}']
  return '\n'.join(lines)


def _named(counts: dict[str, int]) -> str:
  """The training tasks that most examples meet: 'wsc 48, winogrande 3 and 2 more'."""
  return _some([f'{name} {n:,}' for name, n in counts.items()], _MOST_NAMED)


def _some(names: list[str], most: int) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
