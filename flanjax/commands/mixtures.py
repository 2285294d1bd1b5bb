"""`flanjax mixtures`: the mixtures there are, and what a mixture holds."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from flanjax import terminal
from flanjax.commands import common, prepare
from flanjax.errors import UsageError, UserError, nearest

# Parts of names that a list is folded over: held-out clusters, and numbers.
_VARIES = re.compile(r'(?<=_holdout_)\w+(?=_train|_eval)|(?<=_only_)\w+(?=_train|_eval)|\d+')
# From so many names of one form on.
_FOLD_FROM = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
  text = '  flanjax mixtures show flan2021_holdout_nli_train\n'
  common.example(parser, text)
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  listing = actions.add_parser('list', help='the registered mixtures')
  listing.add_argument('pattern', nargs='?', default='', metavar='NAME', help=(
      'only those with this in their names; * and ? stand for anything'))
  listing.add_argument('--all', action='store_true', help='each name on a line of its own')
  listing.add_argument('--few_shot', action='store_true', help='also those with exemplars')
  show = actions.add_parser('show', help='tasks, examples, caps, rates and expected shares')
  show.add_argument('mixture', help='a mixture or a SeqIO task')
  common.example(listing, '  flanjax mixtures list --holdout nli\n'
                 '  flanjax mixtures list flan_diversity\n')
  common.example(show, text)
  _add_plan(actions)
  _add_lock(actions)
  for action in (listing, show):
    common.add_flags(action, *(['holdout'] if action is listing else []),
                     'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  if args.action in ('plan', 'lock', 'diff'):
    return {'plan': _plan, 'lock': _lock, 'diff': _diff}[args.action](args)
  common.load_tasks(args.module)
  return {'list': _list, 'show': _show}[args.action](args)


def _list(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue, specs

  rows = catalogue.list_mixtures(args.pattern, args.few_shot)
  if args.holdout:
    rows = [r for r in rows if f'_holdout_{args.holdout}_' in r['mixture']]
    if not rows:
      known = {s.cluster for s in specs.all_specs()}
      raise UserError(f"No suite has a cluster '{args.holdout}'.",
                      hint=nearest(args.holdout, known))
  common.answer(args, rows, _text(args, rows))
  return 0


def _text(args: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
  """A table; of everything, only when asked for each name."""
  if args.all or args.holdout or args.pattern:
    return terminal.table(rows, {'mixture': 'mixture', 'tasks': 'tasks'})
  shown = [{'mixtures': 1, **row} for row in fold(rows)]
  table = terminal.table(shown, {'mixture': 'mixture', 'mixtures': 'mixtures', 'tasks': 'tasks'})
  return f'{table}\n\n--all tells every name, NAME those that contain it.'


def fold(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """Rows of `catalogue.list_mixtures`, those in one whose names differ in a cluster or in numbers.

    mini_holdout_<cluster>_train              mixtures 12   tasks 22-25
    flan_diversity_split{1..7}_4templates     mixtures 7    tasks 11-38
  """
  groups: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    groups.setdefault(_VARIES.sub('*', row['mixture']), []).append(row)
  folded = []
  for members in groups.values():
    folded += [_folded(members)] if len(members) >= _FOLD_FROM else members
  return folded


def _folded(members: list[dict[str, Any]]) -> dict[str, Any]:
  varying = iter(zip(*(_VARIES.findall(row['mixture']) for row in members)))
  sizes = sorted({row['tasks'] for row in members})
  return {
      'mixture': _VARIES.sub(lambda _: _alternatives(next(varying)), members[0]['mixture']),
      'mixtures': len(members),
      'tasks': '-'.join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1]))),
  }


def _alternatives(values: Iterable[str]) -> str:
  """What stands in one place of several names.

  >>> _alternatives(['1', '2', '10', '3']), _alternatives(['1', '4', '2']), _alternatives(['7'])
  ('{1,2,3,10}', '{1,2,4}', '7')
  """
  found = set(values)
  if len(found) == 1:
    return found.pop()
  if not all(value.isdecimal() for value in found):
    return '<cluster>'
  numbers = sorted(map(int, found))
  steps = {b - a for a, b in itertools.pairwise(numbers)}
  if len(numbers) > 3 and len(steps) == 1:
    first = numbers[:1] if steps == {1} else numbers[:2]
    return f'{{{",".join(map(str, first))}..{numbers[-1]}}}'
  return f'{{{",".join(map(str, numbers))}}}'


def _show(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue

  rows = catalogue.mixture_table(args.mixture)
  shown = [dict(r, rate=f"{r['rate']:,.0f}", percent=f"{100 * r['share']:.2f} %") for r in rows]
  columns = {'task': 'task', 'cluster': 'cluster', 'num_examples': 'examples', 'cap': 'cap',
             'rate': 'rate', 'percent': 'share'}
  common.answer(args, rows, terminal.table(shown, columns))
  return 0


def _add_plan(actions: Any) -> None:
  plan = actions.add_parser('plan', help='what a cap, temperature or budget does, before training')
  common.example(plan, '  flanjax mixtures plan mini_holdout_nli_train --steps 500 --temperature 2\n'
                 '  flanjax mixtures plan flan2021_all_train --size examples --cap 30000 '
                 '--weights nli=2 --weights "*=1"\n')
  plan.add_argument('mixture', help='a mixture, a SeqIO task, or the manifest of prepared data')
  plan.add_argument('--steps', type=int, default=1_000, metavar='N', help='default: 1,000')
  plan.add_argument('--batch_size', type=int, default=128, metavar='N', help='rows (default: 128)')
  plan.add_argument('--no_pack', action='store_true', help='one example in a row')
  plan.add_argument('--size', default='rates', help="what rates are made of: 'rates' (those of the "
                    "mixture), 'examples' or 'target_tokens'")
  plan.add_argument('--cap', type=float, metavar='X', help='the largest size that counts')
  plan.add_argument('--temperature', type=float, default=1.0, metavar='T', help='default: 1')
  plan.add_argument('--weights', action='append', default=[], metavar='NAME=X',
                    help='share of a task or cluster; * is the rest; may be repeated')
  plan.add_argument('--max_epochs', action='append', default=[], metavar='[NAME=]X',
                    help='epochs at most, of everything or of a task or cluster')
  plan.add_argument('--at_end', default='repeat', help="'repeat' or 'stop'")
  _add_prepare_flags(plan)
  common.add_flags(plan, 'module', 'json', 'seed', 'workdir')


def _add_prepare_flags(parser: Any) -> None:
  parser.add_argument('--inputs_length', type=int, default=512, metavar='N', help='default: 512')
  parser.add_argument('--targets_length', type=int, default=128, metavar='N', help='default: 128')
  parser.add_argument('--vocabulary', help="'mini', 'bytes', 't5' or a SentencePiece model")
  parser.add_argument('--output_dir', metavar='DIR', help='where prepared data is kept')
  parser.add_argument('--on_missing', choices=('error', 'skip'), default='error',
                      help='what to do about tasks whose data is missing (default: error)')
  prepare.add_policy_flags(parser)


def _manifest(args: argparse.Namespace) -> str | os.PathLike[str]:
  """The manifest named, or that of the mixture named, prepared where it is not yet."""
  if args.mixture.endswith('.json'):
    return args.mixture
  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  return prepare.in_a_child(
      args.mixture, lengths, split=getattr(args, 'split', 'train'), vocabulary=args.vocabulary,
      output_dir=args.output_dir, on_missing=args.on_missing, modules=args.module,
      too_long=args.too_long, max_bad_examples=args.max_bad_examples)


def _add_lock(actions: Any) -> None:
  lock = actions.add_parser('lock', help='write down what a mixture came from and came to')
  common.example(lock, '  flanjax mixtures lock mini_holdout_nli_train --output nli.lock.json\n'
                 '  flanjax prepare mini_holdout_nli_train --locked nli.lock.json\n')
  lock.add_argument('mixture', help='a mixture, a SeqIO task, or the manifest of prepared data')
  lock.add_argument('--split', default='train', help='default: train')
  lock.add_argument('--output', metavar='FILE', help='default: MIXTURE.lock.json')
  _add_prepare_flags(lock)
  common.add_flags(lock, 'module', 'json', 'workdir')
  diff = actions.add_parser('diff', help='what is different between two locks')
  common.example(diff, '  flanjax mixtures diff old.lock.json new.lock.json\n')
  for name in ('old', 'new'):
    diff.add_argument(name, help='a lock file, or the manifest of prepared data')
  common.add_flags(diff, 'json')


def _lock(args: argparse.Namespace) -> int:
  from flanjax.input import lock, manifest

  made = lock.lock(manifest.load(_manifest(args)))
  path = pathlib.Path(args.output or f"{made['mixture']}.lock.json").expanduser()
  common.write_text(path, lock.dumps(made))
  common.answer(args, {'lock': str(path.absolute())}, f"{len(made['tasks'])} tasks: {path}")
  return 0


def _diff(args: argparse.Namespace) -> int:
  from flanjax.input import lock, manifest

  def read(path: str) -> dict[str, Any]:
    try:
      return lock.load(path)
    except UserError as e:
      with contextlib.suppress(UserError):
        return lock.lock(manifest.load(path))
      raise e

  lines = lock.drift(read(args.old), read(args.new))
  common.answer(args, lines, '\n'.join(lines) or 'no difference')
  return 1 if lines else 0


def _plan(args: argparse.Namespace) -> int:
  from flanjax.input import mixing, mixture, plan

  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  if args.steps < 1:
    raise UsageError('--steps must be at least 1.', got=args.steps)
  settings = mixing.Mixing(
      size=args.size, cap=args.cap, temperature=args.temperature,
      weights=_numbers(args.weights, '--weights') or None, max_epochs=_epochs(args.max_epochs),
      at_end=args.at_end)
  source = mixture.open_mixture(
      _manifest(args), batch_size=args.batch_size, seed=args.seed or 0, feature_lengths=lengths,
      pack=not args.no_pack, mixing=settings)
  found = plan.plan(source, args.steps)
  common.answer(args, found, _plan_text(found))
  return 0


def _epochs(values: list[str]) -> float | dict[str, float] | None:
  if len(values) == 1 and '=' not in values[0]:
    return _numbers([f'*={values[0]}'], '--max_epochs')['*']
  return _numbers(values, '--max_epochs') or None


def _numbers(pairs: list[str], flag: str) -> dict[str, float]:
  """['nli=2', '*=1'] -> {'nli': 2.0, '*': 1.0}."""
  found = {}
  for pair in pairs:
    name, _, number = pair.rpartition('=')
    try:
      found[name] = float(number)
    except ValueError:
      name = ''
    if not name:
      raise UsageError(f'{flag} is not understood.', got=pair, expected='NAME=NUMBER')
  return found


def _plan_text(found: dict[str, Any]) -> str:
  rows = [{
      'dataset': r['dataset'], 'cluster': r['cluster'], 'prepared': f"{r['prepared']:,}",
      'share': f"{100 * r['share']:.2f} %", 'examples': f"{r['examples']:,}",
      'epochs': f"{r['epochs']:.2f}", 'inputs': f"{r['inputs']:,}", 'targets': f"{r['targets']:,}",
      'target_share': f"{100 * r['target_share']:.2f} %",
  } for r in found['tasks']]
  columns = {'dataset': 'task', 'cluster': 'cluster', 'prepared': 'prepared', 'share': 'share',
             'examples': 'drawn', 'epochs': 'epochs', 'inputs': 'input tokens',
             'targets': 'target tokens', 'target_share': 'of the loss'}
  end = '' if found['num_batches'] is None else f", at most {found['num_batches']:,}"
  return (f"{terminal.table(rows, columns)}\n\n{found['steps']:,} steps of {found['batch_size']} "
          f"rows{end}: {found['examples']:,} examples, {found['inputs']:,} input tokens, "
          f"{found['targets']:,} target tokens; rows {100 * found['row_fill']:.1f} % full")
