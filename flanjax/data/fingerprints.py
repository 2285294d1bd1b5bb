"""What the content of a prepared task depends on, as hashes that are the same in every process."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import os
import re
import textwrap
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from flanjax.data import specs, vocabularies
from flanjax.input import pieces

# Libraries whose functions count by their name.
_LIBRARIES = frozenset({
    'builtins', 'functools', 'numpy', 'seqio', 't5', 'tensorflow', 'tensorflow_datasets',
    'tensorflow_text',
})
_ADDRESS = re.compile(r' at 0x[0-9a-f]+')


def digest(value: Any) -> str:
  """Sha256 of plain data."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _Describer:
  """Turns functions and what they use into plain data.

  A function is its source without comments and docstrings, with its defaults, what it closes
  over, and the functions, classes and constants of its own top-level package that it names; a
  callable object or a bound method, its class and what the object holds. What lies in other
  packages counts by its name: a new version of them leaves prepared data as it is.
  """

  def __init__(self):
    self._seen: set[int] = set()

  def __call__(self, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
      return value
    if isinstance(value, bytes):
      return value.hex()
    if isinstance(value, tf.Tensor) and hasattr(value, 'numpy'):
      value = value.numpy()
    if isinstance(value, np.ndarray):
      return [str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, enum.Enum):
      return str(value)
    if isinstance(value, re.Pattern):
      return [value.pattern, value.flags]
    if isinstance(value, Mapping):
      return [[self(k), self(v)] for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))]
    if isinstance(value, (set, frozenset)):
      return sorted(json.dumps(self(v)) for v in value)
    if isinstance(value, (list, tuple)):
      return [self(v) for v in value]
    if isinstance(value, functools.partial):
      return [self(value.func), self(value.args), self(value.keywords)]
    if isinstance(value, types.MethodType):
      return [self(value.__func__), self._held(value.__self__)]
    if hasattr(value, '__wrapped__'):
      return self(value.__wrapped__)
    if isinstance(value, (types.FunctionType, type)):
      return self._code(value)
    if dataclasses.is_dataclass(value):
      return [type(value).__qualname__, {f.name: self(getattr(value, f.name))
                                         for f in dataclasses.fields(value)}]
    return self._held(value) if callable(value) else _name(value) or _name(type(value))

  def _held(self, value: Any) -> Any:
    """An object that is called, or of which a method is, with what it holds."""
    if isinstance(value, type):
      return self(value)
    library = _package(type(value)) in _LIBRARIES
    if id(value) in self._seen or library or not hasattr(value, '__dict__'):
      return _name(value) or _name(type(value))
    self._seen.add(id(value))
    return [self(type(value)), self(vars(value))]

  def _code(self, value: types.FunctionType | type) -> Any:
    failure = isinstance(value, type) and issubclass(value, BaseException)
    if id(value) in self._seen or failure or _package(value) in _LIBRARIES:
      return _name(value)
    self._seen.add(id(value))
    described = [_name(value), _source(value)]
    if isinstance(value, types.FunctionType):
      cells = _closure(value)
      described += [self(value.__defaults__), self(value.__kwdefaults__), self(cells)]
      described += [self._used(value.__code__, value.__globals__, _package(value))]
    else:
      functions = [f for f in vars(value).values() if isinstance(f, types.FunctionType)]
      described += [self._used(f.__code__, f.__globals__, _package(value)) for f in functions]
    return described

  def _used(self, code: types.CodeType, names: Mapping[str, Any], package: str) -> Any:
    """What the names in a function's code stand for."""
    used = {}
    for name in sorted(set(code.co_names)):
      value = names.get(name)
      if isinstance(value, types.ModuleType) and _of_package(value.__name__, package):
        members = [getattr(value, n, None) for n in sorted(set(code.co_names))]
        used[name] = [self(m) for m in members if _of_package(_module(m), package)]
      elif isinstance(value, types.ModuleType) or name not in names:
        continue
      elif _of_package(_module(value), package) or _is_plain(value):
        used[name] = self(value)
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [used, [self._used(c, names, package) for c in inner]]


def _closure(function: types.FunctionType) -> dict[str, Any]:
  cells = {}
  for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
    with contextlib.suppress(ValueError):  # A cell may not be filled yet.
      cells[name] = cell.cell_contents
  return cells


def _is_plain(value: Any) -> bool:
  plain = (bool, int, float, str, bytes, tuple, list, dict, frozenset, set, re.Pattern)
  return value is None or isinstance(value, plain)


def _module(value: Any) -> str:
  return getattr(value, '__module__', None) or type(value).__module__


def _of_package(module: str, package: str) -> bool:
  return module.partition('.')[0] == package


def _package(value: Any) -> str:
  return _module(value).partition('.')[0]


def _name(value: Any) -> str:
  name = getattr(value, '__qualname__', '')
  return f'{_module(value)}.{name}' if name else ''


