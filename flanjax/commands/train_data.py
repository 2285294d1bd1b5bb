"""What `flanjax train` reads: prepared data, or a stream."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flanjax.commands import common, prepare
from flanjax.commands.prepare import TOO_LONG
from flanjax.errors import UserError
from flanjax.input import remote

if TYPE_CHECKING:
  from flanjax.commands.train import TrainRun


@dataclasses.dataclass(frozen=True)
class Data:
  """What a run reads.

  Attributes:
    manifests: of the mixtures that hold from each step on; what is known of a streamed one.
    source: TrainRun -> its batches.
    validation: TrainRun -> batches of the validation split, or None.
  """

  manifests: Mapping[int, Any]
  source: Callable[[TrainRun], Any]
  validation: Callable[[TrainRun], Any]

  @classmethod
  def of(cls, settings: TrainRun) -> Data:
    return cls.prepared(settings) if settings.use_prepared else cls.streamed(settings)

  @classmethod
  def prepared(cls, settings: TrainRun) -> Data:
    """Prepared data; a child prepares what is missing."""
    from flanjax.input import manifest as manifest_lib

    names = {0: settings.mixture_or_task_name, **(settings.mixture_changes or {})}
    paths = {step: _manifest_of(settings, name=name) for step, name in names.items()}
    manifests = {step: manifest_lib.load(path) for step, path in paths.items()}
    return cls(manifests, lambda run: _source(run, paths), _validation_source)

  @classmethod
  def streamed(cls, settings: TrainRun) -> Data:
    """SeqIO's own pipeline, in this process: it needs TensorFlow."""
    if settings.mixture_changes or settings.mixing not in (None, type(settings.mixing)()):
      raise UserError('Streamed mixtures are mixed by SeqIO, at their registered rates.',
                      where='USE_PREPARED = False', got='MIXTURE_CHANGES or mixing.Mixing',
                      expected='neither of them')
    if settings.too_long != TOO_LONG[0] or settings.max_bad_examples:
      raise UserError('SeqIO cuts the examples of streamed mixtures, and leaves none out.',
                      where='USE_PREPARED = False', got='TOO_LONG or MAX_BAD_EXAMPLES',
                      expected='neither of them')
    common.load_tasks(settings.modules, settings.vocabulary)
    from flanjax.data import missing
    from flanjax.data import streaming

    name = settings.mixture_or_task_name
    skipped = missing.tasks_to_skip(name, settings.on_missing)
    open_stream = functools.partial(
        streaming.StreamingSource, name, batch_size=settings.batch_size, pack=settings.pack,
        feature_lengths=settings.task_feature_lengths, skipped=skipped)
    source = open_stream(seed=settings.random_seed)
    validation = lambda run: open_stream(
        seed=0, split='validation', shuffle=False) if run.eval_period else None
    return cls({0: source.manifest}, lambda run: source, validation)


def _manifest_of(
    settings: TrainRun, split: str = 'train', name: str | None = None
) -> remote.AnyPath:
  """The manifest of the run's mixture, prepared by a child where it is not there yet.

  `mixture_or_task_name` may be the path of a manifest, for hosts without TensorFlow.
  """
  name = name or settings.mixture_or_task_name
  if name.endswith('.json'):
    return remote.resolved(name)
  return prepare.in_a_child(
      name, settings.task_feature_lengths, split, vocabulary=settings.vocabulary,
      output_dir=settings.prepared_dir, on_missing=settings.on_missing, modules=settings.modules,
      from_gin=True, too_long=settings.too_long, max_bad_examples=settings.max_bad_examples)


def _source(settings: TrainRun, manifests: Mapping[int, remote.AnyPath]) -> Any:
  """Batches of the mixtures that hold from each step on."""
  from flanjax.input import changing, mixing, mixture

  parts = {
      step: mixture.open_mixture(
          path, batch_size=settings.batch_size, seed=settings.random_seed,
          feature_lengths=settings.task_feature_lengths, pack=settings.pack,
          mixing=settings.mixing or mixing.Mixing())
      for step, path in manifests.items()
  }
  return parts[0] if len(parts) == 1 else changing.ChangingSource(parts)


def _validation_source(settings: TrainRun) -> Any:
  """Batches of the mixture's validation split, or None where EVAL_PERIOD is 0."""
  if not settings.eval_period:
    return None
  if settings.mixture_or_task_name.endswith('.json'):
    raise UserError('EVAL_PERIOD needs a mixture by name, to prepare its validation split.',
                    where='MIXTURE_OR_TASK_NAME', got=settings.mixture_or_task_name)
  from flanjax.input import mixture

  return mixture.open_mixture(
      _manifest_of(settings, 'validation'), batch_size=settings.batch_size, seed=0,
      feature_lengths=settings.task_feature_lengths, pack=settings.pack)
