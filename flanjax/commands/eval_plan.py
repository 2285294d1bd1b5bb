"""What `flanjax eval` evaluates: SeqIO tasks, by its settings and by what the run trained on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flanjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Plan:
  """What to evaluate.

  Attributes:
    tasks: SeqIO tasks.
    seen: some of the tasks trained on, besides.
    excluded: clusters that neither trained nor are held out.
    trained: clusters trained on; empty when that is not known.
    varied: `tasks` again, with their options in other orders or under other labels.
    dev: those of `tasks` that have a validation split.
  """

  tasks: list[str]
  seen: list[str]
  excluded: tuple[str, ...]
  trained: tuple[str, ...]
  varied: list[str] = dataclasses.field(default_factory=list)
  dev: list[str] = dataclasses.field(default_factory=list)


def make(settings: Any, run_info: Mapping[str, Any], drawn: Iterable[str] = ()) -> Plan:
  """The plan of an evaluation.

  Args:
    settings: an `eval.EvalRun`.
    run_info: what the run that is evaluated says of itself, its run.json.
    drawn: the SeqIO tasks that it drew; a run's mixture may change.

  Raises:
    UserError: there is nothing to evaluate, or data is missing.
  """
  from flanjax.data import mixtures

  mixture, holdout = run_info.get('mixture', ''), run_info.get('holdout')
  tasks = [t for name in settings.names for t in mixtures.tasks_of(name)]
  tasks = tasks or default_tasks(mixture, holdout)
  tasks = _available(settings, _first(settings.num_templates, tasks))
  tasks = [t for t in tasks if _mode(t) in settings.modes]
  if not tasks:
    raise UserError('No task is left to evaluate.', where=', '.join(settings.names) or mixture,
                    got=settings.modes)
  trained, seen = [], []
  if settings.seen_templates or mixtures.is_known(mixture):
    trained = _specs_of(mixtures.tasks_of(mixture))
  if settings.seen_templates:
    seen = [t for spec in trained for t in _first_templates(spec, settings)]
    seen = [t for t in _available(settings, seen) if t not in tasks]
  trained += _specs_of(drawn)
  clusters = tuple(sorted({spec.cluster for spec in trained}))
  return Plan(tasks, seen, _excluded(holdout, tasks), clusters, _varied(settings, tasks),
              _with_validation(tasks) if settings.dev_num_examples else [])


def default_tasks(mixture: str, holdout: str | None) -> list[str]:
  """What a run is evaluated on unless it is told.

    flan2021_holdout_nli_train                  flan2021_holdout_nli_eval
    flan_intra_cluster_split_3_10templates_train  ..._eval, and so for every `_train`
    dialogsum_10templates                       that task, under each of its templates

  Raises:
    UserError: nothing follows from the mixture's name.
  """
  from flanjax.data import mixtures, specs

  name = re.sub(r'_train\w*$', '_eval', mixture)
  if holdout or name != mixture and mixtures.is_known(name):
    return mixtures.tasks_of(name)
  if specs.is_task_name(mixture):
    parsed = specs.parse_task_name(mixture)
    return mixtures.eval_tasks(parsed.spec, parsed.regime)
  raise UserError('Nothing to evaluate.', where='MIXTURE_OR_TASK_NAME',
                  expected='a mixture or task, as the run held no cluster out')


def _specs_of(names: Iterable[str]) -> list[Any]:
  """The tasks that SeqIO tasks are of, as far as flanjax registered them."""
  from flanjax.data import specs

  found = [specs.parse_task_name(n).spec for n in names if specs.is_task_name(n)]
  return list({spec.name: spec for spec in found}.values())


def _first(num_templates: int | None, tasks: Sequence[str]) -> list[str]:
  """The first templates of each task, in each mode."""
  from flanjax.data import specs

  if num_templates is None:
    return list(tasks)
  kept: dict[Any, list[str]] = {}
  for name in tasks:
    task = specs.parse_task_name(name)
    kept.setdefault((task.spec.name, task.regime, task.scoring, task.shots), []).append(name)
  return [name for names in kept.values() for name in names[:num_templates]]


def _varied(settings: Any, tasks: Sequence[str]) -> list[str]:
  """The tasks to ask with their options otherwise, in each way."""
  from flanjax import terminal
  from flanjax.data import options, specs

  ways = [f'order_{k}' for k in range(1, settings.option_orders + 1)]
  ways += [options.REWORDED] if settings.label_wordings else []
  if not ways:
    return []
  can = _first(settings.variant_templates, [t for t in tasks if specs.can_vary(t)])
  if not can:
    terminal.note('No zero-shot template lists its options: none is asked otherwise.')
  return [specs.varied(t, way) for way in ways for t in can]


def _with_validation(tasks: Sequence[str]) -> list[str]:
  """The tasks that a best template can be chosen for; the others are told."""
  import seqio

  from flanjax import terminal

  found = [t for t in tasks if 'validation' in seqio.TaskRegistry.get(t).splits]
  without = sorted({_spec_of(t).name for t in tasks if t not in found})
  if without:
    terminal.note(f'no validation split, so no best template is chosen: {", ".join(without)}')
  return found


def _spec_of(task: str) -> Any:
  from flanjax.data import specs

  return specs.parse_task_name(task).spec


def detectable(
    rounds: Iterable[tuple[Sequence[str], str, int | None]]
) -> tuple[list[Any], list[str]]:
  """What differences between two models an evaluation is likely to show.

  Args:
    rounds: SeqIO tasks, their split, and examples of each at most.

  Returns:
    (`power.Detectable` of each cluster, clusters of which no source tells its examples). A task
    that ranks its options counts as ranked, as in its cluster's score.
  """
  from flanjax.data import metrics
  from flanjax.evaluation import power

  tasks: dict[str, dict[str, tuple[int | None, float]]] = {}
  for names, split, cap in rounds:
    for name in names:
      spec, ranked = _spec_of(name), _mode(name) == 'rank'
      members = tasks.setdefault(spec.cluster, {})
      if ranked or spec.name not in members:
        metric = metrics.rank_accuracy if ranked else spec.metric_fns[0]
        spread = power.default_spread(metrics.primary_key(metric))
        members[spec.name] = _examples(name, split, cap), spread
  unknown = [c for c, members in tasks.items() if not all(n for n, _ in members.values())]
  known = {c: list(members.values()) for c, members in tasks.items() if c not in unknown}
  return power.detectable(
      {c: [n for n, _ in m] for c, m in known.items()},
      spread={c: [s for _, s in m] for c, m in known.items()}), unknown


def _examples(task: str, split: str, cap: int | None) -> int | None:
  """How many examples are evaluated at most, None where that takes reading them."""
  import seqio

  source = seqio.TaskRegistry.get(task).source
  told = source.told_examples(split) if split in source.splits else None
  return told and min(told, cap or told)


def _first_templates(spec: Any, settings: Any) -> list[str]:
  """The first zero-shot templates of a task, in each mode."""
  n = settings.seen_templates
  found = []
  if 'generate' in settings.modes:
    found += [f'{spec.name}_type_{i}' for i in spec.zero_shot_templates[:n]]
  if 'rank' in settings.modes:
    found += [f'{spec.name}_type_{i}_scoring_eval' for i in spec.scoring_templates[:n]]
  return found


def _mode(task: str) -> str:
  from flanjax.data import specs

  return 'rank' if specs.parse_task_name(task).scoring else 'generate'


def _excluded(holdout: str | None, tasks: Sequence[str]) -> tuple[str, ...]:
  """Clusters that neither trained nor are held out, by the suite of the tasks."""
  from flanjax.data import clusters, specs

  suites = {specs.parse_task_name(t).spec.suite for t in tasks}
  if not holdout:
    return ()
  return tuple(sorted({c for s in suites for c in clusters.excluded_clusters(s, holdout)}))


def _available(settings: Any, tasks: Iterable[str]) -> list[str]:
  """The tasks whose data is there; UserError that lists the others unless they are skipped."""
  from flanjax import terminal
  from flanjax.data import availability, specs

  tasks = list(tasks)
  owners = {t: specs.parse_task_name(t).spec for t in tasks}
  if settings.on_missing == 'error':
    availability.require_available({s.name: s for s in owners.values()}.values())
    return tasks
  reasons = {s.name: availability.check_available(s) for s in owners.values()}
  missing = sorted(name for name, reason in reasons.items() if reason)
  if missing:
    terminal.note(f'skipped, because their data is missing: {", ".join(missing)}')
  return [t for t in tasks if not reasons[owners[t].name]]
