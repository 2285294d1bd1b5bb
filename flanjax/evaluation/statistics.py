"""From records to scores with intervals.

A score is the mean over examples (or a corpus metric), then over a task's templates, then over a
cluster's tasks. Intervals are percentile bootstrap intervals (Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, chapter 13), stratified by task. The unit resampled is the example: its
records under all templates stay together (they are not independent), and both models of a
difference are read on the same resample, which pairs them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import types
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from flanjax import errors
from flanjax.evaluation import baselines as baselines_lib
from flanjax.evaluation.records import Record

RESAMPLES = 2_000
# A corpus metric is computed anew on every resample, so a cluster that holds one gets fewer.
CORPUS_RESAMPLES = 500
_CONFIDENCE = 0.95

Key = tuple[int, int]  # template_id, example_id
MetricFn = Callable[..., Mapping[str, float]]
# weights [resamples, examples] -> values [resamples, templates], NaN where a template has no data
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class TaskRecords:
  """All models' records of one task in one mode: `by_model[model][template_id, example_id]`."""

  task: str
  mode: str
  cluster: str
  metric: str
  metric_fn: MetricFn | None
  by_model: Mapping[str, Mapping[Key, Record]]

  @functools.cached_property
  def is_corpus(self) -> bool:
    """Whether the metric is no mean over examples."""
    return any(r['score'] is None for cell in self.by_model.values() for r in cell.values())

  def restricted(self, examples: frozenset[int]) -> TaskRecords:
    """The records of some examples."""
    by_model = {model: {key: r for key, r in cell.items() if key[1] in examples}
                for model, cell in self.by_model.items()}
    return dataclasses.replace(self, by_model=by_model)

  def statistic(self, model: str, keys: frozenset[Key]) -> Statistic:
    """The model's value per template on `keys`, as a function of example weights."""
    templates, examples = _axes(keys)
    cell = self.by_model[model]
    grid = [[cell.get((t, e)) if (t, e) in keys else None for e in examples] for t in templates]
    if not self.is_corpus:
      scores = [[np.nan if r is None else r['score'] for r in row] for row in grid]
      return mean_statistic(np.array(scores, np.float64))
    if self.metric_fn is None:
      raise errors.UserError(
          'a metric that is no mean over examples cannot be computed again', where=self.task,
          got=self.metric, hint='name the module that defines it (--module)',
      )  # fmt: skip
    return corpus_statistic(self.metric_fn, self.metric, grid)


def mean_statistic(scores: np.ndarray) -> Statistic:
  """Weighted mean over examples of `scores` [templates, examples], skipping NaN."""
  present = ~np.isnan(scores)
  filled = np.where(present, scores, 0.0)

  def values(weights: np.ndarray) -> np.ndarray:
    total = weights @ present.T
    return np.divide(
        weights @ filled.T, total, out=np.full(total.shape, np.nan), where=total > 0
    )

  return values


def corpus_statistic(
    metric_fn: MetricFn, metric: str, grid: Sequence[Sequence[Record | None]]
) -> Statistic:
  """`metric_fn`'s value on the records repeated by their weights; `grid` is [templates][examples]."""
  sums = _bleu_statistic(metric_fn, metric, grid)
  if sums is not None:
    return sums

  def value(row: Sequence[Record | None], weights: np.ndarray) -> float:
    pairs = [_pair(r) for r, w in zip(row, weights) if r is not None for _ in range(int(w))]
    if not pairs:
      return np.nan
    targets, predictions = zip(*pairs)
    return float(metric_fn(list(targets), list(predictions))[metric])

  return lambda weights: np.array([[value(row, w) for row in grid] for w in weights])


def _bleu_statistic(
    metric_fn: MetricFn, metric: str, grid: Sequence[Sequence[Record | None]]
) -> Statistic | None:
  """BLEU from its sums over sentences, which is exact and far quicker than from the text.

  None when the metric is another one, or BLEU with settings not tried (values are compared).
  """
  if metric != 'bleu':
    return None
  pairs = [_pair(r) for r in grid[0] if r is not None]
  whole = metric_fn([t for t, _ in pairs], [p for _, p in pairs])[metric]
  for tokenize in ('intl', '13a'):
    values = functools.partial(_bleu_values, _bleu_sums(grid, tokenize))
    if np.isclose(values(np.ones((1, len(grid[0]))))[0, 0], whole, atol=1e-6):
      return values
  return None


