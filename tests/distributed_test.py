"""Tests of joining a cluster, and of two processes that train as one."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from flanjax import distributed, errors

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def compilations(tmp_path_factory):
  return tmp_path_factory.mktemp('xla')


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def _start(folder, compilations, processes, steps, waits=()):
  """Processes of four devices in all; those of `waits` give no batch 3."""
  environment = {
      **os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': str(compilations),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={4 // processes} '
                   '--xla_backend_optimization_level=0'}
  address = f'127.0.0.1:{_free_port()}'
  return [
      subprocess.Popen(
          [sys.executable, ROOT / 'tests' / 'process_program.py', folder, address, str(processes),
           str(i), str(steps), '3' if i in waits else '-1', '10' if waits else '200'],
          env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
      for i in range(processes)]


def _finish(processes) -> None:
  for process in processes:
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]


def _losses(folder) -> list[float]:
  return [json.loads(line)['loss'] for line in (folder / 'train' / 'log.jsonl').open()]


def test_two_processes_train_as_one_and_go_on_from_their_checkpoint(tmp_path, compilations):
  _finish(_start(tmp_path / 'one', compilations, 1, 4))
  _finish(_start(tmp_path / 'two', compilations, 2, 2))
  assert [p.name for p in (tmp_path / 'two' / 'checkpoints').iterdir()] == ['2']
  _finish(_start(tmp_path / 'two', compilations, 2, 4))
  expected = _losses(tmp_path / 'one')
  assert len(expected) == 4
  np.testing.assert_allclose(_losses(tmp_path / 'two'), expected, rtol=1e-6)


@pytest.mark.parametrize('lost', [0, 1])
def test_losing_a_process_ends_the_other_with_an_error(tmp_path, compilations, lost):
  processes = _start(tmp_path, compilations, 2, 20, waits=[lost])
  try:
    while not (tmp_path / 'waiting').exists() and all(p.poll() is None for p in processes):
      time.sleep(0.1)
    processes[lost].kill()
    _, told = processes[1 - lost].communicate(timeout=120)
  finally:
    for process in processes:
      process.kill()
      process.wait()
  # Ours where a collective fails, jax's own and status 134 where it is faster.
  assert processes[1 - lost].returncode in (1, -6)
  assert 'cannot reach each other any more' in told or 'another task died' in told, told[-3000:]


def test_a_process_alone_joins_no_cluster(monkeypatch):
  for name in ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES'):
    monkeypatch.delenv(name, raising=False)
  assert distributed.initialize() is False
  with pytest.raises(errors.UsageError, match='index of this one'):
    distributed.initialize('localhost:1234')


@pytest.mark.parametrize('variables', [
    {'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'}, {'OMPI_COMM_WORLD_SIZE': '4'},
    {'TPU_WORKER_HOSTNAMES': 'a,b'}, None])
def test_a_cluster_is_joined(monkeypatch, variables):
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args, **_: calls.append(args))
  for name, value in (variables or {}).items():
    monkeypatch.setenv(name, value)
  explicit = () if variables else ('localhost:1234', 2, 1)
  assert distributed.initialize(*explicit) is True
  assert calls == [explicit]
