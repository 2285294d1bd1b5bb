"""promptsource's files: YAML that holds the templates of one dataset.

  dataset: super_glue
  subset: rte
  templates:
    2b52a83c-...: !Template
      name: does it follow
      jinja: '{{premise}} Does it follow that {{hypothesis}}? ||| {{ answer_choices[label] }}'
      answer_choices: Yes ||| No
      metadata: !TemplateMetadata
        original_task: true

The YAML may hold texts, lists and dictionaries under promptsource's two tags, and nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from flanjax.data.template_libraries import library
from flanjax.errors import UserError

FILE_NAME = 'templates.yaml'
_MAX_DEPTH = 10
_MAX_FILES = 5_000
_MAX_TEMPLATES = 200
_ROOT = 'tag:yaml.org,2002:'


class _Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
  """Texts, lists, dictionaries, null, true and false; promptsource's tags are dictionaries."""

  yaml_implicit_resolvers: dict[str, Any] = {}
  yaml_constructors: dict[str | None, Any] = {
      f'{_ROOT}{kind}': yaml.SafeLoader.yaml_constructors[f'{_ROOT}{kind}']
      for kind in ('null', 'bool', 'str', 'seq', 'map')
  } | {None: yaml.SafeLoader.yaml_constructors[None]}


_Loader.add_implicit_resolver(f'{_ROOT}bool', re.compile(r'(?:true|false)\Z', re.I), list('tfTF'))
_Loader.add_implicit_resolver(
    f'{_ROOT}null', re.compile(r'(?:~|null|)\Z', re.I), ['~', 'n', 'N', ''])
for _tag in ('!Template', '!TemplateMetadata'):
  _Loader.add_constructor(_tag, lambda loader, node: loader.construct_mapping(node, deep=True))


@dataclasses.dataclass(frozen=True)
class PromptSet:
  """The templates of a file.

  Attributes:
    name: 'dataset/subset', or 'dataset' without subsets.
    path: the file.
    entries: the templates, as plain data.
  """

  name: str
  path: str
  entries: tuple[Mapping[str, Any], ...]


def read_set(path: str | os.PathLike[str]) -> PromptSet:
  """Reads one file; its Jinja is not looked at yet.

  Raises:
    UserError: it cannot be read, or is anything else than a file of templates.
  """
  path = pathlib.Path(path).expanduser()
  text = library.read_text(path)
  try:
    _check_events(text, str(path))
    content = yaml.load(text, Loader=_Loader)
  except (yaml.YAMLError, RecursionError, ValueError, TypeError) as e:
    mark = getattr(e, 'problem_mark', None)
    raise UserError(
        'A library of templates is refused.',
        where=f'{path}:{mark.line + 1}' if mark else str(path),
        got=getattr(e, 'problem', None) or f'{type(e).__name__}: {e}',
        expected='YAML with the tags !Template and !TemplateMetadata') from e
  return _as_set(content, str(path))


def _check_events(text: str, path: str) -> None:
  """Refuses YAML that is deep, or small but long once its aliases are followed."""
  depth, anchored = 0, []
  for event in yaml.parse(text, Loader=_Loader):
    if isinstance(event, yaml.CollectionStartEvent):
      depth += 1
      if event.anchor:
        anchored.append(depth)
    elif isinstance(event, yaml.CollectionEndEvent):
      if anchored and anchored[-1] == depth:
        anchored.pop()
      depth -= 1
    if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent) and anchored:
      got = 'an alias within what an alias stands for' if anchored else 'nested too deeply'
      raise UserError('A library of templates is refused.',
                      where=f'{path}:{event.start_mark.line + 1}', got=got)


def _as_set(content: Any, path: str) -> PromptSet:
  if not isinstance(content, dict) or not isinstance(content.get('templates'), dict):
    raise UserError('A file holds no promptsource templates.', where=path,
                    expected='dataset: ..., subset: ..., templates: ...')
  parts = [content.get('dataset'), content.get('subset')]
  if not isinstance(parts[0], str) or not isinstance(parts[1], (str, type(None))):
    raise UserError('A file of templates does not tell its dataset.', where=path,
                    got=f'dataset {parts[0]!r}, subset {parts[1]!r}')
  entries = tuple(content['templates'].values())
  if len(entries) > _MAX_TEMPLATES:
    raise UserError('A file holds too many templates.', where=path, got=len(entries),
                    expected=f'at most {_MAX_TEMPLATES}')
  for entry in entries:
    _check_entry(entry, path)
  return PromptSet('/'.join(p for p in parts if p), path, entries)


def _check_entry(entry: Any, path: str) -> None:
  """Refuses a template of which a part is missing or of another kind."""
  if not isinstance(entry, dict):
    raise UserError('A template is no !Template.', where=path, got=repr(entry)[:80])
  kinds = {'name': str, 'jinja': str, 'answer_choices': (str, type(None)),
           'metadata': (dict, type(None))}
  for key, kind in kinds.items():
    if not isinstance(entry.get(key), kind):
      raise UserError(f"The '{key}' of a template is missing or of another kind.",
                      where=f"{path}, template {entry.get('name')!r}",
                      got=repr(entry.get(key))[:80])


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
  """The files of a library: itself, or those in a folder.

  Raises:
    UserError: the folder holds none, or far too many.
  """
  if not path.is_dir():
    return [path]
  found = sorted(p for p in path.rglob(FILE_NAME) if p.is_file())[: _MAX_FILES + 1]
  if not 0 < len(found) <= _MAX_FILES:
    raise UserError('A folder is no library of templates.', where=str(path),
                    got=f'{len(found)} files {FILE_NAME}',
                    expected=f'one for each dataset, as DATASET/SUBSET/{FILE_NAME}')
  return found
