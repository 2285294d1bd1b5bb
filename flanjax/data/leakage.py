"""`audit`: every evaluation example against every example that a mixture may train on.

The evaluation side is indexed, a few million words at a time; the training side streams by, so that
memory does not grow with it. What is compared are the fields of examples, never rendered prompts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio

from flanjax.data import availability, leakage_rows, mixtures, task_texts, workers
from flanjax.data.held_out import Builder, HeldOut, with_wording
from flanjax.data.leakage_rows import Collector, spec_of
from flanjax.data.leaks import Finder, Found, Tally
from flanjax.data.overlap import Settings
from flanjax.errors import UserError, nearest

Progress = Callable[[int, int | None, str], None]

LEAST_NGRAM = 3
MAX_PAIRS = 5
_WORDS_OF_A_PART = 4_000_000
_EXAMPLES_PER_WORKER = 20_000
_PREFIX, _STALE_AFTER_S = '.leakage-', 24 * 3600


@dataclasses.dataclass(frozen=True)
class Leakage:
  """What an audit found.

  Attributes:
    mixture, eval_mixture, split: what was compared.
    settings: what counted as a finding.
    max_pairs: pairs kept of an evaluation example.
    tasks: a row for each evaluation task: examples, how many of them have each kind of finding,
      how many none.
    train: training task -> examples read.
    kinships: a row for each evaluation task and training task that meet.
    lineage: a row for each evaluation task and training task that share a source by declaration.
    pairs: evaluation examples and training examples, the strongest of each evaluation example.
    clean: evaluation task -> ids of examples without any finding.
    skipped: tasks left out, of either side -> why.
  """

  mixture: str
  eval_mixture: str
  split: str
  settings: Settings
  max_pairs: int
  tasks: list[dict[str, Any]]
  train: dict[str, int]
  kinships: list[dict[str, Any]]
  lineage: list[dict[str, Any]]
  pairs: list[dict[str, Any]]
  clean: dict[str, list[int]]
  skipped: dict[str, dict[str, str]]

  def summary(self) -> dict[str, Any]:
    """Everything but pairs and ids, as plain data."""
    found = dataclasses.asdict(self)
    del found['pairs'], found['clean']
    return found


@dataclasses.dataclass(frozen=True)
class _Job:
  """A training task against a part of the evaluation side."""

  part: str
  task: str
  max_pairs: int


def audit(
    mixture: str,
    eval_mixture: str | None = None,
    *,
    split: str = 'test',
    settings: Settings = Settings(),
    max_pairs: int = MAX_PAIRS,
    modules: Sequence[str] = (),
    num_workers: int | None = None,
    on_missing: str = 'error',
    progress: Progress | None = None,
    scratch: str | None = None,
) -> Leakage:
  """Compares the evaluation examples of one mixture with the training examples of another.

  Args:
    mixture: the training side, a mixture or a SeqIO task; its training splits as far as they may
      be drawn.
    eval_mixture: the evaluation side; None: the mixture's name with `_eval` for `_train`.
    split: the split of the evaluation side.
    settings: what counts as a finding.
    max_pairs: pairs to keep of an evaluation example; all are counted.
    modules: modules that register tasks, imported in every worker.
    num_workers: processes; 1: this process; None: one for two cores, since TensorFlow reads in
      threads of its own.
    on_missing: 'error', or 'skip' to leave out tasks whose data is not there.
    progress: called with (examples done, examples in all, task).
    scratch: a folder for the index; None: the system's.

  Raises:
    UserError: a name or a choice is unknown or out of range, or data is missing or wrong.
  """
  _check(settings, max_pairs, on_missing, num_workers)
  progress = progress or (lambda *unused: None)
  eval_mixture = eval_mixture or _eval_name(mixture)
  sides = {'train': _by_owner(mixture), 'eval': _by_owner(eval_mixture)}
  skipped = {side: _missing(tasks) for side, tasks in sides.items()}
  _judge_missing(mixture, eval_mixture, skipped, on_missing)
  train, evaluated = (
      {owner: task for owner, task in sides[side].items() if owner not in skipped[side]}
      for side in ('train', 'eval'))
  for tasks, wanted, name in ((train, 'train', mixture), (evaluated, split, eval_mixture)):
    _check_splits(tasks, wanted, name)
  _remove_leftovers(scratch)
  with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=scratch) as folder:
    parts = list(_write_parts(evaluated, split, settings, pathlib.Path(folder), progress))
    jobs = [_Job(part, task, max_pairs) for part in parts for task in train.values()]
    found = _run(jobs, modules, num_workers, progress)
    collector = Collector(evaluated, train, max_pairs)
    for part in parts:
      collector.add(HeldOut.load(part), {
          owner: found[part, task] for owner, task in train.items()})
  lineage = list(leakage_rows.lineage(sides['eval'], sides['train']))
  return Leakage(
      mixture, eval_mixture, split, settings, max_pairs, collector.rows(),
      collector.examples, collector.kinships(lineage), lineage, collector.pairs, collector.clean,
      skipped)


def _check(settings: Settings, max_pairs: int, on_missing: str, num_workers: int | None) -> None:
  if settings.ngram < LEAST_NGRAM:
    raise UserError('Runs of so few words are shared by any two texts.',
                    got=f'ngram {settings.ngram}', expected=f'at least {LEAST_NGRAM}')
  if not 0 < settings.threshold <= 1:
    raise UserError('A similarity is between 0 and 1.', got=f'threshold {settings.threshold}',
                    expected='above 0, at most 1')
  if not 1 <= settings.shingle <= 8:
    raise UserError('Shingles have one to eight words.', got=settings.shingle)
  if max_pairs < 0:
    raise UserError('The number of pairs to keep is below zero.', got=max_pairs)
  if on_missing not in ('error', 'skip'):
    raise UserError('on_missing is unknown.', got=repr(on_missing), expected="'error' or 'skip'")
  if num_workers is not None and num_workers < 1:
    raise UserError('There must be at least one worker.', got=num_workers)


def _remove_leftovers(scratch: str | None) -> None:
  """Removes the indices of audits that were killed days ago."""
  for path in pathlib.Path(scratch).glob(f'{_PREFIX}*') if scratch else ():
    with contextlib.suppress(OSError):
      if time.time() - path.stat().st_mtime > _STALE_AFTER_S:
        shutil.rmtree(path)


def _eval_name(mixture: str) -> str:
  mixtures.known(mixture)
  name = re.sub(r'_train(?=_|\Z)', '_eval', mixture)
  if name == mixture or not mixtures.is_known(name):
    raise UserError(
        f"Nothing says what '{mixture}' is evaluated on.", got=f"no mixture '{name}'",
        hint='name the evaluation mixture or task: --eval')
  return name


def _by_owner(mixture: str) -> dict[str, str]:
  """Tasks by their own names -> a SeqIO task of each, by which it is read."""
  names = mixtures.tasks_of(mixture)
  return dict(sorted((_owner(name), name) for name in names))


def _owner(task: str) -> str:
  spec = spec_of(task)
  return spec.name if spec else task


def _missing(tasks: Mapping[str, str]) -> dict[str, str]:
  owned = {owner: spec_of(task) for owner, task in tasks.items()}
  reasons = {owner: availability.check_available(spec) for owner, spec in owned.items() if spec}
  return {owner: reason for owner, reason in reasons.items() if reason}


def _judge_missing(mixture: str, eval_mixture: str, skipped: Mapping[str, Mapping[str, str]],
                   on_missing: str) -> None:
  missing = {**skipped['train'], **skipped['eval']}
  if missing and on_missing == 'error':
    raise UserError(
        f'The data of {len(missing)} task(s) is missing.', where=f'{mixture}, {eval_mixture}',
        got='; '.join(f'{name} ({reason})' for name, reason in missing.items()),
        hint='point TFDS_DATA_DIR at prepared data, or leave them out: --on_missing skip')


def _check_splits(tasks: Mapping[str, str], split: str, mixture: str) -> None:
  if not tasks:
    raise UserError('The data of every task is missing.', where=f'mixture {mixture}')
  for owner, task in tasks.items():
    splits = seqio.TaskRegistry.get(task).splits
    if split not in splits:
      raise UserError(f"Task '{owner}' has no split '{split}'.", where=f'mixture {mixture}',
                      hint=nearest(split, splits))


def _write_parts(tasks: Mapping[str, str], split: str, settings: Settings, folder: pathlib.Path,
                 progress: Progress) -> Iterator[str]:
  """Writes the evaluation side in parts of bounded size; yields their folders."""
  builder, read, count = Builder(settings), 0, 0
  for owner, task in tasks.items():
    for rows, wording in with_wording(task_texts.read(task, split)):
      builder.add(owner, rows, wording)
      read += len(rows.ids)
      progress(read, None, f'reading {owner}')
      if builder.num_words > _WORDS_OF_A_PART:
        yield _write_part(builder, folder / f'{count}')
        builder, count = Builder(settings), count + 1
  if len(builder) or not count:
    yield _write_part(builder, folder / f'{count}')


def _write_part(builder: Builder, folder: pathlib.Path) -> str:
  try:
    builder.build().save(folder)
  except OSError as e:
    raise UserError('The index cannot be written.', where=str(folder),
                    got=e.strerror or str(e)) from e
  return str(folder)


def _run(jobs: Sequence[_Job], modules: Sequence[str], num_workers: int | None,
         progress: Progress) -> dict[tuple[str, str], Found]:
  """Part and task -> what was found."""
  sizes = {task: task_texts.size(task, 'train') for task in {j.task for j in jobs}}
  done = {(j.part, j.task): 0 for j in jobs}

  def report(part: str, task: str, examples: int) -> None:
    # A worker's last report may come after its result.
    done[part, task] = max(done[part, task], examples)
    sizes[task] = max(sizes[task], examples)
    progress(sum(done.values()), sum(sizes[j.task] for j in jobs), _owner(task))

  if num_workers is None:
    work = sum(sizes[j.task] for j in jobs)
    num_workers = max(1, min(workers.cores() // 2, work // _EXAMPLES_PER_WORKER))
  # All of a part after each other, the longest first.
  jobs = sorted(jobs, key=lambda j: (j.part, -sizes[j.task]))
  everything = dict.fromkeys([*workers.modules_of(j.task for j in jobs), *modules])
  found = {}
  for job, result in workers.run(search, jobs, num_workers, everything, report, 'audit of leakage'):
    found[job.part, job.task] = result
    report(job.part, job.task, result.examples)
  _finder.cache_clear()
  return found


def search(job: _Job, report: Callable[[str, str, int], None]) -> Found:
  """Reads a training task once, and looks up each example."""
  workers.check_known(job.task)
  finder = _finder(job.part)
  tally, examples = Tally(finder.num_held, job.max_pairs), 0
  for rows in task_texts.read(job.task, 'train'):
    for pairs in finder.find(rows):
      tally.add(pairs)
    examples += len(rows.ids)
    report(job.part, job.task, examples)
  return tally.found(examples)


@functools.lru_cache(maxsize=1)
def _finder(part: str) -> Finder:
  return Finder(HeldOut.load(part))
