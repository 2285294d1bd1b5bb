"""Work on the tasks of a mixture, shared among processes that know the same tasks as this one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from flanjax.data import specs, template_libraries, vocabularies
from flanjax.errors import UserError

# TensorFlow does not survive a fork once it has run anything.
_START_METHOD = 'spawn'

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


def run(
    function: Callable[[Job, Report], Result],
    jobs: Sequence[Job],
    num_workers: int,
    modules: Iterable[str],
    report: Report,
    what: str,
) -> Iterator[tuple[Job, Result]]:
  """Jobs with their results, as they are done; begun in the order given.

  Args:
    function: `function(job, report)`; of a module, as the jobs are sent to other processes.
    jobs: the jobs.
    num_workers: processes; 1: this one.
    modules: what a worker imports to know the tasks.
    report: called here with whatever the function calls its `report` with there.
    what: what is being done, for errors.

  Raises:
    UserError: a worker died.
  """
  num_workers = min(num_workers, len(jobs))
  if num_workers <= 1:
    yield from ((job, function(job, report)) for job in jobs)
    return
  context = multiprocessing.get_context(_START_METHOD)
  reports = context.Queue()
  arguments = (Knowledge.here(modules), reports)
  with concurrent.futures.ProcessPoolExecutor(
      num_workers, mp_context=context, initializer=_start, initargs=arguments
  ) as pool:
    waiting = {pool.submit(_work, function, job): job for job in jobs}
    try:
      yield from _results(waiting, reports, report)
    except concurrent.futures.BrokenExecutor as e:
      raise UserError(
          'A worker process died.', where=what, got='it was killed, or ran out of memory',
          hint='what is finished is kept: start again, with fewer workers (--num_workers)',
      ) from e
    finally:
      pool.shutdown(wait=True, cancel_futures=True)


def _results(
    waiting: dict[concurrent.futures.Future, Job], reports: Any, report: Report
) -> Iterator[tuple[Job, Any]]:
  while waiting:
    ready, _ = concurrent.futures.wait(
        waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
    )
    with contextlib.suppress(queue.Empty):
      while True:
        report(*reports.get_nowait())
    for future in ready:
      yield waiting.pop(future), future.result()


_reports: Any = None  # In a worker: the queue to the parent.


def _start(knowledge: Knowledge, reports: Any) -> None:
  global _reports
  _reports = reports
  threading.Thread(target=_end_with_parent, daemon=True).start()
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.set_visible_devices([], 'GPU')
  knowledge.acquire()


def _end_with_parent() -> None:
  """A worker whose parent was killed would wait for work for ever."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _work(function: Callable[[Job, Report], Result], job: Job) -> Result:
  return function(job, lambda *what: _reports.put(what))
