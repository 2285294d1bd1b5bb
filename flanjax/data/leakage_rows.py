"""What an audit of leakage found, as rows for a person or a program."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flanjax.data import leaks, specs
from flanjax.data.held_out import HeldOut
from flanjax.data.leaks import GIVEN, Found, Pairs
from flanjax.data.overlap import EXACT, NEAR, NGRAM
from flanjax.data.specs import TaskSpec

KIND_NAMES = {EXACT: 'exact', NEAR: 'near_duplicate', NGRAM: 'ngram', GIVEN: 'answer_given'}
_SHOWN_WORDS = 16


def spec_of(task: str) -> TaskSpec | None:
  """The spec of a SeqIO task, if it has one."""
  return specs.parse_task_name(task).spec if specs.is_task_name(task) else None


class Collector:
  """Adds up what was found, part by part."""

  def __init__(self, evaluated: Mapping[str, str], train: Mapping[str, str], max_pairs: int):
    self._tasks = {**evaluated}
    self._train, self._max_pairs = list(train), max_pairs
    self._counts = {owner: collections.Counter() for owner in evaluated}
    self._meetings: dict[tuple[str, str], collections.Counter] = {}
    self.examples = {owner: 0 for owner in train}
    self.pairs: list[dict[str, Any]] = []
    self.clean: dict[str, list[int]] = {owner: [] for owner in evaluated}

  def add(self, part: HeldOut, found: Mapping[str, Found]) -> None:
    bits, total = np.zeros(len(part), np.uint8), np.zeros(len(part), np.int64)
    for train, result in found.items():
      self.examples[train] = result.examples
      np.bitwise_or.at(bits, result.held, result.bits)
      np.add.at(total, result.held, result.counts)
      for k, task in enumerate(part.tasks):
        here = part.task[result.held] == k
        if here.any():
          counter = self._meetings.setdefault((task, train), collections.Counter())
          counter.update(_count(result.bits[here]), pairs=int(result.counts[here].sum()))
    for k, task in enumerate(part.tasks):
      here = part.task == k
      self._counts[task].update(
          _count(bits[here]), examples=int(here.sum()), pairs=int(total[here].sum()))
      self.clean[task] += part.example_id[here & (bits == 0)].tolist()
    self.pairs += _named(part, found, self._max_pairs)

  def rows(self) -> list[dict[str, Any]]:
    """A row for each evaluation task."""
    rows = []
    for task, counts in self._counts.items():
      spec = spec_of(self._tasks[task])
      met = {train: c['leaked'] for (t, train), c in self._meetings.items() if t == task}
      rows.append({
          'task': task, 'cluster': spec.cluster if spec else '', 'examples': counts['examples'],
          **{name: counts[name] for name in KIND_NAMES.values()}, 'clean': len(self.clean[task]),
          'share_clean': len(self.clean[task]) / max(counts['examples'], 1),
          'pairs': counts['pairs'],
          'train_tasks': dict(sorted(met.items(), key=lambda item: (-item[1], item[0]))),
      })
    return rows

  def kinships(self, lineage: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each two tasks that meet; `declared` where their specs say that they would."""
    declared = {(row['task'], row['train_task']) for row in lineage}
    order = sorted(self._meetings.items(), key=lambda item: (-item[1]['leaked'], item[0]))
    return [{'task': task, 'train_task': train, 'leaked': counts['leaked'],
             **{name: counts[name] for name in KIND_NAMES.values()}, 'pairs': counts['pairs'],
             'declared': (task, train) in declared} for (task, train), counts in order]


def _count(bits: np.ndarray) -> dict[str, int]:
  """How many examples have each kind of finding, and any."""
  counts = {name: int((bits & bit > 0).sum()) for bit, name in KIND_NAMES.items()}
  return counts | {'leaked': int((bits > 0).sum())}


def _named(part: HeldOut, found: Mapping[str, Found], limit: int) -> Iterator[dict[str, Any]]:
  """The strongest pairs of each example of a part, in words."""
  names = list(found)
  pairs = Pairs.joined([found[name].pairs for name in names])
  origin = np.repeat(np.arange(len(names)), [len(found[name].pairs.held) for name in names])
  chosen = pairs.order(limit)
  best, origin = pairs.take(chosen), origin[chosen]
  for i, held in enumerate(best.held.tolist()):
    kind = leaks.strongest(best.bits[i : i + 1])[0]
    field, shared = _evidence(part, held, int(best.own[i]), int(best.at[i]))
    yield {
        'task': part.tasks[part.task[held]], 'example_id': int(part.example_id[held]),
        'train_task': names[origin[i]], 'train_example_id': int(best.train[i]),
        'kind': KIND_NAMES[int(kind)], 'overlap': round(float(best.overlap[i]), 4),
        'answer_given': bool(best.bits[i] & GIVEN), 'field': field, 'shared': shared,
    }


def _evidence(part: HeldOut, held: int, own: int, at: int) -> tuple[str, str]:
  """The field of an example that is repeated, and the words from which on it is."""
  texts = part.index.texts
  if own >= 0:
    words = texts.words(int(part.own[own]), at, _SHOWN_WORDS)
    return part.fields[part.own_field[own]], ' '.join(words)
  here = slice(part.inputs_start[held], part.inputs_start[held + 1])
  inputs = part.inputs[here][~part.inputs_fixed[here]]
  words = [word for text in inputs for word in texts.words(text)]
  return '', ' '.join(words[:_SHOWN_WORDS])


def lineage(evaluated: Mapping[str, str], train: Mapping[str, str]) -> Iterator[dict[str, Any]]:
  """Evaluation and training tasks of which it is declared that they share data."""
  for task, a in ((owner, spec_of(name)) for owner, name in evaluated.items()):
    for other, b in ((owner, spec_of(name)) for owner, name in train.items()):
      if a is None or b is None:
        shared, overlaps = [], False
      else:
        shared = sorted(a.all_lineage & b.all_lineage)
        overlaps = a.name in b.overlaps or b.name in a.overlaps
      if shared or overlaps or task == other:
        yield {'task': task, 'train_task': other, 'shared': shared, 'overlaps': overlaps,
               'same_task': task == other}
