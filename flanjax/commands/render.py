"""What `infer` and `chat` need of tasks, in a process of its own: it imports TensorFlow, they do not.

  python -m flanjax.commands.render prompts NAME FILE [--split S] [--num_examples N]
  python -m flanjax.commands.render template NAME [I]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UserError

_MODULE = 'flanjax.commands.render'
_SCORING = '_scoring_eval'


def prompts_in_a_child(
    name: str, path: pathlib.Path, *, split: str, num_examples: int | None,
    inputs_length: int | None = None, modules: Sequence[str] = (), templates: Sequence[str] = (),
    vocabulary: str | None = None,
) -> dict[str, Any]:
  """Writes the prompts of a task or mixture as JSON lines; -> {examples, tasks}.

  Each has `inputs`, `targets` and where they come from. Those of a task that ranks have `options`
  to be ranked; those of another may have some too, and say `mode` generate.

  Args:
    name: a mixture, a SeqIO task, or a task's own name, for all of its templates by turns.
    path: the file.
    split: which split.
    num_examples: the first so many of each task; None: all.
    inputs_length: tokens of a prompt, where it holds as many exemplars as fit.
    modules: of a user.
    templates: libraries of templates.
    vocabulary: of the model; exemplars are counted in its tokens.
  """
  argv = ['prompts', name, str(path), '--split', split]
  argv += ['--num_examples', str(num_examples)] if num_examples else []
  argv += ['--inputs_length', str(inputs_length)] if inputs_length else []
  return common.run_child([*argv, *_flags(modules, templates, vocabulary)], _MODULE)


def template_in_a_child(
    task: str, number: int, modules: Sequence[str] = (), templates: Sequence[str] = (),
) -> dict[str, Any]:
  """A template of a task: {task, number, count, parts, fields, head, bullet}.

  `parts` are [literal, slot or None] of its inputs; `head` and `bullet` come before the first and
  the other options in the slot `options_`.
  """
  argv = ['template', task, str(number), *_flags(modules, templates, None)]
  return common.run_child(argv, _MODULE)


def _flags(
    modules: Sequence[str], templates: Sequence[str], vocabulary: str | None
) -> list[str]:
  flags = [*common.repeat('--module', modules), *common.repeat('--templates', templates)]
  return flags + (['--vocabulary', vocabulary] if vocabulary else [])


def _prompts(args: argparse.Namespace) -> dict[str, Any]:
  from flanjax.data import availability, export_files, mixtures, specs

  name = args.name
  if name in {s.name for s in specs.all_specs()}:
    name = f'{name}_{max(specs.TEMPLATE_COUNTS)}templates'
  counts = {}
  tasks = mixtures.tasks_of(name)
  owners = [specs.parse_task_name(t).spec for t in tasks if specs.is_task_name(t)]
  availability.require_available({s.name: s for s in owners}.values())
  muted = common.native_code_muted()
  with muted, terminal.bar('rendering') as bar, pathlib.Path(args.path).open('wb') as file:
    for task in tasks:
      counts[task] = 0
      for row in _rows(task, args):
        file.write(export_files.encode(row))
        counts[task] += 1
        bar(sum(counts.values()), None, task)
  return {'examples': sum(counts.values()), 'tasks': counts}


def _rows(task: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """Rows of a task; one that ranks has those of the same task without, its options to be ranked."""
  from flanjax.data import specs
  from flanjax.data.text_task import TextTask

  ranks = specs.is_task_name(task) and specs.parse_task_name(task).scoring
  plain = task.replace(_SCORING, '') if ranks else task
  with contextlib.closing(TextTask(plain, args.split, args.inputs_length).rows()) as rows:
    for row in itertools.islice(rows, args.num_examples):
      yield {**row, 'task': task, 'mode': 'rank' if ranks else 'generate'}


def _template(args: argparse.Namespace) -> dict[str, Any]:
  from flanjax.data import specs, templates

  spec = specs.get(args.name)
  count = len(spec.templates)
  if not 0 <= args.number < count:
    raise UserError(f'{args.name} has no template {args.number}.', expected=f'0 to {count - 1}')
  chosen = spec.templates[args.number]
  head, two = templates.options_text(['']), templates.options_text(['', ''])
  return {'task': args.name, 'number': args.number, 'count': count,
          'parts': [list(part) for part in templates.parse(chosen.inputs)],
          'fields': list(chosen.slots), 'head': head, 'bullet': two.removeprefix(head)}


def main(argv: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(prog=_MODULE)
  actions = parser.add_subparsers(dest='action', required=True)
  prompts = actions.add_parser('prompts')
  prompts.add_argument('name')
  prompts.add_argument('path')
  prompts.add_argument('--split', default='test')
  prompts.add_argument('--num_examples', type=int)
  prompts.add_argument('--inputs_length', type=int)
  template = actions.add_parser('template')
  template.add_argument('name')
  template.add_argument('number', type=int)
  for action in (prompts, template):
    action.add_argument('--vocabulary')
    common.add_flags(action, 'module', 'templates', 'json')
  args = parser.parse_args(argv)
  try:
    common.end_with_parent()
    common.set_up(args)
    common.load_tasks(args.module, args.vocabulary, args.templates)
    print(json.dumps({'prompts': _prompts, 'template': _template}[args.action](args)))
    return 0
  except UserError as e:
    terminal.print_error(e)
    return 1
  except common.ChildFailed as e:
    return e.status


if __name__ == '__main__':
  sys.exit(main())
