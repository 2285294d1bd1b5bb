"""Every template of the suite flan2021, and of its other regimes, on the examples made up by hand.

  === rte_type_2
  Claim: Fog delayed a ferry. ...
  >>> yes

Options that are ranked and not shown are listed below the target, with ... before each.
"""

from __future__ import annotations

from collections.abc import Iterator

import flan2021_examples

import flanjax.tasks.flan2021  # noqa: F401
from flanjax.data import specs
from flanjax.data.specs import ParsedTask

TOOL = 'tools/make_rendered_golden'


def text() -> str:
  blocks = (block for spec in specs.all_specs('flan2021') for block in _blocks(spec))
  return f'# Made by {TOOL}.\n' + ''.join(blocks)


def _blocks(spec: specs.TaskSpec) -> Iterator[str]:
  fields = flan2021_examples.fields(spec.name)
  for name, task in specs.task_names(spec).items():
    if task.kind == 'type' and not task.scoring and not task.shots:
      yield f'\n=== {name}\n' + '\n'.join(_lines(task, fields)) + '\n'


def _lines(task: ParsedTask, fields: dict) -> Iterator[str]:
  template, = task.templates
  inputs, targets = template.render(fields)
  yield inputs
  yield from (f'>>> {line}' for line in targets.split('\n'))
  if template.ranks and not template.has_options:
    answers = [fields[template.answer_field], *fields.get(template.answers_field, [])]
    yield from (f'... {option}' for option in fields[template.options_field] if option not in answers)
