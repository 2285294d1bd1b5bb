"""Tables of docs/mini.md from quickstarts over several holdouts and seeds.

    for seed in 0 1 2; do for holdout in sentiment topic; do
      tools/quickstart --workdir /tmp/mini --holdout $holdout --seed $seed
    done; done
    .venv/bin/python tools/mini_table.py /tmp/mini
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Cluster = Mapping[str, Any]


def _interval(difference: Mapping[str, float]) -> str:
  return f"{difference['value']:+.1f} ({difference['low']:+.1f} to {difference['high']:+.1f})"


def _held_out(name: str, runs: Mapping[int, Cluster]) -> str:
  """A row: means over seeds, and each seed's difference with its interval."""
  mean = lambda values: f'{np.mean(list(values)):.1f}'
  first = next(iter(runs.values()))
  few_shot = [m for m in first['scores'] if 'shot' in m]
  cells = [
      name, first['metric'], str(first['n_examples']),
      mean(c['baselines']['best'] for c in runs.values()) if first['baselines']['best'] is not None else '',
      mean(c['scores']['untuned'] for c in runs.values()),
      mean(c['scores'][few_shot[0]] for c in runs.values()) if few_shot else '',
      mean(c['scores']['tuned'] for c in runs.values()),
      *(_interval(runs[seed]['difference']) for seed in sorted(runs)),
  ]
  return '| ' + ' | '.join(cells) + ' |'


def _seen(name: str, runs: Sequence[Cluster]) -> str:
  """A row: in how many runs a cluster trained on is clearly better for it, and by how much."""
  better = sum(c['difference']['low'] > 0 for c in runs)
  worst = min(runs, key=lambda c: c['difference']['low'])
  untuned, tuned = (np.mean([c['scores'][m] for c in runs]) for m in ('untuned', 'tuned'))
  return (f"| {name} | {runs[0]['metric']} | {better} of {len(runs)} | {untuned:.1f} | {tuned:.1f} | "
          f"{_interval(worst['difference'])}, n = {worst['difference']['n_examples']} |")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('workdir', type=pathlib.Path, help='the --workdir of the quickstarts')
  args = parser.parse_args()
  held_out: dict[str, dict[int, Cluster]] = defaultdict(dict)
  seen: dict[str, list[Cluster]] = defaultdict(list)
  for path in sorted(args.workdir.glob('*/report/report.json')):
    report = json.loads(path.read_text())
    for cluster in report['clusters']:
      if cluster['held_out']:
        held_out[cluster['cluster']][report['seeds']['run']] = cluster
      elif cluster['status'] == 'seen':
        seen[cluster['cluster']].append(cluster)
  if not held_out:
    parser.error(f'no report in {args.workdir}')
  seeds = sorted({seed for runs in held_out.values() for seed in runs})
  heads = ['held out', 'metric', 'n', 'trivial', 'untuned', 'few-shot', 'tuned',
           *(f'difference, seed {seed}' for seed in seeds)]
  print('| ' + ' | '.join(heads) + ' |\n' + '|---' * len(heads) + '|')
  for name, runs in sorted(held_out.items()):
    print(_held_out(name, runs))
  print('\n| seen | metric | clearly better | untuned | tuned | least difference |\n|---|---|---|---|---|---|')
  for name, runs in sorted(seen.items()):
    print(_seen(name, runs))


if __name__ == '__main__':
  main()
