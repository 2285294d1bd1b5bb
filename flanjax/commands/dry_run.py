"""`flanjax train --dry_run`: what a run would be on a machine, without data and without devices."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flanjax import terminal
from flanjax.commands import common
from flanjax.commands.machine import Machine

# What a run must have and a dry run needs not.
FALLBACKS = {'MODEL_DIR': "'dry_run'", 'MIXTURE_OR_TASK_NAME': "'dry_run'", 'TRAIN_STEPS': '1'}
CHOICES = ('estimate', 'compile')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('asking whether a run fits')
  group.add_argument('--dry_run', nargs='?', const='estimate', choices=CHOICES, help=(
      'print mesh, shardings, memory and FLOPs, and do not train; no data is needed. '
      '--dry_run=compile asks the compiler for the memory of a step (slower)'))
  group.add_argument('--devices', metavar='N', help=(
      'with --dry_run: as if there were N devices, or hosts x devices: --devices=4x8'))
  group.add_argument('--device_memory', metavar='SIZE', help=(
      'with --dry_run: memory of one device, as 80GB (default: what the device says)'))


def run(args: argparse.Namespace) -> int:
  from flanjax.commands import train

  compiles = args.dry_run == 'compile'
  if args.devices and compiles:
    _pretend(args.devices)
  machine = Machine.of(args)
  settings, trainer = train.rehearsed(args, machine, FALLBACKS)
  plan = make(settings, trainer, machine)
  if compiles:
    plan['memory']['compiled'] = compiled(settings, trainer)
  common.answer(args, plan, text(plan, settings))
  return 0


def _pretend(devices: str) -> None:
  """Makes CPU devices for the compiler; before jax starts."""
  import jax

  from flanjax.commands.machine import parse_devices

  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', parse_devices(devices)[0])


def make(settings: Any, trainer: Any, machine: Machine) -> dict[str, Any]:
  """The plan of a run as plain data: mesh, rules, parameters, memory, flops."""
  from flanjax import meshes
  from flanjax.training import memory as memory_lib

  state, layout = trainer.abstract_state(), trainer.layout
  used = memory_lib.estimate(
      state, trainer.model.config, layout.mesh, settings.batch_size,
      settings.task_feature_lengths, layout.num_microbatches, layout.shards_length)
  limit = machine.memory
  return {
      'mesh': {name: layout.mesh.shape[name] for name in meshes.AXES},
      'device': {'count': layout.mesh.size, 'kind': machine.kind, 'memory': limit},
      'batch': {'rows': settings.batch_size, 'num_microbatches': layout.num_microbatches,
                **settings.task_feature_lengths},
      'axis_rules': [rule._asdict() for rule in layout.rules],
      'parameters': [*_rows(state.params, True), *_rows(state.frozen, False)],
      'memory': {**dataclasses.asdict(used), 'total': used.total, 'limit': limit,
                 'fits': None if limit is None else used.total <= meshes.USABLE * limit},
      'flops': _flops(settings, trainer, state, layout.mesh.size, machine.kind),
  }


def _rows(tree: Any, trained: bool) -> list[dict[str, Any]]:
  """One row for parameters that differ in the number of their layer alone."""
  import jax

  from flanjax.training import memory as memory_lib

  rows: dict[tuple, dict[str, Any]] = {}
  for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = re.sub(r'layers_\d+', 'layers_*', jax.tree_util.keystr(path, simple=True, separator='/'))
    cut = _cuts(x.sharding.spec, x.sharding.mesh.shape, len(x.shape))
    key = (name, x.shape, str(x.dtype), cut)
    row = rows.setdefault(key, {
        'name': name, 'count': 0, 'shape': list(x.shape), 'dtype': str(x.dtype),
        'sharding': cut, 'bytes_per_device': 0, 'trained': trained})
    row['count'] += 1
    row['bytes_per_device'] += memory_lib.bytes_per_device(x)
  return list(rows.values())


def _cuts(spec: Any, sizes: Mapping[str, int], dimensions: int) -> str:
  """Each dimension's mesh axes of more than one device.

  >>> _cuts((None, ('data', 'fsdp')), {'data': 2, 'fsdp': 4}, 3)
  '-, data+fsdp, -'
  """
  names = [(a,) if isinstance(a, str) else a or () for a in spec]
  names += [()] * (dimensions - len(names))
  return ', '.join('+'.join(a for a in axes if sizes[a] > 1) or '-' for axes in names)


def _flops(settings: Any, trainer: Any, state: Any, devices: int, kind: str) -> dict[str, Any]:
  from flanjax.models import flops

  lengths = settings.task_feature_lengths
  step = flops.step(trainer.model.config, settings.batch_size, lengths['inputs'],
                    lengths['targets'], weights_trained=not state.frozen)
  peak = flops.peak(kind)
  return {'step': step, 'device': step / devices, 'peak_per_second': peak,
          'seconds_at_peak': peak and step / devices / peak}


def compiled(settings: Any, trainer: Any) -> dict[str, int]:
  """Bytes per device as XLA's compiler has them; the step is compiled and not run."""
  import jax
  import jax.numpy as jnp

  from flanjax import partitioning

  lengths, where = settings.task_feature_lengths, partitioning.batch_sharding(trainer.layout.mesh)
  partitioning.check_batch(
      trainer.layout.mesh, settings.batch_size, trainer.layout.num_microbatches)
  array = lambda side, dtype=jnp.int32: jax.ShapeDtypeStruct(
      (settings.batch_size, lengths[side]), dtype, sharding=where)
  batch = {'decoder_loss_weights': array('targets', jnp.float32)}
  batch |= {f'encoder_{x}': array('inputs') for x in ('input_tokens', *_packing(settings))}
  batch |= {f'decoder_{x}': array('targets') for x in (
      'target_tokens', 'input_tokens', *_packing(settings))}
  with terminal.bar('compiling') as bar:
    bar(0, 1)
    analysis = trainer.lower_step(batch).compile().memory_analysis()
    bar(1, 1)
  return {'arguments': analysis.argument_size_in_bytes, 'temporary': analysis.temp_size_in_bytes,
          'outputs': analysis.output_size_in_bytes, 'aliased': analysis.alias_size_in_bytes,
          'total': (analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
                    + analysis.output_size_in_bytes - analysis.alias_size_in_bytes)}


