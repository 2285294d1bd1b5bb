"""`flanjax train`: prepares what is missing in a process of its own, then trains.

Nothing here, or in what it imports, may import TensorFlow: a training host may not have it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from flanjax.commands import audit_mixture, common, dry_run, vocabulary_check
from flanjax.commands import machine as machines
from flanjax.commands.machine import Machine
from flanjax.commands.train_data import TOO_LONG, Data
from flanjax.errors import UsageError, UserError, nearest
from flanjax.input import pieces, remote
from flanjax.interop import tokenizer_files
from flanjax.interop.model_folders import find_checkpoint, mini_base  # noqa: F401 (re-exported)

ON_MISSING = ('error', 'skip')
_VOCAB_MULTIPLE = 128


@dataclasses.dataclass
class TrainRun:
  """A run as gin configures it; `gin/runs/finetune.gin` says what each field means."""

  model: Any
  optimizer: Any
  trainer_cls: Callable[..., Any]
  mesh: Any
  model_dir: str
  mixture_or_task_name: str
  task_feature_lengths: Mapping[str, int]
  total_steps: int
  batch_size: int
  module: str | list[str] | None = None
  vocabulary: str | None = None
  initial_checkpoint_path: str | None = None
  random_seed: int | None = 0
  prepared_dir: str | None = None
  on_missing: str = 'error'
  too_long: str = 'truncate'
  max_bad_examples: int = 0
  use_prepared: bool = True
  holdout: str | None = None
  pack: bool = True
  mixing: Any = None
  mixture_changes: Mapping[int, str] | None = None
  eval_period: int = 0
  eval_steps: int = 20
  reporting: Any = None

  def __post_init__(self):
    texts = ('model_dir', 'mixture_or_task_name', 'vocabulary', 'initial_checkpoint_path',
             'prepared_dir', 'holdout')
    for name in texts:
      value = getattr(self, name)
      if value is not None and not isinstance(value, str):
        raise UserError(f'{name} must be a text.', where='TrainRun', got=repr(value),
                        hint="texts need quotes of their own: --gin.NAME=\"'text'\"")
    for name in ('total_steps', 'batch_size', 'eval_steps'):
      _check_number(name, getattr(self, name), 1)
    _check_number('eval_period', self.eval_period, 0)
    self.random_seed = 0 if self.random_seed is None else self.random_seed
    _check_number('random_seed', self.random_seed, 0)
    check_lengths(self.task_feature_lengths, 'TrainRun')
    for step, name in (self.mixture_changes or {}).items():
      _check_number('a step of mixture_changes', step, 1)
      if not isinstance(name, str):
        raise UserError('mixture_changes must name mixtures.', where='TrainRun', got=repr(name))
    check_choice('ON_MISSING', self.on_missing, ON_MISSING)
    check_choice('TOO_LONG', self.too_long, TOO_LONG)
    _check_number('max_bad_examples', self.max_bad_examples, 0)

  @property
  def modules(self) -> list[str]:
    return [self.module] if isinstance(self.module, str) else list(self.module or ())


def _check_number(name: str, value: Any, least: int) -> None:
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise UserError(f'{name} must be a whole number of at least {least}.', where='TrainRun',
                    got=repr(value))


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
  """UserError unless `value` is one of `known`."""
  if value not in known:
    raise UserError(f'{name} has no choice {value!r}.', hint=nearest(str(value), known))


def check_lengths(lengths: Any, where: str) -> None:
  """UserError unless `lengths` is {'inputs': n, 'targets': n} with n above zero."""
  good = isinstance(lengths, Mapping) and set(lengths) == {'inputs', 'targets'} and all(
      isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in lengths.values())
  if not good:
    raise UserError('TASK_FEATURE_LENGTHS cannot be used.', where=where, got=lengths,
                    expected="{'inputs': n, 'targets': n} with n of at least 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax train --gin_file=models/t5_1_1/tiny.gin --gin_file=runs/finetune.gin \\\n'
      '    --gin.MIXTURE_OR_TASK_NAME="\'flan2021_holdout_nli_train\'" \\\n'
      '    --gin.MODEL_DIR="\'/tmp/run\'" --gin.TRAIN_STEPS=200 --gin.VOCABULARY="\'bytes\'"\n'))
  common.add_gin_flags(parser)
  look = parser.add_argument_group('looking at a run')
  look.add_argument('--show_batch', nargs='?', const=0, type=int, metavar='N', help=(
      'print batch N (default: the first, 0) decoded, and do not train'))
  look.add_argument('--show_rows', type=int, default=8, metavar='N', help=(
      'rows of it to print (default: 8)'))
  look.add_argument('--debug_nans', action='store_true', help=(
      'stop at the first step that is not finite and name the layer and tensor (slower)'))
  look.add_argument('--profile', metavar='FIRST:LAST', help=(
      'write a trace of these steps into MODEL_DIR/profile, as --profile=10:15'))
  dry_run.add_arguments(parser)
  cluster = parser.add_argument_group('several hosts (found by itself on TPU pods and SLURM)')
  cluster.add_argument('--coordinator_address', metavar='HOST:PORT')
  cluster.add_argument('--process_count', type=int, metavar='N')
  cluster.add_argument('--process_index', type=int, metavar='N')
  common.add_flags(parser, 'holdout', 'module', 'json', 'seed', 'workdir')


def run(args: argparse.Namespace) -> int:
  if not args.gin_file:
    raise UsageError('No configuration is given.', where='flanjax train', expected=(
        '--gin_file=models/t5_1_1/tiny.gin --gin_file=runs/finetune.gin'))
  from flanjax import distributed
  from flanjax.commands import show_batch
  from flanjax.training import reporting as reporting_lib

  if args.dry_run:
    return dry_run.run(args)
  distributed.initialize(
      args.coordinator_address, args.process_count, args.process_index)
  settings = configure(args)
  if args.show_batch is not None:
    data = Data.of(settings)
    return show_batch.run(args, data.source(settings), data.manifests[0])
  if args.profile:
    settings.reporting = reporting_lib.profiled(
        settings.reporting, args.profile, settings.total_steps)
  initial = find_checkpoint(settings.initial_checkpoint_path)
  common.writable(settings.model_dir)
  data = Data.of(settings)
  return _train(args, settings, data, initial)


def configure(args: argparse.Namespace) -> TrainRun:
  """The run that a command line describes. Reads gin files and no other."""
  return rehearsed(args)[0]


def rehearsed(
    args: argparse.Namespace, machine: Machine | None = None,
    fallbacks: Mapping[str, str] | None = None,
) -> tuple[TrainRun, Any]:
  """`configure`, and a trainer that has all but data; its mesh is that of the run.

  Args:
    args: of the command line.
    machine: devices that need not be there; None: those of this process.
    fallbacks: macros and what they are where nothing gives them a value.
  """
  from flanjax import gin_files, partitioning

  config = gin_files.load(
      args.gin_file, args.gin_bindings, common.search_paths(args), fallbacks)
  _apply_flags(args)
  settings = _construct(vocab_size=gin_files.macro('VOCAB_SIZE') or 32128)
  settings.module = [*settings.modules, *args.module, *config.modules]
  make_mesh, settings.mesh = settings.mesh, partitioning.make_mesh(devices=1)
  trainer = rehearse(settings)
  settings.mesh = machines.mesh_of(
      make_mesh, trainer, settings.batch_size, settings.task_feature_lengths, machine)
  return settings, trainer if machine is None else rehearse(settings)


def rehearse(settings: TrainRun) -> Any:
  """UserError for what the trainer would refuse, before anything is prepared or compiled."""
  from flanjax import gin_files
  from flanjax.commands import validation

  evaluator = validation.Validation(settings, None, None, '') if settings.eval_period else None
  return gin_files.call(
      settings.trainer_cls, settings.model, settings.optimizer, model_dir=settings.model_dir,
      total_steps=settings.total_steps, batch_source=None, mesh=settings.mesh,
      evaluator=evaluator)


def _apply_flags(args: argparse.Namespace) -> None:
  from flanjax import gin_files

  if getattr(args, 'debug_nans', False):
    gin_files.set_macro('DEBUG_NANS', True)
  if args.seed is not None:
    gin_files.set_macro('RANDOM_SEED', args.seed)
  if args.holdout is not None:
    gin_files.set_macro('HOLDOUT', args.holdout)


def _construct(vocab_size: int) -> TrainRun:
  """The run as gin has it, the model with `vocab_size` where the configuration leaves it open."""
  from flanjax import gin_files

  if gin_files.macro('VOCAB_SIZE') is None:
    gin_files.set_macro('VOCAB_SIZE', vocab_size)
    try:
      return gin_files.construct(TrainRun)
    finally:
      gin_files.set_macro('VOCAB_SIZE', None)
  return gin_files.construct(TrainRun)


def fitted(settings: TrainRun, manifest: Any) -> TrainRun:
  """The run with a model for the vocabulary of its data.

  Constructed anew: the configuration written down is that of the run, not that of the first look
  at it.
  """
  rows = -(-manifest.vocab_size // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
  return dataclasses.replace(
      _construct(rows), module=settings.module, reporting=settings.reporting, mesh=settings.mesh)


def _train(
    args: argparse.Namespace, settings: TrainRun, data: Data, initial: str | None
) -> int:
  import gin

  from flanjax import terminal
  from flanjax.commands import validation
  from flanjax.training import checkpoints

  manifest = data.manifests[0]
  holdout = _holdout(settings, manifest)
  for later in data.manifests.values():
    _holdout(dataclasses.replace(settings, holdout=holdout), later)
  settings = fitted(settings, manifest)
  vocabulary_check.before_training(settings, data.manifests, initial)
  source = data.source(settings)
  if source.num_batches is not None and source.num_batches < settings.total_steps:
    terminal.note(f'the mixture ends after {source.num_batches:,} steps, and training with it')
    settings = dataclasses.replace(settings, total_steps=source.num_batches)
  folder = remote.resolved(settings.model_dir)
  fresh = not checkpoints.steps_in(folder)
  # A run that trains a part of the parameters needs the others when it goes on, too.
  read = functools.partial(read_params, initial) if initial else None
  if fresh and not initial:
    terminal.note('No INITIAL_CHECKPOINT_PATH: training begins at random parameters.')
  validation_source = data.validation(settings)
  make_trainer = functools.partial(
      settings.trainer_cls, settings.model, settings.optimizer, model_dir=folder,
      batch_source=source, mesh=settings.mesh, seed=settings.random_seed, initial_params=read,
      reporting=settings.reporting,
      model_info={'initial_checkpoint': initial, **pieces.Identity.of(manifest).entries})
  describe = functools.partial(
      _describe, folder, settings, data, audit_mixture.settings_of(source), holdout, initial,
      gin.operative_config_str())
  # A run that cannot be resumed with these settings keeps the description that it has.
  if fresh:
    describe()
  trainer, state = validation.train(
      settings, make_trainer, validation_source, folder, manifest.mixture)
  if not fresh:
    describe()
  if trainer.interrupted:
    return common.stopped(trainer, int(state.step))
  terminal.note(trainer.clock.summary())
  common.answer(args, {'model_dir': str(folder), 'step': int(state.step),
                       'manifest': str(manifest.path)},
                f'trained to step {int(state.step)}: {folder}')
  if trainer.failed_evaluations:
    raise UserError('The run is complete, but evaluations of it failed.',
                    got=f'at steps {list(trainer.failed_evaluations)}',
                    where=', '.join(map(str, trainer.failed_evaluations.values())),
                    hint='the files named here say why')
  return 0


def read_params(path: str) -> Any:
  """The parameters of a checkpoint that `find_checkpoint` found."""
  from flanjax.training import checkpoints

  return checkpoints.restore_params(path)[0]


def _holdout(settings: TrainRun, manifest: Any) -> str | None:
  """The cluster withheld, which no task of the mixture may be of."""
  said = re.search(r'_holdout_(\w+)_train', manifest.mixture)
  holdout = settings.holdout or (said and said[1])
  inside = [t.name for t in manifest.tasks if t.cluster == holdout]
  if holdout and inside:
    raise UserError(f"The mixture holds tasks of the held-out cluster '{holdout}'.",
                    where=f'mixture {manifest.mixture}', got=', '.join(inside),
                    hint=f'train on a mixture without it, such as SUITE_holdout_{holdout}_train')
  return holdout


def _describe(folder, settings, data, batches, holdout, initial, config: str) -> None:
  """Writes config.gin and run.json: what it takes to repeat the run, and to evaluate it."""
  import jax

  if jax.process_index():
    return
  manifest = data.manifests[0]
  description = {
      'mixture': manifest.mixture,
      'mixture_manifest': os.fspath(manifest.path) if manifest.path else None,
      'mixture_changes': {step: m.mixture for step, m in data.manifests.items() if step},
      'batches': batches,
      'holdout': holdout,
      **pieces.Identity.of(manifest).entries,
      'task_feature_lengths': dict(settings.task_feature_lengths),
      'initial_checkpoint': initial,
      'seed': settings.random_seed,
      'modules': settings.modules,
      'skipped': dict(manifest.skipped),
  }
  tokenizer_files.keep(manifest.vocabulary, folder)
  (folder / 'run.json').write_text(json.dumps(description, indent=2) + '\n')
  (folder / 'config.gin').write_text(config)
