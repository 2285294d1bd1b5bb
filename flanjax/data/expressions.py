"""Mixtures by expression: those that experiments train on, too many for a name each.

  mini:without.nli.commonsense            every cluster but these, and what is too near to them
  mini:only.summarization.translation     these clusters alone
  mini:task.mini_moods                    these tasks alone
  mini:without.nli:plus.mini_true_false   these tasks besides
  mini:only.topic.nli:without.paraphrase  both: what is in the first and may train by the second
  mini:without.nli:templates.4            with the first 4 templates of each task (1, 2, 4, 7, 10)
  mini:task.mini_moods:first.100          with the first 100 examples of each task
  mini:without.nli:regime.dataset_name    under the names of the data sets, or no_instructions

They can be used wherever a mixture is named. All of them are for training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flanjax.data import clusters, specs
from flanjax.data.specs import REGIMES, TEMPLATE_COUNTS, TaskSpec
from flanjax.errors import UserError, nearest

_FORM = re.compile(r'(\w+)((?::\w+(?:\.\w+)*)+)\Z', re.ASCII)
_WORDS = ('without', 'only', 'task', 'plus', 'templates', 'first', 'regime')
_NUMBERS = ('templates', 'first', 'regime')  # that take one argument


def is_expression(name: str) -> bool:
  return ':' in name


def tasks_of(name: str) -> list[str]:
  """The SeqIO tasks that an expression means.

  Raises:
    UserError: it is no expression, names what there is not, or means no task.
  """
  suite, parts = _parse(name)
  members = [s for s in specs.all_specs(suite) if not s.eval_only]
  for word, choose in (('task', _named), ('only', _of_clusters), ('without', _without)):
    if word in parts:
      chosen = choose(suite, parts[word])
      members = [s for s in members if s in chosen]
  members += [s for s in _named(suite, parts.get('plus', ())) if s not in members]
  regime = _choice(name, 'regime', parts, REGIMES)
  count = _choice(name, 'templates', parts, [str(n) for n in TEMPLATE_COUNTS])
  first = parts.get('first', [''])[0]
  if first and not (first.isdigit() and int(first)):
    raise UserError('A number of examples must be at least 1.', where=name, got=first)
  members = [s for s in members if s.templates_of(regime)]
  if not members:
    raise UserError('No task is left in a mixture.', where=name)
  tasks = [_task(s, regime, int(count or 10)) for s in members]
  return [specs.first(t, int(first)) for t in tasks] if first else tasks


def _parse(name: str) -> tuple[str, dict[str, list[str]]]:
  """The suite, and the arguments of each word."""
  said = _FORM.match(name)
  if not said:
    raise UserError('A mixture by expression cannot be read.', got=name,
                    expected='SUITE:WORD.ARGUMENT:WORD.ARGUMENT, as mini:without.nli:first.100')
  parts: dict[str, list[str]] = {}
  for part in said[2][1:].split(':'):
    word, *arguments = part.split('.')
    if word not in _WORDS:
      raise UserError(f"A mixture by expression has no word '{word}'.", where=name,
                      hint=nearest(word, _WORDS))
    if word in parts or not arguments or word in _NUMBERS and len(arguments) > 1:
      raise UserError(f"'{word}' must be there once, with what it is about.", where=name, got=part)
    parts[word] = arguments
  clusters.clusters(said[1])
  return said[1], parts


def _choice(name: str, word: str, parts: Mapping[str, list[str]], known: Sequence[str]) -> str:
  value = parts.get(word, [''])[0]
  if word in parts and value not in known:
    raise UserError(f"'{word}' has no choice '{value}'.", where=name,
                    hint=f'known: {", ".join(known)}')
  return value


def _named(suite: str, names: Sequence[str]) -> list[TaskSpec]:
  found = [specs.get(n) for n in names]
  strangers = [s.name for s in found if s.suite != suite]
  if strangers:
    raise UserError(f"Suite '{suite}' has no such task.", got=', '.join(strangers))
  return found


def _of_clusters(suite: str, names: Sequence[str]) -> list[TaskSpec]:
  table = clusters.clusters(suite)
  for name in names:
    if name not in table:
      raise UserError(f"Suite '{suite}' has no cluster '{name}'.", hint=nearest(name, table))
  return [s for name in names for s in table[name]]


def _without(suite: str, names: Sequence[str]) -> list[TaskSpec]:
  """The tasks that may train with every one of the clusters held out."""
  splits = [clusters.holdout(suite, name) for name in names]
  return [s for s in splits[0].train if all(s in split.train for split in splits)]


def _task(spec: TaskSpec, regime: str, count: int) -> str:
  """A spec's training task with so many templates, or with all where it has no more."""
  stem = f'{regime}_{spec.name}' if regime else spec.name
  name = f'{stem}_{count}templates'
  return name if specs.is_task_name(name) else f'{stem}_{max(TEMPLATE_COUNTS)}templates'