@functools.lru_cache(maxsize=1_024)  # Tasks by the hundred name the same functions.
def _source(value: types.FunctionType | type) -> str:
  """Source without comments and docstrings; bytecode where there is no source."""
  try:
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
  except (OSError, TypeError, SyntaxError):
    return _bytecode(value.__code__) if hasattr(value, '__code__') else _name(value)
  for node in ast.walk(tree):
    body = getattr(node, 'body', None)
    first = body[0] if isinstance(body, list) and body else None
    if isinstance(first, ast.Expr) and isinstance(getattr(first.value, 'value', None), str):
      node.body = body[1:] or [ast.Pass()]
  return ast.unparse(tree)


def _bytecode(code: types.CodeType) -> str:
  inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
  # The order of a set is another one in every process.
  consts = [sorted(map(repr, c)) if isinstance(c, frozenset) else c
            for c in code.co_consts if not isinstance(c, types.CodeType)]
  return f'{code.co_code.hex()} {code.co_names} {consts} {[_bytecode(c) for c in inner]}'


def describe_code(*values: Any) -> Any:
  """Functions, and the data they are bound to, as plain data."""
  describe = _Describer()
  return [describe(v) for v in values]


def of_vocabulary(vocabulary: seqio.Vocabulary) -> tuple[str, str]:
  """Name and sha256 of a vocabulary."""
  if isinstance(vocabulary, vocabularies.SuiteVocabulary):
    return vocabulary.name, vocabularies.fingerprint(vocabulary.name)
  identity = [type(vocabulary).__name__, vocabulary.vocab_size]
  path = getattr(vocabulary, 'sentencepiece_model_file', None)
  if path is None:
    return type(vocabulary).__name__, digest(identity)
  with tf.io.gfile.GFile(path, 'rb') as f:
    return path, digest([*identity, hashlib.sha256(f.read()).hexdigest()])


def identity_of(vocabulary: seqio.Vocabulary) -> pieces.Identity:
  """Name and hashes of a vocabulary, by which a model knows it again."""
  name, digested = of_vocabulary(vocabulary)
  if isinstance(vocabulary, vocabularies.SuiteVocabulary):
    return vocabularies.identity(name)
  if type(vocabulary) is seqio.SentencePieceVocabulary:
    return pieces.Identity(name, digested, pieces.content_of(vocabulary.sp_model))
  plain = type(vocabulary) is seqio.ByteVocabulary and not vocabulary.extra_ids
  return pieces.Identity(name, digested, pieces.BYTES_FINGERPRINT if plain else '')


def of_source(source: seqio.DataSource, split: str) -> Any:
  """Which data a split of a source holds, as plain data.

  TFDS: name, version, size, and the parts of files that the split covers. Files: names and
  sizes. Functions: their code.
  """
  if isinstance(source, seqio.TfdsDataSource):
    loader = source.tfds_dataset
    name, data_dir = loader.get_split_params(split)
    builder = tfds.builder(name, data_dir=data_dir)
    parts = [[os.path.basename(f.filename), f.skip, f.take] for f in loader.files(split)]
    return [builder.info.full_name, int(builder.info.dataset_size), parts]
  if isinstance(source, seqio.FileDataSource):
    files = source.list_shards(split)
    return [[os.path.basename(f), tf.io.gfile.stat(f).length] for f in files]
  if isinstance(source, seqio.FunctionDataSource):
    return [describe_code(source._dataset_fn), source.num_input_examples(split)]
  return [_name(type(source)), _ADDRESS.sub('', repr(source)), source.num_input_examples(split)]


def of_task(task: seqio.Task, split: str) -> dict[str, str]:
  """Hashes of everything but lengths: 'spec', 'templates', 'source' and 'vocabulary'."""
  features = {
      side: [of_vocabulary(f.vocabulary)[1], f.add_eos, f.dtype.name]
      for side, f in task.output_features.items()
  }
  if not specs.is_task_name(task.name):
    steps = [p for p in task.preprocessors if not isinstance(p, seqio.CacheDatasetPlaceholder)]
    return {
        'spec': digest(describe_code(*steps)),
        'templates': '',
        'source': digest(of_source(task.source, split)),
        'vocabulary': digest(features),
    }
  parsed = specs.parse_task_name(task.name)
  spec = parsed.spec
  # Steps are partial functions over the spec and its source, which are described apart.
  steps = [getattr(p, 'func', p) for p in task.preprocessors]
  steps = [p for p in steps if not isinstance(p, seqio.CacheDatasetPlaceholder)]
  splits = [split, 'train'] if parsed.shots else [split]
  return {
      'spec': digest([
          describe_code(spec.fields, spec.filter_fn, *steps),
          [parsed.scoring, parsed.shots, parsed.balanced, list(parsed.template_ids)],
          spec.drop_empty,
      ]),
      'templates': digest([
          [t.inputs, t.targets, t.inverted, t.suffix] for t in parsed.templates
      ]),
      'source': digest([
          [of_source(spec.source, s) for s in splits],
          [task.num_input_examples(s) for s in splits],
      ]),
      'vocabulary': digest(features),
  }
