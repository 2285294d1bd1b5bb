"""Evaluates models on SeqIO tasks through `seqio.Evaluator`, and keeps a record of every example.

SeqIO reads and tokenises each task once, for all models, and computes the metrics. The predictions
of many tasks are made together beforehand: tasks are small, batches and compilation are not free.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from flanjax import errors
from flanjax.data import metrics, options, preprocessors, specs, vocabularies
from flanjax.evaluation import records as records_lib
from flanjax.evaluation.predict import Predictor
from flanjax.evaluation.records import Record

# Tasks are evaluated, and so made resumable, in groups of about this many rows.
GROUP_ROWS = 1_024
_FORMAT_VERSION = 2

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Variant:
  """A model to evaluate.

  Attributes:
    model: its name in records and report.
    predictor: its device side.
    task_suffix: added to each task's name, as `_five_shot`: the same examples under another
      prompt, which pair with those without.
    tasks: the tasks to evaluate it on, if not on all.
    sequence_length: its own lengths; few-shot prompts are longer.
  """

  model: str
  predictor: Predictor
  task_suffix: str = ''
  tasks: tuple[str, ...] | None = None
  sequence_length: Mapping[str, int] | None = None


@dataclasses.dataclass(frozen=True)
class _Job:
  """One variant on one SeqIO task."""

  variant: Variant
  seqio_task: str
  lengths: tuple[tuple[str, int], ...]
  path: pathlib.Path
  stamp: Mapping[str, Any]

  @property
  def source(self) -> tuple[str, tuple[tuple[str, int], ...]]:
    """What is read; jobs that agree in it share an evaluator."""
    return self.seqio_task, self.lengths


def evaluate(
    variants: Mapping[str, Predictor] | Sequence[Variant],
    tasks: Sequence[str],
    sequence_length: Mapping[str, int],
    *,
    split: str = 'test',
    num_examples: int | None = None,
    records_dir: str | os.PathLike[str],
    progress: Progress | None = None,
) -> list[Record]:
  """Evaluates every variant on every task; what an earlier call finished is not done again.

  Args:
    variants: models, or predictors by model name.
    tasks: names of SeqIO tasks of one template, `rte_type_3` or `rte_type_3_scoring_eval`; with
      `_order_1` or `_reworded` after it, its options are asked otherwise (`data.options`).
    sequence_length: {'inputs', 'targets'}; targets is also the length of answers.
    split: the split to evaluate on.
    num_examples: the first so many examples of each task, all their options included; None: all.
    records_dir: where records go, `<model>/<task>.jsonl`.
    progress: called with (finished, all, what), in tasks times models.

  Returns:
    the records of all variants and tasks, in that order.

  Raises:
    UserError: an unknown task, a missing split, or data that cannot be read.
  """
  if isinstance(variants, Mapping):
    variants = [Variant(model, predictor) for model, predictor in variants.items()]
  jobs = list(_jobs(variants, tasks, sequence_length, split, num_examples, records_dir))
  pending = [j for j in jobs if not records_lib.is_done(j.path, j.stamp)]
  done = len(jobs) - len(pending)
  tell = lambda what: progress(done, len(jobs), what) if progress else None
  tell('')
  with _quiet():
    for group in _ahead(_groups(pending, split, num_examples, tell)):
      for job in _run(group):
        done += 1
        tell(f'{job.variant.model}, {job.seqio_task}')
  return [r for j in jobs for r in records_lib.read_task(j.path)]


def _jobs(variants, tasks, sequence_length, split, num_examples, records_dir) -> Iterator[_Job]:
  for variant in variants:
    for task in tasks if variant.tasks is None else variant.tasks:
      name = task + variant.task_suffix
      specs.make_known(name)
      parsed = specs.parse_task_name(name)
      splits = seqio.TaskRegistry.get(name).splits
      if split not in splits:
        raise errors.UserError(
            f"The task has no split '{split}'.", where=f'task {name}',
            hint=errors.nearest(split, splits),
        )  # fmt: skip
      lengths = dict(variant.sequence_length or sequence_length)
      stamp = {
          'format_version': _FORMAT_VERSION,
          'split': split,
          'num_examples': num_examples,
          'sequence_length': lengths,
          'model': variant.predictor.fingerprint,
          'vocabulary': vocabularies.fingerprint(vocabularies.default_name(parsed.spec.suite)),
          'templates': _digest(parsed),
      }
      path = records_lib.task_path(records_dir, variant.model, name)
      yield _Job(variant, name, tuple(sorted(lengths.items())), path, stamp)


def _digest(parsed: specs.ParsedTask) -> str:
  """A hash of the wording and the metrics of a task."""
  names = [_name(fn) for fn in parsed.spec.metric_fns]
  text = repr([(t.inputs, t.targets, t.suffix) for t in parsed.templates] + names)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass
class _Group:
  """Jobs whose predictions are made together, and the tasks that they read."""

  jobs: list[_Job] = dataclasses.field(default_factory=list)
  sources: dict[Any, _Source] = dataclasses.field(default_factory=dict)

  @property
  def rows(self) -> int:
    return sum(len(s.rows) for s in self.sources.values())


def _groups(
    jobs: Sequence[_Job], split: str, num_examples: int | None, tell: Callable[[str], None]
) -> Iterator[_Group]:
  """Jobs by what they read, in groups of about `GROUP_ROWS` rows."""
  by_source: dict[Any, list[_Job]] = {}
  for job in jobs:
    by_source.setdefault(job.source, []).append(job)
  group = _Group()
  for key, sharing in by_source.items():
    job = sharing[0]
    tell(f'reading {job.seqio_task}')
    group.sources[key] = _Source(job.seqio_task, dict(job.lengths), split, num_examples)
    group.jobs += sharing
    if group.rows >= GROUP_ROWS:
      yield group
      group = _Group()
  if group.jobs:
    yield group


def _ahead(items: Iterator[_Group]) -> Iterator[_Group]:
  """Reads the next group in another thread while models are busy with the present one."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    future = pool.submit(next, items, None)
    while (item := future.result()) is not None:
      future = pool.submit(next, items, None)
      yield item


