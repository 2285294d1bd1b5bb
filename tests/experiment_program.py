"""An experiment in one process, with little of everything; run by experiment_test.

A process of its own, because it makes the embedded datasets small: `program.py FOLDER`.
"""

import contextlib
import io
import json
import pathlib
import sys

from flanjax import cli
from flanjax.commands import common

# Few tasks to train on, and none to compare with: what is here is that all parts meet.
SMALL = """
include 'experiments/mini/leave_one_cluster_out.gin'
HOLDOUTS = ['topic', 'coreference']
TRAIN_STEPS = 3
BATCH_SIZE = 2
NUM_EXAMPLES = 2
NUM_TEMPLATES = 1
MODES = 'rank'
matrix.Experiment:
  conditions = [@tuned/matrix.Condition()]
  baseline = None
tuned/matrix.Condition.train = '{suite}:only.sentiment:without.{holdout}:templates.1:first.10'
"""
STARTED = []


def in_process(argv, module='flanjax.cli', **unused):
  """`common.run_child` without the child; data is made when it is first read."""
  del unused
  if module != 'flanjax.cli':
    return {}
  STARTED.append(argv[0])
  with contextlib.redirect_stdout(io.StringIO()) as out:
    status = cli.main([*argv, '--json'])
  if status:
    raise common.ChildFailed(status)
  return json.loads(out.getvalue())


def stopped_in_a_training(argv, **options):
  """A machine that goes down in the second training."""
  if argv[0] == 'train' and 'train' in STARTED:
    raise KeyboardInterrupt
  return in_process(argv, **options)


def main(folder: pathlib.Path) -> None:
  common.load_tasks()
  from flanjax.tasks.mini import builders

  builders.MiniBuilder.SIZES = {'test': 4, 'validation': 4, 'train': 1000}
  (folder / 'small.gin').write_text(SMALL)
  argv = ['experiment', f'--gin_file={folder}/small.gin',
          f"--gin.EXPERIMENT_DIR='{folder}/loo'"]
  statuses = []
  for child in (stopped_in_a_training, in_process):
    common.run_child = child
    statuses.append(cli.main(argv))
  print(json.dumps({'statuses': statuses, 'started': STARTED}))


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
