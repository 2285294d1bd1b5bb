"""Gin configuration: shipped files found anywhere, T5X's flags, and errors a user can act on.

Files are read in the order given and the command line's bindings last; later ones win. A file's
`include` and `--gin_file` are looked up in the current folder, the search paths and the
package's own `gin/`, so `models/t5_1_1/tiny.gin` works from everywhere.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
from gin import config_parser

from flanjax.errors import UsageError, UserError, nearest

_DYNAMIC = 'from __gin__ import dynamic_registration'
_FLAG = re.compile(r'--gin\.([^=]+)=(.*)\Z', re.DOTALL)
_REQUIRED = 'gin.REQUIRED'


def root() -> pathlib.Path:
  """The folder of the shipped gin files, in a checkout or in an installed package."""
  package = pathlib.Path(__file__).resolve().parent
  for folder in (package / 'gin', package.parent / 'gin'):
    if (folder / 'models').is_dir():
      return folder
  raise UserError('The shipped gin files are missing.', where=str(package),
                  hint='install flanjax again')


def shipped() -> list[str]:
  """Names of the shipped files, as `--gin_file` takes them; those for T5X's programs apart."""
  names = (p.relative_to(root()).as_posix() for p in root().rglob('*.gin'))
  return sorted(name for name in names if not name.startswith('t5x/'))


def find(
    name: str, search_paths: Sequence[str] = (), included_by: str | None = None
) -> pathlib.Path:
  """The file that `name` means.

  Raises:
    UserError: there is none; the shipped ones are named.
  """
  folders = [pathlib.Path(), *map(pathlib.Path, search_paths), root()]
  for folder in folders:
    path = folder / os.path.expanduser(name)
    if path.is_file():
      return path.resolve()
  looked = dict.fromkeys(str(f.resolve()) for f in folders)
  raise UserError(f"There is no gin file '{name}'.", where=included_by,
                  expected=f'a file in {", ".join(looked)}', hint=nearest(name, shipped()))


def rewrite_flags(argv: Sequence[str]) -> list[str]:
  """Turns T5X's `--gin.NAME=VALUE` into `--gin_bindings=NAME = VALUE`.

  >>> rewrite_flags(['train', '--gin.TRAIN_STEPS=10'])
  ['train', '--gin_bindings=TRAIN_STEPS = 10']
  """
  out = []
  for word in argv:
    match = _FLAG.match(word)
    if word.startswith('--gin.') and not match:
      raise UsageError(f"'{word}' gives no value.", expected=f'{word}=VALUE',
                       hint="strings need quotes of their own: --gin.NAME=\"'text'\"")
    out.append(f'--gin_bindings={match[1]} = {match[2]}' if match else word)
  return out


@dataclasses.dataclass(frozen=True)
class _Macro:
  name: str


class _Delegate(config_parser.ParserDelegate):
  """Reads statements without resolving what they name."""

  def __init__(self):
    self.macros: set[str] = set()
    self.references: set[str] = set()

  def configurable_reference(self, scoped_configurable_name, evaluate):
    self.references.add(scoped_configurable_name.rpartition('/')[2])
    return scoped_configurable_name

  def macro(self, macro_name):
    self.macros.add(macro_name)
    return _Macro(macro_name)


class _Named(io.StringIO):
  """Text that says in gin's errors from which file it is."""

  def __init__(self, text: str, name: str):
    super().__init__(text)
    self.name = name


@dataclasses.dataclass
class _Seen:
  """What the files read so far import, assign and use."""

  imports: dict[str, config_parser.ImportStatement] = dataclasses.field(default_factory=dict)
  values: dict[str, Any] = dataclasses.field(default_factory=dict)
  used: set[str] = dataclasses.field(default_factory=set)
  dynamic: bool = False

  def add(self, statements, delegate: _Delegate) -> None:
    self.used |= delegate.macros
    for s in statements:
      if isinstance(s, config_parser.ImportStatement):
        if s.module.startswith('__gin__.'):
          self.dynamic = True
        else:
          self.imports[s.bound_name()] = s
      elif isinstance(s, config_parser.BindingStatement) and not s.arg_name:
        self.values[f'{s.scope}/{s.selector}' if s.scope else s.selector] = s.value


