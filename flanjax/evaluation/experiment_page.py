"""experiment.json -> its page: the matrix, its figure, what each cell cost."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flanjax import pages
from flanjax.errors import UserError
from flanjax.evaluation import experiment_evidence, page, run_data
from flanjax.evaluation import records as records_lib

FILE = 'experiment.json'
SCRIPTS = ('scripts/tables.js', 'scripts/dialog.js', 'scripts/lines.js', 'scripts/page.js')
_SENTENCES = 4
_FEW = 4  # Clusters of a comparison that are told one by one.
_NEEDED = ('experiment', 'question', 'conditions', 'cells', 'scores', 'differences', 'problems')


def is_experiment(folder: str | pathlib.Path) -> bool:
  return (pathlib.Path(folder) / FILE).is_file()


def build(
    folder: str | pathlib.Path,
    out_dir: str | pathlib.Path | None = None,
    draw: Callable[[Mapping[str, Any]], tuple[bytes, str] | None] = lambda data: None,
) -> dict[str, Any]:
  """Writes report.html of an experiment, and returns what it holds beside experiment.json.

  Args:
    folder: of the experiment; its experiment.json is read, and the logs of its trainings.
    out_dir: where to write; the experiment's folder `report` by default.
    draw: its content -> (PNG, SVG element), or None. It is drawn anew: a file of SVG could hold
      anything.

  Raises:
    UserError: experiment.json is none.
  """
  root = pathlib.Path(folder)
  data = records_lib.read_json(root / FILE)
  missing = [k for k in _NEEDED if k not in data]
  if missing:
    raise UserError('The file describes no experiment.', where=str(root / FILE),
                    got=f'no {", ".join(missing)}', expected='what flanjax experiment writes')
  data['costs'] = {c['cell']: _cost(root, c) for c in data['cells']}
  data['headline'] = headline(data)
  out = pathlib.Path(out_dir) if out_dir else root / 'report'
  data['panels'] = experiment_evidence.panels(root, data, out)
  records_lib.write_atomically(out / 'report.html', render(data, (draw(data) or (b'', None))[1]))
  return data


def _cost(root: pathlib.Path, cell: Mapping[str, Any]) -> dict[str, float | None]:
  """Tokens, FLOPs and seconds of a cell's trainings, None where one does not tell."""
  # A folder's name comes from a file: it is looked up below the root or not at all.
  folders = [(root / t).resolve() for t in cell['trainings']]
  inside = [f for f in folders if f.is_relative_to(root.resolve())]
  known = [run_data.cost_of(f) for f in inside]
  if not known or not all(known) or len(inside) < len(folders):
    return {'tokens': None, 'flops': None, 'goodput': None}
  tokens = [c['tokens'] and sum(c['tokens'].values()) for c in known]
  times = [(c['goodput'], c['seconds']) for c in known]
  total = sum(s or 0 for _, s in times)
  return {
      'tokens': _sum(tokens), 'flops': _sum([c['flops'] for c in known]),
      'goodput': (sum(g * s for g, s in times) / total
                  if total and all(None not in t for t in times) else None)}


def _sum(values: Sequence[float | None]) -> float | None:
  return None if any(v is None for v in values) else sum(values)


def headline(data: Mapping[str, Any]) -> str:
  """What the comparisons show, a sentence each: of a line its ends, of many clusters all at once."""
  rows = data['differences']
  of_mean = [r for r in rows if r['group'] == 'mean']
  by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for row in rows:
    by_pair.setdefault((row['condition'], row['minus']), []).append(row)
  if of_mean or all(len(members) <= _FEW for members in by_pair.values()):
    chosen = of_mean or [r for r in rows if r['held_out']] or rows
    parts = [_sentence(r) for r in _ends(data, chosen)[:_SENTENCES]]
  else:
    chosen = list(by_pair)
    parts = [_summary(by_pair[pair]) for pair in chosen[:_SENTENCES]]
  left = len(chosen) - len(parts)
  if left:
    parts.append(f"{left} more {'comparison is' if left == 1 else 'comparisons are'} below.")
  unfinished = sum(c['state'] != 'done' for c in data['cells'])
  if unfinished:
    parts.append(f"{unfinished} of {len(data['cells'])} cells are not done.")
  return ' '.join(parts) or 'Nothing is compared yet.'


def _ends(
    data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
  """Of the points of a line the last and the first, and what is compared within it; else all rows,
  the largest differences first where there are too many to tell."""
  if data.get('figure') != 'line':
    return rows if len(rows) <= _SENTENCES else sorted(rows, key=lambda r: -abs(r['value']))
  series = {s['condition']: s['series'] for s in data['scores'] if s['x'] is not None}
  within = [r for r in rows if r['minus'] != data.get('baseline') and r['minus'] in series
            and series[r['minus']] == series.get(r['condition'])]
  points: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    if row not in within:
      points.setdefault(series.get(row['condition'], row['condition']), []).append(row)
  ends = [r for of in reversed(points.values()) for r in (of[-1], of[0])[:len(of)]]
  return [*ends[:max(1, _SENTENCES - len(within))], *within]


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
  """Of one comparison, the clusters in which it is clear, the largest difference first."""
  order = sorted(rows, key=lambda r: -abs(r['value']))
  said = {
      word: ', '.join(f"{r['group']} ({pages.signed(r['value'])})" for r in found)
      for word, found in (('above', [r for r in order if r['low'] > 0]),
                          ('below', [r for r in order if r['high'] < 0])) if found}
  clear = sum(r['low'] > 0 or r['high'] < 0 for r in rows)
  one, other = rows[0]['condition'], rows[0]['minus']
  if not clear:
    return f'{one} is not clearly apart from {other} on any of {len(rows)} clusters.'
  where = ' and '.join(f'{word} {other if i == 0 else "it"} on {names}'
                       for i, (word, names) in enumerate(said.items()))
  rest = len(rows) - clear
  return f'{one} is {where}' + (f'; not clearly apart on {rest} more.' if rest else '.')


def _sentence(row: Mapping[str, Any]) -> str:
  verb = 'above' if row['low'] > 0 else 'below' if row['high'] < 0 else 'not clearly apart from'
  where = 'On average' if row['group'] == 'mean' else (
      f'On {"held-out " if row["held_out"] else ""}{row["group"]}')
  low, value, high = (pages.signed(row[k]) for k in ('low', 'value', 'high'))
  return (f'{where}, {row["condition"]} is {verb} {row["minus"]} ({value} points, 95 % interval '
          f'{low} to {high}, n = {row["n_examples"]:,}, seeds: {row["n_seeds"]}).')


def render(data: Mapping[str, Any], figure: str | None) -> str:
  """The page; `figure` is an SVG element, every other text is escaped."""
  environment = page.environment()
  script = page.script(environment, SCRIPTS)
  rows = list(dict.fromkeys((r['holdout'], r['group'], r['held_out']) for r in data['scores']))
  return environment.get_template('experiment.html.j2').render(
      e=data, figure=figure, rows=rows, script=script, policy=pages.policy(script),
      scores={(r['holdout'], r['group'], r['condition']): (i, r)
              for i, r in enumerate(data['scores'])},
  )
