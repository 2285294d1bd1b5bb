"""Training a part of the parameters: which part, what the rest is, and how to tell it again.

A checkpoint holds what is trained. The rest is read, or drawn, again; `model.json` says from
what, and a fingerprint of every number of it refuses another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanjax import errors, partitioning
from flanjax.input import remote
from flanjax.interop import layout, safetensors
from flanjax.models import lora, t5
from flanjax.training.restoring import Restoring
from flanjax.training.state import merge, split

DTYPES = ('float32', 'bfloat16')
_SHOWN = 8

Predicate = Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Freezing:
  """Which parameters are trained.

  Args:
    trainable: a regular expression that the whole name of a parameter must match, such as
      'decoder/.*'; None: the adapters (LoRA, soft prompt) of a model that has any, else all.
    frozen_dtype: in which the others are held: 'float32', or 'bfloat16' in half the memory.
  """

  trainable: str | None = None
  frozen_dtype: str = 'float32'

  def __post_init__(self):
    if self.frozen_dtype not in DTYPES:
      raise errors.UserError('frozen_dtype not supported', where='Freezing',
                             got=repr(self.frozen_dtype), expected=' or '.join(DTYPES))
    try:
      re.compile(self.trainable or '')
    except (re.error, TypeError) as error:
      raise errors.UserError('trainable is no regular expression', where='Freezing',
                             got=repr(self.trainable), hint=str(error)) from error

  def pattern(self, model: Any) -> str:
    """The expression that the names of trained parameters match; UserError when none does."""
    config = getattr(model, 'config', None)
    pattern = self.trainable or getattr(config, 'adapters', None) or '.*'
    if isinstance(config, t5.T5Config):
      divide(layout.shapes(config), pattern)
    return pattern


def predicate(pattern: str) -> Predicate:
  """Whether a name matches `pattern` as a whole."""
  expression = re.compile(pattern)
  return lambda name: expression.fullmatch(name) is not None


def divide(params: Mapping[str, Any], pattern: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """-> the parameters that are trained, and the others; UserError when none is trained."""
  trained, frozen = split(params, predicate(pattern))
  if not trained:
    names = (re.sub(r'layers_\d+', 'layers_0', name) for name in safetensors.flatten(params))
    known = list(dict.fromkeys(names))
    raise errors.UserError(
        'no parameter matches, so that none would be trained', where='Freezing.trainable',
        got=repr(pattern), expected='an expression for some of '
        + ', '.join([*known[:_SHOWN], *known[_SHOWN:][-_SHOWN:]]))
  return trained, frozen


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
  """-> uint32 [2]: sums, modulo 2^32, of every number mixed with its place in the array.

  Integer sums do not depend on their order, and so not on how the array lies on a mesh.
  """
  place = jnp.uint32(0)
  for axis, size in enumerate(x.shape):
    place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
  sums = []
  for salt in (0x9E3779B9, 0x85EBCA6B):
    # The finalizer of MurmurHash3 (Appleby): every bit of its input moves every bit out.
    mixed = bits ^ (place * jnp.uint32(salt) + jnp.uint32(salt))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    sums.append(jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32))
  return jnp.stack(sums)


def _digest(checksums: Mapping[str, tuple]) -> str:
  lines = (f'{name} {shape} {list(map(int, sums))}\n'
           for name, (shape, sums) in sorted(checksums.items()))
  return hashlib.sha256(''.join(lines).encode()).hexdigest()[:16]


def fingerprint(params: Mapping[str, Any]) -> str:
  """Tells trees of float32 or narrower apart by names, shapes and every number.

  It is the same for arrays of numpy and those on any mesh. It guards against mistakes, not
  against somebody who means to deceive.
  """
  flat = safetensors.flatten(params)
  return _digest({name: (tuple(x.shape), np.asarray(_checksum(x))) for name, x in flat.items()})


def hold(
    params: Mapping[str, Any], dtype: str, shardings: Any = None
) -> tuple[dict[str, Any], str]:
  """-> the parameters in `dtype`, and the fingerprint that they had before.

  One array at a time, so that two copies of the whole are never there.

  Args:
    params: arrays; those of numpy are put on the mesh.
    dtype: of the result.
    shardings: of the result; None: arrays stay where they are.
  """
  flat = safetensors.flatten(params)
  where = safetensors.flatten(shardings) if shardings is not None else {}
  # Else the caller's tree would keep what is replaced here.
  del params
  checksums = {}
  for name in list(flat):
    x = flat.pop(name)
    if not isinstance(x, jax.Array) and name in where:
      x = partitioning.put(np.asarray(x, np.float32), where[name])
    checksums[name] = (tuple(x.shape), np.asarray(_checksum(x)))
    flat[name] = x.astype(dtype)
  return safetensors.unflatten(flat), _digest(checksums)


def _whole(
    model: Any, trains: Predicate, seed: int, base: Any, shardings: Any = None
) -> dict[str, Any]:
  """-> the frozen parameters: those of `base`, and drawn ones where it has none."""
  known = _names(base)
  names = safetensors.flatten(model.param_shapes())
  missing = lambda name: not trains(name) and name not in known
  frozen = split(base or {}, trains)[1]
  if not any(map(missing, names)):
    return frozen
  where = None if shardings is None else split(shardings, missing)[0]
  draw = lambda: split(model.init(jax.random.key(seed)), missing)[0]
  return merge(jax.jit(draw, out_shardings=where)(), frozen)


def start_frozen(
    model: Any, trains: Predicate, shardings: Any, seed: int, base: Any, dtype: str
) -> tuple[dict[str, Any], str]:
  """-> the parameters that are not trained, on the mesh, and their fingerprint.

  Args:
    model: has `init`.
    trains: tells the names of those that are.
    shardings: those of the frozen ones.
    seed: what they are drawn from, where there is no base.
    base: the initial parameters, or None.
    dtype: in which they are held.
  """
  if not shardings:
    return {}, ''
  return hold(_whole(model, trains, seed, base, shardings), dtype, shardings)


def start_trained(model: Any, trains: Predicate, shardings: Any, seed: int, base: Any) -> Any:
  """-> the parameters that are trained, on the mesh: those of `base`, or else drawn.

  Args: as `start_frozen`.
  """
  known = _names(base)
  missing = lambda name: trains(name) and name not in known
  given = split(base or {}, trains)[0]
  params = partitioning.put(given, split(shardings, lambda name: name in known)[0])
  wanted = split(shardings, missing)[0]
  if not wanted:
    return params
  # A soft prompt begins at embeddings of the base.
  tokens = {'base': {'token_embedder': base['token_embedder']}} if (
      'prompt/embedding' in safetensors.flatten(wanted) and base) else {}
  draw = lambda tokens: split(model.init(jax.random.key(seed), **tokens), missing)[0]
  return merge(params, jax.jit(draw, out_shardings=wanted)(tokens))


def check_same(where: Any, got: str, expected: str) -> None:
  """UserError unless a run goes on with the frozen parameters that it began with."""
  if got != expected:
    raise errors.UserError(
        'this run was trained on other frozen parameters', where=str(where),
        got=f'fingerprint {got}' if got else 'none', expected=expected or 'none',
        hint='INITIAL_CHECKPOINT_PATH, RANDOM_SEED and TRAINABLE must stay as they were, '
             'or MODEL_DIR be another')


def _names(tree: Any) -> set[str]:
  return set(safetensors.flatten(tree)) if tree else set()


def complete(
    params: Mapping[str, Any], path: remote.AnyPath, merged: bool,
    load: Callable[[str], tuple[dict[str, Any], int]],
) -> dict[str, Any]:
  """-> the whole model of which `params` is what a run trained.

  Args:
    params: of a checkpoint or a file.
    path: where they lie, in or beside a folder with model.json.
    merged: whether LoRA's factors are folded into their kernels.
    load: reads the base, given its path.

  Raises:
    UserError: the base is gone, or is another than that which was trained upon.
  """
  folder = next((p for p in [path, *path.parents][:4] if (p / 'model.json').is_file()), None)
  factors = any(name.endswith('/lora_a') for name in safetensors.flatten(params))
  if folder is None:
    if factors:
      raise errors.UserError('there is no model.json in or above these adapters', where=str(path))
    return dict(params)
  record = json.loads((folder / 'model.json').read_text()).get('frozen')
  if record and all(map(predicate(record['trainable']), safetensors.flatten(params))):
    params = merge(params, _base(folder, record, load))
  if factors and merged:
    params = lora.merge(params, t5.from_folder(folder).config.lora.scale)
  return dict(params)


def _base(
    folder: remote.AnyPath, record: Mapping[str, Any],
    load: Callable[[str], tuple[dict[str, Any], int]],
) -> dict[str, Any]:
  """The frozen parameters that a run's model.json tells of, as numpy arrays."""
  path = None if record['drawn'] else record['base'] or 'a tree in memory'
  if path is not None and not remote.resolved(path).exists():
    raise errors.UserError('the base of these adapters is not there', where=str(folder),
                           got=path, hint='put it back, or change the path in model.json')
  model, base = t5.from_folder(folder), {}
  if path is not None:
    base, _ = Restoring(**record['restoring']).choose(
        load(path)[0], model.param_shapes(), predicate(model.config.adapters or ''))
  frozen = _whole(model, predicate(record['trainable']), record['seed'], base)
  if (got := fingerprint(frozen)) != record['fingerprint']:
    raise errors.UserError(
        'the base of these adapters is another than they were trained on', where=str(folder),
        got=f'{path or "drawn parameters"}, fingerprint {got}', expected=record['fingerprint'],
        hint='drawn parameters differ from one kind of device to another' if path is None
        else 'was it trained further, or converted again?')
  # As they were held: it is to these that the adapters were fitted.
  return jax.tree.map(
      lambda x: np.asarray(np.asarray(x).astype(jnp.dtype(record['dtype'])), np.float32), frozen)
