"""`flanjax chat`: prompts and templates by hand, with the answer as it is made."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from flanjax import terminal
from flanjax.commands import chat_session, common
from flanjax.commands.infer import add_sampling_flags, sampling_of
from flanjax.errors import UsageError, UserError

_SLOTS = 4
_ROOM = 512
_HISTORY_LINES = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax chat --model_dir=/runs/no_nli\n'
      '  flanjax chat --model_dir=mini --temperature=0.7\n'
      "  printf 'How old is the sea?\\n/quit\\n' | flanjax chat --model_dir=mini\n"))
  add_sampling_flags(parser)
  common.add_flags(parser, 'seed', 'module', 'templates', 'workdir')


def run(args: argparse.Namespace) -> int:
  sampling = sampling_of(args)
  if '' in args.stop:
    raise UsageError('--stop must not be empty.')
  from flanjax.inference.text import TextGenerator

  generator = TextGenerator.open(
      args.model_dir, slots=_SLOTS, max_decode_steps=max(_ROOM, sampling.max_decode_steps),
      max_inputs_length=args.max_inputs_length, too_long=args.too_long,
      vocabulary=args.vocabulary, steps_per_call=1)
  by_hand = sys.stdin.isatty()
  with _history(by_hand):
    session = chat_session.Session(
        generator, sampling, tuple(args.stop), ask=_ask(by_hand), modules=args.module,
        templates=args.templates)
    if by_hand:
      terminal.note(f'{generator.name}: type a prompt, or /help. /quit or Control-D leaves.')
    session.run()
  return 0


def _ask(by_hand: bool) -> Callable[[str], str]:
  """What gives the next line; it raises EOFError at the end, and UserError for broken text."""
  if by_hand:
    return _typed

  def ask(prompt: str) -> str:
    del prompt
    line = sys.stdin.buffer.readline()
    if not line:
      raise EOFError
    try:
      return line.decode().rstrip('\r\n')
    except UnicodeDecodeError as e:
      raise UserError('The line is no valid UTF-8.', got=f'0x{line[e.start]:02x} at byte '
                      f'{e.start + 1}') from e

  return ask


def _typed(prompt: str) -> str:
  line = input(prompt)
  if line.strip() and (readline := _readline()) is not None:
    readline.add_history(line)
  return line


def _readline() -> Any:
  """What edits lines on a terminal, where Python has it."""
  try:
    import readline
  except ImportError:
    return None
  return readline


@contextlib.contextmanager
def _history(by_hand: bool) -> Iterator[None]:
  """Lines of earlier sessions, by the arrow keys; empty ones are not kept."""
  readline = _readline()
  if not by_hand or readline is None:
    yield
    return
  readline.set_auto_history(False)
  path = common.default_workdir() / 'chat_history'
  with contextlib.suppress(OSError):
    readline.read_history_file(path)
  readline.set_history_length(_HISTORY_LINES)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      _write_history(readline, path)


def _write_history(readline: Any, path: pathlib.Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch(mode=0o600)
  readline.write_history_file(path)
