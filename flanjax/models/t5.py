"""T5 1.1: the encoder-decoder network, and the model as pure functions over plain trees."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta

from flanjax import errors
from flanjax.models import decoding, layers, losses

Batch = Mapping[str, jax.Array]
Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes of a T5. Two activations give T5 1.1's gated feed-forward, ('relu',) gives T5 1.0's.

  `logits_via_embedding` ties the output to the embedding, scaled by 1/sqrt(emb_dim), as in
  T5 1.0. `dtype` is that of activations; parameters, norms, softmax and logits are float32.
  `relpos_per_layer` gives every layer relative positions of its own, as in UMT5. The last
  `vocab_padding` rows of the vocabulary stand for no token, and are never predicted.
  """

  vocab_size: int
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ('gelu', 'linear')
  dropout_rate: float = 0.0
  logits_via_embedding: bool = False
  dtype: str = 'float32'
  relpos_per_layer: bool = False
  vocab_padding: int = 0

  def __post_init__(self):
    object.__setattr__(self, 'mlp_activations', tuple(self.mlp_activations))
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 0 if field.name == 'vocab_padding' else 1
      if field.type == 'int' and (isinstance(value, bool) or not isinstance(value, int)
                                  or value < least):
        raise errors.UserError(f'{field.name} must be a positive integer',
                               where='T5Config', got=repr(value))
    if self.vocab_padding >= self.vocab_size:
      raise errors.UserError('vocab_padding leaves no token', where='T5Config',
                             got=self.vocab_padding, expected=f'below {self.vocab_size}')
    if not 0.0 <= self.dropout_rate < 1.0:
      raise errors.UserError('dropout_rate must be at least 0 and below 1',
                             where='T5Config', got=self.dropout_rate)
    if self.dtype not in ('float32', 'bfloat16'):
      raise errors.UserError('dtype not supported', where='T5Config', got=self.dtype,
                             expected='float32 or bfloat16')
    for name in self.mlp_activations:
      if name != 'linear' and not hasattr(nn, name):
        raise errors.UserError('unknown activation', where='T5Config.mlp_activations', got=name,
                               expected='linear, gelu, relu, silu or another of flax.linen')


def _attention(cfg: T5Config) -> layers.Attention:
  return layers.Attention(
      cfg.num_heads, cfg.head_dim, cfg.emb_dim, jnp.dtype(cfg.dtype), cfg.dropout_rate)


def _mlp(cfg: T5Config) -> layers.MLP:
  return layers.MLP(
      cfg.mlp_dim, cfg.emb_dim, cfg.mlp_activations, jnp.dtype(cfg.dtype), cfg.dropout_rate)


def _relpos(cfg: T5Config, bidirectional: bool) -> layers.RelativePositionBias:
  return layers.RelativePositionBias(cfg.num_heads, bidirectional)


def _norm(cfg: T5Config) -> layers.RMSNorm:
  return layers.RMSNorm(jnp.dtype(cfg.dtype))


class EncoderLayer(nn.Module):
  """Self-attention, then feed-forward, each normed before and added after."""

  config: T5Config

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = nn.Dropout(self.config.dropout_rate, broadcast_dims=(-2,))
    if self.config.relpos_per_layer:
      self.relpos_bias = _relpos(self.config, bidirectional=True)

  def __call__(self, x: jax.Array, bias: jax.Array, deterministic: bool) -> jax.Array:
    if self.config.relpos_per_layer:
      bias = bias + self.relpos_bias(x.shape[-2])
    y = self.pre_attention_layer_norm(x)
    x = x + self.dropout(self.attention(y, y, bias, deterministic), deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


class DecoderLayer(nn.Module):
  """Self-attention, attention to the encoder, feed-forward; for all positions, or one at a time."""

  config: T5Config

  def setup(self):
    self.pre_self_attention_layer_norm = _norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = _norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    self.dropout = nn.Dropout(self.config.dropout_rate, broadcast_dims=(-2,))
    if self.config.relpos_per_layer:
      self.relpos_bias = _relpos(self.config, bidirectional=False)

  def __call__(
      self, x: jax.Array, encoded: jax.Array, self_bias: jax.Array, cross_bias: jax.Array,
      deterministic: bool,
  ) -> jax.Array:
    if self.config.relpos_per_layer:
      self_bias = self_bias + self.relpos_bias(x.shape[-2])
    y = self.pre_self_attention_layer_norm(x)
    keys_values = self.self_attention.keys_values(y)
    context = self.encoder_decoder_attention.keys_values(encoded)
    return self._attend(x, y, keys_values, context, self_bias, cross_bias, deterministic)

  def step(
      self, x: jax.Array, index: jax.Array, cache: decoding.LayerCache, self_bias: jax.Array,
      cross_bias: jax.Array,
  ) -> tuple[jax.Array, decoding.LayerCache]:
    """One position, [batch, 1, embed], whose keys and values are written at `index`."""
    y = self.pre_self_attention_layer_norm(x)
    cache = decoding.write_cache(cache, self.self_attention.keys_values(y), index)
    if self.config.relpos_per_layer:
      self_bias = self_bias + self.relpos_bias.row(index, cache.key.shape[1])
    x = self._attend(x, y, (cache.key, cache.value), (cache.context_key, cache.context_value),
                     self_bias, cross_bias, True)
    return x, cache

  def _attend(self, x, y, keys_values, context, self_bias, cross_bias, deterministic):
    y = self.self_attention.attend(y, keys_values, self_bias, deterministic)
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.pre_cross_attention_layer_norm(x)
    y = self.encoder_decoder_attention.attend(y, context, cross_bias, deterministic)
    x = x + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    return x + self.dropout(y, deterministic=deterministic)


class Encoder(nn.Module):
  """Embedded inputs -> what the decoder attends to, both [batch, length, embed]."""

  config: T5Config

  def setup(self):
    cfg = self.config
    if not cfg.relpos_per_layer:
      self.relpos_bias = _relpos(cfg, bidirectional=True)
    self.layers = [EncoderLayer(cfg) for _ in range(cfg.num_encoder_layers)]
    self.encoder_norm = _norm(cfg)
    self.dropout = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))
    self.last_dropout = nn.Dropout(cfg.dropout_rate)

  def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
    bias = layers.mask_to_bias(mask)
    if not self.config.relpos_per_layer:
      bias = self.relpos_bias(x.shape[-2]) + bias
    x = self.dropout(x, deterministic=deterministic)
    for layer in self.layers:
      x = layer(x, bias, deterministic)
    return self.last_dropout(self.encoder_norm(x), deterministic=deterministic)


