"""Programs in processes of their own, which begin with jax, or TensorFlow too, imported.

Importing them takes seconds of a core, and dozens of tests need a process. Each process is a fork of
one that has imported modules and run nothing: no device, no thread of its own.
"""

import atexit
import functools
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
JAX = ('toy_training', 'flanjax.commands.train', 'flanjax.commands.verify', 'flanjax.commands.serve',
       'flanjax.training.loop', 'flanjax.training.verification', 'flanjax.inference.text')
TENSORFLOW = ('tensorflow_text', 'seqio', 'flanjax.data.prepare', *JAX)
_NUMBERS = itertools.count()


@functools.cache
def _server(modules):
  """The path of a server's socket."""
  folder = tempfile.TemporaryDirectory(prefix='flanjax-forks-')
  path = os.path.join(folder.name, 'socket')
  python_path = f'{ROOT}{os.pathsep}{ROOT / "tests"}'
  process = subprocess.Popen(
      [sys.executable, ROOT / 'tests' / 'fork_server.py', path, *modules], text=True,
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': python_path})

  @atexit.register
  def end():
    process.stdin.close()
    process.wait()
    folder.cleanup()

  assert process.stdout.readline() == 'ready\n'
  return path


class Child:
  """What runs; as a `subprocess.Popen` whose output is captured as text."""

  def __init__(self, argv, environment, cwd, modules):
    self._files = [tempfile.TemporaryFile('w+') for _ in range(2)]
    self._connection = socket.socket(socket.AF_UNIX)
    self._connection.connect(_server(modules))
    request = json.dumps({'argv': [str(a) for a in argv], 'cwd': cwd and str(cwd),
                          'environment': {k: str(v) for k, v in environment.items()}}).encode()
    header = len(request).to_bytes(8, 'little')
    socket.send_fds(self._connection, [header], [f.fileno() for f in self._files])
    self._connection.sendall(request)
    self._heard = b''
    self.pid, self.returncode = self._number(), None

  def _number(self):
    """The next line of the server's."""
    while b'\n' not in self._heard:
      said = self._connection.recv(100)
      assert said, 'the process that forks has ended'
      self._heard += said
    line, _, self._heard = self._heard.partition(b'\n')
    return int(line)

  def wait(self, timeout=None):
    if self.returncode is None:
      self._connection.settimeout(timeout)
      self.returncode = self._number()
      self._connection.close()
    return self.returncode

  def poll(self):
    try:
      return self.wait(0)
    except BlockingIOError:
      return None

  def kill(self):
    if self.poll() is None:
      os.kill(self.pid, signal.SIGKILL)

  def communicate(self, timeout=None):
    """-> what it wrote to stdout and stderr; TimeoutError if it has not ended by then."""
    self.wait(timeout)
    for file in self._files:
      file.seek(0)
    return tuple(file.read() for file in self._files)


def devices(count):
  """The environment in which jax makes so many devices of the processor."""
  return {**os.environ, 'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={count}'}


def start(argv, env=None, cwd=None, modules=JAX):
  """Starts `python *argv`; the text of a program after -c is put into a file."""
  if argv[0] == '-c':
    path = pathlib.Path(_server(modules)).with_name(f'program_{next(_NUMBERS)}.py')
    path.write_text(argv[1])
    argv = [path, *argv[2:]]
  return Child(argv, os.environ if env is None else env, cwd, modules)


def run(argv, env=None, cwd=None, modules=JAX, timeout=None):
  """Runs `python *argv`; as `subprocess.run` with its output captured as text."""
  child = start(argv, env, cwd, modules)
  try:
    return subprocess.CompletedProcess(argv, child.wait(timeout), *child.communicate())
  finally:
    child.kill()
