"""What is wrong with a task: its wording, its fields, and how it renders on its examples.

The wording is looked at always. Where the data is here, every template is rendered on examples;
where it is not but TFDS knows its features, `fields` is traced on those.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import seqio
import tensorflow as tf

from flanjax.data import availability, preprocessors, specs
from flanjax.data.specs import TaskSpec
from flanjax.data.templates import Template, parse
from flanjax.errors import UserError, nearest

# Two templates of which more of the wording than this is the same are one template twice.
NEAR_DUPLICATE = 0.5
_FEWEST_WORDS = 3
_INVISIBLE = ('Cc', 'Cf', 'Co', 'Cn')
_END_MARKS = '.?!,;:'
# What is wrong with the spelling of a template, and how to say it.
_TYPOS = (
    (r'\w\{|\}\w', 'a letter touches a slot of its {side}'),
    (r' \n| \Z', 'a line of its {side} ends with a space'),
    (r'\A\s', 'its {side} begin with white space'),
    (r'\n\Z', 'its {side} end with a line break'),
    (r'\n{3}', 'its {side} hold more than one empty line in a row'),
    (r'\S {2,}', 'its {side} hold two spaces in a row'),
    (r'[\t\r\f\v]', 'its {side} hold a tab or another odd space'),
    (r'[\w}] [,;:.?!](?:\s|\Z)', 'a space comes before a punctuation mark of its {side}'),
)


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something wrong with a task.

  Attributes:
    task: the task's name.
    template: the template's number, None when it is not about one.
    level: 'error', 'warning' for what may be meant, 'note' for what was not or need not be done.
    message: one sentence.
    example_id: an example that shows it, if one does.
    unread: whether it says that there were no examples to look at.
  """

  task: str
  template: int | None
  level: str
  message: str
  example_id: int | None = None
  unread: bool = False


def check_task(name: str, num_examples: int = 20, split: str | None = None) -> list[Problem]:
  """Tells what is wrong with a task.

  Args:
    name: a task's own name.
    num_examples: how many examples to render every template on.
    split: from which split; None: from the training split, or the first where there is none.

  Raises:
    UserError: there is no such task.
  """
  spec = specs.get(name)
  problems = list(check_wording(spec))
  reason = availability.check_available(spec)
  if reason:
    return problems + _check_without_data(spec, reason)
  try:
    examples = fields_of(spec, num_examples, split)
  except UserError as e:
    return problems + [Problem(name, None, 'error', _one_line(e))]
  if not examples:
    problems.append(Problem(name, None, 'error', 'its split gives no example'))
  found = (p for i, fields in examples for p in _example_problems(spec, i, fields))
  return problems + _first_of_each(found) + list(_over_examples(spec, examples))


def _one_line(e: UserError) -> str:
  return ' '.join(str(e).split())


def _first_of_each(problems: Iterator[Problem]) -> list[Problem]:
  first = {}
  for p in problems:
    first.setdefault((p.template, p.message), p)
  return list(first.values())


def check_wording(spec: TaskSpec) -> Iterator[Problem]:
  """What can be seen without data."""

  def problem(template, level, message):
    return Problem(spec.name, template, level, message)

  for i, template in enumerate(spec.templates):
    for side in ('inputs', 'targets'):
      for message in _typos(getattr(template, side)):
        yield problem(i, 'error', message.format(side=side))
    for message in _slot_problems(template):
      yield problem(i, 'error', message)
    if spec.is_classification and not template.inverted and not template.ranks:
      message = 'it asks for one of the options without showing them (right where its words do)'
      yield problem(i, 'note', message)
  for first, second, same in _duplicates(spec.templates):
    if same:
      yield problem(second, 'error', f'it says the same as template {first}')
    else:
      yield problem(second, 'warning', f'it says nearly the same as template {first}')
  if not spec.zero_shot_templates:
    message = 'every template is inverted, so the task cannot be evaluated'
    yield problem(None, 'warning', message)
  if not spec.metric_fns:
    yield problem(None, 'error', 'it has no metric')


def _typos(text: str) -> Iterator[str]:
  for pattern, message in _TYPOS:
    if re.search(pattern, text):
      yield message
  closed = re.sub(r'(?<![\w(])\w\)', '', text)  # The brackets of '1) first' are not open.
  if text.count('"') % 2 or closed.count('(') != closed.count(')'):
    yield 'a quotation mark or bracket of its {side} is not closed'
  odd = [c for c in text if unicodedata.category(c) in _INVISIBLE and not c.isspace()]
  if odd:
    yield f'its {{side}} hold the invisible character U+{ord(odd[0]):04X}'


def _slots_of(text: str) -> set[str]:
  return {slot for _, slot in parse(text) if slot}


def _slot_problems(template: Template) -> Iterator[str]:
  inputs, targets = _slots_of(template.inputs), _slots_of(template.targets)
  for slot in sorted(inputs & targets):
    yield f'its inputs name {{{slot}}}, which is also its target'
  if not targets:
    yield 'its targets are the same for every example'
  if not inputs:
    yield 'its inputs are the same for every example'


def wording(template: Template) -> list[str]:
  """The words of a template's inputs: no slots, no punctuation, lower case."""
  return re.findall(r'\w+', re.sub(r'\{\w+\}', ' ', template.inputs.lower()))


