"""One step of a decoder, as pure functions of its parameters: what decoding spends its time in.

The same function as `network.Decoder`, of one position of each row. Activations are held with
features first, [embed, rows], and kernels turned, [out, in]: for few rows the product
kernel x activations takes a CPU less than half the time that activations x kernel does.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flanjax.models import attention, decoding, layers
from flanjax.models import lora as lora_lib
from flanjax.models.config import T5Config

Params = Mapping[str, Any]
# Projections of the same activations, which `prepare` joins.
_JOINED = {'query_key_value': ('query', 'key', 'value'), 'wi_0_1': ('wi_0', 'wi_1')}


def prepare(config: T5Config, params: Params, turn: bool) -> dict[str, Any]:
  """-> what `step` reads: the decoder and the embedding, LoRA's factors folded in.

  Args:
    config: of the model.
    params: all parameters.
    turn: copies kernels, turned and in the type of computation; else they are read as they are.
  """
  found = {name: params[name] for name in ('decoder', 'token_embedder')}
  if config.lora is not None:
    found = lora_lib.merge(found, config.lora.scale)
  if not turn:
    return found
  decoder = dict(found['decoder'])
  for i in range(config.num_decoder_layers):
    layer = dict(decoder[f'layers_{i}'])
    # Keys and values of the inputs are made once, by `encode`.
    cross = layer['encoder_decoder_attention']
    layer['encoder_decoder_attention'] = {name: cross[name] for name in ('query', 'out')}
    decoder[f'layers_{i}'] = layer
  return _turned({**found, 'decoder': decoder}, jnp.dtype(config.dtype))


def _turned(tree: Params, dtype: jnp.dtype) -> dict[str, Any]:
  turn = lambda *names: {'turned': jnp.concatenate(
      [tree[name]['kernel'].T.astype(dtype) for name in names])}
  if 'kernel' in tree:
    return {'turned': tree['kernel'].T.astype(dtype)}
  rest = dict(tree)
  for name, parts in _JOINED.items():
    if all(part in tree for part in parts):
      rest[name] = turn(*parts)
      rest = {key: value for key, value in rest.items() if key not in parts}
  return {name: _turned(value, dtype) if isinstance(value, Mapping) and 'turned' not in value
          else value for name, value in rest.items()}


def _dense(params: Params, x: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
  """[in, rows] -> [out, rows]."""
  if 'turned' in params:
    # Barriers: XLA would fold a transpose before or after into the product, and turn it round.
    x = jax.lax.optimization_barrier(x)
    return jax.lax.optimization_barrier(
        jnp.matmul(params['turned'], x, preferred_element_type=dtype))
  return jnp.einsum('io,ir->or', params['kernel'].astype(x.dtype), x, preferred_element_type=dtype)


def _dense_all(params: Params, names: tuple[str, ...], x: jax.Array) -> list[jax.Array]:
  """The products of some projections of one size, in one where they are joined."""
  for name, parts in _JOINED.items():
    if parts == names and name in params:
      return jnp.split(_dense(params[name], x), len(names))
  return [_dense(params[name], x) for name in names]


def _norm(params: Params, x: jax.Array) -> jax.Array:
  """`layers.rms_norm` over the first axis."""
  wide = x.astype(jnp.float32)
  inverse_rms = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=0, keepdims=True) + 1e-6)
  return (wide * inverse_rms).astype(x.dtype) * params['scale'].astype(x.dtype)[:, None]


def _attend(
    params: Params, query: jax.Array, keys_values: tuple[jax.Array, jax.Array],
    bias: jax.Array | None, allowed: jax.Array,
) -> jax.Array:
  """[joined_kv, rows] -> [embed, rows], having looked at two of [prompts, heads, length, kv].

  Where there are fewer prompts than rows, each is looked at by as many neighbours.
  """
  prompts, heads, _, kv = keys_values[0].shape
  # Products whose batch axes come first in every operand: XLA would move those of the caches,
  # which are large, to where it finds those of the first one.
  query = query.T.reshape(prompts, -1, heads, kv).swapaxes(1, 2)
  logits = jnp.einsum('bhqd,bhkd->bhqk', query, keys_values[0],
                      preferred_element_type=jnp.float32)
  if bias is not None:
    logits = logits + bias
  weights = jax.nn.softmax(jnp.where(allowed[:, None, None], logits, attention.MASKED))
  y = jnp.einsum('bhqk,bhkd->bhqd', weights.astype(query.dtype), keys_values[1])
  return _dense(params['out'], y.swapaxes(1, 2).reshape(-1, heads * kv).T)


def _heads(x: jax.Array, heads: int) -> jax.Array:
  """[joined_kv, rows] -> [rows, heads, 1, kv]."""
  return x.T.reshape(x.shape[1], heads, 1, -1)


def _mlp(config: T5Config, params: Params, x: jax.Array) -> jax.Array:
  names = ('wi',) if len(config.mlp_activations) == 1 else tuple(
      f'wi_{i}' for i in range(len(config.mlp_activations)))
  branches = [y if name == 'linear' else getattr(nn, name)(y)
              for name, y in zip(config.mlp_activations, _dense_all(params, names, x))]
  hidden = functools.reduce(operator.mul, branches)
  return _dense(params['wo'], layers.constrain(hidden, ('mlp', 'batch')))


def _bias(params: Params, ages: jax.Array) -> jax.Array:
  """float32 [1, heads, 1, length], of keys that so many positions stand before a query."""
  buckets = attention.relative_position_bucket(-np.arange(ages.shape[0]), bidirectional=False)
  return params['relpos_bias']['rel_embedding'][:, jnp.asarray(buckets)[ages]][None, :, None]


def _layer(config, params, x, column, cache, context, bias, allowed, cross_allowed):
  y = _norm(params['pre_self_attention_layer_norm'], x)
  query, *new = _dense_all(params['self_attention'], ('query', 'key', 'value'), y)
  cache = decoding.write(cache, [_heads(part, config.num_heads) for part in new], column)
  x = x + _attend(params['self_attention'], query, cache, bias, allowed)
  y = _norm(params['pre_cross_attention_layer_norm'], x)
  query = _dense(params['encoder_decoder_attention']['query'], y)
  x = x + _attend(params['encoder_decoder_attention'], query, context, None, cross_allowed)
  x = x + _mlp(config, params['mlp'], _norm(params['pre_mlp_layer_norm'], x))
  return layers.constrain(x, ('embed', 'batch')), cache


def step(
    config: T5Config, params: Params, tokens: jax.Array, column: jax.Array, ages: jax.Array,
    cache: decoding.Cache, context: decoding.Context,
) -> tuple[jax.Array, decoding.Cache]:
  """See `t5.EncoderDecoderModel.decode_step`; `params` are from `prepare`."""
  dtype, decoder = jnp.dtype(config.dtype), params['decoder']
  embedding = params['token_embedder']['embedding']
  x = jnp.take(embedding, tokens, axis=0, mode='clip').astype(dtype).T
  written = decoding.ages(column, cache[0][0].shape[2])
  allowed, grown = written <= ages[:, None], []
  for i in range(config.num_decoder_layers):
    layer = decoder[f'layers_{i}']
    bias = _bias(layer if config.relpos_per_layer else decoder, written)
    x, kept = _layer(config, layer, x, column, cache[i], context.layers[i], bias, allowed,
                     context.valid)
    grown.append(kept)
  return _logits(config, params, _norm(decoder['decoder_norm'], x)), grown


def _logits(config: T5Config, params: Params, x: jax.Array) -> jax.Array:
  """[embed, rows] -> float32 [rows, vocab]."""
  if config.logits_via_embedding:
    x = (x / jnp.sqrt(float(config.emb_dim))).astype(config.dtype)
    logits = jnp.matmul(params['token_embedder']['embedding'].astype(x.dtype), x,
                        preferred_element_type=jnp.float32)
  else:
    logits = _dense(params['decoder']['logits_dense'], x, jnp.float32)
  if config.vocab_padding:
    real = np.arange(config.vocab_size) < config.vocab_size - config.vocab_padding
    logits = jnp.where(real[:, None], logits, attention.MASKED)
  return layers.constrain(logits.T, ('batch', 'vocab'))
