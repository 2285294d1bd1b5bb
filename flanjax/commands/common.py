"""What the verbs share: common flags, answers, task modules, child processes."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from absl import logging as absl_logging

from flanjax import terminal
from flanjax.errors import UserError, nearest
from flanjax.input import remote

SUITES = ('mini', 'flan2021')
_PARENT = 'FLANJAX_PARENT'
_PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
  """A child process failed and has printed why."""

  def __init__(self, status: int):
    super().__init__(f'child process ended with status {status}')
    self.status = status


def example(parser: argparse.ArgumentParser, text: str) -> None:
  """Ends a verb's help with an example."""
  parser.epilog = f'example:\n{text}'


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
  """Adds flags that mean the same in every verb: 'module', 'templates', 'json', 'seed', ...

  `--debug` is always added.
  """
  flags = {
      'module': dict(action='append', default=[], metavar='MODULE',
                     help='a Python module that registers tasks; may be repeated'),
      'templates': dict(action='append', default=[], metavar='PATH', help=(
          "a library of templates: FLAN's templates.py, or a file or folder of promptsource's; "
          'may be repeated')),
      'json': dict(action='store_true', help='answer on stdout as JSON'),
      'seed': dict(type=int, default=None, metavar='N', help='seed of everything random'),
      'workdir': dict(default=None, metavar='DIR',
                      help='where data is kept (default: $FLANJAX_CACHE or ~/.cache/flanjax)'),
      'holdout': dict(default=None, metavar='CLUSTER', help='the cluster withheld from training'),
      'debug': dict(action='store_true', help='show the traceback of an error'),
  }
  for name in (*names, 'debug'):
    parser.add_argument(f'--{name}', **flags[name])


def add_gin_flags(parser: argparse.ArgumentParser) -> None:
  """T5X's gin flags; `--gin.NAME=VALUE` is rewritten to `--gin_bindings` before parsing."""
  parser.add_argument('--gin_file', action='append', default=[], metavar='FILE',
                      help='a gin file, yours or shipped; may be repeated, later ones win')
  parser.add_argument('--gin_bindings', action='append', default=[], metavar='BINDING',
                      help='a line of gin; may be repeated')
  parser.add_argument('--gin.NAME', metavar='VALUE', dest='gin_name', default=None,
                      help="sets a gin macro or parameter, as --gin.TRAIN_STEPS=200; strings need "
                      "quotes of their own: --gin.MODEL_DIR=\"'/tmp/run'\"")
  parser.add_argument('--gin_search_paths', default='', metavar='DIRS',
                      help='folders to look for gin files in, separated by commas')
  parser.add_argument('--tfds_data_dir', metavar='DIR', help='sets TFDS_DATA_DIR')


def search_paths(args: argparse.Namespace) -> list[str]:
  return [p for p in args.gin_search_paths.split(',') if p]


def default_workdir() -> pathlib.Path:
  return pathlib.Path(os.environ.get('FLANJAX_CACHE') or '~/.cache/flanjax').expanduser()


def set_up(args: argparse.Namespace) -> None:
  """Applies the common flags to this process and its children."""
  if getattr(args, 'workdir', None):
    os.environ['FLANJAX_CACHE'] = str(writable(args.workdir))
  if getattr(args, 'tfds_data_dir', None):
    os.environ['TFDS_DATA_DIR'] = str(pathlib.Path(args.tfds_data_dir).expanduser().absolute())
  if not args.debug:
    silence_libraries()


