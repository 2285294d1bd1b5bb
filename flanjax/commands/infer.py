"""`flanjax infer`: a file of prompts, or a task's, answered into a file of JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from flanjax import terminal
from flanjax.commands import common, render
from flanjax.errors import UsageError, UserError
from flanjax.inference import prompt_files
from flanjax.inference.prompt_files import PromptFile
from flanjax.inference.requests import Sampling
from flanjax.inference.tokenizer import TOO_LONG
from flanjax.input import remote

_SAMPLING = {
    'max_decode_steps': (int, 'the most tokens of an answer, its end among them'),
    'temperature': (float, '0 takes the likeliest token; 1 draws as the model says'),
    'top_k': (int, 'draws from so many of the likeliest tokens alone; 0: from all'),
    'top_p': (float, 'draws from the likeliest tokens that come to this probability'),
    'num_samples': (int, 'answers to a prompt, drawn or the best of a beam'),
    'beam_size': (int, 'beams that are followed; above 1 nothing is drawn'),
    'length_penalty': (float, "of beams, T5X's alpha"),
}


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
  """How prompts are continued, and how the model is opened: of `infer` and `chat`."""
  known = {f.name: f.default for f in dataclasses.fields(Sampling)}
  parser.add_argument('--model_dir', required=True, metavar='DIR', help=(
      "a run's folder, one of its checkpoints, a converted folder, one of transformers or T5X, "
      "or 'mini'"))
  parser.add_argument('--vocabulary', help=(
      "'mini', 'bytes', 't5', a SentencePiece model or a folder with one, where the model's folder "
      'does not name it'))
  parser.add_argument('--max_inputs_length', type=int, metavar='N', help=(
      'the most tokens of a prompt (default: what the run trained with, or 512)'))
  parser.add_argument('--too_long', choices=TOO_LONG, default=TOO_LONG[0], help=(
      'of a longer prompt keep its beginning, refuse it, or keep its end (default: %(default)s)'))
  sampling = parser.add_argument_group('how answers are made')
  for name, (kind, text) in _SAMPLING.items():
    sampling.add_argument(f'--{name}', type=kind, default=known[name], metavar='N',
                          help=f'{text} (default: %(default)s)')
  sampling.add_argument('--stop', action='append', default=[], metavar='TEXT',
                        help='ends an answer before it; may be repeated')


def sampling_of(args: argparse.Namespace) -> Sampling:
  """UserError for impossible values."""
  return Sampling(**{name: getattr(args, name) for name in _SAMPLING}, seed=args.seed or 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax infer --model_dir=/runs/no_nli --input=prompts.jsonl --output=answers.jsonl\n'
      '  flanjax infer --model_dir=/runs/no_nli --task=rte_type_0_scoring_eval --output=rte.jsonl\n'
      "  echo 'How old is the sea?' | flanjax infer --model_dir=mini --input=-\n"))
  parser.add_argument('--input', metavar='FILE', help=(
      "prompts: .txt, .jsonl, .csv or .parquet; '-' is standard input"))
  parser.add_argument('--input_format', choices=prompt_files.FORMATS,
                      help='of a file whose ending does not say it')
  parser.add_argument('--task', metavar='NAME', help=(
      'instead: the prompts of a task or mixture, as rte_type_0'))
  parser.add_argument('--split', default='test', help='of its examples (default: %(default)s)')
  parser.add_argument('--num_examples', type=int, metavar='N',
                      help='the first so many prompts, of each task')
  parser.add_argument('--output', default='-', metavar='FILE', help=(
      "JSON lines; a file that is there is gone on with (default: '-', standard output)"))
  parser.add_argument('--options', metavar='A|B', help=(
      "ranks these instead of generating, as 'yes | no'; a prompt's own come first"))
  parser.add_argument('--scores', action='store_true', help=(
      'answers tell their tokens and the log-probability of each'))
  parser.add_argument('--on_bad_line', choices=('error', 'skip'), default='error', help=(
      'stop at a prompt that cannot be used, or write an error in its place (default: %(default)s)'))
  parser.add_argument('--batch_size', type=int, default=16, metavar='N', help=(
      'prompts answered at a time; answers do not depend on it (default: %(default)s)'))
  add_sampling_flags(parser)
  common.add_flags(parser, 'seed', 'module', 'templates', 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  _check_usage(args)
  sampling = sampling_of(args)
  output = _output(args)
  with contextlib.ExitStack() as stack:
    source = stack.enter_context(_source(args))
    total = _look_through(args, source)
    from flanjax.commands.infer_run import InferRun, Stopped
    from flanjax.inference import answers
    from flanjax.inference.text import TextGenerator

    generator = TextGenerator.open(
        args.model_dir, slots=args.batch_size, max_decode_steps=sampling.max_decode_steps,
        max_inputs_length=args.max_inputs_length, too_long=args.too_long,
        vocabulary=args.vocabulary)
    _tell_of_stops(generator, args.stop)
    if args.too_long == 'refuse' and args.on_bad_line == 'error' and source.can_be_read_again:
      _check_lengths(args, source, generator)
    options = _options(args)
    work = InferRun(
        generator, answers.Job(sampling, tuple(args.stop), args.scores, args.on_bad_line == 'skip'),
        source, lambda: _records(args, source), total, {'options': list(options)})
    try:
      work.run(output)
    except Stopped:
      return work.stopped()
  data = work.summary()
  if output is not None:
    before = f', {work.before:,} were there' if work.before else ''
    common.answer(args, {'output': str(output), **data},
                  f'{work.written:,} answers{before}: {output}')
  return 0


def _check_usage(args: argparse.Namespace) -> None:
  if (args.input is None) == (args.task is None):
    raise UsageError('Prompts come from one place.', where='flanjax infer',
                     expected='--input=FILE or --task=NAME')
  for name in ('batch_size', 'num_examples', 'max_inputs_length'):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise UsageError(f'--{name} must be at least 1.', got=value)
  if args.json and args.output == '-':
    raise UsageError('--json is a summary on standard output, where the answers are.',
                     expected='--output=FILE with it')
  if '' in args.stop:
    raise UsageError('--stop must not be empty.')


def _output(args: argparse.Namespace) -> pathlib.Path | None:
  """The file of answers; None: they are given out as they come."""
  if args.output == '-':
    return None
  if remote.is_remote(args.output):
    raise UserError('Answers are written to a disk.', where='--output', got=args.output,
                    hint='write them here and copy the file')
  path = pathlib.Path(args.output).expanduser().absolute()
  if args.input not in (None, '-') and path == remote.resolved(args.input):
    raise UserError('Prompts and answers are the same file.', where=str(path))
  if path.is_dir():
    raise UserError('There is a folder where the answers shall be.', where=str(path))
  common.writable(path.parent)
  return path


@contextlib.contextmanager
def _source(args: argparse.Namespace) -> Iterator[PromptFile]:
  """Where prompts come from; those of a task are rendered into a file first."""
  if args.task is None:
    yield PromptFile(args.input, args.input_format)
    return
  with tempfile.TemporaryDirectory(prefix='flanjax-prompts-') as folder:
    path = pathlib.Path(folder) / 'prompts.jsonl'
    render.prompts_in_a_child(
        args.task, path, split=args.split, num_examples=args.num_examples,
        inputs_length=args.max_inputs_length, modules=args.module, templates=args.templates,
        vocabulary=_vocabulary(args))
    yield PromptFile(str(path), name=f'{args.task}, split {args.split}')


def _vocabulary(args: argparse.Namespace) -> str | None:
  """The model's, which few-shot prompts are measured with."""
  from flanjax.interop import model_folders

  return args.vocabulary or model_folders.find(args.model_dir, '--model_dir').vocabulary


