"""Prepared data for those who read with SeqIO, as T5X does: as data sources, tasks and mixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import fingerprints, vocabularies
from flanjax.errors import UserError, nearest
from flanjax.input import files, records
from flanjax.input import manifest as manifest_lib
from flanjax.input.manifest import SIDES, Manifest, PreparedTask

PREFIX = 'prepared_'
_READ_TOGETHER = 256
_SHUFFLE_BUFFER = 1_000
IDS = {'example_id': tf.int64, 'template_id': tf.int32}

Path = str | os.PathLike


class PreparedSource(seqio.DataSource):
  """The examples of a prepared task; token ids, with EOS.

  Elements are {inputs: int32 [n], targets: int32 [n], example_id: int64, template_id: int32}. They
  are shuffled as a whole, anew each time that they are read.

  Args:
    tasks: split -> what was prepared of it.
  """

  def __init__(self, tasks: Mapping[str, PreparedTask]):
    counts = {split: task.num_examples for split, task in tasks.items()}
    super().__init__(list(tasks), num_input_examples=counts, performs_internal_shuffling=True)
    self._tasks = dict(tasks)

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return [os.fspath(self._tasks[split].path / s.file) for s in self._tasks[split].shards]

  def get_dataset(
      self, split: str = 'train', shuffle: bool = True, seed: int | None = None,
      shard_info: seqio.ShardInfo | None = None, **unused: Any,
  ) -> tf.data.Dataset:
    """Reads a split.

    Raises:
      UserError: a file is missing, truncated or corrupted.
    """
    task = self._tasks[split]
    files.check_files([task])
    numbers = np.arange(task.num_examples)
    if shard_info:
      numbers = numbers[shard_info.index :: shard_info.num_shards]
    rng = np.random.default_rng(None if seed is None else int(seed))

    def batches() -> Iterator[dict[str, Any]]:
      yield from _batches(task, rng.permutation(numbers) if shuffle else numbers)

    ragged = {side: tf.RaggedTensorSpec([None, None], tf.int32) for side in SIDES}
    ids = {name: tf.TensorSpec([None], kind) for name, kind in IDS.items()}
    dataset = tf.data.Dataset.from_generator(batches, output_signature={**ragged, **ids}).unbatch()
    # What comes out of a batch of ragged rows is ragged still, though it is even.
    return dataset.map(lambda x: {**x, **{side: tf.convert_to_tensor(x[side]) for side in SIDES}})


def _batches(task: PreparedTask, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
  reader = records.RecordReader([task])
  for start in range(0, len(numbers), _READ_TOGETHER):
    wanted = numbers[start : start + _READ_TOGETHER]
    examples = [records.decode(r) for r in reader.read(np.zeros_like(wanted), wanted)]
    ragged = {
        side: tf.RaggedTensor.from_row_lengths(
            np.concatenate([getattr(e, side) for e in examples]),
            [len(getattr(e, side)) for e in examples])
        for side in SIDES
    }
    yield ragged | {
        name: np.array([getattr(e, name) for e in examples], kind.as_numpy_dtype)
        for name, kind in IDS.items()
    }


def prepared_source(manifest_path: Path, task: str) -> PreparedSource:
  """The prepared examples of one SeqIO task of a mixture.

  Args:
    manifest_path: what `prepare` returned; a path in a store, too.
    task: its name.

  Raises:
    UserError: the manifest cannot be used, or has no such task.
  """
  manifest = manifest_lib.load(manifest_path)
  found = {t.name: t for t in manifest.tasks}
  if task not in found:
    raise UserError(f"There is no task '{task}' in the mixture.", where=os.fspath(manifest_path),
                    hint=nearest(task, found))
  return PreparedSource({manifest.split: found[task]})


class Registered(NamedTuple):
  """Names that SeqIO knows now: of a mixture, and of its tasks."""

  mixture: str
  tasks: tuple[str, ...]


def register_prepared(
    *manifest_paths: Path, prefix: str = PREFIX, vocabulary: seqio.Vocabulary | None = None
) -> Registered:
  """Registers the tasks of a prepared mixture, and the mixture with its rates, under SeqIO.

    flanjax prepare mini_holdout_nli_train --output_dir /data     # prints the manifest
    register_prepared('/data/mixtures/mini_holdout_nli_train-0123456789abcdef.json')
    seqio.get_mixture_or_task('prepared_mini_holdout_nli_train')

  The tasks have no metrics: they are for training, and for losses. Their examples are cut to
  shorter sequence lengths as flanjax cuts, with EOS kept. They may be cached: see `seqio_cache`.

  Args:
    *manifest_paths: what `prepare` returned, of one mixture and one or several splits.
    prefix: what the names begin with; prepared tasks of one process need different ones.
    vocabulary: the one they were prepared with; None: by the name that the manifest gives.

  Raises:
    UserError: a manifest or the vocabulary cannot be used, the splits are of different data, or a
      name is taken.
  """
  manifests = [manifest_lib.load(path) for path in manifest_paths]
  vocabulary = vocabulary or vocabulary_of(manifests[0])
  tasks = _by_split(manifests)
  names = {name: f'{prefix}{name}' for name in tasks}
  mixture = f'{prefix}{manifests[0].mixture}'
  alone = manifests[0].mixture in tasks
  taken = {*names.values(), mixture} & {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
  if taken:
    raise UserError('A name is already registered with SeqIO.', got=sorted(taken)[0],
                    hint='choose another prefix')
  feature = seqio.Feature(vocabulary, add_eos=True)
  for name, splits in tasks.items():
    seqio.TaskRegistry.add(
        names[name], source=PreparedSource(splits),
        preprocessors=[seqio.CacheDatasetPlaceholder(), fit],
        output_features=dict.fromkeys(SIDES, feature), shuffle_buffer_size=_SHUFFLE_BUFFER)
  if not alone:
    rates = [(names[t.name], t.rate) for t in manifests[0].tasks]
    seqio.MixtureRegistry.add(mixture, rates)
  return Registered(mixture, tuple(names.values()))


def _by_split(manifests: Sequence[Manifest]) -> dict[str, dict[str, PreparedTask]]:
  """Task -> split -> what was prepared. A split may lack tasks of the first."""
  first = manifests[0]
  for other in manifests[1:]:
    for key in ('mixture', 'vocabulary_fingerprint'):
      if getattr(other, key) != getattr(first, key):
        raise UserError('Manifests do not belong together.', where=os.fspath(other.path),
                        got=f'{key} {getattr(other, key)}', expected=getattr(first, key))
  if len({m.split for m in manifests}) < len(manifests):
    raise UserError('Two manifests are of the same split.', got=[m.split for m in manifests])
  found = {t.name: {} for t in first.tasks}
  for manifest in manifests:
    for task in manifest.tasks:
      found.setdefault(task.name, {})[manifest.split] = task
  return found


def vocabulary_of(manifest: Manifest) -> seqio.Vocabulary:
  """The vocabulary that a mixture was prepared with.

  Raises:
    UserError: it cannot be found by its name, or is no longer what it was.
  """
  name = manifest.vocabulary
  try:
    vocabulary = vocabularies.get(name)
    known = {vocabularies.fingerprint(name), fingerprints.of_vocabulary(vocabulary)[1]}
  except UserError as e:
    raise UserError('The vocabulary of prepared data is not here.', where=os.fspath(manifest.path),
                    got=f'{name}: {e.got}', hint='hand it over: vocabulary=') from e
  same = manifest.vocabulary_content == fingerprints.identity_of(vocabulary).content != ''
  if manifest.vocabulary_fingerprint not in known and not same:
    raise UserError(
        'The vocabulary is not the one that the data was prepared with.',
        where=os.fspath(manifest.path), got=f'{name}, which has changed',
        hint='hand over the right one: vocabulary=')
  return vocabulary


def fit(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, seqio.Feature],
    sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Cuts token ids to the sequence length; an EOS at their end stays there."""

  @tf.autograph.experimental.do_not_convert
  def cut(x):
    return {**x, **{side: _cut(x[side], limits[side], ends[side]) for side in limits}}

  limits = {side: n for side, n in (sequence_length or {}).items() if side in SIDES and n}
  ends = {side: output_features[side].vocabulary.eos_id for side in limits}
  return dataset.map(cut, num_parallel_calls=tf.data.AUTOTUNE) if limits else dataset


def _cut(ids: tf.Tensor, limit: int, eos: int | None) -> tf.Tensor:
  kept = ids[:limit]
  last = ids[-1:]
  ended = tf.concat([kept[:-1], last], 0)
  return kept if eos is None else tf.where(tf.reduce_all(last == eos), ended, kept)
