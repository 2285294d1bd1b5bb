"""One process of a run of several; run by distributed_test.

Arguments: folder, address of the coordinator, processes, index of this one, total steps, a
step before which this process waits for ever, or -1, and the seconds of silence that end a run.
"""

import pathlib
import sys
import time

import toy_training

from flanjax import distributed, partitioning
from flanjax.training import loop, saving


class Waiting(toy_training.ToySource):
  """Stops giving batches, and says so."""

  def __init__(self, folder, at):
    super().__init__(rows=8)
    self.folder, self.at = folder, at

  def batch(self, step, rows=None):
    if step == self.at:
      (self.folder / 'waiting').touch()
      time.sleep(600)
    return super().batch(step, rows)


def main():
  folder, address, processes, index, steps, at, seconds = sys.argv[1:]
  if int(processes) > 1:
    distributed.initialize(address, int(processes), int(index), heartbeat_seconds=int(seconds))
  folder = pathlib.Path(folder)
  model = toy_training.toy_model(dropout_rate=0.1, logits_via_embedding=True)
  loop.Trainer(
      model, toy_training.toy_optimizer(), model_dir=folder, total_steps=int(steps),
      batch_source=Waiting(folder, int(at)), mesh=partitioning.make_mesh(1, 2, 2), log_period=1,
      saving=saving.Saving(period=2)).run()


if __name__ == '__main__':
  main()
