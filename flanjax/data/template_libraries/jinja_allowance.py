"""What the rendering of a template may cost.

A template of a stranger may ask for more than any machine has, with a few characters: `'a' * 10 **
9`, a loop in a loop, a list that holds itself twice, thirty times over. So everything that makes or
reads a value is counted, before it is done where it can grow: characters made, a fourth of the
characters read, items touched. A rendering that has used up its allowance is refused.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

import jinja2

MAX_WORK = 1_000_000
_SCALARS = (int, float, bool, type(None))
SEQUENCES = (list, tuple)


class Refused(Exception):
  """Something that a template does is not allowed, or too much.

  Attributes:
    what: in a sentence.
    got: what it does.
    expected: what it may do.
  """

  what = 'A template is refused.'

  def __init__(self, got: str, expected: str = ''):
    super().__init__(got)
    self.got, self.expected = got, expected


class Failed(Refused):
  """A template cannot be rendered for an example."""

  what = 'A template fails on an example.'


@dataclasses.dataclass
class Rendering:
  """One rendering under way: what it may still do, and what its draws depend on."""

  seed: str = ''
  left: int = MAX_WORK
  draws: int = 0


_current: contextvars.ContextVar[Rendering] = contextvars.ContextVar('rendering')


def current() -> Rendering:
  """The rendering of this thread."""
  return _current.get()


@contextlib.contextmanager
def rendering(seed: str = '') -> Iterator[None]:
  """Within it, what templates do is counted; `seed` decides what `choice` picks."""
  token = _current.set(Rendering(seed))
  try:
    yield
  finally:
    _current.reset(token)


def spend(work: int, what: str) -> None:
  """Counts work that is about to be done.

  Raises:
    Refused: the rendering has done too much.
  """
  now = _current.get()
  now.left -= work
  if now.left < 0:
    raise Refused(f'more than {MAX_WORK:,} characters and steps, at {what}',
                  'less: a template renders one example')


def read(value: Any, what: str, never: Any = None) -> Any:
  """Counts everything in a value, which is given back.

  Args:
    value: plain data.
    what: what is done with it.
    never: a container that may not be in it, because it is about to be put there.
  """
  waiting = [value]
  while waiting:
    item = waiting.pop()
    kind = type(item)
    if kind is str:
      spend(1 + len(item) // 4, what)
    elif kind in _SCALARS or isinstance(item, jinja2.Undefined):
      spend(1, what)
    elif kind in SEQUENCES:
      spend(4 + 4 * len(item), what)
      waiting.extend(item)
    elif kind is dict:
      spend(4 + 8 * len(item), what)
      waiting.extend(item)
      waiting.extend(item.values())
    else:
      raise Refused(f'{what} with a {kind.__name__}', 'texts, numbers, lists and dictionaries')
    if never is not None and item is never:
      raise Refused('a list or dictionary put into itself')
  return value


def made(value: Any, what: str) -> Any:
  """Counts a value that was made; what comes one by one becomes a list."""
  if isinstance(value, str):
    spend(len(value), what)
    return str(value)
  if isinstance(value, Iterator):
    value = list(value)
  return read(value, what)


def text(value: Any, what: str = 'output') -> str:
  """A value as Jinja prints it."""
  return made(str(read(value, what)), what)


def each(value: Any, steps: int) -> list[Any]:
  """The items of a loop whose body takes so many steps."""
  if isinstance(value, jinja2.Undefined):
    return list(value)
  if type(value) not in (str, dict, *SEQUENCES):
    raise Refused(f'a loop over a {type(value).__name__}', 'a list, a dictionary or a text')
  spend(len(value) * (1 + steps), 'a loop')
  return list(value)
