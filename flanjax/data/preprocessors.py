"""SeqIO preprocessors: a source's examples -> fields -> text -> rows to tokenise.

The stages of one example of a task with two templates:

  source     {'example_id': 7, 'example': {'sentence': b'A fine film', 'label': 1}}
  to_fields  {'example_id': 7,
              'fields': {'review': b'A fine film', 'options': [...], 'answer': b'good'}}
  render     {'example_id': 7, 'template_id': 1, 'inputs': b'Is "A fine film" ...',
              'targets': b'good', 'options': [b'bad', b'good']}
"""

from __future__ import annotations

import functools
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import templates as templates_lib
from flanjax.data.templates import OPTIONS_SLOT, join_tf, options_text_tf, parse, render_tf
from flanjax.errors import UserError

if typing.TYPE_CHECKING:
  from flanjax.data.indexed_source import IndexedSource
  from flanjax.data.specs import ParsedTask, TaskSpec

# Lists of texts: `options` and `answers`, and those of templates with labels of their own.
_LIST_FIELD = re.compile(r'(options|answers)(_\w+)?\Z')
SEED = 0
POOL_SIZE = 1_000
MULTI_SHOT = 16
# FLAN keeps exemplars while they fit into 960 of its 1,024 input tokens; shorter inputs
# keep the same fraction.
_INPUT_TOKENS, _EXEMPLAR_TOKENS = 1_024, 960
_AUTOTUNE = tf.data.AUTOTUNE


def to_fields(dataset: tf.data.Dataset, spec: TaskSpec) -> tf.data.Dataset:
  """Applies a spec's filter and its `fields`, and checks what they give.

  Args:
    dataset: elements {'example_id': int64, 'example': features of the source}.
    spec: the task.

  Returns:
    elements {'example_id': int64, 'fields': {name: string or [n] strings}}.

  Raises:
    UserError: `fields` fails, gives something else than texts, or lacks a template's field.
  """
  columns = dataset.element_spec['example']
  if spec.filter_fn is not None:
    with _explained(spec, 'filter_fn', columns):
      dataset = dataset.filter(lambda x: spec.filter_fn(x['example']))
  with _explained(spec, 'fields', columns):
    dataset = dataset.map(
        lambda x: {'example_id': x['example_id'], 'fields': spec.fields(x['example'])},
        num_parallel_calls=_AUTOTUNE,
    )
  check_fields(spec, dataset.element_spec['fields'])
  return dataset


class _explained:
  """Turns whatever a user's function raises while it is traced into a UserError."""

  def __init__(self, spec: TaskSpec, stage: str, columns):
    self._spec, self._stage, self._columns = spec, stage, columns

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if error is None or isinstance(error, UserError) or not isinstance(error, Exception):
      return False
    # What is raised while TensorFlow traces a function comes as an error of its own.
    explained = explain(error)
    if explained:
      raise explained from error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    names = sorted(self._columns) if isinstance(self._columns, Mapping) else [str(self._columns)]
    raise UserError(
        f"`{self._stage}` of task '{self._spec.name}' failed.",
        where=f'task {self._spec.name}, {self._stage}',
        got=f'{kind.__name__}: {lines[-1] if lines else ""}',
        expected=f'it reads the columns {", ".join(names)}',
    ) from error


def check_fields(spec: TaskSpec, known: Mapping[str, tf.TensorSpec]) -> None:
  """Raises UserError unless `known` (what `fields` gives) serves every template."""
  where = f'task {spec.name}, fields'
  if not isinstance(known, Mapping):
    raise UserError('`fields` must return a dict of texts.', where=where, got=type(known).__name__)
  for name, field in known.items():
    rank = getattr(getattr(field, 'shape', None), 'rank', None)
    wanted = 1 if _LIST_FIELD.match(name) else 0
    if getattr(field, 'dtype', None) != tf.string or rank not in (wanted, None):
      raise UserError(
          f"`fields` gives '{name}' in a form that cannot be rendered.",
          where=where,
          got=str(field),
          expected='a list of texts' if wanted else 'one text (tf.strings.as_string for numbers)',
      )
  for kind, templates in (('template', spec.templates), ('continuation', spec.continuations)):
    for i, template in enumerate(templates):
      where = f'task {spec.name}, {kind} {i}'
      for name in sorted(template.fields - set(known)):
        raise templates_lib.missing_field(name, known, where=where)
      for name in sorted(template.ranked_fields - set(known)):
        raise templates_lib.missing_field(name, known, where=f'{where}, rank classification')


