"""TaskSpec: a dataset told once; register(): every SeqIO task that follows from it."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import seqio

from flanjax.data import (
    gc_pause,
    indexed_source,
    metrics,
    options,
    postprocessors,
    preprocessors,
    sources,
)
from flanjax.data.templates import Template
from flanjax.data.vocabularies import SuiteVocabulary
from flanjax.errors import UserError, nearest

TEMPLATE_COUNTS = (1, 2, 4, 7, 10)
SHOTS = {
    '': 0,
    '_one_shot': 1,
    '_two_shot': 2,
    '_three_shot': 3,
    '_five_shot': 5,
    '_ten_shot': 10,
    '_multi_shot': 'multi',
}
# Other ways to put a task before a model than its templates, and what names of tasks begin with.
CONTINUATIONS, DATASET_NAME, NO_INSTRUCTIONS = REGIMES = (
    'continuations', 'dataset_name', 'no_instructions')
_NAME = re.compile(r'[A-Za-z]\w*\Z', re.ASCII)
_FIRST = re.compile(r'(\w+)_first_(\d+)\Z', re.ASCII)
_VARIED = re.compile(rf'(\w+?)_({options.NAME.pattern})', re.ASCII)


@dataclasses.dataclass(frozen=True, eq=False)
class TaskSpec:
  """A dataset, the fields it gives, and the templates that put them into words.

  Attributes:
    name: the task's name; the names of its SeqIO tasks begin with it.
    cluster: the kind of task it is, held out as a whole.
    source: any SeqIO data source; its split 'train' is used up to MAX_TRAIN_EXAMPLES.
    fields: one example of the source (a dict of tensors) -> dict of texts, in TF ops.
      `options` (a list of texts), `answer` (one text) and `answers` (all references) have
      meaning; `group` is passed on to postprocessors. `options_word`, other words for fixed labels,
      serve to ask whether the wording matters (`data.options`).
    templates: at least one; their order is their number in the names of tasks.
    metric_fns: SeqIO metric functions; the first one's headline stands for the task.
    suite: the collection it belongs to.
    continuations: prompts without an instruction, of the kind that a plain language model goes on
      from; FLAN's baseline for untuned models.
    plain: the inputs alone as a format string, for the regimes without instructions. None stands
      for the slots of the zero-shot template that has most of them, a line each, in its order; ''
      for a task without these regimes.
    filter_fn: example of the source -> bool tensor; False drops it.
    postprocess_fn: SeqIO postprocessor of generated text and of targets. Without one, text
      stays text, and the target becomes the list `answers` where `fields` gives it.
    lineage: names of the data it is made from, to find overlap between clusters; the TFDS
      name is added by itself.
    eval_only: whether it is in no training mixture, as a dataset without a training split.
    overlaps: names of tasks whose data overlaps it. They leave the training side quietly
      when its cluster is held out.
    drop_empty: whether a template may give an example nothing to read or to write; the example
      is then left out. Otherwise `flanjax tasks check` calls it an error.
    num_train_examples: examples of the training split as far as known, for a catalogue that shall
      not open the data. Rates come from the data itself.
    citation: where the dataset comes from.
    licence: its terms.
  """

  name: str
  cluster: str
  source: seqio.DataSource
  fields: Callable[[dict[str, Any]], dict[str, Any]]
  templates: Sequence[Template]
  metric_fns: Sequence[Callable[..., dict[str, float]]]
  suite: str = 'user'
  continuations: Sequence[Template] = ()
  plain: str | None = None
  filter_fn: Callable[[dict[str, Any]], Any] | None = None
  postprocess_fn: Callable[..., Any] | None = None
  lineage: Sequence[str] = ()
  overlaps: Sequence[str] = ()
  eval_only: bool = False
  drop_empty: bool = False
  num_train_examples: int | None = None
  citation: str = ''
  licence: str = ''

  def __post_init__(self):
    for attribute in ('name', 'cluster', 'suite'):
      value = getattr(self, attribute)
      if not isinstance(value, str) or not _NAME.match(value):
        raise UserError(
            f'The {attribute} of a task must be a plain name.',
            got=repr(value),
            expected='letters, digits and _, beginning with a letter',
        )
    for attribute in ('templates', 'continuations', 'metric_fns', 'lineage', 'overlaps'):
      value = getattr(self, attribute)
      value = (value,) if isinstance(value, (str, Template)) or callable(value) else tuple(value)
      object.__setattr__(self, attribute, value)
    wrong = [t for t in self.templates + self.continuations if not isinstance(t, Template)]
    if wrong or not self.templates:
      raise UserError(
          'A task needs templates.',
          where=f'task {self.name}',
          got=repr(wrong[0]) if wrong else 'none',
          expected="a list of Template('...', '{answer}')",
      )

  @functools.cached_property
  def is_classification(self) -> bool:
    return any(t.ranks for t in self.templates)

  @property
  def zero_shot_templates(self) -> tuple[int, ...]:
    """Indices of the templates that ask for the task's own answer."""
    return _zero_shot(self.templates)

  @property
  def scoring_templates(self) -> tuple[int, ...]:
    """Indices of the templates under which options can be ranked."""
    return _ranked(self.templates)

  def templates_of(self, regime: str = '') -> tuple[Template, ...]:
    """The templates of a regime: '' for the task's own, else one of REGIMES.

      dataset_name      '[nli: rte]\\n{premise}\\n{hypothesis}\\n{options_}'
      no_instructions   '{premise}\\n{hypothesis}\\n{options_}'

    They are those that Wei et al. 2022 (section 4.3) compare instructions with. The options stay
    in both, so that what differs is the wording alone.
    """
    if not regime:
      return self.templates
    if regime == CONTINUATIONS:
      return self.continuations
    if not self.zero_shot_templates:
      return ()
    model = max((self.templates[i] for i in self.zero_shot_templates), key=lambda t: len(t.slots))
    plain = self.plain
    if plain is None:
      plain = '\n'.join(f'{{{slot}}}' for slot in model.slots)
    if not plain:
      return ()
    if regime == DATASET_NAME:
      words = [text.replace('_', ' ') for text in (self.cluster, self.name)]
      plain = f'[{": ".join(words)}]\n{plain}'
    return (dataclasses.replace(model, inputs=plain, inverted=False, ranks=None),)

  @functools.cached_property
  def all_lineage(self) -> frozenset[str]:
    """`lineage` and the TFDS names (without versions) that the source reads."""
    return frozenset(self.lineage) | frozenset(sources.unversioned_names(self.source))


