"""Runs that are killed and stopped, in processes of their own: a program, run by faults_test.py.

`faulty_runs.py kills FOLDER N` kills N runs at random moments. Everything is imported once; each run
is a fork, made before jax has started anything. `faulty_runs.py stopped FOLDER WHEN` is one run that
gets a SIGTERM. Both print what was seen as JSON.
"""

import ctypes
import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time

import jax
import numpy as np
import toy_training
from orbax import checkpoint as ocp

from flanjax.commands import common
from flanjax.training import checkpoints, interrupts, loop, saving

STEPS, PERIOD = 60, 3


def trainer(folder, source, **arguments):
  arguments = {'total_steps': STEPS, 'saving': saving.Saving(PERIOD, keep=2), **arguments}
  return loop.Trainer(toy_training.toy_model(dropout_rate=0.1), toy_training.toy_optimizer(),
                      model_dir=folder, batch_source=source, log_period=1, seed=3, **arguments)


class Slow(toy_training.ToySource):
  """Calls `at(step)` before each batch."""

  def __init__(self, at=lambda step: time.sleep(0.02)):
    super().__init__()
    self._at = at

  def batch(self, step, rows=None):
    self._at(step)
    return super().batch(step, rows)


def run(folder, after, delay, log):
  """Trains in a fork, killed `delay` seconds after its checkpoints went `after` steps; its status."""
  sys.stdout.flush()
  pid = os.fork()
  if pid:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  status = 1
  try:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    newest = lambda: max(checkpoints.steps_in(folder), default=0)
    start, armed = newest(), []

    def at(step):
      if after is not None and not armed and newest() - start >= after:
        armed.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)))
        armed[0].start()
      time.sleep(0.02)

    trainer(folder, Slow(at)).run()
    status = 0
  finally:
    os._exit(status)


def outcome(folder):
  """Everything that a run ends with, short enough to be compared."""
  lines = [json.loads(line) for line in (folder / 'train' / 'log.jsonl').open()]
  checkpointer = checkpoints.Checkpointer(folder)
  metadata = checkpointer._manager.item_metadata(STEPS)
  restored = checkpointer._manager.restore(STEPS, args=ocp.args.Composite(
      params=ocp.args.StandardRestore(), opt_state=ocp.args.StandardRestore()))
  checkpointer.close()
  assert metadata['params'] is not None
  leaves = jax.tree.leaves((restored.params, restored.opt_state))
  return {
      'losses': [(line['step'], line['loss'], line['accuracy']) for line in lines],
      'state': hashlib.sha256(b''.join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest(),
      'audit': json.loads((folder / 'train' / 'audit.json').read_text()),
      'folders': sorted(p.name for p in (folder / 'checkpoints').iterdir()),
  }


def kills(folder, count):
  log, moments = folder / 'log', random.Random(7)
  statuses = {'undisturbed': run(folder / 'undisturbed', None, 0, log)}
  seen = []
  for _ in range(count):
    status = run(folder / 'killed', moments.choice([0, 3, 3]), moments.uniform(0, 0.4), log)
    names = sorted(p.name for p in (folder / 'killed').glob('checkpoints/*'))
    seen.append({'status': status, 'checkpoints': names})
  statuses['killed'] = run(folder / 'killed', None, 0, log)
  return {'statuses': statuses, 'kills': seen,
          **{name: outcome(folder / name) for name in statuses}}


class Blocking:
  """An evaluator that ends its process with a signal, and then does not come back."""

  period, names = 4, ('loss',)

  def __call__(self, step, params):
    send_and_hang()

  def missing(self, step):
    return True


def send_and_hang():
  """As XLA's compiler would: in C, where no handler of Python's can run."""
  print(f'signal at {time.monotonic():.1f} s', file=sys.stderr, flush=True)
  os.kill(os.getpid(), signal.SIGTERM)
  ctypes.CDLL(None).sleep(300)


def stopped(folder, when):
  """A run that gets a SIGTERM; exits as `flanjax train` does."""
  arguments, at = {}, lambda step: None
  if when == 'compiling':
    compiled = interrupts.Program._compiled

    def slow(self, state, batch):
      # The first program is compiled; batches of another shape come with step 5.
      if self._programs:
        send_and_hang()
      return compiled(self, state, batch)

    interrupts.Program._compiled = slow
  if when == 'validating':
    arguments['evaluator'] = Blocking()
  if when == 'waiting':
    at = lambda step: send_and_hang() if step == 5 else None
  if when == 'writing':
    finalize, sent = ocp.StandardCheckpointHandler.finalize, []

    def interrupted(self, directory):
      if not sent:
        sent.append(os.kill(os.getpid(), signal.SIGTERM))
        time.sleep(0.5)
      finalize(self, directory)

    ocp.StandardCheckpointHandler.finalize = interrupted
    at = lambda step: time.sleep(0.05)
  source = Slow(at)
  if when == 'compiling':
    batch = source.batch
    source.batch = lambda step, rows=None: (
        {k: np.pad(v, ((0, 0), (0, 2))) for k, v in batch(step, rows).items()} if step >= 5
        else batch(step, rows))
  job = trainer(folder, source, **arguments)
  state = job.run()
  print(json.dumps({'step': int(state.step), 'left': job.left}), flush=True)
  print(f'end at {time.monotonic():.1f} s', file=sys.stderr, flush=True)
  return common.stopped(job, int(state.step)) if job.interrupted else 0


if __name__ == '__main__':
  what, where, how = sys.argv[1:]
  if what == 'kills':
    print(json.dumps(kills(pathlib.Path(where), int(how))))
  else:
    sys.exit(stopped(pathlib.Path(where), how))
