"""`prepare`: runs each SeqIO task of a mixture once and keeps what comes out, as files.

A task's folder is named by the hash of everything its content depends on. It is written beside its
place and renamed when whole, so a folder of that name is complete; a later run finds it there.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from flanjax.data import beam_runner, fingerprints, local_runner, mixtures, prepared_task
from flanjax.data import sources, specs, vocabularies, workers
from flanjax.data.local_runner import Progress
from flanjax.data.missing import tasks_to_skip
from flanjax.data.prepared_task import DROP, TOO_LONG, TRUNCATE, Job
from flanjax.errors import UserError, nearest
from flanjax.input import lock as lock_lib
from flanjax.input import manifest as manifest_lib
from flanjax.input import remote, staging
from flanjax.input.manifest import FORMAT_VERSION, SIDES

LOCAL = 'local'


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
    too_long: str = TRUNCATE,
    max_bad_examples: int = 0,
    runner: str = 'local',
    runner_options: Sequence[str] = (),
) -> remote.AnyPath:
  """Prepares a mixture; tasks that are there already are kept.

  Args:
    mixture_or_task: name of a mixture or of a SeqIO task.
    sequence_length: {'inputs': n, 'targets': n}, EOS included.
    split: which split.
    output_dir: None: $FLANJAX_CACHE/prepared or ~/.cache/flanjax/prepared. A folder of a store
      (gs://, s3://) gets copies of what is prepared there.
    vocabulary: see `vocabularies.get`; None: what the tasks say.
    modules: modules that register tasks, imported here and in every worker.
    num_workers: processes; 1: this process, but for hundreds of tasks; None: as many as there are
      cores and work for.
    on_missing: 'error', or 'skip' to leave out tasks whose data is not there.
    progress: called with (examples done, examples in all, task).
    download: whether missing data may be downloaded.
    lock: a lock file that the mixture must agree with; see `input.lock`.
    too_long: what becomes of examples longer than `sequence_length`: 'truncate' cuts them as the
      task itself does, 'drop' leaves them out. Either is counted.
    max_bad_examples: how many examples of each task may be left out because the task fails on
      them; they are counted, and the first of them told with their reasons.
    runner: 'local', or one of `beam_runner.RUNNERS` to prepare on Apache Beam.
    runner_options: 'key=value' options of Beam.

  Returns:
    the mixture's manifest.

  Raises:
    UserError: a name, length or choice is unknown or out of range; data is missing; a split is
      empty; the folder cannot be written; a task fails on an example, which is named; the mixture
      is not what its lock says (nothing is prepared where that is known before).
  """
  _check_arguments(sequence_length, num_workers, too_long, max_bad_examples)
  run = _runner(runner, runner_options, num_workers)
  if vocabulary:
    vocabularies.set_default(vocabulary)
  workers.import_all(modules)
  lengths = {side: int(sequence_length[side]) for side in SIDES}
  skipped = tasks_to_skip(mixture_or_task, on_missing, download)
  rates = mixtures.mixture_rates(mixture_or_task, skip=list(skipped))
  root = _writable(output_dir or default_output_dir())
  jobs = [_job(name, split, lengths, root, too_long, max_bad_examples, rates[name].num_examples)
          for name in rates]
  locked = lock_lib.load(lock) if lock else None
  if locked:
    _check_lock(locked, lock, mixture_or_task, split, rates, jobs)
  entries = run(jobs, modules, progress or (lambda *a: None))
  path = _write_mixture(root, mixture_or_task, split, lengths, rates, jobs, entries, skipped)
  if locked:
    lock_lib.refuse_drift(locked, lock_lib.lock(manifest_lib.load(path)), os.fspath(lock))
  return path


def _runner(name: str, options: Sequence[str], num_workers: int | None) -> Callable[..., Any]:
  """What prepares: (jobs, modules, progress) -> entries."""
  if name == LOCAL:
    if options:
      raise UserError('The local runner has no such options.', got=', '.join(options),
                      hint=f'name a runner of Beam: {", ".join(beam_runner.RUNNERS)}')
    return functools.partial(local_runner.run, num_workers=num_workers)
  if num_workers is not None:
    raise UserError('num_workers is for the local runner.', where=f'runner {name}',
                    got=num_workers, hint='Beam has options of its own: runner_options')
  return functools.partial(beam_runner.run, runner=name, options=options)


def _check_lock(
    locked: Mapping[str, Any],
    path: str | os.PathLike,
    mixture: str,
    split: str,
    rates: Mapping[str, mixtures.MixRate],
    jobs: Sequence[Job],
) -> None:
  """Refuses what is known to differ from a lock before anything is prepared."""
  tasks = {j.name: lock_lib.before({**j.entry, 'rate': rates[j.name].rate}) for j in jobs}
  about = {
      'mixture': mixture, 'split': split, 'sequence_length': dict(jobs[0].sequence_length),
      'too_long': jobs[0].too_long, 'tasks': tasks,
  }
  lock_lib.refuse_drift(locked, about, os.fspath(path))


def _check_arguments(
    lengths: Mapping[str, int], num_workers: int | None, too_long: str, max_bad_examples: int
) -> None:
  for side in SIDES:
    value = lengths.get(side)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
      raise UserError(
          f'The sequence length of {side} must be at least 1.', got=repr(value),
          expected='a whole number above zero',
      )
  if num_workers is not None and num_workers < 1:
    raise UserError('There must be at least one worker.', got=num_workers)
  if too_long not in TOO_LONG:
    raise UserError('What to do about examples that are too long is unknown.', got=repr(too_long),
                    expected=' or '.join(map(repr, TOO_LONG)))
  if max_bad_examples < 0:
    raise UserError('The number of bad examples that may be left out is negative.',
                    got=max_bad_examples)


def _writable(folder: str | os.PathLike) -> remote.AnyPath:
  """A folder known to be writable; where it is one of a store, the local one is so too."""
  root = remote.resolved(folder)
  if remote.is_remote(root):
    _writable(default_output_dir())
    remote.check_writable(root)
    return root
  try:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
      pass
  except OSError as e:
    raise prepared_task.unwritable(root, e) from e
  return root


def _job(
    name: str, split: str, lengths: Mapping[str, int], root: remote.AnyPath,
    too_long: str = TRUNCATE, max_bad_examples: int = 0, num_train_examples: int = 0,
) -> Job:
  task = seqio.TaskRegistry.get(name)
  where = f'task {name}'
  if split not in task.splits:
    raise UserError(
        f"The task has no split '{split}'.", where=where, hint=nearest(split, task.splits)
    )
  count = task.num_input_examples(split) or (num_train_examples if split == 'train' else 0)
  missing = [side for side in SIDES if side not in task.output_features]
  if missing:
    raise UserError(
        'A task must have both sides.', where=where, got=', '.join(task.output_features),
        expected='inputs, targets',
    )
  hashes = fingerprints.of_task(task, split)
  # How many bad examples are allowed is no part of it: it decides whether there is a result, and
  # not which.
  identity = [FORMAT_VERSION, name, split, lengths, hashes, *([DROP] if too_long == DROP else [])]
  fingerprint = fingerprints.digest(identity)
  folder = root / _file_name(name) / fingerprint[:16]
  here = remote.resolved(default_output_dir()) / pathlib.Path(*folder.parts[-2:])
  spec = specs.parse_task_name(name).spec if specs.is_task_name(name) else None
  return Job(
      name=name,
      split=split,
      sequence_length=lengths,
      folder=here if remote.is_remote(root) else folder,
      entry={
          'name': name,
          'task': spec.name if spec else name,
          'cluster': spec.cluster if spec else '',
          'fingerprint': fingerprint,
          'hashes': hashes,
          'source': sources.named(task.source if spec is None else spec.source),
          'licence': spec.licence if spec else '',
          'num_input_examples': count,
      },
      too_long=too_long,
      max_bad_examples=max_bad_examples,
      store=os.fspath(folder) if remote.is_remote(root) else '',
  )


def _file_name(name: str) -> str:
  return re.sub(r'[^\w.-]', '_', name)


def _write_mixture(
    root: remote.AnyPath,
    mixture: str,
    split: str,
    lengths: Mapping[str, int],
    rates: Mapping[str, mixtures.MixRate],
    jobs: Sequence[Job],
    entries: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, str],
) -> remote.AnyPath:
  task = seqio.TaskRegistry.get(jobs[0].name)
  vocabulary = task.output_features['targets'].vocabulary
  folder = root / 'mixtures'
  tasks = [
      {
          **entries[j.name],
          **j.entry,
          'rate': rates[j.name].rate,
          'share': rates[j.name].share,
          'path': os.path.join('..', *j.folder.parts[-2:]),
      }
      for j in jobs
  ]
  content = {
      'mixture': mixture,
      'split': split,
      'sequence_length': dict(lengths),
      'too_long': jobs[0].too_long,
      **fingerprints.identity_of(vocabulary).entries,
      'vocab_size': int(vocabulary.vocab_size),
      'versions': prepared_task.versions(),
      'tasks': tasks,
      'skipped': dict(skipped),
  }
  identity = {k: v for k, v in content.items() if k != 'versions'}
  fingerprint = fingerprints.digest(identity)[:16]
  path = folder / f'{_file_name(mixture)}-{fingerprint}.json'
  text = manifest_lib.dumps(content)
  if remote.is_remote(path):
    remote.write_text(path, text)
    return path
  try:
    staging.replace_file(path, text)
  except OSError as e:
    raise prepared_task.unwritable(path, e) from e
  return path
