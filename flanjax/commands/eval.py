"""`flanjax eval`: a tuned model and the one it came from, on tasks zero-shot and few-shot."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.commands import common, eval_plan, vocabulary_check
from flanjax.commands.train import check_choice, check_lengths
from flanjax.errors import UserError
from flanjax.interop import model_folders

MODES = ('generate', 'rank')
FEW_SHOT = ('one_shot', 'two_shot', 'three_shot', 'five_shot', 'ten_shot', 'multi_shot')
_DEFAULT_LENGTHS = {'inputs': 512, 'targets': 128}


@dataclasses.dataclass
class EvalRun:
  """An evaluation as gin configures it; `gin/runs/eval.gin` says what each field means."""

  checkpoint_path: str
  mixture_or_task_name: str | Sequence[str] | None = None
  module: str | Sequence[str] | None = None
  output_dir: str | None = None
  untuned_checkpoint_path: str | None = None
  task_feature_lengths: Mapping[str, int] | None = None
  split: str = 'test'
  num_examples: int | None = None
  num_templates: int | None = None
  modes: Sequence[str] = MODES
  dev_num_examples: int = 0
  seen_templates: int = 0
  seen_num_examples: int | None = 100
  option_orders: int = 0
  label_wordings: bool = False
  variant_templates: int | None = None
  untuned_few_shot: str | None = None
  few_shot_inputs_length: int = 1024
  batch_size: int = 32
  on_missing: str = 'error'
  untuned: bool = True

  def __post_init__(self):
    self.modes = (self.modes,) if isinstance(self.modes, str) else tuple(self.modes)
    for mode in self.modes:
      check_choice('MODES', mode, MODES)
    check_choice('ON_MISSING', self.on_missing, ('error', 'skip'))
    if self.untuned_few_shot is not None:
      check_choice('UNTUNED_FEW_SHOT', self.untuned_few_shot, FEW_SHOT)
    if self.task_feature_lengths is not None:
      check_lengths(self.task_feature_lengths, 'EvalRun')
    if not isinstance(self.option_orders, int) or self.option_orders < 0:
      raise UserError('OPTION_ORDERS is how many other orders of options to ask in.',
                      got=repr(self.option_orders), expected='0 for none, 1, 2, ...')
    if self.dev_num_examples and self.split == 'validation':
      raise UserError('The best template would be chosen on the examples that it is scored on.',
                      where='DEV_NUM_EXAMPLES', got="SPLIT = 'validation'",
                      expected="another split to report, or DEV_NUM_EXAMPLES = 0")
    for name in ('num_examples', 'num_templates', 'seen_num_examples', 'variant_templates'):
      value = getattr(self, name)
      if value is not None and (not isinstance(value, int) or value < 1):
        raise UserError(f'{name.upper()} must be at least 1, or None for all.', got=repr(value))

  @property
  def modules(self) -> list[str]:
    return [self.module] if isinstance(self.module, str) else list(self.module or ())

  @property
  def names(self) -> list[str]:
    names = self.mixture_or_task_name
    return [names] if isinstance(names, str) else list(names or ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax eval --gin_file=runs/eval.gin --gin.CHECKPOINT_PATH="\'/tmp/run\'" \\\n'
      '    --gin.MIXTURE_OR_TASK_NAME="\'flan2021_holdout_nli_eval\'" --gin.NUM_EXAMPLES=100\n'))
  common.add_gin_flags(parser)
  common.add_flags(parser, 'module', 'json', 'workdir')


def configure(args: argparse.Namespace) -> EvalRun:
  """The evaluation that a command line describes. Reads gin files and no other."""
  from flanjax import gin_files

  files = args.gin_file or ['runs/eval.gin']
  config = gin_files.load(files, args.gin_bindings, common.search_paths(args))
  settings = gin_files.construct(EvalRun)
  settings.module = [*settings.modules, *args.module, *config.modules]
  return settings


def run(args: argparse.Namespace) -> int:
  settings = configure(args)
  tuned = model_folders.find(settings.checkpoint_path, 'CHECKPOINT_PATH')
  common.import_tensorflow()
  common.load_tasks(
      [*settings.modules, *tuned.run.get('modules', ())], vocabulary_check.name_for(tuned))
  out = common.writable(settings.output_dir or tuned.folder / 'eval')
  return _evaluate(args, settings, tuned, out)


def _untuned(settings: EvalRun, tuned: model_folders.Opened) -> model_folders.Opened | None:
  """What a run began from, where that is a checkpoint, of the same vocabulary."""
  from flanjax import terminal

  origin = settings.untuned_checkpoint_path or tuned.run.get('initial_checkpoint')
  if not origin:
    return None
  found = model_folders.find(origin, 'UNTUNED_CHECKPOINT_PATH')
  try:
    vocabulary_check.before_evaluation({'untuned': found, 'tuned': tuned}, (), {})
  except UserError:
    if settings.untuned_checkpoint_path:
      raise
    terminal.note('The model that the run began from has another vocabulary: it is left out.')
    return None
  return found


def _predictors(
    settings: EvalRun, tuned: model_folders.Opened, tasks: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
  """'tuned' and 'untuned', the second where it is wanted and known what the run began from.

  And of each {path, step} of its checkpoint.
  """
  import jax

  from flanjax.evaluation import predict
  from flanjax.models import t5
  from flanjax.training import checkpoints, compilation

  compilation.use_cache()
  before = _untuned(settings, tuned) if settings.untuned else None
  opened = {'tuned': tuned} | ({'untuned': before} if before else {})
  models = {name: model_folders.model_of(found) for name, found in opened.items()}
  vocabulary_check.before_evaluation(opened, tasks, {
      name: m.config.vocab_size - m.config.vocab_padding for name, m in models.items()})
  model = models['tuned']
  params, step = checkpoints.restore_params(tuned.path)
  places = {'tuned': {'path': tuned.path, 'step': step}}
  made = {'tuned': predict.Predictor(model, params, batch_size=settings.batch_size)}
  if not settings.untuned:
    return made, places
  if before:
    params, step = checkpoints.restore_params(before.path)
    places['untuned'] = {'path': before.path, 'step': step}
    made['untuned'] = predict.Predictor(
        models['untuned'], params, batch_size=settings.batch_size)
  elif 'seed' in tuned.run and not tuned.run.get('initial_checkpoint'):
    base = t5.EncoderDecoderModel(model.config.base)
    seed = tuned.run['seed']
    params = base.init(jax.random.key(seed))
    places['untuned'] = {'path': f'drawn at random, seed {seed}', 'step': 0}
    made['untuned'] = predict.Predictor(base, params, batch_size=settings.batch_size)
  return made, places


def _drawn(folder: pathlib.Path) -> list[str]:
  """The SeqIO tasks that a run drew examples of."""
  path = folder / 'train' / 'audit.json'
  rows = json.loads(path.read_text())['tasks'] if path.is_file() else ()
  return [row['task'] for row in rows if row['examples']]


def _tell_detectable(settings: EvalRun, plan: eval_plan.Plan) -> tuple[dict[str, Any], ...]:
  """Says what differences this evaluation is likely to show, and returns it."""
  from flanjax import terminal
  from flanjax.evaluation import power

  found, unknown = eval_plan.detectable([
      (plan.tasks, settings.split, settings.num_examples),
      (plan.seen, settings.split, settings.seen_num_examples)])
  if found:
    terminal.note(power.text(found))
  if unknown:
    terminal.note(f'how many examples there are is known when they are read: {", ".join(unknown)}')
  return tuple(power.as_data(found))


def _evaluate(
    args: argparse.Namespace, settings: EvalRun, tuned: model_folders.Opened, out: pathlib.Path
) -> int:
  from flanjax import terminal
  from flanjax.evaluation import records, score
  from flanjax.training import logs

  plan = eval_plan.make(settings, tuned.run, _drawn(tuned.folder))
  predictors, places = _predictors(settings, tuned, plan.tasks + plan.seen)
  lengths = dict(settings.task_feature_lengths or tuned.run.get('task_feature_lengths')
                 or _DEFAULT_LENGTHS)
  variants = [score.Variant(name, p) for name, p in predictors.items()]
  roles = {name: name for name in predictors}
  if settings.untuned_few_shot and 'untuned' in predictors:
    name = f"untuned, {settings.untuned_few_shot.replace('_', '-')}"
    roles[name] = 'few-shot'
    places[name] = places['untuned']
    few_lengths = dict(lengths, inputs=max(settings.few_shot_inputs_length, lengths['inputs']))
    variants.append(score.Variant(
        name, predictors['untuned'], f'_{settings.untuned_few_shot}',
        sequence_length=few_lengths))
  told = _tell_detectable(settings, plan)
  info = records.EvalInfo(
      holdout=tuned.run.get('holdout'), models=roles, split=settings.split,
      num_examples=settings.num_examples, excluded=plan.excluded, trained=plan.trained,
      seed=tuned.run.get('seed'), checkpoints=places, command=tuple(logs.redacted(sys.argv)),
      detectable=told)
  info.write(out / 'eval.json')
  zero_shot = [v for v in variants if not v.task_suffix]
  rounds = [
      ('evaluating', variants, plan.tasks, settings.split, settings.num_examples, 'records'),
      ('evaluating seen clusters', zero_shot, plan.seen, settings.split,
       settings.seen_num_examples, 'records'),
      ('choosing templates', zero_shot, plan.dev, 'validation',
       settings.dev_num_examples, 'dev_records'),
      ('asking with options in other orders and words', zero_shot, plan.varied, settings.split,
       settings.num_examples, 'variant_records'),
  ]
  count = 0
  for label, who, tasks, split, num_examples, folder in rounds:
    if not tasks or num_examples == 0:
      continue
    with terminal.bar(label) as progress:
      count += len(score.evaluate(
          who, tasks, lengths, split=split, num_examples=num_examples, records_dir=out / folder,
          progress=progress))
  common.answer(args, {'output_dir': str(out), 'records': count, 'tasks': plan.tasks + plan.seen},
                f'{count:,} records of {len(plan.tasks + plan.seen)} SeqIO tasks: {out}\n'
                f'report: flanjax report {out.parent}')
  return 0
