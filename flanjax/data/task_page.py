"""A page about one task: what it is, and all of its templates side by side on the same examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio

from flanjax import pages
from flanjax.data import catalogue, lint, sources, specs
from flanjax.data.specs import CONTINUATIONS, DATASET_NAME, NO_INSTRUCTIONS, TaskSpec
from flanjax.data.templates import OPTIONS_SLOT, Template, options_text, parse
from flanjax.errors import UserError

# What each regime is, for who does not know FLAN's ablations.
REGIMES = {
    '': ('Templates', 'What a model is tuned on. Inverted ones ask for an input, given the answer, '
         'and are not evaluated.'),
    CONTINUATIONS: ('Continuations', 'No instruction: a plain language model goes on from them.'),
    DATASET_NAME: ('The name of the dataset', 'It stands in the place of an instruction.'),
    NO_INSTRUCTIONS: ('No instructions', 'The inputs alone.'),
}

Fields = Mapping[str, Any]
Count = Callable[[str], int]


@dataclasses.dataclass(frozen=True)
class Text:
  """One side of a template, as pieces: (text, whether it comes from the example).

  Attributes:
    pieces: they make up the text; of a format string, the slots come from the example.
    tokens: with EOS; None where there is no vocabulary, and of a format string.
  """

  pieces: tuple[tuple[str, bool], ...]
  tokens: int | None = None

  def __str__(self) -> str:
    return ''.join(piece for piece, _ in self.pieces)


def render(name: str, num_examples: int = 2, split: str | None = None) -> str:
  """The page, as HTML that loads nothing.

  Args:
    name: a task's own name, or one of its SeqIO tasks.
    num_examples: the examples on which every template is shown.
    split: where they come from; None: 'train', where there is one.

  Raises:
    UserError: the task or split is unknown, or its data is there and wrong. Without data the page
      shows the format strings alone.
  """
  spec = specs.get(specs.parse_task_name(name).spec.name if specs.is_task_name(name) else name)
  facts, splits = catalogue.describe(spec), sources.splits(spec.source)
  split = split or next(iter(splits if 'train' not in splits else ()), 'train')
  examples = [] if facts['missing'] else lint.fields_of(spec, num_examples, split)
  count, vocabulary = _token_counter(spec) if examples else (None, '')
  environment = pages.environment('flanjax.data', 'pages')
  return environment.get_template('task.html.j2').render(
      policy=pages.policy(),
      facts=facts,
      details=[(k, v) for k, v in _details(spec, facts, splits) if v],
      examples=examples,
      split=split,
      vocabulary=vocabulary,
      groups=list(_groups(spec, [fields for _, fields in examples], count)),
  )


def _details(
    spec: TaskSpec, facts: Mapping[str, Any], splits: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
  yield 'Source', ':'.join(filter(None, (facts['source'], facts['version'])))
  yield 'Citation', spec.citation
  yield 'Licence', spec.licence
  size = facts['download_bytes']
  yield 'Download', facts['downloads'] + (f', at most {size / 1e6:,.1f} MB' if size else '')
  yield 'By hand', facts['by_hand']
  yield 'Metrics', ', '.join(facts['metrics'])
  for split, what in splits.items():
    yield f'Split {split}', what
  yield 'Also made of', ', '.join(spec.lineage)
  yield 'Overlaps with', ', '.join(spec.overlaps)


def _token_counter(spec: TaskSpec) -> tuple[Count | None, str]:
  """What counts tokens, and its name; None when the vocabulary cannot be had here."""
  vocabulary = seqio.TaskRegistry.get(f'{spec.name}_type_0').output_features['inputs'].vocabulary
  try:
    vocabulary.encode('')
  except UserError:
    return None, ''
  return lambda text: len(vocabulary.encode(text)) + 1, getattr(vocabulary, 'name', '')


def _groups(
    spec: TaskSpec, examples: Sequence[Fields], count: Count | None
) -> Iterator[dict[str, Any]]:
  for regime, (title, what) in REGIMES.items():
    templates = spec.templates_of(regime)
    if templates:
      rows = [_row(i, t, examples, count) for i, t in enumerate(templates)]
      yield {'title': title, 'what': what, 'rows': rows}


def _row(
    number: int, template: Template, examples: Sequence[Fields], count: Count | None
) -> dict[str, Any]:
  """A template: its format strings, and both sides of it on every example."""
  sides = ('inputs', 'targets')
  return {
      'number': number,
      'inverted': template.inverted,
      'ranks': template.ranks,
      # Those that the text does not show.
      'options': [fields[template.options_field] if template.ranks and not template.has_options
                  else [] for fields in examples],
      'format': [_pieces(getattr(template, side)) for side in sides],
      'rendered': [[_pieces(getattr(template, side), fields, count) for side in sides]
                   for fields in examples],
  }  # fmt: skip


def _pieces(text: str, fields: Fields | None = None, count: Count | None = None) -> Text:
  """A format string as it is, or filled in, and what of it stands in a slot."""
  pieces = []
  for literal, slot in parse(text):
    pieces += [(literal, False)] if literal else []
    if slot:
      pieces.append((f'{{{slot}}}' if fields is None else _value(fields, slot), True))
  whole = Text(tuple(pieces))
  if fields is None or count is None:
    return whole
  return dataclasses.replace(whole, tokens=count(str(whole)))


def _value(fields: Fields, slot: str) -> str:
  return options_text(fields['options']) if slot == OPTIONS_SLOT else fields[slot]
