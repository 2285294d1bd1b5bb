"""Libraries of templates that users already have, as tasks like any other.

  from flanjax.data import template_libraries
  template_libraries.register_flan('FLAN/flan/templates.py')
  template_libraries.register_promptsource('promptsource/promptsource/templates')

Both kinds are read without being run: a library is text from somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from flanjax.data.template_libraries.flan import register_flan
from flanjax.data.template_libraries.library import Call, Library, calls
from flanjax.data.template_libraries.promptsource import Binding, register_promptsource

__all__ = [
    'Binding', 'Call', 'Library', 'calls', 'load', 'register_flan', 'register_promptsource',
    'repeat',
]


def load(path: str | os.PathLike[str]) -> Library:
  """Registers a library: FLAN's if it is a Python file, else promptsource's.

  Raises:
    UserError: it is refused, or there is no data for it.
  """
  python = os.fspath(path).endswith('.py')
  return register_flan(path) if python else register_promptsource(path)


def repeat(wanted: Iterable[Call]) -> None:
  """Registers what another process has registered, unless a module has done so."""
  for call in wanted:
    if call in calls():
      continue
    if call.kind == 'flan':
      register_flan(call.path, prefix=call.prefix, suite=call.suite)
    else:
      register_promptsource(
          call.path, prefix=call.prefix, suite=call.suite, bindings=dict(call.bindings),
          leave_out=call.leave_out)