def _zero_shot(templates: Sequence[Template]) -> tuple[int, ...]:
  return tuple(i for i, t in enumerate(templates) if not t.inverted)


def _ranked(templates: Sequence[Template]) -> tuple[int, ...]:
  return tuple(i for i in _zero_shot(templates) if templates[i].ranks)


@dataclasses.dataclass(frozen=True)
class ParsedTask:
  """What the name of a SeqIO task says.

  Attributes:
    spec: the task it comes from.
    kind: 'templates' (`rte_10templates`) or 'type' (`rte_type_3`).
    n_or_i: the number in the name: how many templates, or which.
    template_ids: indices of the templates in use, among those of the regime.
    scoring: whether it ranks options.
    regime: '' for the task's own templates, else one of REGIMES.
    shots: exemplars in the prompt: 0, k, or 'multi'.
    balanced: whether exemplars take the right answers by turns.
    variant: '', or how its options are asked otherwise: 'order_1', 'reworded' (`data.options`).
  """

  spec: TaskSpec
  kind: str
  n_or_i: int
  template_ids: tuple[int, ...]
  scoring: bool = False
  regime: str = ''
  shots: int | str = 0
  balanced: bool = False
  variant: str = ''

  @property
  def templates(self) -> tuple[Template, ...]:
    """The templates in use."""
    known = self.spec.templates_of(self.regime)
    return tuple(known[i] for i in self.template_ids)


