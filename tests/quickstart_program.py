"""The shipped quickstart in one process, with little of everything; run by quickstart_test.

A process of its own, because it makes the embedded datasets small: `program.py FOLDER`.
"""

import contextlib
import io
import json
import pathlib
import sys

from flanjax import cli, quickstart
from flanjax.commands import common

SMALL = """
include 'runs/quickstart.gin'
BATCH_SIZE = 2
MODES = 'generate'
UNTUNED_FEW_SHOT = 'one_shot'
"""


def in_process(argv, module='flanjax.cli', **unused):
  """`common.run_child` without the child."""
  del unused
  verb = cli.main if module == 'flanjax.cli' else quickstart.main
  with contextlib.redirect_stdout(io.StringIO()) as out:
    status = verb([*argv, '--json'])
  if status:
    raise common.ChildFailed(status)
  return json.loads(out.getvalue())


def main(folder: pathlib.Path) -> None:
  common.load_tasks()
  from flanjax.data import indexed_source
  from flanjax.tasks.mini import builders

  common.run_child = in_process
  indexed_source.MAX_TRAIN_EXAMPLES = 12
  builders.MiniBuilder.SIZES = {'test': 4, 'validation': 4, 'train': 1000}
  quickstart.GIN_FILE = str(folder / 'small.gin')
  (folder / 'small.gin').write_text(SMALL)
  done = quickstart.run(quickstart.Settings(
      folder / 'work', holdout='topic', steps=2, num_examples=1))
  print(done['headline'])


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
