"""`flanjax audit mixture` and `audit batch`: what a run is given, step by step."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError

if TYPE_CHECKING:
  from flanjax.input.mixture import MixtureSource

_SHOWN_TEXT = 300


def add_mixture(actions: Any) -> None:
  parser = actions.add_parser(
      'mixture', help='examples and tokens of each task and template, as drawn')
  common.example(parser, '  flanjax audit mixture /runs/no_nli\n'
                 '  flanjax audit mixture /runs/no_nli --steps 30000 --plot shares.png\n')
  _add_source(parser)
  parser.add_argument('--steps', type=int, metavar='N', help=(
      'the first N steps (default: those that the run took, or 1,000)'))
  parser.add_argument('--templates', action='store_true', help='a line for each template')
  parser.add_argument('--plot', metavar='FILE', help='a PNG of expected and drawn shares')
  common.add_flags(parser, 'json', 'seed')


def add_batch(actions: Any) -> None:
  parser = actions.add_parser('batch', help='one batch, the same on any number of hosts')
  common.example(parser, '  flanjax audit batch /runs/no_nli --step 12000 --rows 2\n')
  _add_source(parser)
  parser.add_argument('--step', type=int, required=True, metavar='N', help='0 is the first')
  parser.add_argument('--rows', type=int, default=4, metavar='N',
                      help='rows to show, all are hashed (default: 4)')
  parser.add_argument('--ids', action='store_true', help='token ids, not their text')
  common.add_flags(parser, 'module', 'json', 'seed')


def _add_source(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('source', metavar='RUN', help='a run folder, or the manifest of prepared data')
  parser.add_argument('--batch_size', type=int, metavar='N', help='default: of the run, or 128')
  parser.add_argument('--inputs_length', type=int, metavar='N', help='default: as prepared')
  parser.add_argument('--targets_length', type=int, metavar='N', help='default: as prepared')


def mixture(args: argparse.Namespace) -> int:
  if args.steps is not None and args.steps < 1:
    raise UsageError('--steps must be at least 1.', got=args.steps)
  taken = pathlib.Path(args.source) / 'train' / 'audit.json'
  if args.steps is None and taken.is_file():
    found = _read(taken)
  else:
    found = _count(_open(args), args.steps or 1_000)
  if args.plot:
    _plot(found, pathlib.Path(args.plot).expanduser())
  common.answer(args, found, mixture_text(found, args.templates))
  return 0


def _count(source: MixtureSource, steps: int) -> dict[str, Any]:
  """Counts the first steps, exactly: rows are planned, and no record is read."""
  steps = steps if source.num_batches is None else min(steps, source.num_batches)
  counts = collections.Counter()
  with terminal.bar('auditing') as progress:
    for step in range(steps):
      counts.update(source.tally(step))
      progress(step + 1, steps)
  return source.audit(counts)


def _plot(found: Mapping[str, Any], path: pathlib.Path) -> None:
  from flanjax.evaluation import plots

  tasks = sorted(found['tasks'], key=lambda t: (-t['expected'], t['task']))
  if not tasks:
    raise UserError('A streamed mixture has no shares to draw.', where='--plot')
  try:
    path.write_bytes(plots.shares_png({'tasks': tasks}))
  except OSError as e:
    raise UserError('The plot cannot be written.', where=str(path), got=e.strerror) from e


def mixture_text(found: Mapping[str, Any], templates: bool = False) -> str:
  rows = []
  for task in sorted(found['tasks'], key=lambda t: (-t['expected'], t['task'])):
    rows.append(_row(task['task'], task) | {
        'cluster': task['cluster'], 'expected': f"{100 * task['expected']:.2f} %",
        'drawn': f"{100 * task['drawn']:.2f} %", 'epochs': f"{task['epochs']:.2f}"})
    if templates:
      rows += [_row(f'  template {n}', t) for n, t in task['templates'].items()]
  columns = {'task': 'task', 'cluster': 'cluster', 'expected': 'expected', 'drawn': 'drawn',
             'examples': 'examples', 'epochs': 'epochs', 'inputs': 'input tokens',
             'targets': 'target tokens', 'truncated': 'truncated'}
  blank = dict.fromkeys(columns, '')
  tokens, padding = found['tokens'], found['padding']
  lines = [terminal.table([blank | r for r in rows], columns), ''] if rows else []
  lines.append(f"{found['mixture']}, {found['steps']:,} steps: {found['examples']:,} examples, "
               f"{tokens['inputs']:,} input and {tokens['targets']:,} target tokens; padding "
               f"{100 * padding['inputs']:.1f} % and {100 * padding['targets']:.1f} %")
  test = found['test']
  if test:
    lines.append(f"drawn against expected: chi-square {test['statistic']:.1f}, "
                 f"{test['degrees_of_freedom']} degrees of freedom, p = {test['p']:.3f}")
  return '\n'.join(lines)


def _row(name: str, counts: Mapping[str, int]) -> dict[str, str]:
  quantities = ('examples', 'inputs', 'targets', 'truncated')
  return {'task': name, **{q: f'{counts[q]:,}' for q in quantities}}


def batch(args: argparse.Namespace) -> int:
  source = _open(args)
  if args.step < 0 or source.num_batches is not None and args.step >= source.num_batches:
    raise UsageError('There is no such step.', got=args.step,
                     expected=f'0 to {(source.num_batches or 0) - 1}' if source.num_batches else '0 on')
  found = describe_batch(source, args.step, args.rows, None if args.ids else _decoder(args, source))
  common.answer(args, found, _batch_text(found))
  return 0


def describe_batch(source: MixtureSource, step: int, rows: int, decode: Any) -> dict[str, Any]:
  """{step, sha256, rows}: the hash is of all arrays, `rows` the examples of the first ones.

  Args:
    source: whose batch.
    step: which.
    rows: rows to tell of.
    decode: ids -> text; None: ids are told.
  """
  arrays, plan = source.batch(step), source.rows(step)
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(name.encode() + arrays[name].tobytes())
  told = []
  for row in range(min(rows, source.batch_size)):
    for place in range(int(plan.starts[row]), int(plan.starts[row + 1])):
      example = source.example(int(plan.tasks[place]), int(plan.examples[place]))
      told.append({
          'row': row, 'task': source.manifest.tasks[plan.tasks[place]].name,
          'example_id': example.example_id, 'template_id': example.template_id,
          **{side: getattr(example, side).tolist() if decode is None else decode(getattr(example, side))
             for side in ('inputs', 'targets')},
          'input_tokens': len(example.inputs), 'target_tokens': len(example.targets),
      })
  return {'step': step, 'fingerprint': source.fingerprint, 'sha256': digest.hexdigest(),
          'batch_size': source.batch_size, 'examples': len(plan.tasks), 'rows': told}


def _batch_text(found: Mapping[str, Any]) -> str:
  lines = [f"batch {found['step']}: {found['examples']} examples in {found['batch_size']} rows, "
           f"sha256 {found['sha256']}"]
  for e in found['rows']:
    lines.append(f"\nrow {e['row']}  {e['task']}  example {e['example_id']}  template "
                 f"{e['template_id']}  {e['input_tokens']} + {e['target_tokens']} tokens")
    for side in ('inputs', 'targets'):
      text = str(e[side])
      cut = text if len(text) <= _SHOWN_TEXT else f'{text[:_SHOWN_TEXT]} ...'
      lines += [f'    {line}' for line in cut.split('\n')] + (['  ->'] if side == 'inputs' else [])
  return '\n'.join(lines)


def _decoder(args: argparse.Namespace, source: MixtureSource) -> Any:
  common.load_tasks(args.module)
  from flanjax.data import vocabularies

  vocabulary = vocabularies.get(source.manifest.vocabulary)
  return lambda ids: vocabulary.decode([int(i) for i in ids])


def _open(args: argparse.Namespace) -> MixtureSource:
  """The batches of a run, or of a manifest with the flags' settings."""
  from flanjax.input import mixing as mixing_lib
  from flanjax.input import mixture as mixture_lib

  settings: dict[str, Any] = {'batch_size': 128, 'seed': 0}
  path = pathlib.Path(args.source).expanduser()
  if path.is_dir():
    known = _read(path / 'run.json')
    if not known.get('mixture_manifest') or known.get('mixture_changes'):
      raise UserError('The batches of this run cannot be made again from one manifest.',
                      where=str(path), got='a streamed mixture, or one that changes',
                      hint='audit the manifest of a mixture: flanjax audit mixture FILE.json')
    path = path / known['mixture_manifest']
    settings = dict(known['batches'])
    settings['mixing'] = mixing_lib.Mixing(**settings['mixing'])
  if args.batch_size:
    settings['batch_size'] = args.batch_size
  if args.seed is not None:
    settings['seed'] = args.seed
  lengths = {'inputs': args.inputs_length, 'targets': args.targets_length}
  if any(lengths.values()):
    if not all(lengths.values()):
      raise UsageError('Give both lengths or none.', got=lengths)
    settings['feature_lengths'] = lengths
  return mixture_lib.open_mixture(path, **settings)


def settings_of(source: Any) -> dict[str, Any] | None:
  """What it takes, beside the manifest, to make a source's batches again; None if that cannot be."""
  if not hasattr(source, 'mixing'):
    return None
  return {'batch_size': source.batch_size, 'seed': source.seed, 'pack': source.packed,
          'feature_lengths': source.feature_lengths, 'mixing': dataclasses.asdict(source.mixing)}


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as e:
    raise UserError('The run has no such file, or it is damaged.', where=str(path), got=e,
                    expected='a folder that flanjax train wrote') from e
