"""An experiment's numbers as files and as a table for people."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flanjax import terminal
from flanjax.commands import common

_COLUMNS = ('kind', 'condition', 'minus', 'holdout', 'group', 'x', 'metric', 'value', 'low', 'high',
            'p_holm', 'n_examples', 'n_seeds', 'cells')


def write(data: Mapping[str, Any], root: pathlib.Path, figure: tuple[bytes, str] | None) -> None:
  """experiment.json, experiment.csv, figure.png and figure.svg, each whole or not at all."""
  common.write_text(root / 'experiment.json', json.dumps(data, indent=2, ensure_ascii=False) + '\n')
  common.write_text(root / 'experiment.csv', table(data))
  for name, content in zip(('figure.png', 'figure.svg'), figure or ()):
    part = root / f'.{name}'
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    part.replace(root / name)


def table(data: Mapping[str, Any]) -> str:
  """Scores and differences as CSV."""
  out = io.StringIO()
  writer = csv.DictWriter(out, _COLUMNS, extrasaction='ignore', lineterminator='\n')
  writer.writeheader()
  for kind in ('scores', 'differences'):
    for row in data[kind]:
      writer.writerow({k: _harmless(v) for k, v in {
          **row, 'kind': kind[:-1], 'cells': ' '.join(row['cells'])}.items()})
  return out.getvalue()


def _harmless(value: Any) -> Any:
  """Text that no spreadsheet takes for a formula."""
  return f"'{value}" if isinstance(value, str) and value[:1] in tuple('=+-@\t\r') else value


def text(data: Mapping[str, Any]) -> str:
  """Scores by condition and cluster, differences, and what is not there."""
  scores = [{**r, 'value': f"{r['value']:.1f}", 'interval': _interval(r)} for r in data['scores']]
  columns = {'condition': 'condition', 'holdout': 'held out', 'group': 'cluster', 'value': 'score',
             'interval': '95 % interval', 'n_examples': 'n', 'n_seeds': 'seeds'}
  parts = [terminal.table(scores, columns)] if scores else ['no cell is done yet']
  if data['differences']:
    rows = [{**r, 'pair': f"{r['condition']} − {r['minus']}", 'value': f"{r['value']:+.1f}",
             'interval': _interval(r, '+'),
             'p': '' if r['p_holm'] is None else f"{r['p_holm']:.2g}"}
            for r in data['differences']]
    parts += ['', terminal.table(rows, {
        'pair': 'difference', 'holdout': 'held out', 'group': 'cluster', 'value': 'points',
        'interval': '95 % interval', 'p': 'p (Holm)', 'n_examples': 'n', 'n_seeds': 'seeds'})]
  parts += [f'note: {problem}' for problem in data['problems']]
  return '\n'.join(parts)


def _interval(row: Mapping[str, Any], sign: str = '') -> str:
  return f"{row['low']:{sign}.1f} to {row['high']:{sign}.1f}"
