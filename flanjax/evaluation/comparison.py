"""How runs that stand side by side in a report differ: settings, training data, evaluation data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flanjax.errors import UserError
from flanjax.evaluation.records import Record
from flanjax.evaluation.run_data import RunData
from flanjax.input import lock, manifest

_STATEMENT = re.compile(r'(?P<name>[\w./@%-]+)\s*=\s*(?P<value>.*)', re.DOTALL)
_SHOWN_TASKS = 5


def settings(config: str | None) -> dict[str, str]:
  """The bindings of an operative gin file.

  >>> settings('# A.\\nA = 1\\nb/f.x = \\\\\\n    @g()\\nimport os\\n')
  {'A': '1', 'b/f.x': '@g()'}
  """
  found: dict[str, str] = {}
  for statement in _statements(config or ''):
    match = _STATEMENT.fullmatch(statement)
    if match:
      found[match['name']] = ' '.join(match['value'].split())
  return found


def _statements(text: str) -> Iterator[str]:
  """Lines with what continues them: gin indents it."""
  statement = ''
  for line in text.splitlines():
    if line[:1].isspace() or line[:1] in (')', ']', '}'):
      statement += ' ' + line.strip()
    elif not line.startswith('#'):
      yield statement.replace('\\', '').strip()
      statement = line
  yield statement.replace('\\', '').strip()


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
  """[{name, first, second}] of what is not alike, None where there is nothing."""
  names = sorted(first.keys() | second.keys(), key=lambda n: ('.' in n, n))
  return [{'name': n, 'first': first.get(n), 'second': second.get(n)} for n in names
          if first.get(n) != second.get(n)]


def of(first: RunData, other: RunData) -> dict[str, Any]:
  """{run, tuned, settings, environment, data} of a run beside the first; plain data.

  `tuned` is its tuned model, as the report names it, or None.
  """
  tuned = next((m for m, role in other.info.models.items() if role == 'tuned'), None)
  versions = [_flat(run.environment or {}) for run in (first, other)]
  return {
      'run': other.name,
      'tuned': tuned and _name(tuned, other),
      'settings': differing(settings(first.config), settings(other.config)),
      'environment': differing(*versions),
      'data': _data(first, other),
  }


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
  """Versions and machine, without what differs in any two runs."""
  flat = {k: v for k, v in environment.items() if k not in ('command', 'date')}
  flat |= {f'{k}.{name}': v for k, of in environment.items() if isinstance(of, Mapping)
           for name, v in of.items()}
  return {k: str(v) for k, v in flat.items() if not isinstance(v, Mapping)}


def _data(first: RunData, other: RunData) -> dict[str, Any]:
  """{same, lines, note}: what `flanjax mixtures lock` would say changed between their data.

  `same` is None, and `note` says why, where the data of either cannot be told.
  """
  locks = []
  for run in (first, other):
    path = run.made.get('mixture_manifest')
    if not isinstance(path, str):
      return {'same': None, 'lines': [], 'note': f'{run.name} does not say what it was trained on'}
    try:
      locks.append(lock.lock(manifest.load(path)))
    except (UserError, OSError, KeyError, TypeError, ValueError) as e:
      return _by_name(first, other, f'the manifest of {run.name} cannot be read: {_short(e)}')
  lines = lock.drift(*locks)
  return {'same': not lines, 'lines': lines, 'note': None}


def _by_name(first: RunData, other: RunData, note: str) -> dict[str, Any]:
  """What the names of manifests tell: they end with a hash of what they hold."""
  names = [str(run.made['mixture_manifest']).rpartition('/')[2]
           if isinstance(run.made.get('mixture_manifest'), str) else None for run in (first, other)]
  if None in names:
    return {'same': None, 'lines': [], 'note': note}
  lines = [] if names[0] == names[1] else [f'mixture: {names[0]} -> {names[1]}']
  return {'same': not lines, 'lines': lines, 'note': f'{note}; its name was compared'}


def _short(e: Exception) -> str:
  return str(e).splitlines()[0].rstrip('.') if str(e) else type(e).__name__


def comparable(first: RunData, other: RunData) -> RunData:
  """`other` without the tasks that were not evaluated on the same data, which it then warns of.

  Raises:
    UserError: they were evaluated on different splits.
  """
  if first.info.split != other.info.split:
    raise UserError(
        'Runs were evaluated on different splits, so their scores are not compared.',
        where=f'{first.name} and {other.name}', got=f'{first.info.split} and {other.info.split}')
  odd = _odd_tasks(first.records, other.records)
  if not odd:
    return other
  shown = ', '.join(sorted(odd)[:_SHOWN_TASKS]) + (' and more' if len(odd) > _SHOWN_TASKS else '')
  warning = (f'{other.name} is not compared on {len(odd)} tasks, of which other answers are right '
             f'than in {first.name}: {shown}')
  keep = lambda rows: [r for r in rows if r['task'] not in odd]
  return dataclasses.replace(
      other, records=keep(other.records), dev_records=keep(other.dev_records),
      variant_records=keep(other.variant_records), warnings=[*other.warnings, warning])


def _odd_tasks(first: Sequence[Record], other: Sequence[Record]) -> set[str]:
  """Tasks of which the same example has another right answer."""
  key = lambda r: (r['task'], r['seqio_task'], r['example_id'])
  targets = {key(r): r['targets'] for r in first}
  return {r['task'] for r in other if targets.get(key(r), r['targets']) != r['targets']}


def distinct(runs: Sequence[RunData]) -> list[RunData]:
  """The runs under names that tell them apart."""
  found: list[RunData] = []
  for run in runs:
    taken = {r.name for r in found}
    names = [run.name, *(f'{run.name} ({i})' for i in range(2, len(runs) + 2))]
    found.append(dataclasses.replace(run, name=next(n for n in names if n not in taken)))
  return found


def _name(model: str, run: RunData) -> str:
  return f'{model} [{run.name}]'


def renamed(run: RunData) -> RunData:
  """The run with its models' names marked by its own."""
  name = lambda model: _name(model, run)
  again = lambda rows: [dict(r, model=name(r['model'])) for r in rows]
  info = dataclasses.replace(
      run.info, checkpoints={name(m): c for m, c in run.info.checkpoints.items()})
  return dataclasses.replace(
      run, info=info, records=again(run.records), dev_records=again(run.dev_records),
      variant_records=again(run.variant_records),
      stamps={(name(m), task): told for (m, task), told in run.stamps.items()})