_specs: dict[str, TaskSpec] = {}
_parsed: dict[str, ParsedTask] = {}


def task_names(spec: TaskSpec) -> dict[str, ParsedTask]:
  """Every SeqIO task of a spec: name -> what it is."""
  found = {}
  for regime in ('', *REGIMES):
    # FLAN's comparison of instructions with less than that is zero-shot.
    zero_shot_only = regime in (DATASET_NAME, NO_INSTRUCTIONS)
    families = _families(spec, regime)
    for suffix, shots in {'': 0}.items() if zero_shot_only else SHOTS.items():
      for name, family in families.items():
        found[name + suffix] = ParsedTask(spec, *family, regime, shots)
        if not regime and shots not in (0, 1) and spec.is_classification:
          found[f'{name}{suffix}_balanced'] = ParsedTask(spec, *family, regime, shots, True)
  return found


def _families(spec: TaskSpec, regime: str) -> dict[str, tuple[str, int, tuple[int, ...], bool]]:
  """Names without suffix -> kind, number, template ids, and whether it ranks options."""
  templates = spec.templates_of(regime)
  count, stem = len(templates), f'{regime}_{spec.name}' if regime else spec.name
  if not count:
    return {}
  largest = max(TEMPLATE_COUNTS)
  names = {}
  for n in TEMPLATE_COUNTS:
    if n == largest or n <= count and not regime:
      names[f'{stem}_{n}templates'] = ('templates', n, tuple(range(min(n, count))), False)
  for i in range(count):
    names[f'{stem}_type_{i}'] = ('type', i, (i,), False)
  for i in _ranked(templates):
    names[f'{stem}_type_{i}_scoring_eval'] = ('type', i, (i,), True)
  return names


@gc_pause.paused()
def register(spec: TaskSpec) -> TaskSpec:
  """Registers a spec and all its SeqIO tasks; nothing is read or traced.

  Raises:
    UserError: a task of that name exists.
  """
  tasks = task_names(spec)
  taken = [n for n in tasks if n in seqio.TaskRegistry.names()]
  if spec.name in _specs or taken:
    raise UserError(
        'A task of this name is already registered.',
        got=f"'{taken[0] if taken else spec.name}'",
        expected='a name of its own',
        hint=f"specs.unregister('{spec.name}') first, to replace it",
    )
  source = indexed_source.IndexedSource(spec.source, spec.name)
  for name, task in tasks.items():
    _add(name, task, source)
  _specs[spec.name] = spec
  _parsed.update(tasks)
  return spec


def _add(name: str, task: ParsedTask, source: indexed_source.IndexedSource) -> None:
  """Registers one SeqIO task."""
  spec = task.spec
  metric_fns, postprocess_fn = list(spec.metric_fns), spec.postprocess_fn
  if task.scoring:
    metric_fns, postprocess_fn = [metrics.rank_accuracy], postprocessors.rank
  elif task.variant == options.REWORDED:  # The task's own know its own labels alone.
    metric_fns, postprocess_fn = [metrics.accuracy], None
  seqio.TaskRegistry.add(
      name,
      source=source,
      output_features=_output_features(spec.suite),
      preprocessors=_preprocessors(task, source),
      postprocess_fn=postprocess_fn or postprocessors.references,
      metric_fns=metric_fns,
      shuffle_buffer_size=None,
  )


def first(name: str, count: int) -> str:
  """A SeqIO task that trains on the first examples alone; it is registered when first asked for.

    first('rte_10templates', 100)   'rte_10templates_first_100'
  """
  found = f'{name}_first_{count}'
  task = parse_task_name(name)
  if found not in seqio.TaskRegistry.names():
    _add(found, task, indexed_source.IndexedSource(task.spec.source, task.spec.name, count))
    _parsed[found] = task
  return found