def silence_libraries() -> None:
  """Leaves the terminal to our own messages."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  absl_logging.set_verbosity(absl_logging.ERROR)
  for name in ('jax', 'tensorflow', 'orbax'):
    logging.getLogger(name).setLevel(logging.ERROR)
  # A checkpoint that finds no room is one warning of ours; here it would be one per array.
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)


def writable(folder: str | os.PathLike[str]) -> remote.AnyPath:
  """`folder`, made where it is missing; it may be in a store.

  Raises:
    UserError: nothing can be written there.
  """
  path = remote.resolved(folder)
  if remote.is_remote(folder):
    remote.check_writable(folder)
    return path
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as e:
    raise UserError('A folder cannot be written.', where=str(path), got=e.strerror,
                    hint='name another one, or change its permissions') from e
  return path


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file, whole or not at all.

  Raises:
    UserError: it cannot be written.
  """
  temporary = path.with_name(f'.{path.name}-{os.getpid()}')
  try:
    temporary.write_text(text)
    os.replace(temporary, path)
  except OSError as e:
    raise UserError('A file cannot be written.', where=str(path.absolute()),
                    got=e.strerror or str(e)) from e
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)


def stopped(trainer: Any, step: int) -> int:
  """Says how to go on; -> 128 + the signal's number, which shells and schedulers know.

  Of a run with a thread left in a call that cannot be stopped, such as XLA's compiler, the
  process ends here: the interpreter's own end would wait for it, or crash.
  """
  name = trainer.interrupted
  terminal.note(f'{name}: stopped at step {step}; the same command goes on from there')
  status = 128 + signal.Signals[name]
  if trainer.left:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
  return status


def answer(args: argparse.Namespace, data: Any, text: str) -> None:
  """Prints the answer of a verb: `data` as JSON where asked for, else `text`."""
  print(json.dumps(data, indent=2, ensure_ascii=False) if args.json else text, flush=True)


def import_modules(modules: Iterable[str]) -> None:
  """Imports modules of a user, looked for in the current folder too.

  Raises:
    UserError: there is no such module, or it fails.
  """
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  for name in modules:
    try:
      importlib.import_module(name)
    except UserError:
      raise
    except ModuleNotFoundError as e:
      if e.name and (name == e.name or name.startswith(e.name + '.')):
        near = [p.stem for p in pathlib.Path().glob('*.py')]
        raise UserError(f"There is no module '{name}'.", where='--module', hint=(
            f'in this folder: {nearest(name, near)}; modules elsewhere need PYTHONPATH')) from e
      raise _broken(name, e) from e
    except Exception as e:  # Anything may go wrong in a user's code.
      raise _broken(name, e) from e


def _broken(name: str, e: Exception) -> UserError:
  frame = traceback.extract_tb(e.__traceback__)[-1]
  return UserError(f"The module '{name}' cannot be imported.",
                   where=f'{frame.filename}:{frame.lineno}', got=f'{type(e).__name__}: {e}',
                   hint='--debug shows the traceback')


@contextlib.contextmanager
def native_code_muted() -> Iterator[None]:
  """Keeps back what native code and child processes write to stderr, unless something fails.

  TensorFlow greets in every process, whatever TF_CPP_MIN_LOG_LEVEL says. Python's own stderr,
  progress bars and errors, stays where it is.
  """
  shown, kept = sys.stderr, os.dup(2)
  shown.flush()
  if _is_stderr(shown):
    sys.stderr = os.fdopen(os.dup(kept), 'w', buffering=1)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
    try:
      yield
    except (UserError, KeyboardInterrupt):
      raise
    except BaseException:
      file.seek(0)
      os.write(kept, file.read())
      raise
    finally:
      os.dup2(kept, 2)
      os.close(kept)
      sys.stderr = shown


def _is_stderr(stream: Any) -> bool:
  try:
    return stream.fileno() == 2
  except (AttributeError, OSError, ValueError):
    return False


def import_tensorflow() -> None:
  """Imports TensorFlow without its greetings, and leaves the accelerator to jax."""
  with native_code_muted():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 (it greets as well)
  tf.config.set_visible_devices([], 'GPU')


