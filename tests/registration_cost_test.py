"""What registering every shipped task costs over importing SeqIO."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, resource, sys, threading
import flanjax.data, flanjax.data.mixtures, flanjax.data.specs, flanjax.data.metrics
import seqio

def memory():
  with open('/proc/self/statm') as f:
    return int(f.read().split()[1]) * resource.getpagesize() / 1e6

def threads():
  return len(os.listdir('/proc/self/task'))

memory()  # What it imports is not of the tasks.
before, threads_before, touched = memory(), threads(), []

def watch(event, args):
  if event.startswith('socket.') or event in ('os.mkdir', 'os.rename', 'subprocess.Popen'):
    touched.append([event, repr(args)])
  elif event == 'open' and not str(args[0]).endswith(('.py', '.pyc')) and args[0] != '/proc/self/statm':
    touched.append([event, repr(args)])

sys.addaudithook(watch)
import flanjax.tasks.flan2021, flanjax.tasks.mini
seen = list(touched)
print(json.dumps({
    'megabytes': memory() - before, 'threads': threads() - threads_before, 'touched': seen,
    'tasks': len(seqio.TaskRegistry.names()), 'mixtures': len(seqio.MixtureRegistry.names())}))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_registering_every_task_is_light_and_touches_nothing():
  done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True, check=True)
  cost = json.loads(done.stdout.splitlines()[-1])
  assert cost['tasks'] > 15_000 and cost['mixtures'] > 2_000
  assert cost['megabytes'] < 50
  assert cost['threads'] == 0
  assert cost['touched'] == []
