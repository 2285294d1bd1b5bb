"""Does the cells of an experiment: trainings and evaluations, in processes of their own.

  <EXPERIMENT_DIR>/prepared/                 which mixtures are prepared
  <EXPERIMENT_DIR>/trainings/<unit>/         a run folder, with phases.json, log.txt, failed.json
  <EXPERIMENT_DIR>/evaluations/<unit>/       eval.json and records/, with the same

A unit is locked while somebody works on it, so any number of jobs may share the folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flanjax import phases as phases_lib
from flanjax import quickstart, terminal
from flanjax.commands import common
from flanjax.errors import UserError
from flanjax.experiments import units
from flanjax.experiments.units import Cell, Evaluation, Given, Training

DONE, FAILED, RUNNING, MISSING = STATES = ('done', 'failed', 'running', 'missing')
_TOLD = 40
_FAST = {'accelerator': True, 'GLIBC_TUNABLES': quickstart.HUGE_PAGES}
_SIGNALLED = 128


class Failed(Exception):
  """A unit failed; its folder says why."""


class Runner:
  """Does cells.

  Args:
    root: the experiment's folder.
    given: of the command line.
    suite: whose data is built first where it is an embedded one.
  """

  def __init__(self, root: pathlib.Path, given: Given, suite: str):
    self._root, self._given, self._suite = root, given, suite

  def run(self, cells: Sequence[Cell]) -> None:
    """Does what is not done; what others are at is waited for at the end."""
    pending, wait = list(cells), False
    while pending:
      busy = []
      for i, cell in enumerate(pending):
        try:
          self._cell(cell, wait and i == 0)
        except phases_lib.Busy:
          busy.append(cell)
        except Failed:
          continue
      # Nobody let us in: the first of them is waited for.
      wait, pending = len(busy) == len(pending), busy

  def _cell(self, cell: Cell, wait: bool) -> None:
    if state(self._root, cell) == DONE:
      return
    terminal.note(f'{cell.name}')
    for training in cell.training.chain() if cell.training else ():
      self._unit(training, self._train, wait)
    self._unit(cell.evaluation, self._evaluate, wait)

  def _unit(self, unit: Training | Evaluation, do: Callable[..., None], wait: bool) -> None:
    """Does a unit under its lock; says in its folder what failed."""
    folder = common.writable(units.folder(self._root, unit))
    if is_done(folder, unit):
      return
    with phases_lib.locked(folder, wait=wait, what='job') as lock:
      if is_done(folder, unit):
        return
      if failure(folder):
        raise Failed(str(folder))
      log = _Log(folder / 'log.txt', unit.folder_name)
      phases = phases_lib.Phases(
          folder / 'phases.json', lock, functools.partial(common.run_child, tell=log))
      try:
        do(unit, phases, folder)
      except common.ChildFailed as e:
        if e.status > _SIGNALLED:  # It was told to stop, and has kept what it has.
          raise
        _write(folder / 'failed.json', {'status': e.status, 'error': log.error(),
                                        'log': str(log.path)})
        terminal.note(f'  failed: {log.error()}')
        raise Failed(str(folder)) from e

  def _train(self, training: Training, phases: phases_lib.Phases, folder: pathlib.Path) -> None:
    values = {**training.settings, 'MODEL_DIR': str(folder), 'CHECKPOINT_PATH': str(folder),
              'RANDOM_SEED': training.seed, 'HOLDOUT': training.holdout}
    if training.after:
      values['INITIAL_CHECKPOINT_PATH'] = str(units.folder(self._root, training.after))
    manifest = self._prepared(training, folder)
    phases.run('train', 'training', [
        'train', *self._given.argv(training.files, {**values, 'MIXTURE_OR_TASK_NAME': manifest})],
        **_FAST)

  def _evaluate(
      self, evaluation: Evaluation, phases: phases_lib.Phases, folder: pathlib.Path
  ) -> None:
    model = evaluation.checkpoint
    if evaluation.training:
      model = str(units.folder(self._root, evaluation.training))
    self._data()
    values = {
        **evaluation.settings, 'CHECKPOINT_PATH': model, 'EVAL_OUTPUT_DIR': str(folder),
        'MODEL_DIR': str(folder), 'MIXTURE_OR_TASK_NAME': evaluation.names, 'EVAL_UNTUNED': False}
    phases.run('eval', 'evaluating', ['eval', *self._given.argv(evaluation.files, values)],
               {'names': evaluation.names}, **_FAST)

  def _prepared(self, training: Training, folder: pathlib.Path) -> str:
    """The manifest of a training's mixture, prepared once for all that train on it."""
    self._data()
    argv = _prepare_argv(self._given, training)
    log = _Log(folder / 'log.txt', training.folder_name)
    with self._shared('prepare', log) as phases:
      return phases.run(units.digest(argv), f'preparing {training.mixture}', argv)['manifest']

  def _data(self) -> None:
    """Builds the data of an embedded suite, one job at a time."""
    if self._suite != 'mini':
      return
    with self._shared('data', _Log(self._root / 'prepared/log.txt', 'data')) as phases:
      phases.run('data', 'building the embedded datasets', ['data', quickstart.HOLDOUT],
                 module='flanjax.quickstart')

  @contextlib.contextmanager
  def _shared(self, name: str, log: _Log) -> Iterator[phases_lib.Phases]:
    folder = common.writable(self._root / 'prepared')
    with phases_lib.locked(folder, what='job') as lock:
      yield phases_lib.Phases(
          folder / f'{name}.json', lock, functools.partial(common.run_child, tell=log))