def _duplicates(templates: Sequence[Template]) -> Iterator[tuple[int, int, bool]]:
  """Pairs of templates with the same or nearly the same wording, and whether it is the same."""
  for (i, a), (j, b) in itertools.combinations(enumerate(templates), 2):
    sides = [[' '.join(side.lower().split()) for side in (t.inputs, t.targets)] for t in (a, b)]
    if sides[0] == sides[1]:
      yield i, j, True
      continue
    words = wording(a), wording(b)
    # Turned around, the same words ask for something else.
    if a.inverted != b.inverted or min(map(len, words)) < _FEWEST_WORDS:
      continue
    if difflib.SequenceMatcher(None, *words, autojunk=False).ratio() > NEAR_DUPLICATE:
      yield i, j, False


def _check_without_data(spec: TaskSpec, reason: str) -> list[Problem]:
  """Traces `fields` on the features that TFDS knows; a note says that no example was read."""
  message = f'no example was read, the data is missing: {reason}'
  note = Problem(spec.name, None, 'note', message, unread=True)
  features = availability.features_of(spec)
  if features is None:
    return [note]
  signature = {'example_id': tf.TensorSpec([], tf.int64), 'example': features}
  empty = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=signature)
  try:
    preprocessors.to_fields(empty, spec)
  except UserError as e:
    return [note, Problem(spec.name, None, 'error', _one_line(e))]
  return [note]


def fields_of(
    spec: TaskSpec, num_examples: int, split: str | None
) -> list[tuple[int, dict[str, Any]]]:
  """The first examples of a split as (id, fields); of no split in particular, of 'train'.

  Raises:
    UserError: there is no such split, or an example cannot be read.
  """
  task = seqio.TaskRegistry.get(f'{spec.name}_type_0')
  if split is None:
    split = 'train' if 'train' in task.splits else next(iter(task.splits))
  if split not in task.splits:
    raise UserError(f"Task '{spec.name}' has no split '{split}'.", hint=nearest(split, task.splits))
  dataset = preprocessors.to_fields(task.source.get_dataset(split, shuffle=False), spec)
  texts = []
  try:
    for x in dataset.take(num_examples).as_numpy_iterator():
      fields = {
          k: v.decode() if isinstance(v, bytes) else [t.decode() for t in v]
          for k, v in x['fields'].items()
      }
      texts.append((int(x['example_id']), fields))
  except (tf.errors.OpError, UnicodeDecodeError) as e:
    raise UserError(
        'The fields of an example cannot be read.',
        where=f'task {spec.name}, split {split}',
        got=f'{type(e).__name__}: {str(e).splitlines()[0]}',
    ) from e
  return texts


def _example_problems(spec: TaskSpec, example_id: int, fields: dict[str, Any]) -> Iterator[Problem]:
  def problem(template, level, message):
    return Problem(spec.name, template, level, message, example_id)

  for suffix in sorted({t.suffix for t in spec.templates + spec.continuations}):
    answer, options = fields.get(f'answer{suffix}'), fields.get(f'options{suffix}')
    if options is not None and answer is not None and answer not in options:
      yield problem(None, 'error', f"the answer '{answer}' is not among the options {options}")
    if options is not None and len(set(options)) < len(options):
      yield problem(None, 'warning', 'two options are the same')
  for name, text in fields.items():
    if isinstance(text, str) and text != text.strip() and text.strip():
      yield problem(None, 'warning', f"the field '{name}' begins or ends with white space")
  for i, template in enumerate(spec.templates):
    for side, text in zip(('inputs', 'targets'), template.render(fields)):
      if not text.strip() and not spec.drop_empty:
        yield problem(i, 'error', f'its {side} are empty')


def _over_examples(
    spec: TaskSpec, examples: Sequence[tuple[int, dict[str, Any]]]
) -> Iterator[Problem]:
  """What one example may show by chance: told of when most or all of them do."""
  for i, template in enumerate(spec.templates):
    doubled = collections.Counter()
    for _, fields in examples:
      doubled.update(_doubled_marks(template.inputs, fields))
    for marks, count in doubled.items():
      if 2 * count > len(examples):
        message = f"its inputs read '{marks}' in {count} of {len(examples)} examples"
        yield Problem(spec.name, i, 'warning', message)
  texts = [f for _, f in examples if f.get('answer') and 'options' not in f]
  for i, template in enumerate(spec.templates):
    if texts and not template.inverted and all(
        f['answer'] in template.render(f)[0] for f in texts):
      message = f'its inputs hold the answer in all of {len(texts)} examples'
      message += ' (right for a task of finding it in a text)'
      yield Problem(spec.name, i, 'note', message)


def _doubled_marks(text: str, fields: dict[str, Any]) -> set[str]:
  """Punctuation marks that meet where a field ends: {'?.'} for '{question}.'."""
  found = set()
  parts = parse(text)
  for (_, slot), (following, _) in zip(parts, parts[1:]):
    value = fields.get(slot)
    if isinstance(value, str) and value and following:
      if value[-1] in _END_MARKS and following[0] in _END_MARKS:
        found.add(value[-1] + following[0])
  return found
