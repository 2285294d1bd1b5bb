"""What cells are made of: trainings and evaluations, each done once however many cells share it.

A unit's folder is named by the hash of what its result depends on, as far as the configuration
says: the mixture, the seed, every setting of its side. Places, and how often checkpoints are written, are
no part of it. So an experiment whose settings are changed begins anew where they matter, and what
was done before stays where it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flanjax import gin_files
from flanjax.errors import UserError
from flanjax.experiments.matrix import Condition, Experiment

# Parameters that say where things are or how they are kept, and those that a unit gives itself.
_NO_PART = frozenset({
    'model_dir', 'checkpoint_path', 'output_dir', 'untuned_checkpoint_path', 'prepared_dir',
    'initial_checkpoint_path', 'mixture_or_task_name', 'holdout', 'random_seed', 'untuned',
    'reporting', 'wandb_project', 'period', 'keep'})
_OWN = ('Experiment', 'Condition', 'sweep')
# Parts of an evaluation that may be left off; then a unit is what it was before there were any.
_OFF = {'option_orders': 0, 'label_wordings': False, 'variant_templates': None}


@dataclasses.dataclass(frozen=True)
class Files:
  """Gin files of a unit, read before and after those of the experiment."""

  first: tuple[str, ...] = ()
  last: tuple[str, ...] = ()

  @classmethod
  def of(cls, condition: Condition) -> Files:
    return cls((condition.model,) if condition.model else (), condition.gin_files)


@dataclasses.dataclass(frozen=True)
class Given:
  """What the command line gave: the configuration that every unit starts from."""

  gin_files: tuple[str, ...]
  bindings: tuple[str, ...] = ()
  search_paths: tuple[str, ...] = ()
  modules: tuple[str, ...] = ()

  def files_and_bindings(
      self, files: Files, settings: Mapping[str, Any]
  ) -> tuple[list[str], list[str]]:
    """Ours with those of a unit."""
    bindings = [f'{name} = {value!r}' for name, value in settings.items()]
    return [*files.first, *self.gin_files, *files.last], [*self.bindings, *bindings]

  def argv(self, files: Files, settings: Mapping[str, Any]) -> list[str]:
    """The flags of a child."""
    files, bindings = self.files_and_bindings(files, settings)
    argv = [f'--gin_file={f}' for f in files] + [f'--gin_bindings={b}' for b in bindings]
    argv += [f'--gin_search_paths={",".join(self.search_paths)}'] if self.search_paths else []
    return argv + [f'--module={m}' for m in self.modules]

  def settings(self, files: Files, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that files and bindings set, as plain data."""
    return gin_files.settings_of(
        *self.files_and_bindings(files, settings), self.search_paths)


@dataclasses.dataclass(frozen=True)
class Training:
  """A training; `after` is the one whose model it begins from."""

  key: str
  mixture: str
  seed: int
  holdout: str | None
  files: Files
  settings: Mapping[str, Any]
  after: Training | None = None

  @property
  def folder_name(self) -> str:
    return f'{slug(self.mixture)}-seed{self.seed}-{self.key}'

  def chain(self) -> list[Training]:
    """The trainings before it, and itself."""
    return [*(self.after.chain() if self.after else ()), self]


@dataclasses.dataclass
class Evaluation:
  """An evaluation of one model; `names` grows as cells ask for more of it."""

  key: str
  training: Training | None
  checkpoint: str | None
  label: str
  files: Files
  settings: Mapping[str, Any]
  names: list[str] = dataclasses.field(default_factory=list)
  num_examples: int | None = None
  on_missing: str = 'error'

  @property
  def folder_name(self) -> str:
    return f'{slug(self.label)}-{self.key}'


@dataclasses.dataclass(frozen=True)
class Cell:
  """One condition, on one holdout, with one seed (None: nothing is drawn)."""

  name: str
  condition: Condition
  holdout: tuple[str, ...]
  seed: int | None
  evaluation: Evaluation
  names: tuple[str, ...]

  @property
  def training(self) -> Training | None:
    return self.evaluation.training

  @property
  def group(self) -> str:
    """Cells with this in common belong into one job: they share a training, or the lack of one."""
    chain = self.training.chain() if self.training else ()
    return chain[0].key if chain else self.evaluation.key


def slug(text: str) -> str:
  """Letters, digits and little else, for names of folders.

  >>> slug('mini:only.topic, 3-shot')
  'mini-only.topic-3-shot'
  """
  return re.sub(r'[^\w.+=]+', '-', text).strip('-')[:64]


def digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_cells(experiment: Experiment, given: Given) -> list[Cell]:
  """All cells, in the order holdout, seed, condition."""
  maker, cells = _Maker(experiment, given), []
  for holdout in experiment.holdouts:
    for seed in experiment.seeds:
      cells += [c for c in (maker.cell(x, holdout, seed) for x in experiment.conditions) if c]
  names = [c.name for c in cells]
  twice = sorted({n for n in names if names.count(n) > 1})
  if twice:
    raise UserError('Two cells have one name.', got=twice[0],
                    hint='names of conditions must differ in letters or digits')
  return cells


