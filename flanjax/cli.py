"""The command line: one verb, one module of `flanjax.commands`, one call."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from flanjax import gin_files, terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError, nearest

VERBS = {
    'quickstart': 'tune, evaluate and report on embedded data, on a CPU',
    'tasks': 'list, show and check registered tasks',
    'mixtures': 'list and show mixtures of tasks',
    'prepare': 'write a mixture as files that training reads',
    'audit': 'what a model was given, and what it should not have been',
    'vocab': 'train a vocabulary, or show what one does with texts',
    'convert': 'bring weights in from transformers and T5X, and take them there',
    'train': 'train a model; configured by gin',
    'verify': 'measure the equalities that training must keep, on your own configuration',
    'eval': 'evaluate a trained model, and the model it came from; configured by gin',
    'infer': 'answer a file of prompts, or a task, into JSON lines',
    'chat': 'try prompts and templates by hand',
    'serve': "answer over HTTP, in the interface of OpenAI's completions",
    'experiment': 'a matrix of trainings and evaluations, from a plan to a figure; configured by gin',
    'lm_eval': 'evaluate a model by lm-evaluation-harness',
    'report': 'HTML page, JSON, CSV and plots of evaluated runs',
}
_EXAMPLE = """example:
  flanjax quickstart --holdout sentiment
"""


class Parser(argparse.ArgumentParser):
  """An argument parser whose errors are UsageErrors with the nearest known name."""

  def __init__(self, *args, **kwargs):
    kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
    super().__init__(*args, allow_abbrev=False, **kwargs)

  def error(self, message: str):
    hint = f'see {self.prog} --help'
    choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if choice:
      known = re.findall(r"[\w.]+", choice[2])
      raise UsageError(f"'{choice[1]}' is not known to {self.prog}.",
                       hint=f'{nearest(choice[1], known)}; {hint}')
    raise UsageError(f'{message[:1].upper()}{message[1:]}.', where=self.prog, hint=hint)

  def refuse(self, extra: Sequence[str]):
    """Raises for arguments that no option takes."""
    known = [o for action in self._actions for o in action.option_strings]
    name = extra[0].partition('=')[0]
    hint = nearest(name, known) if name.startswith('-') else f'see {self.prog} --help'
    raise UsageError(f"{self.prog} does not take '{extra[0]}'.", hint=hint)


def version() -> str:
  try:
    return metadata.version('flanjax')
  except metadata.PackageNotFoundError:
    return 'unknown (not installed)'


def make_parser(verb: str | None = None) -> Parser:
  """The parser; the arguments of `verb` alone are filled in, which keeps start-up short."""
  parser = Parser(prog='flanjax', description='Instruction tuning in JAX.', epilog=_EXAMPLE)
  parser.add_argument('--version', action='version', version=f'flanjax {version()}')
  verbs = parser.add_subparsers(dest='verb', metavar='VERB', required=True)
  for name, help_text in VERBS.items():
    child = verbs.add_parser(name, help=help_text, description=help_text.capitalize() + '.')
    if name == verb:
      module = importlib.import_module(f'flanjax.commands.{name}')
      module.add_arguments(child)
      child.set_defaults(run=module.run)
  return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """The arguments; UsageError when they cannot be understood."""
  argv = gin_files.rewrite_flags(argv)
  verb = next((word for word in argv if not word.startswith('-')), None)
  parser = make_parser(verb)
  args, extra = parser.parse_known_args(argv)
  if extra:
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    subparsers.choices[args.verb].refuse(extra)
  return args


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a verb. Returns 0 when done, 2 for wrong usage, 1 when it failed."""
  argv = list(sys.argv[1:] if argv is None else argv)
  try:
    common.end_with_parent()
    args = parse(argv)
    common.set_up(args)
    return args.run(args) or 0
  except UserError as e:
    if '--debug' in argv:
      traceback.print_exc()
    else:
      terminal.print_error(e)
    return 2 if isinstance(e, UsageError) else 1
  except common.ChildFailed as e:
    return e.status
  except KeyboardInterrupt:
    terminal.note('stopped; started again, it goes on where it was')
    return 130
  except BrokenPipeError:
    # Whoever read the answer has enough of it; stdout must not fail again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except OSError as e:
    if '--debug' in argv or not e.filename:
      raise
    terminal.print_error(UserError('A file or folder cannot be used.', where=str(e.filename),
                                   got=e.strerror))
    return 1


if __name__ == '__main__':
  sys.exit(main())
