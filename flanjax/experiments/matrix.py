"""What an experiment is, as gin describes it: holdouts x seeds x conditions.

In the texts of a condition {suite}, {holdout}, {task} and {x} stand for what their names say.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.errors import UserError, nearest

FIGURES = ('groups', 'line')
_HELD_OUT = ('{suite}_holdout_{holdout}_eval',)


@dataclasses.dataclass(frozen=True)
class Condition:
  """A way to come by a model, and what it is evaluated on.

  Attributes:
    name: unlike that of any other.
    train: the mixture trained on; None: the model that others begin from.
    after: the condition whose model this one begins from; None: INITIAL_CHECKPOINT_PATH.
    evaluate: mixtures or tasks. One with {holdout} in it stands for one of each cluster held out.
    settings: gin macros of the training.
    eval_settings: gin macros of the evaluation.
    gin_files: read after those of the experiment.
    model: the gin file of its model, read before those of the experiment, which name none then.
    series: which line of a figure it is on.
    x: where on that line.
  """

  name: str
  train: str | None = None
  after: Condition | None = None
  evaluate: str | Sequence[str] = _HELD_OUT
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  eval_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  gin_files: str | Sequence[str] = ()
  model: str | None = None
  series: str = ''
  x: Any = None

  def __post_init__(self):
    if not isinstance(self.name, str) or not self.name:
      raise UserError('A condition needs a name.', where='Condition', got=repr(self.name))
    for field in ('evaluate', 'gin_files'):
      value = getattr(self, field)
      object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
    for field in ('settings', 'eval_settings'):
      if not isinstance(getattr(self, field), Mapping):
        raise UserError(f'{field} must be a dict.', where=f'condition {self.name}')
    if not self.evaluate:
      raise UserError('A condition must be evaluated.', where=f'condition {self.name}')


def sweep(
    values: Sequence[Any] | Mapping[Any, Any], name: str = '{x}', cumulative: bool = False,
    train: str | None = None, after: Condition | None = None,
    evaluate: str | Sequence[str] = _HELD_OUT, settings: Mapping[str, Any] | None = None,
    eval_settings: Mapping[str, Any] | None = None, gin_files: str | Sequence[str] = (),
    model: str | None = None, series: str = '',
) -> list[Condition]:
  """A condition for each value, which {x} stands for.

  Args:
    values: numbers or texts; or what each is called -> the value.
    name: of the conditions; with cumulative {x} is here how many there are.
    cumulative: texts add up: 'nli', then 'nli.topic', as the words of a mixture by expression take
      them.
    train: as all below, of `Condition`. A setting that is '{x}' alone becomes the value itself.
    after: as there.
    evaluate: as there.
    settings: as there.
    eval_settings: as there.
    gin_files: as there.
    model: as there.
    series: as there.
  """
  named = dict(values) if isinstance(values, Mapping) else {v: v for v in values}
  if cumulative:
    texts = itertools.accumulate(named.values(), lambda a, b: f'{a}.{b}')
    named = dict(enumerate(texts, 1))
  fields = {'train': train, 'evaluate': evaluate, 'settings': settings or {},
            'eval_settings': eval_settings or {}, 'gin_files': gin_files, 'model': model,
            'series': series}
  return [Condition(name=name.replace('{x}', str(x)), x=x, after=after,
                    **{k: _with_x(v, value) for k, v in fields.items()})
          for x, value in named.items()]


def _with_x(field: Any, x: Any) -> Any:
  if isinstance(field, str):
    return x if field == '{x}' else field.replace('{x}', str(x))
  if isinstance(field, Mapping):
    return {k: _with_x(v, x) for k, v in field.items()}
  return [_with_x(v, x) for v in field] if isinstance(field, (list, tuple)) else field


@dataclasses.dataclass
class Experiment:
  """A matrix.

  Attributes:
    name: of the experiment; by it the paper's values are found.
    directory: where everything goes.
    suite: the collection of tasks.
    conditions: `Condition`s, or lists of them.
    holdouts: clusters held out, one or several at once.
    task: a task, for conditions that name one.
    seeds: of the trainings.
    question: what it asks, one sentence.
    baseline: the condition that the others are compared with, on the same seed and holdout; or a
      series, whose condition at the same x is.
    compare: pairs of conditions that are compared besides.
    figure: 'groups', or 'line' over the conditions' x.
    x_label: of a line's axis.
  """

  name: str
  directory: str
  suite: str
  conditions: Sequence[Any]
  holdouts: Sequence[str | Sequence[str]]
  seeds: Sequence[int] = (0,)
  question: str = ''
  baseline: str | None = None
  compare: Sequence[Sequence[str]] = ()
  figure: str = 'groups'
  x_label: str = ''
  task: str = ''

  def __post_init__(self):
    self.conditions = list(_flat(self.conditions))
    self.holdouts = [(h,) if isinstance(h, str) else tuple(h) for h in self.holdouts]
    self.seeds = [self.seeds] if isinstance(self.seeds, int) else list(self.seeds)
    names = [c.name for c in self.conditions]
    for what, found in (('condition', names), ('seed', self.seeds), ('holdout', self.holdouts)):
      twice = [str(x) for i, x in enumerate(found) if x in found[:i]]
      if twice or not found:
        raise UserError(f'Every {what} must be there once.', where=f'experiment {self.name}',
                        got=f'twice {", ".join(twice)}' if twice else 'none')
    wrong = [s for s in self.seeds if isinstance(s, bool) or not isinstance(s, int) or s < 0]
    if wrong:
      raise UserError('A seed must be a whole number of at least 0.', got=repr(wrong[0]))
    series = {c.series for c in self.conditions if c.series}
    baselines = [] if self.baseline in series else [self.baseline]
    for named in filter(None, [*baselines, *itertools.chain(*self.compare)]):
      if named not in names:
        raise UserError(f"There is no condition '{named}' to compare with.",
                        where=f'experiment {self.name}', hint=nearest(named, names))
    if self.figure not in FIGURES:
      raise UserError(f'There is no figure {self.figure!r}.', hint=nearest(self.figure, FIGURES))

  @property
  def pairs(self) -> list[tuple[str, str]]:
    """(condition, what it is compared with)."""
    names = {c.name for c in self.conditions}
    at = {c.x: c.name for c in self.conditions if c.series == self.baseline and c.series}
    found = [(c.name, self.baseline if self.baseline in names else at.get(c.x))
             for c in self.conditions]
    found = [(name, other) for name, other in found if other and name != other]
    return list(dict.fromkeys([*found, *(tuple(pair) for pair in self.compare)]))


def _flat(conditions: Any) -> list[Condition]:
  if isinstance(conditions, Condition):
    return [conditions]
  if isinstance(conditions, (list, tuple)):
    return [c for part in conditions for c in _flat(part)]
  raise UserError('The conditions of an experiment are Conditions.', got=repr(conditions),
                  expected='@matrix.Condition() or @matrix.sweep()')
