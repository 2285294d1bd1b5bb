"""The filters, tests, methods, functions and operators of templates: those listed, and counted.

Most are Jinja's and Python's own behind a counter. Those that make much of little (join, replace,
`*`, range) are counted before they run; `choice` picks by the text of template and example.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests
from jinja2.utils import Namespace

from flanjax.data.template_libraries.jinja_allowance import (
    SEQUENCES, Refused, current, made, read, spend,
)

_MAX_RANGE_END = 10**9
_MAX_BITS = 64


def binary(operator: str, left: Any, right: Any) -> Any:
  """`left operator right`, where both are numbers, or texts or lists of a fair size."""
  numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
  if numbers:
    return _arithmetic(operator, left, right)
  what = f'the operator {operator}'
  if operator == '+' and type(left) is type(right) and type(left) in (str, *SEQUENCES):
    spend(len(left) + len(right), what)
    return left + right if isinstance(left, str) else read(left + right, what)
  if operator == '*' and isinstance(left, int):
    left, right = right, left
  if operator == '*' and type(left) in (str, *SEQUENCES) and isinstance(right, int):
    spend(len(left) * max(right, 0), what)
    return left * right if isinstance(left, str) else read(left * right, what)
  for value in (left, right):
    if isinstance(value, jinja2.Undefined):
      value._fail_with_undefined_error()
  kinds = f'a {type(left).__name__} and a {type(right).__name__}'
  raise Refused(f'{what} on {kinds}', 'numbers, or + and * on texts and lists')


def _arithmetic(operator: str, left: float, right: float) -> float:
  bits = [v.bit_length() if isinstance(v, int) else 1 for v in (left, right)]
  size = sum(bits) if operator == '*' else max(bits)
  if operator == '**' and bits[0] > 1:
    size = bits[0] * max(right, 1)
  if size > _MAX_BITS:
    raise Refused(f'the operator {operator} on large numbers', f'at most {_MAX_BITS} bits')
  done = {
      '+': lambda: left + right, '-': lambda: left - right, '*': lambda: left * right,
      '/': lambda: left / right, '//': lambda: left // right, '%': lambda: left % right,
      '**': lambda: left**right,
  }
  return done[operator]()


def _join(values: Any, separator: str = '', what: str = 'join') -> str:
  texts = [value if isinstance(value, str) else str(value) for value in values]
  spend(sum(map(len, texts)) + len(separator) * len(texts), what)
  return separator.join(texts)


def _replace(value: str, old: str, new: str, count: int = -1) -> str:
  found = value.count(old) if count is None or count < 0 else min(value.count(old), count)
  spend(len(value) + found * len(new), 'replace')
  return value.replace(old, new, -1 if count is None else count)


def _strip(value: str, characters: str | None = None, strip: Callable = str.strip) -> str:
  spend(len(value) * len(characters or '') // 32, 'strip')
  return strip(value, characters)


def _pick(context: Any, items: Any) -> Any:
  """An item, always the same for the same template and example; none of an empty list."""
  items, now = list(items), current()
  if not items:
    return context.environment.undefined('No choice is left.')
  now.draws += 1
  digest = hashlib.sha256(f'{now.seed} {now.draws}'.encode()).digest()
  return items[int.from_bytes(digest[:8], 'big') % len(items)]


def _most_frequent(items: Any) -> list[Any] | None:
  """Every item that is there as often as the commonest one."""
  counts = collections.Counter(items)
  return [k for k, n in counts.items() if n == max(counts.values())] or None


def _round(value: float, precision: int = 0, method: str = 'common') -> float:
  return jinja_filters.do_round(float(value), max(-20, min(precision, 20)), method)


def _jinja_filter(name: str) -> Callable[..., Any]:
  def call(context, *args, **kwargs):
    function = jinja_filters.FILTERS[name]
    wanted = getattr(getattr(function, 'jinja_pass_arg', None), 'name', None)
    first = {None: (), 'context': (context,), 'eval_context': (context.eval_ctx,),
             'environment': (context.environment,)}[wanted]
    return function(*first, *args, **kwargs)

  return call


def _without_context(function: Callable[..., Any]) -> Callable[..., Any]:
  return lambda context, *args, **kwargs: function(*args, **kwargs)


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
  # A filter that sees the context is never called while a template is compiled.
  @jinja2.pass_context
  def call(context, *args, **kwargs):
    for value in (*args, *kwargs.values()):
      read(value, name)
    return made(function(context, *args, **kwargs), name)

  return call


_OF_JINJA = (
    'abs', 'capitalize', 'count', 'd', 'default', 'first', 'float', 'int', 'last', 'length', 'list',
    'lower', 'map', 'max', 'min', 'reject', 'rejectattr', 'select', 'selectattr', 'sort', 'string',
    'unique', 'upper',
)
_OF_OURS = {
    'choice': _pick,
    'random': _pick,
    'join': _without_context(lambda values, d='': _join(values, str(d))),
    'most_frequent': _without_context(_most_frequent),
    'replace': _without_context(
        lambda s, old, new, count=None: _replace(str(s), str(old), str(new), count)),
    'round': _without_context(_round),
    'trim': _without_context(lambda value, chars=None: _strip(str(value), chars)),
}
FILTERS = {name: _filter(name, function)
           for name, function in ({n: _jinja_filter(n) for n in _OF_JINJA} | _OF_OURS).items()}
TESTS = {
    name: lambda *args, _name=name: jinja_tests.TESTS[_name](*[read(a, _name) for a in args])
    for name in (
        'defined', 'undefined', 'none', 'string', 'number', 'boolean', 'true', 'false', 'odd',
        'even', 'eq', 'equalto', '==', 'ne', '!=', 'gt', 'greaterthan', '>', 'lt', 'lessthan',
        '<', 'ge', '>=', 'le', '<=', 'in',
    )
}


def _append(items: list, item: Any) -> None:
  items.append(read(item, 'append', never=items))


def _update(target: dict, other: Mapping[Any, Any]) -> None:
  target.update(read(dict(other), 'update', never=target))


METHODS: dict[tuple[type, str], Callable[..., Any]] = {
    (str, 'join'): lambda s, values: _join(values, s),
    (str, 'lstrip'): lambda s, chars=None: _strip(s, chars, str.lstrip),
    (str, 'replace'): _replace,
    (str, 'rstrip'): lambda s, chars=None: _strip(s, chars, str.rstrip),
    (str, 'strip'): _strip,
    **{(str, name): getattr(str, name) for name in (
        'capitalize', 'count', 'endswith', 'find', 'index', 'lower', 'split', 'startswith',
        'title', 'upper')},
    (list, 'append'): _append,
    **{(list, name): getattr(list, name) for name in ('count', 'index', 'pop')},
    (dict, 'update'): _update,
    **{(dict, name): getattr(dict, name) for name in ('get', 'pop')},
    (dict, 'items'): lambda d: list(d.items()),
    (dict, 'keys'): list,
    (dict, 'values'): lambda d: list(d.values()),
}
METHOD_NAMES = frozenset(name for _, name in METHODS)
# What `loop` tells; its methods are not to be called.
LOOP_ATTRIBUTES = frozenset({
    'index', 'index0', 'revindex', 'revindex0', 'first', 'last', 'length', 'previtem', 'nextitem',
})


class Function:
  """The only kind of object that a template can call."""

  def __init__(self, name: str, function: Callable[..., Any], *bound: Any):
    self._name, self._function, self._bound = name, function, bound

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    for value in (*self._bound, *args, *kwargs.values()):
      read(value, self._name)
    result = self._function(*self._bound, *args, **kwargs)
    return result if isinstance(result, Namespace) else made(result, self._name)


def _range(*ends: int) -> list[int]:
  if any(abs(end) > _MAX_RANGE_END for end in ends):
    raise Refused('range of large numbers', f'at most {_MAX_RANGE_END:,}')
  numbers = range(*ends)
  spend(len(numbers), 'range')
  return list(numbers)


def _zip(*lists: Any) -> list[tuple[Any, ...]]:
  spend(len(lists) * min(map(len, lists), default=0), 'zip')
  return list(zip(*lists))


GLOBALS = {
    'namespace': Function('namespace', Namespace),
    'range': Function('range', _range),
    'zip': Function('zip', _zip),
}