def choose_template(example_id: tf.Tensor, count: int) -> tf.Tensor:
  """Index in [0, count) of an example's template: a stateless function of the example's index.

  Every block of `count` consecutive examples uses every template once, so all are even; the
  order within a block is a rotation drawn from the block's number, so that templates do not
  align with a regularity of the data (labels that alternate, say).
  """
  if count == 1:
    return tf.constant(0, tf.int32)
  turn = tf.random.stateless_uniform(
      [], seed=tf.stack([example_id // count, SEED]), maxval=count, dtype=tf.int64, alg='philox'
  )
  return tf.cast((example_id + turn) % count, tf.int32)


def render(dataset: tf.data.Dataset, task: ParsedTask) -> tf.data.Dataset:
  """Fields -> inputs and targets, by the template chosen for each example.

  Args:
    dataset: from `to_fields`.
    task: the templates, from which each example gets one. Where it ranks options, targets are
      [n] texts, one for each option, with `is_correct` [n] beside.

  Returns:
    elements {example_id, template_id, inputs, targets, answers?, options?, group?}. `answers`
    are all references, written as the template writes its target.
  """
  return _render(dataset, task, lambda *unused: None)


def render_few_shot(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, seqio.Feature],
    sequence_length: Mapping[str, int] | None = None,
    *,
    task: ParsedTask,
    source: IndexedSource,
) -> tf.data.Dataset:
  """As `render`, with up to `task.shots` solved training examples before the query.

  Exemplars are drawn without replacement by (SEED, example id), share the query's template,
  are never empty or equal to the query, and are kept in order while they and the query fit into
  15/16 of the input length. They are text when they are joined: the whole is tokenised once.
  Where the task is balanced, every right answer (told by its place among the options) is shown
  once before any is shown again.
  """
  vocabulary = output_features['inputs'].vocabulary
  limit = min((sequence_length or {}).get('inputs') or _INPUT_TOKENS, _INPUT_TOKENS)
  budget = limit * _EXEMPLAR_TOKENS // _INPUT_TOKENS
  pool = exemplar_pool(task.spec, source, getattr(vocabulary, 'name', None), vocabulary)
  chosen, size = task.templates, pool.size
  costs = tf.stack([pool.tokens_of(t, vocabulary) for t in chosen])
  empty = tf.stack([pool.is_empty(t) for t in chosen])
  count = min(MULTI_SHOT if task.shots == 'multi' else task.shots, size)

  def prefix(fields, index, example_id, inputs):
    same = tf.reduce_all([tf.equal(pool.fields[k], fields[k]) for k in pool.fields], axis=0)
    draw = tf.random.stateless_uniform([size], seed=tf.stack([example_id, SEED]), alg='philox')
    draw = tf.where(tf.logical_or(same, empty[index]), -1.0, draw)
    order = _in_turns(draw, pool.labels) if task.balanced else draw
    rows = tf.math.top_k(order, k=count).indices
    exemplar = {k: tf.gather(v, rows) for k, v in pool.fields.items()}
    texts = tf.strings.join(render_tf(chosen, index, exemplar, [count]), '\n')
    spent = tf.cumsum(tf.gather(costs[index], rows))
    left = budget - tf.size(vocabulary.encode_tf(inputs))
    kept = tf.boolean_mask(texts, tf.logical_and(tf.gather(draw, rows) >= 0, spent <= left))
    return tf.strings.reduce_join(tf.strings.join([kept, tf.fill(tf.shape(kept), '\n\n')]))

  return _render(dataset, task, prefix)


def _in_turns(draw: tf.Tensor, labels: np.ndarray) -> tf.Tensor:
  """Scores by which the largest draws of all labels come first, then the second largest, ...

    draw    [.9  .8  .7  -1.]
    labels  [ 0   0   1   1 ]
    ->      [.9 -.2  .7 -100000.]
  """
  order = tf.argsort(2.0 * labels - draw)  # By label, the largest draw first.
  counts = np.bincount(labels)
  first = np.repeat(np.cumsum(counts) - counts, counts).astype(np.float32)
  turn = tf.range(len(labels), dtype=tf.float32) - first
  turns = tf.scatter_nd(order[:, None], turn, [len(labels)])
  return tf.where(draw < 0, -1e5, draw - turns)


def _render(dataset: tf.data.Dataset, task: ParsedTask, prefix_fn) -> tf.data.Dataset:
  spec, chosen = task.spec, task.templates
  ids = tf.constant(task.template_ids, tf.int32)

  @tf.autograph.experimental.do_not_convert
  def one(x):
    fields = _flat(x['fields'])
    index = choose_template(x['example_id'], len(chosen))
    own = _own_fields(chosen, index, x['fields'])
    with tf.control_dependencies(_answer_checks(spec, x['example_id'], own)):
      inputs, targets = render_tf(chosen, index, fields)
      inputs = tf.identity(inputs)
    prefix = prefix_fn(fields, index, x['example_id'], inputs)
    out = {
        'example_id': x['example_id'],
        'template_id': ids[index],
        'inputs': inputs if prefix is None else tf.strings.join([prefix, inputs]),
        'targets': targets,
        **{k: v for k, v in own.items() if k != 'answer'},
    }
    if 'group' in x['fields']:
      out['group'] = x['fields']['group']
    out |= {k: x[k] for k in ('option_order', 'wording') if k in x}
    if 'answers' in out:
      out['answers'] = _targets_for(chosen, index, fields, out['answers'])
    if task.scoring:
      right = own.get('answers', own['answer'][None])
      out['targets'] = _targets_for(chosen, index, fields, own['options'])
      out['is_correct'] = tf.reduce_any(own['options'][:, None] == right[None, :], axis=1)
    return out

  if spec.drop_empty:
    dataset = dataset.filter(functools.partial(_says_something, chosen))
  return dataset.map(one, num_parallel_calls=_AUTOTUNE)


@tf.autograph.experimental.do_not_convert
def _says_something(chosen: Sequence[templates_lib.Template], x: Mapping[str, Any]) -> tf.Tensor:
  """Whether an example's template leaves neither side empty."""
  index = choose_template(x['example_id'], len(chosen))
  sides = render_tf(chosen, index, _flat(x['fields']))
  return tf.reduce_all(tf.strings.length(tf.strings.strip(tf.stack(sides))) > 0)


def _own_fields(
    chosen: Sequence[templates_lib.Template], index: tf.Tensor, fields: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
  """`answer`, `answers` and `options` of the template in use, each where every template has it."""
  own = {}
  for name in ('answer', 'answers', 'options'):
    names = [getattr(t, f'{name}_field') for t in chosen]
    if not set(names) <= set(fields):
      continue
    values = [fields[n] for n in names]
    if len(set(names)) == 1:
      own[name] = values[0]
    else:
      own[name] = (tf.stack if name == 'answer' else tf.ragged.stack)(values)[index]
  return own


def _flat(fields: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """The scalar fields, with the options as one text."""
  flat = {k: tf.ensure_shape(v, []) for k, v in fields.items() if not _LIST_FIELD.match(k)}
  # Options under letters are listed with their texts, and answered without.
  if 'options' in fields and OPTIONS_SLOT not in flat:
    flat[OPTIONS_SLOT] = options_text_tf(fields['options'])
  return flat


def _targets_for(chosen, index, fields, answers: tf.Tensor) -> tf.Tensor:
  """[n] targets of the chosen template, were each of `answers` the answer in turn.

  A target that does not name the answer gives itself, so n is then 1.
  """
  texts = []
  for template in chosen:
    text = join_tf(template.targets, {**fields, template.answer_field: answers})
    texts.append(tf.reshape(text, [-1]))
  if len(texts) == 1:
    return texts[0]
  return tf.ragged.stack(texts)[index]


def _answer_checks(
    spec: TaskSpec, example_id: tf.Tensor, own: Mapping[str, tf.Tensor]
) -> list[tf.Operation]:
  if 'options' not in own or 'answer' not in own:
    return []
  found = tf.reduce_any(own['options'] == own['answer'])
  options = tf.strings.reduce_join(own['options'], separator=' | ')
  data = ['flanjax:options', spec.name, example_id, options, own['answer'], 'flanjax:end']
  return [tf.debugging.Assert(found, data)]


_ASSERTION = re.compile(
    r'\[flanjax:options\] \[(?P<task>\w+)\] \[(?P<example>\d+)\] '
    r'\[(?P<options>.*)\] \[(?P<answer>.*)\] \[flanjax:end\]',
    re.DOTALL,
)


_CARRIED = re.compile(r'\[flanjax:error\] (\{.*\}) \[flanjax:end\]')


def carried(error: UserError) -> RuntimeError:
  """The error to raise in a Python function that TensorFlow calls; `explain` finds it again."""
  content = {k: getattr(error, k) for k in ('what', 'where', 'got', 'expected', 'hint')}
  return RuntimeError(f'[flanjax:error] {json.dumps(content, default=str)} [flanjax:end]')


def explain(exception: BaseException) -> UserError | None:
  """The UserError behind an error met while reading a task's dataset, if there is one."""
  seen = exception
  while seen is not None:
    if isinstance(seen, UserError):
      return seen
    match = _CARRIED.search(str(seen))
    if match:
      content = json.loads(match[1])
      return UserError(content.pop('what'), **content)
    match = _ASSERTION.search(str(seen).replace("\\'", "'"))
    if match:
      return UserError(
          'The options of an example do not contain its answer.',
          where=f'task {match["task"]}, example {match["example"]}',
          got=f"answer '{match['answer']}'",
          expected=f'one of {match["options"]}',
          hint='`fields` must give the answer exactly as one of the options',
      )
    seen = seen.__cause__ or seen.__context__
  return None


def expand_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """One row for each option of an example, for rank classification.

  Adds idx [example, option] int32[2], is_correct bool and num_options int32.
  """

  @tf.autograph.experimental.do_not_convert
  def rows(x):
    n = tf.shape(x['targets'])[0]
    example = tf.fill([n], tf.cast(x['example_id'], tf.int32))
    own = {
        'targets': x['targets'],
        'is_correct': x['is_correct'],
        'idx': tf.stack([example, tf.range(n)], axis=1),
    }
    shared = {k: v for k, v in x.items() if k not in own} | {'num_options': n}
    return tf.data.Dataset.from_tensor_slices(own).map(lambda row: {**shared, **row})

  return dataset.flat_map(rows)


def trim_and_end(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, seqio.Feature],
    sequence_length: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
  """Cuts token ids to the sequence length and ends them with EOS, which is never cut.

  Raises:
    UserError: a length is below 1.
  """
  for name, length in (sequence_length or {}).items():
    if length is not None and length < 1:
      raise UserError(f"The sequence length of '{name}' must be at least 1.", got=length)
  return seqio.preprocessors.append_eos_after_trim(dataset, output_features, sequence_length)


class ExemplarPool(typing.NamedTuple):
  """Fields of up to POOL_SIZE training examples, and the tokens that each field takes.

  Attributes:
    fields: name -> string [size]; the options as one text under `options_`.
    tokens: name -> int32 [size].
    labels: int32 [size], the place of the right answer among the options; 0 without options.
    size: how many examples.
  """

  fields: dict[str, tf.Tensor]
  tokens: dict[str, np.ndarray]
  labels: np.ndarray
  size: int

  def tokens_of(self, template, vocabulary: seqio.Vocabulary) -> np.ndarray:
    """Tokens of the exemplars under a template, int32 [size].

    A sum over literals and fields, without rendering anything: tokenised apart they take as
    many tokens as together, or a few more.
    """
    parts = parse(template.inputs) + parse(template.targets)
    literal = sum(len(vocabulary.encode(text)) for text, _ in parts if text)
    slots = [self.tokens[slot] for _, slot in parts if slot]
    return np.sum(slots + [np.full(self.size, literal, np.int32)], axis=0, dtype=np.int32)

  def is_empty(self, template) -> np.ndarray:
    """Whether a template leaves a side of an exemplar empty, bool [size]."""
    sides = []
    for parts in map(parse, (template.inputs, template.targets)):
      slots = [self.tokens[slot] == 0 for _, slot in parts if slot]
      says = any(text.strip() for text, _ in parts)
      sides.append(np.all(slots, axis=0) & ~np.full(self.size, says))
    return np.any(sides, axis=0)


@functools.lru_cache(maxsize=4)
def exemplar_pool(
    spec: TaskSpec,
    source: IndexedSource,
    vocabulary_name: str | None,
    vocabulary: seqio.Vocabulary,
) -> ExemplarPool:
  """Reads evenly spaced examples of the training split; kept for the task's other templates.

  Raises:
    UserError: there is no training split, or nothing in it.
  """
  del vocabulary_name  # A part of the cache's key: a lazy vocabulary may change its mind.
  where = f'task {spec.name}, few-shot exemplars'
  if 'train' not in source.splits:
    raise UserError(
        'Few-shot exemplars come from the training split, and there is none.',
        where=where,
        got=f'splits {", ".join(source.splits)}',
    )
  stride = max(1, source.num_input_examples('train') // POOL_SIZE)
  dataset = source.get_dataset('train', shuffle=False)
  dataset = to_fields(dataset.filter(lambda x: x['example_id'] % stride == 0), spec)
  dataset = dataset.map(lambda x: (_flat(x['fields']), _label(x['fields'])))
  fields, labels = next(iter(dataset.batch(POOL_SIZE).take(1)), (None, None))
  if fields is None:
    raise UserError('The training split is empty.', where=where)
  tokens = {
      name: np.array([len(vocabulary.encode(text.decode())) for text in values.numpy()], np.int32)
      for name, values in fields.items()
  }
  return ExemplarPool(fields, tokens, labels.numpy(), len(next(iter(tokens.values()))))


def _label(fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
  if 'options' not in fields or 'answer' not in fields:
    return tf.constant(0, tf.int32)
  return tf.argmax(fields['options'] == fields['answer'], output_type=tf.int32)
