"""config.json of transformers' T5, mT5 and UMT5, and our T5Config, into each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flanjax.errors import UserError, nearest
from flanjax.models import attention
from flanjax.models.t5 import T5Config

VOCAB_MULTIPLE = 128
_MAX_LAYERS = 1024
_MAX_SIZE = 1 << 24
_ARCHITECTURES = {
    't5': ('T5ForConditionalGeneration', 'T5WithLMHeadModel'),
    'mt5': ('MT5ForConditionalGeneration',),
    'umt5': ('UMT5ForConditionalGeneration',),
}
# transformers' gated-gelu is the tanh approximation, as flax's gelu; its plain gelu is not.
_ACTIVATIONS = {
    'relu': ('relu',), 'silu': ('silu',), 'gelu_new': ('gelu',), 'gated-gelu': ('gelu', 'linear'),
    'gated-silu': ('silu', 'linear'), 'gated-relu': ('relu', 'linear'),
}
_SIZES = {'emb_dim': 'd_model', 'head_dim': 'd_kv', 'mlp_dim': 'd_ff', 'num_heads': 'num_heads',
          'num_encoder_layers': 'num_layers', 'num_decoder_layers': 'num_decoder_layers',
          'vocab_size': 'vocab_size'}
# What our network has built in: (value, what transformers takes where the file is silent).
_FIXED = {
    'relative_attention_num_buckets': attention.RELPOS_BUCKETS,
    'relative_attention_max_distance': attention.RELPOS_MAX_DISTANCE,
    'layer_norm_epsilon': 1e-6, 'pad_token_id': 0, 'eos_token_id': 1, 'decoder_start_token_id': 0,
}


def model_type(config: Mapping[str, Any], where: str) -> str:
  """'t5', 'mt5' or 'umt5'; UserError for any other architecture."""
  kind = config.get('model_type')
  named = config.get('architectures') or []
  if kind not in _ARCHITECTURES:
    raise UserError('This is not a T5.', where=where, got=f'model_type {kind!r}',
                    hint=nearest(str(kind), _ARCHITECTURES))
  if not isinstance(named, list) or any(name not in _ARCHITECTURES[kind] for name in named):
    raise UserError('Only whole encoder-decoder models can be converted.', where=where,
                    got=f'architectures {named}', expected=' or '.join(_ARCHITECTURES[kind]))
  if config.get('quantization_config'):
    raise UserError('Quantised weights cannot be converted.', where=where,
                    got='quantization_config', expected='float32, bfloat16 or float16')
  return kind


def is_modern(config: Mapping[str, Any]) -> bool:
  """Whether transformers 5 or later wrote this: it says true for tied embeddings of any T5."""
  major = str(config.get('transformers_version') or '0').partition('.')[0]
  return major.isdigit() and int(major) >= 5


def says_tied(config: Mapping[str, Any]) -> bool:
  return config.get('tie_word_embeddings', config.get('model_type') != 'mt5') is not False


def scales_output(config: Mapping[str, Any]) -> bool:
  """Whether the decoder's output is multiplied by d_model**-0.5 before the head."""
  if not is_modern(config):
    return says_tied(config)
  if config['model_type'] == 't5':
    return bool(config.get('scale_decoder_outputs', says_tied(config)))
  return config['model_type'] == 'umt5'


def from_hf(config: Mapping[str, Any], tied: bool, where: str) -> T5Config:
  """The sizes as ours, the vocabulary padded to a multiple of 128.

  Args:
    config: what config.json holds, of a known architecture.
    tied: whether the embedding is the head.
    where: the file, for errors.
  """
  config = {'num_decoder_layers': config.get('num_layers')} | {
      name: value for name, value in config.items() if value is not None}
  for name, built_in in _FIXED.items():
    if config.get(name, built_in) not in (built_in, [built_in]):
      raise UserError(f'{name} is not as in T5.', where=where, got=repr(config[name])[:100],
                      expected=built_in)
  proj = config.get('feed_forward_proj', 'relu' if config['model_type'] == 't5' else 'gated-gelu')
  if not isinstance(proj, str) or proj not in _ACTIVATIONS:
    raise UserError('The activation is not known.', where=where,
                    got=f'feed_forward_proj {proj!r}', hint=nearest(str(proj), _ACTIVATIONS))
  sizes = {ours: _size(config, name, where) for ours, name in _SIZES.items()}
  rows = -(-sizes['vocab_size'] // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
  return T5Config(
      **sizes | {'vocab_size': rows}, vocab_padding=rows - sizes['vocab_size'],
      mlp_activations=_ACTIVATIONS[proj], logits_via_embedding=tied,
      relpos_per_layer=config['model_type'] == 'umt5')


def _size(config: Mapping[str, Any], name: str, where: str) -> int:
  value, most = config.get(name), _MAX_LAYERS if name.endswith('layers') else _MAX_SIZE
  if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
    raise UserError(f'{name} cannot be used.', where=where, got=repr(value)[:100],
                    expected=f'a whole number from 1 to {most:,}')
  return value


def to_hf(config: T5Config, kind: str, scaled: bool, dtype: str, modern: bool) -> dict[str, Any]:
  """What config.json says of a model of ours.

  Args:
    config: the sizes.
    kind: 't5', 'mt5' or 'umt5'.
    scaled: whether an untied head expects the decoder's output to be scaled.
    dtype: that of the tensors.
    modern: written by the rules of transformers 5; see `is_modern`.
  """
  names = {value: name for name, value in _ACTIVATIONS.items()}
  names[('swish', 'linear')] = 'gated-silu'
  if config.mlp_activations not in names:
    raise UserError('transformers has no such feed-forward layer.', where='T5Config',
                    got=config.mlp_activations, expected=', '.join(map(str, names)))
  if config.relpos_per_layer != (kind == 'umt5'):
    raise UserError('Relative positions of each layer are those of UMT5 alone.', where='T5Config',
                    got=f'relpos_per_layer = {config.relpos_per_layer}', expected=f'a {kind}')
  made = {name: getattr(config, ours) for ours, name in _SIZES.items()}
  made |= _FIXED | {
      'architectures': [_ARCHITECTURES[kind][0]], 'model_type': kind,
      'vocab_size': config.vocab_size - config.vocab_padding,
      'feed_forward_proj': names[config.mlp_activations],
      'tie_word_embeddings': config.logits_via_embedding or scaled,
      'dropout_rate': config.dropout_rate, 'is_encoder_decoder': True, 'use_cache': True,
      'torch_dtype': dtype, 'dtype': dtype}
  if modern:
    made['transformers_version'] = '5.0.0'
  return made
