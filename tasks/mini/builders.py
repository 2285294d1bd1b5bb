"""TFDS builders of the embedded world, and where their data lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import io
import json
import os
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from flanjax.errors import UserError
from flanjax.tasks.mini import world

Example = Mapping[str, Any]
VERSION = '1.1.0'
_SEED = 2_021


def data_dir() -> pathlib.Path:
  """Where the suite's data is kept: $FLANJAX_CACHE/tfds or ~/.cache/flanjax/tfds."""
  cache = os.environ.get('FLANJAX_CACHE') or pathlib.Path.home() / '.cache' / 'flanjax'
  return pathlib.Path(cache) / 'tfds'


def distinct(draw: Callable[[world.Rng], Example], rng: world.Rng) -> Iterator[Example]:
  """Examples of which no two are equal, until new ones are too hard to find."""
  seen: set[str] = set()
  misses = 0
  while misses < 2_000:
    example = draw(rng)
    key = json.dumps(example, sort_keys=True)
    misses = misses + 1 if key in seen else 0
    if not misses:
      seen.add(key)
      yield example


class MiniBuilder(tfds.core.GeneratorBasedBuilder):
  """A generated dataset: subclasses name their features and draw one example.

  A feature is text, or a sequence of texts where its name is `options`. The
  splits share no example, and the same version gives the same bytes.
  """

  VERSION = tfds.core.Version(VERSION)
  FEATURES: tuple[str, ...] = ()
  SIZES = {'test': 400, 'validation': 200, 'train': 2_500}

  @staticmethod
  def draw(rng: world.Rng) -> Example:
    raise TypeError('a subclass of MiniBuilder draws its own examples')

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    features = {f: tfds.features.Sequence(text) if f == 'options' else text for f in self.FEATURES}
    return tfds.core.DatasetInfo(
        builder=self, description=type(self).__doc__, features=tfds.features.FeaturesDict(features),
        disable_shuffling=True)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    examples = distinct(self.draw, world.Rng(f'{_SEED}/{self.name}'))
    splits = {}
    for split, size in self.SIZES.items():
      splits[split] = [e for e, _ in zip(examples, range(size))]
    if len(splits['train']) < 1_000:
      raise UserError('A dataset of the embedded world has too few distinct examples.',
                      where=self.name, got=len(splits['train']), expected='at least 1000')
    return {split: self._generate_examples(rows) for split, rows in splits.items()}

  def _generate_examples(self, examples: list[Example]):
    yield from enumerate(examples)


def build(directory: str | os.PathLike[str] | None = None,
          progress: Callable[[int, int, str], None] | None = None) -> pathlib.Path:
  """Builds every dataset of the suite that is not there yet; returns their data dir.

  Args:
    directory: a TFDS data dir; by default `data_dir()`.
    progress: called with (done, total, name) before each dataset.
  """
  directory = pathlib.Path(directory or data_dir())
  builders = sorted(MiniBuilder.__subclasses__(), key=lambda b: b.name)
  for i, builder in enumerate(builders):
    if progress:
      progress(i, len(builders), builder.name)
    _build(builder(data_dir=str(directory)))
  if progress:
    progress(len(builders), len(builders), '')
  return directory


def _build(builder: MiniBuilder) -> None:
  if builder.is_prepared():
    return
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces each dataset in two lines.
      builder.download_and_prepare(file_format='tfrecord')
  except OSError as e:
    raise UserError(
        f'The embedded dataset {builder.name} cannot be written.', where=builder.data_dir,
        got=e.strerror or e, hint='choose another folder with FLANJAX_CACHE') from e
