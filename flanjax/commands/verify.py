"""`flanjax verify`: the equalities that a trainer must keep, measured on a run's own configuration."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError

CHECKS = ('packing', 'microbatches', 'devices', 'checkpoints')
_STEPS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
  common.example(parser, (
      '  flanjax verify --gin_file=models/t5_1_1/tiny.gin --gin_file=runs/finetune.gin\n'))
  common.add_gin_flags(parser)
  parser.add_argument('--rows', type=int, metavar='N', help=(
      "rows of a batch (default: 8, or what the run's mesh and microbatches divide)"))
  parser.add_argument('--devices', type=int, default=8, metavar='N', help=(
      'on a CPU: as many devices are made of it (default: 8)'))
  parser.add_argument('--checks', nargs='+', choices=CHECKS, default=CHECKS, metavar='CHECK',
                      help=f"some of: {', '.join(CHECKS)} (default: all)")
  parser.add_argument('--scratch', metavar='DIR', help=(
      'a folder with room for four checkpoints, which are removed at the end (default: of the '
      'system, for temporary files)'))
  common.add_flags(parser, 'module', 'json', 'seed', 'workdir', 'holdout')


def run(args: argparse.Namespace) -> int:
  from flanjax.commands import dry_run, train
  from flanjax.training import compilation

  if not args.gin_file:
    raise UsageError('No configuration is given.', where='flanjax verify', expected=(
        '--gin_file=models/t5_1_1/tiny.gin --gin_file=runs/finetune.gin'))
  _make_devices(args.devices)
  compilation.use_cache()
  settings, trainer = train.rehearsed(args, fallbacks=dry_run.FALLBACKS)
  settings = dataclasses.replace(settings, batch_size=_rows(args.rows, trainer.layout))
  settings, source = _with_data(settings)
  checks = []
  with terminal.bar('verifying') as bar:
    for done, made in enumerate(_checks(args, settings, source)):
      checks += made
      bar(done + 1, len(args.checks))
  found = [{**dataclasses.asdict(c), 'holds': c.holds} for c in checks]
  common.answer(args, {'model': dataclasses.asdict(settings.model.config), 'checks': found},
                text(checks, settings))
  return 0 if all(c.holds for c in checks) else 1


def _make_devices(count: int) -> None:
  """Before jax starts; other devices than the CPU's are taken as they are."""
  import jax

  if count < 1:
    raise UsageError('--devices must be at least 1.', got=count)
  jax.config.update('jax_num_cpu_devices', count)


def _rows(wanted: int | None, layout: Any) -> int:
  from flanjax import partitioning

  import jax

  unit = math.lcm(partitioning.row_parts(layout.mesh), jax.device_count()) * layout.num_microbatches
  if wanted is None:
    return max(8, unit)
  if wanted < 1 or wanted % unit:
    raise UsageError('--rows does not divide over the devices.', got=wanted,
                     expected=f'a multiple of {unit}')
  return wanted


def _with_data(settings: Any) -> tuple[Any, Any]:
  """The settings, the model for their vocabulary, and batches: the mixture's, or made up."""
  from flanjax.commands import dry_run, train
  from flanjax.commands.train_data import Data
  from flanjax.input import synthetic

  unknown = dry_run.FALLBACKS['MIXTURE_OR_TASK_NAME'].strip("'")
  if settings.mixture_or_task_name == unknown:
    return settings, synthetic.SyntheticSource(
        settings.batch_size, settings.task_feature_lengths, settings.model.config.vocab_size,
        settings.random_seed, settings.pack)
  data = Data.of(settings)
  fitted = train.fitted(settings, data.manifests[0])
  settings = dataclasses.replace(fitted, batch_size=settings.batch_size)
  return settings, data.source(settings)


def _checks(args: argparse.Namespace, settings: Any, source: Any) -> Iterator[list[Any]]:
  """The checks asked for, a list of them at a time."""
  import jax

  from flanjax import gin_files
  from flanjax.commands import train
  from flanjax.training import reporting, saving, verification

  initial = train.find_checkpoint(settings.initial_checkpoint_path)
  with tempfile.TemporaryDirectory(prefix='flanjax_verify_', dir=args.scratch) as scratch:
    folder = pathlib.Path(scratch)
    make_trainer = functools.partial(
        gin_files.call, settings.trainer_cls, settings.model, settings.optimizer,
        batch_source=source, seed=settings.random_seed, saving=saving.Saving(), label='verifying',
        reporting=reporting.Reporting(tensorboard=False),
        initial_params=functools.partial(train.read_params, initial) if initial else None,
        model_info={'initial_checkpoint': initial})
    one = functools.partial(make_trainer, model_dir=folder / 'one', total_steps=1)
    batches = [source.batch(step) for step in range(_STEPS)]
    if {'packing', 'microbatches'} & set(args.checks):
      state = jax.device_get(one(mesh=_one_device()).initial_state())
    if 'packing' in args.checks and settings.pack:
      yield [verification.packing(settings.model, state.all_params, batches[0])]
    if 'microbatches' in args.checks:
      parts = max(2, one(mesh=settings.mesh).layout.num_microbatches)
      yield [verification.microbatches(
          settings.model, state.params, state.frozen, batches[0], parts)]
    if 'devices' in args.checks and jax.device_count() > 1:
      yield verification.meshes(one, _shapes(settings.model.config), batches)
    if 'checkpoints' in args.checks:
      yield verification.resuming(
          functools.partial(make_trainer, mesh=settings.mesh), folder / 'runs')


def _one_device() -> Any:
  import jax

  from flanjax import partitioning

  return partitioning.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def _shapes(config: Any) -> list[tuple[int, int, int]]:
  """Meshes of all devices: copies, parameters cut, and the work on a row shared."""
  import jax

  count = jax.device_count()
  model = math.gcd(count, config.num_heads)
  return list(dict.fromkeys([(count, 1, 1), (1, count, 1), (1, count // model, model)]))


def text(checks: Sequence[Any], settings: Any) -> str:
  """The checks for people."""
  rows = [{'name': c.name, 'compared': c.compared, 'difference': f'{c.difference:.1e}',
           'allowed': f'{c.allowed:.0e}' if c.allowed else 'no bit',
           'holds': 'holds' if c.holds else 'FAILS'} for c in checks]
  lengths = settings.task_feature_lengths
  failed = sum(not c.holds for c in checks)
  return '\n'.join([
      terminal.table(rows, {'name': 'equality', 'compared': 'compared', 'difference': 'difference',
                            'allowed': 'allowed', 'holds': ''}),
      f"{settings.batch_size} rows of {lengths['inputs']} + {lengths['targets']} tokens; "
      'a difference is the largest, relative to the largest value of its array',
      f'{failed} of {len(checks)} do not hold' if failed else f'all {len(checks)} hold'])
