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
import re
import typing
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from flanjax.data import templates as templates_lib
from flanjax.data.templates import OPTIONS_SLOT, join_tf, options_text_tf, parse, render_tf
from flanjax.errors import UserError

if typing.TYPE_CHECKING:
  from flanjax.data.specs import IndexedSource, TaskSpec

LIST_FIELDS = ('options', 'answers')
CARRIED_FIELDS = ('options', 'answers', 'group')
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
    wanted = 1 if name in LIST_FIELDS else 0
    if getattr(field, 'dtype', None) != tf.string or rank not in (wanted, None):
      raise UserError(
          f"`fields` gives '{name}' in a form that cannot be rendered.",
          where=where,
          got=str(field),
          expected='a list of texts' if wanted else 'one text (tf.strings.as_string for numbers)',
      )
  for i, template in enumerate(spec.templates):
    for name in sorted(template.fields - set(known)):
      raise templates_lib.missing_field(name, known, where=f'task {spec.name}, template {i}')
  if spec.is_classification and 'answer' not in known:
    where = f'task {spec.name}, rank classification'
    raise templates_lib.missing_field('answer', known, where=where)


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


def render(
    dataset: tf.data.Dataset, spec: TaskSpec, template_ids: Sequence[int], scoring: bool = False
) -> tf.data.Dataset:
  """Fields -> inputs and targets, by the template chosen for each example.

  Args:
    dataset: from `to_fields`.
    spec: the task.
    template_ids: indices into the spec's templates, from which each example gets one.
    scoring: targets are then [n] texts, one for each option, with `is_correct` [n] beside.

  Returns:
    elements {example_id, template_id, inputs, targets, answers?, options?, group?}. `answers`
    are all references, written as the template writes its target.
  """
  return _render(dataset, spec, tuple(template_ids), scoring, lambda *unused: None)


def render_few_shot(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, seqio.Feature],
    sequence_length: Mapping[str, int] | None = None,
    *,
    spec: TaskSpec,
    template_ids: Sequence[int],
    source: IndexedSource,
    shots: int,
    scoring: bool = False,
) -> tf.data.Dataset:
  """As `render`, with up to `shots` solved training examples before the query.

  Exemplars are drawn without replacement by (SEED, example id), share the query's template,
  are never equal to the query, and are kept in order while they and the query fit into 15/16
  of the input length. They are text when they are joined: the whole is tokenised once.
  """
  vocabulary = output_features['inputs'].vocabulary
  limit = min((sequence_length or {}).get('inputs') or _INPUT_TOKENS, _INPUT_TOKENS)
  budget = limit * _EXEMPLAR_TOKENS // _INPUT_TOKENS
  pool = exemplar_pool(spec, source, getattr(vocabulary, 'name', None), vocabulary)
  chosen = [spec.templates[i] for i in template_ids]
  costs = tf.stack([pool.tokens_of(t, vocabulary) for t in chosen])
  size = pool.size
  count = min(shots, size)

  def prefix(fields, index, example_id, inputs):
    same = tf.reduce_all([tf.equal(pool.fields[k], fields[k]) for k in pool.fields], axis=0)
    draw = tf.random.stateless_uniform([size], seed=tf.stack([example_id, SEED]), alg='philox')
    drawn, rows = tf.math.top_k(tf.where(same, -1.0, draw), k=count)
    exemplar = {k: tf.gather(v, rows) for k, v in pool.fields.items()}
    texts = tf.strings.join(render_tf(chosen, index, exemplar, [count]), '\n')
    spent = tf.cumsum(tf.gather(costs[index], rows))
    left = budget - tf.size(vocabulary.encode_tf(inputs))
    kept = tf.boolean_mask(texts, tf.logical_and(drawn >= 0, spent <= left))
    return tf.strings.reduce_join(tf.strings.join([kept, tf.fill(tf.shape(kept), '\n\n')]))

  return _render(dataset, spec, tuple(template_ids), scoring, prefix)


def _render(dataset, spec, template_ids, scoring, prefix_fn) -> tf.data.Dataset:
  chosen = [spec.templates[i] for i in template_ids]

  @tf.autograph.experimental.do_not_convert
  def one(x):
    fields = _flat(x['fields'])
    index = choose_template(x['example_id'], len(chosen))
    with tf.control_dependencies(_answer_checks(spec, x)):
      inputs, targets = render_tf(chosen, index, fields)
      inputs = tf.identity(inputs)
    prefix = prefix_fn(fields, index, x['example_id'], inputs)
    out = {
        'example_id': x['example_id'],
        'template_id': tf.constant(template_ids, tf.int32)[index],
        'inputs': inputs if prefix is None else tf.strings.join([prefix, inputs]),
        'targets': targets,
        **{k: v for k, v in x['fields'].items() if k in CARRIED_FIELDS},
    }
    if 'answers' in out:
      out['answers'] = _targets_for(chosen, index, fields, out['answers'])
    if scoring:
      right = x['fields'].get('answers', tf.expand_dims(fields['answer'], 0))
      out['targets'] = _targets_for(chosen, index, fields, out['options'])
      out['is_correct'] = tf.reduce_any(out['options'][:, None] == right[None, :], axis=1)
    return out

  return dataset.map(one, num_parallel_calls=_AUTOTUNE)


def _flat(fields: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """The scalar fields, with the options as one text."""
  flat = {k: tf.ensure_shape(v, []) for k, v in fields.items() if k not in LIST_FIELDS}
  if 'options' in fields:
    flat[OPTIONS_SLOT] = options_text_tf(fields['options'])
  return flat


def _targets_for(chosen, index, fields, answers: tf.Tensor) -> tf.Tensor:
  """[n] targets of the chosen template, were each of `answers` the answer in turn.

  A target that does not name the answer gives itself, so n is then 1.
  """
  texts = []
  for template in chosen:
    text = join_tf(template.targets, {**fields, 'answer': answers})
    texts.append(tf.reshape(text, [-1]))
  if len(texts) == 1:
    return texts[0]
  return tf.ragged.stack(texts)[index]


def _answer_checks(spec: TaskSpec, x) -> list[tf.Operation]:
  fields = x['fields']
  if 'options' not in fields or 'answer' not in fields:
    return []
  found = tf.reduce_any(fields['options'] == fields['answer'])
  options = tf.strings.reduce_join(fields['options'], separator=' | ')
  data = ['flanjax:options', spec.name, x['example_id'], options, fields['answer'], 'flanjax:end']
  return [tf.debugging.Assert(found, data)]


_ASSERTION = re.compile(
    r'\[flanjax:options\] \[(?P<task>\w+)\] \[(?P<example>\d+)\] '
    r'\[(?P<options>.*)\] \[(?P<answer>.*)\] \[flanjax:end\]',
    re.DOTALL,
)


def explain(exception: BaseException) -> UserError | None:
  """The UserError behind an error met while reading a task's dataset, if there is one."""
  seen = exception
  while seen is not None:
    if isinstance(seen, UserError):
      return seen
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
    size: how many examples.
  """

  fields: dict[str, tf.Tensor]
  tokens: dict[str, np.ndarray]
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
  batches = dataset.map(lambda x: _flat(x['fields'])).batch(POOL_SIZE).take(1)
  fields = next(iter(batches), None)
  if fields is None:
    raise UserError('The training split is empty.', where=where)
  tokens = {
      name: np.array([len(vocabulary.encode(text.decode())) for text in values.numpy()], np.int32)
      for name, values in fields.items()
  }
  return ExemplarPool(fields, tokens, len(next(iter(tokens.values()))))
