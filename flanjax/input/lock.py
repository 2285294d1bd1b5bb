"""A mixture's lock: what its prepared data came from and came to, to notice when that changes.

A lock is a small JSON file to keep with one's code. `drift` compares two of them, or one with what
is about to be prepared.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input.manifest import SIDES, Manifest, PreparedTask, checksum

LOCK_VERSION = 1
# What is compared of a mixture, and of a task.
_MIXTURE_KEYS = (
    'mixture', 'split', 'sequence_length', 'too_long', 'vocabulary', 'vocabulary_fingerprint')
_NAMES = {
    'source': 'source', 'source_hash': 'content of the source', 'rows': 'rows of the source',
    'licence': 'licence', 'templates_hash': 'templates', 'spec_hash': 'fields, filters or steps',
    'vocabulary_hash': 'tokenizer', 'rate': 'rate', 'examples': 'examples after filters',
    'truncated': 'examples cut', 'dropped': 'examples too long and left out',
    'bad': 'examples on which the task fails', 'input_tokens': 'input tokens',
    'target_tokens': 'target tokens', 'content': 'content',
}


def lock(manifest: Manifest) -> dict[str, Any]:
  """The lock of a prepared mixture: plain data."""
  content = {
      'lock_version': LOCK_VERSION,
      'mixture': manifest.mixture,
      'split': manifest.split,
      'sequence_length': dict(manifest.sequence_length),
      'too_long': manifest.too_long,
      'vocabulary': manifest.vocabulary,
      'vocabulary_fingerprint': manifest.vocabulary_fingerprint,
      'tasks': {t.name: _locked(t) for t in sorted(manifest.tasks, key=lambda t: t.name)},
  }
  return content | {'checksum': checksum(content)}


def _locked(task: PreparedTask) -> dict[str, Any]:
  hashes = ''.join(s.sha256 for s in task.shards)
  return {
      **before(vars(task)),
      'examples': task.num_examples,
      'truncated': task.truncated,
      'dropped': task.dropped,
      'bad': task.bad_examples['number'],
      'input_tokens': task.tokens[SIDES[0]].total,
      'target_tokens': task.tokens[SIDES[1]].total,
      'content': hashlib.sha256(hashes.encode()).hexdigest(),
  }


def before(entry: Mapping[str, Any]) -> dict[str, Any]:
  """What a lock says of a task that is known before it is prepared.

  Args:
    entry: {source, num_input_examples, licence, hashes, rate} of a task.
  """
  hashes = entry['hashes']
  return {
      'source': entry['source'],
      'source_hash': hashes['source'],
      'rows': entry['num_input_examples'],
      'licence': entry['licence'],
      'templates_hash': hashes['templates'],
      'spec_hash': hashes['spec'],
      'vocabulary_hash': hashes['vocabulary'],
      'rate': entry['rate'],
  }


def dumps(content: Mapping[str, Any]) -> str:
  """The text of a lock file."""
  return json.dumps(content, indent=1) + '\n'


def load(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a lock file.

  Raises:
    UserError: it is missing, altered, no lock, or of a newer flanjax.
  """
  where = os.fspath(path)
  try:
    content = json.loads(pathlib.Path(path).read_bytes())
  except OSError as e:
    raise UserError('A lock file cannot be read.', where=where, got=e.strerror or str(e),
                    expected='a file written by flanjax mixtures lock') from e
  except ValueError as e:
    raise UserError('A lock file is truncated or no JSON.', where=where, got=e) from e
  version = content.get('lock_version') if isinstance(content, dict) else None
  if not isinstance(version, int) or not isinstance(content.get('tasks'), dict):
    raise UserError('The file is no lock of a mixture.', where=where,
                    expected='a file written by flanjax mixtures lock')
  if version > LOCK_VERSION:
    raise UserError('The lock was written by a newer flanjax.', where=where,
                    got=f'lock version {version}', hint='update flanjax')
  if content.get('checksum') != checksum(content):
    raise UserError('A lock file was altered: its content does not match its checksum.',
                    where=where, hint='write it again: flanjax mixtures lock')
  return content


def drift(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """What is different in the second, one line each; of tasks only what both of them tell."""
  lines = [
      f'{key}: {_shown(old[key])} -> {_shown(new[key])}'
      for key in _MIXTURE_KEYS if key in new and key in old and old[key] != new[key]
  ]
  was, now = old['tasks'], new['tasks']
  lines += [f'{name}: no longer in the mixture' for name in was if name not in now]
  lines += [f'{name}: new in the mixture' for name in now if name not in was]
  for name in was:
    lines += [f'{name}: {line}' for line in _task_drift(was[name], now.get(name, {}))]
  return lines


def _task_drift(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  lines = []
  for key, what in _NAMES.items():
    if key not in new or key not in old or old[key] == new[key]:
      continue
    if key.endswith('_hash') or key == 'content':
      lines.append(f'{what} changed')
    else:
      lines.append(f'{what} {_shown(old[key])} -> {_shown(new[key])}{_part(old[key], new[key])}')
  return lines


def _shown(value: Any) -> str:
  if isinstance(value, (int, float)) and not isinstance(value, bool):
    return f'{value:,}'
  return str(value)[:80] if value not in ('', None) else 'nothing'


def _part(old: Any, new: Any) -> str:
  """' (+1.5 %)' for two numbers."""
  numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, new))
  return f' ({100 * (new - old) / old:+.2f} %)' if numbers and old else ''


def refuse_drift(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
  """Raises UserError that tells all that is different from the lock, if anything is."""
  lines = drift(old, new)
  if lines:
    raise UserError(
        'The mixture is not what its lock says.', where=where, got='\n    '.join(['', *lines]),
        hint='look at what changed; write the lock again (flanjax mixtures lock) if it may be so',
    )
