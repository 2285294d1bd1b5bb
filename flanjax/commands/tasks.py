"""`flanjax tasks`: what is registered, how it reads, and whether it is right."""

from __future__ import annotations

import argparse
import collections
import dataclasses
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax tasks list --cluster nli\n'
                 '  flanjax tasks show mini_film_opinion --num_examples 1\n'
                 '  flanjax tasks check my_reviews --module my_tasks\n')
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  listing = actions.add_parser('list', help='the registered tasks')
  listing.add_argument('--suite', help='only tasks of this suite')
  listing.add_argument('--cluster', help='only tasks of this cluster')
  show = actions.add_parser('show', help='rendered examples of a task')
  show.add_argument('task', help='a task, or a SeqIO task such as rte_10templates_five_shot')
  show.add_argument('--split', default='train', help='default: train')
  show.add_argument('--num_examples', type=int, default=2, metavar='N',
                    help='how many; of a plain task, how many for each template')
  show.add_argument('--vocabulary', help="'mini', 'bytes', 't5' or a SentencePiece model")
  check = actions.add_parser('check', help='render every template on real examples')
  check.add_argument('task', nargs='*', help='tasks to check')
  check.add_argument('--suite', help='check every task of this suite')
  check.add_argument('--split', default='train', help='default: train')
  check.add_argument('--num_examples', type=int, default=20, metavar='N')
  for action, text in ((listing, 'flanjax tasks list --holdout nli --suite flan2021'),
                       (show, 'flanjax tasks show rte_type_3 --split validation'),
                       (check, 'flanjax tasks check my_reviews --module my_tasks')):
    common.example(action, f'  {text}\n')
    common.add_flags(action, *(['holdout'] if action is listing else []),
                     'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  if getattr(args, 'num_examples', 1) < 1:
    raise UsageError('--num_examples must be at least 1.', got=args.num_examples)
  if args.action == 'check' and not (args.task or args.suite):
    raise UsageError('Nothing to check.', expected='names of tasks, or --suite')
  common.load_tasks(args.module, getattr(args, 'vocabulary', None))
  return {'list': _list, 'show': _show, 'check': _check}[args.action](args)


def _list(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue, clusters

  rows = catalogue.list_tasks(args.suite, args.cluster)
  if args.holdout:
    roles = {}
    suites = [args.suite] if args.suite else sorted(
        {r['suite'] for r in rows if r['cluster'] == args.holdout}) or [r['suite'] for r in rows]
    for suite in suites:
      split = clusters.holdout(suite, args.holdout)
      roles |= {s.name: role for role in ('train', 'eval', 'excluded') for s in getattr(split, role)}
    rows = [dict(r, role=roles[r['task']]) for r in rows if r['task'] in roles]
  columns = {'task': 'task', 'suite': 'suite', 'cluster': 'cluster', 'role': 'role',
             'templates': 'templates', 'inverted': 'inverted', 'metric': 'metrics',
             'state': 'data'}
  if not args.holdout:
    del columns['role']
  shown = [dict(r, metric=', '.join(r['metrics']), state=r['missing'] or 'there') for r in rows]
  common.answer(args, rows, terminal.table(shown, columns))
  return 0


def _show(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue

  rows = catalogue.show_task(args.task, args.num_examples, args.split)
  common.answer(args, rows, '\n'.join(map(_page, rows)))
  return 0


def _page(row: dict[str, Any]) -> str:
  """One example as a person reads it."""
  title = f"{row['task']}  example {row['example_id']}  template {row['template_id']}"
  title += '  (inverted)' if row['inverted'] else ''
  if 'option' in row:
    title += f"  option {row['option']}{' (right)' if row['is_correct'] else ''}"
  indent = lambda text: '\n'.join(f'    {line}' for line in text.split('\n'))
  return (f"{title}\n  inputs, {row['input_tokens']} tokens:\n{indent(row['inputs'])}\n"
          f"  targets, {row['target_tokens']} tokens:\n{indent(row['targets'])}\n")


def _check(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue, specs

  names = list(args.task) + [r['task'] for r in catalogue.list_tasks(args.suite)
                             if args.suite and r['task'] not in args.task]
  found = {}
  with terminal.bar('checking') as progress:
    for i, name in enumerate(names):
      progress(i, len(names), name)
      found[name] = catalogue.check_task(name, args.num_examples, args.split)
    progress(len(names), len(names))
  errors = sum(p.level == 'error' for problems in found.values() for p in problems)
  lines = []
  for name, problems in found.items():
    counts = collections.Counter(p.level for p in problems)
    state = ', '.join(f'{n} {level}(s)' for level, n in counts.items()) or 'all right'
    lines.append(f'{name}: {len(specs.get(name).templates)} templates, {state}')
    for p in problems:
      where = f'template {p.template}: ' if p.template is not None else ''
      shown = f' (example {p.example_id})' if p.example_id is not None else ''
      lines.append(f'  {p.level}: {where}{p.message}{shown}')
  data = {name: [dataclasses.asdict(p) for p in problems] for name, problems in found.items()}
  common.answer(args, data, '\n'.join(lines))
  return 1 if errors else 0
