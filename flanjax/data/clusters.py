"""Clusters of tasks, and what may train when one of them is held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from flanjax.data import specs
from flanjax.data.specs import TaskSpec
from flanjax.errors import UserError, nearest

# Pairs of clusters that leave the training side together, as in the FLAN paper (Wei et al.
# 2022, section 2.2): a model judged on one has not trained on the other.
EXCLUSIONS: dict[str, tuple[tuple[str, str], ...]] = {
    'flan2021': (
        ('paraphrase', 'nli'),
        ('reading_comprehension_commonsense', 'reading_comprehension'),
        ('reading_comprehension_commonsense', 'commonsense'),
    ),
}


@dataclasses.dataclass(frozen=True)
class Holdout:
  """One cluster withheld.

  Attributes:
    suite: the collection of tasks.
    cluster: the cluster withheld.
    train: the tasks that may train.
    eval: the tasks of the cluster.
    excluded: the tasks that do neither: their clusters or their data are too near.
  """

  suite: str
  cluster: str
  train: list[TaskSpec]
  eval: list[TaskSpec]
  excluded: list[TaskSpec]


def set_exclusions(suite: str, pairs: Iterable[tuple[str, str]]) -> None:
  """Says which pairs of a suite's clusters exclude each other from training."""
  EXCLUSIONS[suite] = tuple((a, b) for a, b in pairs)


def clusters(suite: str) -> dict[str, list[TaskSpec]]:
  """The tasks of a suite by cluster, both in the order of registration.

  Raises:
    UserError: no task of that suite is registered.
  """
  table: dict[str, list[TaskSpec]] = {}
  for spec in specs.all_specs(suite):
    table.setdefault(spec.cluster, []).append(spec)
  if not table:
    known = {s.suite for s in specs.all_specs()}
    raise UserError(
        f"There is no suite '{suite}'.",
        hint=nearest(suite, known) + '; import the module that registers it with --module',
    )
  return table


def excluded_clusters(suite: str, cluster: str) -> set[str]:
  """The clusters that may not train when `cluster` is held out, itself apart."""
  pairs = [p for p in EXCLUSIONS.get(suite, ()) if cluster in p]
  return {name for pair in pairs for name in pair} - {cluster}


def holdout(suite: str, cluster: str) -> Holdout:
  """Divides a suite's tasks for a model that shall never have seen `cluster`.

  Raises:
    UserError: the cluster is unknown, or data of a task to train on is in a task to evaluate
      and neither declares it in `overlaps`.
  """
  table = clusters(suite)
  if cluster not in table:
    raise UserError(f"Suite '{suite}' has no cluster '{cluster}'.", hint=nearest(cluster, table))
  held = table[cluster]
  near = excluded_clusters(suite, cluster)
  train, excluded = [], []
  for name, members in table.items():
    for spec in members if name != cluster else ():
      if spec.eval_only:
        continue
      declared = any(_declared(spec, e) for e in held)
      (excluded if name in near or declared else train).append(spec)
  for spec in train:
    for evaluated in held:
      _refuse_overlap(spec, evaluated)
  return Holdout(suite, cluster, train, list(held), excluded)


def _declared(a: TaskSpec, b: TaskSpec) -> bool:
  return b.name in a.overlaps or a.name in b.overlaps


def _refuse_overlap(train: TaskSpec, evaluated: TaskSpec) -> None:
  shared = train.all_lineage & evaluated.all_lineage
  same = train.name == evaluated.name or train.source is evaluated.source
  if shared or same:
    raise UserError(
        f"Task '{train.name}' would train on data of the held-out task '{evaluated.name}'.",
        where=f'clusters {train.cluster} (train) and {evaluated.cluster} (held out)',
        got=f'shared data {", ".join(sorted(shared)) or "(the same source)"}',
        expected='no data on both sides',
        hint=f"declare it, overlaps=['{evaluated.name}'], to leave '{train.name}' out of training",
    )