def _run(group: _Group) -> Iterator[_Job]:
  """Predicts for all of a group, one variant after the other, and writes each job's records."""
  variants = list({id(j.variant): j.variant for j in group.jobs}.values())
  for variant in variants:
    jobs = [j for j in group.jobs if j.variant is variant]
    sources = [group.sources[j.source] for j in jobs]
    outputs = _predict(variant.predictor, sources)
    for job, source, output in zip(jobs, sources, outputs):
      found = source.finish(variant.model, output)
      records_lib.write_task(job.path, found.records, job.stamp, found.metrics, source.cut)
      yield job


def _predict(predictor: Predictor, sources: Sequence[_Source]) -> list[np.ndarray]:
  """Of each source scores with and without their prompts, [rows, 2], or padded ids [rows, steps]."""
  outputs: list[Any] = [None] * len(sources)
  ranked = [i for i, s in enumerate(sources) if s.parsed.scoring]
  if ranked:
    rows = [row for i in ranked for row in sources[i].rows]
    for i, part in _split(ranked, sources, _scores(predictor, rows)):
      outputs[i] = part
  by_steps: dict[int, list[int]] = {}
  for i, source in enumerate(sources):
    if not source.parsed.scoring:
      by_steps.setdefault(source.lengths['targets'], []).append(i)
  for steps, generated in by_steps.items():
    inputs = [r['inputs'] for i in generated for r in sources[i].rows]
    for i, part in _split(generated, sources, predictor.generate(inputs, steps)):
      # SeqIO wants a rectangle; a vocabulary decodes up to the first end token.
      rows = [a + [predictor.eos_id] * (steps - len(a)) for a in part]
      outputs[i] = np.array(rows, np.int32)
  return outputs