def load_tasks(
    modules: Iterable[str] = (), vocabulary: str | None = None, templates: Iterable[str] = ()
) -> None:
  """Imports the shipped suites and `modules`, and registers the mixtures of what they add.

  Args:
    modules: modules of a user.
    vocabulary: the vocabulary of every suite; None: each suite's own.
    templates: libraries of templates, for the tasks there are by then.
  """
  import_tensorflow()
  from flanjax.data import mixtures, specs, template_libraries, vocabularies

  if vocabulary:
    vocabularies.set_default(vocabulary)
  import_modules(f'flanjax.tasks.{suite}' for suite in SUITES)
  before = {s.name for s in specs.all_specs()}
  import_modules(modules)
  for suite in sorted({s.suite for s in specs.all_specs() if s.name not in before}):
    mixtures.register_suite_mixtures(suite)
  for path in templates:
    left_out = template_libraries.load(path).left_out
    if left_out:
      reasons = list(dict.fromkeys(left_out.values()))
      more = f' and {len(reasons) - 3} more' if len(reasons) > 3 else ''
      print(f'{path}: {len(left_out)} left out: {"; ".join(reasons[:3])}{more}', file=sys.stderr)


def end_with_parent() -> None:
  """In a child of `run_child`: asks Linux for SIGTERM when the parent dies, however it does."""
  parent = os.environ.pop(_PARENT, None)
  if parent and sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
      raise ChildFailed(1)


def start_child(
    argv: Sequence[str], module: str = 'flanjax.cli', accelerator: bool = False,
    keep_open: Sequence[int] = (), stderr: int | None = None, **environment: str,
) -> subprocess.Popen:
  """Starts what `run_child` runs; its JSON answer comes by the pipe `stdout`."""
  command = [sys.executable, '-m', module, *argv, '--json']
  hidden = {} if accelerator else {'CUDA_VISIBLE_DEVICES': '-1', 'JAX_PLATFORMS': 'cpu'}
  return subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=stderr, pass_fds=tuple(keep_open),
      env={**os.environ, **hidden, **environment, _PARENT: str(os.getpid())})


def run_child(
    argv: Sequence[str], module: str = 'flanjax.cli', accelerator: bool = False,
    keep_open: Sequence[int] = (), tell: Callable[[str], None] | None = None, **environment: str,
) -> Any:
  """Runs a verb in a process of its own and returns its JSON answer.

  The child writes progress and errors to our stderr, and ends when we do.

  Args:
    argv: the verb and its arguments.
    module: the module to run.
    accelerator: whether the child may use the accelerator.
    keep_open: file descriptors that the child inherits.
    tell: gets the lines of progress and errors, which then are not written.
    **environment: variables to set.

  Raises:
    ChildFailed: with the child's exit status.
  """
  stderr = subprocess.PIPE if tell else None
  child = start_child(argv, module, accelerator, keep_open, stderr, **environment)
  try:
    with _heard(child, tell):
      output = child.stdout.read()
      child.wait()
  except KeyboardInterrupt:
    # It was told as well, and may be writing a checkpoint.
    child.stdout.read()
    child.wait()
    raise
  except BaseException:
    child.terminate()
    child.stdout.read()
    child.wait()
    raise
  finally:
    child.stdout.close()
  if child.returncode:
    raise ChildFailed(child.returncode if child.returncode > 0 else 1)
  return json.loads(output)


@contextlib.contextmanager
def _heard(child: subprocess.Popen, tell: Callable[[str], None] | None) -> Iterator[None]:
  """Gives what a child says to `tell`, line by line."""
  if tell is None:
    yield
    return

  def listen():
    for line in child.stderr:
      tell(line.decode(errors='replace').rstrip('\n'))

  listener = threading.Thread(target=listen, daemon=True)
  listener.start()
  try:
    yield
  finally:
    # A grandchild that was left behind may hold the pipe.
    listener.join(timeout=5 if child.poll() is not None else 0)


def repeat(flag: str, values: Iterable[str]) -> list[str]:
  """['--flag', a, '--flag', b]."""
  return [word for value in values for word in (flag, value)]
