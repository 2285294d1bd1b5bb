"""The manifest of a prepared mixture: what it holds, and which files. `files` looks at these.

    <root>/mixtures/<mixture>-<fingerprint16>.json      this file; its paths are relative to it
    <root>/<task>/<fingerprint16>/manifest.json         the same about one task
                                  train-00000-of-00001.array_record
                                  train.index.npy       int32 [examples, 4]: COLUMNS
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input import remote

FORMAT_VERSION = 2
SIDES = ('inputs', 'targets')
# What is known of an example without reading it: tokens of both sides, number of the template, and
# whether a side was cut (1: inputs, 2: targets, 3: both).
COLUMNS = ('inputs', 'targets', 'template_id', 'cut')
PREPARE_AGAIN = 'prepare it again: flanjax prepare'
# The manifest of one task, in its folder.
OF_TASK = 'manifest.json'


@dataclasses.dataclass(frozen=True)
class File:
  """A file of a prepared task; `records` is 0 for what holds no records."""

  file: str
  sha256: str
  bytes: int
  records: int = 0


@dataclasses.dataclass(frozen=True)
class TokenStats:
  """Tokens of one side over the examples of a task, EOS included, after truncation.

  `max_id` is the highest token id, `truncated` the number of examples that were cut.
  """

  total: int
  mean: float
  std: float
  min: int
  max: int
  max_id: int
  truncated: int = 0


@dataclasses.dataclass(frozen=True)
class PreparedTask:
  """One task of a mixture.

  Attributes:
    name: the SeqIO task.
    task: the task it comes from (`rte` for `rte_10templates`).
    cluster: its cluster, '' if it has none.
    rate: how often it is drawn, in any unit.
    share: rate over the sum of all rates.
    num_examples: examples prepared.
    path: its folder; of data in a store, that of a local copy.
    origin: the folder of which it is a copy; '' for local data.
    fingerprint: of everything its content depends on.
    shards: the files of records, in order.
    index: the file that says of each example what COLUMNS name.
    tokens: side -> statistics.
    truncated: examples of which a side was cut.
    dropped: examples left out because a side was longer than a row.
    bad_examples: examples left out because the task fails on them: their 'number', and the 'first'
      of them as {'example': its place in the source, 'reason': why}.
    templates: template number -> examples.
    hashes: of the spec, its templates, the vocabulary and the source, to tell what changed.
    source: the data set and its version.
    licence: its terms.
    num_input_examples: rows of the split before filters; 0 when unknown.
  """

  name: str
  task: str
  cluster: str
  rate: float
  share: float
  num_examples: int
  path: pathlib.Path
  fingerprint: str
  shards: tuple[File, ...]
  index: File
  tokens: Mapping[str, TokenStats]
  truncated: int
  templates: Mapping[str, int]
  hashes: Mapping[str, str]
  source: str = ''
  licence: str = ''
  num_input_examples: int = 0
  dropped: int = 0
  bad_examples: Mapping[str, Any] = dataclasses.field(
      default_factory=lambda: {'number': 0, 'first': []})
  origin: str = ''

  @property
  def files(self) -> tuple[File, ...]:
    return (*self.shards, self.index)

  @property
  def remedy(self) -> str:
    """What to do when its files are not what they should be."""
    return f'remove this copy of {self.origin}' if self.origin else PREPARE_AGAIN


@dataclasses.dataclass(frozen=True)
class Manifest:
  """A prepared mixture.

  `skipped` are tasks left out because their data is missing; `too_long` says what became of
  examples longer than `sequence_length`: 'truncate' or 'drop'; `vocabulary`,
  `vocabulary_fingerprint` and `vocabulary_content` are those of `pieces.Identity`.
  """

  path: pathlib.Path
  mixture: str
  split: str
  sequence_length: Mapping[str, int]
  vocabulary: str
  vocabulary_fingerprint: str
  vocab_size: int
  versions: Mapping[str, str]
  tasks: tuple[PreparedTask, ...]
  skipped: Mapping[str, str]
  fingerprint: str
  too_long: str = 'truncate'
  vocabulary_content: str = ''


def checksum(content: Mapping[str, Any]) -> str:
  """Sha256 of a manifest's content, the entry 'checksum' apart."""
  rest = {k: v for k, v in content.items() if k != 'checksum'}
  return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def dumps(content: Mapping[str, Any]) -> str:
  """The text of a manifest file."""
  content = {'format_version': FORMAT_VERSION, **content}
  return json.dumps({**content, 'checksum': checksum(content)}, indent=1) + '\n'