def _scores(predictor: Predictor, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """log p(targets | inputs), and log p(targets | nothing): float64 [rows, 2]."""
  with_prompt = predictor.score([(r['inputs'], r['targets']) for r in rows])
  # Most tasks have a few labels: each is asked once.
  options = {r['targets'].tobytes(): r['targets'] for r in rows}
  nothing = np.array([predictor.eos_id], np.int32)
  alone = predictor.score([(nothing, targets) for targets in options.values()])
  of_option = dict(zip(options, alone))
  return np.stack([with_prompt, [of_option[r['targets'].tobytes()] for r in rows]], axis=1)


def _split(chosen: Iterable[int], sources, values) -> Iterator[tuple[int, Any]]:
  """`values` of the rows of the chosen sources, laid end to end, as (index, its part)."""
  start = 0
  for i in chosen:
    end = start + len(sources[i].rows)
    yield i, values[start:end]
    start = end


@dataclasses.dataclass(frozen=True)
class _Finished:
  records: list[Record]
  metrics: Mapping[str, float]


class _Source:
  """A SeqIO task as read for evaluation: its rows, and SeqIO's evaluator over them."""

  def __init__(
      self, name: str, lengths: Mapping[str, int], split: str, num_examples: int | None
  ):
    self.name, self.lengths = name, lengths
    self.parsed = specs.parse_task_name(name)
    try:
      self._evaluator = _evaluator(name, lengths, split, num_examples)
      self._task = self._evaluator.eval_tasks[0]
      dataset = self._evaluator.cached_task_datasets[self._task.name]
      self.rows: list[dict[str, Any]] = list(tfds.as_numpy(dataset))
    except tf.errors.OpError as e:
      raise preprocessors.explain(e) or errors.UserError(
          'The data of a task cannot be read.', where=f'task {name}, split {split}', got=e.message
      ) from e
    # Two options have no second other order.
    if not self.rows and not self.parsed.variant:
      raise errors.UserError(
          'There are no examples to evaluate.', where=f'task {name}, split {split}'
      )

  @functools.cached_property
  def cut(self) -> dict[str, int]:
    """How many examples have inputs, or a target, longer than `lengths`.

    Those that fill the length are read again; where none does, none was cut.
    """
    found = {}
    for side in ('inputs', 'targets'):
      feature, limit = self._task.output_features[side], self.lengths[side]
      longest = limit - bool(feature.add_eos)
      texts = {(int(r['example_id']), _text(r[f'{side}_pretokenized'])) for r in self.rows
               if len(r[side]) >= limit}
      found[side] = len({i for i, t in texts if len(feature.vocabulary.encode(t)) > longest})
    return found

  def finish(self, model: str, outputs: np.ndarray) -> _Finished:
    """Lets SeqIO's evaluator compute the metrics, and makes the records of what it saw."""
    if not self.rows:
      return _Finished([], {})
    told = outputs[:, 0] if self.parsed.scoring else outputs
    answer = lambda dataset: list(enumerate(told))
    future, _ = self._evaluator.evaluate(compute_metrics=True, predict_fn=answer, score_fn=answer)
    values = {k: float(v) for k, v in future.result()[self._task.name].items()}
    seen: _Capture = self._evaluator.loggers[0]
    make = self._rank_records if self.parsed.scoring else self._generation_records
    return _Finished(make(model, seen, outputs), values)

  def _common(self, model: str, row: Mapping[str, Any], metric_fn: Any) -> Record:
    return {
        'model': model,
        'task': self.parsed.spec.name,
        'cluster': self.parsed.spec.cluster,
        'seqio_task': self.name,
        'mode': 'rank' if self.parsed.scoring else 'generate',
        'template_id': int(row['template_id']),
        'example_id': int(row['example_id']),
        'inputs': _text(row['inputs_pretokenized']),
        'metric': metrics.primary_key(metric_fn),
        'metric_fn': _name(metric_fn),
        **self._asked_otherwise(row),
    }

  def _asked_otherwise(self, row: Mapping[str, Any]) -> Record:
    if not self.parsed.variant:
      return {}
    return {'variant': self.parsed.variant, 'wording': _text(row['wording']),
            'option_order': row['option_order'].tolist()}

  def _generation_records(self, model: str, seen: _Capture, outputs: Any) -> list[Record]:
    del outputs
    reworded = self.parsed.variant == options.REWORDED
    metric_fn = metrics.accuracy if reworded else self.parsed.spec.metric_fns[0]
    targets, predictions = seen.targets, seen.inferences['prediction']
    units = metrics.unit_scores(metric_fn, targets, predictions)
    found = []
    for i, row in enumerate(self.rows):
      record = self._common(model, row, metric_fn) | {
          'targets': targets[i] if _is_text(targets[i]) else _text(row['targets_pretokenized']),
          'prediction': seen.inferences['output'][i],
          'options': [_text(o) for o in row['options']] if 'options' in row else None,
          'option_scores': None,
          'score': None if units is None else float(units[i]),
      }
      # What the metric saw, where that is not the text itself.
      pair = (targets[i], predictions[i])
      if pair != (record['targets'], record['prediction']):
        record['postprocessed'] = [_plain(x) for x in pair]
      found.append(record)
    return found

  def _rank_records(self, model: str, seen: _Capture, outputs: Any) -> list[Record]:
    examples: dict[int, list[int]] = {}
    for i, row in enumerate(self.rows):
      examples.setdefault(int(row['idx'][0]), []).append(i)
    sums, alone = outputs.T
    units = metrics.unit_scores(metrics.rank_accuracy, seen.targets, sums)
    found = []
    for unit, rows in zip(units, examples.values(), strict=True):
      options = [_text(self.rows[i]['targets_pretokenized']) for i in rows]
      right = [o for o, i in zip(options, rows) if self.rows[i]['is_correct']]
      found.append(self._common(model, self.rows[rows[0]], metrics.rank_accuracy) | {
          'targets': right[0] if len(right) == 1 else right,
          'prediction': options[int(np.argmax(sums[rows]))],
          'options': options,
          'option_scores': sums[rows].tolist(),
          'option_tokens': [len(self.rows[i]['targets']) for i in rows],
          'unconditional_scores': alone[rows].tolist(),
          'score': float(unit),
      })  # fmt: skip
    return found


class _Capture(seqio.Logger):
  """A SeqIO logger that keeps what it is given: the postprocessed targets and predictions."""

  def __call__(self, task_name, step, metrics, dataset, inferences, targets):
    del task_name, step, metrics, dataset
    self.inferences, self.targets = inferences, targets


class _Unconverted(seqio.EncDecFeatureConverter):
  """Leaves the rows as they are: the predictor pads them, and graphs that pad take their time."""

  def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Any) -> tf.data.Dataset:
    del task_feature_lengths
    return ds


