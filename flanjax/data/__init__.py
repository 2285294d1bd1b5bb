"""Tasks, templates, clusters and mixtures: the TensorFlow side of flanjax, never jax.

The names are imported when they are first used: a report, which needs the metrics alone, does
without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from flanjax.data import metrics
  from flanjax.data.specs import TaskSpec, register
  from flanjax.data.templates import Template

__all__ = ['TaskSpec', 'Template', 'metrics', 'register']

_HOMES = {'TaskSpec': 'specs', 'Template': 'templates', 'register': 'specs'}


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
