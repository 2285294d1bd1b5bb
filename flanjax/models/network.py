"""The encoder-decoder network of T5 1.1, in Linen; T5X's names of modules and parameters."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from flanjax.models import attention, decoding, layers, prompts, stack
from flanjax.models.config import T5Config

Batch = Mapping[str, jax.Array]


def _attention(cfg: T5Config) -> layers.Attention:
  return layers.Attention(
      cfg.num_heads, cfg.head_dim, cfg.emb_dim, jnp.dtype(cfg.dtype), cfg.dropout_rate, cfg.lora,
      cfg.attention)


def _mlp(cfg: T5Config) -> layers.MLP:
  return layers.MLP(
      cfg.mlp_dim, cfg.emb_dim, cfg.mlp_activations, jnp.dtype(cfg.dtype), cfg.dropout_rate,
      cfg.lora)


def _relpos(cfg: T5Config, bidirectional: bool) -> layers.RelativePositionBias:
  prompt = cfg.prompt_length if bidirectional and not cfg.prompt_reads_inputs else 0
  return layers.RelativePositionBias(cfg.num_heads, bidirectional, prompt)


def _norm(cfg: T5Config) -> layers.RMSNorm:
  return layers.RMSNorm(jnp.dtype(cfg.dtype))


def _drops(
    cfg: T5Config, key: jax.Array | None, layers_: int, x: jax.Array, attends: Mapping[str, int],
    last_shared: bool,
) -> tuple[jax.Array | None, jax.Array | None, dict[str, jax.Array | None]]:
  """What dropout keeps of what enters a stack, of what leaves it, and in all layers, drawn at once.

  As in T5, one draw serves all positions of a row, and all queries of a head.

  Args:
    cfg: the config.
    key: of dropout, or None.
    layers_: how many there are.
    x: what enters, [batch, length, embed].
    attends: name of an attention -> number of keys.
    last_shared: whether one draw serves all positions of what leaves, too.

  Returns:
    The third is of arrays [layers, batch, ...].
  """
  rows, length, embed = x.shape
  shapes = {'first': (rows, 1, embed), 'last': (rows, 1 if last_shared else length, embed),
            'hidden': (layers_, rows, 1, cfg.mlp_dim), 'fed': (layers_, rows, 1, cfg.emb_dim)}
  for name, keys in attends.items():
    shapes[f'{name}_weights'] = (layers_, rows, cfg.num_heads, 1, keys)
    shapes[name] = (layers_, rows, 1, cfg.emb_dim)
  of_lora = key is not None and cfg.lora is not None and cfg.lora.dropout > 0
  lora_keys = jax.random.split(jax.random.fold_in(key, 1), layers_) if of_lora else None
  kept = layers.draw_kept(key, cfg.dropout_rate, shapes)
  return kept.pop('first'), kept.pop('last'), {**kept, 'lora': lora_keys}


class EncoderLayer(nn.Module):
  """Self-attention, then feed-forward, each normed before and added after."""

  config: T5Config

  def setup(self):
    self.pre_attention_layer_norm = _norm(self.config)
    self.attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    if self.config.relpos_per_layer:
      self.relpos_bias = _relpos(self.config, bidirectional=True)

  def __call__(
      self, x: jax.Array, bias: jax.Array | None, allowed: jax.Array,
      drops: Mapping[str, jax.Array | None],
  ) -> jax.Array:
    rate, key = self.config.dropout_rate, drops['lora']
    if self.config.relpos_per_layer:
      bias = self.relpos_bias(x.shape[-2])
    y = self.pre_attention_layer_norm(x)
    y = self.attention.attend(
        y, self.attention.keys_values(y, key), bias, allowed, drops['self_weights'], key)
    x = x + layers.dropout(y, drops['self'], rate)
    y = self.mlp(self.pre_mlp_layer_norm(x), drops['hidden'], key)
    x = x + layers.dropout(y, drops['fed'], rate)
    return layers.constrain(x, ('batch', 'length', 'embed'))


class DecoderLayer(nn.Module):
  """Self-attention, attention to the encoder, feed-forward; `decoder_step` has it for one position."""

  config: T5Config

  def setup(self):
    self.pre_self_attention_layer_norm = _norm(self.config)
    self.self_attention = _attention(self.config)
    self.pre_cross_attention_layer_norm = _norm(self.config)
    self.encoder_decoder_attention = _attention(self.config)
    self.pre_mlp_layer_norm = _norm(self.config)
    self.mlp = _mlp(self.config)
    if self.config.relpos_per_layer:
      self.relpos_bias = _relpos(self.config, bidirectional=False)

  def __call__(
      self, x: jax.Array, encoded: jax.Array, bias: jax.Array | None, allowed: jax.Array,
      cross_allowed: jax.Array, drops: Mapping[str, jax.Array | None],
  ) -> jax.Array:
    if self.config.relpos_per_layer:
      bias = self.relpos_bias(x.shape[-2])
    y = self.pre_self_attention_layer_norm(x)
    keys_values = self.self_attention.keys_values(y, drops['lora'])
    context = self.encoder_decoder_attention.keys_values(encoded, drops['lora'])
    return self._attend(x, y, keys_values, context, bias, allowed, cross_allowed, drops)

  def context(self, encoded: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What cross-attention reads, heads first; see `decoding.Context`."""
    return tuple(
        layers.constrain(jnp.swapaxes(x, 1, 2), ('batch', 'heads', 'length', 'kv'))
        for x in self.encoder_decoder_attention.keys_values(encoded))

  def _attend(self, x, y, keys_values, context, bias, allowed, cross_allowed, drops):
    rate, key = self.config.dropout_rate, drops['lora']
    y = self.self_attention.attend(
        y, keys_values, bias, allowed, drops['self_weights'], key)
    x = x + layers.dropout(y, drops['self'], rate)
    y = self.pre_cross_attention_layer_norm(x)
    y = self.encoder_decoder_attention.attend(
        y, context, None, cross_allowed, drops['cross_weights'], key)
    x = x + layers.dropout(y, drops['cross'], rate)
    y = self.mlp(self.pre_mlp_layer_norm(x), drops['hidden'], key)
    x = x + layers.dropout(y, drops['fed'], rate)
    return layers.constrain(x, ('batch', 'length', 'embed'))


