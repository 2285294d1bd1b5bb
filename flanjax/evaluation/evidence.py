"""What stands beside a report's scores: other populations, corrected p values, power, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.evaluation import power, seeds, sensitivity, significance, statistics
from flanjax.evaluation.bootstrap import Effect
from flanjax.evaluation.statistics import Analysis
from flanjax.evaluation.task_records import TaskRecords


def of_tasks(analysis: Analysis, chosen: Sequence[TaskRecords]) -> dict[str, Any]:
  """Of a task or a cluster: {like_these, components}.

  `like_these` is the interval of the difference for tasks (or templates and examples) like these,
  trained with this seed; `components` the parts of the variance of each model's scores, and of the
  difference ('difference'). None where records do not tell.
  """
  pair = analysis.untuned and _effects(analysis, chosen, analysis.untuned)
  like = None
  if pair:
    ends, population = seeds.like_these(pair)
    like = ends and ends | {'method': 't', 'population': population}
  grids = {m: _grids(analysis, chosen, m) for m in analysis.models}
  grids['difference'] = [e.grid for e in pair] if pair else []
  return {'like_these': like, 'components': {m: _components(g) for m, g in grids.items()}}


def _effects(analysis: Analysis, chosen: Sequence[TaskRecords], other: str) -> list[Effect] | None:
  keys = [analysis.common(t, analysis.lead) & analysis.common(t, other) for t in chosen]
  if not all(keys):
    return None
  return [
      seeds.effect_of(t.task, [[(t, analysis.lead), (t, other)]], k) for t, k in zip(chosen, keys)
  ]


def _grids(
    analysis: Analysis, chosen: Sequence[TaskRecords], model: str
) -> list[np.ndarray | None]:
  keys = [analysis.common(t, model) for t in chosen]
  if not all(keys):
    return []
  return [None if t.is_corpus else t.scores(model, k)[None] for t, k in zip(chosen, keys)]


def _components(grids: Sequence[np.ndarray | None]) -> dict[str, Any] | None:
  if not grids or any(g is None for g in grids):
    return None
  return sensitivity.task_components(grids[0]) if len(grids) == 1 else sensitivity.components(grids)


def of_templates(
    table: TaskRecords,
    analysis: Analysis,
    per_model: Mapping[str, Mapping[int, float]],
    trained: Mapping[str, frozenset[int]] | None,
) -> dict[str, Any]:
  """Of a task: {sensitivity, trained_templates, seen_templates}, by model where it is of scores.

  `trained` says which templates training drew, of each task; None: nobody knows.
  """
  seen = None if trained is None else trained.get(sensitivity.stem(table), frozenset())
  return {
      'sensitivity': {m: sensitivity.spread(per_model.get(m, {})) for m in analysis.models},
      'trained_templates': None if seen is None else sorted(seen),
      'seen_templates': None if seen is None else {
          m: sensitivity.seen_and_unseen(per_model.get(m, {}), seen) for m in analysis.models},
  }  # fmt: skip


def mcnemar(analysis: Analysis, table: TaskRecords, template: int) -> dict[str, Any] | None:
  """McNemar's exact test under one template, of scores of 0 and 100: {won, lost, tied, p}."""
  if not analysis.untuned or not table.is_binary:
    return None
  keys = analysis.common(table, analysis.lead) & analysis.common(table, analysis.untuned)
  keys = frozenset(k for k in keys if k[0] == template)
  if not keys:
    return None
  gaps = table.scores(analysis.lead, keys)[0] - table.scores(analysis.untuned, keys)[0]
  counts = significance.discordant(gaps)
  return counts | {'p': significance.mcnemar(counts['won'], counts['lost'])}


def correct(clusters: Sequence[dict[str, Any]], untuned: str | None) -> None:
  """Adds p_holm to the differences of clusters, over all clusters compared with the same model."""
  for model in {d['model'] for c in clusters for d in c['differences']}:
    of = {c['cluster']: d for c in clusters for d in c['differences'] if d['model'] == model}
    adjusted = significance.holm({name: d['p'] for name, d in of.items()})
    for name, d in of.items():
      d['p_holm'] = adjusted[name]
  for c in clusters:
    if c['difference']:
      c['difference']['p_holm'] = next(
          d['p_holm'] for d in c['differences'] if d['model'] == untuned)


def detectable(
    analysis: Analysis, clusters: Mapping[str, Sequence[TaskRecords]]
) -> dict[str, dict[str, Any]]:
  """Cluster -> the smallest difference that this evaluation was likely to detect there.

  From how much paired scores of examples differed; of a corpus metric, its default.
  """
  counts: dict[str, list[int]] = {}
  spreads: dict[str, list[float]] = {}
  for name, tables in clusters.items():
    if not analysis.untuned:
      continue
    keys = [analysis.common(t, analysis.lead) & analysis.common(t, analysis.untuned)
            for t in tables]
    if all(keys):
      counts[name] = [statistics.count_examples([k]) for k in keys]
      found = [power.spread_of(t, analysis.lead, analysis.untuned) for t in tables]
      spreads[name] = [
          power.default_spread(t.metric) if s is None else s for t, s in zip(tables, found)]
  return {d.cluster: {'effect': d.effect, 'alpha': d.alpha, 'power': power.POWER,
                      'spread': spreads[d.cluster]}
          for d in power.detectable(counts, spread=spreads)}
