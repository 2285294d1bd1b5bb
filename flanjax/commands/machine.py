"""The devices that a run is for: those that are here, or others that a user asks about."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

from flanjax.errors import UsageError

_UNITS = {'': 1, 'K': 1e3, 'M': 1e6, 'G': 1e9, 'T': 1e12}
_BINARY = {'KI': 2**10, 'MI': 2**20, 'GI': 2**30, 'TI': 2**40}


@dataclasses.dataclass(frozen=True)
class Machine:
  """Devices to compute with that need not be there.

  Attributes:
    devices: how many; None: those of this process and its peers.
    per_host: how many of them a host has; None: all.
    memory: bytes of one; None: not known.
    kind: as jax calls one; '': not known.
    abstract: whether they are not there.
  """

  devices: int | None = None
  per_host: int | None = None
  memory: int | None = None
  kind: str = ''
  abstract: bool = True

  @classmethod
  def of(cls, args: argparse.Namespace) -> Machine:
    """What `--devices` and `--device_memory` say, and else what is here."""
    memory = parse_size(args.device_memory) if args.device_memory else None
    if args.devices:
      return cls(*parse_devices(args.devices), memory, abstract=args.dry_run != 'compile')
    import jax

    from flanjax.training import memory as memory_lib

    return cls(jax.device_count(), jax.local_device_count(), memory or memory_lib.device_memory(),
               jax.devices()[0].device_kind, abstract=False)


def parse_devices(text: str) -> tuple[int, int | None]:
  """-> devices in all, and on each host.

  >>> parse_devices('8'), parse_devices('4x8')
  ((8, None), (32, 8))
  """
  match = re.fullmatch(r'(?:(\d+)x)?(\d+)', text)
  if not match or 0 in (hosts := int(match[1] or 1), each := int(match[2])):
    raise UsageError('--devices cannot be understood.', got=text,
                     expected='a number, or hosts x devices of each: --devices=4x8')
  return hosts * each, each if match[1] else None


def parse_size(text: str) -> int:
  """Bytes.

  >>> parse_size('80GB'), parse_size('16GiB'), parse_size('1.5e9')
  (80000000000, 17179869184, 1500000000)
  """
  match = re.fullmatch(r'([\d.]+(?:e\d+)?)\s*([KMGT]?I?)B?', text.strip().upper().replace('E', 'e'))
  try:
    return int(float(match[1]) * (_UNITS | _BINARY)[match[2]])
  except (TypeError, KeyError, ValueError) as e:
    raise UsageError('--device_memory cannot be understood.', got=text,
                     expected='a size such as 80GB or 16GiB') from e


def mesh_of(make: Any, trainer: Any, rows: int, lengths: Any, machine: Machine | None) -> Any:
  """The mesh of a run.

  Args:
    make: `partitioning.make_mesh` as gin configures it, or a mesh.
    trainer: the run's, on any mesh: it knows what is trained and how.
    rows: of a batch.
    lengths: {'inputs': n, 'targets': n}.
    machine: the devices; None: those that are here.
  """
  from flanjax import gin_files
  from flanjax.training import memory as memory_lib

  if not callable(make):
    return make
  if machine is not None:
    limit = machine.memory
  else:
    import jax

    limit = memory_lib.agreed_device_memory() if jax.device_count() > 1 else None
    if limit is None:
      return gin_files.call(make)
  need = memory_lib.need(
      trainer.abstract_state(), trainer.model.config, rows, lengths,
      trainer.layout.num_microbatches, limit)
  if machine is None:
    return gin_files.call(make, need=need)
  devices = machine.devices if machine.abstract else None
  return gin_files.call(make, need=need, devices=devices, per_host=machine.per_host)
