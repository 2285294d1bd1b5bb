"""Templates: a pair of format strings that turn an example's fields into text.

  >>> t = Template('Is "{review}" good or bad?\\n{options_}', '{answer}')
  >>> t.render({'review': 'I slept', 'options': ['bad', 'good'], 'answer': 'bad'})
  ('Is "I slept" good or bad?\\nOPTIONS:\\n- bad\\n- good', 'bad')

A slot is `{name}`; `{{` and `}}` are literal braces. `{options_}` shows the field
`options`, in the order in which the dataset gives them (as FLAN does: never shuffled).
A template may have an answer and options of its own, told by a suffix: with '_word' they are the
fields `answer_word`, `answers_word` and `options_word`.
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Mapping, Sequence

import tensorflow as tf

from flanjax.errors import UserError

OPTIONS_SLOT = 'options_'
_OPTIONS_HEAD, _OPTIONS_BULLET = 'OPTIONS:\n- ', '\n- '


@functools.cache
def parse(text: str) -> tuple[tuple[str, str | None], ...]:
  """Splits a format string into (literal, slot name or None) pairs.

  Raises:
    UserError: braces that do not match, or a slot that is not a plain name.
  """
  try:
    parts = tuple(string.Formatter().parse(text))
  except ValueError as e:
    raise UserError(
        f'A template cannot be read: {e}.', got=repr(text), hint='write {{ and }} for plain braces'
    ) from e
  for _, slot, spec, conversion in parts:
    if slot is not None and (not slot.isidentifier() or spec or conversion):
      suffix = (f'!{conversion}' if conversion else '') + (f':{spec}' if spec else '')
      raise UserError(
          'A template has a slot that is not a plain name.',
          where=repr(text),
          got='{' + slot + suffix + '}',
          expected='{name}, with letters, digits and _',
      )
  return tuple((literal, slot) for literal, slot, _, _ in parts)


def _slots(text: str) -> frozenset[str]:
  return frozenset(slot for _, slot in parse(text) if slot is not None)


def _field_of(slot: str) -> str:
  return 'options' if slot == OPTIONS_SLOT else slot


@dataclasses.dataclass(frozen=True)
class Template:
  """Two format strings, for the inputs and for the targets.

  Attributes:
    inputs: what the model reads.
    targets: what the model shall write, usually '{answer}'.
    inverted: whether the task is turned around (the target is not the task's own answer:
      "write a negative review"). None stands for "targets does not contain {answer}".
      Inverted templates train; they are never evaluated zero-shot.
    ranks: whether options can be ranked under it. None stands for "the inputs show {options_}".
    suffix: what the names of its answer and options end with, for labels of its own.
  """

  inputs: str
  targets: str
  inverted: bool | None = None
  ranks: bool | None = None
  suffix: str = ''

  def __post_init__(self):
    for side in ('inputs', 'targets'):
      text = getattr(self, side)
      if not isinstance(text, str) or not text.strip():
        raise UserError(f'The {side} of a template must be a non-empty string.', got=repr(text))
    if self.inverted is None:
      object.__setattr__(self, 'inverted', self.answer_field not in _slots(self.targets))
    if self.ranks is None:
      object.__setattr__(self, 'ranks', self.has_options)
    parse(self.inputs)

  @property
  def answer_field(self) -> str:
    return f'answer{self.suffix}'

  @property
  def answers_field(self) -> str:
    return f'answers{self.suffix}'

  @property
  def options_field(self) -> str:
    return f'options{self.suffix}'

  @property
  def fields(self) -> frozenset[str]:
    """Names of the fields that rendering needs; `options` for `{options_}`."""
    return frozenset(map(_field_of, _slots(self.inputs) | _slots(self.targets)))

  @property
  def ranked_fields(self) -> frozenset[str]:
    """Names of the fields that ranking needs."""
    return frozenset({self.answer_field, self.options_field} if self.ranks else ())

  @property
  def slots(self) -> tuple[str, ...]:
    """The slots of its inputs, each once, in their order."""
    return tuple(dict.fromkeys(slot for _, slot in parse(self.inputs) if slot))

  @property
  def has_options(self) -> bool:
    return OPTIONS_SLOT in _slots(self.inputs)

  def render(self, fields: Mapping[str, str | Sequence[str]]) -> tuple[str, str]:
    """Renders one example in plain Python.

    Args:
      fields: field name -> text; `options` is a list of texts.

    Returns:
      (inputs, targets).

    Raises:
      UserError: a field is missing.
    """
    missing = sorted(self.fields - set(fields))
    if missing:
      raise missing_field(missing[0], fields)
    slots = dict(fields)
    if 'options' in fields:
      slots[OPTIONS_SLOT] = options_text(fields['options'])
    return tuple(
        ''.join(literal + (slots[slot] if slot else '') for literal, slot in parse(text))
        for text in (self.inputs, self.targets)
    )


def missing_field(name: str, known, where: str | None = None) -> UserError:
  return UserError(
      f"A template names the field '{name}', which `fields` does not give.",
      where=where,
      got=f'fields {", ".join(sorted(known)) or "(none)"}',
      expected=f"a field '{name}'",
  )


def options_text(options: Sequence[str]) -> str:
  """['a', 'b'] -> 'OPTIONS:\\n- a\\n- b'."""
  return _OPTIONS_HEAD + _OPTIONS_BULLET.join(options)


def options_text_tf(options: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
  """As `options_text`, over the last axis of a string tensor."""
  return _OPTIONS_HEAD + tf.strings.reduce_join(options, axis=-1, separator=_OPTIONS_BULLET)


def join_tf(text: str, slots: Mapping[str, tf.Tensor], shape: Sequence[int] = ()) -> tf.Tensor:
  """Fills one format string; every slot is a scalar or has `shape`."""
  parts = []
  for literal, slot in parse(text):
    parts += [literal] if literal else []
    parts += [slots[slot]] if slot else []
  return tf.strings.join(parts + ([tf.fill(shape, '')] if len(shape) else []))


def render_tf(
    templates: Sequence[Template],
    template_id: tf.Tensor | int,
    fields: Mapping[str, tf.Tensor],
    shape: Sequence[int] = (),
) -> tuple[tf.Tensor, tf.Tensor]:
  """Renders fields with the template of index `template_id`, in TF ops.

  All templates are joined and one is gathered: joins of strings are cheap, branches are not.

  Args:
    templates: the candidates.
    template_id: scalar index into them.
    fields: name -> string tensor of `shape` (or a scalar); `options` is a 1-D string tensor,
      or is given already rendered as `options_`.
    shape: the shape of one rendered side; () for a single example.

  Returns:
    (inputs, targets), string tensors of `shape`; equal to `Template.render`.
  """
  slots = dict(fields)
  if OPTIONS_SLOT not in slots and 'options' in slots:
    slots[OPTIONS_SLOT] = options_text_tf(slots['options'])
  for template in templates:
    missing = sorted(template.fields - set(map(_field_of, slots)))
    if missing:
      raise missing_field(missing[0], fields)

  def side(name: str) -> tf.Tensor:
    texts = [join_tf(getattr(t, name), slots, shape) for t in templates]
    return texts[0] if len(texts) == 1 else tf.stack(texts)[template_id]

  return side('inputs'), side('targets')
