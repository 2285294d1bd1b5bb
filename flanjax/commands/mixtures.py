"""`flanjax mixtures`: the mixtures there are, and what a mixture holds."""

from __future__ import annotations

import argparse

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UserError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
  text = '  flanjax mixtures show flan2021_holdout_nli_train\n'
  common.example(parser, text)
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  listing = actions.add_parser('list', help='the registered mixtures')
  listing.add_argument('--few_shot', action='store_true', help='also those with exemplars')
  show = actions.add_parser('show', help='tasks, examples, caps, rates and expected shares')
  show.add_argument('mixture', help='a mixture or a SeqIO task')
  common.example(listing, '  flanjax mixtures list --holdout nli\n')
  common.example(show, text)
  for action in (listing, show):
    common.add_flags(action, *(['holdout'] if action is listing else []),
                     'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  common.load_tasks(args.module)
  return {'list': _list, 'show': _show}[args.action](args)


def _list(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue, specs

  rows = catalogue.list_mixtures(args.few_shot)
  if args.holdout:
    rows = [r for r in rows if f'_holdout_{args.holdout}_' in r['mixture']]
    if not rows:
      known = {s.cluster for s in specs.all_specs()}
      raise UserError(f"No suite has a cluster '{args.holdout}'.",
                      hint=nearest(args.holdout, known))
  common.answer(args, rows, terminal.table(rows, {'mixture': 'mixture', 'tasks': 'tasks'}))
  return 0


def _show(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue

  rows = catalogue.mixture_table(args.mixture)
  shown = [dict(r, rate=f"{r['rate']:,.0f}", percent=f"{100 * r['share']:.2f} %") for r in rows]
  columns = {'task': 'task', 'cluster': 'cluster', 'num_examples': 'examples', 'cap': 'cap',
             'rate': 'rate', 'percent': 'share'}
  common.answer(args, rows, terminal.table(shown, columns))
  return 0
