"""Tasks, templates, clusters and mixtures: the TensorFlow side of flanjax, never jax."""

from flanjax.data import metrics
from flanjax.data.specs import TaskSpec, register
from flanjax.data.templates import Template

__all__ = ['TaskSpec', 'Template', 'metrics', 'register']
