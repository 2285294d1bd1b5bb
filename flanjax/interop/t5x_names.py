"""T5X's names and shapes: those of its `t5` are ours, those of its `scalable_t5` are stacked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flanjax.errors import UserError
from flanjax.interop import layout
from flanjax.models.attention import RELPOS_BUCKETS
from flanjax.models.t5 import T5Config

Shape = tuple[int, ...]
# Of a stacked parameter, the axis that runs over the layers.
LAYER_AXIS = 1
_LAYER = re.compile(r'(encoder|decoder)/layers_(\d+)/(.*)')
_KERNELS = ('query', 'key', 'value', 'out')
_INTO_EMBED = ('out', 'wo')


def is_scanned(shapes: Mapping[str, Shape]) -> bool:
  return any(map(is_stacked, shapes))


def config_of(shapes: Mapping[str, Shape], activation: str | None, where: str) -> T5Config:
  """The sizes that a checkpoint's shapes tell.

  Args:
    shapes: name -> shape of its parameters.
    activation: of the feed-forward layers, which no shape tells; None: relu in T5 1.0, else gelu.
    where: the checkpoint, for errors.
  """
  scanned = is_scanned(shapes)
  layer = (lambda stack: f'{stack}/{stack}') if scanned else (lambda stack: f'{stack}/layers_0')
  relpos = next((name for name in ('encoder/relpos_bias/rel_embedding',
                                   f'{layer("encoder")}/relpos_bias/rel_embedding')
                 if name in shapes), '')
  query = f'{layer("encoder")}/attention/query/kernel'
  gated = f'{layer("encoder")}/mlp/wi_0/kernel' in shapes
  wo = f'{layer("encoder")}/mlp/wo/kernel'
  embedding = 'token_embedder/embedding'
  missing = [name for name in (embedding, relpos, query, wo) if name not in shapes]
  if missing:
    raise UserError('This is no T5 of T5X.', where=where, expected=', '.join(filter(None, missing)))
  vocab, emb = _ranked(shapes, embedding, 2, where)
  heads = _ranked(shapes, relpos, 3 if scanned else 2, where)[0]
  joined = _ranked(shapes, query, 4 if scanned else 2, where)[2 if scanned else 1:]
  activation = activation or ('gelu' if gated else 'relu')
  return T5Config(
      vocab_size=vocab, emb_dim=emb, num_heads=heads,
      head_dim=joined[-1] if scanned else joined[0] // heads,
      mlp_dim=_ranked(shapes, wo, 3 if scanned else 2, where)[0],
      num_encoder_layers=_count(shapes, 'encoder', scanned),
      num_decoder_layers=_count(shapes, 'decoder', scanned),
      mlp_activations=(activation, 'linear') if gated else (activation,),
      logits_via_embedding='decoder/logits_dense/kernel' not in shapes,
      relpos_per_layer=relpos != 'encoder/relpos_bias/rel_embedding')


def _ranked(shapes: Mapping[str, Shape], name: str, rank: int, where: str) -> Shape:
  if len(shapes[name]) != rank:
    raise UserError(f'Tensor {name} has another shape.', where=where, got=tuple(shapes[name]),
                    expected=f'{rank} dimensions')
  return shapes[name]


def _count(shapes: Mapping[str, Shape], stack: str, scanned: bool) -> int:
  if scanned:
    return shapes.get(f'{stack}/{stack}/mlp/wo/kernel', (0, 0))[LAYER_AXIS]
  found = {match[2] for match in map(_LAYER.fullmatch, shapes) if match and match[1] == stack}
  return len(found)


def stacked_name(name: str) -> tuple[str, int] | None:
  """(name of the stacked parameter, layer) of one of a layer, else None.

  >>> stacked_name('encoder/layers_3/mlp/wo/kernel')
  ('encoder/encoder/mlp/wo/kernel', 3)
  """
  match = _LAYER.fullmatch(name)
  return match and (f'{match[1]}/{match[1]}/{match[3]}', int(match[2]))


def is_stacked(name: str) -> bool:
  """Whether a parameter of T5X holds a stack of layers."""
  return name.startswith(('encoder/encoder/', 'decoder/decoder/'))


def ends_in_embed(name: str) -> bool:
  """Whether a kernel's last axis is `embed`, and not its first."""
  return name.split('/')[-2] in _INTO_EMBED


def layers(name: str, count: int) -> list[str]:
  """Our names of the layers of a stacked parameter.

  >>> layers('encoder/encoder/mlp/wo/kernel', 2)
  ['encoder/layers_0/mlp/wo/kernel', 'encoder/layers_1/mlp/wo/kernel']
  """
  stack, _, rest = name.split('/', 2)
  return [f'{stack}/layers_{i}/{rest}' for i in range(count)]


def shared(name: str) -> str:
  """Our name of what all layers of a stacked parameter share, if they do."""
  return name.split('/', 1)[1]


def layer_shape(cfg: T5Config, name: str, shape: Shape) -> Shape:
  """The shape of one layer's part of a stacked parameter: attention kernels keep heads apart."""
  parts = name.split('/')
  if parts[-1] != 'kernel' or parts[-2] not in _KERNELS:
    return shape
  heads = (cfg.num_heads, cfg.head_dim)
  return (*heads, cfg.emb_dim) if parts[-2] == 'out' else (cfg.emb_dim, *heads)


def shapes(cfg: T5Config, scanned: bool) -> dict[str, Shape]:
  """Name -> shape of what T5X writes of a model."""
  ours = layout.shapes(cfg)
  if not scanned:
    return ours
  made: dict[str, Shape] = {}
  counts = {'encoder': cfg.num_encoder_layers, 'decoder': cfg.num_decoder_layers}
  for name, shape in ours.items():
    stacked = stacked_name(name)
    if stacked:
      part = layer_shape(cfg, name, shape)
      count = counts[name.split('/')[0]]
      made[stacked[0]] = (*part[:LAYER_AXIS], count, *part[LAYER_AXIS:])
    elif name.endswith('relpos_bias/rel_embedding'):
      # One table for all layers, said again for each.
      stack = name.split('/')[0]
      made[f'{stack}/{name}'] = (cfg.num_heads, counts[stack], RELPOS_BUCKETS)
    else:
      made[name] = shape
  return made