def can_vary(name: str) -> bool:
  """Whether a SeqIO task can be asked with its options otherwise: `varied` would take it."""
  task = parse_task_name(name)
  return not task.shots and not task.variant and options.serves(task.templates)


def varied(name: str, variant: str) -> str:
  """A SeqIO task whose options are asked otherwise; it is registered when first asked for.

    varied('rte_type_0', 'order_1')   'rte_type_0_order_1'

  Raises:
    UserError: no such variant, or the task's template lists no options, or shows exemplars.
  """
  found = f'{name}_{variant}'
  if not options.NAME.match(variant):
    raise UserError('Options cannot be asked so.', where=f'task {name}', got=repr(variant),
                    expected=f"'order_1', 'order_2', ... or '{options.REWORDED}'")
  if not can_vary(name):
    raise UserError(
        'Only zero-shot templates that list their options ask them in another order or wording.',
        where=f'task {name}', got=variant)
  if found not in seqio.TaskRegistry.names():
    task = dataclasses.replace(_parsed[name], variant=variant)
    _add(found, task, indexed_source.IndexedSource(task.spec.source, task.spec.name))
    _parsed[found] = task
  return found


def make_known(name: str) -> bool:
  """Whether there is a SeqIO task of that name, after making what `first` or `varied` would."""
  said = _FIRST.match(name)
  if said and said[1] in _parsed and int(said[2]):
    first(said[1], int(said[2]))
  said = _VARIED.match(name)
  if said and name not in _parsed and said[1] in _parsed:
    varied(said[1], said[2])
  return name in seqio.TaskRegistry.names()


def unregister(name: str) -> None:
  """Forgets a spec and its SeqIO tasks, as when a notebook's cell is run again."""
  spec = get(name)
  for task in [t for t, parsed in _parsed.items() if parsed.spec is spec]:
    seqio.TaskRegistry.remove(task)
    _parsed.pop(task, None)
  del _specs[name]


@functools.cache
def _output_features(suite: str) -> dict[str, seqio.Feature]:
  vocabulary = SuiteVocabulary(suite)
  return {k: seqio.Feature(vocabulary, add_eos=True) for k in ('inputs', 'targets')}


def _preprocessors(task: ParsedTask, source: indexed_source.IndexedSource) -> list[Callable[..., Any]]:
  partial = functools.partial
  steps = [partial(preprocessors.to_fields, spec=task.spec)]
  steps += [partial(options.vary, task=task)] if task.variant else []
  if task.shots:
    steps += [partial(preprocessors.render_few_shot, task=task, source=source)]
  else:
    steps += [partial(preprocessors.render, task=task)]
  steps += [preprocessors.expand_options] if task.scoring else []
  steps += [seqio.preprocessors.tokenize]
  # How many exemplars fit depends on the sequence length, which a SeqIO cache does not know.
  steps += [] if task.shots else [seqio.CacheDatasetPlaceholder()]
  return steps + [preprocessors.trim_and_end]


def get(name: str) -> TaskSpec:
  """The spec of a registered task, by its own name."""
  if name not in _specs:
    raise UserError(f"There is no task '{name}'.", hint=nearest(name, _specs))
  return _specs[name]


def all_specs(suite: str | None = None) -> list[TaskSpec]:
  """All registered specs, or those of one suite, in the order of registration."""
  return [s for s in _specs.values() if suite is None or s.suite == suite]


def is_task_name(name: str) -> bool:
  """Whether flanjax registered a SeqIO task of that name."""
  return name in _parsed


def parse_task_name(name: str) -> ParsedTask:
  """What the name of a SeqIO task says.

  Raises:
    UserError: flanjax registered no such task.
  """
  if name not in _parsed:
    plain = [n for n, task in _parsed.items() if not task.shots]
    raise UserError(f"There is no SeqIO task '{name}'.", hint=nearest(name, plain))
  return _parsed[name]