class Decoder(nn.Module):
  """Embedded targets, shifted right -> last hidden states, [batch, length, embed]."""

  config: T5Config

  def setup(self):
    cfg = self.config
    if not cfg.relpos_per_layer:
      self.relpos_bias = _relpos(cfg, bidirectional=False)
    self.layers = [DecoderLayer(cfg) for _ in range(cfg.num_decoder_layers)]
    self.decoder_norm = _norm(cfg)
    self.dropout = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))
    if not cfg.logits_via_embedding:
      self.logits_dense = layers.Dense(cfg.vocab_size, ('embed', 'vocab'), jnp.float32)

  def __call__(
      self, x: jax.Array, encoded: jax.Array, self_mask: jax.Array, cross_mask: jax.Array,
      deterministic: bool,
  ) -> jax.Array:
    """-> the last hidden states, [batch, length, embed]."""
    self_bias = layers.mask_to_bias(self_mask)
    if not self.config.relpos_per_layer:
      self_bias = self.relpos_bias(x.shape[-2]) + self_bias
    cross_bias = layers.mask_to_bias(cross_mask)
    x = self.dropout(x, deterministic=deterministic)
    for layer in self.layers:
      x = layer(x, encoded, self_bias, cross_bias, deterministic)
    return self.dropout(self.decoder_norm(x), deterministic=deterministic)

  def start_cache(self, encoded: jax.Array, max_length: int) -> list[decoding.LayerCache]:
    """Empty self-attention caches, and the encoder's keys and values, once per layer."""
    return [
        decoding.empty_cache(layer.encoder_decoder_attention.keys_values(encoded), max_length)
        for layer in self.layers]

  def step(
      self, x: jax.Array, index: jax.Array, caches: list[decoding.LayerCache],
      cross_mask: jax.Array,
  ) -> tuple[jax.Array, list[decoding.LayerCache]]:
    """One position, [batch, 1, embed] -> its last hidden state and the caches grown by it."""
    length = caches[0].key.shape[1]
    self_bias = layers.mask_to_bias((jnp.arange(length) <= index)[None, None])
    if not self.config.relpos_per_layer:
      self_bias = self.relpos_bias.row(index, length) + self_bias
    cross_bias = layers.mask_to_bias(cross_mask)
    grown = []
    for layer, cache in zip(self.layers, caches):
      x, cache = layer.step(x, index, cache, self_bias, cross_bias)
      grown.append(cache)
    return self.decoder_norm(x), grown


