"""How often the tasks of a mixture are drawn, and how long.

  rate of a task      min(size, cap) ** (1 / temperature)
  its part of draws   rate / sum of rates, or inside its group where groups have weights
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from flanjax.errors import UserError, nearest
from flanjax.input.manifest import Manifest, PreparedTask

SIZES = ('rates', 'examples', 'target_tokens')
ENDS = ('repeat', 'stop')
REST = '*'


@dataclasses.dataclass(frozen=True)
class Mixing:
  """A way of mixing. Without arguments: at the rates that the mixture was registered with.

  Attributes:
    size: what a task's rate is made of: 'rates' (those of the mixture), 'examples', or
      'target_tokens'; by tokens it is the shares of target tokens, of what the loss sees, that
      follow the rates.
    cap: the largest size that counts (FLAN: 3,000 examples); None: no cap, or the mixture's.
    temperature: above 1 it evens out the rates (T5, Raffel et al. 2020, section 3.5.2).
    weights: shares of groups, in any unit: names of SeqIO tasks, tasks or clusters, and '*' for
      the rest. Inside a group the tasks share by their rates. None: no groups.
    max_epochs: how often an example is drawn at most; one number, or by name as `weights`. A task
      that has had its epochs gives its share to the others. None: no limit.
    at_end: what follows when every task has had its epochs: 'repeat' or 'stop'. 'stop' without
      `max_epochs` means one epoch of each.
  """

  size: str = 'rates'
  cap: float | None = None
  temperature: float = 1.0
  weights: Mapping[str, float] | None = None
  max_epochs: float | Mapping[str, float] | None = None
  at_end: str = 'repeat'

  def __post_init__(self):
    for name, value, known in (('size', self.size, SIZES), ('at_end', self.at_end, ENDS)):
      if value not in known:
        raise UserError(f'Mixing has no {name} {value!r}.', hint=nearest(str(value), known))
    numbers = {'cap': self.cap, 'temperature': self.temperature}
    for name, values in (('weights', self.weights), ('max_epochs', self.max_epochs)):
      if isinstance(values, Mapping):
        numbers |= {f'{name} of {key}': value for key, value in values.items()}
      elif name == 'max_epochs':
        numbers[name] = values
      elif values is not None:
        raise UserError(f'{name} of Mixing must be a dict.', got=repr(values))
    for name, value in numbers.items():
      if value is not None and not _is_positive(value):
        raise UserError(f'The {name} must be a number above zero.', where='Mixing', got=repr(value))

  def rates(self, tasks: Sequence[PreparedTask]) -> np.ndarray:
    """The rate of each task, float64 [tasks], before groups."""
    rates = np.array([self._size_of(t) for t in tasks], np.float64)
    if self.cap is not None:
      rates = np.minimum(rates, self.cap)
    return rates ** (1 / self.temperature)

  def _size_of(self, task: PreparedTask) -> float:
    if self.size == 'rates':
      return task.rate
    return task.num_examples if self.size == 'examples' else task.tokens['targets'].total

  def shares(self, manifest: Manifest) -> np.ndarray:
    """The part of the draws that each task has, float64 [tasks]; they sum to one.

    Raises:
      UserError: a rate is not above zero, a group is empty or a task is in none.
    """
    tasks = manifest.tasks
    rates = self.rates(tasks)
    if self.weights:
      groups = _groups(self.weights, tasks, 'weights')
      missing = [t.name for t, g in zip(tasks, groups) if g is None]
      if missing:
        raise UserError(
            'The weights leave out tasks of the mixture.', where='Mixing',
            got=', '.join(missing[:5]), expected="a weight for each of them, or for '*', the rest",
        )
      names = np.array(groups)
      for group, weight in self.weights.items():
        inside = names == group
        rates[inside] *= weight / rates[inside].sum()
    if self.size == 'target_tokens':
      rates = rates / [t.tokens['targets'].mean for t in tasks]
    if not (rates > 0).all() or not np.isfinite(rates).all():
      at = int(np.argmin(np.where(np.isfinite(rates), rates, -1.0)))
      raise UserError('The rate of a task must be above zero.',
                      where=f'task {tasks[at].name}, {manifest.path}', got=rates[at])
    return rates / rates.sum()

  def budgets(self, manifest: Manifest) -> list[int] | None:
    """Draws that each task has in all; None: without end."""
    limit = self.max_epochs
    if limit is None and self.at_end == 'repeat':
      return None
    if isinstance(limit, Mapping):
      groups = _groups(limit, manifest.tasks, 'max_epochs')
      epochs = [None if g is None else limit[g] for g in groups]
      if any(e is None for e in epochs):
        raise UserError("max_epochs leaves out tasks of the mixture.", where='Mixing',
                        expected="a number for each of them, or for '*', the rest")
    else:
      epochs = [1.0 if limit is None else limit] * len(manifest.tasks)
    return [max(1, round(e * t.num_examples)) for e, t in zip(epochs, manifest.tasks)]


def _is_positive(value: object) -> bool:
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return number and value > 0 and math.isfinite(value)


def _groups(
    named: Mapping[str, float], tasks: Sequence[PreparedTask], what: str
) -> list[str | None]:
  """The group of each task: its SeqIO name before its own, its cluster, and the rest.

  Raises:
    UserError: a name means no task.
  """
  found = []
  for task in tasks:
    names = (task.name, task.task, task.cluster, REST)
    found.append(next((n for n in names if n in named), None))
  for name in named:
    if name not in found and name != REST:
      known = {n for t in tasks for n in (t.name, t.task, t.cluster) if n}
      raise UserError(f"{what} of Mixing names '{name}', which holds no task of the mixture.",
                      hint=nearest(name, known))
  return found