def _evaluator(
    name: str, lengths: Mapping[str, int], split: str, num_examples: int | None
) -> seqio.Evaluator:
  """SeqIO's evaluator of one task, which reads and tokenises it here, once."""
  with _whole_examples(name, num_examples) as capped:
    return seqio.Evaluator(
        capped,
        _Unconverted(pack=False),
        eval_split=split,
        sequence_length=lengths,
        num_examples=num_examples if capped == name else None,
        logger_cls=[_Capture],
        log_dir='unused',
        async_compute_metrics=False,
    )


@contextlib.contextmanager
def _whole_examples(name: str, num_examples: int | None) -> Iterator[str]:
  """The name of a task whose cap counts its own examples; SeqIO's would count rows of options.

  Such a task is registered only while an evaluator is made of it.
  """
  task = seqio.TaskRegistry.get(name)
  steps = list(task.preprocessors)
  places = [i for i, step in enumerate(steps) if step is preprocessors.expand_options
            or getattr(step, 'func', None) is options.vary]
  if num_examples is None or not places:
    yield name
    return
  # Before options are varied, so that the examples are some of those of the task itself.
  steps.insert(places[0], lambda d: d.take(num_examples))
  capped = f'{name}_capped_{num_examples}'
  seqio.TaskRegistry.add_provider(capped, task.replace(name=capped, preprocessors=steps))
  try:
    yield capped
  finally:
    seqio.TaskRegistry.remove(capped)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps SeqIO from warning about lengths and loggers at every task."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)


def _text(value: Any) -> str:
  return value.decode('utf-8') if isinstance(value, bytes) else str(value)


def _is_text(value: Any) -> bool:
  return isinstance(value, str) or (
      isinstance(value, list) and all(isinstance(v, str) for v in value)
  )


def _plain(value: Any) -> Any:
  """A postprocessed value as JSON holds it; a named tuple becomes an object."""
  if hasattr(value, '_asdict'):
    return {k: _plain(v) for k, v in value._asdict().items()}
  if isinstance(value, (list, tuple, np.ndarray)):
    return [_plain(v) for v in value]
  return value.item() if isinstance(value, np.generic) else value


def _name(metric_fn: Any) -> str:
  return getattr(metric_fn, '__name__', str(metric_fn))
