"""Which Jinja a template may be made of: a walk over its parsed form, before anything runs."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from jinja2 import nodes

from flanjax.data.template_libraries import jinja_functions as functions
from flanjax.data.template_libraries.jinja_allowance import Refused

MAX_DEPTH = 40
MAX_LOOPS = 8
_ALLOWED = frozenset(
    'Add And Assign Call Compare Concat CondExpr Const Dict Div Filter FloorDiv For Getattr '
    'Getitem If Keyword List Mod Mul NSRef Name Neg Not Operand Or Output Pair Pos Pow Slice '
    'Sub Template TemplateData Test Tuple'.split())
_RESERVED = frozenset({'self', 'super', 'caller', 'varargs', 'kwargs'})


def check(tree: nodes.Template) -> None:
  """Refuses everything in a template that is not on the lists.

  Raises:
    Refused: naming the first such thing.
  """
  waiting: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
  while waiting:
    node, depth, loops = waiting.pop()
    kind = type(node).__name__
    if kind not in _ALLOWED:
      raise Refused(f'{_article(kind)} {kind} (line {node.lineno})',
                    'printing, conditions, loops, assignments')
    loops += isinstance(node, nodes.For)
    if depth > MAX_DEPTH or loops > MAX_LOOPS:
      raise Refused('expressions or loops within others, too many deep',
                    f'at most {MAX_DEPTH} levels, of which {MAX_LOOPS} loops')
    _check_node(node)
    waiting += [(child, depth + 1, loops) for child in node.iter_child_nodes()]


def _article(word: str) -> str:
  return 'an' if word[0] in 'AEIOU' else 'a'


def _check_node(node: nodes.Node) -> None:
  if isinstance(node, nodes.Name):
    if node.name.startswith('__') or node.name in _RESERVED:
      raise Refused(f"the name '{node.name}'", 'a column of the dataset, or a variable of its own')
  elif isinstance(node, (nodes.Getattr, nodes.NSRef)):
    _no_underscore(node.attr)
  elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
    _no_underscore(node.arg.value)
  elif isinstance(node, nodes.For) and node.recursive:
    raise Refused('a recursive loop', 'a loop over a list')
  elif isinstance(node, nodes.Test):
    _known('test', node.name, functions.TESTS)
  elif isinstance(node, nodes.Filter):
    _known('filter', node.name, functions.FILTERS)
    _check_filter(node)
  elif isinstance(node, nodes.Call):
    _check_call(node)
  if getattr(node, 'dyn_args', None) or getattr(node, 'dyn_kwargs', None):
    raise Refused('arguments with * or **', 'arguments one by one')


def _no_underscore(name: Any) -> None:
  if isinstance(name, str) and (name.startswith('_') or '._' in name):
    raise Refused(f"the attribute '{name}'", 'a name that does not begin with _')


def _known(kind: str, name: Any, known: Container[str]) -> None:
  if name not in known:
    raise Refused(f"the {kind} '{name}'", f'one of {", ".join(sorted(known))}')


def _check_filter(node: nodes.Filter) -> None:
  """What `map`, `select` and their like are told to apply."""
  for keyword in node.kwargs:
    if keyword.key == 'attribute' and isinstance(keyword.value, nodes.Const):
      _no_underscore(keyword.value.value)
  if node.name in ('selectattr', 'rejectattr') and node.args:
    _no_underscore(getattr(node.args[0], 'value', None))
  place = {'map': 0, 'select': 0, 'reject': 0, 'selectattr': 1, 'rejectattr': 1}.get(node.name)
  if place is not None and len(node.args) > place:
    applied = node.args[place]
    kind, known = ('filter', functions.FILTERS) if node.name == 'map' else ('test', functions.TESTS)
    _known(kind, applied.value if isinstance(applied, nodes.Const) else '(computed)', known)


def _check_call(node: nodes.Call) -> None:
  called = node.node
  if isinstance(called, nodes.Getattr):
    _known('method', called.attr, functions.METHOD_NAMES)
  else:
    name = called.name if isinstance(called, nodes.Name) else '(computed)'
    _known('function', name, functions.GLOBALS)