def _prepare_argv(given: Given, training: Training) -> list[str]:
  """What `flanjax prepare` is told: the settings that `flanjax train` would tell it."""
  settings = given.settings(training.files, training.settings)
  lengths = settings['TASK_FEATURE_LENGTHS']
  argv = ['prepare', training.mixture, '--from_gin',
          '--inputs_length', str(lengths['inputs']), '--targets_length', str(lengths['targets'])]
  modules = settings.get('MIXTURE_OR_TASK_MODULE') or ()
  modules = [modules] if isinstance(modules, str) else list(modules)
  flags = {'--vocabulary': 'VOCABULARY', '--output_dir': 'PREPARED_DIR',
           '--on_missing': 'ON_MISSING', '--too_long': 'TOO_LONG',
           '--max_bad_examples': 'MAX_BAD_EXAMPLES'}
  for flag, macro in flags.items():
    if settings.get(macro) is not None:
      argv += [flag, str(settings[macro])]
  return argv + common.repeat('--module', [*modules, *given.modules])


class _Log:
  """Keeps what a child says in a file, and shows it under the name of its unit."""

  def __init__(self, path: pathlib.Path, name: str):
    self.path, self._name = path, name
    self._last: list[str] = []

  def __call__(self, line: str) -> None:
    if not line.strip():
      return
    self._last = [*self._last, line][-_TOLD:]
    with self.path.open('a') as file:
      file.write(f'{time.strftime("%Y-%m-%d %H:%M:%S")} {line}\n')
    terminal.note(f'  {self._name[:40]}: {line}')

  def error(self) -> str:
    """The last error told, or else the last line."""
    starts = [i for i, line in enumerate(self._last) if re.match(r'error: |\w*Error\b', line)]
    chosen = self._last[starts[-1]:] if starts else self._last[-1:]
    return ' '.join(' '.join(chosen).split())[:500] or 'it told nothing'


def _write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  common.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def read(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object, empty where there is none to be read."""
  with contextlib.suppress(OSError, ValueError):
    found = json.loads(path.read_text())
    return found if isinstance(found, dict) else {}
  return {}


def answer(folder: pathlib.Path, phase: str) -> dict[str, Any] | None:
  """What a finished phase of a unit answered, if its files are there."""
  done = read(folder / 'phases.json').get('done', {}).get(phase)
  return done['answer'] if done and phases_lib.still_there(done['answer']) else None


def seconds(folder: pathlib.Path, phase: str) -> float | None:
  return read(folder / 'phases.json').get('seconds', {}).get(phase)


def is_done(folder: pathlib.Path, unit: Training | Evaluation) -> bool:
  """Whether a unit is done; an evaluation, with all that is asked of it by now."""
  if isinstance(unit, Training):
    return bool(answer(folder, 'train'))
  stamp = read(folder / 'phases.json').get('done', {}).get('eval', {}).get('stamp', {})
  return set(unit.names) <= set(stamp.get('names', ())) and bool(answer(folder, 'eval'))


def failure(folder: pathlib.Path) -> str | None:
  """Why a unit failed, if it did."""
  found = read(folder / 'failed.json')
  return str(found.get('error') or 'it failed') if found else None


def parts(root: pathlib.Path, cell: Cell) -> list[pathlib.Path]:
  """The folders of a cell's units, in their order."""
  chain = cell.training.chain() if cell.training else []
  return [units.folder(root, unit) for unit in (*chain, cell.evaluation)]


def forget_failures(root: pathlib.Path, cells: Sequence[Cell]) -> None:
  """Lets what failed be tried again."""
  for folder in {f for cell in cells for f in parts(root, cell)}:
    (folder / 'failed.json').unlink(missing_ok=True)


def why_failed(root: pathlib.Path, cell: Cell) -> str | None:
  """What the first unit of a cell that failed says."""
  return next(filter(None, map(failure, parts(root, cell))), None)


def state(root: pathlib.Path, cell: Cell) -> str:
  """One of STATES."""
  folders = parts(root, cell)
  if is_done(folders[-1], cell.evaluation):
    return DONE
  if why_failed(root, cell):
    return FAILED
  return RUNNING if any(map(_is_locked, folders)) else MISSING


def _is_locked(folder: pathlib.Path) -> bool:
  if not (folder / '.lock').exists():
    return False
  try:
    with phases_lib.locked(folder, wait=False):
      return False
  except (phases_lib.Busy, UserError):
    return True
