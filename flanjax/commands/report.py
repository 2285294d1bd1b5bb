"""`flanjax report`: evaluated runs as a page, a table and plots."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

from flanjax.commands import common
from flanjax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax report /tmp/run\n'
                 '  flanjax report /tmp/run /tmp/other_run --output_dir /tmp/side_by_side\n'
                 '  flanjax report /tmp/experiment\n')
  parser.add_argument('run_dir', nargs='+', metavar='RUN', help='folders that flanjax eval has '
                      'filled; the first is reported, the others stand beside it. Or the folder '
                      'of one experiment')
  parser.add_argument('--output_dir', metavar='DIR', help='default: RUN/report')
  parser.add_argument('--clean', metavar='FILE', help='clean.json of `flanjax audit leakage`: scores '
                      'on these examples beside those on all (default: RUN/eval/clean.json)')
  common.add_flags(parser, 'module', 'json', 'seed')


def run(args: argparse.Namespace) -> int:
  for run_dir in args.run_dir:
    if not pathlib.Path(run_dir).is_dir():
      raise UserError('There is no such run folder.', where=run_dir)
  from flanjax.evaluation import experiment_page, report

  experiments = [d for d in args.run_dir if experiment_page.is_experiment(d)]
  if experiments and len(args.run_dir) > 1:
    raise UserError('An experiment is reported by itself.', where=experiments[0],
                    got=f'{len(args.run_dir)} folders', expected='one experiment, or runs')
  out = pathlib.Path(args.output_dir or pathlib.Path(args.run_dir[0]) / 'report')
  if experiments:
    return _experiment(args, out)
  metric_fns = _metric_fns(args.module) if args.module else None
  data = report.build(
      args.run_dir, out, metric_fns=metric_fns, clean=args.clean, seed=args.seed or 0)
  page = (out / 'report.html').absolute()
  common.answer(args, {'report': str(page), 'headline': data['headline'], 'json': str(
      page.with_suffix('.json'))}, f'{data["headline"]}\n\nreport: {page}')
  return 0


def _experiment(args: argparse.Namespace, out: pathlib.Path) -> int:
  from flanjax.evaluation import experiment_page
  from flanjax.experiments import figures

  data = experiment_page.build(args.run_dir[0], out, figures.draw)
  page = (out / 'report.html').absolute()
  common.answer(args, {'report': str(page), 'headline': data['headline'], 'json': str(
      pathlib.Path(args.run_dir[0], experiment_page.FILE).absolute())},
      f'{data["headline"]}\n\nreport: {page}')
  return 0


def _metric_fns(modules: list[str]) -> dict[str, Callable[..., dict[str, float]]]:
  """The metric functions of a user's tasks, by name; those of flanjax are known anyway."""
  common.load_tasks(modules)
  from flanjax.data import specs

  return {fn.__name__: fn for spec in specs.all_specs() for fn in spec.metric_fns}
