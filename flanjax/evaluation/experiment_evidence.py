"""What stands behind each number of an experiment's page, as lines of text.

experiment.json names the cells that a number comes from; their folders below it say the rest. A
folder's name comes from a file, so it is looked up below the experiment or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flanjax import pages
from flanjax.errors import UserError
from flanjax.evaluation import records as records_lib

_MODEL = 'tuned'  # What `flanjax eval` calls the one model that a cell gives it.
_PROMPT = 4_000
_CELLS_SHOWN = 24
_MODES = {'rank': "options ranked by log-likelihood: sum of the tokens' log-likelihoods",
          'generate': 'generated, greedy'}


@dataclasses.dataclass(frozen=True)
class _Task:
  """A cell's records of a task in the mode that counts."""

  name: str
  cluster: str
  mode: str
  metric: str
  seqio_tasks: tuple[str, ...]
  templates: tuple[int, ...]
  stamp: Mapping[str, Any]
  cut: Mapping[str, int] | None
  prompt: str


@dataclasses.dataclass(frozen=True)
class _Cell:
  """What a cell's folders say; `said` is its entry of experiment.json, `info` its eval.json."""

  said: Mapping[str, Any]
  info: Mapping[str, Any]
  data: tuple[str, ...]
  tasks: tuple[_Task, ...]
  report: pathlib.Path | None

  @property
  def holdout(self) -> list[str]:
    return str(self.said['holdout']).split('+')


def panels(
    root: pathlib.Path, data: Mapping[str, Any], out: pathlib.Path
) -> dict[str, list[dict[str, Any]]]:
  """{scores, differences}: for each row {title, lines, links, prompts} of plain text.

  Args:
    root: the experiment's folder.
    data: experiment.json.
    out: where the page is written; links are relative to it.
  """
  read: dict[Any, tuple[_Task, ...]] = {}
  cells = {c['cell']: _cell(root, c, read) for c in data['cells']}
  return {kind: [_panel(row, kind, i, data, cells, out) for i, row in enumerate(data[kind])]
          for kind in ('scores', 'differences')}


def _inside(root: pathlib.Path, name: Any) -> pathlib.Path | None:
  """A folder below the experiment's own, if it is there."""
  folder = (root / str(name)).resolve()
  return folder if folder.is_relative_to(root.resolve()) and folder.is_dir() else None


def _cell(root: pathlib.Path, said: Mapping[str, Any], read: dict[Any, Any]) -> _Cell:
  trainings = [f for f in (_inside(root, t) for t in said['trainings']) if f]
  evaluation = _inside(root, said['evaluation'])
  wanted = said.get('seqio_tasks')
  key = evaluation, tuple(wanted) if wanted else None
  if key not in read:
    read[key] = tuple(_tasks(evaluation / 'records' / _MODEL, wanted)) if evaluation else ()
  manifests = [_object(f / 'run.json').get('mixture_manifest') for f in trainings]
  pages_of = [f / 'report' / 'report.html' for f in (evaluation, *reversed(trainings)) if f]
  return _Cell(
      said, _object(evaluation / 'eval.json') if evaluation else {},
      tuple(pathlib.PurePath(m).name for m in manifests if isinstance(m, str)), read[key],
      next((p for p in pages_of if p.is_file()), None))


def _object(path: pathlib.Path) -> dict[str, Any]:
  try:
    return records_lib.read_json(path)
  except UserError:
    return {}


def _tasks(folder: pathlib.Path, wanted: Sequence[str] | None) -> Iterator[_Task]:
  """The tasks that a cell was scored on: ranked where their options were."""
  parts: dict[str, dict[str, list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]]] = {}
  for path in sorted(folder.glob('*.jsonl')):
    first = _first(path)
    if first and (wanted is None or path.stem in wanted):
      told = _object(path.with_name(f'{path.stem}.done.json'))
      parts.setdefault(first['task'], {}).setdefault(first['mode'], []).append(
          (path.stem, first, told))
  for name, modes in parts.items():
    mode = 'rank' if 'rank' in modes else 'generate'
    names, firsts, told = zip(*modes[mode])
    stamps = [stamp for t in told if (stamp := _dict(t.get('stamp')))]
    cuts = [_dict(t.get('cut')) for t in told]
    yield _Task(
        name, firsts[0]['cluster'], mode, firsts[0]['metric'], names,
        tuple(sorted({r['template_id'] for r in firsts})), stamps[0] if stamps else {},
        {k: sum(c.get(k, 0) for c in cuts) for k in ('inputs', 'targets')} if all(cuts) else None,
        str(firsts[0]['inputs']))


