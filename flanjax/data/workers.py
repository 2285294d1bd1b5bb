"""Work on the tasks of a mixture, shared among processes that know the same tasks as this one."""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from flanjax.data import specs, template_libraries, vocabularies, worker_process
from flanjax.errors import UserError

Job = TypeVar('Job')
Result = TypeVar('Result')
Report = Callable[..., None]


def cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def import_all(modules: Iterable[str]) -> None:
  """Imports modules that register tasks.

  Raises:
    UserError: there is no such module.
  """
  for module in modules:
    try:
      importlib.import_module(module)
    except ModuleNotFoundError as e:
      raise UserError('A module of tasks cannot be imported.', where=module, got=str(e)) from e


def modules_of(tasks: Iterable[str]) -> list[str]:
  """Modules of this process that registered SeqIO tasks, as far as a worker can import them."""
  names = [specs.parse_task_name(t).spec.fields for t in tasks if specs.is_task_name(t)]
  found = {getattr(fields, '__module__', '') for fields in names}
  found |= {m for m in sys.modules if m.startswith('flanjax.tasks.') and m.count('.') == 2}
  return sorted(found & set(sys.modules) - {'__main__', 'builtins'})


@dataclasses.dataclass(frozen=True)
class Knowledge:
  """What another process has to be told to know the same tasks.

  Attributes:
    modules: modules to import.
    libraries: template libraries to register.
    vocabulary: what suite vocabularies stand for, where that was chosen.
  """

  modules: tuple[str, ...]
  libraries: tuple[template_libraries.Call, ...]
  vocabulary: str | None

  @classmethod
  def here(cls, modules: Iterable[str]) -> Knowledge:
    return cls(tuple(modules), template_libraries.calls(), vocabularies.chosen())

  def acquire(self) -> None:
    if self.vocabulary:
      vocabularies.set_default(self.vocabulary)
    import_all(self.modules)
    template_libraries.repeat(self.libraries)


class UnknownTask(UserError):
  """A worker process cannot know a task that its parent registered."""


def check_known(task: str) -> None:
  """Raises UnknownTask unless this process knows a SeqIO task."""
  if not specs.make_known(task):
    raise UnknownTask(
        'A worker process does not know a task.', where=f'task {task}',
        hint='name the module that registers it (--module), or use one worker (--num_workers=1)')


def run(
    function: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    num_workers: int,
    modules: Iterable[str],
    report: Report,
    what: str,
) -> Iterator[tuple[Job, Result]]:
  """Jobs with their results, as they are done; begun in the order given.

  TensorFlow keeps something of every task that it read. So a process does no more than
  `worker_process.MOST_JOBS` jobs; then another one takes its place, even where there is but one.

  Args:
    function: `function(job, report)`; of a module, as the jobs are sent to other processes.
    jobs: the jobs.
    num_workers: processes; 1: this one, where the jobs are few or others do not know the tasks.
    modules: what a worker imports to know the tasks.
    report: called here with whatever the function calls its `report` with there.
    what: what is being done, for errors.

  Raises:
    UserError: a worker died. After an error, jobs that were begun are still finished.
  """
  num_workers = min(num_workers, len(jobs))
  todo = collections.deque(jobs)
  if num_workers > 1 or len(jobs) > worker_process.MOST_JOBS:
    set_up = functools.partial(_set_up, Knowledge.here(modules), max(1, cores() // num_workers))
    try:
      yield from _share(functools.partial(worker_process.Worker, function, set_up, what),
                        todo, num_workers, report)
    except UnknownTask:
      if num_workers > 1:
        raise
  yield from ((job, function(job, report)) for job in todo)


def _share(
    start: Callable[[], worker_process.Worker], todo: collections.deque[Job], num_workers: int,
    report: Report,
) -> Iterator[tuple[Job, Any]]:
  """As `run`, by processes. What an UnknownTask leaves undone is in `todo`."""
  team: list[worker_process.Worker] = []
  everyone, failure = [], None
  try:
    while team or (todo and not failure):
      while todo and not failure and len(team) < num_workers:
        team.append(start())
        everyone.append(team[-1])
        team[-1].give(todo.popleft())
      for one in worker_process.waiting(team):
        job, result = one.job, worker_process.NOT_YET
        try:
          result = one.result(report)
        except Exception as e:  # noqa: BLE001 (it is raised again, when the others are done)
          failure = failure or e
          todo.extendleft([job] if isinstance(e, UnknownTask) else [])
          team.remove(one)
          one.let_go()
        if result is worker_process.NOT_YET:
          continue
        if todo and not failure and not one.tired:
          one.give(todo.popleft())
        else:
          team.remove(one)
          one.let_go()
        yield job, result
    if failure:
      raise failure
  finally:
    for one in everyone:
      one.end()


def _set_up(knowledge: Knowledge, threads: int) -> None:
  """What a worker does first."""
  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(threads)
  tf.config.set_visible_devices([], 'GPU')
  knowledge.acquire()
