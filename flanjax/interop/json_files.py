"""Small JSON files that somebody else wrote."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from flanjax.errors import UserError

MAX_BYTES = 10_000_000


def read(path: pathlib.Path) -> dict[str, Any]:
  """The object in a file; UserError when there is none."""
  try:
    if path.stat().st_size > MAX_BYTES:
      raise UserError('The file is too large.', where=str(path), got=path.stat().st_size,
                      expected=f'at most {MAX_BYTES:,} bytes')
    value = json.loads(path.read_text('utf-8'))
  except FileNotFoundError as error:
    raise UserError('There is no such file.', where=str(path)) from error
  except (ValueError, RecursionError) as error:
    raise UserError('This is no JSON.', where=str(path), got=str(error)[:200]) from error
  if not isinstance(value, dict):
    raise UserError('This is no JSON object.', where=str(path), got=type(value).__name__)
  return value
