"""Folders that are whole or not there: made beside their place, hidden, and then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

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
    # Between its making and its locking, another process may take it for a leftover.
    try:
      handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
      continue
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
  for folder in path.parent.glob(f'.{glob.escape(path.name)}[~-]*'):
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


def put(folder: pathlib.Path, path: pathlib.Path, is_whole: Callable[[], bool]) -> None:
  """Moves a folder to `path`, unless what is there, perhaps by now, is whole.

  Raises:
    OSError: it cannot be moved.
  """
  folder.chmod(0o755)
  while True:
    try:
      os.rename(folder, path)
      return
    except OSError:
      if is_whole():  # Another process was quicker, with the same content.
        return
      if not path.exists():
        raise
      _put_away(path)


def _put_away(path: pathlib.Path) -> None:
  """Removes a folder that is damaged, in one moment for its readers."""
  away = tempfile.mkdtemp(prefix=f'.{path.name}-', dir=path.parent)
  with contextlib.suppress(FileNotFoundError):  # Another process did so.
    os.rename(path, away)
  shutil.rmtree(away, ignore_errors=True)


def sync(folder: pathlib.Path) -> None:
  """Waits until the files of a folder are on the disk, for readers that do not check them.

  Prepared tasks do without: they are checked whenever they are opened.
  """
  for path in folder.iterdir():
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)


def replace_file(path: pathlib.Path, content: str) -> None:
  """Writes a file, whole or not at all."""
  with beside(path) as folder:
    (folder / 'file').write_text(content)
    os.replace(folder / 'file', path)
