"""`flanjax tasks list`: which tasks there are, where their data comes from, and on what terms."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UserError, nearest

# In the order in which they are kept where not all fit.
_COLUMNS = {
    'task': 'task',
    'cluster': 'cluster',
    'role': 'role',
    'train_examples': 'train',
    'state': 'data',
    'from': 'source',
    'size': 'download',
    'licence': 'licence',
    'templates': 'templates',
    'metric': 'metrics',
    'citation': 'citation',
}


def run(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue

  rows = catalogue.list_tasks(args.suite, args.cluster)
  if args.holdout:
    rows = _with_roles(rows, args.suite, args.holdout)
  common.answer(args, rows, '\n'.join(_text(rows, args.long)))
  return 0


def _with_roles(
    rows: Sequence[dict[str, Any]], suite: str | None, holdout: str
) -> list[dict[str, Any]]:
  """The tasks of the suites that have the cluster, each with what it does when that is held out."""
  from flanjax.data import clusters

  roles = {}
  suites = [suite] if suite else sorted({r['suite'] for r in rows if r['cluster'] == holdout})
  if not suites:
    raise UserError(f"There is no cluster '{holdout}'.",
                    hint=nearest(holdout, {r['cluster'] for r in rows}))
  for name in suites:
    split = clusters.holdout(name, holdout)
    roles |= {s.name: role for role in ('train', 'eval', 'excluded') for s in getattr(split, role)}
  return [dict(r, role=roles[r['task']]) for r in rows if r['task'] in roles]


def _text(rows: Sequence[dict[str, Any]], everything: bool) -> Iterator[str]:
  """A table for each suite; of its columns those that fit, or all."""
  shown = [{
      **row,
      'state': 'here' if row['prepared'] else row['downloads'],
      'from': f"{row['source']}:{row['version']}" if row['version'] else row['source'],
      'size': terminal.size(row['download_bytes']) if row['download_bytes'] else '',
      'metric': ', '.join(row['metrics']),
  } for row in rows]
  columns = {k: v for k, v in _COLUMNS.items() if any(row.get(k) for row in shown)}
  left_out = {}
  for suite in dict.fromkeys(row['suite'] for row in shown):
    members = [row for row in shown if row['suite'] == suite]
    kept = columns if everything else terminal.fitting(members, columns)
    left_out |= {k: v for k, v in columns.items() if k not in kept}
    yield f"{suite}: {len(members)} task{'s' * (len(members) != 1)}\n"
    yield terminal.table(members, kept) + '\n'
  if left_out:
    more = f"{len(left_out)} more column{'s' * (len(left_out) != 1)}"
    yield f'{more} with --long, and everything with --json.'
