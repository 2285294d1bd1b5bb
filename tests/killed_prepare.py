"""Prepares that are killed, in processes that can be: a program, run by prepare_kill_test.py.

TensorFlow is imported once; each prepare is a fork, made before TensorFlow has run anything, with a
process group of its own. Prints what was seen as JSON.
"""

import functools
import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import time

import seqio
import tensorflow as tf

from flanjax.data import (
    TaskSpec, Template, metrics, mixtures, prepare, register, vocabularies, worker_process)

LENGTHS = {'inputs': 48, 'targets': 24}
TASKS, ROWS, PAUSE_S = 14, 24, 0.12
ALL, FEW = 'killed_all_train', 'killed_only_few_train'


def _rows(split, shuffle_files, seed=None, *, name):
  del shuffle_files, seed

  def lines():
    for i in range(ROWS):
      time.sleep(PAUSE_S / ROWS)
      yield f'{name} {split} {i}'

  return tf.data.Dataset.from_generator(lines, output_signature=tf.TensorSpec([], tf.string)).map(
      lambda line: {'line': line})


def _fields(example):
  return {'text': example['line'], 'answer': tf.strings.upper(example['line'])}


def register_all():
  vocabularies.set_default('bytes')
  for k in range(TASKS):
    source = seqio.FunctionDataSource(
        functools.partial(_rows, name=f'k{k:02d}'), ['train'], num_input_examples={'train': ROWS + k % 3})
    register(TaskSpec(f'k{k:02d}', 'few' if k < 3 else 'many', source, _fields, [Template('Say {text}', '{answer}')],
                      [metrics.accuracy], suite='killed'))
  mixtures.register_suite_mixtures('killed')


def start(root, num_workers, log, mixture=ALL):
  """A prepare in a process group of its own; returns its id."""
  sys.stdout.flush()
  pid = os.fork()
  if pid:
    return pid
  status = 1
  try:
    os.setpgid(0, 0)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    worker_process.START_METHOD = 'fork'
    prepare.prepare(mixture, LENGTHS, output_dir=root, num_workers=num_workers)
    status = 0
  except BaseException as e:
    print(type(e), e, flush=True)
  finally:
    os._exit(status)


def wait(pid):
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def content(root):
  """Path -> hash and, to notice what was made again, inode, of everything that has a final name."""
  files = [p for p in pathlib.Path(root).rglob('*') if p.is_file()]
  shown = {str(p.relative_to(root)): p for p in files}
  return {
      name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_ino)
      for name, p in shown.items() if '/.' not in f'/{name}'
  }


def finished(root):
  return len([p for p in pathlib.Path(root).glob('k*/[0-9a-f]*') if p.name[0] != '.'])


def kill_often(root, kills, log):
  """Kills prepares at random moments, some after a task was finished; what each left."""
  moments, seen = random.Random(0), []
  for _ in range(kills):
    enough = finished(root) + moments.choice([0, 0, 1])
    pid = start(root, moments.choice([1, 2]), log)
    until(lambda: finished(root) >= enough or not living(pid))
    time.sleep(moments.uniform(0, 2 * PAUSE_S))
    if living(pid):
      os.killpg(pid, signal.SIGKILL)
    seen.append({'status': wait(pid), 'content': content(root)})
  return seen


def until(condition):
  deadline = time.monotonic() + 600
  while not condition() and time.monotonic() < deadline:
    time.sleep(0.005)


def living(group):
  """Processes of a group that have not ended."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      state, _, pgrp = path.read_text().rpartition(')')[2].split()[:3]
    except OSError:
      continue
    found += [int(path.parent.name)] if int(pgrp) == group and state not in 'ZX' else []
  return found


def orphans(root, log):
  """Kills a prepare but not its workers; how many of these there were, and are soon after."""
  pid = start(root, 2, log, FEW)
  until(lambda: len(living(pid)) == 3)
  before = len(living(pid)) - 1
  os.kill(pid, signal.SIGKILL)
  wait(pid)
  until(lambda: not living(pid))
  return before, len(living(pid))


def main():
  folder, kills = pathlib.Path(sys.argv[1]), int(sys.argv[2])
  register_all()
  log, answer = folder / 'log', {}

  def ended(name, *pids):
    statuses = [wait(pid) for pid in pids]
    hidden = [str(p) for p in (folder / name).rglob('.*')]
    return {'statuses': statuses, 'content': content(folder / name), 'hidden': hidden}

  answer['undisturbed'] = ended('undisturbed', start(folder / 'undisturbed', 1, log))
  answer['kills'] = kill_often(folder / 'killed', kills, log)
  answer['killed'] = ended('killed', start(folder / 'killed', 2, log))
  answer['both'] = ended('both', *(start(folder / 'both', 1, log, FEW) for _ in range(2)))
  answer['orphans'] = orphans(folder / 'orphans', log)
  print(json.dumps(answer))


if __name__ == '__main__':
  main()