def _first(path: pathlib.Path) -> dict[str, Any] | None:
  """The first record of a file; None where it is none."""
  try:
    with path.open(encoding='utf-8') as file:
      found = json.loads(file.readline())
  except (OSError, ValueError):
    return None
  known = isinstance(found, dict) and all(f in found for f in records_lib.FIELDS)
  return found if known else None


def _panel(
    row: Mapping[str, Any], kind: str, index: int, data: Mapping[str, Any],
    cells: Mapping[str, _Cell], out: pathlib.Path,
) -> dict[str, Any]:
  members = [cells[name] for name in row['cells'] if name in cells]
  what = row['condition'] + (f" − {row['minus']}" if 'minus' in row else '')
  where = 'the mean over ' + ', '.join(row['of']) if row.get('of') else row['group']
  tasks = [(c, t) for c in members for t in _of_row(row, c)]
  lines = [*_about(row, members, tasks), *_interval(row), *_seeds(row)]
  for cell in members[:_CELLS_SHOWN]:
    lines += _of_cell(cell, [t for c, t in tasks if c is cell])
  if len(members) > _CELLS_SHOWN:
    lines.append(('cells', f'{len(members) - _CELLS_SHOWN} more, in experiment.json'))
  lines.append(('in experiment.json', f'/{kind}/{index}'))
  return {
      'title': f'{what}, on {where}', 'lines': [[str(a), str(b)] for a, b in lines],
      'links': [[f"report of {c.said['cell']}", _href(c.report, out)] for c in members if c.report],
      'prompts': _prompts(tasks)}


def _of_row(row: Mapping[str, Any], cell: _Cell) -> list[_Task]:
  """The tasks of a cell that a row is about."""
  if row.get('of'):
    clusters = {str(text).rpartition(': ')[2] for text in row['of']}
    clusters &= set(cell.holdout) if row.get('held_out') else clusters
  else:
    clusters = {row['group']}
  shared = row.get('tasks')
  return [t for t in cell.tasks if t.cluster in clusters and (shared is None or t.name in shared)]


def _about(
    row: Mapping[str, Any], members: Sequence[_Cell], tasks: Sequence[tuple[_Cell, _Task]]
) -> Iterator[tuple[str, Any]]:
  yield 'held out', row['holdout'] if row['holdout'] != 'mean' else 'each in turn'
  metrics = row.get('metric') or ' and '.join(_each(t.metric for _, t in tasks))
  yield 'metric', f'{metrics or "not known"}, 0 to 100'
  splits = _each(c.info.get('split') or t.stamp.get('split') for c, t in tasks)
  caps = _each(t.stamp.get('num_examples') for _, t in tasks)
  yield 'examples (n)', ', '.join([
      f"{row['n_examples']:,}", *(f'{s} split' for s in splits),
      *(f'at most {n:,} of a task' for n in caps if isinstance(n, int))])
  yield 'seeds (n)', row['n_seeds']
  by_name: dict[str, _Task] = {}
  for _, task in tasks:
    by_name.setdefault(task.name, task)
  yield 'tasks', ', '.join(
      f"{t.name} ({len(t.templates)} template{'s' * (len(t.templates) != 1)}: "
      f"{', '.join(map(str, t.templates))})" for t in by_name.values()) or 'not to be read'
  for mode in _each(t.mode for _, t in tasks):
    yield 'how', _MODES.get(mode, mode)
  for lengths in _each(_lengths(t.stamp) for _, t in tasks):
    yield 'lengths', lengths
  for vocabulary in _each(t.stamp.get('vocabulary') for _, t in tasks):
    yield 'vocabulary', vocabulary
  yield 'mixture', ', '.join(_each(c.said.get('mixture') or 'nothing' for c in members))