class Encoder(nn.Module):
  """Embedded inputs -> what the decoder attends to, both [batch, length, embed]."""

  config: T5Config

  def setup(self):
    cfg = self.config
    if not cfg.relpos_per_layer:
      self.relpos_bias = _relpos(cfg, bidirectional=True)
    self.layers = [EncoderLayer(cfg) for _ in range(cfg.num_encoder_layers)]
    self.encoder_norm = _norm(cfg)

  def __call__(self, x: jax.Array, allowed: jax.Array, key: jax.Array | None) -> jax.Array:
    cfg = self.config
    first, last, drops = _drops(
        cfg, key, cfg.num_encoder_layers, x, {'self': x.shape[1]}, last_shared=False)
    bias = None if cfg.relpos_per_layer else self.relpos_bias(x.shape[-2])
    x = stack.run(self, self.layers, layers.dropout(x, first, cfg.dropout_rate), drops,
                  (bias, allowed), scan=cfg.scan_layers, remat=cfg.remat)
    return layers.dropout(self.encoder_norm(x), last, cfg.dropout_rate)


class Decoder(nn.Module):
  """Embedded targets, shifted right -> last hidden states, [batch, length, embed]."""

  config: T5Config

  def setup(self):
    cfg = self.config
    if not cfg.relpos_per_layer:
      self.relpos_bias = _relpos(cfg, bidirectional=False)
    self.layers = [DecoderLayer(cfg) for _ in range(cfg.num_decoder_layers)]
    self.decoder_norm = _norm(cfg)
    if not cfg.logits_via_embedding:
      self.logits_dense = layers.Dense(
          cfg.vocab_size, ('embed', 'vocab'), jnp.dtype(cfg.dtype), lora=cfg.lora,
          out_dtype=jnp.float32)

  def __call__(
      self, x: jax.Array, encoded: jax.Array, allowed: jax.Array, cross_allowed: jax.Array,
      key: jax.Array | None,
  ) -> jax.Array:
    """-> the last hidden states, [batch, length, embed]."""
    cfg = self.config
    first, last, drops = _drops(
        cfg, key, cfg.num_decoder_layers, x, {'self': x.shape[1], 'cross': encoded.shape[1]},
        last_shared=True)
    bias = None if cfg.relpos_per_layer else self.relpos_bias(x.shape[-2])
    x = stack.run(self, self.layers, layers.dropout(x, first, cfg.dropout_rate), drops,
                  (encoded, bias, allowed, cross_allowed), scan=cfg.scan_layers, remat=cfg.remat)
    return layers.dropout(self.decoder_norm(x), last, cfg.dropout_rate)

  def context(self, encoded: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """The encoder's keys and values, for every layer."""
    return [layer.context(encoded) for layer in self.layers]


class Transformer(nn.Module):
  """The whole network; `__call__` gives the logits of every target position."""

  config: T5Config

  def setup(self):
    cfg = self.config
    self.token_embedder = layers.Embed(cfg.vocab_size, cfg.emb_dim, jnp.dtype(cfg.dtype))
    if cfg.prompt_length:
      self.prompt = prompts.Prompt(cfg.prompt_length, cfg.emb_dim, jnp.dtype(cfg.dtype))
    self.encoder = Encoder(cfg)
    self.decoder = Decoder(cfg)

  def encode(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    tokens, segments = batch['encoder_input_tokens'], batch.get('encoder_segment_ids')
    mask = attention.attention_mask(tokens > 0, tokens > 0, segments, segments)
    x = self.token_embedder(tokens)
    if self.config.prompt_length:
      x = self.prompt(x)
      mask = prompts.encoder_mask(
          mask, self.config.prompt_length, self.config.prompt_reads_inputs, segments)
    return self.encoder(x, mask, key)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """[batch, length, embed] -> float32 [batch, length, vocab]."""
    if self.config.logits_via_embedding:
      logits = self.token_embedder.attend(hidden / jnp.sqrt(float(self.config.emb_dim)))
    else:
      logits = self.decoder.logits_dense(hidden)
    if self.config.vocab_padding:
      real = jnp.arange(self.config.vocab_size) < (
          self.config.vocab_size - self.config.vocab_padding)
      logits = jnp.where(real, logits, attention.MASKED)
    return layers.constrain(logits, ('batch', 'length', 'vocab'))

  def hidden(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """-> the decoder's last hidden states, [batch, length, embed].

    Relative positions are differences of columns: within a segment of a packed row these
    are the same as differences of positions, so `*_positions` are not read.
    """
    encoder_key, decoder_key = layers.split_key(key, 2)
    encoded = self.encode(batch, encoder_key)
    source, targets = batch['encoder_input_tokens'] > 0, batch['decoder_target_tokens'] > 0
    source_segments = batch.get('encoder_segment_ids')
    segments = batch.get('decoder_segment_ids')
    causal = jnp.tril(jnp.ones((targets.shape[1],) * 2, bool))
    allowed = attention.attention_mask(targets, targets, segments, segments) & causal
    cross_allowed = prompts.cross_mask(
        attention.attention_mask(targets, source, segments, source_segments),
        self.config.prompt_length)
    x = self.token_embedder(batch['decoder_input_tokens'])
    return self.decoder(x, encoded, allowed, cross_allowed, decoder_key)

  def __call__(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """-> float32 [batch, length, vocab]; `key` is of dropout, without which there is none."""
    return self.logits(self.hidden(batch, key))

  def context(self, tokens: jax.Array) -> decoding.Context:
    """Inputs [prompts, length] -> what decoding reads of them."""
    encoded = self.encode({'encoder_input_tokens': tokens})
    valid = prompts.cross_mask((tokens > 0)[:, None], self.config.prompt_length)[:, 0]
    return decoding.Context(self.decoder.context(encoded), valid)
