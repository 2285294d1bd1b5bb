"""T5 as pure functions over plain trees: what the trainer and the evaluator see."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta

from flanjax import errors
from flanjax.models import decoder_step, decoding, layers, losses, prompts
from flanjax.models.config import T5Config
from flanjax.models.network import DecoderLayer, EncoderLayer, Transformer

Batch = Mapping[str, jax.Array]
Params = dict[str, Any]


def _is_box(x: Any) -> bool:
  return isinstance(x, meta.AxisMetadata)


def _unbox(tree: Params) -> Params:
  return jax.tree.map(lambda box: box.value, tree, is_leaf=_is_box)


def _with_factors(base: Params, adapted: Params) -> Params:
  """`adapted` with all that `base` has taken from there."""
  return {name: _with_factors(base[name], value) if isinstance(value, dict) and name in base
          else base.get(name, value) for name, value in adapted.items()}


@functools.lru_cache(maxsize=64)
def _boxed_shapes(config: T5Config) -> Params:
  """Shapes of parameters in their boxes, kept: a deep model takes a second to trace."""
  return jax.eval_shape(EncoderDecoderModel(config)._boxed_init, jax.random.key(0))


class EncoderDecoderModel:
  """T5 as pure functions: what the trainer and the evaluator see.

  Args:
    config: the sizes.
    z_loss: coefficient of log(Z)^2 in the loss.
    label_smoothing: see `losses.cross_entropy`.
  """

  def __init__(self, config: T5Config, z_loss: float = 1e-4, label_smoothing: float = 0.0):
    self.config = config
    self.z_loss = z_loss
    self.label_smoothing = label_smoothing
    self.module = Transformer(config)

  def _boxed_init(self, rng: jax.Array) -> Params:
    token = jnp.ones((1, 1), jnp.int32)
    names = ('encoder_input_tokens', 'decoder_input_tokens', 'decoder_target_tokens')
    # No mesh divides this one token: constraints are off.
    with nn.logical_axis_rules(()):
      return self.module.init(rng, {name: token for name in names})['params']

  def _unboxed_init(self, rng: jax.Array, base: Params | None = None) -> Params:
    params = _unbox(self._boxed_init(rng))
    if self.config.lora is None:
      self._draw_layers(params, rng)
    else:
      params = _with_factors(EncoderDecoderModel(self.config.base)._unboxed_init(rng), params)
    if self.config.prompt_length:
      tokens = (base or params)['token_embedder']['embedding']
      params['prompt']['embedding'] = prompts.from_vocabulary(
          jax.random.fold_in(rng, 1), tokens, self.config.prompt_length)
    return params

  def _draw_layers(self, params: Params, rng: jax.Array) -> None:
    """Puts layers into `params` that are drawn by one program for a stack: it compiles sooner."""
    cfg = self.config
    x, allowed = jnp.ones((1, 1, cfg.emb_dim), cfg.dtype), jnp.ones((1, 1, 1), bool)
    none = collections.defaultdict(lambda: None)
    kinds = {'encoder': (EncoderLayer, (x, None, allowed, none), cfg.num_encoder_layers),
             'decoder': (DecoderLayer, (x, x, None, allowed, allowed, none),
                         cfg.num_decoder_layers)}
    for i, (name, (layer, arguments, count)) in enumerate(kinds.items()):
      draw = lambda key: _unbox(layer(cfg, parent=None).init(key, *arguments)['params'])
      with nn.logical_axis_rules(()):
        drawn = jax.vmap(draw)(jax.random.split(jax.random.fold_in(rng, i), count))
      for n in range(count):
        params[name][f'layers_{n}'] = jax.tree.map(lambda leaf: leaf[n], drawn)

  @functools.cached_property
  def unrolled(self) -> EncoderDecoderModel:
    """The same function, every layer a module of its own in the trace."""
    config = dataclasses.replace(self.config, scan_layers=False, remat='none')
    return EncoderDecoderModel(config, self.z_loss, self.label_smoothing)

  def init(
      self, rng: jax.Array, batch: Batch | None = None, base: Params | None = None
  ) -> Params:
    """-> fresh parameters; they depend on the config alone, `batch` is not read.

    A soft prompt begins at token embeddings, those of `base` where it is given.
    """
    del batch
    return jax.jit(self._unboxed_init)(rng, base)

  def param_shapes(self) -> Params:
    """-> the tree of `jax.ShapeDtypeStruct`s that `init` would give."""
    return _unbox(_boxed_shapes(self.config))

  def logical_axes(self, params: Params | None = None) -> Params:
    """-> the tree of tuples of logical axis names, one name per dimension of a parameter."""
    del params
    return jax.tree.map(lambda box: box.names, _boxed_shapes(self.config), is_leaf=_is_box)

  def logits(self, params: Params, batch: Batch, rng: jax.Array | None = None) -> jax.Array:
    """-> float32 [batch, length, vocab]; dropout only where `rng` is given."""
    return self.module.apply({'params': params}, batch, rng)

  def loss_fn(
      self, params: Params, batch: Batch, rng: jax.Array | None = None
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-> the loss summed over target tokens, and sums; see `losses.cross_entropy`."""
    targets = batch['decoder_target_tokens']
    weights = batch.get('decoder_loss_weights')
    if weights is None:
      weights = (targets > 0).astype(jnp.float32)
    loss = functools.partial(
        losses.cross_entropy, z_loss=self.z_loss, label_smoothing=self.label_smoothing,
        num_classes=self.config.vocab_size - self.config.vocab_padding)
    if not self.config.logits_chunk:
      return loss(self.logits(params, batch, rng), targets, weights)
    apply = functools.partial(self.module.apply, {'params': params})
    return losses.in_chunks(
        lambda hidden, *rest: loss(apply(hidden, method=Transformer.logits), *rest),
        self.config.logits_chunk, apply(batch, rng, method=Transformer.hidden), targets, weights)

  def score_tokens(self, params: Params, batch: Batch) -> jax.Array:
    """-> float32 [batch, length]: log p of each target token, 0 where there is none.

    Several targets of one prompt may stand in one row, told apart by `decoder_segment_ids`;
    without `encoder_segment_ids` each of them sees the whole prompt.
    """
    targets = batch['decoder_target_tokens']
    return losses.token_log_likelihood(self.logits(params, batch), targets) * (targets > 0)

  def score_batch(self, params: Params, batch: Batch) -> jax.Array:
    """-> float32 [batch]: log p(targets | inputs), tokens weighted by decoder_loss_weights."""
    weights = batch.get('decoder_loss_weights', 1.0)
    return jnp.sum(self.score_tokens(params, batch) * weights, axis=-1)

  def encode(self, params: Params, tokens: jax.Array) -> decoding.Context:
    """Inputs, int32 [prompts, length] with zeros after them -> what decoding reads of them."""
    return self.module.apply({'params': params}, tokens, method=Transformer.context)

  def init_cache(self, rows: int, length: int) -> decoding.Cache:
    """-> room for `length` tokens of each row; see `decoding`."""
    cfg = self.config
    zeros = lambda: layers.constrain(
        jnp.zeros((rows, cfg.num_heads, length, cfg.head_dim), cfg.dtype),
        ('batch', 'heads', 'length', 'kv'))
    return [(zeros(), zeros()) for _ in range(cfg.num_decoder_layers)]

  def prepare_decoding(self, params: Params, turn: bool = False) -> Params:
    """-> what `decode_step` reads; see `decoder_step.prepare`."""
    return decoder_step.prepare(self.config, params, turn)

  def decode_step(
      self, params: Params, tokens: jax.Array, column: jax.Array, ages: jax.Array,
      cache: decoding.Cache, context: decoding.Context,
  ) -> tuple[jax.Array, decoding.Cache]:
    """One more token of every row.

    Args:
      params: from `prepare_decoding`.
      tokens: int32 [rows], the last token of each row; 0 of one that begins.
      column: int32, where the cache is written.
      ages: int32 [rows], the tokens that each row has: how far back it looks.
      cache: from `init_cache`, or of the step before.
      context: from `encode`; where it has fewer rows, each serves as many neighbours: beams.

    Returns:
      float32 [rows, vocab], the logits of the next token, and the cache with this one.
    """
    return decoder_step.step(self.config, params, tokens, column, ages, cache, context)


def param_count(params: Params) -> int:
  """-> the number of scalars in a tree of arrays or of shapes."""
  return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def to_json(config: T5Config, **extra: Any) -> str:
  """-> model.json's text: the config, and what else a run says of its model."""
  return json.dumps({'architecture': 't5', 'config': dataclasses.asdict(config), **extra},
                    indent=2, sort_keys=True) + '\n'


def from_folder(folder: str | pathlib.Path, merged: bool = False) -> EncoderDecoderModel:
  """-> the model that `folder`/model.json describes; UserError when there is none.

  Args:
    folder: of a run, or a converted one.
    merged: without LoRA's factors, which are folded into the kernels.
  """
  path = pathlib.Path(folder) / 'model.json'
  if not path.is_file():
    raise errors.UserError('no model.json here', where=str(folder),
                           hint='a run folder holds one')
  try:
    fields = json.loads(path.read_text())['config']
    known = {field.name for field in dataclasses.fields(T5Config)}
    config = T5Config(**{name: value for name, value in fields.items() if name in known})
  except (ValueError, KeyError, TypeError) as error:
    raise errors.UserError('model.json cannot be read', where=str(path), got=error) from error
  return EncoderDecoderModel(dataclasses.replace(config, lora=None) if merged else config)
