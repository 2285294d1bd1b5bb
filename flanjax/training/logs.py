"""What a run tells of itself: TensorBoard events, JSON lines, environment.json, audit.json."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax
import tensorboardX

from flanjax import errors

_PACKAGES = ('flanjax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


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
  """-> versions, machine and devices, for environment.json."""
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
      'processes': jax.process_count(),
      'mesh': None if mesh is None else dict(mesh.shape),
  }


def _lines_up_to(path: pathlib.Path, step: int) -> list[str]:
  """The lines of a log that a run resumed after `step` has not to write again."""
  kept = []
  for line in path.read_text().splitlines():
    try:
      if json.loads(line)['step'] <= step:
        kept.append(line)
    except (ValueError, KeyError, TypeError):
      continue  # A line that was being written when the run was killed.
  return kept


class MetricLog:
  """`folder`/log.jsonl and `folder`/events*: one line, one set of scalars, per logged step.

  Args:
    folder: MODEL_DIR/train.
    step: the step resumed from; what was logged after it is dropped.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    self._path = folder / 'log.jsonl'
    if self._path.exists():
      lines = _lines_up_to(self._path, step)
      write_text(self._path, ''.join(line + '\n' for line in lines))
    self._events = tensorboardX.SummaryWriter(
        str(folder), purge_step=step + 1 if step else None, write_to_disk=True)

  def write(self, step: int, scalars: Mapping[str, float], line: Mapping[str, float]) -> None:
    """Adds `scalars` to TensorBoard and `line` to the JSON lines."""
    with self._path.open('a') as lines:
      lines.write(json.dumps({'step': step, **line}) + '\n')
    for name, value in scalars.items():
      self._events.add_scalar(name, value, step)
    self._events.flush()

  def close(self) -> None:
    self._events.close()
