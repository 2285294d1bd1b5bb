"""Tests of joining a cluster, and of two processes that train as one."""

import json
import pathlib
import socket
import time

import forked
import jax
import numpy as np
import pytest

from flanjax import distributed, errors

PROGRAM = pathlib.Path(__file__).with_name('process_program.py')


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def _start(folder, processes, steps, waits=()):
  """Processes of four devices in all; those of `waits` give no batch 3."""
  address = f'127.0.0.1:{_free_port()}'
  return [
      forked.start(
          [PROGRAM, folder, address, processes, i, steps, 3 if i in waits else -1, 10 if waits else 200],
          env=forked.devices(4 // processes))
      for i in range(processes)]


def _finish(processes) -> None:
  for process in processes:
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]


def _losses(folder) -> list[float]:
  return [json.loads(line)['loss'] for line in (folder / 'train' / 'log.jsonl').open()]


def test_two_processes_train_as_one_and_go_on_from_their_checkpoint(tmp_path):
  _finish(_start(tmp_path / 'one', 1, 4))
  _finish(_start(tmp_path / 'two', 2, 2))
  assert [p.name for p in (tmp_path / 'two' / 'checkpoints').iterdir()] == ['2']
  _finish(_start(tmp_path / 'two', 2, 4))
  expected = _losses(tmp_path / 'one')
  assert len(expected) == 4
  np.testing.assert_allclose(_losses(tmp_path / 'two'), expected, rtol=1e-6)


@pytest.mark.parametrize('lost', [0, 1])
def test_losing_a_process_ends_the_other_with_an_error(tmp_path, lost):
  processes = _start(tmp_path, 2, 20, waits=[lost])
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
