"""Tasks of a mixture whose data is not on this machine."""

from __future__ import annotations

import os
import socket

from flanjax.data import availability, mixtures, sources, specs
from flanjax.errors import UserError


def tasks_to_skip(mixture: str, on_missing: str, download: bool = True) -> dict[str, str]:
  """SeqIO tasks of a mixture whose data is not there -> why.

  Args:
    mixture: a mixture or a SeqIO task.
    on_missing: 'error' or 'skip', whether they are an error.
    download: whether missing data may be downloaded.

  Raises:
    UserError: `on_missing` is neither; or there are such tasks, and it is 'error'.
  """
  if on_missing not in ('error', 'skip'):
    raise UserError('on_missing is unknown.', got=repr(on_missing), expected="'error' or 'skip'")
  missing = _missing(mixture, download)
  if missing and on_missing == 'error':
    listed = '; '.join(f'{name} ({reason})' for name, reason in missing.items())
    raise UserError(
        f'The data of {len(missing)} task(s) is missing.', where=mixture, got=listed,
        hint='point TFDS_DATA_DIR at prepared data, or skip them: --on_missing skip, '
        "in gin ON_MISSING = 'skip'",
    )
  return missing


def _missing(mixture: str, download: bool) -> dict[str, str]:
  """SeqIO tasks of a mixture whose data is not there -> why."""
  names = [n for n in mixtures.tasks_of(mixture) if specs.is_task_name(n)]
  owners = {n: specs.parse_task_name(n).spec for n in names}
  by_spec = {s.name: s for s in owners.values()}
  reasons = {name: availability.check_available(spec) for name, spec in by_spec.items()}
  absent = [by_spec[name] for name, reason in reasons.items() if reason and download]
  if absent and not _online():
    # Files that were fetched by hand may be here, without a network.
    absent = [spec for spec in absent if sources.downloads_nothing(spec.source)]
  reasons |= {s.name: availability.check_available(s, download=True) for s in absent}
  return {n: reasons[s.name] for n, s in owners.items() if reasons[s.name]}


def _online() -> bool:
  """Whether names resolve. Where they do not, TFDS retries every file for minutes."""
  if os.environ.get('https_proxy') or os.environ.get('HTTPS_PROXY'):
    return True
  try:
    socket.getaddrinfo('storage.googleapis.com', 443)
  except OSError:
    return False
  return True
