"""Joining the processes of one run, and ending with them when one of them is lost."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping

import jax

from flanjax import errors, terminal

# Seconds without a sign of life after which a process counts as lost, and that one which ends
# waits for the others. jax waits 100 and 300.
HEARTBEAT_SECONDS = 60
_SHUTDOWN_SECONDS = 30


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> bool:
  """Joins the processes of a cluster, if there is one; to be called before any other use of jax.

  A cluster is what the arguments say, or a TPU VM, or a SLURM or Open MPI job of several
  tasks. One process on its own is left alone.

  Returns:
    Whether `jax.distributed.initialize` was called.
  """
  limits = {'heartbeat_timeout_seconds': heartbeat_seconds,
            'shutdown_timeout_seconds': _SHUTDOWN_SECONDS}
  if coordinator_address is not None:
    if num_processes is None or process_id is None:
      raise errors.UsageError(
          'a coordinator address needs the number of processes and the index of this one',
          got=f'process_count={num_processes}, process_index={process_id}')
    jax.distributed.initialize(coordinator_address, num_processes, process_id, **limits)
    return True
  if not in_cluster(os.environ):
    return False
  jax.distributed.initialize(**limits)
  return True


def in_cluster(environ: Mapping[str, str]) -> bool:
  """Whether the environment is that of one process of several, which jax can find by itself."""
  several = lambda name: int(environ.get(name) or 1) > 1
  if several('SLURM_NTASKS') and 'SLURM_PROCID' in environ:
    return True
  if several('OMPI_COMM_WORLD_SIZE') or 'MEGASCALE_COORDINATOR_ADDRESS' in environ:
    return True
  if ',' in environ.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  # A Cloud TPU VM says nothing in its environment; there jax asks the metadata server.
  has_tpu = any(pathlib.Path(p).exists() for p in ('/dev/accel0', '/dev/vfio/0'))
  wanted = environ.get('JAX_PLATFORMS', 'tpu').startswith('tpu')
  return wanted and has_tpu and importlib.util.find_spec('libtpu') is not None


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Within it, a collective that fails because a process is gone ends this process, status 1.

  At once: whatever would be tidied up waits for the process that is gone. A process that waits
  for another outside of a collective is ended by jax, with status 134 and a message, when the
  seconds of `initialize` are over.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as e:
    if jax.process_count() == 1:
      raise
    terminal.print_error(errors.UserError(
        'The processes of this run cannot reach each other any more.',
        where=f'process {jax.process_index()} of {jax.process_count()}',
        got=str(e).partition('\n')[0][:300],
        hint='see what the others said last; the same command, started again on every host, '
             'goes on from the newest checkpoint'))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