def _each(values: Any) -> list[Any]:
  """Values, each once, without what is not known."""
  plain = (v if isinstance(v, (str, int, float)) else str(v) for v in values if v is not None)
  return list(dict.fromkeys(plain))


def _dict(value: Any) -> dict[str, Any]:
  """What ought to be an object, and is empty where it is none."""
  return value if isinstance(value, dict) else {}


def _lengths(stamp: Mapping[str, Any]) -> str | None:
  found = _dict(stamp.get('sequence_length'))
  if not {'inputs', 'targets'} <= found.keys():
    return None
  return f"{found['inputs']} tokens read, {found['targets']} answered"


def _interval(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  form = pages.signed if 'minus' in row else pages.number
  count = row.get('resamples')
  made = {
      'bootstrap': f"percentiles of {f'{count:,} ' if count else ''}bootstrap resamples of examples, "
                   'the same ones for all cells',
      'wilson': "Wilson's of each task, combined", 'newcombe': "Newcombe's of each task, combined"}
  methods = str(row.get('method') or 'bootstrap').split('+')
  yield '95 % interval', (
      f"{form(row['low'])} to {form(row['high'])}; {'; '.join(made.get(m, m) for m in methods)}: "
      'these tasks and trained models, other examples')
  like = row.get('like_these')
  if like:
    yield 'like these', (f"{form(like['low'])} to {form(like['high'])}; Student's t with "
                         f"{like['df']:.1f} degrees of freedom: other tasks of the kind, and seeds")
  if row.get('p') is not None:
    holm = row.get('p_holm')
    after = '' if holm is None else f", {holm:.2g} after Holm's correction over clusters"
    yield 'p', f"{row['p']:.2g} (examples swapped between the sides at random){after}"


def _seeds(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  form = pages.signed if 'minus' in row else pages.number
  found = [f'{seed}: {form(v)}' for seed, v in (row.get('by_seed') or {}).items() if seed]
  if found:
    yield 'by seed', ', '.join(found)


def _of_cell(cell: _Cell, tasks: Sequence[_Task]) -> Iterator[tuple[str, str]]:
  said = cell.said
  seed = 'no seed' if said['seed'] is None else f"seed {said['seed']}"
  checkpoint = _dict(_dict(cell.info.get('checkpoints')).get(_MODEL))
  prints = ' and '.join(map(str, _each(t.stamp.get('model') for t in tasks)))
  step = checkpoint.get('step')
  cut = [t.cut for t in tasks]
  cuts = 'cuts not counted' if not cut or None in cut else (
      ' and '.join(f"{sum(c[k] for c in cut):,} {name}" for k, name in (
          ('inputs', 'prompts'), ('targets', 'targets'))) + ' cut')
  yield f"cell {said['cell']}", '; '.join([
      seed,
      f"trained in {', '.join(map(str, said['trainings']))}" if said['trainings'] else 'not trained',
      f"checkpoint {checkpoint.get('path') or 'not kept'}"
      + ('' if step is None else f' at step {step}')
      + (f', fingerprint {prints}' if prints else ''),
      f"data {', '.join(cell.data) if cell.data else 'not told'}",
      f"evaluated in {said['evaluation']}", cuts])


def _href(path: pathlib.Path, out: pathlib.Path) -> str:
  relative = os.path.relpath(path, out.resolve())
  return urllib.parse.quote(pathlib.Path(relative).as_posix())


def _prompts(tasks: Sequence[tuple[_Cell, _Task]]) -> list[list[str]]:
  """The first prompt of the first task, in each way that the row's cells ask it."""
  found: dict[str, str] = {}
  for _, task in tasks:
    if task.name == tasks[0][1].name:
      found.setdefault(task.seqio_tasks[0], task.prompt)
  return [[name, text if len(text) <= _PROMPT else f'{text[:_PROMPT]}…']
          for name, text in found.items()]
