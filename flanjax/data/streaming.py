"""Batches straight from SeqIO, for sources too large to prepare: T5X's way, with its limits.

The same batch dictionary as prepared data gives, and the same trainer; what is different:

  * batches come in order, from an iterator with state (shuffle buffers, open files), which goes
    into the checkpoints: it can be large, and is read again by the same version of TensorFlow;
  * another number of hosts sees other batches;
  * tasks are mixed by SeqIO, one draw at a time: shares stray by the square root of the draws, and
    what was drawn of each task is not known, only what all gave together.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import fingerprints, mixtures, specs
from flanjax.errors import UserError
from flanjax.input.manifest import SIDES

_SNAPSHOTS_KEPT = 4
_EVERYTHING = 'all'


@dataclasses.dataclass(frozen=True)
class StreamedTask:
  """A task of a streamed mixture, as far as training asks."""

  name: str
  cluster: str


@dataclasses.dataclass(frozen=True)
class Streamed:
  """What `input.manifest.Manifest` tells of a prepared mixture, of a streamed one.

  `path` is '' as there is no file of it.
  """

  mixture: str
  vocabulary: str
  vocabulary_fingerprint: str
  vocab_size: int
  tasks: tuple[StreamedTask, ...]
  skipped: Mapping[str, str]
  path: str = ''
  vocabulary_content: str = ''


class StreamingSource:
  """Batches of a mixture in order, by SeqIO.

  Args:
    name: a mixture or a SeqIO task.
    batch_size: rows in a batch, over all hosts.
    feature_lengths: {'inputs': n, 'targets': n}, lengths of rows.
    seed: of the order of examples and the draws of tasks.
    split: which split.
    pack: whether a row holds several examples.
    skipped: SeqIO tasks to leave out -> why.
    snapshot_period: steps between states that are kept to be saved with a checkpoint; on
      restoring at most so many batches are read again.
    shuffle: whether examples are shuffled; without it, batch 0 may be asked for again.

  Raises:
    UserError: the mixture is unknown, or no task is left of it.
  """

  num_batches = None

  def __init__(
      self, name: str, *, batch_size: int, feature_lengths: Mapping[str, int], seed: int,
      split: str = 'train', pack: bool = True, skipped: Mapping[str, str] | None = None,
      snapshot_period: int = 100, shuffle: bool = True,
  ):
    self.batch_size, self.feature_lengths = batch_size, dict(feature_lengths)
    self._seed, self._split, self._pack, self._shuffle = seed, split, pack, shuffle
    self._provider = _provider(name, skipped or {})
    tasks = self._provider.tasks if isinstance(self._provider, seqio.Mixture) else [self._provider]
    vocabulary = tasks[0].output_features['targets'].vocabulary
    self.vocab_size = int(vocabulary.vocab_size)
    known = fingerprints.identity_of(vocabulary)
    self.manifest = Streamed(
        name, known.name, known.fingerprint, self.vocab_size,
        tuple(StreamedTask(t.name, _cluster(t.name)) for t in tasks), dict(skipped or {}),
        vocabulary_content=known.content)
    hashes = {t.name: fingerprints.of_task(t, split) for t in tasks}
    rates = [str(self._provider.get_rate(t)) for t in tasks] if len(tasks) > 1 else []
    self.fingerprint = fingerprints.digest(
        [hashes, rates, split, batch_size, seed, self.feature_lengths, pack, shuffle])
    self._snapshot_period = snapshot_period
    self._scratch = tempfile.TemporaryDirectory(prefix='flanjax_stream_')
    self._snapshots: collections.OrderedDict[int, pathlib.Path] = collections.OrderedDict()
    self._tallies: dict[int, dict[str, int]] = {}
    self._rows: tuple[int, int] | None = None
    self._iterator, self._first, self._next = None, 0, 0
    self._restore_from: tuple[pathlib.Path, int, int] | None = None

  def _dataset(self, rows: tuple[int, int]) -> tf.data.Dataset:
    first, stop = rows
    size = stop - first
    if self.batch_size % size or first % size:
      raise UserError('Hosts must have equal parts of a streamed batch.', got=f'rows {rows}',
                      expected=f'equal parts of {self.batch_size}')
    shard = seqio.ShardInfo(first // size, self.batch_size // size)
    dataset = self._provider.get_dataset(
        self.feature_lengths, split=self._split, shuffle=self._shuffle, seed=self._seed,
        num_epochs=None, shard_info=shard if shard.num_shards > 1 else None)
    converter = seqio.EncDecFeatureConverter(pack=self._pack)
    dataset = converter(dataset, task_feature_lengths=self.feature_lengths)
    return dataset.batch(size, drop_remainder=True).prefetch(1)

  def _open(self, rows: tuple[int, int]) -> None:
    self._iterator = iter(self._dataset(rows))
    self._rows, self._next = rows, self._first
    if self._restore_from:
      folder, at, step = self._restore_from
      self._restore_from = None
      if at:
        _read_state(self._iterator, folder)
        self._next = at
      while self._next < step:
        next(self._iterator)
        self._next += 1

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Batch `step`, which must follow the one before; see `input.packing.batch_arrays`.

    Raises:
      UserError: it does not follow, or a task's data or code fails.
    """
    rows = rows or (0, self.batch_size)
    if self._iterator is None or step == self._first:
      self._open(rows)
    if step != self._next or rows != self._rows:
      raise UserError('Streamed batches come in order.', got=f'batch {step}, rows {rows}',
                      expected=f'batch {self._next}, rows {self._rows}')
    if step % self._snapshot_period == 0 and step:
      self._snapshot(step)
    try:
      batch = {k: v.numpy() for k, v in next(self._iterator).items()}
    except tf.errors.OpError as e:
      from flanjax.data import preprocessors

      raise preprocessors.explain(e) or UserError(
          'Reading a streamed batch failed.', where=f'batch {step} of {self.manifest.mixture}',
          got=f'{type(e).__name__}: {str(e).splitlines()[0][:300]}') from e
    self._next = step + 1
    batch['decoder_loss_weights'] = batch['decoder_loss_weights'].astype(np.float32)
    self._tallies[step] = self._count(batch)
    return batch

  def _count(self, batch: Mapping[str, np.ndarray]) -> dict[str, int]:
    """A tally of all tasks together; that of one host stands for all of them."""
    scale = self.batch_size // len(batch['encoder_input_tokens'])
    sides = {'inputs': batch['encoder_input_tokens'], 'targets': batch['decoder_target_tokens']}
    examples = batch['decoder_segment_ids'].max(axis=1).sum() if self._pack else len(
        batch['encoder_input_tokens'])
    counts = {'examples': examples} | {s: np.count_nonzero(x) for s, x in sides.items()}
    named = {f'{_EVERYTHING}/0/{k}': int(n) * scale for k, n in counts.items()}
    return {'steps': 1} | named

  def tally(self, step: int) -> dict[str, int]:
    """What batch `step`, read just before, held."""
    return self._tallies.pop(step)

  def audit(self, counts: Mapping[str, int]) -> dict[str, Any]:
    """As `MixtureSource.audit`, without tasks."""
    steps = counts.get('steps', 0)
    tokens = {side: counts.get(f'{_EVERYTHING}/0/{side}', 0) for side in SIDES}
    room = {s: max(1, steps * self.batch_size * self.feature_lengths[s]) for s in SIDES}
    return {
        'format_version': 1, 'mixture': self.manifest.mixture, 'split': self._split,
        'steps': steps, 'examples': counts.get(f'{_EVERYTHING}/0/examples', 0), 'tokens': tokens,
        'padding': {side: 1 - tokens[side] / room[side] for side in SIDES},
        'truncated': None, 'test': None, 'tasks': [],
    }

  def _snapshot(self, step: int) -> None:
    folder = pathlib.Path(self._scratch.name) / str(step)
    folder.mkdir(exist_ok=True)
    tf.train.Checkpoint(iterator=self._iterator).write(os.fspath(folder / 'iterator'))
    self._snapshots[step] = folder
    while len(self._snapshots) > _SNAPSHOTS_KEPT:
      shutil.rmtree(self._snapshots.popitem(last=False)[1], ignore_errors=True)

  def save(self, folder: str | os.PathLike, step: int) -> None:
    """Writes what it takes to go on with batch `step`: a state at or before it.

    Batches are read ahead of training, so that the iterator itself is past `step`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = [s for s in list(self._snapshots) if s <= step]
    at = max(known, default=0)
    if at:
      for file in self._snapshots[at].iterdir():
        shutil.copy(file, folder / file.name)
    position = {'step': step, 'snapshot': at, 'first': self._first}
    (folder / 'position.json').write_text(json.dumps(position))

  def begin(self, step: int) -> None:
    """Calls the first batch number `step`, for a run that goes on with another one's model."""
    self._first = step

  def restore(self, folder: str | os.PathLike, step: int) -> None:
    """Goes on with batch `step`, from what `save` wrote.

    Raises:
      UserError: there is no such state.
    """
    folder = pathlib.Path(folder)
    try:
      position = json.loads((folder / 'position.json').read_text())
    except (OSError, ValueError) as e:
      raise _unreadable(folder, e) from e
    if position['step'] != step:
      raise UserError('The state of the streamed data is of another step.', where=str(folder),
                      got=position['step'], expected=step)
    self._first = position.get('first', 0)
    self._restore_from = folder, position['snapshot'], step


