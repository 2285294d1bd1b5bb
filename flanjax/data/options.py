"""The same question with its options in another order, or under other labels.

A variant of a task is its examples asked otherwise; its name is added to the task's:

  rte_type_0_scoring_eval            OPTIONS: yes, no        answer: no
  rte_type_0_scoring_eval_order_1    OPTIONS: no, yes        answer: no
  rte_type_0_scoring_eval_reworded   OPTIONS: true, false    answer: false

Orders are rotations: over all of them, each option stands once in every place. Which rotation is
an example's first is drawn by (SEED, example id). Other words are those that the task gives
(fields `options_word`), else those of `WORDS` for common labels, else letters: '(A) yes', '(B) no',
to be answered with '(B)'. Letters too where the template's own text names a label ("choose yes
if ..."), as other words would contradict it.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from flanjax.data.templates import OPTIONS_SLOT, Template, options_text, parse
from flanjax.errors import UserError

if typing.TYPE_CHECKING:
  from flanjax.data.specs import ParsedTask

SEED = 0
REWORDED = 'reworded'
NAME = re.compile(r'(?:order_[1-9]\d{0,2}|reworded)\Z', re.ASCII)
# Where the task's own words for its labels are, if `fields` gives them.
OWN_WORDS = 'options_word'
_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'

# Other words for common labels, in lower case; a label's capital is kept.
WORDS: tuple[Mapping[str, str], ...] = (
    {'yes': 'true', 'no': 'false'},
    {'true': 'yes', 'false': 'no'},
    {'yes': 'true', 'no': 'false', 'maybe': 'uncertain'},
    {'true': 'yes', 'false': 'no', 'neither': 'maybe'},
    {'yes': 'true', 'no': 'false', "it's impossible to say": 'uncertain'},
    {'yes': 'true', 'no': 'false', 'it is not possible to tell': 'uncertain'},
    {'entailment': 'implied', 'contradiction': 'ruled out', 'neutral': 'left open'},
    {'entailment': 'implied', 'not_entailment': 'not implied'},
    {'positive': 'good', 'negative': 'bad'},
    {'positive': 'good', 'negative': 'bad', 'neutral': 'middling'},
    {'good': 'positive', 'bad': 'negative'},
    {'acceptable': 'right', 'unacceptable': 'wrong'},
    {'right': 'correct', 'wrong': 'incorrect'},
    {'correct': 'right', 'incorrect': 'wrong'},
    {'same': 'alike', 'different': 'not alike'},
    {'the same meaning': 'one sense', 'different meanings': 'two senses'},
)


def order_of(variant: str) -> int:
  """'order_2' -> 2; 0 for a variant that is no order."""
  return int(variant.removeprefix('order_')) if variant.startswith('order_') else 0


def serves(templates: Sequence[Template]) -> bool:
  """Whether tasks of these templates can be asked otherwise: each lists the options it ranks."""
  return all(t.has_options and not t.suffix and not t.inverted for t in templates)


def vary(dataset: tf.data.Dataset, task: ParsedTask) -> tf.data.Dataset:
  """Puts the options of an example otherwise, and the answer with them.

  Args:
    dataset: from `preprocessors.to_fields`.
    task: one with a variant. An example that has no other order, or not as many, is left out.

  Returns:
    the same elements, with `option_order` (int32 [options]: of each option listed, its place in the
    original) and `wording` ('', 'words' or 'letters').

  Raises:
    UserError: examples have no options.
  """
  known = dataset.element_spec['fields']
  if 'options' not in known or 'answer' not in known:
    raise UserError('Options are asked in another order or wording, and there are none.',
                    where=f'task {task.spec.name}', got=f'fields {", ".join(sorted(known))}')
  k = order_of(task.variant)
  if k:
    dataset = dataset.filter(lambda x: tf.size(x['fields']['options']) > k)
    return dataset.map(lambda x: _ordered(x, k), num_parallel_calls=tf.data.AUTOTUNE)
  texts = [text for t in task.templates for text, _ in parse(t.inputs)]
  literal = ' '.join(texts)
  return dataset.map(lambda x: _reworded(x, literal), num_parallel_calls=tf.data.AUTOTUNE)


@tf.autograph.experimental.do_not_convert
def _ordered(x: Mapping[str, Any], k: int) -> dict[str, Any]:
  fields = x['fields']
  n = tf.size(fields['options'])
  seed = tf.stack([tf.cast(x['example_id'], tf.int64), SEED])
  draw = tf.random.stateless_uniform([n - 1], seed=seed, alg='philox')
  # Not indexed: of fewer options TensorFlow may know, and then refuses what is never run.
  order = (tf.range(n) + tf.gather(tf.argsort(draw), k - 1) + 1) % n
  options = tf.gather(fields['options'], order)
  return {**x, 'fields': {**fields, 'options': options}, 'option_order': order, 'wording': ''}


@tf.autograph.experimental.do_not_convert
def _reworded(x: Mapping[str, Any], literal: str) -> dict[str, Any]:
  fields = x['fields']
  right = fields.get('answers', fields['answer'][None])
  labels, shown, answer, answers, wording = tf.numpy_function(
      lambda *values: _otherwise(literal, *values),
      [fields['options'], fields.get(OWN_WORDS, tf.zeros([0], tf.string)), fields['answer'], right],
      (tf.string,) * 5)
  made = {'options': tf.ensure_shape(labels, [None]), OPTIONS_SLOT: tf.ensure_shape(shown, []),
          'answer': tf.ensure_shape(answer, []), 'answers': tf.ensure_shape(answers, [None])}
  return {**x, 'fields': {**fields, **made}, 'option_order': tf.range(tf.size(labels)),
          'wording': tf.ensure_shape(wording, [])}


def _otherwise(literal: str, options, words, answer: bytes, right) -> tuple[np.ndarray, ...]:
  """Labels, the options as listed, the answer, all right answers, and which kind of wording."""
  old = [o.decode() for o in options]
  labels, shown, wording = relabel(old, [w.decode() for w in words], literal)
  new = dict(zip(reversed(old), reversed(labels)))
  truths = {r.decode() for r in right} | {answer.decode()}
  # An answer that is no option stays: rendering says what is wrong with the example.
  answer = new.get(answer.decode(), answer.decode())
  answers = [label for o, label in zip(old, labels) if o in truths] or [answer]
  texts = lambda values: np.array([v.encode() for v in values], dtype=object)
  one = lambda value: np.array(value.encode(), dtype=object)
  return texts(labels), one(options_text(shown)), one(answer), texts(answers), one(wording)


def relabel(
    options: Sequence[str], own: Sequence[str] = (), literal: str = ''
) -> tuple[list[str], list[str], str]:
  """Other labels for options, how they are listed, and 'words' or 'letters'.

  >>> relabel(['Yes', 'No'])
  (['True', 'False'], ['True', 'False'], 'words')
  >>> relabel(['a cat', 'a dog'])
  (['(A)', '(B)'], ['(A) a cat', '(B) a dog'], 'letters')

  Args:
    options: as they are.
    own: the task's own words for them, one each; (): none.
    literal: the template's text, which may name labels.
  """
  words = None if _names_one(literal, options) else _words(options, own)
  if words:
    return words, words, 'words'
  letters = [f'({letter(i)})' for i in range(len(options))]
  return letters, [f'{a} {b}' for a, b in zip(letters, options)], 'letters'


def letter(i: int) -> str:
  """A, B, ... Z, AA, AB, ..."""
  return (letter(i // 26 - 1) if i >= 26 else '') + _LETTERS[i % 26]


def _names_one(literal: str, options: Sequence[str]) -> bool:
  """Whether a text says one of the options, as whole words."""
  said = lambda o: re.search(rf'(?<!\w){re.escape(o)}(?!\w)', literal, re.IGNORECASE)
  return any(o.strip() and said(o.strip()) for o in options)


def _words(options: Sequence[str], own: Sequence[str]) -> list[str] | None:
  fits = len(own) == len(options) == len(set(own))
  if fits and not set(own) & set(options):
    return list(own)
  plain = [o.strip().lower() for o in options]
  for table in WORDS:
    if len(set(plain)) == len(plain) and set(plain) == table.keys():
      return [_like(o.strip(), table[p]) for o, p in zip(options, plain)]
  return None


def _like(label: str, word: str) -> str:
  return word[:1].upper() + word[1:] if label[:1].isupper() else word