def _packing(settings: Any) -> tuple[str, ...]:
  return ('segment_ids', 'positions') if settings.pack else ()


def text(plan: Mapping[str, Any], settings: Any) -> str:
  """The plan for people."""
  mesh, device, batch = plan['mesh'], plan['device'], plan['batch']
  shape = ' x '.join(f'{name}={n}' for name, n in mesh.items())
  kind = f" {device['kind']}" if device['kind'] else ''
  shown = [{**row, 'shape': ' x '.join(map(str, row['shape'])),
            'bytes_per_device': terminal.size(row['bytes_per_device']),
            'trained': '' if row['trained'] else 'frozen'} for row in plan['parameters']]
  columns = {'name': 'parameter', 'count': 'n', 'shape': 'shape', 'dtype': 'dtype',
             'sharding': 'cut over', 'bytes_per_device': 'per device', 'trained': ''}
  rules = [{k: _axes(v) for k, v in rule.items()} for rule in plan['axis_rules']]
  return '\n'.join([
      f"mesh: {shape}, {device['count']}{kind} device(s)",
      f"batch: {batch['rows']} rows of {batch['inputs']} + {batch['targets']} tokens"
      + (f" in {batch['num_microbatches']} microbatches" if batch['num_microbatches'] > 1 else ''),
      '', terminal.table(rules, {'axis': 'logical axis', 'parameters': 'parameters cut over',
                                 'activations': 'activations cut over'}),
      '', terminal.table(shown, columns),
      '', *_memory_lines(plan['memory']),
      '', *_flops_lines(plan['flops']),
  ])


def _axes(value: Any) -> str:
  return '-' if value is None else value if isinstance(value, str) else ' + '.join(value)


def _memory_lines(memory: Mapping[str, Any]) -> list[str]:
  names = {'params': 'parameters', 'frozen': 'frozen parameters',
           'opt_state': 'optimizer state', 'gradients': 'gradients',
           'stacked': 'layers stacked to be scanned', 'activations': 'activations (estimate)',
           'total': 'in all'}
  rows = [{'what': label, 'size': terminal.size(memory[key])}
          for key, label in names.items() if memory[key]]
  lines = terminal.table(rows, {'what': 'memory per device', 'size': ''}).splitlines()
  if 'compiled' in memory:
    parts = memory['compiled']
    lines.append(f"as compiled: {terminal.size(parts['total'])}, of which "
                 f"{terminal.size(parts['temporary'])} within a step")
  if memory['limit'] is None:
    return [*lines, 'whether it fits is not known: --device_memory=80GB says what there is']
  verdict = 'fits' if memory['fits'] else 'does not fit'
  return [*lines, f"{verdict}: a device has {terminal.size(memory['limit'])}"]


def _flops_lines(flops: Mapping[str, Any]) -> list[str]:
  lines = [f"FLOPs of a step: {flops['step']:.3g}, of each device {flops['device']:.3g}"]
  if flops['seconds_at_peak']:
    lines.append(f"at least {flops['seconds_at_peak']:.3g} s a step, at the devices' peak of "
                 f"{flops['peak_per_second']:.3g} FLOP/s")
  return lines