@dataclasses.dataclass(frozen=True)
class Config:
  """A configuration that gin has taken in.

  Attributes:
    files: the files read, includes among them, in order.
    modules: modules that the files import, those of flanjax apart; a T5X user's file imports
      the module that registers the tasks.
  """

  files: tuple[str, ...]
  modules: tuple[str, ...]


def load(
    files: Iterable[str], bindings: Iterable[str] = (), search_paths: Sequence[str] = (),
    fallbacks: Mapping[str, str] | None = None,
) -> Config:
  """Reads gin files and bindings into gin, after clearing what was there.

  Args:
    files: in this order.
    bindings: after them.
    search_paths: folders to look for files in.
    fallbacks: macros, and the gin text of what they are where nothing gives them a value.

  Raises:
    UserError: a file, import, name or value is not understood, or a setting has no value.
  """
  gin.clear_config()
  seen, read = _Seen(), []
  for name in files:
    _load_file(find(name, search_paths), search_paths, seen, read, ())
  for binding in bindings:
    _load_binding(binding, seen)
  for name, value in (fallbacks or {}).items():
    if name in seen.used and seen.values.get(name) in (None, _Macro(_REQUIRED)):
      _load_binding(f'{name} = {value}', seen)
  _check_complete(seen)
  try:
    gin.finalize()
  except ValueError as e:
    raise _explain(e, seen, 'gin configuration') from e
  modules = [s.module for s in seen.imports.values() if s.module.split('.')[0] != 'flanjax']
  return Config(tuple(read), tuple(dict.fromkeys(modules)))


def macro(name: str, default: Any = None) -> Any:
  """The literal value of a macro, or `default` when none is set."""
  try:
    return gin.query_parameter(f'{name}/gin.macro.value')
  except ValueError:
    return default


def _walk(
    path: pathlib.Path, search_paths: Sequence[str] = ()
) -> Iterator[tuple[Any, _Delegate]]:
  """The statements of a file and its includes; nothing is imported or given to gin."""
  statements, delegate = _statements(_Named(path.read_text(), str(path)))
  for s in statements:
    if isinstance(s, config_parser.IncludeStatement):
      yield from _walk(find(s.filename, search_paths), search_paths)
    else:
      yield s, delegate


def settings_of(
    files: Iterable[str], bindings: Iterable[str] = (), search_paths: Sequence[str] = ()
) -> dict[str, Any]:
  """What files and bindings set, as plain data: 'NAME' or 'scope/selector.parameter' -> value.

  Macros are replaced by their values; what is constructed stands as the name of its class.
  """
  found: dict[str, Any] = {}
  statements = [s for file in files for s, _ in _walk(find(file, search_paths), search_paths)]
  statements += [s for binding in bindings for s in _statements(binding)[0]]
  for s in statements:
    if isinstance(s, config_parser.BindingStatement):
      name = f'{s.scope}/{s.selector}' if s.scope else s.selector
      found[f'{name}.{s.arg_name}' if s.arg_name else name] = s.value
  return {name: _resolved(value, found) for name, value in found.items()}


def _resolved(value: Any, macros: Mapping[str, Any], depth: int = 0) -> Any:
  if depth > 50:
    raise UserError('Gin macros name each other in a circle.', got=value)
  if isinstance(value, _Macro):
    return _resolved(macros.get(value.name), macros, depth + 1)
  if isinstance(value, dict):
    return {str(k): _resolved(v, macros, depth + 1) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_resolved(v, macros, depth + 1) for v in value]
  return value


def literals(file: str) -> dict[str, Any]:
  """The macros that a file and its includes set to plain values."""
  values = {s.selector: s.value for s, _ in _walk(find(file))
            if isinstance(s, config_parser.BindingStatement) and not s.arg_name}
  return {k: v for k, v in values.items() if not isinstance(v, _Macro)}


