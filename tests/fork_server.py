"""Has imported what takes seconds, and forks for every program asked for; see forked.

Arguments: the path of its socket, and the modules to import, whose backends must not be started by
that. It ends when its standard input does.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys


def serve(path):
  """Forks for each connection; -> in the fork, what to run."""
  with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print('ready', flush=True)
    while True:
      heard, _, _ = select.select([listener, sys.stdin], [], [])
      if sys.stdin in heard:
        return None
      connection, _ = listener.accept()
      with connection:
        if not os.fork():
          signal.signal(signal.SIGCHLD, signal.SIG_DFL)
          listener.close()
          return mind(connection)


def mind(connection):
  """Forks again, and tells how that ends; -> in the second fork, what to run."""
  header, fds, _, _ = socket.recv_fds(connection, 8, 2)
  with connection.makefile('rb') as file:
    request = json.loads(file.read(int.from_bytes(header, 'little')))
  pid = os.fork()
  if not pid:
    for target, fd in enumerate((os.open(os.devnull, os.O_RDONLY), *fds)):
      os.dup2(fd, target)
    return request
  connection.sendall(f'{pid}\n'.encode())
  status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  connection.sendall(f'{status}\n'.encode())
  os._exit(0)


def become(argv, environment, cwd):
  """Runs what `python *argv` would run, here."""
  for name in sorted(n for n in {*os.environ, *environment} if n.startswith('JAX_')):
    assert os.environ.get(name) == environment.get(name), f'{name} was read when jax was imported'
  os.environ.clear()
  os.environ.update(environment)
  sys.path[:0] = environment.get('PYTHONPATH', '').split(os.pathsep)
  if cwd:
    os.chdir(cwd)
  what, *rest = argv
  if what == '-m':
    sys.argv, sys.path[:0] = rest, ['']
    runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
  else:
    sys.argv, sys.path[:0] = argv, [os.path.dirname(what)]
    runpy.run_path(what, run_name='__main__')


if __name__ == '__main__':
  for module in sys.argv[2:]:
    importlib.import_module(module)
  program = serve(sys.argv[1])
  if program:
    become(**program)