def _options(args: argparse.Namespace) -> tuple[str, ...]:
  from flanjax.inference.prompt_formats import split_options

  options = tuple(split_options(args.options or ''))
  if args.options is not None and ('' in options or not options):
    raise UsageError('--options must not be empty.', got=repr(args.options))
  return options


def _records(args: argparse.Namespace, source: PromptFile) -> Iterator[prompt_files.Record]:
  records = source.records(_options(args))
  # Of tasks the process that rendered them took so many of each.
  limit = args.num_examples if args.task is None else None
  for number, record in enumerate(records):
    if limit is not None and number >= limit:
      return
    yield record


def _look_through(args: argparse.Namespace, source: PromptFile) -> int | None:
  """The number of prompts, before anything takes long; None where they can be read but once.

  Raises:
    UserError: one of them cannot be used, and no error is to take its place.
  """
  if not source.can_be_read_again:
    return None
  total = 0
  for record in _records(args, source):
    total += 1
    if record.error and args.on_bad_line == 'error':
      raise prompt_files.error_of(source.shown, record)
  if not total:
    raise UserError('There is no prompt.', where=source.shown)
  return total


def _check_lengths(args: argparse.Namespace, source: PromptFile, generator: Any) -> None:
  for record in _records(args, source):
    try:
      generator.prompt(record.inputs)
    except UserError as e:
      raise UserError(e.what, where=f'{source.shown}:{record.line}', got=e.got,
                      expected=e.expected, hint='--too_long=truncate cuts it, '
                      '--on_bad_line=skip writes an error in its place') from e


def _tell_of_stops(generator: Any, stops: list[str]) -> None:
  for stop in stops:
    written = generator.decode(generator.vocabulary.encode(f'a{stop}a'))
    if stop not in written:
      terminal.note(f'The vocabulary cannot write {stop!r}: no answer will stop there.')
