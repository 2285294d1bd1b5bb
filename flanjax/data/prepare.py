"""`prepare`: runs each SeqIO task of a mixture once and keeps what comes out, as files.

A task's folder is named by the hash of everything its content depends on. It is written beside its
place and renamed when whole, so a folder of that name is complete; a later run finds it there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import pathlib
import queue
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import fingerprints, mixtures, prepared_task, sources, specs, vocabularies
from flanjax.data.prepared_task import Job
from flanjax.data.specs import TaskSpec
from flanjax.errors import UserError, nearest
from flanjax.input import lock as lock_lib
from flanjax.input import manifest as manifest_lib
from flanjax.input.manifest import FORMAT_VERSION, SIDES

Progress = Callable[[int, int, str], None]

# Starting a process takes as long as preparing about this many examples.
_EXAMPLES_PER_WORKER = 20_000


def default_output_dir() -> pathlib.Path:
  cache = os.environ.get('FLANJAX_CACHE') or '~/.cache/flanjax'
  return pathlib.Path(cache).expanduser() / 'prepared'


def prepare(
    mixture_or_task: str,
    sequence_length: Mapping[str, int],
    split: str = 'train',
    output_dir: str | os.PathLike | None = None,
    vocabulary: str | None = None,
    modules: Sequence[str] = (),
    num_workers: int | None = None,
    on_missing: str = 'error',
    progress: Progress | None = None,
    download: bool = True,
    lock: str | os.PathLike | None = None,
) -> pathlib.Path:
  """Prepares a mixture; tasks that are there already are kept.

  Args:
    mixture_or_task: name of a mixture or of a SeqIO task.
    sequence_length: {'inputs': n, 'targets': n}, EOS included; longer examples are cut as the
      task itself cuts them, and counted.
    split: which split.
    output_dir: None: $FLANJAX_CACHE/prepared or ~/.cache/flanjax/prepared.
    vocabulary: see `vocabularies.get`; None: what the tasks say.
    modules: modules that register tasks, imported here and in every worker.
    num_workers: processes; 1: this process; None: as many as there are cores and work for.
    on_missing: 'error', or 'skip' to leave out tasks whose data is not there.
    progress: called with (examples done, examples in all, task).
    download: whether missing data may be downloaded.
    lock: a lock file that the mixture must agree with; see `input.lock`.

  Returns:
    the mixture's manifest.

  Raises:
    UserError: a name, length or choice is unknown or out of range; data is missing; a split is
      empty; the folder cannot be written; a task fails on an example, which is named; the mixture
      is not what its lock says (nothing is prepared where that is known before).
  """
  _check_arguments(sequence_length, num_workers)
  if vocabulary:
    vocabularies.set_default(vocabulary)
  _import(modules)
  lengths = {side: int(sequence_length[side]) for side in SIDES}
  skipped = tasks_to_skip(mixture_or_task, on_missing, download)
  rates = mixtures.mixture_rates(mixture_or_task, skip=list(skipped))
  root = _writable(pathlib.Path(output_dir or default_output_dir()))
  jobs = [_job(name, split, lengths, root) for name in rates]
  locked = lock_lib.load(lock) if lock else None
  if locked:
    _check_lock(locked, lock, mixture_or_task, split, lengths, rates, jobs)
  sizes = {j.name: j.entry['num_input_examples'] for j in jobs}
  entries = _run_all(jobs, sizes, tuple(modules), num_workers, progress or (lambda *a: None))
  path = _write_mixture(root, mixture_or_task, split, lengths, rates, jobs, entries, skipped)
  if locked:
    lock_lib.refuse_drift(locked, lock_lib.lock(manifest_lib.load(path)), os.fspath(lock))
  return path


def _check_lock(
    locked: Mapping[str, Any],
    path: str | os.PathLike,
    mixture: str,
    split: str,
    lengths: Mapping[str, int],
    rates: Mapping[str, mixtures.MixRate],
    jobs: Sequence[Job],
) -> None:
  """Refuses what is known to differ from a lock before anything is prepared."""
  tasks = {j.name: lock_lib.before({**j.entry, 'rate': rates[j.name].rate}) for j in jobs}
  about = {'mixture': mixture, 'split': split, 'sequence_length': dict(lengths), 'tasks': tasks}
  lock_lib.refuse_drift(locked, about, os.fspath(path))


def _check_arguments(lengths: Mapping[str, int], num_workers: int | None) -> None:
  for side in SIDES:
    value = lengths.get(side)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
      raise UserError(
          f'The sequence length of {side} must be at least 1.', got=repr(value),
          expected='a whole number above zero',
      )
  if num_workers is not None and num_workers < 1:
    raise UserError('There must be at least one worker.', got=num_workers)


def _import(modules: Sequence[str]) -> None:
  for module in modules:
    try:
      importlib.import_module(module)
    except ModuleNotFoundError as e:
      raise UserError('A module of tasks cannot be imported.', where=module, got=str(e)) from e


def tasks_to_skip(mixture: str, on_missing: str, download: bool = True) -> dict[str, str]:
  """SeqIO tasks of a mixture whose data is not there -> why.

  Args:
    mixture: a mixture or a SeqIO task.
    on_missing: 'error' or 'skip', whether they are an error.
    download: whether missing data may be downloaded.

  Raises:
    UserError: `on_missing` is neither; or there are such tasks, and it is 'error'.
  """
  if on_missing not in ('error', 'skip'):
    raise UserError('on_missing is unknown.', got=repr(on_missing), expected="'error' or 'skip'")
  missing = _missing(mixture, download)
  if missing and on_missing == 'error':
    listed = '; '.join(f'{name} ({reason})' for name, reason in missing.items())
    raise UserError(
        f'The data of {len(missing)} task(s) is missing.', where=mixture, got=listed,
        hint='point TFDS_DATA_DIR at prepared data, or skip them with ON_MISSING = "skip"',
    )
  return missing


def _missing(mixture: str, download: bool) -> dict[str, str]:
  """SeqIO tasks of a mixture whose data is not there -> why."""
  names = [n for n in mixtures.tasks_of(mixture) if specs.is_task_name(n)]
  owners = {n: specs.parse_task_name(n).spec for n in names}
  by_spec = {s.name: s for s in owners.values()}
  reasons = {name: specs.check_available(spec) for name, spec in by_spec.items()}
  absent = [by_spec[name] for name, reason in reasons.items() if reason and download]
  if absent and not _online():
    absent = [spec for spec in absent if _all_by_hand(spec)]
  reasons |= {s.name: specs.check_available(s, download=True) for s in absent}
  return {n: reasons[s.name] for n, s in owners.items() if reasons[s.name]}


def _all_by_hand(spec: TaskSpec) -> bool:
  """Whether data is made from files fetched by hand alone: they may be here, without a network."""
  origin = sources.origin(spec.source)
  return origin.obtained == sources.BY_HAND and origin.download_bytes is None


def _online() -> bool:
  """Whether names resolve. Where they do not, TFDS retries every file for minutes."""
  if os.environ.get('https_proxy') or os.environ.get('HTTPS_PROXY'):
    return True
  try:
    socket.getaddrinfo('storage.googleapis.com', 443)
  except OSError:
    return False
  return True


def _writable(root: pathlib.Path) -> pathlib.Path:
  try:
    root = root.expanduser().absolute()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
      pass
  except OSError as e:
    raise prepared_task.unwritable(root, e) from e
  return root


def _job(name: str, split: str, lengths: Mapping[str, int], root: pathlib.Path) -> Job:
  task = seqio.TaskRegistry.get(name)
  where = f'task {name}'
  if split not in task.splits:
    raise UserError(
        f"The task has no split '{split}'.", where=where, hint=nearest(split, task.splits)
    )
  missing = [side for side in SIDES if side not in task.output_features]
  if missing:
    raise UserError(
        'A task must have both sides.', where=where, got=', '.join(task.output_features),
        expected='inputs, targets',
    )
  hashes = fingerprints.of_task(task, split)
  fingerprint = fingerprints.digest([FORMAT_VERSION, name, split, lengths, hashes])
  spec = specs.parse_task_name(name).spec if specs.is_task_name(name) else None
  return Job(
      name=name,
      split=split,
      sequence_length=lengths,
      folder=root / _file_name(name) / fingerprint[:16],
      entry={
          'name': name,
          'task': spec.name if spec else name,
          'cluster': spec.cluster if spec else '',
          'fingerprint': fingerprint,
          'hashes': hashes,
          'source': sources.named(task.source if spec is None else spec.source),
          'licence': spec.licence if spec else '',
          'num_input_examples': task.num_input_examples(split) or 0,
      },
  )


def _file_name(name: str) -> str:
  return re.sub(r'[^\w.-]', '_', name)


def _run_all(
    jobs: Sequence[Job],
    sizes: Mapping[str, int],
    modules: tuple[str, ...],
    num_workers: int | None,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
  """Entries of all tasks, by name; prepares those that are not there."""
  entries = {j.name: entry for j in jobs if (entry := prepared_task.finished(j))}
  todo = sorted((j for j in jobs if j.name not in entries), key=lambda j: -sizes[j.name])
  done, total = {name: sizes[name] for name in entries}, sum(sizes.values())

  def report(name: str, examples: int) -> None:
    # A worker's last report may come after its result.
    done[name] = max(done.get(name, 0), min(examples, sizes[name]))
    progress(sum(done.values()), total, name)

  progress(sum(done.values()), total, '')
  if num_workers is None:
    work = sum(sizes[j.name] for j in todo)
    num_workers = min(_cores(), -(-work // _EXAMPLES_PER_WORKER))
  num_workers = min(num_workers, len(todo))
  if num_workers <= 1:
    for job in todo:
      entries[job.name] = prepared_task.write(job, report)
      report(job.name, sizes[job.name])
    return entries
  for job, entry in _run_in_workers(todo, modules, num_workers, report):
    entries[job.name] = entry
    report(job.name, sizes[job.name])
  return entries


def _cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


_reports: Any = None  # In a worker: the queue to the parent.


def _start_worker(modules: Sequence[str], vocabulary: str | None, reports: Any) -> None:
  global _reports
  _reports = reports
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.set_visible_devices([], 'GPU')
  if vocabulary:
    vocabularies.set_default(vocabulary)
  _import(modules)


def _work(job: Job) -> dict[str, Any]:
  if job.name not in seqio.TaskRegistry.names():
    raise UserError(
        'A worker process does not know a task.', where=f'task {job.name}',
        hint='name the module that registers it (--module), or use one worker (--num_workers=1)',
    )
  return prepared_task.write(job, lambda name, examples: _reports.put((name, examples)))


def _modules_of(jobs: Sequence[Job]) -> list[str]:
  """Modules of this process that registered the tasks, as far as a worker can import them."""
  names = [specs.parse_task_name(j.name).spec.fields for j in jobs if specs.is_task_name(j.name)]
  found = {getattr(fields, '__module__', '') for fields in names}
  found |= {m for m in sys.modules if m.startswith('flanjax.tasks.') and m.count('.') == 2}
  return sorted(found & set(sys.modules) - {'__main__', 'builtins'})


def _suite_vocabulary(job: Job) -> str | None:
  """The name that suite vocabularies stand for in this process; one for a whole mixture."""
  vocabulary = seqio.TaskRegistry.get(job.name).output_features['targets'].vocabulary
  suite = isinstance(vocabulary, vocabularies.SuiteVocabulary)
  return vocabulary.name if suite else None


def _run_in_workers(
    jobs: Sequence[Job],
    modules: tuple[str, ...],
    num_workers: int,
    report: Callable[[str, int], None],
) -> Iterator[tuple[Job, dict[str, Any]]]:
  context = multiprocessing.get_context('spawn')
  reports = context.Queue()
  everything = tuple(dict.fromkeys([*_modules_of(jobs), *modules]))
  arguments = (everything, _suite_vocabulary(jobs[0]), reports)
  with concurrent.futures.ProcessPoolExecutor(
      num_workers, mp_context=context, initializer=_start_worker, initargs=arguments
  ) as pool:
    waiting = {pool.submit(_work, job): job for job in jobs}
    try:
      while waiting:
        ready, _ = concurrent.futures.wait(
            waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
        )
        with contextlib.suppress(queue.Empty):
          while True:
            report(*reports.get_nowait())
        for future in ready:
          yield waiting.pop(future), future.result()
    except concurrent.futures.BrokenExecutor as e:
      raise UserError(
          'A worker process died.', where='prepare', got='it was killed, or ran out of memory',
          hint='finished tasks are kept: start again, with fewer workers (--num_workers)',
      ) from e
    finally:
      pool.shutdown(wait=True, cancel_futures=True)


def _write_mixture(
    root: pathlib.Path,
    mixture: str,
    split: str,
    lengths: Mapping[str, int],
    rates: Mapping[str, mixtures.MixRate],
    jobs: Sequence[Job],
    entries: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, str],
) -> pathlib.Path:
  task = seqio.TaskRegistry.get(jobs[0].name)
  vocabulary = task.output_features['targets'].vocabulary
  name, vocabulary_fingerprint = fingerprints.of_vocabulary(vocabulary)
  folder = root / 'mixtures'
  tasks = [
      {
          **entries[j.name],
          **j.entry,
          'rate': rates[j.name].rate,
          'share': rates[j.name].share,
          'path': os.path.relpath(j.folder, folder),
      }
      for j in jobs
  ]
  content = {
      'mixture': mixture,
      'split': split,
      'sequence_length': dict(lengths),
      'vocabulary': name,
      'vocabulary_fingerprint': vocabulary_fingerprint,
      'vocab_size': int(vocabulary.vocab_size),
      'versions': prepared_task.versions(),
      'tasks': tasks,
      'skipped': dict(skipped),
  }
  identity = {k: v for k, v in content.items() if k != 'versions'}
  fingerprint = fingerprints.digest(identity)[:16]
  path = folder / f'{_file_name(mixture)}-{fingerprint}.json'
  temporary = folder / f'.{path.name}-{os.getpid()}'
  try:
    folder.mkdir(exist_ok=True)
    temporary.write_text(manifest_lib.dumps(content))
    os.replace(temporary, path)
  except OSError as e:
    raise prepared_task.unwritable(path, e) from e
  finally:
    temporary.unlink(missing_ok=True)
  return path
