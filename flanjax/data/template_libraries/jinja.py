"""Jinja templates of strangers: looked through before use, and rendered under an allowance.

Three fences stand one behind the other. `check` walks the parsed template and lets pass the
kinds of node, the filters, tests, methods and functions on its lists, and nothing else. `_Meter`
then puts a counter around whatever loops, grows or prints. And what runs at last runs in Jinja's
sandbox, in which a template reaches plain data and what `jinja_functions` lists, but no attribute
of any object.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta, nodes, sandbox
from jinja2.runtime import LoopContext
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from flanjax.data.template_libraries import jinja_allowance as allowance
from flanjax.data.template_libraries import jinja_functions as functions
from flanjax.data.template_libraries.jinja_allowance import Failed, Refused
from flanjax.data.template_libraries.jinja_check import check
from flanjax.errors import UserError

MAX_LENGTH = 20_000
_DRAWS, _CHANGES = ('choice', 'random'), ('append', 'update', 'pop')


class _Environment(sandbox.ImmutableSandboxedEnvironment):
  """Plain data without attributes, a few methods, and operators that are counted."""

  intercepted_binops = frozenset({'+', '-', '*', '/', '//', '%', '**'})

  def call_binop(self, context, operator, left, right):
    return functions.binary(operator, left, right)

  def getattr(self, obj, attribute):
    method = functions.METHODS.get((type(obj), attribute))
    if method:
      return functions.Function(attribute, method, obj)
    if isinstance(obj, LoopContext) and attribute in functions.LOOP_ATTRIBUTES:
      return getattr(obj, attribute)
    if isinstance(obj, Namespace) and not attribute.startswith('_'):
      return getattr(obj, attribute, self.undefined(obj=obj, name=attribute))
    return self.getitem(obj, attribute)

  def getitem(self, obj, argument):
    if isinstance(obj, jinja2.Undefined):
      obj._fail_with_undefined_error()
    if type(obj) in (str, list, tuple, dict):
      try:
        return obj[argument]
      except (LookupError, TypeError):
        pass
    return self.undefined(obj=obj, name=argument)

  def is_safe_callable(self, obj):
    return isinstance(obj, functions.Function)


def _counter(function):
  return jinja2.pass_context(lambda context, *args: function(*args))


def _make_environment() -> _Environment:
  environment = _Environment(optimized=False, cache_size=0)
  environment.filters = functions.FILTERS | {
      '(text)': _counter(allowance.text),
      '(read)': _counter(lambda value: allowance.read(value, 'a comparison')),
      '(made)': _counter(lambda value: allowance.made(value, 'a list')),
      '(each)': _counter(allowance.each),
      '(concat)': _counter(lambda parts: ''.join(map(allowance.text, parts))),
  }
  environment.tests = functions.TESTS
  environment.globals = dict(functions.GLOBALS)
  return environment


_ENVIRONMENT = _make_environment()


class _Meter(NodeTransformer):
  """Puts the counters into a template that has been checked."""

  def _counted(self, node: nodes.Expr, counter: str, *args: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, counter, list(args), [], None, None, lineno=node.lineno)

  def visit_Output(self, node):
    self.generic_visit(node)
    node.nodes = [n if isinstance(n, nodes.TemplateData) else self._counted(n, '(text)')
                  for n in node.nodes]
    return node

  def visit_For(self, node):
    self.generic_visit(node)
    texts = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    steps = texts + sum(1 for _ in node.find_all(nodes.Node))
    node.iter = self._counted(node.iter, '(each)', nodes.Const(steps))
    return node

  def visit_Compare(self, node):
    self.generic_visit(node)
    node.expr = self._counted(node.expr, '(read)')
    for operand in node.ops:
      operand.expr = self._counted(operand.expr, '(read)')
    return node

  def visit_Concat(self, node):
    self.generic_visit(node)
    return self._counted(nodes.List(node.nodes, lineno=node.lineno), '(concat)')

  def _container(self, node):
    self.generic_visit(node)
    written = getattr(node, 'ctx', 'load') == 'store'
    fixed = all(isinstance(n, nodes.Const) for n in node.iter_child_nodes())
    return node if written or fixed else self._counted(node, '(made)')

  visit_List = visit_Tuple = visit_Dict = _container

  def visit_Getitem(self, node):
    self.generic_visit(node)
    return self._counted(node, '(made)') if isinstance(node.arg, nodes.Slice) else node


class Program:
  """A template that has been looked through.

  Attributes:
    source: its text.
    columns: the variables that it reads and never sets.
    tree: its parsed form, before anything was put into it.
  """

  def __init__(self, source: str):
    if len(source) > MAX_LENGTH:
      raise Refused(f'{len(source):,} characters', f'at most {MAX_LENGTH:,}')
    try:
      self.tree = _ENVIRONMENT.parse(source)
      check(self.tree)
    except jinja2.TemplateSyntaxError as e:
      raise Refused(f'line {e.lineno}: {e.message}', 'a Jinja template') from e
    except (RecursionError, MemoryError, ValueError, OverflowError) as e:
      raise Refused(f'nothing that can be parsed ({type(e).__name__})', 'a Jinja template') from e
    self.source = source
    written = {n.name for n in self.tree.find_all(nodes.Name) if n.ctx == 'store'}
    read = meta.find_undeclared_variables(self.tree)
    self.columns = frozenset(read) - written - set(functions.GLOBALS)
    self._draws = any(f.name in _DRAWS for f in self.tree.find_all(nodes.Filter))
    self._changes = any(g.attr in _CHANGES for g in self.tree.find_all(nodes.Getattr))

  @functools.cached_property
  def _template(self) -> jinja2.Template:
    # The meter rewrites in place, and `tree` is kept as it is.
    tree = _Meter().visit(_ENVIRONMENT.parse(self.source)).set_environment(_ENVIRONMENT)
    try:
      code = _ENVIRONMENT.compile(tree)
    except (SyntaxError, RecursionError, MemoryError) as e:
      raise Refused(f'nothing that can be compiled ({type(e).__name__})') from e
    return jinja2.Template.from_code(_ENVIRONMENT, code, dict(functions.GLOBALS))

  def _seed(self, variables: Mapping[str, Any]) -> str:
    if not self._draws:
      return ''
    content = json.dumps([self.source, variables], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()

  def _run(self, variables: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    template = self._template
    # What it appends to is its own.
    variables = copy.deepcopy(variables) if self._changes else variables
    context = template.new_context(dict(variables))
    try:
      with allowance.rendering(self._seed(variables)):
        return ''.join(template.root_render_func(context)), context.vars
    except Refused:
      raise
    except Exception as e:  # A stranger's template may fail in any way.
      raise Failed(f'{type(e).__name__}: {e}') from e

  def render(self, variables: Mapping[str, Any]) -> str:
    """The text for one example.

    Raises:
      Refused: it asks for too much, or fails.
    """
    return self._run(variables)[0]

  def value(self, name: str, variables: Mapping[str, Any]) -> Any:
    """What a variable that it sets is at the end."""
    return self._run(variables)[1].get(name)


@functools.lru_cache(maxsize=4096)
def program(source: str) -> Program:
  """A template by its text, looked through once.

  Raises:
    Refused: it holds something that is not allowed.
  """
  return Program(source)


def expression(source: str) -> Program:
  """A Jinja expression as a template that sets `result`."""
  return program(f'{{% set result = {source} %}}')


def refusal(error: Refused, where: str) -> UserError:
  """The error that a user sees."""
  return UserError(error.what, where=where, got=error.got, expected=error.expected or None)
