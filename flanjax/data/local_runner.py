"""Prepares the tasks of a mixture that are not there yet, on this machine."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flanjax.data import prepared_task, workers
from flanjax.data.prepared_task import Job

Progress = Callable[[int, int, str], None]
Entries = dict[str, dict[str, Any]]

# Starting a process takes as long as preparing about this many examples.
_EXAMPLES_PER_WORKER = 20_000
# A store takes long to answer, and does not mind many questions.
_REQUESTS_AT_ONCE = 32


class Meter:
  """Tells how much of the work is done: `progress(examples done, examples in all, task)`."""

  def __init__(self, jobs: Sequence[Job], progress: Progress):
    self._sizes = {j.name: j.entry['num_input_examples'] for j in jobs}
    self._done: dict[str, int] = {}
    self._progress = progress

  def start(self, finished: Iterable[str]) -> None:
    """These tasks were there before."""
    self._done = {name: self._sizes[name] for name in finished}
    self._tell('')

  def __call__(self, name: str, examples: int | None = None) -> None:
    """A task has come so far; None: to its end."""
    size = self._sizes[name]
    come = size if examples is None else min(examples, size)
    # A worker's last report may come after its result.
    self._done[name] = max(self._done.get(name, 0), come)
    self._tell(name)

  def _tell(self, name: str) -> None:
    self._progress(sum(self._done.values()), sum(self._sizes.values()), name)


def finished(jobs: Sequence[Job]) -> Entries:
  """Entries of the tasks that are there and whole, by name.

  Raises:
    UserError: more examples of one were left out as bad than may be now.
  """
  at_once = _REQUESTS_AT_ONCE if any(j.store for j in jobs) else workers.cores()
  with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    entries = zip(jobs, pool.map(prepared_task.finished, jobs))
    return {job.name: entry for job, entry in entries if entry}


def run(
    jobs: Sequence[Job], modules: Iterable[str], progress: Progress, num_workers: int | None = None
) -> Entries:
  """Entries of all tasks, by name.

  Args:
    jobs: the tasks.
    modules: what a worker has to import to know them.
    progress: called with (examples done, examples in all, task).
    num_workers: processes; 1: see `workers.run`; None: as many as there are cores and work for.

  Raises:
    UserError: a task cannot be prepared. Those that were finished before are kept.
  """
  entries, meter = finished(jobs), Meter(jobs, progress)
  meter.start(entries)
  # The largest first, so that no core is left with one at the end.
  todo = sorted((j for j in jobs if j.name not in entries),
                key=lambda j: -j.entry['num_input_examples'])
  if num_workers is None:
    work = sum(j.entry['num_input_examples'] for j in todo)
    num_workers = min(workers.cores(), -(-work // _EXAMPLES_PER_WORKER))
  modules = dict.fromkeys([*workers.modules_of(j.name for j in todo), *modules])
  for job, entry in workers.run(prepare_one, todo, num_workers, modules, meter, 'prepare'):
    entries[job.name] = entry
    meter(job.name)
  return entries


def prepare_one(job: Job, report: Callable[[str, int], None]) -> dict[str, Any]:
  """Prepares a task, in whatever process this is."""
  workers.check_known(job.name)
  return prepared_task.write(job, report)
