"""What an experiment will cost, told before it is begun."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax import gin_files, terminal
from flanjax.errors import UserError, nearest
from flanjax.experiments import running, units
from flanjax.experiments.matrix import Experiment
from flanjax.experiments.units import Cell, Evaluation, Given, Training

_FALLBACKS = {'MODEL_DIR': "'plan'", 'MIXTURE_OR_TASK_NAME': "'plan'", 'CHECKPOINT_PATH': "'plan'"}
_PIECES = 32_128  # Rows of a vocabulary that is not known before data is prepared: T5's.


@dataclasses.dataclass(frozen=True)
class Rate:
  """How fast training is believed to be, if cells that are done do not tell.

  Attributes:
    tokens_per_second: of inputs and targets, with padding.
    device: a kind of device, `flops.PEAK`, of which half the peak is believed.
    parallel: cells at once.
  """

  tokens_per_second: float | None = None
  device: str | None = None
  parallel: int = 1

  def __post_init__(self):
    from flanjax.models import flops

    if self.device is not None and flops.peak(self.device) is None:
      raise UserError(f"The peak of a device '{self.device}' is not known.", where='--device',
                      hint=nearest(self.device, flops.PEAK))


def make(
    experiment: Experiment, cells: Sequence[Cell], root: pathlib.Path, given: Given, rate: Rate,
) -> dict[str, Any]:
  """The plan as plain data: cells by state, trainings, tokens, FLOPs, hours.

  The configuration of every kind of training is constructed, so that mistakes in it are found here.
  The tasks must be registered.
  """
  trainings = list({t.key: t for c in cells if c.training for t in c.training.chain()}.values())
  costs = _costs(trainings, given)
  rows = [_row(t, costs[t.key], root) for t in trainings]
  evaluations = list({c.evaluation.key: c.evaluation for c in cells}.values())
  states = [running.state(root, c) for c in cells]
  todo = [r for r in rows if not r['done']]
  seconds, source = _seconds(rows, todo, rate)
  evaluating = _evaluation_seconds(evaluations, root)
  total = None if seconds is None else seconds + (evaluating or 0)
  return {
      'experiment': experiment.name, 'question': experiment.question,
      'cells': len(cells), 'states': {s: states.count(s) for s in running.STATES},
      'trainings': rows, 'evaluations': len(evaluations),
      'tokens': sum(r['tokens'] for r in rows), 'flops': sum(r['flops'] for r in rows),
      'tokens_to_do': sum(r['tokens'] for r in todo), 'flops_to_do': sum(r['flops'] for r in todo),
      'hours': None if total is None else total / 3600 / rate.parallel,
      'hours_from': source, 'evaluation_hours': evaluating and evaluating / 3600,
      'detectable': _detectable(experiment, cells),
  }


def _costs(trainings: Sequence[Training], given: Given) -> dict[str, dict[str, Any]]:
  """Steps, tokens and FLOPs of each training; one look for those that differ in data alone."""
  known: dict[str, dict[str, Any]] = {}
  found = {}
  for training in trainings:
    same = units.digest([training.files, training.settings])
    if same not in known:
      known[same] = _cost(training, given)
    found[training.key] = known[same]
  return found


def _cost(training: Training, given: Given) -> dict[str, Any]:
  from flanjax.commands import train
  from flanjax.models import flops

  files, bindings = given.files_and_bindings(training.files, training.settings)
  rows = _vocabulary_rows(given.settings(training.files, training.settings))
  gin_files.load(files, bindings, given.search_paths, {**_FALLBACKS, 'VOCAB_SIZE': str(rows)})
  run = gin_files.construct(train.TrainRun)
  lengths, config = run.task_feature_lengths, run.model.config
  frozen = bool(getattr(config, 'lora', None))
  step = flops.step(config, run.batch_size, lengths['inputs'], lengths['targets'],
                    weights_trained=not frozen)
  tokens = run.batch_size * (lengths['inputs'] + lengths['targets'])
  return {'steps': run.total_steps, 'tokens': tokens * run.total_steps,
          'flops': step * run.total_steps}


def _vocabulary_rows(settings: Mapping[str, Any]) -> int:
  """Rows of the embedding: those of the model that training begins from, where it is here."""
  from flanjax.interop import model_folders

  try:
    found = model_folders.find(settings.get('INITIAL_CHECKPOINT_PATH'), 'INITIAL_CHECKPOINT_PATH')
    return int(found.model_info['config']['vocab_size'])
  except (UserError, KeyError, TypeError, ValueError):
    return _PIECES


def _row(training: Training, cost: Mapping[str, Any], root: pathlib.Path) -> dict[str, Any]:
  folder = units.folder(root, training)
  done = running.is_done(folder, training)
  return {'training': training.folder_name, 'mixture': training.mixture, 'seed': training.seed,
          **cost, 'done': done, 'seconds': running.seconds(folder, 'train') if done else None}


def _seconds(
    rows: Sequence[Mapping[str, Any]], todo: Sequence[Mapping[str, Any]], rate: Rate
) -> tuple[float | None, str]:
  """Seconds that trainings will still take, and where that is known from."""
  from flanjax.models import flops

  if not todo:
    return 0.0, 'nothing is left to train'
  measured = [r for r in rows if r['seconds']]
  if measured:
    speed = sum(r['flops'] for r in measured) / sum(r['seconds'] for r in measured)
    return sum(r['flops'] for r in todo) / speed, f'measured on {len(measured)} trainings done'
  if rate.tokens_per_second:
    return (sum(r['tokens'] for r in todo) / rate.tokens_per_second,
            f'at {rate.tokens_per_second:,.0f} tokens a second')
  if rate.device:
    return (sum(r['flops'] for r in todo) / flops.peak(rate.device) * 2,
            f"at half the peak of one {rate.device}")
  return None, 'not known before a cell is done, unless by --tokens_per_second or --device'


def _evaluation_seconds(
    evaluations: Sequence[Evaluation], root: pathlib.Path
) -> float | None:
  """Seconds that evaluations will still take, if one was done."""
  folders = {e.key: units.folder(root, e) for e in evaluations}
  done = [e.key for e in evaluations if running.is_done(folders[e.key], e)]
  known = [s for key in done if (s := running.seconds(folders[key], 'eval'))]
  return (len(evaluations) - len(done)) * sum(known) / len(known) if known else None


def _detectable(
    experiment: Experiment, cells: Sequence[Cell]
) -> list[dict[str, Any]] | None:
  """The smallest differences that the held-out clusters' evaluations would show."""
  from flanjax.data import availability, clusters
  from flanjax.evaluation import power

  counts = {c.evaluation.num_examples for c in cells}
  if not experiment.pairs or len(counts) != 1 or None in counts:
    return None  # How many examples a split has is known when it is read.
  [n] = counts
  table = clusters.clusters(experiment.suite)
  held_out = dict.fromkeys(c for holdout in experiment.holdouts for c in holdout)
  skipping = any(c.evaluation.on_missing == 'skip' for c in cells)
  tasks = {c: [s for s in table[c] if not (skipping and availability.check_available(s))]
           for c in held_out}
  return power.as_data(power.detectable({c: [n] * len(t) for c, t in tasks.items() if t}))


