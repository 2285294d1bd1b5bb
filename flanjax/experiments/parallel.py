"""Several workers on one machine: processes that take cells until none is left."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from flanjax.commands import common

_GPUS = pathlib.Path('/proc/driver/nvidia/gpus')


def run(argv: Sequence[str], count: int) -> None:
  """Runs `count` workers to their end; each has its part of the GPUs, or of the cores.

  Raises:
    ChildFailed: one of them ended otherwise than by itself; the others were stopped.
  """
  workers = []
  try:
    for share in shares(count, gpus(), cores()):
      environment, affinity = share
      before = _affinity(affinity)
      try:
        workers.append(common.start_child(argv, accelerator=True, **environment))
      finally:
        _affinity(before)
    statuses = [_wait(worker) for worker in workers]
  except BaseException:
    for worker in workers:
      worker.terminate()
    for worker in workers:
      worker.wait()
    raise
  bad = [s for s in statuses if s]
  if bad:
    raise common.ChildFailed(bad[0] if bad[0] > 0 else 1)


def _wait(worker) -> int:
  worker.stdout.read()
  return worker.wait()


def shares(
    count: int, devices: Sequence[str], processors: Sequence[int]
) -> list[tuple[Mapping[str, str], set[int] | None]]:
  """(environment, cores) of each worker.

    2 workers, GPUs 0 1 2 3   CUDA_VISIBLE_DEVICES=0,2 and 1,3
    2 workers, one GPU        both have it, and take memory as they need it
    2 workers, cores 0 1      one each
  """
  found = []
  for i in range(count):
    if devices:
      own = devices[i::count] or [devices[i % len(devices)]]
      environment = {'CUDA_VISIBLE_DEVICES': ','.join(own)}
      if count > len(devices):
        environment['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
      found.append((environment, None))
    else:
      own = processors[i::count] or [processors[i % len(processors)]] if processors else []
      found.append(({}, set(own) or None))
  return found


def gpus() -> list[str]:
  """The NVIDIA GPUs that this process may use."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [d for d in visible.split(',') if d.strip() and d.strip() != '-1']
  if os.environ.get('JAX_PLATFORMS', '').startswith('cpu') or not _GPUS.is_dir():
    return []
  return [str(i) for i, _ in enumerate(sorted(_GPUS.iterdir()))]


def cores() -> list[int]:
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return []


def _affinity(wanted: set[int] | None) -> set[int] | None:
  """Sets the cores that children will have; -> those of before."""
  if wanted is None or not hasattr(os, 'sched_setaffinity'):
    return None
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, wanted)
  return before
