"""`flanjax tasks`: what is registered, how it reads, and whether it is right."""

from __future__ import annotations

import argparse
import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax tasks list --cluster nli\n'
                 '  flanjax tasks show mini_film_opinion --num_examples 1\n'
                 '  flanjax tasks check my_reviews --module my_tasks\n'
                 '  flanjax tasks check --all\n')
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
  check = actions.add_parser('check', help='look for mistakes in wording, fields and examples')
  check.add_argument('task', nargs='*', help='tasks to check')
  check.add_argument('--all', action='store_true', help='check every task there is')
  check.add_argument('--suite', help='check every task of this suite')
  check.add_argument('--split', help='default: train, where there is one')
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
  if args.action == 'check' and not (args.task or args.suite or args.all):
    raise UsageError('Nothing to check.', expected='names of tasks, --suite or --all')
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
  from flanjax.data import lint, specs

  many = args.all or args.suite
  names = [*args.task, *(s.name for s in specs.all_specs(args.suite) if many)]
  names = list(dict.fromkeys(names))
  found = {}
  with terminal.bar('checking') as progress:
    for i, name in enumerate(names):
      progress(i, len(names), name)
      found[name] = lint.check_task(name, args.num_examples, args.split)
    progress(len(names), len(names))
  data = {name: [dataclasses.asdict(p) for p in problems] for name, problems in found.items()}
  common.answer(args, data, '\n'.join(_findings(found, notes=not many)))
  return 1 if any(p.level == 'error' for problems in found.values() for p in problems) else 0


def _findings(found: dict[str, list[Any]], notes: bool) -> Iterator[str]:
  """What a check says: a task's problems below its name, and a line for all of them."""
  from flanjax.data import specs

  for name, problems in found.items():
    shown = [p for p in problems if notes or p.level != 'note']
    if not shown and not notes:
      continue
    yield f'{name}: {len(specs.get(name).templates)} templates, {_counted(problems)}'
    for p in shown:
      where = f'template {p.template}: ' if p.template is not None else ''
      example = f' (example {p.example_id})' if p.example_id is not None else ''
      yield f'  {p.level}: {where}{p.message}{example}'
  if not notes:
    templates = sum(len(specs.get(name).templates) for name in found)
    everything = [p for problems in found.values() for p in problems]
    unread = sum(any(p.unread for p in problems) for problems in found.values())
    data = f'; {unread} by wording and features alone, their data is not here' if unread else ''
    yield f'{len(found)} tasks, {templates} templates: {_counted(everything)}{data}'


def _counted(problems: Sequence[Any]) -> str:
  counts = collections.Counter(p.level for p in problems)
  del counts['note']
  return ', '.join(f'{n} {level}{"s" * (n > 1)}' for level, n in counts.items()) or 'all right'
