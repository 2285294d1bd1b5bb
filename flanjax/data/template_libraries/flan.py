"""FLAN's templates, from a user's own checkout of google-research/FLAN.

Its `flan/templates.py` holds one dictionary of pairs of format strings. The file is parsed and
never run: `PATTERNS` may be made of texts, lists, tuples, dictionaries, sums of texts, and names
of such things further up; anything else is refused, with its line.

The wording is FLAN's, to the letter. What stands in the slots is what the task of the same name in
`tasks/flan2021` gives: its fields, options and answers. ALIASES says which of them is which.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.data import specs
from flanjax.data.specs import TaskSpec
from flanjax.data.template_libraries import library
from flanjax.data.template_libraries.library import Call, Library
from flanjax.data.templates import OPTIONS_SLOT, Template, parse
from flanjax.errors import UserError, nearest

VARIABLE = 'PATTERNS'
# Characters that sums of texts make, and templates.
_MAX_SUMS, _MAX_TEMPLATES = 1_000_000, 10_000
_SHOWN = 80
ANSWER = '{answer}'
# Sets that serve several tasks. Any other serves the task of its own name.
TASKS = {
    'anli': ('anli_r1', 'anli_r2', 'anli_r3'),
    'arc': ('arc_easy', 'arc_challenge'),
    'mnli': ('mnli_matched', 'mnli_mismatched'),
    'para_crawl': ('para_crawl_enes',),
    'wmt16_translate': tuple(
        f'wmt16_translate_{code}en' for code in ('de', 'tr', 'cs', 'fi', 'ro', 'ru')),
}
_PAIR = {'lang1': 'English', 'lang2': '{language}', 'sent1': '{english}', 'sent2': ANSWER}
# Set -> slot of FLAN's -> what it is here. A slot that is not named here is the field of its name.
ALIASES: dict[str, dict[str, str]] = {
    'aeslc': {'subject': ANSWER},
    'bool_q': {'text': '{passage}'},
    'cnn_dailymail': {'highlights': ANSWER},
    'common_gen': {'target': ANSWER, 'concepts_newline': '{bullets}'},
    'coqa': {'text': '{story}', 'numbered_questions': '{questions}', 'numbered_answers': ANSWER},
    'dart': {'target': ANSWER, 'tripleset': '{triples}', 'tripleset_newline': '{bullets}'},
    'drop': {'context': '{passage}'},
    'e2e_nlg': {'target': ANSWER, 'meaning_representation': '{data}'},
    'gigaword': {'summary': ANSWER},
    'imdb_reviews': {'text': '{review}'},
    'multi_news': {'text': '{articles}', 'summary': ANSWER},
    'newsroom': {'summary': ANSWER},
    'opinion_abstracts_idebate': {
        'argument_sentences': '{arguments}', 'claim': ANSWER, 'debate_name': '{debate}'},
    'opinion_abstracts_rotten_tomatoes': {
        'critic_consensus': ANSWER, 'numbered_reviews': '{reviews}'},
    'para_crawl': _PAIR,
    'record': {'options_str': '{options_}'},
    'samsum': {'summary': ANSWER},
    'sentiment140': {'text': '{tweet}'},
    'stsb': {'answer_str': ANSWER},
    'trec': {'text': '{question}'},
    'web_nlg_en': {'target': ANSWER, 'input_string': '{triples}'},
    'wiki_lingua_english_en': {'source': '{text}', 'target': ANSWER},
    'wmt14_enfr': _PAIR,
    'wmt16_translate': _PAIR,
    'wsc': {'context': '{text}', 'text1': '{noun}', 'text2': '{pronoun}'},
    'xsum': {'summary': ANSWER},
    'yelp_polarity_reviews': {'text': '{review}'},
}


def read_patterns(path: str | os.PathLike[str]) -> dict[str, list[tuple[str, str]]]:
  """Set -> its pairs of format strings.

  Raises:
    UserError: the file cannot be read, or holds anything but such pairs.
  """
  path = pathlib.Path(path).expanduser()
  text = library.read_text(path)
  try:
    tree = ast.parse(text)
  except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
    line = getattr(e, 'lineno', None)
    raise UserError('A library of templates is not Python.', where=_at(path, line),
                    got=f'{type(e).__name__}: {getattr(e, "msg", e)}') from e
  reader = _Reader(path, text.splitlines())
  try:
    for statement in tree.body:
      reader.statement(statement)
  except RecursionError as e:
    raise UserError('A library of templates is nested too deeply.', where=str(path)) from e
  return _patterns(reader.names, path)


def _at(path: pathlib.Path, line: int | None) -> str:
  return f'{path}:{line}' if line else str(path)


class _Reader:
  """The values of constants, by name; nothing is run."""

  def __init__(self, path: pathlib.Path, lines: Sequence[str]):
    self._path, self._lines, self._left = path, lines, _MAX_SUMS
    self.names: dict[str, Any] = {}

  def statement(self, node: ast.stmt) -> None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
      return  # A docstring.
    if (isinstance(node, ast.Assign) and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)):
      self.names[node.targets[0].id] = self._value(node.value)
      return
    raise self._refusal(node)

  def _value(self, node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
      kind = list if isinstance(node, ast.List) else tuple
      return kind(self._value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
      return {self._key(k): self._value(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
      return self._sum(node)
    if isinstance(node, ast.Name) and node.id in self.names:
      return self.names[node.id]
    raise self._refusal(node)

  def _key(self, node: ast.expr) -> str:
    value = self._value(node)
    if not isinstance(value, str):
      raise self._refusal(node)
    return value

  def _sum(self, node: ast.BinOp) -> str:
    left, right = self._value(node.left), self._value(node.right)
    if not isinstance(left, str) or not isinstance(right, str):
      raise self._refusal(node)
    self._left -= len(left) + len(right)
    if self._left < 0:
      raise UserError('A library of templates makes too much of little.',
                      where=_at(self._path, node.lineno),
                      got=f'sums of more than {_MAX_SUMS:,} characters')
    return left + right

  def _refusal(self, node: ast.AST) -> UserError:
    line = self._lines[node.lineno - 1].strip() if node.lineno <= len(self._lines) else ''
    shown = line if len(line) <= _SHOWN else f'{line[:_SHOWN]} ...'
    return UserError(
        'A library of templates may hold nothing but texts; it is read, not run.',
        where=_at(self._path, node.lineno), got=f'{type(node).__name__}: {shown}',
        expected='texts, lists, tuples, dictionaries, sums of texts, names of such further up')


def _patterns(names: Mapping[str, Any], path: pathlib.Path) -> dict[str, list[tuple[str, str]]]:
  found = names.get(VARIABLE)
  if not isinstance(found, dict) or not found:
    raise UserError(f'A library of templates has no {VARIABLE}.', where=str(path),
                    got=f'the names {", ".join(sorted(names)) or "(none)"}',
                    expected=f"{VARIABLE} = {{'task': [('inputs', 'targets'), ...], ...}}")
  if sum(len(pairs) for pairs in found.values()) > _MAX_TEMPLATES:
    raise UserError('A library has too many templates.', where=str(path),
                    expected=f'at most {_MAX_TEMPLATES:,}')
  for key, pairs in found.items():
    right = isinstance(pairs, (list, tuple)) and pairs and all(
        isinstance(p, tuple) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs)
    if not right:
      raise UserError(f"The set '{key}' is no list of pairs of texts.", where=str(path),
                      expected="[('inputs', 'targets'), ...]")
  return {key: list(pairs) for key, pairs in found.items()}


def _fields(spec: TaskSpec) -> frozenset[str]:
  """The slots that a task is known to serve: those of its own templates."""
  shown = [t.fields | t.ranked_fields for t in (*spec.templates, *spec.continuations)]
  options = {OPTIONS_SLOT} if spec.is_classification else set()
  plain = {slot for _, slot in parse(spec.plain or '') if slot}
  return frozenset().union(*shown, plain, options, {'answer'}) - {'options'}


def translated(text: str, aliases: Mapping[str, str], known: frozenset[str], where: str) -> str:
  """A format string of FLAN's with our names in its slots.

  >>> translated('{context} {{', {'context': '{passage}'}, frozenset({'passage'}), '')
  '{passage} {{'

  Raises:
    UserError: nothing serves a slot.
  """
  parts = []
  for literal, slot in parse(text):
    parts.append(literal.replace('{', '{{').replace('}', '}}'))
    if slot is None:
      continue
    served = aliases.get(slot, f'{{{slot}}}')
    if not {name for _, name in parse(served) if name} <= known:
      raise UserError(f"A template has the slot '{{{slot}}}', which nothing serves.", where=where,
                      hint=nearest(slot, {*known, *aliases}))
    parts.append(served)
  return ''.join(parts)


def _templates(key: str, pairs: Sequence[tuple[str, str]], spec: TaskSpec) -> list[Template]:
  aliases, known, templates = ALIASES.get(key, {}), _fields(spec), []
  for i, pair in enumerate(pairs):
    where = f"set '{key}', task {spec.name}, template {i}"
    inputs, targets = (translated(text, aliases, known, where) for text in pair)
    # Where the answer stands among other words, the words are asked for too.
    templates.append(Template(inputs, targets, inverted=targets != ANSWER))
  return templates


def register_flan(
    path: str | os.PathLike[str], *, prefix: str = 'flan_', suite: str = 'flan_templates'
) -> Library:
  """Registers FLAN's templates as tasks: `flan_rte_10templates`, `flan_rte_type_3`, ...

  Each set is bound to the task of the same name, which must be registered (all of FLAN's are, after
  `import flanjax.tasks.flan2021`), and takes everything but the wording from it.

  Args:
    path: flan/templates.py of a checkout, or a file in its form.
    prefix: what the names of the tasks begin with.
    suite: their suite, and so what the names of their mixtures begin with.

  Raises:
    UserError: the file holds more than texts; a set has no task; a slot has no field.
  """
  bound = []
  for key, pairs in read_patterns(path).items():
    for name in TASKS.get(key, (key,)):
      bound.append((specs.get(name), _templates(key, pairs, specs.get(name))))
  overlaps = library.renamed([(prefix + spec.name, spec) for spec, _ in bound])
  tasks = [
      dataclasses.replace(
          spec, name=prefix + spec.name, suite=suite, templates=templates, continuations=(),
          plain='', overlaps=overlaps[prefix + spec.name])
      for spec, templates in bound
  ]
  call = Call('flan', os.path.abspath(os.path.expanduser(path)), prefix, suite)
  done = library.register_all(tasks, suite, [spec.suite for spec, _ in bound], call)
  return Library(done, {task.name: () for task in done}, {})