class _Maker:
  """Makes cells, and each unit that they share once."""

  def __init__(self, experiment: Experiment, given: Given):
    self._experiment, self._given = experiment, given
    if any(c.model for c in experiment.conditions) and given.settings(Files(), {}).get('MODEL'):
      raise UserError('The conditions of this experiment name their models.',
                      where=f'experiment {experiment.name}', got='another model file',
                      hint='leave it out of the command')
    self._trainings: dict[str, Training] = {}
    self._evaluations: dict[str, Evaluation] = {}
    self._settings_of: dict[str, dict[str, Any]] = {}
    self._untrained: set[tuple[str, tuple[str, ...]]] = set()

  def cell(self, condition: Condition, holdout: tuple[str, ...], seed: int) -> Cell | None:
    """None where nothing depends on the seed and another seed's cell is the same."""
    training = self._training(condition, holdout, seed)
    if training is None:
      if (condition.name, holdout) in self._untrained:
        return None
      self._untrained.add((condition.name, holdout))
    names = tuple(self._expand(condition.evaluate, holdout))
    evaluation = self._evaluation(condition, holdout, training)
    evaluation.names += [n for n in names if n not in evaluation.names]
    shown = None if training is None else seed
    parts = ['+'.join(holdout), *([] if shown is None else [f'seed{seed}']), condition.name]
    return Cell('-'.join(map(slug, parts)), condition, holdout, shown, evaluation, names)

  def _training(
      self, condition: Condition, holdout: tuple[str, ...], seed: int
  ) -> Training | None:
    after = condition.after and self._training(condition.after, holdout, seed)
    if condition.train is None:
      return after
    mixture = self._fill(condition.train, '.'.join(holdout))
    withheld = re.search(r'holdout_\{holdout\}|without\.\{holdout\}', condition.train)
    withheld = withheld and 'plus.' not in condition.train
    own = self._filled(condition.settings, holdout)
    files = Files.of(condition)
    settings = self._settings(files, own)
    key = digest([
        mixture, seed, after and after.key, _of_training(settings),
        None if after else settings.get('INITIAL_CHECKPOINT_PATH')])
    made = Training(
        key, mixture, seed, holdout[0] if withheld and len(holdout) == 1 else None,
        files, own, after)
    return self._trainings.setdefault(key, made)

  def _evaluation(
      self, condition: Condition, holdout: tuple[str, ...], training: Training | None
  ) -> Evaluation:
    files = Files.of(condition)
    own = self._filled({**condition.settings, **condition.eval_settings}, holdout)
    settings = self._settings(files, own)
    checkpoint = None if training else settings.get('INITIAL_CHECKPOINT_PATH')
    if not training and not checkpoint:
      raise UserError('A condition without a training needs a model.',
                      where=f'condition {condition.name}', expected='INITIAL_CHECKPOINT_PATH')
    key = digest([training.key if training else checkpoint, holdout, _of_evaluation(settings)])
    label = f'{"+".join(holdout)} by {training.folder_name if training else checkpoint}'
    made = Evaluation(key, training, checkpoint, label, files, own,
                      num_examples=settings.get('NUM_EXAMPLES'),
                      on_missing=settings.get('ON_MISSING', 'error'))
    return self._evaluations.setdefault(key, made)

  def _settings(self, files: Files, own: Mapping[str, Any]) -> dict[str, Any]:
    """`Given.settings`, read once for all cells that agree in it."""
    key = digest([files, own])
    if key not in self._settings_of:
      self._settings_of[key] = self._given.settings(files, own)
    return self._settings_of[key]

  def _fill(self, text: str, holdout: str) -> str:
    for name, value in (('suite', self._experiment.suite), ('task', self._experiment.task),
                        ('holdout', holdout)):
      text = text.replace(f'{{{name}}}', value)
    return text

  def _filled(self, value: Any, holdout: Sequence[str]) -> Any:
    """Settings with every text filled in."""
    if isinstance(value, str):
      return self._fill(value, '.'.join(holdout))
    if isinstance(value, Mapping):
      return {self._filled(k, holdout): self._filled(v, holdout) for k, v in value.items()}
    return value

  def _expand(self, texts: Sequence[str], holdout: Sequence[str]) -> Iterator[str]:
    for text in texts:
      for cluster in holdout if '{holdout}' in text else holdout[:1]:
        yield self._fill(text, cluster)


def _of_training(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings that a training depends on: parameters, macros being in them."""
  return {k: v for k, v in _parameters(settings) if k.split('.')[-2] not in ('EvalRun', *_OWN)}


def _of_evaluation(settings: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in _parameters(settings) if k.split('.')[-2] == 'EvalRun'
          and not (k.split('.')[-1] in _OFF and v == _OFF[k.split('.')[-1]])}


def _parameters(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  """'module.Class.parameter' -> value, but those that say where things are."""
  for name, value in settings.items():
    if '.' in name and name.split('.')[-1] not in _NO_PART:
      yield name, value


def folder(root: pathlib.Path, unit: Training | Evaluation) -> pathlib.Path:
  """Where a unit is done."""
  kind = 'trainings' if isinstance(unit, Training) else 'evaluations'
  return root / kind / unit.folder_name
