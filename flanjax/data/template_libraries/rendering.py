"""`fields` of a TaskSpec from Jinja templates: one Python function renders them all.

  {'premise': b'It rained.', 'label': 1}, templates 0 and 1
  -> {'inputs_0': 'It rained. Is ...', 'answer_0': 'No', 'options_0': ['Yes', 'No'],
      'inputs_1': ..., 'answer_1': ...}

Where a template has nothing to say of an example, its texts are empty, and the core leaves the
example out under that template (`TaskSpec.drop_empty`).
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flanjax.data import preprocessors
from flanjax.data.template_libraries import jinja
from flanjax.data.template_libraries.jinja_allowance import Refused
from flanjax.data.templates import Template
from flanjax.errors import UserError, nearest

SEPARATOR = '|||'
# What a column's own '|||' is while templates are rendered and split: private characters.
_PROTECTED = '\ue0f7\ue0f8\ue0f7'
_CHOICES = 'answer_choices'


class _Calls:
  """Calls from TensorFlow's threads, which must be over before Python ends.

  A thread that wants to call Python while it ends is stopped without a word, and an iterator that
  is still alive waits for its answer for ever.
  """

  def __init__(self):
    self._tried = self._running = 0
    self._over = False
    self._lock = threading.Lock()

  @contextlib.contextmanager
  def one(self) -> Iterator[None]:
    """Raises RuntimeError when Python is about to end: who fills a large buffer stops then."""
    with self._lock:
      self._tried += 1
      if self._over:
        raise RuntimeError('Python is ending')
      self._running += 1
    try:
      yield
    finally:
      with self._lock:
        self._running -= 1

  def end(self, quiet_s: float = 0.2, at_most_s: float = 10.0) -> None:
    """Lets no call begin any more; returns when none is running and nobody tries."""
    self._over = True
    if not self._tried:
      return
    gc.collect()
    quiet, deadline = 0, time.monotonic() + at_most_s
    while quiet < 2 and time.monotonic() < deadline:
      before = self._tried
      time.sleep(quiet_s)
      quiet = quiet + 1 if self._tried == before and not self._running else 0


_CALLS = _Calls()
atexit.register(_CALLS.end)


class Place:
  """Where a template was found; no part of what prepared data depends on."""

  def __init__(self, text: str):
    self._text = text

  def __str__(self):
    return self._text


@dataclasses.dataclass(frozen=True)
class JinjaTemplate:
  """One template of a promptsource file.

  Attributes:
    where: its file and name, for errors.
    name: its name.
    jinja: inputs and targets, separated by '|||'.
    answer_choices: Jinja for the choices, separated by '|||'; None without.
    inverted: whether it asks for something else than the dataset's task does.
    ranks: whether its choices can be ranked: the target is one of them.
    several: whether there may be several targets.
  """

  where: Place
  name: str
  jinja: str
  answer_choices: str | None
  inverted: bool
  ranks: bool
  several: bool

  @property
  def columns(self) -> frozenset[str]:
    """The columns of the dataset that it names."""
    choices = jinja.program(self.answer_choices).columns if self.answer_choices else frozenset()
    return (jinja.program(self.jinja).columns | choices) - {_CHOICES}

  def render(self, example: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """Inputs, targets and choices for one example, in which '|||' is protected.

    Raises:
      UserError: the template does too much, or fails.
    """
    choices = None
    try:
      if self.answer_choices is not None:
        text = jinja.program(self.answer_choices).render(example)
        choices = [choice.strip() for choice in text.split(SEPARATOR)]
      text = jinja.program(self.jinja).render({**example, _CHOICES: choices})
    except Refused as e:
      raise jinja.refusal(e, str(self.where)) from e
    inputs, *targets = [part.strip().replace(_PROTECTED, SEPARATOR)
                        for part in text.split(SEPARATOR)]
    choices = [choice.replace(_PROTECTED, SEPARATOR) for choice in choices or ()]
    return inputs, targets or [''], choices


def templates_of(found: Sequence[JinjaTemplate]) -> list[Template]:
  """The templates that show what `fields_of` gives."""
  return [
      Template(f'{{inputs_{k}}}', f'{{answer_{k}}}', inverted=t.inverted, ranks=t.ranks,
               suffix=f'_{k}')
      for k, t in enumerate(found)
  ]


def fields_of(
    found: Sequence[JinjaTemplate], columns: Mapping[str, str], name: str
) -> Callable[[Mapping[str, Any]], dict[str, tf.Tensor]]:
  """The `fields` function of a task.

  Args:
    found: its templates.
    columns: what the templates call a column -> a Jinja expression of the columns of the source.
    name: the task, for errors.
  """
  found, columns = tuple(found), dict(columns)
  named = sorted(frozenset().union(*(t.columns for t in found)))

  @tf.autograph.experimental.do_not_convert
  def fields(example):
    taken = _taken(example, found, columns, name)

    def render(*arrays):
      with _CALLS.one():
        source = _rebuilt(taken, iter(arrays))
        try:
          row = {c: _value(columns[c], source, name, c) if c in columns else source[c]
                 for c in named}
          return _texts(found, row)
        except UserError as e:
          raise preprocessors.carried(e) from e

    kinds = [tf.string] * (2 + sum(t.ranks + t.several for t in found))
    inputs, answers, *lists = tf.numpy_function(render, _parts(taken), kinds, stateful=False)
    return _named(found, inputs, answers, lists)

  return fields


def _taken(
    example: Mapping[str, Any], found: Sequence[JinjaTemplate], columns: Mapping[str, str],
    name: str,
) -> dict[str, Any]:
  """The columns of the source that the templates need; 'label-coarse' is label_coarse in Jinja.

  Raises:
    UserError: there is no such column.
  """
  needed = {}
  for template in found:
    for column in template.columns:
      sources = jinja.expression(columns[column]).columns if column in columns else {column}
      needed |= {source: template for source in sources if source not in needed}
  known = {re.sub(r'\W', '_', column): column for column in example}
  for column in sorted(needed):
    if column not in known:
      raise UserError(
          f"A template names the column '{column}', which the data does not have.",
          where=f'task {name}, {needed[column].where}', hint=nearest(column, known) +
          '; give it as columns={...}, or leave the template out with leave_out=[...]')
  return {column: example[known[column]] for column in sorted(needed)}


def _parts(value: Any) -> list[tf.Tensor]:
  """The tensors of nested columns; a ragged one is its values and where its rows end."""
  if isinstance(value, Mapping):
    return [part for key in value for part in _parts(value[key])]
  if isinstance(value, tf.RaggedTensor):
    return [value.flat_values, *value.nested_row_splits]
  return [tf.convert_to_tensor(value)]


def _rebuilt(shape: Any, arrays: Iterator[Any]) -> Any:
  """The columns as plain Python, as Hugging Face gives them: lists, and dicts of lists."""
  if isinstance(shape, Mapping):
    return {key: _rebuilt(shape[key], arrays) for key in shape}
  values = _plain(next(arrays))
  for splits in reversed([next(arrays) for _ in range(_ragged_rank(shape))]):
    values = [values[a:b] for a, b in zip(splits[:-1], splits[1:])]
  return values


def _ragged_rank(shape: Any) -> int:
  return shape.ragged_rank if isinstance(shape, tf.RaggedTensor) else 0


def _plain(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode('utf-8', 'replace').replace(SEPARATOR, _PROTECTED)
  if isinstance(value, list):
    return [_plain(v) for v in value]
  return _plain(value.tolist()) if hasattr(value, 'tolist') else value


def _value(expression: str, source: Mapping[str, Any], name: str, column: str) -> Any:
  try:
    return jinja.expression(expression).value('result', source)
  except Refused as e:
    raise jinja.refusal(e, f"task {name}, column '{column}': {expression}") from e


def _texts(found: Sequence[JinjaTemplate], row: Mapping[str, Any]) -> list[np.ndarray]:
  """[inputs of all templates, answers of all], then options and references where there are."""
  inputs, answers, lists = [], [], []
  for template in found:
    asked, targets, choices = template.render(row)
    if template.ranks and targets[0] and targets[0] not in choices:
      # Shown once for each template.
      warnings.warn(f'{template.where}: left out are examples whose target is none of the answer '
                    'choices', stacklevel=1)
      asked = targets[0] = ''
    inputs.append(asked)
    answers.append(targets[0])
    lists += [choices] * template.ranks + [targets] * template.several
  return [np.array([t.encode() for t in texts], object) for texts in [inputs, answers, *lists]]


def _named(
    found: Sequence[JinjaTemplate], inputs: tf.Tensor, answers: tf.Tensor,
    lists: Sequence[tf.Tensor],
) -> dict[str, tf.Tensor]:
  shape, lists = [len(found)], iter(lists)
  inputs, answers = tf.ensure_shape(inputs, shape), tf.ensure_shape(answers, shape)
  named = {}
  for k, template in enumerate(found):
    named |= {f'inputs_{k}': inputs[k], f'answer_{k}': answers[k]}
    if template.ranks:
      named[f'options_{k}'] = tf.ensure_shape(next(lists), [None])
    if template.several:
      named[f'answers_{k}'] = tf.ensure_shape(next(lists), [None])
  return named
