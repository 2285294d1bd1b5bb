"""What a person sees of a long task: bars on a terminal, plain lines elsewhere, and errors.

Everything here goes to stderr: stdout is for answers.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich import console as rich_console
from rich import progress as rich_progress
from rich import text as rich_text

PLAIN_PERIOD_S = 15.0
_NUMBER = re.compile(r'([\d,.]+( %)?)?\Z')


def print_error(error: BaseException, stream: TextIO | None = None) -> None:
  """Prints an error without its traceback; the first line stands out on a terminal."""
  console = _console(stream)
  first, _, rest = str(error).partition('\n')
  console.print(rich_text.Text('error: ', 'bold red') + rich_text.Text(first), soft_wrap=True)
  if rest:
    console.print(rich_text.Text(rest), soft_wrap=True)


def note(message: str, stream: TextIO | None = None) -> None:
  """Prints a line beside, not into, a running bar."""
  _console(stream).print(rich_text.Text(message), soft_wrap=True)


def _console(stream: TextIO | None) -> rich_console.Console:
  return rich_console.Console(file=stream or sys.stderr, highlight=False)


def seconds(value: float | None) -> str:
  """A duration as a person says it.

  >>> seconds(75), seconds(8000), seconds(None)
  ('1m 15s', '2h 13m', '?')
  """
  if value is None:
    return '?'
  whole = round(value)
  hours, minutes = divmod(whole // 60, 60)
  return f'{hours}h {minutes:02d}m' if hours else (
      f'{minutes}m {whole % 60:02d}s' if minutes else f'{whole}s')


class Bar:
  """The progress of one task: `bar(done, total, text)`, called as often as one likes.

  On a terminal it draws description, bar, count, rate, time left and `text`; elsewhere it
  prints a line at most every PLAIN_PERIOD_S seconds, and one at the end.
  """

  def __init__(self, description: str, stream: TextIO | None = None):
    self._description = description
    self._console = _console(stream)
    self._started = self._printed = time.monotonic()
    self._first: int | None = None
    self._last = (0, None, '')
    self._progress: rich_progress.Progress | None = None

  def __call__(self, done: int, total: int | None = None, text: str = '') -> None:
    # Work that an earlier run finished says nothing about the rate of this one.
    if self._first is None:
      self._first, self._started = done, time.monotonic()
    self._last = (done, total, text)
    if self._console.is_terminal:
      self._draw(done, total, text)
    elif time.monotonic() - self._printed >= PLAIN_PERIOD_S:
      self._print_line()

  def restart(self, done: int) -> None:
    """Takes rate and time left from here on, where the work begins in earnest."""
    self._first, self._started = done, time.monotonic()

  def _rate(self) -> tuple[float | None, float | None]:
    """(units per second, seconds left), None while unknown."""
    done, total, _ = self._last
    elapsed, new = time.monotonic() - self._started, done - (self._first or 0)
    if new <= 0 or elapsed <= 0:
      return None, None
    return new / elapsed, None if total is None else (total - done) * elapsed / new

  def _draw(self, done: int, total: int | None, text: str) -> None:
    if self._progress is None:
      # Numbers come before the bar where a line has no room for both.
      width = 28 if self._console.width >= 120 else 10 if self._console.width >= 100 else 0
      self._progress = rich_progress.Progress(
          rich_progress.TextColumn('{task.description}'),
          *([rich_progress.BarColumn(bar_width=width)] if width else []),
          rich_progress.MofNCompleteColumn(),
          rich_progress.TextColumn('{task.fields[rate]}'),
          rich_progress.TextColumn('[dim]{task.fields[note]}', markup=True),
          console=self._console, transient=False)
      self._progress.start()
      self._task = self._progress.add_task(
          rich_text.Text(self._description).plain, total=total, rate='', note='')
    rate, left = self._rate()
    shown = '' if rate is None else f'{_rate_text(rate)}, {seconds(left)} left'
    self._progress.update(
        self._task, completed=done, total=total, rate=shown, note=text.replace('[', r'\['))

  def _print_line(self, finished: bool = False) -> None:
    done, total, text = self._last
    rate, left = self._rate()
    parts = [f'{done}' if total is None else f'{done}/{total}']
    parts += [_rate_text(rate)] if rate is not None else []
    parts += [f'{seconds(left)} left'] if left is not None and not finished else []
    parts += [f'took {seconds(time.monotonic() - self._started)}'] if finished else []
    parts += [text] if text else []
    note(f'{self._description}: {", ".join(parts)}', self._console.file)
    self._printed = time.monotonic()

  def close(self) -> None:
    if self._progress is not None:
      self._progress.stop()
    elif self._first is not None:
      self._print_line(finished=True)


def _rate_text(rate: float) -> str:
  return f'{rate:,.0f}/s' if rate >= 10 else f'{rate:.2g}/s'


@contextlib.contextmanager
def bar(description: str, stream: TextIO | None = None) -> Iterator[Bar]:
  """A `Bar` that is closed in any case."""
  made = Bar(description, stream)
  try:
    yield made
  finally:
    made.close()


def size(value: int | None) -> str:
  """A number of bytes as a person says it; '' when it is not known.

  >>> size(999), size(28_999), size(9_950_000), size(2_333_082_954), size(None)
  ('999 B', '29 kB', '10 MB', '2.3 GB', '')
  """
  if value is None:
    return ''
  number = float(value)
  for unit in ('B', 'kB', 'MB', 'GB', 'TB'):
    if number < 999.5 or unit == 'TB':
      return f'{number:.1f} {unit}' if number < 9.95 and unit != 'B' else f'{number:.0f} {unit}'
    number /= 1000


def fitting(
    rows: list[dict[str, object]], columns: dict[str, str], width: int | None = None
) -> dict[str, str]:
  """The columns of a table that fit on a line, each taken if it fits beside those before it.

  Args:
    rows: what to show.
    columns: as of `table`.
    width: of a line; None: the terminal's, or 100 where the output is none.
  """
  left = width or shutil.get_terminal_size((100, 24)).columns
  kept = {}
  for key, heading in columns.items():
    needed = max(len(heading), *(len(_cell(row.get(key))) for row in rows), 0) + 2 * bool(kept)
    if needed <= left:
      kept[key] = heading
      left -= needed
  return kept


def _cell(value: object) -> str:
  if value is None:
    return ''
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  return f'{value:,}' if isinstance(value, int) else str(value)


def visible(text: str) -> list[str]:
  """The lines of a text, with all that is not to be seen as escapes: nothing moves a terminal.

  >>> visible('a' + chr(10) + 'b' + chr(27) + '[31m')
  ['a', 'b\\\\x1b[31m']
  """
  return [''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in line)
          for line in text.split('\n')]


def table(rows: list[dict[str, object]], columns: dict[str, str]) -> str:
  """Rows as aligned columns of text.

  Args:
    rows: what to show.
    columns: key of a row -> heading. A column of numbers is set right, any other left.

  >>> print(table([{'a': 'x', 'n': 10}, {'a': 'long', 'n': 2}], {'a': 'task', 'n': 'n'}))
  task   n
  x     10
  long   2
  """
  cells = [[_cell(row.get(key)) for key in columns] for row in rows]
  right = [any(line[i] for line in cells) and all(_NUMBER.match(line[i]) for line in cells)
           for i in range(len(columns))]
  widths = [max(len(line[i]) for line in [list(columns.values())] + cells)
            for i in range(len(columns))]
  lines = [list(columns.values())] + cells
  return '\n'.join(
      '  '.join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right)).rstrip()
      for line in lines)
