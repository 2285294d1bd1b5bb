"""The parameters of a T5 by name and shape, without building the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flanjax.errors import UserError
from flanjax.models.attention import RELPOS_BUCKETS
from flanjax.models.t5 import T5Config

Shapes = dict[str, tuple[int, ...]]
_SHOWN = 8


def shapes(cfg: T5Config) -> Shapes:
  """Name -> shape of every parameter; what `param_shapes` of the model gives, flat."""
  made: Shapes = {'token_embedder/embedding': (cfg.vocab_size, cfg.emb_dim)}
  for stack, count in (('encoder', cfg.num_encoder_layers), ('decoder', cfg.num_decoder_layers)):
    made[f'{stack}/{stack}_norm/scale'] = (cfg.emb_dim,)
    relpos = {'relpos_bias/rel_embedding': (cfg.num_heads, RELPOS_BUCKETS)}
    layer = _layer(cfg, stack) | (relpos if cfg.relpos_per_layer else {})
    for i in range(count):
      made |= {f'{stack}/layers_{i}/{name}': shape for name, shape in layer.items()}
    if not cfg.relpos_per_layer:
      made |= {f'{stack}/{name}': shape for name, shape in relpos.items()}
  if not cfg.logits_via_embedding:
    made['decoder/logits_dense/kernel'] = (cfg.emb_dim, cfg.vocab_size)
  return made | _adapters(cfg, made)


def _adapters(cfg: T5Config, made: Shapes) -> Shapes:
  found: Shapes = {}
  for name, shape in made.items():
    path, _, leaf = name.rpartition('/')
    if cfg.lora is not None and leaf == 'kernel' and cfg.lora.adapts(path):
      found[f'{path}/lora_a'] = (shape[0], cfg.lora.rank)
      found[f'{path}/lora_b'] = (cfg.lora.rank, shape[1])
  if cfg.prompt_length:
    found['prompt/embedding'] = (cfg.prompt_length, cfg.emb_dim)
  return found


def attentions(stack: str) -> tuple[tuple[str, str], ...]:
  """(attention, the norm before it) of a layer, in order."""
  if stack == 'encoder':
    return (('attention', 'pre_attention_layer_norm'),)
  return (('self_attention', 'pre_self_attention_layer_norm'),
          ('encoder_decoder_attention', 'pre_cross_attention_layer_norm'))


def branches(cfg: T5Config) -> tuple[str, ...]:
  """The projections into the feed-forward layer: ('wi',) or ('wi_0', 'wi_1')."""
  count = len(cfg.mlp_activations)
  return ('wi',) if count == 1 else tuple(f'wi_{i}' for i in range(count))


def _layer(cfg: T5Config, stack: str) -> Shapes:
  joined = cfg.num_heads * cfg.head_dim
  made: Shapes = {}
  for attention, norm in attentions(stack):
    made[f'{norm}/scale'] = (cfg.emb_dim,)
    for name in ('query', 'key', 'value'):
      made[f'{attention}/{name}/kernel'] = (cfg.emb_dim, joined)
    made[f'{attention}/out/kernel'] = (joined, cfg.emb_dim)
  made['pre_mlp_layer_norm/scale'] = (cfg.emb_dim,)
  for name in branches(cfg):
    made[f'mlp/{name}/kernel'] = (cfg.emb_dim, cfg.mlp_dim)
  made['mlp/wo/kernel'] = (cfg.mlp_dim, cfg.emb_dim)
  return made


def listed(names: Iterable[str]) -> str:
  """The first few names, and how many more."""
  names = sorted(names)
  more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
  return ', '.join(names[:_SHOWN]) + more


def check(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str,
    hint: str | None = None,
) -> None:
  """UserError naming what is missing, what is too much, or the first shape that is wrong."""
  missing, extra = set(expected) - set(found), set(found) - set(expected)
  if missing:
    raise UserError(f'{len(missing)} tensors are missing.', where=where,
                    got=f'unknown: {listed(extra)}' if extra else f'{len(found)} tensors',
                    expected=listed(missing), hint=hint)
  if extra:
    raise UserError(f'{len(extra)} tensors are not of this model.', where=where,
                    got=listed(extra), hint=hint)
  for name, shape in expected.items():
    if tuple(found[name]) != tuple(shape):
      raise UserError(f'Tensor {name} has another shape.', where=where, got=tuple(found[name]),
                      expected=tuple(shape), hint=hint)
