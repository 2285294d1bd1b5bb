"""`flanjax serve`: a model over HTTP, in the interface that OpenAI's clients speak."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError
from flanjax.inference.requests import MAX_BEAM_SIZE
from flanjax.inference.tokenizer import TOO_LONG


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax serve --model_dir=/tmp/run --port=8000\n'
      "  curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \\\n"
      '    -d \'{"prompt": "Is it positive? It was dull.", "temperature": 0}\'\n'))
  add = parser.add_argument
  add('--model_dir', required=True, metavar='DIR',
      help="a run's folder or checkpoint, a converted one, one of transformers or T5X, or 'mini'")
  add('--name', metavar='NAME', help="what clients call the model (default: the folder's name)")
  add('--vocabulary', metavar='NAME', help='where the folder does not name it')
  add('--host', default='127.0.0.1', help='address to listen at (default: %(default)s, this '
      'machine alone)')
  add('--port', type=int, default=8000, metavar='N',
      help='port to listen at; 0: a free one (default: %(default)s)')
  add('--slots', type=int, default=16, metavar='N',
      help='answers decoded side by side (default: %(default)s)')
  add('--max_queue', type=int, default=64, metavar='N',
      help='prompts that may wait for slots; more get status 429 (default: %(default)s)')
  add('--max_tokens', type=int, default=256, metavar='N',
      help='the most tokens of an answer, and what is taken where a request does not say '
      '(default: %(default)s)')
  add('--max_inputs_length', type=int, metavar='N',
      help='the most tokens of a prompt (default: what the run trained with, or 512)')
  add('--too_long', choices=TOO_LONG, default='refuse',
      help='what happens to a longer prompt: status 400, or its beginning or its end is kept '
      '(default: %(default)s)')
  add('--max_body_kb', type=int, default=1024, metavar='N',
      help="the largest body of a request (default: %(default)s)")
  add('--timeout_s', type=float, default=300, metavar='S',
      help='a request that is not answered by then gets status 504 (default: %(default)g)')
  add('--drain_s', type=float, default=60, metavar='S',
      help='time for running answers when asked to stop (default: %(default)g)')
  add('--warm', choices=('all', 'none'), default='all',
      help='compile all programs before clients are served, or none: then the first request of '
      'each kind and length waits for its own, and all others with it (default: %(default)s)')
  add('--beam_sizes', type=int, nargs='*', metavar='N', default=[],
      help='numbers of beams that requests may ask for, for which programs are compiled '
      '(default: none; with --warm=none: all)')
  add('--api_key_file', metavar='FILE',
      help='keys, one per line, of which a client must send one; or set FLANJAX_API_KEY')
  add('--no_access_log', action='store_true', help='no line for each request')
  common.add_flags(parser, 'json', 'workdir')


def run(args: argparse.Namespace) -> int:
  _check(args)
  try:
    from flanjax.serving import server as serving
  except ModuleNotFoundError as e:
    if (e.name or '').partition('.')[0] not in ('starlette', 'uvicorn', 'prometheus_client'):
      raise
    raise UserError('Serving needs packages that are not installed.', got=f'no module {e.name}',
                    hint="pip install 'flanjax[serve]'") from e
  from flanjax.serving.schemas import Limits

  keys = serving.read_keys(args.api_key_file, os.environ)
  settings = serving.Settings(
      host=args.host, port=args.port, slots=args.slots, max_queue=args.max_queue,
      drain_s=args.drain_s, api_keys=keys, access_log=not args.no_access_log)
  limits = Limits(
      max_tokens=args.max_tokens, max_rows=args.slots, max_body_bytes=args.max_body_kb * 1024,
      timeout_s=args.timeout_s,
      beam_sizes=None if args.warm == 'none' else tuple(args.beam_sizes))
  serving.log_to_stderr()
  server = serving.Server(
      lambda: _open(args), settings, limits, args.name, lambda made: _announce(args, made))
  terminal.note(f'{server.url}: loading {args.model_dir}')
  if not server.local and not keys:
    terminal.note(f'warning: {args.host} can be reached from other machines, and no API key is '
                  'asked for; see --api_key_file')
  server.run()
  if server.stuck:
    # The interpreter's own end would wait for a thread in a call of XLA, or crash.
    sys.stdout.flush()
    os._exit(0)
  return 0


def _check(args: argparse.Namespace) -> None:
  for name, least, most in (('port', 0, 65535), ('slots', 1, 4096), ('max_queue', 0, 10**6),
                            ('max_tokens', 1, 10**5), ('max_body_kb', 1, 10**6)):
    value = getattr(args, name)
    if not least <= value <= most:
      raise UsageError(f'--{name} is not possible.', got=value, expected=f'{least} to {most}')
  for size in args.beam_sizes:
    most = min(args.slots, MAX_BEAM_SIZE)
    if not 2 <= size <= most:
      raise UsageError('--beam_sizes is not possible.', got=size,
                       expected=f'2 to {most}; a beam has a slot')
  for name in ('timeout_s', 'drain_s'):
    if not 0 < getattr(args, name) < 10**6:
      raise UsageError(f'--{name} is not possible.', got=getattr(args, name),
                       expected='seconds, more than 0')


def _open(args: argparse.Namespace) -> Any:
  from flanjax.inference.text import TextGenerator
  from flanjax.serving import warming
  from flanjax.training import compilation

  generator = TextGenerator.open(
      args.model_dir, slots=args.slots, max_decode_steps=args.max_tokens,
      max_inputs_length=args.max_inputs_length, too_long=args.too_long,
      vocabulary=args.vocabulary, few_lengths=True)
  if args.warm == 'all':
    # Of many programs the small ones count as well, when the server is started again.
    compilation.keep_small_programs()
    began = time.monotonic()
    with terminal.bar('compiling') as progress:
      progress.restart(0)
      warming.warm(generator, args.beam_sizes, progress)
    terminal.note(f'all programs compiled in {time.monotonic() - began:.0f} s: no request will '
                  'wait for one')
  return generator


def _announce(args: argparse.Namespace, server: Any) -> None:
  """On stdout, for a program that has started us and waits."""
  facts = {'url': server.url, 'model': server.service.name, 'port': server.port}
  print(json.dumps(facts) if args.json else f'{server.url}: serving {server.service.name}',
        flush=True)