def _read_state(iterator: Any, folder: pathlib.Path) -> None:
  try:
    status = tf.train.Checkpoint(iterator=iterator).read(os.fspath(folder / 'iterator'))
    status.assert_consumed()
  except (tf.errors.OpError, AssertionError, ValueError) as e:
    raise _unreadable(folder, e) from e


def _unreadable(folder: pathlib.Path, error: Exception) -> UserError:
  lines = str(error).splitlines() or [type(error).__name__]
  return UserError('The state of the streamed data cannot be read.', where=str(folder),
                   got=lines[0][:300], hint='without it a streamed run cannot go on where it was')


def _cluster(name: str) -> str:
  return specs.parse_task_name(name).spec.cluster if specs.is_task_name(name) else ''


def _provider(name: str, skipped: Mapping[str, str]) -> seqio.Task | seqio.Mixture:
  """The mixture or task, without the tasks that are skipped."""
  provider = mixtures.known(name)
  if not skipped or not isinstance(provider, seqio.Mixture):
    return provider
  left: Sequence[seqio.Task] = [t for t in provider.tasks if t.name not in skipped]
  if not left:
    raise UserError('No task of the mixture is left.', where=f'mixture {name}')
  return seqio.Mixture(name, [(t, provider.get_rate(t)) for t in left])