class Transformer(nn.Module):
  """The whole network; `__call__` gives the logits of every target position."""

  config: T5Config

  def setup(self):
    cfg = self.config
    self.token_embedder = layers.Embed(cfg.vocab_size, cfg.emb_dim, jnp.dtype(cfg.dtype))
    self.encoder = Encoder(cfg)
    self.decoder = Decoder(cfg)

  def encode(self, batch: Batch, deterministic: bool = True) -> jax.Array:
    tokens, segments = batch['encoder_input_tokens'], batch.get('encoder_segment_ids')
    mask = layers.attention_mask(tokens > 0, tokens > 0, segments, segments)
    return self.encoder(self.token_embedder(tokens), mask, deterministic)

  def _logits(self, hidden: jax.Array) -> jax.Array:
    if self.config.logits_via_embedding:
      logits = self.token_embedder.attend(hidden / jnp.sqrt(float(self.config.emb_dim)))
    else:
      logits = self.decoder.logits_dense(hidden)
    if self.config.vocab_padding:
      real = jnp.arange(self.config.vocab_size) < (
          self.config.vocab_size - self.config.vocab_padding)
      logits = jnp.where(real, logits, layers.MASKED)
    return layers.constrain(logits, ('batch', 'length', 'vocab'))

  def __call__(self, batch: Batch, deterministic: bool = True) -> jax.Array:
    """-> float32 [batch, length, vocab].

    Relative positions are differences of columns: within a segment of a packed row these
    are the same as differences of positions, so `*_positions` are not read.
    """
    encoded = self.encode(batch, deterministic)
    source, targets = batch['encoder_input_tokens'] > 0, batch['decoder_target_tokens'] > 0
    source_segments = batch.get('encoder_segment_ids')
    segments = batch.get('decoder_segment_ids')
    causal = jnp.tril(jnp.ones((targets.shape[1],) * 2, bool))
    self_mask = layers.attention_mask(targets, targets, segments, segments) & causal
    cross_mask = layers.attention_mask(targets, source, segments, source_segments)
    x = self.token_embedder(batch['decoder_input_tokens'])
    return self._logits(self.decoder(x, encoded, self_mask, cross_mask, deterministic))

  def start_decoding(self, batch: Batch, max_length: int) -> list[decoding.LayerCache]:
    return self.decoder.start_cache(self.encode(batch), max_length)

  def decode_step(
      self, tokens: jax.Array, index: jax.Array, caches: list[decoding.LayerCache],
      encoder_input_tokens: jax.Array,
  ) -> tuple[jax.Array, list[decoding.LayerCache]]:
    """Previous tokens [batch] at position `index` -> logits [batch, vocab] of the next."""
    x = self.token_embedder(tokens[:, None])
    cross_mask = (encoder_input_tokens > 0)[:, None, :]
    hidden, caches = self.decoder.step(x, index, caches, cross_mask)
    return self._logits(hidden)[:, 0], caches


def _is_box(x: Any) -> bool:
  return isinstance(x, meta.AxisMetadata)


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

  def _unboxed_init(self, rng: jax.Array) -> Params:
    return jax.tree.map(lambda box: box.value, self._boxed_init(rng), is_leaf=_is_box)

  def init(self, rng: jax.Array, batch: Batch | None = None) -> Params:
    """-> fresh parameters; they depend on the config alone, `batch` is not read."""
    del batch
    return jax.jit(self._unboxed_init)(rng)

  def param_shapes(self) -> Params:
    """-> the tree of `jax.ShapeDtypeStruct`s that `init` would give."""
    return jax.eval_shape(self._unboxed_init, jax.random.key(0))

  def logical_axes(self, params: Params | None = None) -> Params:
    """-> the tree of tuples of logical axis names, one name per dimension of a parameter."""
    del params
    boxed = jax.eval_shape(self._boxed_init, jax.random.key(0))
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=_is_box)

  def logits(self, params: Params, batch: Batch, rng: jax.Array | None = None) -> jax.Array:
    """-> float32 [batch, length, vocab]; dropout only where `rng` is given."""
    rngs = None if rng is None else {'dropout': rng}
    return self.module.apply({'params': params}, batch, deterministic=rng is None, rngs=rngs)

  def loss_fn(
      self, params: Params, batch: Batch, rng: jax.Array | None = None
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """-> the loss summed over target tokens, and sums; see `losses.cross_entropy`."""
    targets = batch['decoder_target_tokens']
    weights = batch.get('decoder_loss_weights')
    if weights is None:
      weights = (targets > 0).astype(jnp.float32)
    return losses.cross_entropy(
        self.logits(params, batch, rng), targets, weights, self.z_loss, self.label_smoothing)

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

  def predict_batch(
      self, params: Params, batch: Batch, max_decode_steps: int, eos_id: int = 1
  ) -> jax.Array:
    """-> int32 [batch, max_decode_steps]: the greedy continuation, zeros after `eos_id`."""
    apply = lambda method, *args: self.module.apply({'params': params}, *args, method=method)
    source = batch['encoder_input_tokens']
    caches = apply(Transformer.start_decoding, {'encoder_input_tokens': source},
                   max_decode_steps)
    step = lambda tokens, index, caches: apply(
        Transformer.decode_step, tokens, index, caches, source)
    return decoding.greedy(step, caches, source.shape[0], max_decode_steps, eos_id)


def param_count(params: Params) -> int:
  """-> the number of scalars in a tree of arrays or of shapes."""
  return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def to_json(config: T5Config, **extra: Any) -> str:
  """-> model.json's text: the config, and what else a run says of its model."""
  return json.dumps({'architecture': 't5', 'config': dataclasses.asdict(config), **extra},
                    indent=2, sort_keys=True) + '\n'


def from_folder(folder: str | pathlib.Path) -> EncoderDecoderModel:
  """-> the model that `folder`/model.json describes; UserError when there is none."""
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
  return EncoderDecoderModel(config)
