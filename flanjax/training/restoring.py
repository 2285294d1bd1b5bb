"""Which parameters of a checkpoint a new run begins with."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from flanjax import errors
from flanjax.interop import safetensors

_SHOWN = 5


def by_name(tree: Any) -> dict[str, Any]:
  """-> the leaves of a tree by name, in the order of the tree.

  >>> by_name({'encoder': {'scale': 1, 'kernel': 2}})
  {'encoder/kernel': 2, 'encoder/scale': 1}
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of a checkpoint's parameters, by name.

  Attributes:
    matched: read from the checkpoint.
    left: of the model, and left at drawn values; adapters aside.
    unused: of the checkpoint, and not used.
    reshaped: of both, and of different shapes: left at drawn values.
  """

  matched: tuple[str, ...]
  left: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()
  reshaped: tuple[str, ...] = ()

  @property
  def incomplete(self) -> bool:
    """Whether checkpoint and model are not one and the same."""
    return bool(self.left or self.unused or self.reshaped)

  def __str__(self) -> str:
    lines = [f'{len(self.matched)} parameters are those of the checkpoint']
    for what, names in (('keep their drawn values', self.left),
                        ('keep their drawn values, the shapes being others', self.reshaped),
                        ('of the checkpoint are not used', self.unused)):
      if names:
        more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
        lines.append(f'{len(names)} {what}: {", ".join(names[:_SHOWN])}{more}')
    return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class Restoring:
  """Which parameters of INITIAL_CHECKPOINT_PATH a new run begins with.

  Args:
    include: regular expressions; a parameter is read when one of them matches its whole name
      ('encoder/.*'), and keeps its drawn value otherwise.
    strict: every parameter so chosen must be in the checkpoint, in the model's shape, and every
      one so chosen of the checkpoint in the model. Otherwise what does not fit is left out.
    assignment_map: pairs (regular expression, replacement), as in T5X: a parameter of the model
      whose whole name the first matches is read under the name that the replacement gives;
      with None it keeps its drawn value. The first pair that matches counts.
    optimizer_state: go on at the checkpoint's step with its Adafactor state, as T5X does; a
      checkpoint of T5X or of a run of ours. TRAIN_STEPS then counts its steps, too.
  """

  include: Sequence[str] = ('.*',)
  strict: bool = True
  assignment_map: Sequence[tuple[str, str | None]] = ()
  optimizer_state: bool = False

  def __post_init__(self):
    if isinstance(self.include, str):
      raise errors.UserError('include must be a list of regular expressions', where='Restoring',
                             got=repr(self.include))
    for name in ('strict', 'optimizer_state'):
      if not isinstance(getattr(self, name), bool):
        raise errors.UserError(f'{name} must be True or False', where='Restoring',
                               got=repr(getattr(self, name)))
    for pair in self.assignment_map:
      good = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
      if not good or not isinstance(pair[1], str | None):
        raise errors.UserError('assignment_map must be pairs', where='Restoring', got=repr(pair),
                               expected="(regular expression, replacement or None)")
    for pattern in (*self.include, *(pattern for pattern, _ in self.assignment_map)):
      try:
        re.compile(pattern)
      except (re.error, TypeError) as error:
        raise errors.UserError('this is no regular expression', where='Restoring',
                               got=f'{pattern!r}: {error}') from error

  def source_of(self, name: str) -> str | None:
    """Under what name a parameter of the model is looked up in the checkpoint, if it is."""
    if not any(re.fullmatch(pattern, name) for pattern in self.include):
      return None
    for pattern, replacement in self.assignment_map:
      if re.fullmatch(pattern, name):
        if replacement is None:
          return None
        try:
          return re.sub(f'(?:{pattern})\\Z', replacement, name, count=1)
        except re.error as error:
          raise errors.UserError('this replacement cannot be used', where='assignment_map',
                                 got=f'{replacement!r}: {error}') from error
    return name

  def choose(
      self, found: Any, wanted: Any, optional: Callable[[str], bool] = lambda name: False
  ) -> tuple[dict[str, Any], Report]:
    """-> the part of `wanted` that is read, as a tree of arrays, and a report on all.

    Args:
      found: the tree of a checkpoint's arrays.
      wanted: the tree of the model's arrays or shapes.
      optional: tells names that are always drawn where the checkpoint has none (adapters).

    Raises:
      UserError: strict, and one is missing, too many or of another shape; or none is read.
    """
    found, wanted = by_name(found), by_name(wanted)
    sources = {name: self.source_of(name) for name in wanted}
    chosen = {name: source for name, source in sources.items()
              if source is not None and (source in found or not optional(name))}
    if self.strict:
      self._check(found, wanted, chosen)
    present = {name for name, source in chosen.items() if source in found}
    shaped = lambda name: tuple(found[chosen[name]].shape) == tuple(wanted[name].shape)
    matched = {name: found[chosen[name]] for name in wanted if name in present and shaped(name)}
    report = Report(
        matched=tuple(sorted(matched)),
        left=tuple(sorted(name for name in set(wanted) - present if not optional(name))),
        unused=tuple(sorted(set(found) - {chosen[name] for name in present})),
        reshaped=tuple(sorted(present - set(matched))))
    if not matched:
      raise errors.UserError('no parameter of the checkpoint fits the model', where='Restoring',
                             hint=errors.nearest(next(iter(chosen.values()), ''), found))
    return safetensors.unflatten(matched), report

  def _check(
      self, found: Mapping[str, Any], wanted: Mapping[str, Any], chosen: Mapping[str, str]
  ) -> None:
    """UserError naming the first parameter that is missing, too many or of another shape."""
    expected = {source: tuple(wanted[name].shape) for name, source in chosen.items()}
    extra = {name for name in found if name not in wanted and self.source_of(name) == name}
    for name in sorted(set(expected) | extra):
      got = tuple(found[name].shape) if name in found else 'none'
      if got != expected.get(name, 'none'):
        raise errors.UserError(
            f'the initial parameters are of another model: parameter {name}',
            got=f'shape {got}', expected=f"shape {expected.get(name, 'none')}",
            hint='restoring.Restoring.strict = False begins with those that fit')
