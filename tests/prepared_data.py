"""Prepared mixtures for tests, written without TensorFlow."""

from __future__ import annotations

import json
import pathlib

import numpy as np

from flanjax.input import manifest as manifest_lib
from flanjax.input import writer
from flanjax.input.records import Example

VOCAB_SIZE = 1_000


def examples(count: int, mean: tuple[float, float], longest: tuple[int, int], seed: int):
  """Random token ids that end with 1, with long-tailed lengths."""
  rng = np.random.default_rng(seed)

  def ids(m: float, most: int) -> np.ndarray:
    length = int(np.clip(rng.lognormal(np.log(m) - 0.25, 0.7), 2, most))
    return np.append(rng.integers(2, VOCAB_SIZE, length - 1), 1).astype(np.int32)

  return [
      Example(ids(mean[0], longest[0]), ids(mean[1], longest[1]), i, i % 10) for i in range(count)
  ]


def write_mixture(
    root: pathlib.Path,
    tasks: dict[str, list[Example]],
    rates: dict[str, float] | None = None,
    lengths: tuple[int, int] = (64, 16),
    records_per_shard: int = 1 << 16,
    **changes,
) -> pathlib.Path:
  """Writes tasks and the manifest of their mixture, whose entries `changes` replace."""
  entries = []
  for name, data in tasks.items():
    folder = root / name / 'f00d'
    folder.mkdir(parents=True)
    files = writer.write_examples(folder, 'train', data, records_per_shard=records_per_shard)
    rate = float((rates or {}).get(name, len(data)))
    entries.append({
        'name': name, 'task': name.split('_')[0], 'cluster': 'c', 'rate': rate,
        'share': 1 / len(tasks), 'path': f'../{name}/f00d', 'fingerprint': f'{name}-f00d',
        'hashes': {}, **files,
    })
  content = {
      'mixture': 'mix', 'split': 'train',
      'sequence_length': {'inputs': lengths[0], 'targets': lengths[1]},
      'vocabulary': 'test', 'vocabulary_fingerprint': '0', 'vocab_size': VOCAB_SIZE,
      'versions': {}, 'tasks': entries, 'skipped': {}, **changes,
  }
  path = root / 'mixtures' / 'mix.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(manifest_lib.dumps(content))
  return path


def drawn(source, step: int) -> dict[str, int]:
  """Task -> examples of it in batch `step`."""
  names = [t.name for t in source.manifest.tasks]
  return {n: int(c) for n, c in zip(names, np.bincount(source.rows(step).tasks, minlength=len(names)))}


def edit_manifest(path: pathlib.Path, **changes) -> None:
  """Changes a manifest as a program would, with a checksum that fits."""
  content = json.loads(path.read_text())
  path.write_text(manifest_lib.dumps({**content, **changes}))
