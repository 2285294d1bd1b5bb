"""`export`: the examples of a task or a mixture as text, in one file that anything can read."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.data import export_files, missing, mixtures, specs
from flanjax.data.export_files import Row
from flanjax.data.text_task import TextTask
from flanjax.errors import UserError
from flanjax.input.draws import Draws, DrawSchedule

Progress = Callable[[int, int, str], None]

_REPORT_EVERY = 500


@dataclasses.dataclass(frozen=True)
class Exported:
  """What an export wrote.

  Attributes:
    path: the file.
    examples: its rows.
    tasks: SeqIO task -> rows of it.
    repeated: rows whose example an earlier row holds already.
    skipped: SeqIO tasks whose data is missing -> why.
    scoring: tasks left out because they rank options, with targets that are wrong but for one; the
      same examples are in tasks without `_scoring_eval`, with their options.
  """

  path: str
  examples: int
  tasks: dict[str, int]
  repeated: int
  skipped: dict[str, str]
  scoring: list[str]


def export(
    name: str,
    output: str | os.PathLike,
    split: str = 'train',
    num_examples: int | None = None,
    seed: int = 0,
    inputs_length: int | None = None,
    on_missing: str = 'error',
    progress: Progress | None = None,
    download: bool = True,
) -> Exported:
  """Writes rendered examples, whole and untokenised, as JSON lines or Parquet.

  The columns are those of `export_files.COLUMNS`. The file has its name when it is whole.

  Args:
    name: a mixture, a SeqIO task, or a task's own name, for all of its templates by turns.
    output: the file; its ending, .jsonl or .parquet, says the format.
    split: which split.
    num_examples: so many, in the order in which training with `seed` draws them: tasks in
      proportion to their rates, no example twice before all of its task. None: every example
      once, task after task.
    seed: of the draws.
    inputs_length: tokens of inputs, for tasks whose prompts hold as many exemplars as fit.
    on_missing: 'error', or 'skip' to leave out tasks whose data is not there.
    progress: called with (rows done, rows in all, task).
    download: whether missing data may be downloaded.

  Raises:
    UserError: a name, split or ending is unknown; data is missing or wrong; the file cannot be
      written.
  """
  path = pathlib.Path(output).expanduser().absolute()
  make_writer, name = export_files.writer_for(path), _resolved(name)
  skipped = missing.tasks_to_skip(name, on_missing, download)
  readable, scoring = _readable(name, skipped)
  tasks = [TextTask(n, split, inputs_length) for n in readable]
  meter = _Meter(progress or (lambda *unused: None))
  repeated = 0
  with export_files.whole(path) as folder, make_writer(folder / 'rows') as writer:
    if num_examples is None:
      meter.total = sum(t.size_at_most for t in tasks)
      rows = (meter(row) for t in tasks for row in t.rows())
    else:
      rates = mixtures.mixture_rates(name, skip=[*skipped, *scoring])
      draws = _draws(tasks, [rates[t.name].share for t in tasks], num_examples, seed)
      repeated = num_examples - len(np.unique(np.stack([draws.tasks, draws.examples]), axis=1).T)
      meter.total = num_examples - repeated
      rows = _in_order_of(draws, tasks, folder / 'spool', meter)
    counts = dict.fromkeys(readable, 0)
    for row in rows:
      writer.write(row)
      counts[row['task']] += 1
  meter.finish()
  return Exported(str(path), sum(counts.values()), counts, repeated, skipped, scoring)


def _resolved(name: str) -> str:
  """The SeqIO task that stands for a task's own name; other names as they are."""
  own = {s.name for s in specs.all_specs()}
  return f'{name}_{max(specs.TEMPLATE_COUNTS)}templates' if name in own else name


def _readable(name: str, skipped: Mapping[str, str]) -> tuple[list[str], list[str]]:
  """Tasks of a mixture to be read, and those that rank options."""
  left = [n for n in mixtures.tasks_of(name) if n not in skipped]
  scoring = [n for n in left if specs.is_task_name(n) and specs.parse_task_name(n).scoring]
  readable = [n for n in left if n not in scoring]
  if left and not readable:
    raise UserError(
        'A task that ranks options has no examples of its own.', where=scoring[0],
        hint=f"export '{scoring[0].replace('_scoring_eval', '')}': its column `options` holds them")
  if not readable:
    raise UserError('No task of the mixture is left.', where=f'mixture {name}')
  return readable, scoring


class _Meter:
  """Counts rows that pass through it, and tells of them now and then."""

  def __init__(self, report: Progress):
    self._report, self._done, self.total = report, 0, 0

  def __call__(self, row: Row) -> Row:
    if self._done % _REPORT_EVERY == 0:
      self._report(self._done, self.total, row['task'])
    self._done += 1
    return row

  def finish(self) -> None:
    self._report(self._done, self._done, '')


def _draws(tasks: Sequence[TextTask], shares: Sequence[float], count: int, seed: int) -> Draws:
  for task in tasks:
    if not task.size:
      raise UserError('A task has no example to draw.', where=f'task {task.name}')
  return DrawSchedule([t.name for t in tasks], [t.size for t in tasks], shares, seed)(0, count)


def _in_order_of(
    draws: Draws, tasks: Sequence[TextTask], path: pathlib.Path, meter: Callable[[Row], Any]
) -> Iterator[Row]:
  """The rows that are drawn: read in the order of the data, given in the order of the draws."""
  with export_files.Spool(path) as spool:
    places = np.empty(len(draws.tasks), np.int64)
    for number, task in enumerate(tasks):
      mine = draws.tasks == number
      if not mine.any():
        continue
      wanted, which = np.unique(draws.examples[mine], return_inverse=True)
      chosen = np.zeros(wanted[-1] + 1, bool)
      chosen[wanted] = True
      kept = np.array([spool.add(meter(row)) for row in task.rows(chosen)], np.int64)
      if len(kept) < len(wanted):
        raise UserError('A task gives fewer examples than its source says.', where=task.name)
      places[mine] = kept[which]
    for place in places.tolist():
      yield spool.read(place)
