"""What `flanjax tasks` and `flanjax mixtures` tell: plain data, for a person or a program."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Iterator
from typing import Any

import seqio

from flanjax.data import availability, clusters, mixtures, preprocessors, sources, specs, task_reading
from flanjax.data.specs import TaskSpec
from flanjax.errors import UserError, nearest


def list_tasks(suite: str | None = None, cluster: str | None = None) -> list[dict[str, Any]]:
  """The registered tasks, one row for each; see `describe`.

  Raises:
    UserError: there is no such suite or cluster.
  """
  if suite is not None:
    clusters.clusters(suite)
  found = specs.all_specs(suite)
  if cluster is not None:
    names = {s.cluster for s in found}
    if cluster not in names:
      raise UserError(f"There is no cluster '{cluster}'.", hint=nearest(cluster, names))
    found = [s for s in found if s.cluster == cluster]
  return [describe(spec) for spec in found]


def describe(spec: TaskSpec) -> dict[str, Any]:
  """What there is to tell of a task without opening its data.

  Returns:
    task, suite, cluster, what `sources.Origin` tells (source, version, downloads, download_bytes,
    by_hand), train_examples as published (None: not known), templates and how many of them are
    inverted, classification, metrics, lineage in `data`, licence, citation; and of this machine:
    `prepared`, whether the data is here, and `missing`, why it cannot be read (None: it can).
  """
  origin = sources.origin(spec.source)
  return {
      'task': spec.name,
      'suite': spec.suite,
      'cluster': spec.cluster,
      'source': origin.name,
      'version': origin.version,
      'downloads': origin.obtained,
      'download_bytes': origin.download_bytes,
      'by_hand': origin.by_hand,
      'train_examples': spec.num_train_examples,
      'templates': len(spec.templates),
      'inverted': len(spec.templates) - len(spec.zero_shot_templates),
      'classification': spec.is_classification,
      'metrics': metric_names(spec),
      'data': sorted(spec.all_lineage),
      'licence': spec.licence,
      'citation': spec.citation,
      'prepared': availability.is_prepared(spec),
      'missing': availability.check_available(spec),
  }


def metric_names(spec: TaskSpec) -> list[str]:
  return [getattr(fn, '__name__', str(fn)) for fn in spec.metric_fns]


def show_task(name: str, num_examples: int = 2, split: str = 'train') -> list[dict[str, Any]]:
  """Rendered examples of a task.

  Args:
    name: a SeqIO task, or a task's own name, which stands for all of its templates.
    num_examples: how many; of a task's own name, how many for each template.
    split: which split.

  Returns:
    rows {task, split, example_id, template_id, inverted, inputs, targets, input_tokens,
    target_tokens}, and for rank classification {option, is_correct}. Tokens count EOS; they are
    None where the vocabulary cannot be read, as without a network.

  Raises:
    UserError: the task or split is unknown, or its data is missing or wrong.
  """
  own = not specs.is_task_name(name)
  spec = specs.get(name) if own else specs.parse_task_name(name).spec
  availability.require_available([spec])
  if own:
    tasks = [f'{name}_type_{i}' for i in range(len(spec.templates))]
  else:
    tasks = [name]
  counted = _has_vocabulary(seqio.TaskRegistry.get(tasks[0]))
  return [row for task in tasks for row in _rows(task, num_examples, split, counted)]


def _has_vocabulary(task: seqio.Task) -> bool:
  try:
    return all(f.vocabulary.vocab_size for f in task.output_features.values())
  except UserError:
    return False


def _rows(name: str, num_examples: int, split: str, counted: bool) -> Iterator[dict[str, Any]]:
  task, parsed = seqio.TaskRegistry.get(name), specs.parse_task_name(name)
  if split not in task.splits:
    raise UserError(f"Task '{name}' has no split '{split}'.", hint=nearest(split, task.splits))
  for x in itertools.islice(_texts(task, parsed, split), num_examples):
    template_id = int(x['template_id'])
    row = {
        'task': name,
        'split': split,
        'example_id': int(x['example_id']),
        'template_id': template_id,
        'inverted': parsed.spec.templates_of(parsed.regime)[template_id].inverted,
        'inputs': x['inputs'].decode(errors='replace'),
        'targets': x['targets'].decode(errors='replace'),
    }
    for side, key in (('inputs', 'input_tokens'), ('targets', 'target_tokens')):
      feature = task.output_features[side]
      tokens = len(feature.vocabulary.encode(row[side])) + feature.add_eos if counted else None
      row[key] = tokens
    if parsed.scoring:
      row |= {'option': int(x['idx'][1]), 'is_correct': bool(x['is_correct'])}
    yield row


def _texts(task: seqio.Task, parsed: specs.ParsedTask, split: str) -> Iterator[dict[str, Any]]:
  """A task's elements before they are tokenised; errors of its data come as UserErrors."""
  with task_reading.named(f'task {task.name}, split {split}'):
    dataset = task.source.get_dataset(split, shuffle=False)
    dataset = preprocessors.to_fields(dataset, parsed.spec)
    if parsed.shots:
      dataset = preprocessors.render_few_shot(
          dataset, task.output_features, task=parsed, source=task.source)
    else:
      dataset = preprocessors.render(dataset, parsed)
    if parsed.scoring:
      dataset = preprocessors.expand_options(dataset)
    yield from dataset.as_numpy_iterator()


def mixture_table(name: str) -> list[dict[str, Any]]:
  """The table of `flanjax mixtures show`: a row for each task of a mixture.

  Raises:
    UserError: the mixture is unknown or data of it is missing.
  """
  rows = []
  for task, rate in mixtures.mixture_rates(name).items():
    spec = specs.parse_task_name(task).spec if specs.is_task_name(task) else None
    cluster = spec.cluster if spec else ''
    rows.append({'task': task, 'cluster': cluster, **dataclasses.asdict(rate)})
  return sorted(rows, key=lambda r: (-r['share'], r['task']))


def list_mixtures(pattern: str = '', few_shot: bool = False) -> list[dict[str, Any]]:
  """The registered mixtures, {mixture, tasks}.

  Args:
    pattern: a word of the name, or a name with * and ?.
    few_shot: also those with exemplars.

  Raises:
    UserError: no name is like the pattern.
  """
  known = [n for n in seqio.MixtureRegistry.names() if few_shot or not mixtures.is_few_shot(n)]
  names = [n for n in known if pattern in n or fnmatch.fnmatchcase(n, pattern)]
  if not names:
    raise UserError(f"No mixture has '{pattern}' in its name.", hint=nearest(pattern, known))
  return [{'mixture': n, 'tasks': len(mixtures.tasks_of(n))} for n in sorted(names)]