def read(path: str | os.PathLike) -> dict[str, Any]:
  """The content of a manifest file, known to be whole.

  Raises:
    UserError: it is missing, truncated, altered, or of a newer format.
  """
  where = os.fspath(path)
  try:
    content = json.loads(
        remote.read_bytes(path) if remote.is_remote(path) else pathlib.Path(path).read_bytes())
  except OSError as e:
    raise UserError(
        'The manifest of prepared data cannot be read.', where=where, got=e.strerror or str(e),
        expected='a file written by flanjax prepare',
    ) from e
  except ValueError as e:
    raise UserError(
        'A manifest is truncated or corrupted.', where=where, got=f'no JSON: {e}',
        hint=PREPARE_AGAIN,
    ) from e
  version = content.get('format_version') if isinstance(content, dict) else None
  if not isinstance(version, int):
    raise UserError(
        'The file is no manifest of prepared data.', where=where,
        expected='a file written by flanjax prepare',
    )
  if version > FORMAT_VERSION:
    raise UserError(
        'The data was prepared by a newer flanjax.', where=where, got=f'format {version}',
        expected=f'format {FORMAT_VERSION}', hint='update flanjax, or prepare it again',
    )
  if version < FORMAT_VERSION:
    raise UserError(
        'The data was prepared by an older flanjax.', where=where, got=f'format {version}',
        expected=f'format {FORMAT_VERSION}', hint=PREPARE_AGAIN,
    )
  if content.get('checksum') != checksum(content):
    raise UserError(
        'A manifest is corrupted: its content does not match its checksum.', where=where,
        got=checksum(content)[:16], expected=str(content.get('checksum'))[:16],
        hint=PREPARE_AGAIN,
    )
  return content


def load(path: str | os.PathLike) -> Manifest:
  """Reads a mixture's manifest, from a disk or a store; looks at none of the files it names.

  Raises:
    UserError: it is missing, truncated, altered, of a newer format, or holds no task.
  """
  path = remote.resolved(path)
  content = read(path)
  fields = {f.name for f in dataclasses.fields(Manifest)} - {'path', 'tasks', 'fingerprint'}
  optional = {f.name for f in dataclasses.fields(Manifest) if f.default is not dataclasses.MISSING}
  missing = sorted((fields | {'tasks'}) - set(content) - optional)
  if missing or not content['tasks']:
    raise UserError(
        'The manifest describes no mixture.', where=os.fspath(path),
        got='no task' if not missing else f'no entry {", ".join(missing)}',
        expected="a file of the folder 'mixtures'",
    )
  return Manifest(
      path=path,
      tasks=tuple(task_from(entry, path.parent) for entry in content['tasks']),
      fingerprint=content['checksum'],
      **{name: content[name] for name in fields & set(content)},
  )


def task_from(entry: Mapping[str, Any], folder: remote.AnyPath) -> PreparedTask:
  """A task's entry in a manifest that lies in `folder`.

  Raises:
    UserError: it names a place outside of the task's own folder, where a copy would overwrite it.
  """
  shards, index = tuple(File(**s) for s in entry['shards']), File(**entry['index'])
  for name in (*(f.file for f in (*shards, index)), pathlib.PurePath(entry['path']).parent.name):
    if name != pathlib.PurePath(name).name or name == '..':
      raise UserError('A manifest names a file of another folder.', where=os.fspath(folder),
                      got=name, expected='a name')
  place = {'path': folder / entry['path']}
  if remote.is_remote(folder):
    hashes = ''.join(f.sha256 for f in (*shards, index))
    content = hashlib.sha256(hashes.encode()).hexdigest()[:16]
    place = {'origin': remote.joined(folder, entry['path']),
             'path': remote.cache() / pathlib.PurePath(entry['path']).parent.name / content}
  return PreparedTask(**{
      **entry,
      **place,
      'shards': shards,
      'index': index,
      'tokens': {side: TokenStats(**entry['tokens'][side]) for side in SIDES},
  })
