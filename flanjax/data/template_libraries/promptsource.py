"""promptsource's templates (bigscience-workshop/promptsource) as tasks.

A set of templates belongs to a dataset. It is bound to the task here that reads the same data, and
takes source, filter, cluster and metrics from it; wording, choices and targets are its own.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import seqio
from jinja2 import nodes

from flanjax.data import metrics, sources, specs
from flanjax.data.specs import TaskSpec
from flanjax.data.template_libraries import hugging_face, jinja, library, rendering
from flanjax.data.template_libraries.jinja_allowance import Refused
from flanjax.data.template_libraries.library import Call, Library
from flanjax.data.template_libraries.promptsource_files import PromptSet, files_of, read_set
from flanjax.data.template_libraries.rendering import SEPARATOR, JinjaTemplate
from flanjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Binding:
  """Data for a set of templates, where no registered task reads it.

  Attributes:
    source: the data.
    cluster: the kind of task.
    metric_fns: metrics on texts.
    columns: what templates call a column -> a Jinja expression of the source's columns.
    filter_fn: as in TaskSpec.
  """

  source: seqio.DataSource
  cluster: str
  metric_fns: Sequence[Callable[..., dict[str, float]]] = (metrics.accuracy,)
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  filter_fn: Callable[..., Any] | None = None


def templates_of(found: PromptSet) -> list[JinjaTemplate]:
  """The templates of a set, looked through.

  Raises:
    UserError: a template does what it may not do.
  """
  return [_template(entry, f"{found.path}, template '{entry['name']}'") for entry in found.entries]


def _template(entry: Mapping[str, Any], where: str) -> JinjaTemplate:
  inverted = (entry.get('metadata') or {}).get('original_task') is False
  try:
    program = jinja.program(entry['jinja'])
    if entry['answer_choices'] is not None:
      jinja.program(entry['answer_choices'])
  except Refused as e:
    raise jinja.refusal(e, where) from e
  if SEPARATOR not in entry['jinja']:
    raise UserError('A template has no target.', where=where,
                    expected=f"inputs and targets, separated by '{SEPARATOR}'")
  choices = entry['answer_choices']
  looped = any(SEPARATOR in data.data for loop in program.tree.find_all(nodes.For)
               for data in loop.find_all(nodes.TemplateData))
  return JinjaTemplate(
      where=rendering.Place(where), name=entry['name'], jinja=entry['jinja'], answer_choices=choices,
      inverted=inverted, ranks=not inverted and bool(choices) and _is_one_value(program.tree),
      several=looped or entry['jinja'].count(SEPARATOR) > 1)


def _is_one_value(tree: nodes.Template) -> bool:
  """Whether each target is a single value or constant, as a choice is, and not words around one."""
  started = False
  for output in tree.find_all(nodes.Output):
    said = 0
    for part in output.nodes:
      if not isinstance(part, nodes.TemplateData):
        said += started
      elif started or SEPARATOR in part.data:
        said += bool(part.data.rpartition(SEPARATOR)[2].strip())
        started = True
    if said > 1:
      return False
  return True


def _with_tfds_name(name: str) -> list[TaskSpec]:
  """The first task that was registered on a TFDS dataset."""
  known = [s for s in specs.all_specs() if sources.is_tfds(s.source)]
  return [s for s in known
          if name in {n.split(':')[0] for n in sources.tfds_names(s.source)}][:1]


Bound = tuple[str, TaskSpec | Binding, Mapping[str, str | None]]


def _bound(found: PromptSet, bindings: Mapping[str, str | Binding]) -> list[Bound]:
  """(name of a task, where its data is told, columns) for each dataset that a set is for."""
  own = bindings.get(found.name)
  known = hugging_face.SETS.get(found.name, hugging_face.Known(()))
  if isinstance(own, Binding):
    return [(found.name, own, own.columns)]
  if own is not None:
    return [(found.name, specs.get(own), known.columns)]
  names = {s.name: s for s in specs.all_specs()}
  tasks = [names[t] for t in known.tasks if t in names]
  if not tasks:
    return [(found.name, task, {}) for task in _with_tfds_name(found.name)]
  several = len(known.tasks) > 1
  return [(t.name if several else found.name, t, known.columns) for t in tasks]


def _spec(
    name: str, data: TaskSpec | Binding, columns: Mapping[str, str | None], suite: str,
    found: Sequence[JinjaTemplate],
) -> TaskSpec:
  inherited = {}
  if isinstance(data, TaskSpec):
    inherited = {key: getattr(data, key) for key in (
        'lineage', 'eval_only', 'num_train_examples', 'citation', 'licence')}
  # A postprocessor turns this task's own labels into numbers; templates bring other labels.
  numbers = getattr(data, 'postprocess_fn', None) is not None
  given = {column: how for column, how in columns.items() if how is not None}
  return TaskSpec(
      name=name, cluster=data.cluster, source=data.source, suite=suite,
      fields=rendering.fields_of(found, given, name),
      templates=rendering.templates_of(found),
      metric_fns=[metrics.accuracy] if numbers else data.metric_fns,
      filter_fn=data.filter_fn, plain='', drop_empty=True, **inherited)


def _usable(
    found: Sequence[JinjaTemplate], columns: Mapping[str, str | None], leave_out: frozenset[str],
    left_out: dict[str, str],
) -> list[JinjaTemplate]:
  """The templates that stay; `left_out` learns why others do not."""
  stay = []
  for template in found:
    lacking = [c for c in sorted(template.columns) if c in columns and columns[c] is None]
    if template.name in leave_out:
      left_out[str(template.where)] = 'left out by name'
    elif lacking:
      left_out[str(template.where)] = f"the data here has no column '{lacking[0]}'"
    else:
      stay.append(template)
  return stay


def register_promptsource(
    path: str | os.PathLike[str],
    *,
    prefix: str = 'promptsource_',
    suite: str = 'promptsource',
    bindings: Mapping[str, str | Binding] | None = None,
    leave_out: Iterable[str] = (),
) -> Library:
  """Registers promptsource's templates as tasks: `promptsource_super_glue_rte_10templates`, ...

  A set is bound to the task that reads the same data, and takes source, filter, cluster and metrics
  from it. Of a folder, sets without such a task are left out, and told of in the result.

  Args:
    path: a templates.yaml, or a folder of them.
    prefix: what the names of the tasks begin with.
    suite: their suite, and so what the names of their mixtures begin with.
    bindings: 'dataset/subset' -> the name of a task, or a Binding, for other data than that.
    leave_out: names of templates not to be used.

  Raises:
    UserError: a file or a template is refused; a single file has no data.
  """
  path, leave_out = pathlib.Path(path).expanduser(), frozenset(leave_out)
  bindings, left_out = dict(bindings or {}), {}
  found: list[tuple[str, TaskSpec | Binding, Mapping[str, str | None], list[JinjaTemplate]]] = []
  for prompts in map(read_set, files_of(path)):
    bound = _bound(prompts, bindings)
    if not bound:
      left_out[prompts.path] = f"no registered task reads '{prompts.name}'"
      continue
    templates = templates_of(prompts)
    for name, data, columns in bound:
      stay = _usable(templates, columns, leave_out, left_out)
      if stay:
        found.append((prefix + re.sub(r'\W', '_', name), data, columns, stay))
  if not found:
    raise _nothing(path, left_out)
  tasks = [_spec(name, data, columns, suite, stay) for name, data, columns, stay in found]
  parents = [(name, data) for name, data, *_ in found if isinstance(data, TaskSpec)]
  overlaps = library.renamed(parents)
  tasks = [dataclasses.replace(t, overlaps=overlaps.get(t.name, ())) for t in tasks]
  # Where a binding is an object, another process needs the module that makes it.
  plain = all(isinstance(b, str) for b in bindings.values())
  call = plain and Call('promptsource', os.path.abspath(path), prefix, suite,
                        tuple(sorted(bindings.items())), tuple(sorted(leave_out)))
  done = library.register_all(tasks, suite, [data.suite for _, data in parents], call or None)
  return Library(done, {name: tuple(t.name for t in stay) for name, *_, stay in found}, left_out)


def _nothing(path: pathlib.Path, left_out: Mapping[str, str]) -> UserError:
  reasons = list(dict.fromkeys(left_out.values()))
  return UserError(
      'A library of templates gives no task.', where=str(path), got='; '.join(reasons[:3]),
      expected='a set for the data of a registered task',
      hint='import the module that registers one first (--module), or give the data: '
      "register_promptsource(..., bindings={'dataset/subset': Binding(source, cluster)})")
