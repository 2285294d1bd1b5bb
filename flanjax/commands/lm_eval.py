"""`flanjax lm_eval`: a model under lm-evaluation-harness."""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
from typing import Any

from flanjax.commands import common
from flanjax.errors import UsageError, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, '  flanjax lm_eval --model_dir=/runs/no_nli --tasks rte boolq --limit 200\n')
  add = parser.add_argument
  add('--model_dir', required=True, metavar='DIR', help=(
      "a run's folder or checkpoint, a converted one, one of transformers or T5X, or 'mini'"))
  add('--tasks', required=True, nargs='+', metavar='TASK', help="of the harness, or of yours")
  add('--include_path', metavar='DIR', help="a folder with the YAML files of your own tasks")
  add('--num_fewshot', type=int, metavar='N', help='exemplars in a prompt (default: as the task says)')
  add('--limit', type=int, metavar='N', help='examples of each task (default: all)')
  add('--batch_size', type=int, default=16, metavar='N', help='default: %(default)s')
  add('--max_gen_toks', type=int, default=256, metavar='N', help=(
      'tokens of an answer where a task does not say (default: %(default)s)'))
  add('--max_inputs_length', type=int, metavar='N', help=(
      'the most tokens of a prompt, of which the end is kept (default: what the run trained '
      'with, or 512)'))
  add('--vocabulary', metavar='NAME', help='where the folder does not name it')
  add('--output', metavar='FILE', help='where results and samples are written, as JSON')
  common.add_flags(parser, 'json', 'seed', 'workdir')


def run(args: argparse.Namespace) -> int:
  for name in ('batch_size', 'max_gen_toks', 'limit'):
    value = getattr(args, name)
    if value is not None and value < 1:
      raise UsageError(f'--{name} must be at least 1.', got=value)
  if importlib.util.find_spec('lm_eval') is None:
    raise UserError('lm-evaluation-harness is not installed.', got='no module lm_eval',
                    hint="pip install 'flanjax[lm_eval]'")
  from flanjax.inference.harness import HarnessModel
  from flanjax.inference.text import TextGenerator

  generator = TextGenerator.open(
      args.model_dir, slots=args.batch_size, vocabulary=args.vocabulary,
      max_inputs_length=args.max_inputs_length, max_decode_steps=max(args.max_gen_toks, 1024))
  results = _evaluate(args, HarnessModel(generator, args.max_gen_toks, args.seed or 0))
  if args.output:
    common.write_text(pathlib.Path(args.output), json.dumps(results, indent=1, default=str) + '\n')
  from lm_eval import utils

  common.answer(args, {'results': results['results'], 'versions': results.get('versions')},
                utils.make_table(results))
  return 0


def _evaluate(args: argparse.Namespace, model: Any) -> dict[str, Any]:
  import lm_eval
  from lm_eval.tasks import TaskManager

  manager = TaskManager(include_path=args.include_path)
  unknown = [t for t in args.tasks if not manager.match_tasks([t])]
  if unknown:
    from flanjax.errors import nearest

    raise UserError(f"The harness has no task '{unknown[0]}'.", where='--tasks',
                    hint=nearest(unknown[0], manager.all_tasks))
  seed = {} if args.seed is None else dict.fromkeys(
      ('random_seed', 'numpy_random_seed', 'torch_random_seed', 'fewshot_random_seed'), args.seed)
  return lm_eval.simple_evaluate(
      model=model, tasks=args.tasks, num_fewshot=args.num_fewshot, limit=args.limit,
      batch_size=args.batch_size, task_manager=manager, bootstrap_iters=1_000, **seed)
