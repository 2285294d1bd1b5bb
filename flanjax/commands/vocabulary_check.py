"""Refuses a model and data, or two models, that do not have one vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.input import pieces, remote
from flanjax.interop import json_files, model_folders

_EMBEDDING = 'token_embedder/embedding'


def before_training(settings: Any, manifests: Mapping[int, Any], initial: str | None) -> None:
  """UserError where a run's data, its checkpoints and INITIAL_CHECKPOINT_PATH disagree.

  A run that does not begin with the embeddings of that checkpoint may have another vocabulary.

  Args:
    settings: a `train.TrainRun`.
    manifests: of its mixtures, by the step from which they hold.
    initial: the checkpoint, or None.
  """
  from flanjax.commands import train

  own = pieces.Identity.of(manifests[0])
  for manifest in manifests.values():
    pieces.check_same(
        pieces.Identity.of(manifest), own, 'The mixtures of a run have different vocabularies.',
        os.fspath(manifest.path or manifest.mixture), 'prepare them with one --vocabulary')
  path = remote.resolved(settings.model_dir) / 'model.json'
  if path.is_file():
    pieces.check_same(
        own, pieces.Identity.of(json_files.read(path)),
        'The data has another vocabulary than this run began with.', str(path),
        'VOCABULARY must stay as it was, or MODEL_DIR be another')
  if initial and train.rehearse(settings).restoring.source_of(_EMBEDDING):
    pieces.check_same(
        own, of_checkpoint(initial), "The data has another vocabulary than the checkpoint's.",
        initial, 'set VOCABULARY to the one expected; to learn embeddings anew, restoring.Restoring'
        ".assignment_map = [('token_embedder/.*', None), ('decoder/logits_dense/.*', None)]")


def of_checkpoint(path: str) -> pieces.Identity | None:
  """The vocabulary of a checkpoint; None where nothing says what it is."""
  try:
    opened = model_folders.find(path, 'INITIAL_CHECKPOINT_PATH')
  except UserError:
    return None  # A bare file of weights, which training takes.
  return of_model(opened)


def of_model(opened: model_folders.Opened) -> pieces.Identity | None:
  return pieces.Identity.of({**opened.run, **opened.model_info})


def name_for(opened: model_folders.Opened) -> str | None:
  """The vocabulary to evaluate a model with: the model's own; None where it does not say.

  Where that is not here, FLANJAX_VOCABULARY may name another place of it.

  Raises:
    UserError: it is not here, or not the one that the model was made with.
  """
  from flanjax.data import vocabularies

  name, other = opened.vocabulary, os.environ.get(vocabularies.ENVIRONMENT_VARIABLE)
  if not name:
    return None
  try:
    found = vocabularies.identity(name)
  except UserError:
    if not other:
      raise
    found = vocabularies.identity(name := other)
  pieces.check_same(
      found, of_model(opened), 'The vocabulary is not that of the model.', opened.path)
  return name


def before_evaluation(
    opened: Mapping[str, model_folders.Opened], tasks: Iterable[str], rows: Mapping[str, int]
) -> None:
  """UserError where models and tasks do not have one vocabulary that fits the models.

  Args:
    opened: models by what they are called.
    tasks: SeqIO tasks.
    rows: ids that each model predicts.
  """
  import seqio

  from flanjax.data import fingerprints

  known = {name: of_model(model) for name, model in opened.items()}
  own = next((v for v in known.values() if v), None)
  for name, model in opened.items():
    pieces.check_same(known[name], own, 'The models have different vocabularies.', model.path)
  seen = set()
  for task in tasks:
    for side, feature in seqio.TaskRegistry.get(task).output_features.items():
      vocabulary = feature.vocabulary
      said = fingerprints.identity_of(vocabulary)
      if said in seen:
        continue
      seen.add(said)
      where = f'task {task}, {side}'
      pieces.check_same(said, own, 'A task has another vocabulary than the model.', where)
      for count in rows.values():
        pieces.check_size(int(vocabulary.vocab_size), count, said.name, where)
