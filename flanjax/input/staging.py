"""Folders that are whole or not there: made beside their place, hidden, and then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

# For leftovers that nobody can lock: those of other programs, and on file systems without locks.
_STALE_AFTER_S = 24 * 3600


@contextlib.contextmanager
def beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """An empty folder to make `path` in; whatever is still there at the end is removed.

  It is locked as long as this process lives, so that others can tell it from what a killed one
  left.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  remove_leftovers(path)
  folder, handle = _locked_folder(path)
  try:
    yield folder
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def _locked_folder(path: pathlib.Path) -> tuple[pathlib.Path, int]:
  while True:
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f'.{path.name}~', dir=path.parent))
    handle = os.open(folder, os.O_RDONLY)
    # Between its making and its locking, another process may have taken it for a leftover.
    if _lock(handle) is not False and folder.exists():
      return folder, handle
    os.close(handle)
    shutil.rmtree(folder, ignore_errors=True)


def _lock(handle: int) -> bool | None:
  """Whether a file could be locked: not while someone else holds it. None: no file here can."""
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError:
    return None
  return True


def remove_leftovers(path: pathlib.Path) -> None:
  """Removes what killed processes left beside `path`."""
  for folder in path.parent.glob(f'.{path.name}[~-]*'):
    with contextlib.suppress(OSError):
      handle = os.open(folder, os.O_RDONLY)
      try:
        dead = _lock(handle) if folder.name.startswith(f'.{path.name}~') else None
        if _is_old(folder) if dead is None else dead:
          shutil.rmtree(folder, ignore_errors=True)
      finally:
        os.close(handle)


def _is_old(folder: pathlib.Path) -> bool:
  """Whether nobody has written there for long; who is at work touches its own."""
  newest = max(p.stat().st_mtime for p in [folder, *folder.iterdir()])
  return time.time() - newest > _STALE_AFTER_S


def replace_file(path: pathlib.Path, content: str) -> None:
  """Writes a file, whole or not at all."""
  with beside(path) as folder:
    (folder / 'file').write_text(content)
    os.replace(folder / 'file', path)
