"""Files of a run, and environment.json: what it ran on."""

from __future__ import annotations

import collections
import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

from flanjax import errors

_PACKAGES = ('flanjax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_GIT_PATIENCE_S = 5
_SECRET_NAME = re.compile(
    r'(?i)(api_?key|secret|passw(or)?d|credential|access_?key|(^|[-_])(auth|token|key)$)')
_URL_SECRETS = re.compile(
    r'(?i)(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/@\s]+@'
    r'|(?P<name>\b[\w-]*(?:signature|credential|token|secret|password|key))\s*=\s*[^&\s]+')


def make_folder(folder: pathlib.Path) -> None:
  """Makes a folder that can be written into, or raises UserError."""
  probe = folder / f'.write-{os.getpid()}'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise errors.UserError('the folder cannot be written', where=str(folder),
                           got=error.strerror or error) from error


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file, whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_text(text)
  part.replace(path)


def environment(mesh: jax.sharding.Mesh | None) -> dict[str, Any]:
  """-> versions, machine, devices, command and date, for environment.json."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  devices = jax.devices()
  return {
      'versions': versions,
      'python': platform.python_version(),
      'platform': platform.platform(),
      'backend': jax.default_backend(),
      'devices': f'{len(devices)} x {devices[0].device_kind}',
      'device_count': len(devices),
      'device_kinds': dict(collections.Counter(device.device_kind for device in devices)),
      'processes': jax.process_count(),
      'mesh': None if mesh is None else dict(mesh.shape),
      'git_commit': git_commit(pathlib.Path(__file__).parent, pathlib.Path(__file__).name),
      'git_commit_of_working_directory': git_commit(pathlib.Path.cwd()),
      'command': redacted(sys.argv),
      'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
  }


@functools.cache
def git_commit(folder: pathlib.Path, tracked: str = '.') -> str | None:
  """The commit of the checkout that `folder` is in, with '+changes' if there are any.

  Args:
    folder: where to look.
    tracked: a file that git must know: an installed package may lie in the checkout of something
      else.

  Returns:
    None where it is in none.
  """
  def git(*words: str) -> str | None:
    try:
      done = subprocess.run(['git', '-C', str(folder), *words], capture_output=True, text=True,
                            timeout=_GIT_PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
      return None
    return done.stdout.strip()

  commit = git('rev-parse', 'HEAD')
  if not commit or git('ls-files', '--error-unmatch', tracked) is None:
    return None
  return commit + ('+changes' if git('status', '--porcelain', '--untracked-files=no') else '')


def redacted(words: Sequence[str]) -> list[str]:
  """A command line without what may be secret: values of such names, and credentials in URLs.

  >>> redacted(['--api_key=xyz', '--token', 'abc', 's3://me:pw@host/x', '--steps=3'])
  ['--api_key=***', '--token', '***', 's3://***@host/x', '--steps=3']
  """
  shown, hide = [], False
  for word in words:
    name, equals, value = word.partition('=')
    secret = bool(_SECRET_NAME.search(name.rpartition('.')[2].strip()))
    word = f'{name}=***' if equals and secret else _URL_SECRETS.sub(_hidden, word)
    shown.append('***' if hide and not word.startswith('-') else word)
    hide = secret and not equals and word.startswith('-')
  return shown


def _hidden(match: re.Match[str]) -> str:
  return f"{match['scheme']}***@" if match['scheme'] else f"{match['name']}=***"
