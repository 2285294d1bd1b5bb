"""Prepares the tasks of a mixture that are not there yet on Apache Beam: a task is an element.

Everything that is sent to a worker is JSON; a worker needs flanjax, and the modules of the tasks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from flanjax.data import local_runner, preprocessors, workers
from flanjax.data.local_runner import Entries, Meter, Progress
from flanjax.data.prepared_task import Job
from flanjax.data.template_libraries import Call
from flanjax.errors import UserError, nearest
from flanjax.input import remote, staging

# Names of ours -> names of Beam's.
RUNNERS = {
    'direct': 'DirectRunner', 'flink': 'FlinkRunner', 'spark': 'SparkRunner',
    'dataflow': 'DataflowRunner',
}


def run(
    jobs: Sequence[Job], modules: Iterable[str], progress: Progress, runner: str,
    options: Sequence[str] = (),
) -> Entries:
  """Entries of all tasks, by name.

  Args:
    jobs: the tasks.
    modules: what a worker has to import to know them.
    progress: called with (examples done, examples in all, task), at the beginning and the end.
    runner: one of RUNNERS.
    options: 'key=value' pipeline options of Beam, or 'key' alone.

  Raises:
    UserError: Beam is not installed, or fails; tasks cannot be prepared. Those that could are kept.
  """
  if runner not in RUNNERS:
    raise UserError(f"There is no runner '{runner}'.", hint=nearest(runner, ['local', *RUNNERS]))
  if runner == 'dataflow' and not all(j.store for j in jobs):
    raise UserError(
        'Dataflow has no disk in common with this machine.', where='--output_dir',
        got=os.fspath(jobs[0].folder.parent.parent), expected='a folder of a store, gs://')
  beam = _beam()
  entries, meter = local_runner.finished(jobs), Meter(jobs, progress)
  meter.start(entries)
  todo = [j for j in jobs if j.name not in entries]
  if todo:
    modules = dict.fromkeys([*workers.modules_of(j.name for j in todo), *modules])
    failures = _run(beam, todo, workers.Knowledge.here(modules), RUNNERS[runner], options)
    _raise(failures)
    entries |= local_runner.finished(todo)
  lost = [j for j in jobs if j.name not in entries]
  if lost:
    raise UserError(
        'Tasks that were prepared cannot be seen from here.', where=f'task {lost[0].name}',
        expected=lost[0].store or os.fspath(lost[0].folder),
        hint='name a folder that all workers share, or one of a store: --output_dir gs://...')
  for job in todo:
    meter(job.name)
  return entries


def _beam() -> Any:
  try:
    import apache_beam
  except ImportError as e:
    raise UserError('Apache Beam is not installed.', got=str(e),
                    hint="pip install 'flanjax[beam]'") from e
  return apache_beam


def _run(
    beam: Any, jobs: Sequence[Job], knowledge: workers.Knowledge, runner: str,
    options: Sequence[str],
) -> list[dict[str, Any]]:
  """Runs a pipeline; returns the errors of the tasks that cannot be prepared."""
  from apache_beam.options.pipeline_options import PipelineOptions

  flags = [option if option.startswith('--') else f'--{option}' for option in options]
  place = jobs[0].store or os.fspath(jobs[0].folder)
  answer = f'{place.rsplit("/", 2)[0]}/.beam-{uuid.uuid4().hex}.json'
  elements = [_dumps(job, knowledge) for job in jobs]
  try:
    with beam.Pipeline(runner=runner, options=PipelineOptions(flags=flags)) as pipeline:
      done = (
          pipeline
          | 'Tasks' >> beam.Create(elements)
          | 'Spread' >> beam.Reshuffle()
          | 'Prepare' >> beam.Map(prepare_one)
      )
      _ = done | 'Gather' >> beam.combiners.ToList() | 'Answer' >> beam.Map(keep, place=answer)
    return _read(answer)
  except UserError:
    raise
  except Exception as e:  # Each runner has errors of its own.
    lines = str(e).strip().splitlines()
    raise preprocessors.explain(e) or UserError(
        'The Beam pipeline failed.', where=f'runner {runner}',
        got=f'{type(e).__name__}: {lines[-1][:300] if lines else ""}',
        hint='finished tasks are kept; --debug shows the traceback') from e
  finally:
    with contextlib.suppress(Exception):
      remote.resolved(answer).unlink()


def _dumps(job: Job, knowledge: workers.Knowledge) -> str:
  content = {**vars(job), 'folder': os.fspath(job.folder)}
  return json.dumps({'job': content, 'knowledge': dataclasses.asdict(knowledge)})


def prepare_one(element: str) -> str | None:
  """On a worker: prepares a task; returns what is wrong with it, as JSON, or None."""
  content = json.loads(element)
  job = Job(**{**content['job'], 'folder': pathlib.Path(content['job']['folder'])})
  try:
    _acquire(json.dumps(content['knowledge']))
    with _folder_for(job) as folder:
      local_runner.prepare_one(dataclasses.replace(job, folder=folder), lambda *unused: None)
  except UserError as e:
    parts = {k: getattr(e, k) for k in ('what', 'where', 'got', 'expected', 'hint')}
    return json.dumps({'task': job.name, **parts}, default=str)
  return None


@contextlib.contextmanager
def _folder_for(job: Job):
  """Where a worker makes a task: on its own disk, where it is then copied to a store."""
  if not job.store:
    yield job.folder
    return
  with tempfile.TemporaryDirectory(prefix='flanjax-') as folder:
    yield pathlib.Path(folder, *job.folder.parts[-2:])


@functools.cache
def _acquire(knowledge: str) -> None:
  """Makes the tasks known, once in a process."""
  content = json.loads(knowledge)
  libraries = tuple(
      Call(**{k: _tuples(v) for k, v in call.items()}) for call in content['libraries'])
  workers.Knowledge(tuple(content['modules']), libraries, content['vocabulary']).acquire()


def _tuples(value: Any) -> Any:
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def keep(failures: Sequence[str | None], place: str) -> None:
  """On a worker: writes down what the others found."""
  text = json.dumps([json.loads(f) for f in failures if f])
  if remote.is_remote(place):
    remote.write_text(place, text)
  else:
    staging.replace_file(pathlib.Path(place), text)


def _read(place: str) -> list[dict[str, Any]]:
  try:
    path = remote.resolved(place)
    return json.loads(remote.read_bytes(path) if remote.is_remote(path) else path.read_bytes())
  except FileNotFoundError:
    return []  # On a disk that this machine does not see.


def _raise(failures: list[dict[str, Any]]) -> None:
  if not failures:
    return
  names = [f.pop('task') for f in failures]
  if len(failures) == 1:
    raise UserError(failures[0].pop('what'), **failures[0])
  shown = [f'{name}: {f["what"]} {f["got"] or ""}'.strip() for name, f in zip(names, failures)]
  raise UserError(f'{len(names)} tasks cannot be prepared.', got='\n    '.join(['', *shown]))
