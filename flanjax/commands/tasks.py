"""`flanjax tasks`: what is registered, how it reads, and whether it is right."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common, task_list
from flanjax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax tasks list --cluster nli\n'
                 '  flanjax tasks show mini_film_opinion --num_examples 1\n'
                 '  flanjax tasks check my_reviews --module my_tasks\n'
                 '  flanjax tasks check --all\n'
                 '  flanjax tasks export mini_all_train --output mini.jsonl\n')
  actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
  listing = actions.add_parser('list', help='the registered tasks')
  listing.add_argument('--suite', help='only tasks of this suite')
  listing.add_argument('--cluster', help='only tasks of this cluster')
  listing.add_argument('--long', action='store_true', help='all columns, however wide')
  show = actions.add_parser('show', help='rendered examples of a task')
  show.add_argument('task', help='a task, or a SeqIO task such as rte_10templates_five_shot')
  show.add_argument('--split', help='default: train')
  show.add_argument('--num_examples', type=int, default=2, metavar='N',
                    help='how many; of a plain task, how many for each template')
  show.add_argument('--vocabulary', help="'mini', 'bytes', 't5' or a SentencePiece model")
  show.add_argument('--html', metavar='FILE', help=(
      'write a page instead: the task, and all its templates side by side on the same examples'))
  check = actions.add_parser('check', help='look for mistakes in wording, fields and examples')
  check.add_argument('task', nargs='*', help='tasks to check')
  check.add_argument('--all', action='store_true', help='check every task there is')
  check.add_argument('--suite', help='check every task of this suite')
  check.add_argument('--split', help='default: train, where there is one')
  check.add_argument('--num_examples', type=int, default=20, metavar='N')
  export = actions.add_parser('export', help='examples as text, in JSON lines or Parquet')
  export.add_argument('name', help='a mixture, a SeqIO task, or a task, for all of its templates')
  export.add_argument('--output', required=True, metavar='FILE', help='FILE.jsonl or FILE.parquet')
  export.add_argument('--split', default='train', help='default: train')
  export.add_argument('--num_examples', type=int, metavar='N', help=(
      'so many, drawn as training draws them, in proportion to the rates of a mixture '
      '(default: every example once, task after task)'))
  export.add_argument('--inputs_length', type=int, metavar='N', help=(
      'tokens of inputs that exemplars may fill, in few-shot tasks (default: 1024)'))
  export.add_argument('--vocabulary', help='what counts these tokens; as of `tasks show`')
  export.add_argument('--on_missing', choices=('error', 'skip'), default='error',
                      help='what to do about tasks whose data is missing (default: error)')
  for action, text, flags in (
      (listing, '  flanjax tasks list --holdout nli --suite flan2021\n', ['holdout']),
      (show, '  flanjax tasks show rte_type_3 --split validation\n'
             '  flanjax tasks show rte --html rte.html\n', []),
      (check, '  flanjax tasks check my_reviews --module my_tasks\n', []),
      (export, '  flanjax tasks export flan2021_all_train --output flan.parquet\n'
               '  flanjax tasks export rte --split test --output rte.jsonl\n', ['seed'])):
    common.example(action, text)
    common.add_flags(action, *flags, 'module', 'templates', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  for flag in ('num_examples', 'inputs_length'):
    value = getattr(args, flag, None)
    if value is not None and value < 1:
      raise UsageError(f'--{flag} must be at least 1.', got=value)
  if args.action == 'check' and not (args.task or args.suite or args.all):
    raise UsageError('Nothing to check.', expected='names of tasks, --suite or --all')
  common.load_tasks(args.module, getattr(args, 'vocabulary', None), args.templates)
  run_action = {'list': task_list.run, 'show': _show, 'check': _check, 'export': _export}
  return run_action[args.action](args)


def _show(args: argparse.Namespace) -> int:
  from flanjax.data import catalogue

  if args.html:
    return _show_page(args)
  rows = catalogue.show_task(args.task, args.num_examples, args.split or 'train')
  common.answer(args, rows, '\n'.join(map(_page, rows)))
  return 0


def _show_page(args: argparse.Namespace) -> int:
  from flanjax.data import task_page

  path = pathlib.Path(args.html).expanduser().absolute()
  page = task_page.render(args.task, args.num_examples, args.split)
  common.writable(path.parent)
  path.write_text(page, encoding='utf-8')
  common.answer(args, {'page': str(path)}, f'page: {path}')
  return 0


def _export(args: argparse.Namespace) -> int:
  from flanjax.data import export

  muted = contextlib.nullcontext() if args.debug else common.native_code_muted()
  with muted, terminal.bar(f'exporting {args.name}') as progress:
    done = export.export(
        args.name, args.output, args.split, args.num_examples, args.seed or 0,
        args.inputs_length, args.on_missing, progress)
  lines = [f'{done.examples:,} examples of {len(done.tasks)} task(s): {done.path}']
  if done.repeated:
    lines.append(f'{done.repeated:,} of them repeat an example: their tasks have no more')
  if done.scoring:
    lines.append(f'left out: {len(done.scoring)} task(s) that rank the options of these')
  missing = collections.Counter(done.skipped.values())
  lines += [f'skipped {count} task(s), their data is {why}' for why, count in missing.items()]
  common.answer(args, dataclasses.asdict(done), '\n'.join(lines))
  return 0


def _page(row: dict[str, Any]) -> str:
  """One example as a person reads it."""
  title = f"{row['task']}  example {row['example_id']}  template {row['template_id']}"
  title += '  (inverted)' if row['inverted'] else ''
  if 'option' in row:
    title += f"  option {row['option']}{' (right)' if row['is_correct'] else ''}"
  indent = lambda text: '\n'.join(f'    {line}' for line in text.split('\n'))
  tokens = lambda n: '' if n is None else f', {n} tokens'
  return (f"{title}\n  inputs{tokens(row['input_tokens'])}:\n{indent(row['inputs'])}\n"
          f"  targets{tokens(row['target_tokens'])}:\n{indent(row['targets'])}\n")


def _check(args: argparse.Namespace) -> int:
  from flanjax.data import lint, specs

  many = args.all or args.suite
  names = [*args.task, *(s.name for s in specs.all_specs(args.suite) if many)]
  names = list(dict.fromkeys(names))
  found = {}
  with terminal.bar('checking') as progress:
    for i, name in enumerate(names):
      progress(i, len(names), name)
      found[name] = lint.check_task(name, args.num_examples, args.split)
    progress(len(names), len(names))
  data = {name: [dataclasses.asdict(p) for p in problems] for name, problems in found.items()}
  common.answer(args, data, '\n'.join(_findings(found, notes=not many)))
  return 1 if any(p.level == 'error' for problems in found.values() for p in problems) else 0


def _findings(found: dict[str, list[Any]], notes: bool) -> Iterator[str]:
  """What a check says: a task's problems below its name, and a line for all of them."""
  from flanjax.data import specs

  for name, problems in found.items():
    shown = [p for p in problems if notes or p.level != 'note']
    if not shown and not notes:
      continue
    yield f'{name}: {len(specs.get(name).templates)} templates, {_counted(problems)}'
    for p in shown:
      where = f'template {p.template}: ' if p.template is not None else ''
      example = f' (example {p.example_id})' if p.example_id is not None else ''
      yield f'  {p.level}: {where}{p.message}{example}'
  if not notes:
    templates = sum(len(specs.get(name).templates) for name in found)
    everything = [p for problems in found.values() for p in problems]
    unread = sum(any(p.unread for p in problems) for problems in found.values())
    data = f'; {unread} by wording and features alone, their data is not here' if unread else ''
    yield f'{len(found)} tasks, {templates} templates: {_counted(everything)}{data}'


def _counted(problems: Sequence[Any]) -> str:
  counts = collections.Counter(p.level for p in problems)
  del counts['note']
  return ', '.join(f'{n} {level}{"s" * (n > 1)}' for level, n in counts.items()) or 'all right'
