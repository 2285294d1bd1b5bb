"""All models' records of one task, as tables of scores by template and example."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from flanjax import errors
from flanjax.evaluation import baselines as baselines_lib
from flanjax.evaluation.records import Record
from flanjax.evaluation.weighted import MetricFn, Statistic, corpus_statistic, mean_statistic

Key = tuple[int, int]  # template_id, example_id
# Record -> the names of the table and the cluster that it belongs to.
Label = Callable[[Record], tuple[str, str]]
_AFTER_TASK = (r'_(?:type_\d+|\d+templates)(?:_scoring_eval)?'
               r'(?P<shots>(?:_\w+?)??)(?:_order_\d+|_reworded)?')


@dataclasses.dataclass(frozen=True)
class TaskRecords:
  """All models' records of one task in one mode: `by_model[model][template_id, example_id]`.

  `task` and `cluster` say the regime too where there are several (`labels`), `own_task` and
  `own_cluster` never do.
  """

  task: str
  mode: str
  cluster: str
  metric: str
  metric_fn: MetricFn | None
  by_model: Mapping[str, Mapping[Key, Record]]

  @functools.cached_property
  def _any(self) -> Record:
    return next(r for cell in self.by_model.values() for r in cell.values())

  @property
  def own_task(self) -> str:
    return self._any['task']

  @property
  def own_cluster(self) -> str:
    return self._any['cluster']

  @functools.cached_property
  def is_corpus(self) -> bool:
    """Whether the metric is no mean over examples."""
    return any(r['score'] is None for cell in self.by_model.values() for r in cell.values())

  @functools.cached_property
  def is_binary(self) -> bool:
    """Whether the score is a share: the mean of examples' 0 and 100."""
    return not self.is_corpus and all(r['score'] in (0, 100) for cell in self.by_model.values() for r in cell.values())

  def restricted(self, examples: frozenset[int]) -> TaskRecords:
    """The records of some examples."""
    by_model = {model: {key: r for key, r in cell.items() if key[1] in examples}
                for model, cell in self.by_model.items()}
    return dataclasses.replace(self, by_model=by_model)

  def scores(self, model: str, keys: frozenset[Key]) -> np.ndarray:
    """The model's scores on `keys`: [templates, examples], NaN where there is none."""
    return np.array([[np.nan if r is None else r['score'] for r in row]
                     for row in self._grid(model, keys)], np.float64)

  def contributions(self, model: str, keys: frozenset[Key]) -> np.ndarray:
    """What each example adds to the score on `keys`, times their number: [examples].

    Its mean over templates, where every template has every example; their mean is the score.
    """
    return contributions(self.scores(model, keys))

  def statistic(self, model: str, keys: frozenset[Key]) -> Statistic:
    """The model's value per template on `keys`, as a function of example weights."""
    return self.statistic_of((model,), keys)

  def statistic_of(self, models: Sequence[str], keys: frozenset[Key]) -> Statistic:
    """As `statistic`, over the answers of several models laid end to end."""
    if not self.is_corpus:
      return mean_statistic(np.concatenate([self.scores(m, keys) for m in models], axis=1))
    if self.metric_fn is None:
      raise errors.UserError(
          'a metric that is no mean over examples cannot be computed again', where=self.task,
          got=self.metric, hint='name the module that defines it (--module)',
      )  # fmt: skip
    grids = [self._grid(m, keys) for m in models]
    rows = [[record for part in parts for record in part] for parts in zip(*grids)]
    return corpus_statistic(self.metric_fn, self.metric, rows)

  def _grid(self, model: str, keys: frozenset[Key]) -> list[list[Record | None]]:
    templates, examples = axes(keys)
    cell = self.by_model[model]
    return [[cell.get((t, e)) if (t, e) in keys else None for e in examples] for t in templates]


@functools.lru_cache(maxsize=4096)
def way(task: str, seqio_task: str) -> tuple[str, str]:
  """How a SeqIO task asks a task: its regime and its exemplars, '' for templates and none.

  >>> way('rte', 'dataset_name_rte_type_0_scoring_eval'), way('rte', 'rte_type_3_five_shot')
  (('dataset_name', ''), ('', 'five_shot'))
  """
  found = re.fullmatch(rf'(?:(?P<regime>\w+)_)?{re.escape(task)}{_AFTER_TASK}', seqio_task)
  return (found['regime'] or '', found['shots'].lstrip('_')) if found else ('', '')


def labels(records: Iterable[Record]) -> Label:
  """What to call the tables of records, so that no answer takes the place of another.

  Where a model was asked in several ways, each has tables and clusters of its own: 'rte' of 'nli'
  and 'dataset_name_rte' of 'nli (dataset_name)'. Where each model was asked in one, as with
  exemplars for the untuned one alone, models are compared across the ways, and all is just 'rte'.
  """
  ways = collections.defaultdict(set)
  for r in records:
    ways[r['model']].add(way(r['task'], r['seqio_task']))
  split = [any(len({w[i] for w in found}) > 1 for found in ways.values()) for i in (0, 1)]

  def label(record: Record) -> tuple[str, str]:
    task, cluster = record['task'], record['cluster']
    regime, shots = (w if s else '' for w, s in zip(way(task, record['seqio_task']), split))
    said = ', '.join(filter(None, (regime, shots)))
    name = '_'.join(filter(None, (regime, task, shots)))
    return name, f'{cluster} ({said})' if said else cluster

  return label


def group(
    records: Sequence[Record],
    metric_fns: Mapping[str, MetricFn] | None = None,
    label: Label | None = None,
) -> dict[tuple[str, str], TaskRecords]:
  """Records by (task, mode).

  Args:
    records: of any models and tasks.
    metric_fns: adds metric functions outside flanjax.data.metrics.
    label: as of `labels`, of other records that shall have the same names; None: of these.
  """
  label = label or labels(records)
  cells = collections.defaultdict(lambda: collections.defaultdict(dict))
  clusters = {}
  for r in records:
    task, cluster = label(r)
    clusters[task] = cluster
    cells[task, r['mode']][r['model']][r['template_id'], r['example_id']] = r
  tables = {}
  for (task, mode), by_model in sorted(cells.items()):
    first = next(iter(next(iter(by_model.values())).values()))
    metric_fn = (metric_fns or {}).get(first['metric_fn']) or baselines_lib.metric_fn(
        first['metric_fn']
    )
    tables[task, mode] = TaskRecords(
        task, mode, clusters[task], first['metric'], metric_fn, dict(by_model)
    )
  return tables


def contributions(scores: np.ndarray) -> np.ndarray:
  """As `TaskRecords.contributions`, of scores [templates, examples]."""
  present = ~np.isnan(scores)
  shares = np.where(present, scores, 0.0) / np.maximum(1, present.sum(axis=1, keepdims=True))
  return shares.sum(axis=0) * scores.shape[1] / max(1, present.any(axis=1).sum())


def count_examples(keys_per_task: Iterable[frozenset[Key]]) -> int:
  """Distinct examples, summed over tasks; templates do not count twice."""
  return sum(len({example for _, example in keys}) for keys in keys_per_task)


def axes(keys: frozenset[Key]) -> tuple[list[int], list[int]]:
  """Sorted template ids and example ids of `keys`."""
  return sorted({t for t, _ in keys}), sorted({e for _, e in keys})
