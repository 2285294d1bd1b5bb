"""Mixtures of a suite: all tasks, and all but a held-out cluster, at capped rates."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import seqio

from flanjax.data import availability, clusters, expressions, gc_pause, specs
from flanjax.data.specs import CONTINUATIONS, DATASET_NAME, NO_INSTRUCTIONS, SHOTS, TaskSpec
from flanjax.errors import UserError, nearest

MIXING_RATE_CAP = 3_000
_FEW_SHOT = re.compile(rf'(?:{"|".join(filter(None, SHOTS))})(?=_|\Z)')


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


class LazyMixture(seqio.Mixture):
  """A mixture that asks what its tasks are, and makes SeqIO's tables of them, when first used.

  There are thousands of mixtures, of up to a thousand tasks each. The tables of all would take a
  second and 50 MB, and a program uses one or two.
  """

  def __init__(self, name: str, tasks: Callable[[], Sequence[str]], default_rate: Any):
    self._unread = (name, tasks, default_rate)

  def __getattr__(self, attribute: str) -> Any:
    # Only called for what is not there, which is everything until SeqIO's constructor has run.
    if attribute.startswith('__') or '_unread' not in self.__dict__:
      raise AttributeError(attribute)
    name, tasks, rate = self._unread
    self.__dict__ = seqio.Mixture(name, tasks(), rate).__dict__
    return getattr(self, attribute)


def add(name: str, tasks: Callable[[], Sequence[str]], rate: Any) -> str:
  """Registers a mixture under SeqIO, in the place of one of that name.

  Args:
    name: the mixture's name, which is returned.
    tasks: gives the names of its SeqIO tasks; called when the mixture is first used.
    rate: how often each is drawn: a number, or a function of the task.
  """
  seqio.MixtureRegistry.remove(name)
  seqio.MixtureRegistry.add_provider(name, LazyMixture(name, tasks, rate))
  return name


@gc_pause.paused()
def register_suite_mixtures(suite: str) -> list[str]:
  """Registers a suite's mixtures; called again after more tasks came, it registers them anew.

    {suite}_all_train, {suite}_all_eval       every task
    {suite}_holdout_{cluster}_train / _eval   all clusters but one, and what is too near to it;
                                              that one
    {suite}_only_{cluster}_train / _eval      one cluster; all others, to see what they lost

  A training mixture draws every template of a task; an evaluation mixture holds a task for each
  template that asks for the task's own answer, and its rank classification. Each also comes with
  the few-shot suffixes of the tasks. `all` and `holdout` are also there as
  `{suite}_no_instructions_...` and `{suite}_dataset_name_...` (zero-shot), and `holdout`'s
  evaluation as `{suite}_continuations_...`, of the tasks that have them.

  Returns:
    the names.

  Raises:
    UserError: data of a held-out cluster is in another one (see `clusters.holdout`).
  """
  table = clusters.clusters(suite)
  everything = specs.all_specs(suite)
  sides = {'all': (everything, everything)}
  for cluster in table:
    split = clusters.holdout(suite, cluster)
    sides[f'holdout_{cluster}'] = (split.train, split.eval)
  plain = dict(sides)
  for cluster, members in table.items():
    sides[f'only_{cluster}'] = (members, [s for s in everything if s.cluster != cluster])
  names = list(_add_all(suite, sides, '', SHOTS))
  for regime in (NO_INSTRUCTIONS, DATASET_NAME):
    names += _add_all(suite, plain, regime, [''])
  del plain['all']
  untrained = {stem: ([], evaluated) for stem, (_, evaluated) in plain.items()}
  return names + list(_add_all(suite, untrained, CONTINUATIONS, SHOTS))


def _add_all(
    suite: str, sides: dict[str, tuple[list[TaskSpec], list[TaskSpec]]], regime: str, shots: Any
) -> Iterator[str]:
  """Registers `_train` and `_eval` of each stem, under a regime; leaves out what is empty."""
  prefix = f'{suite}_{regime}_' if regime else f'{suite}_'
  for suffix in shots:
    for stem, (trained, evaluated) in sides.items():
      train = [s for s in trained if not s.eval_only and s.templates_of(regime)]
      # Exemplars come from a training split.
      shown = [s for s in evaluated if not (suffix and s.eval_only)]
      if train:
        tasks = functools.partial(_train_tasks, train, regime, suffix)
        yield add(f'{prefix}{stem}_train{suffix}', tasks, capped_rate)
      if any(eval_tasks(s, regime) for s in shown):
        tasks = functools.partial(_eval_tasks, shown, regime, suffix)
        yield add(f'{prefix}{stem}_eval{suffix}', tasks, 1.0)


def _stem(spec: TaskSpec, regime: str) -> str:
  return f'{regime}_{spec.name}' if regime else spec.name


def _train_tasks(members: Sequence[TaskSpec], regime: str, suffix: str) -> list[str]:
  return [f'{_stem(s, regime)}_10templates{suffix}' for s in members]


def _eval_tasks(members: Sequence[TaskSpec], regime: str, suffix: str) -> list[str]:
  return [name + suffix for s in members for name in eval_tasks(s, regime)]


def eval_tasks(spec: TaskSpec, regime: str = '') -> list[str]:
  """The zero-shot SeqIO tasks on which a task is evaluated, under a regime of `specs.REGIMES`."""
  stem, templates = _stem(spec, regime), spec.templates_of(regime)
  own = [i for i, template in enumerate(templates) if not template.inverted]
  ranked = [f'{stem}_type_{i}_scoring_eval' for i in own if templates[i].ranks]
  return [f'{stem}_type_{i}' for i in own] + ranked


def is_few_shot(name: str) -> bool:
  """Whether a mixture or task of that name has exemplars in its prompts."""
  return bool(_FEW_SHOT.search(name))


def is_known(name: str) -> bool:
  """Whether there is a mixture or task of that name; one by expression is made here."""
  if expressions.is_expression(name):  # Each time: the tasks may be others by now.
    tasks = expressions.tasks_of(name)
    add(name, lambda: tasks, capped_rate)
  return name in seqio.MixtureRegistry.names() or name in seqio.TaskRegistry.names()


def known(name: str) -> seqio.Mixture | seqio.Task:
  """A registered mixture or task.

  Raises:
    UserError: there is none of that name.
  """
  if is_known(name):
    return seqio.get_mixture_or_task(name)
  names = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
  plain = names if is_few_shot(name) else [n for n in names if not is_few_shot(n)]
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
  availability.require_available({task.spec.name: task.spec for task in parsed}.values())
  counts = {t.name: _count(t) for t in tasks}
  if isinstance(provider, seqio.Mixture):
    rates = {t.name: provider.get_rate(t) for t in tasks}
  else:
    rates = {n: float(min(count, MIXING_RATE_CAP) or 1) for n, count in counts.items()}
  total = sum(rates.values())
  return {t: MixRate(counts[t], MIXING_RATE_CAP, rates[t], rates[t] / total) for t in rates}


def _count(task: seqio.Task) -> int:
  """Training examples of a task, read where its source does not tell; 0 without a split of them."""
  if 'train' not in task.splits:
    return 0
  count = task.num_input_examples('train')
  if count is None:  # Files of text lines, say.
    elements = task.source.get_dataset(split='train', shuffle=False)
    count = int(elements.reduce(0, lambda n, _: n + 1).numpy())
  if not count:
    raise UserError('The training split of a task is empty.', where=f'task {task.name}')
  return count
