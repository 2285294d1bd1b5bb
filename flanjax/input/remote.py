"""Prepared data in object stores (gs://, s3://), by way of copies: ArrayRecord reads disks alone.

A task is copied to a store file by file, its manifest last, and the manifest of a mixture after its
tasks: what a manifest names is there. From a store, tasks are copied into folders of a cache that
are named by their content, so that no copy is ever out of date.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Union

from flanjax.errors import UserError
from flanjax.input import staging

_CHUNK_BYTES = 8 << 20
_COPIES_AT_ONCE = 8

if TYPE_CHECKING:
  from etils import epath

AnyPath = Union[pathlib.Path, 'epath.Path']


@dataclasses.dataclass(frozen=True)
class Copy:
  """A folder of a store to be copied.

  Attributes:
    origin: the folder in the store.
    folder: where the copy goes.
    files: names, bytes and sha256 of its files.
  """

  origin: str
  folder: pathlib.Path
  files: Sequence[tuple[str, int, str]]

  def is_here(self) -> bool:
    """Whether all files are there, of the right size."""
    try:
      return all((self.folder / name).stat().st_size == size for name, size, _ in self.files)
    except OSError:
      return False


def _path(path: str | os.PathLike) -> epath.Path:
  from etils import epath  # It takes a moment, and most data is local.

  return epath.Path(path)


def is_remote(path: str | os.PathLike) -> bool:
  return '://' in os.fspath(path)


def resolved(path: str | os.PathLike) -> AnyPath:
  """A path in a store, or an absolute local one."""
  return _path(path) if is_remote(path) else pathlib.Path(path).expanduser().absolute()


def joined(folder: str | os.PathLike, relative: str) -> str:
  """A path relative to a folder of a store.

  >>> joined('gs://bucket/data/mixtures', '../rte/f00d')
  'gs://bucket/data/rte/f00d'
  """
  scheme, _, rest = os.fspath(folder).partition('://')
  return f'{scheme}://{posixpath.normpath(posixpath.join(rest, relative))}'


def cache() -> pathlib.Path:
  """Where copies are kept."""
  root = os.environ.get('FLANJAX_CACHE') or '~/.cache/flanjax'
  return pathlib.Path(root).expanduser().absolute() / 'remote'


@contextlib.contextmanager
def _told(path: str | os.PathLike) -> Iterator[None]:
  """Errors of a store as UserErrors, whatever they are; that a file is not there stays as it is."""
  try:
    yield
  except (UserError, FileNotFoundError):
    raise
  except Exception as e:  # TensorFlow, gcsfs and s3fs have errors of their own.
    lines = str(e).strip().splitlines()
    raise UserError(
        'A store cannot be reached or used.', where=os.fspath(path),
        got=f'{type(e).__name__}: {lines[0][:300] if lines else ""}',
        hint='gs:// needs credentials, and TensorFlow or flanjax[gcs]; s3:// needs flanjax[s3] and '
        'the environment variable EPATH_USE_TF=0',
    ) from e


def read_bytes(path: str | os.PathLike) -> bytes:
  """The content of a file in a store.

  Raises:
    FileNotFoundError: there is none.
    UserError: the store cannot be reached.
  """
  with _told(path):
    if not _path(path).exists():
      raise FileNotFoundError(2, 'there is no such file', os.fspath(path))
    with _path(path).open('rb') as f:
      return f.read()


def write_text(path: str | os.PathLike, content: str) -> None:
  """Writes a file of a store, which is whole or not there."""
  with _told(path):
    _path(path).parent.mkdir(parents=True, exist_ok=True)
    with _path(path).open('wb') as f:
      f.write(content.encode())


def size(path: str | os.PathLike) -> int | None:
  """Bytes of a file in a store; None where there is none."""
  with _told(path):
    return _path(path).stat().length if _path(path).exists() else None


def check_writable(folder: str | os.PathLike) -> None:
  """Raises UserError unless files can be written in a folder of a store."""
  probe = _path(folder) / f'.probe-{uuid.uuid4().hex}'
  write_text(probe, '')
  with contextlib.suppress(Exception):
    probe.unlink()


def upload(folder: pathlib.Path, target: str, last: str) -> None:
  """Copies a folder into a store, the file `last` after the others.

  Raises:
    UserError: it cannot be copied.
  """
  for path in sorted(folder.iterdir(), key=lambda p: (p.name == last, p.name)):
    there = _path(target) / path.name
    with _told(there):
      there.parent.mkdir(parents=True, exist_ok=True)
      with path.open('rb') as source, there.open('wb') as sink:
        shutil.copyfileobj(source, sink, _CHUNK_BYTES)
    if size(there) != path.stat().st_size:
      raise UserError('A file was not copied as a whole.', where=os.fspath(there),
                      got=f'{size(there)} bytes', expected=f'{path.stat().st_size} bytes')


def fetch(copies: Sequence[Copy], progress: Callable[[int, int], None]) -> None:
  """Copies folders from a store, several at a time.

  Args:
    copies: what to copy; what is there is replaced.
    progress: called with (bytes done, bytes in all).

  Raises:
    UserError: a file is missing, or is not what it should be; there is no room.
  """
  total, done = sum(size for c in copies for _, size, _ in c.files), 0
  progress(0, total)
  with concurrent.futures.ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
    try:
      for finished in concurrent.futures.as_completed(pool.submit(_fetch, c) for c in copies):
        done += finished.result()
        progress(done, total)
    finally:
      pool.shutdown(cancel_futures=True)


def _fetch(copy: Copy) -> int:
  try:
    with staging.beside(copy.folder) as folder:
      for name, length, sha256 in copy.files:
        _fetch_file(f'{copy.origin}/{name}', folder / name, length, sha256)
      staging.put(folder, copy.folder, copy.is_here)
  except FileNotFoundError as e:
    raise UserError('A file of prepared data is missing.', where=e.filename or copy.origin,
                    got=e.strerror) from e
  except OSError as e:
    raise UserError('Prepared data cannot be copied.', where=os.fspath(copy.folder),
                    got=e.strerror or str(e),
                    hint='make room, or keep copies elsewhere: FLANJAX_CACHE') from e
  return sum(length for _, length, _ in copy.files)


def _fetch_file(origin: str, path: pathlib.Path, length: int, sha256: str) -> None:
  found = size(origin)
  if found is None:
    raise FileNotFoundError(2, 'there is no such file', origin)
  if found != length:
    raise UserError('A file of prepared data is truncated or was changed.', where=origin,
                    got=f'{found} bytes', expected=f'{length} bytes')
  hashed = hashlib.sha256()
  with path.open('wb') as sink:
    for part in _parts(origin):
      hashed.update(part)
      sink.write(part)
  if hashed.hexdigest() != sha256:
    raise UserError('A file of prepared data is corrupted.', where=origin,
                    got=f'sha256 {hashed.hexdigest()[:16]}', expected=f'sha256 {sha256[:16]}')


def _parts(origin: str) -> Iterator[bytes]:
  with _told(origin), _path(origin).open('rb') as source:
    while part := source.read(_CHUNK_BYTES):
      yield part
