"""`flanjax experiment`: a matrix of trainings and evaluations, from a plan to a figure."""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from flanjax import gin_files, terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError

_FALLBACKS = {name: "'experiment'" for name in (
    'MODEL_DIR', 'MIXTURE_OR_TASK_NAME', 'CHECKPOINT_PATH')} | {
        'TRAIN_STEPS': '1', 'MODEL': 'None', 'OPTIMIZER': 'None'}  # Conditions may name models.
_FRACTION = re.compile(r'(\d+)\s*(?:/|of)\s*(\d+)\Z')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax experiment --gin_file=experiments/mini/leave_one_cluster_out.gin \\\n'
      '    --gin.EXPERIMENT_DIR="\'/runs/loo\'" --plan\n'))
  parser.description = (
      'Trains and evaluates every cell of a matrix that a gin file describes, and writes '
      'experiment.json, experiment.csv and a figure from what there is. Started again, it goes on '
      'where it was; any number of jobs may work in one folder.')
  common.add_gin_flags(parser)
  group = parser.add_argument_group('what is done')
  group.add_argument('--plan', action='store_true',
                     help='print cells, tokens, FLOPs and hours, and do nothing')
  group.add_argument('--gather', action='store_true',
                     help='write tables and the figure from the cells that are there, and no more')
  group.add_argument('--cell', nargs='+', metavar='K/N', help=(
      'do part K of N: every Nth training from the Kth on, counted from 1, with all cells that '
      'share it (K of N means the same)'))
  group.add_argument('--parallel', type=int, default=1, metavar='N',
                     help='cells at once, each with its part of the GPUs or cores (default: 1)')
  group.add_argument('--retry_failed', action='store_true', help='try cells again that failed')
  group.add_argument('--tokens_per_second', type=float, metavar='X',
                     help='for the plan: how fast training is, before a cell has told')
  group.add_argument('--device', metavar='KIND',
                     help="for the plan: a device, as 'TPU v4', at half of whose peak it trains")
  # A worker of --parallel.
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  common.add_flags(parser, 'module', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  if not args.gin_file:
    raise UsageError('No experiment is given.', where='flanjax experiment',
                     expected='--gin_file=experiments/mini/leave_one_cluster_out.gin')
  if args.parallel < 1:
    raise UsageError('--parallel must be at least 1.', got=args.parallel)
  chosen = fraction(args.cell)
  from flanjax.experiments import plan, running, units

  experiment, given = configure(args)
  root = common.writable(experiment.directory)
  cells = units.make_cells(experiment, given)
  mine = part_of(cells, *chosen)
  if args.retry_failed and not args.worker:
    running.forget_failures(root, mine)
  if args.worker:
    running.Runner(root, given, experiment.suite).run(mine)
    common.answer(args, {}, '')
    return 0
  common.load_tasks(given.modules, gin_files.macro('VOCABULARY'))
  plan.check(experiment, mine)
  planned = plan.make(experiment, mine, root, given, plan.Rate(
      args.tokens_per_second, args.device, args.parallel))
  if args.plan:
    common.answer(args, planned, plan.text(planned))
    return 0
  terminal.note(plan.text(planned))
  if not args.gather:
    _do(args, experiment, given, root, mine)
  return _gathered(args, experiment, cells, mine, root)


def configure(args: argparse.Namespace) -> tuple[Any, Any]:
  """The experiment, and what every one of its units is given. Leaves accelerators alone."""
  import jax

  from flanjax.experiments import matrix, units

  # Children have them; a device that this process opened would be theirs no more.
  jax.config.update('jax_platforms', 'cpu')
  config = gin_files.load(
      args.gin_file, args.gin_bindings, common.search_paths(args), _FALLBACKS)
  experiment = gin_files.construct(matrix.Experiment)
  if not isinstance(experiment.directory, str) or not experiment.directory:
    raise UserError('EXPERIMENT_DIR must be a text.', got=repr(experiment.directory))
  experiment.directory = str(pathlib.Path(experiment.directory).expanduser().absolute())
  files = tuple(str(gin_files.find(f, common.search_paths(args))) for f in args.gin_file)
  return experiment, units.Given(
      files, tuple(args.gin_bindings), tuple(common.search_paths(args)),
      tuple(dict.fromkeys([*args.module, *config.modules])))


def fraction(words: Sequence[str] | None) -> tuple[int, int]:
  """('3', 'of', '8') or '3/8' -> (3, 8)."""
  if not words:
    return 1, 1
  said = _FRACTION.match(' '.join(words))
  k, n = (int(said[1]), int(said[2])) if said else (0, 0)
  if not 1 <= k <= n:
    raise UsageError('--cell does not say which part of how many.', got=' '.join(words),
                     expected='K/N with K from 1 to N, as --cell 3/8')
  return k, n


def part_of(cells: Sequence[Any], k: int, n: int) -> list[Any]:
  """Part k of n: cells that share a training stay together, so that no job waits for another."""
  groups = list(dict.fromkeys(c.group for c in cells))
  mine = set(groups[k - 1::n])
  return [c for c in cells if c.group in mine]


def _do(
    args: argparse.Namespace, experiment: Any, given: Any, root: pathlib.Path, cells: Sequence[Any]
) -> None:
  from flanjax.experiments import parallel, running, units

  if args.parallel == 1:
    running.Runner(root, given, experiment.suite).run(cells)
    return
  argv = ['experiment', *given.argv(units.Files(), {}), '--worker']
  argv += ['--cell', *args.cell] if args.cell else []
  parallel.run(argv, args.parallel)


def _gathered(
    args: argparse.Namespace, experiment: Any, cells: Sequence[Any], mine: Sequence[Any],
    root: pathlib.Path,
) -> int:
  """Writes what there is, and says what is not; -> 1 if a cell of ours is not done."""
  from flanjax.experiments import figures, gather, output, running

  data = gather.gather(experiment, cells, root)
  output.write(data, root, figures.draw(data))
  terminal.note('')
  common.answer(args, {'experiment': str(root / 'experiment.json'), **data} if args.json else {},
                output.text(data) + f'\n\nresults: {root / "experiment.json"}')
  names = {c.name for c in mine}
  failed = [c for c in data['cells'] if c['cell'] in names and c['state'] != running.DONE]
  for cell in failed:
    terminal.note(': '.join(filter(None, (cell['state'], cell['cell'], cell['error']))))
  if failed:
    terminal.note('the same command goes on with what is missing; --retry_failed with what failed')
  return 1 if failed else 0