def _bleu_sums(grid: Sequence[Sequence[Record | None]], tokenize: str) -> np.ndarray:
  """[templates, examples, 10]: n-gram matches and counts for n of 1 to 4, both lengths."""
  scorer = BLEU(tokenize=tokenize)

  def sums(record: Record | None) -> list[float]:
    if record is None:
      return [0.0] * 10
    references, prediction = _pair(record)
    references = [references] if isinstance(references, str) else references
    s = scorer.corpus_score([prediction], [[r] for r in references])
    return [*s.counts, *s.totals, s.sys_len, s.ref_len]

  return np.array([[sums(r) for r in row] for row in grid], np.float64)


def _bleu_values(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Corpus BLEU per resample and template (Papineni et al. 2002; sacrebleu's smoothing)."""
  totals = np.einsum('be,tek->btk', weights, sums)
  values = np.full(totals.shape[:2], np.nan)
  for index in np.argwhere(totals[..., 9] > 0):
    s = [int(x) for x in totals[tuple(index)]]
    bleu = BLEU.compute_bleu(s[:4], s[4:8], s[8], s[9], smooth_method='exp')
    values[tuple(index)] = bleu.score
  return values


def _pair(record: Record) -> tuple[Any, Any]:
  """Target and prediction as the metric takes them."""
  if 'postprocessed' not in record:
    return record['targets'], record['prediction']
  # A postprocessor's named tuple is an object in JSON; metrics read its fields by name.
  return tuple(
      types.SimpleNamespace(**v) if isinstance(v, Mapping) else v for v in record['postprocessed']
  )


def group(
    records: Iterable[Record], metric_fns: Mapping[str, MetricFn] | None = None
) -> dict[tuple[str, str], TaskRecords]:
  """Records by (task, mode). `metric_fns` adds metric functions outside flanjax.data.metrics."""
  cells = collections.defaultdict(lambda: collections.defaultdict(dict))
  for r in records:
    cells[r['task'], r['mode']][r['model']][r['template_id'], r['example_id']] = r
  tables = {}
  for (task, mode), by_model in sorted(cells.items()):
    first = next(iter(next(iter(by_model.values())).values()))
    metric_fn = (metric_fns or {}).get(first['metric_fn']) or baselines_lib.metric_fn(
        first['metric_fn']
    )
    tables[task, mode] = TaskRecords(
        task, mode, first['cluster'], first['metric'], metric_fn, dict(by_model)
    )
  return tables


def bootstrap_weights(task: str, num_examples: int, resamples: int, seed: int) -> np.ndarray:
  """How often each example is drawn in each resample: float64 [resamples, examples].

  A function of the arguments alone: two statistics of one task on the same examples are paired,
  and those of different tasks independent.
  """
  rng = np.random.default_rng([seed, zlib.crc32(task.encode()), num_examples])
  even = np.full(num_examples, 1 / num_examples)
  return rng.multinomial(num_examples, even, size=resamples).astype(np.float64)


def interval(values: np.ndarray, confidence: float = _CONFIDENCE) -> dict[str, float]:
  """The percentile interval of bootstrap values [resamples]; resamples without a value are out."""
  tail = 100 * (1 - confidence) / 2
  known = values[~np.isnan(values)]
  low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
  return {'low': float(low), 'high': float(high)}


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What a comparison needs besides the records.

  `models` are all names in order; `tuned` and `untuned` the pair whose difference is reported.
  """

  models: tuple[str, ...]
  tuned: str | None = None
  untuned: str | None = None
  resamples: int = RESAMPLES
  corpus_resamples: int = CORPUS_RESAMPLES
  seed: int = 0
  _memo: dict[Any, np.ndarray] = dataclasses.field(default_factory=dict, repr=False, compare=False)

  @property
  def lead(self) -> str:
    """The model that others are compared with."""
    return self.tuned or self.models[0]

  def keys(self, table: TaskRecords) -> frozenset[Key]:
    """The (template, example) pairs that a table's scores are about.

    Those that the tuned and the untuned model share, or all of the only one's.
    """
    pair = [m for m in (self.lead, self.untuned) if m in table.by_model] or list(table.by_model)[:1]
    keys = frozenset.intersection(*(frozenset(table.by_model[m]) for m in pair))
    if not keys:
      raise errors.UserError(
          'two models have no example in common', where=f'{table.task} ({table.mode})',
          got=' and '.join(pair), expected='both evaluated on the same split and templates',
      )  # fmt: skip
    return keys

  def has_keys(self, table: TaskRecords) -> bool:
    """Whether there is anything that a table's scores would be about."""
    try:
      return bool(self.keys(table))
    except errors.UserError:
      return False

  def common(self, table: TaskRecords, model: str) -> frozenset[Key]:
    """Those of `keys` that `model` has too."""
    return self.keys(table) & frozenset(table.by_model.get(model, ()))

  def values(
      self, table: TaskRecords, model: str, keys: frozenset[Key], resamples: int
  ) -> np.ndarray:
    """The task's score on `keys` [1 + resamples]: first the value, then the bootstrap's."""
    memo = (table.task, table.mode, model, keys, resamples)
    if memo not in self._memo:
      num_examples = len({example for _, example in keys})
      draws = bootstrap_weights(table.task, num_examples, resamples, self.seed)
      weights = np.concatenate([np.ones((1, num_examples)), draws])
      self._memo[memo] = _mean_over_templates(table.statistic(model, keys)(weights))
    return self._memo[memo]

  def score(self, tables: Sequence[TaskRecords], model: str) -> dict[str, float] | None:
    """Mean over tasks with its interval; None unless the model has every task."""
    keys = [self.common(t, model) for t in tables]
    if not tables or not all(keys):
      return None
    n = self._resamples(tables)
    mean = np.mean([self.values(t, model, k, n) for t, k in zip(tables, keys)], axis=0)
    return {'value': float(mean[0]), **interval(mean[1:])}

  def difference(self, tables: Sequence[TaskRecords], other: str) -> dict[str, Any] | None:
    """The lead model minus `other`, paired by example; None unless both have every task."""
    keys = [self.common(t, self.lead) & self.common(t, other) for t in tables]
    if not tables or other == self.lead or not all(keys):
      return None
    n = self._resamples(tables)
    gaps = [
        self.values(t, self.lead, k, n) - self.values(t, other, k, n) for t, k in zip(tables, keys)
    ]
    mean = np.mean(gaps, axis=0)
    return {'value': float(mean[0]), **interval(mean[1:]), 'n_examples': count_examples(keys)}

  def _resamples(self, tables: Sequence[TaskRecords]) -> int:
    slow = any(t.is_corpus and t.metric != 'bleu' for t in tables)
    return self.corpus_resamples if slow else self.resamples


def _mean_over_templates(values: np.ndarray) -> np.ndarray:
  """[resamples, templates] -> [resamples], over the templates that have a value."""
  present = ~np.isnan(values)
  total = np.where(present, values, 0.0).sum(axis=1)
  count = present.sum(axis=1)
  return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def count_examples(keys_per_task: Iterable[frozenset[Key]]) -> int:
  """Distinct examples, summed over tasks; templates do not count twice."""
  return sum(len({example for _, example in keys}) for keys in keys_per_task)


def template_scores(
    table: TaskRecords, model: str, keys: frozenset[Key] | None = None
) -> dict[int, float]:
  """Score per template id, on `keys` or on all the model has."""
  keys = frozenset(table.by_model[model]) if keys is None else keys
  templates, examples = _axes(keys)
  values = table.statistic(model, keys)(np.ones((1, len(examples))))[0]
  return {t: float(v) for t, v in zip(templates, values)}


def best_dev_template(
    dev: TaskRecords | None, test: TaskRecords, model: str, keys: frozenset[Key]
) -> dict[str, Any] | None:
  """FLAN's second number: the test score of the template that does best on the dev records.

  {'template_id', 'value'}, or None without dev records; the lowest id wins a tie.
  """
  if dev is None or model not in dev.by_model or not keys:
    return None
  scores = template_scores(test, model, keys)
  on_dev = {t: v for t, v in template_scores(dev, model).items() if t in scores}
  if not on_dev:
    return None
  best = min(on_dev, key=lambda t: (-on_dev[t], t))
  return {'template_id': best, 'value': scores[best]}


def _axes(keys: frozenset[Key]) -> tuple[list[int], list[int]]:
  """Sorted template ids and example ids of `keys`."""
  return sorted({t for t, _ in keys}), sorted({e for _, e in keys})
