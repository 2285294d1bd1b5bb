"""Whether the data of tasks is on this machine, and can be brought or made."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import seqio
import tensorflow_datasets as tfds

from flanjax.data import sources
from flanjax.errors import UserError

if TYPE_CHECKING:
  from flanjax.data.specs import TaskSpec

_INSTRUCTIONS_WIDTH = 200


def check_available(spec: TaskSpec, download: bool = False) -> str | None:
  """Why a task's data cannot be read, or None when it can.

  Looks at what is on disk and reads no example. Data that TFDS makes without a download (a
  generated suite) counts as available: it is written when it is first read.

  Args:
    spec: the task.
    download: try to download and prepare what is missing before giving up.
  """
  source = spec.source
  if isinstance(source, seqio.FileDataSource):
    empty = [s for s in source.splits if not source.list_shards(s)]
    return f'no file matches the pattern of split {empty[0]}' if empty else None
  if not sources.is_tfds(source):
    return None
  name = '/'.join(sources.unversioned_names(source))
  try:
    missing = [b for b in builders(source) if not b.is_prepared() and sources.downloads(b)]
  except Exception as e:  # noqa: BLE001 (TFDS raises import, I/O and its own errors)
    return f'TFDS cannot build {name}: {_first_line(e)}'
  for builder in missing:
    steps = textwrap.shorten(sources.by_hand(builder), _INSTRUCTIONS_WIDTH, placeholder=' ...')
    by_hand = f'; download by hand: {steps}' if steps else ''
    if not download:
      return f'not prepared at {builder.data_dir}{by_hand}'
    try:
      with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare()
    except Exception as e:  # noqa: BLE001
      return f'{name} cannot be downloaded or prepared: {_first_line(e)}{by_hand}'
  return None


def is_prepared(spec: TaskSpec) -> bool:
  """Whether a task's data is on this machine: prepared by TFDS, or not its business."""
  if not sources.is_tfds(spec.source):
    return check_available(spec) is None
  try:
    return all(b.is_prepared() for b in builders(spec.source))
  except Exception:  # noqa: BLE001
    return False


def features_of(spec: TaskSpec) -> Any:
  """The features of a TFDS source as tensor specs, without its data; None where none are known."""
  if not sources.is_tfds(spec.source):
    return None
  try:
    return builders(spec.source)[0].info.features.get_tensor_spec()
  except Exception:  # noqa: BLE001 (builders raise import, I/O and their own errors)
    return None


def require_available(specs: Iterable[TaskSpec]) -> None:
  """Raises one UserError that lists every task whose data is missing."""
  reasons = {s.name: check_available(s) for s in specs}
  missing = [f'{name}: {reason}' for name, reason in reasons.items() if reason]
  if missing:
    raise UserError(
        f'The data of {len(missing)} task(s) is missing.',
        got='\n    '.join(['', *missing]),
        hint='point TFDS_DATA_DIR at prepared data, or skip them: --on_missing skip, '
        "in gin ON_MISSING = 'skip'",
    )


def builders(source: seqio.TfdsDataSource) -> list[tfds.core.DatasetBuilder]:
  """The source's builders, made anew: SeqIO keeps the first it makes, even from before the data."""
  loader = source.tfds_dataset
  params = {loader.get_split_params(split) for split in loader.tfds_splits or [None]}
  kwargs = loader._builder_kwargs or {}
  return [tfds.builder(n, data_dir=folder, **kwargs) for n, folder in sorted(params, key=str)]


def generate(source: seqio.TfdsDataSource) -> None:
  """Has TFDS write the data of a source that it makes without a download, where it is not there.

  Raises:
    UserError: it cannot be written.
  """
  for builder in builders(source):
    if builder.is_prepared() or sources.downloads(builder):
      continue
    tfds.disable_progress_bar()
    try:
      with contextlib.redirect_stdout(sys.stderr):  # It prints, and stdout may be someone's JSON.
        builder.download_and_prepare(file_format='tfrecord')
    except OSError as e:
      raise UserError(
          f"The generated dataset '{builder.name}' cannot be written.",
          where=str(builder.data_dir),
          got=e.strerror or str(e),
      ) from e


def _first_line(error: BaseException) -> str:
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[0] if lines else type(error).__name__
