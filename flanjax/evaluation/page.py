"""report.json's content -> the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from flanjax import pages
from flanjax.evaluation import conventions

# What the page's script looks up when a number is clicked.
_LOOKED_UP = ('clusters', 'tasks', 'models', 'roles', 'tuned', 'untuned', 'checkpoints', 'seeds',
              'resamples', 'split', 'num_examples', 'command', 'name')
SCRIPTS = ('scripts/tables.js', 'scripts/search.js', 'scripts/dialog.js', 'scripts/panel.js',
           'scripts/page.js')
MARKS = ((0.001, '***'), (0.01, '**'), (0.05, '*'))


def render(report: Mapping[str, Any], figures: Mapping[str, str]) -> str:
  """The page. `figures` are SVG elements; every other text is escaped by the template engine."""
  templates = environment()
  text = script(templates, SCRIPTS)
  names = _identifiers(f'{t["task"]}-{t["mode"]}' for t in report['tasks'])
  return templates.get_template('report.html.j2').render(
      report=report,
      figures=figures,
      samples=_by_task(report['samples']),
      anchors=names,
      labels={name: c.label for name, c in conventions.CONVENTIONS.items()},
      script=text,
      policy=pages.policy(text),
      data={k: report[k] for k in _LOOKED_UP},
  )


def environment() -> jinja2.Environment:
  """Templates of the report's pages."""
  made = pages.environment('flanjax.evaluation', 'templates')
  made.filters |= {'marks': marks, 'pointer': pointer, 'models_in': models_in}
  return made


def script(templates: jinja2.Environment, names: Sequence[str]) -> str:
  """A page's script as it stands in it: its hash is in the policy."""
  return '\n'.join(templates.loader.get_source(templates, name)[0] for name in names)


def marks(difference: Mapping[str, Any] | None) -> str:
  """'*', '**', '***' for p below 0.05, 0.01, 0.001, after Holm's correction."""
  p = difference and difference.get('p_holm')
  return '' if p is None else next((mark for level, mark in MARKS if p < level), '')


def models_in(entries: Iterable[Mapping[str, Any]], key: str) -> list[str]:
  """The models of which any entry has something under `key`."""
  return list(dict.fromkeys(m for e in entries for m, found in e[key].items() if found is not None))


def pointer(parts: Sequence[Any]) -> str:
  """Where a number is in report.json, as a JSON pointer (RFC 6901).

  >>> pointer(['tasks', 3, 'scores', 'a/b'])
  '/tasks/3/scores/a~1b'
  """
  return ''.join('/' + str(p).replace('~', '~0').replace('/', '~1') for p in parts)


def _identifiers(names: Iterable[str]) -> list[str]:
  """Names as ids of elements: safe, and each its own."""
  found: list[str] = []
  for name in names:
    safe = 'task-' + re.sub(r'[^\w-]+', '-', name, flags=re.ASCII)
    while safe in found:
      safe += '-'
    found.append(safe)
  return found


def _by_task(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Any]]:
  """Samples under (task, mode), in the report's order."""
  grouped: dict[tuple[str, str], list[Any]] = {}
  for s in samples:
    grouped.setdefault((s['task'], s['mode']), []).append(s)
  return grouped
