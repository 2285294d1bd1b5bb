"""Where numbers of a run go: JSON lines, TensorBoard, Weights & Biases, one seam for all.

A sink takes `write(step, scalars)` and `close()`. `Sinks` writes to many from a thread of its own,
so that neither a slow disk nor a slow network keeps the trainer from its next step.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from tensorboardX import event_file_writer
from tensorboardX.proto import event_pb2, summary_pb2

from flanjax import terminal
from flanjax.input import remote

_PATIENCE_S = 10.0


class Sink(Protocol):
  """Takes the scalars of a step; steps grow."""

  def write(self, step: int, scalars: Mapping[str, float]) -> None: ...

  def close(self) -> None: ...


def _lines_up_to(path: remote.AnyPath, step: int) -> list[str]:
  """The lines of a log that a run resumed after `step` has not to write again."""
  kept = []
  for line in path.read_text().splitlines():
    try:
      if json.loads(line)['step'] <= step:
        kept.append(line + '\n')
    except (ValueError, KeyError, TypeError):
      continue  # A line that was being written when the run was killed.
  return kept


class JsonLines:
  """A line of JSON per step. What a full disk does not take is written with a later line.

  Args:
    path: the file.
    step: the step resumed from; lines after it are dropped.
    columns: key in a line -> name of the scalar; None: all, under their names.
  """

  def __init__(self, path: remote.AnyPath, step: int, columns: Mapping[str, str] | None = None):
    self._path, self._columns, self._waiting = path, columns, []
    # A store has no files to add to: there all is written each time.
    self._remote, self._whole = remote.is_remote(path), []
    if path.exists():
      self._whole = _lines_up_to(path, step)
      self._replace(''.join(self._whole))

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    line = dict(scalars) if self._columns is None else {
        key: scalars.get(name) for key, name in self._columns.items()}
    # JSON knows no NaN: it is written as null.
    line = {k: None if v is None or not math.isfinite(v) else v for k, v in line.items()}
    self._waiting.append(json.dumps({'step': step, **line}) + '\n')
    try:
      self._add()
    except OSError as error:
      if len(self._waiting) == 1:
        terminal.note(f'warning: {self._path} cannot be written ({error.strerror}); its lines wait')
      return
    self._waiting.clear()

  def _add(self) -> None:
    if self._remote:
      self._replace(''.join(self._whole + self._waiting))
      self._whole += self._waiting
      return
    size = self._path.stat().st_size if self._path.exists() else 0
    try:
      with self._path.open('a') as lines:
        lines.write(''.join(self._waiting))
    except OSError:
      with contextlib.suppress(OSError), self._path.open('r+') as lines:
        lines.truncate(size)
      raise

  def _replace(self, text: str) -> None:
    part = self._path.with_name(self._path.name + '.part')
    part.write_text(text)
    part.replace(self._path)

  def close(self) -> None:
    pass


class TensorBoard:
  """Event files in `folder`; on resuming after `step`, what came later is hidden.

  Written without tensorboardX's own queue, which hangs for good once a disk was full: after
  that, a new file is begun.
  """

  def __init__(self, folder: remote.AnyPath, step: int):
    self._folder, self._start = folder, step
    self._files, self._good = 0, 0
    self._waiting: list[event_pb2.Event] = []
    self._writer: event_file_writer.EventsWriter | None = None
    if step:
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._waiting.append(event_pb2.Event(step=step + 1, session_log=start, wall_time=time.time()))

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [summary_pb2.Summary.Value(tag=name, simple_value=float(value))
              for name, value in scalars.items()]
    self._waiting.append(event_pb2.Event(
        step=step, summary=summary_pb2.Summary(value=values), wall_time=time.time()))
    try:
      self._add()
    except OSError as error:
      self._give_up(error)
      return
    self._waiting.clear()
    self._good = self._files

  def _give_up(self, error: OSError) -> None:
    self._writer = None
    if self._good == self._files:
      terminal.note(f'warning: {self._folder}/events* cannot be written ({error.strerror}); '
                    'what is to be there waits')
      self._good = None
    else:  # Begun for nothing.
      for path in self._folder.glob(f'events*{self._suffix}'):
        path.unlink(missing_ok=True)

  @property
  def _suffix(self) -> str:
    """Of the newest file: two of one second would have one name."""
    return f'.{self._start}.{self._files}'

  def _add(self) -> None:
    if self._writer is None:
      self._files += 1
      self._writer = event_file_writer.EventsWriter(str(self._folder / 'events'), self._suffix)
    for event in self._waiting:
      self._writer.write_event(event)
    self._writer.flush()

  def close(self) -> None:
    if self._writer is not None:
      self._writer.close()


class WeightsAndBiases:
  """A part of a run at Weights & Biases, which stays open until the process ends.

  Args:
    run: from `wandb.init`.
    prefix: before each name, as 'train/'.
  """

  def __init__(self, run: Any, prefix: str):
    self._run, self._prefix = run, prefix

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log({self._prefix + name: value for name, value in scalars.items()}, step=step)

  def close(self) -> None:
    pass  # Wandb ends its run with the process, and tells how that ended.


class Sinks:
  """Writes to all sinks from a thread; one that raises is dropped, with one warning.

  Args:
    sinks: name, for the warning -> sink.
  """

  def __init__(self, sinks: Mapping[str, Sink]):
    self._sinks = dict(sinks)
    self._queue: queue.Queue[tuple[int, dict[str, float]] | threading.Event | None] = queue.Queue()
    self._patience = _PATIENCE_S
    self._thread = threading.Thread(target=self._run, name='sinks', daemon=True)
    self._thread.start()

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Returns at once."""
    self._queue.put((step, dict(scalars)))

  def drain(self) -> None:
    """Waits until all is written, but never long: for a moment at which the log must be whole."""
    done = threading.Event()
    self._queue.put(done)
    if not done.wait(self._patience):
      # Whatever hangs had its chance: it will not be waited for at every checkpoint.
      self._patience = 0.0
      terminal.note(f'warning: the log hangs ({", ".join(self._sinks)}); training goes on')

  def close(self) -> None:
    """Writes what is left and closes the sinks, but never waits long."""
    self._queue.put(None)
    self._thread.join(self._patience)

  def _run(self) -> None:
    while (item := self._queue.get()) is not None:
      if isinstance(item, threading.Event):
        item.set()
      else:
        self._each('write', *item)
    self._each('close')

  def _each(self, method: str, *args: Any) -> None:
    for name, sink in list(self._sinks.items()):
      try:
        getattr(sink, method)(*args)
      except Exception as error:  # Of somebody else's library, which may raise anything.
        del self._sinks[name]
        first = (str(error).splitlines() or [''])[0][:200]
        terminal.note(f'warning: {name} failed and is left out from here on: '
                      f'{type(error).__name__}: {first}')
