"""`flanjax quickstart`: the main job, small but whole."""

from __future__ import annotations

import argparse
import pathlib

from flanjax import quickstart, terminal
from flanjax.commands import common
from flanjax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax quickstart\n'
                 '  flanjax quickstart --holdout nli --seed 1 --workdir /tmp/quickstart\n')
  parser.description = (
      'Tunes a small model on every cluster of the embedded data but one, evaluates it on that '
      'one and on those seen, against the model before tuning, and writes a report. Started '
      'again, it goes on where it was.')
  parser.add_argument('--steps', type=int, metavar='N', help='training steps')
  parser.add_argument('--num_examples', type=int, metavar='N',
                      help='examples of each held-out task and template')
  parser.add_argument('--from_scratch', action='store_true',
                      help='pretrain briefly instead of taking the base model that ships')
  common.add_flags(parser, 'holdout', 'json', 'seed', 'workdir')


def run(args: argparse.Namespace) -> int:
  for name in ('steps', 'num_examples'):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise UsageError(f'--{name} must be at least 1.', got=value)
  workdir = args.workdir or common.default_workdir() / 'quickstart'
  done = quickstart.run(quickstart.Settings(
      workdir=pathlib.Path(workdir).expanduser().absolute(),
      holdout=args.holdout or quickstart.HOLDOUT, seed=args.seed or 0, steps=args.steps,
      num_examples=args.num_examples, from_scratch=args.from_scratch))
  common.answer(args, done, f"\n{done['headline']}\n\n"
                f"report: {done['report']}\ntook:   {terminal.seconds(done['seconds'])}")
  return 0