def names_used(files: Iterable[str]) -> set[str]:
  """The macros that files and their includes set or use."""
  names = set()
  for s, delegate in (pair for file in files for pair in _walk(find(file))):
    names |= delegate.macros
    if isinstance(s, config_parser.BindingStatement) and not s.arg_name:
      names.add(s.selector)
  return names


def set_macro(name: str, value: Any) -> None:
  """Gives a macro a value, as a binding on the command line would."""
  with gin.unlock_config():
    gin.bind_parameter(f'{name}/gin.macro.value', value)


def construct(cls: Callable[..., Any]) -> Any:
  """Calls a class or function with what gin has bound to it.

  Raises:
    UserError: a parameter is missing or a value cannot be used.
  """
  return call(gin.get_configurable(cls))


def call(configurable: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
  """Calls what gin gave, as `construct` does."""
  try:
    return configurable(*args, **kwargs)
  except UserError:
    raise
  except Exception as e:  # Constructors of users raise anything; gin adds where it was bound.
    name = getattr(configurable, '__name__', str(configurable))
    inner = re.findall(r"In call to configurable '(\w+)'", str(e))
    raise _explain(e, _Seen(), f'gin configuration of {inner[0] if inner else name}') from e


def _load_file(
    path: pathlib.Path, search_paths: Sequence[str], seen: _Seen, read: list[str],
    including: tuple[pathlib.Path, ...],
) -> None:
  """Gives a file to gin, in pieces between its includes, which are looked up our way."""
  if path in including:
    raise UserError('A gin file includes itself.', where=str(path),
                    got=' -> '.join(p.name for p in (*including, path)))
  read.append(str(path))
  try:
    lines = path.read_text().splitlines(keepends=True)
  except UnicodeDecodeError as e:
    raise UserError('A gin file is not text.', where=str(path), got=e) from e
  statements, delegate = _statements(_Named(''.join(lines), str(path)))
  includes = {s.location.line_num - 1: s.filename for s in statements
              if isinstance(s, config_parser.IncludeStatement)}
  imports = {s.location.line_num - 1 for s in statements
             if isinstance(s, config_parser.ImportStatement)}
  start = 0
  for end in [*sorted(includes), len(lines)]:
    # The imports before a piece are repeated, every line at its own number.
    piece = [line if start <= i or i in imports else '\n' for i, line in enumerate(lines[:end])]
    _give(_Named(''.join(piece), str(path)), seen)
    if end in includes:
      _load_file(find(includes[end], search_paths, f'{path}:{end + 1}'), search_paths, seen, read,
                 (*including, path))
    start = end + 1
  seen.add(statements, delegate)


def _statements(text: io.StringIO | str) -> tuple[list[Any], _Delegate]:
  delegate = _Delegate()
  try:
    return list(config_parser.ConfigParser(text, delegate)), delegate
  except SyntaxError as e:
    raise _syntax_error(e) from e
  except Exception as e:  # The tokenizer raises its own errors for open brackets and quotes.
    raise UserError('A gin file or binding cannot be parsed.', where=_where(text), got=e) from e


def _where(text: io.StringIO | str) -> str:
  return getattr(text, 'name', None) or f'--gin_bindings={str(text).strip()}'


def _syntax_error(e: SyntaxError) -> UserError:
  line = (e.text or '').strip()
  where = f'{e.filename}:{e.lineno}' if e.filename else f'--gin_bindings={line}'
  return UserError(f'A gin file or binding cannot be parsed: {e.msg}', where=where, got=line,
                   hint="strings need quotes of their own: --gin.NAME=\"'text'\"")


def _load_binding(binding: str, seen: _Seen) -> None:
  statements, delegate = _statements(binding)
  known = set(seen.values) | seen.used | delegate.macros
  for s in statements:
    if isinstance(s, config_parser.BindingStatement) and not s.arg_name:
      name = f'{s.scope}/{s.selector}' if s.scope else s.selector
      if name not in known:
        raise UserError(f"No gin file has a setting '{name}'.", where=f'--gin.{binding}',
                        hint=nearest(name, known))
  names = [s.selector for s in statements if getattr(s, 'arg_name', None)]
  first = {name.split('.')[0] for name in (*names, *delegate.references)}
  # Without imports gin looks a short name up among what the files have registered already.
  dynamic = seen.dynamic and first <= {*seen.imports, 'gin'}
  prelude = [_DYNAMIC, *(s.format() for s in seen.imports.values())] if dynamic else []
  seen.add(statements, delegate)
  _give('\n'.join([*prelude, binding]), seen, f'--gin.{binding}')


def _give(text: io.StringIO | str, seen: _Seen, where: str | None = None) -> None:
  """gin.parse_config with its errors made into UserErrors."""
  try:
    gin.parse_config(text)
  except UserError:
    raise
  except SyntaxError as e:
    raise _syntax_error(e) from e
  except Exception as e:  # gin raises what an imported module raises, and ValueErrors of its own.
    raise _explain(e, seen, where) from e


def _explain(e: Exception, seen: _Seen, where: str | None) -> UserError:
  message, _, location = str(e).partition('\n  In ')
  where = where or ' '.join(location.split())
  message = message.strip().strip('"')
  imports = {name: s.module for name, s in seen.imports.items()}
  found = re.search(r"Configurable '(.+)' doesn't have a parameter named '(.+)'", message)
  if found:
    known = _parameters(found[1], imports)
    return UserError(f"{found[1]} has no setting '{found[2]}'.", where=where,
                     hint=nearest(found[2], known))
  found = re.search(r"Couldn't resolve selector (\S+); .* has no attribute (\w+)", message)
  if found:
    owner = _resolve(found[1].rpartition('.')[0], imports)
    known = [n for n, v in vars(owner).items() if callable(v) and n[0] != '_'] if owner else ()
    return UserError(f"There is no '{found[1]}'.", where=where, hint=nearest(found[2], known))
  found = re.search(r"'(\w+)' was not provided by an import|No configurable matching.*?'@?([\w.]+)",
                    message)
  if found:
    name = (found[1] or found[2]).split('.')[0]
    return UserError(f"No gin file imports '{name}'.", where=where, hint=nearest(name, imports))
  return UserError('A gin file or binding cannot be used.', where=where,
                   got=f'{type(e).__name__}: {message}')


def _resolve(selector: str, imports: dict[str, str]) -> Any:
  """The module, class or function that a dotted name means, or None."""
  first, *rest = selector.split('.')
  try:
    value = importlib.import_module(imports.get(first, first))
    for name in rest:
      value = getattr(value, name)
  except (ImportError, AttributeError):
    return None
  return value


def _parameters(selector: str, imports: dict[str, str]) -> list[str]:
  value = _resolve(selector, imports)
  if value is None:
    try:
      value = gin.get_configurable(selector)
    except ValueError:
      return []
  return [p for p in inspect.signature(value).parameters if p != 'self']


def _check_complete(seen: _Seen) -> None:
  """Raises when a setting in use has no value, naming all of them."""
  missing = {n for n in seen.used if n not in seen.values and not n.startswith('gin.')}
  missing |= {n for n, v in seen.values.items() if v == _Macro(_REQUIRED)}
  if missing:
    example = ' '.join(f'--gin.{n}=...' for n in sorted(missing) if n != 'MODEL')
    model = 'MODEL comes from a model file: --gin_file=models/t5_1_1/small.gin. '
    raise UserError(
        f'{len(missing)} setting(s) have no value: {", ".join(sorted(missing))}.',
        where='gin configuration',
        hint=((model if 'MODEL' in missing else '') + (f'Give {example}' if example else '')).strip())


if __name__ == '__main__':
  # For the --gin_search_paths of T5X's programs.
  print(root())
