"""Errors that a user can act on, all in one form."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A user's mistake, or a state of the world outside the program.

  The command line prints it without a traceback and exits with status 1.

  Args:
    what: what was wrong, one sentence.
    where: the task, stage or file in which it was found.
    got: what was found there.
    expected: what would have been right.
    hint: what to do next, or the nearest known names.
  """

  def __init__(
      self,
      what: str,
      *,
      where: str | None = None,
      got: object = None,
      expected: object = None,
      hint: str | None = None,
  ):
    self.what, self.where, self.hint = what, where, hint
    self.got, self.expected = got, expected
    details = [('where', where), ('got', got), ('expected', expected)]
    lines = [what] + [f'  {k}: {v}' for k, v in details if v is not None]
    super().__init__('\n'.join(lines + ([f'  {hint}'] if hint else [])))


class UsageError(UserError):
  """A command line that cannot be understood; exit status 2."""


def nearest(name: str, known: Iterable[str], limit: int = 12) -> str:
  """Names close to `name`, or the first few known ones.

  >>> nearest('mini_snetiment', ['mini_sentiment', 'mini_nli'])
  'did you mean mini_sentiment? known: mini_nli, mini_sentiment'
  """
  known = sorted(set(known))
  if not known:
    return 'none are known'
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  shown = ', '.join(known[:limit])
  more = f' and {len(known) - limit} more' if len(known) > limit else ''
  start = f'did you mean {" or ".join(close)}? ' if close else ''
  return f'{start}known: {shown}{more}'
