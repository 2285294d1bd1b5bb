"""LoRA: small factors beside the kernels that they adapt (Hu et al. 2021, arXiv 2106.09685).

A projection with `kernel` [in, out] gets `lora_a` [in, rank] and `lora_b` [rank, out], and gives
x kernel + scale * dropout(x) lora_a lora_b. The factors are leaves of the same tree, so that the
kernel alone can be frozen, or the product folded into it when training is over.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn

from flanjax import errors
from flanjax.models import linear

PARAMETERS = r'.*/lora_[ab]'
_SHOWN = 6

# What PEFT draws: uniform up to 1/sqrt(in), torch's kaiming_uniform_ with a = sqrt(5).
a_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
b_init = nn.initializers.zeros


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which projections get factors, and how large.

  `modules` is a regular expression that a path such as 'decoder/layers_3/self_attention/query'
  must match as a whole. The product is scaled by alpha / rank, or by alpha / sqrt(rank) with
  `rslora` (Kalajdzievski 2023, arXiv 2312.03732). `dropout` is of the input of `lora_a`.
  """

  rank: int = 8
  alpha: float = 16.0
  dropout: float = 0.0
  modules: str = r'.*(attention|mlp)/.*'
  rslora: bool = False

  def __post_init__(self):
    if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
      raise errors.UserError('rank must be at least 1', where='Lora', got=repr(self.rank))
    if not 0.0 <= self.dropout < 1.0:
      raise errors.UserError('dropout must be at least 0 and below 1', where='Lora',
                             got=self.dropout)
    try:
      re.compile(self.modules)
    except (re.error, TypeError) as error:
      raise errors.UserError('modules is no regular expression', where='Lora',
                             got=repr(self.modules), hint=str(error)) from error

  @property
  def scale(self) -> float:
    """What the product of the factors is multiplied by."""
    return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

  def adapts(self, path: str) -> bool:
    """Whether the projection at `path` gets factors."""
    return re.fullmatch(self.modules, path) is not None


def module_paths(config: Any) -> Iterator[str]:
  """The projections of a T5, as 'encoder/layers_0/attention/query'."""
  wi = [f'wi_{i}' for i in range(len(config.mlp_activations))]
  mlp = [f'mlp/{name}' for name in (*(wi if len(wi) > 1 else ['wi']), 'wo')]
  for stack, count, attentions in (
      ('encoder', config.num_encoder_layers, ('attention',)),
      ('decoder', config.num_decoder_layers, ('self_attention', 'encoder_decoder_attention'))):
    heads = [f'{a}/{name}' for a in attentions for name in ('query', 'key', 'value', 'out')]
    for i in range(count):
      yield from (f'{stack}/layers_{i}/{name}' for name in (*heads, *mlp))
  if not config.logits_via_embedding:
    yield 'decoder/logits_dense'


def check(lora: Lora, paths: Sequence[str]) -> None:
  """UserError when `lora` adapts none of the projections at `paths`."""
  if not any(map(lora.adapts, paths)):
    names = list(dict.fromkeys(re.sub(r'layers_\d+', 'layers_0', path) for path in paths))
    raise errors.UserError(
        'no module matches', where='Lora.modules', got=repr(lora.modules),
        expected='an expression for some of ' + ', '.join([*names[:_SHOWN], *names[-_SHOWN:]]))


def low_rank(x: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
  """scale * x a b, [..., in] -> [..., out]; never the product of a and b."""
  return linear.project(linear.project(x, a) * scale, b)


def merge(params: Mapping[str, Any], scale: float) -> dict[str, Any]:
  """-> the tree without factors, each pair folded into its kernel: kernel + scale * a b."""
  if 'lora_a' in params:
    return {'kernel': params['kernel'] + scale * (params['lora_a'] @ params['lora_b'])}
  return {name: merge(value, scale) if isinstance(value, Mapping) else value
          for name, value in params.items()}