def check(experiment: Experiment, cells: Sequence[Cell]) -> None:
  """UserError for a cluster or mixture that there is not, before anything is trained."""
  from flanjax.data import clusters, mixtures

  for cluster in (c for holdout in experiment.holdouts for c in holdout):
    clusters.holdout(experiment.suite, cluster)
  for cell in cells:
    for name in (*cell.names, *(t.mixture for t in (cell.training.chain() if cell.training else ()))):
      mixtures.tasks_of(name)


def text(plan: Mapping[str, Any]) -> str:
  """The plan for people."""
  rows = [{**r, 'tokens': f"{r['tokens']:.3g}", 'flops': f"{r['flops']:.3g}",
           'state': 'done' if r['done'] else '',
           'seconds': terminal.seconds(r['seconds']) if r['seconds'] else ''}
          for r in plan['trainings']]
  columns = {'training': 'training', 'steps': 'steps', 'tokens': 'tokens', 'flops': 'FLOPs',
             'seconds': 'took', 'state': ''}
  states = ', '.join(f'{n} {name}' for name, n in plan['states'].items() if n)
  hours = '?' if plan['hours'] is None else _hours(plan['hours'])
  lines = [plan['question'] or plan['experiment'], '']
  lines += [terminal.table(rows, columns), ''] if rows else []
  lines += [
      f"{plan['cells']} cells ({states}): {len(rows)} trainings, {plan['evaluations']} evaluations",
      f"training: {plan['tokens']:.3g} tokens, {plan['flops']:.3g} FLOPs, of which "
      f"{plan['tokens_to_do']:.3g} and {plan['flops_to_do']:.3g} are to be done",
      f"time left: {hours} ({plan['hours_from']}"
      + (')' if plan['evaluation_hours'] is not None else '; evaluations are not counted)'),
  ]
  if plan['detectable']:
    shown = ', '.join(f"{d['cluster']} {d['effect']:.1f}" for d in plan['detectable'])
    lines.append(f'smallest difference found 80 % of the time, in points: {shown}')
  return '\n'.join(lines)


def _hours(hours: float) -> str:
  return terminal.seconds(hours * 3600) if hours < 48 else f'{math.ceil(hours / 24):,} days'
