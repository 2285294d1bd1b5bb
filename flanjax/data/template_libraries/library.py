"""What both kinds of library share: reading a stranger's file, and registering what it gives."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from flanjax.data import clusters, mixtures, specs
from flanjax.data.specs import TaskSpec
from flanjax.errors import UserError

MAX_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Library:
  """What came of a library of templates.

  Attributes:
    tasks: the tasks registered.
    templates: task -> the names of its templates, in the order of their numbers; FLAN's have none.
    left_out: sets and templates that are in no task -> why.
  """

  tasks: tuple[TaskSpec, ...]
  templates: Mapping[str, tuple[str, ...]]
  left_out: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Call:
  """How a library was registered, for a worker process to do the same."""

  kind: str
  path: str
  prefix: str
  suite: str
  bindings: tuple[tuple[str, str], ...] = ()
  leave_out: tuple[str, ...] = ()


_registered: dict[Call, tuple[str, ...]] = {}


def calls() -> tuple[Call, ...]:
  """The libraries of this process that another one can register from their files."""
  known = {s.name for s in specs.all_specs()}
  return tuple(call for call, names in _registered.items() if known.issuperset(names))


def read_text(path: pathlib.Path) -> str:
  """The text of a file of moderate size.

  Raises:
    UserError: it cannot be read, is too large, or is no text.
  """
  try:
    with open(path, 'rb') as f:
      content = f.read(MAX_BYTES + 1)
  except OSError as e:
    raise UserError('A library of templates cannot be read.', where=str(path),
                    got=e.strerror) from e
  if len(content) > MAX_BYTES:
    raise UserError('A library of templates is too large.', where=str(path),
                    got=f'more than {MAX_BYTES:,} bytes', expected='text for people to read')
  try:
    return content.decode()
  except UnicodeDecodeError as e:
    raise UserError('A library of templates is no text.', where=str(path), got=str(e)) from e


def renamed(found: Sequence[tuple[str, TaskSpec]]) -> dict[str, tuple[str, ...]]:
  """For each new task, the new names of what the old one overlaps.

  Args:
    found: pairs of a new name, and the task that it is a version of.
  """
  new = {}
  for name, spec in found:
    new.setdefault(spec.name, []).append(name)
  return {name: tuple(n for old in spec.overlaps for n in new.get(old, ()))
          for name, spec in found}


def register_all(
    tasks: Iterable[TaskSpec], suite: str, parents: Iterable[str], call: Call | None
) -> tuple[TaskSpec, ...]:
  """Registers the tasks of a library and the mixtures of its suite, or nothing at all.

  Args:
    tasks: the tasks.
    suite: their suite.
    parents: the suites whose data they read; what excludes each other there does so here.
    call: how to do the same in another process; None where that takes a module.

  Raises:
    UserError: a name is taken, or data is on both sides of a holdout.
  """
  done = []
  pairs = {pair: None for parent in sorted(set(parents) - {suite})
           for pair in clusters.EXCLUSIONS.get(parent, ())}
  clusters.set_exclusions(suite, dict.fromkeys([*clusters.EXCLUSIONS.get(suite, ()), *pairs]))
  try:
    for task in tasks:
      done.append(specs.register(task))
    mixtures.register_suite_mixtures(suite)
  except UserError:
    for task in done:
      specs.unregister(task.name)
    raise
  if call:
    _registered[call] = tuple(task.name for task in done)
  return tuple(done)
