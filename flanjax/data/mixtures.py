"""Mixtures of a suite: all tasks, and all but a held-out cluster, at capped rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import seqio

from flanjax.data import clusters, specs
from flanjax.data.specs import SHOTS, TaskSpec
from flanjax.errors import UserError, nearest

MIXING_RATE_CAP = 3_000


@dataclasses.dataclass(frozen=True)
class MixRate:
  """How often a task is drawn.

  Attributes:
    num_examples: training examples kept.
    cap: the largest rate a task may have.
    rate: min(num_examples, cap).
    share: the rate over the sum of the mixture's rates.
  """

  num_examples: int
  cap: int
  rate: float
  share: float


def capped_rate(task: seqio.Task) -> float:
  """min(training examples, MIXING_RATE_CAP), as FLAN mixes."""
  return float(min(task.num_input_examples('train'), MIXING_RATE_CAP))


def register_suite_mixtures(suite: str) -> list[str]:
  """Registers a suite's mixtures; called again after more tasks came, it registers them anew.

  `{suite}_all_train` and, for each cluster, `{suite}_holdout_{cluster}_train` / `_eval`, each
  also with the few-shot suffixes of the tasks. A training mixture draws every template of a
  task; an evaluation mixture holds a task for each template that asks for the task's own
  answer, and its rank classification.

  Returns:
    the names.

  Raises:
    UserError: data of a held-out cluster is in another one (see `clusters.holdout`).
  """
  table = clusters.clusters(suite)
  train = {f'{suite}_all': [s for s in specs.all_specs(suite) if not s.eval_only]}
  evaluated = {}
  for cluster in table:
    split = clusters.holdout(suite, cluster)
    train[f'{suite}_holdout_{cluster}'] = split.train
    evaluated[f'{suite}_holdout_{cluster}'] = split.eval
  names = []
  for suffix in SHOTS:
    for stem, members in train.items():
      tasks = [f'{s.name}_10templates{suffix}' for s in members]
      names += _add(f'{stem}_train{suffix}', tasks, capped_rate)
    for stem, members in evaluated.items():
      # Exemplars come from a training split.
      shown = [s for s in members if not (suffix and s.eval_only)]
      tasks = [name + suffix for s in shown for name in eval_tasks(s)]
      names += _add(f'{stem}_eval{suffix}', tasks, 1.0)
  return names


def eval_tasks(spec: TaskSpec) -> list[str]:
  """The zero-shot SeqIO tasks on which a task is evaluated."""
  generated = [f'{spec.name}_type_{i}' for i in spec.zero_shot_templates]
  return generated + [f'{spec.name}_type_{i}_scoring_eval' for i in spec.scoring_templates]


def _add(name: str, tasks: Sequence[str], rate) -> list[str]:
  if not tasks:
    return []
  seqio.MixtureRegistry.remove(name)
  seqio.MixtureRegistry.add(name, list(tasks), default_rate=rate)
  return [name]


def known(name: str) -> seqio.Mixture | seqio.Task:
  """A registered mixture or task.

  Raises:
    UserError: there is none of that name.
  """
  for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
    if name in registry.names():
      return registry.get(name)
  names = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
  few_shot = tuple(suffix for suffix in SHOTS if suffix)
  plain = names if name.endswith(few_shot) else [n for n in names if not n.endswith(few_shot)]
  raise UserError(f"There is no mixture or task '{name}'.", hint=nearest(name, plain))


def tasks_of(name: str) -> list[str]:
  """Names of the SeqIO tasks in a mixture, or of the one task."""
  provider = known(name)
  tasks = provider.tasks if isinstance(provider, seqio.Mixture) else [provider]
  return [t.name for t in tasks]


def mixture_rates(name: str, skip: Sequence[str] = ()) -> dict[str, MixRate]:
  """The rates of a mixture, or of a single task.

  Args:
    name: a mixture or a SeqIO task.
    skip: SeqIO tasks to leave out (their data is missing); the shares are of the rest.

  Returns:
    SeqIO task name -> MixRate; the shares add up to 1.

  Raises:
    UserError: the name is unknown, data is missing, or a training split is empty.
  """
  provider = known(name)
  tasks = [seqio.TaskRegistry.get(t) for t in tasks_of(name) if t not in skip]
  if not tasks:
    raise UserError('No task of the mixture is left.', where=f'mixture {name}')
  parsed = [specs.parse_task_name(t.name) for t in tasks if specs.is_task_name(t.name)]
  specs.require_available({task.spec.name: task.spec for task in parsed}.values())
  counts = {t.name: _count(t) for t in tasks}
  if isinstance(provider, seqio.Mixture):
    rates = {t.name: provider.get_rate(t) for t in tasks}
  else:
    rates = {n: float(min(count, MIXING_RATE_CAP) or 1) for n, count in counts.items()}
  total = sum(rates.values())
  return {t: MixRate(counts[t], MIXING_RATE_CAP, rates[t], rates[t] / total) for t in rates}


def _count(task: seqio.Task) -> int:
  """Training examples of a task; 0 when it has no training split at all."""
  if 'train' not in task.splits:
    return 0
  count = task.num_input_examples('train')
  if not count:
    raise UserError('The training split of a task is empty.', where=f'task {task.name}')
  return count
