"""Weights of transformers' T5, mT5 and UMT5, in and out: safetensors, never pickle."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.interop import hf_config, json_files, layout, safetensors
from flanjax.interop import tensors as tensors_lib
from flanjax.interop.tensors import Tensor, Weights
from flanjax.models.t5 import T5Config

CONFIG, WEIGHTS, INDEX = 'config.json', 'model.safetensors', 'model.safetensors.index.json'
# Hugging Face's hub takes files of up to 50 GB; smaller ones download side by side.
MAX_SHARD_BYTES = 10 * 10**9
_EMBEDDING, _HEAD = 'shared.weight', 'lm_head.weight'
_COPIES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
# Written by the first T5 files, read by nobody.
_IGNORED = 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
_PROJECTIONS = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}


def is_folder(path: pathlib.Path) -> bool:
  """Whether this is meant to be a model of transformers."""
  return (path / CONFIG).is_file()


def names(cfg: T5Config) -> dict[str, str]:
  """Our name -> transformers' name of every parameter.

  Matrices and relative positions are transposed there; the embedding is not.
  """
  made = {'token_embedder/embedding': _EMBEDDING}
  if not cfg.logits_via_embedding:
    made['decoder/logits_dense/kernel'] = _HEAD
  for stack, count in (('encoder', cfg.num_encoder_layers), ('decoder', cfg.num_decoder_layers)):
    made[f'{stack}/{stack}_norm/scale'] = f'{stack}.final_layer_norm.weight'
    relpos = 'layer.0.SelfAttention.relative_attention_bias.weight'
    if not cfg.relpos_per_layer:
      made[f'{stack}/relpos_bias/rel_embedding'] = f'{stack}.block.0.{relpos}'
    for i in range(count):
      ours, theirs = f'{stack}/layers_{i}', f'{stack}.block.{i}'
      if cfg.relpos_per_layer:
        made[f'{ours}/relpos_bias/rel_embedding'] = f'{theirs}.{relpos}'
      made |= {f'{ours}/{a}': f'{theirs}.{b}' for a, b in _layer_names(cfg, stack).items()}
  return made


def _layer_names(cfg: T5Config, stack: str) -> dict[str, str]:
  made = {}
  for number, (attention, norm) in enumerate(layout.attentions(stack)):
    made[f'{norm}/scale'] = f'layer.{number}.layer_norm.weight'
    theirs = 'EncDecAttention' if number else 'SelfAttention'
    for ours, letter in _PROJECTIONS.items():
      made[f'{attention}/{ours}/kernel'] = f'layer.{number}.{theirs}.{letter}.weight'
  number = len(layout.attentions(stack))
  made['pre_mlp_layer_norm/scale'] = f'layer.{number}.layer_norm.weight'
  for name in (*layout.branches(cfg), 'wo'):
    made[f'mlp/{name}/kernel'] = f'layer.{number}.DenseReluDense.{name}.weight'
  return made


def open_folder(folder: pathlib.Path) -> Weights:
  """The model in a folder of transformers, its tensors still on disk, as float32.

  Raises:
    UserError: another architecture; tensors missing, too many, of another shape or cut short;
      weights in a pickle.
  """
  config = json_files.read(folder / CONFIG)
  where = str(folder / CONFIG)
  kind = hf_config.model_type(config, where)
  found = _tensors(folder)
  found.pop(_IGNORED, None)
  _drop_copies(found)
  tied = _is_tied(config, found, where)
  cfg = hf_config.from_hf(config, tied, where)
  scaled = hf_config.scales_output(config)
  if tied and not scaled:
    # Our tied head scales; a head of its own does not.
    found[_HEAD] = found[_EMBEDDING]
    cfg = dataclasses.replace(cfg, logits_via_embedding=False)
  tensors = _as_ours(found, cfg, str(folder))
  untied_scaled = scaled and not tied
  if untied_scaled:
    head = 'decoder/logits_dense/kernel'
    tensors[head] = tensors_lib.scaled(tensors[head], cfg.emb_dim**-0.5)
  return Weights(cfg, tensors, {'hugging_face': {
      'model_type': kind, 'scaled_head': untied_scaled,
      'modern': hf_config.is_modern(config)}})


def _as_ours(found: dict[str, Tensor], cfg: T5Config, where: str) -> dict[str, Tensor]:
  """The tensors under our names and in our shapes, padded as the config is."""
  real = dataclasses.replace(cfg, vocab_size=cfg.vocab_size - cfg.vocab_padding, vocab_padding=0)
  table = names(cfg)
  shapes = {table[name]: shape if _EMBEDDING == table[name] else shape[::-1]
            for name, shape in layout.shapes(real).items()}
  layout.check({name: t.shape for name, t in found.items()}, shapes, where)
  tensors = {}
  for ours, theirs in table.items():
    tensor = tensors_lib.cast(found[theirs], np.float32)
    if theirs in (_EMBEDDING, _HEAD):
      tensor = tensors_lib.resized(tensor, cfg.vocab_size)
    tensors[ours] = tensor if theirs == _EMBEDDING else tensors_lib.transposed(tensor)
  return tensors


def _tensors(folder: pathlib.Path) -> dict[str, Tensor]:
  if (folder / INDEX).is_file():
    return _sharded(folder)
  if (folder / WEIGHTS).is_file():
    return safetensors.open_tensors(folder / WEIGHTS)[0]
  pickles = sorted(p.name for p in folder.glob('*.bin'))
  if pickles:
    raise UserError(
        'Weights in a pickle are not read: loading one runs whatever code it holds.',
        where=str(folder), got=', '.join(pickles[:3]), expected=WEIGHTS,
        hint='load and save it with transformers where you trust it: '
             'save_pretrained(..., safe_serialization=True)')
  raise UserError('There are no weights here.', where=str(folder), expected=f'{WEIGHTS} or {INDEX}')


def _sharded(folder: pathlib.Path) -> dict[str, Tensor]:
  path = folder / INDEX
  index = json_files.read(path).get('weight_map')
  if not isinstance(index, dict) or not all(isinstance(f, str) for f in index.values()):
    raise UserError('The index names no tensors.', where=str(path), expected='a weight_map')
  files = sorted(set(index.values()))
  for name in files:
    if pathlib.PurePath(name).name != name or not name.endswith('.safetensors'):
      raise UserError('The index names a file that cannot be one of its own.', where=str(path),
                      got=repr(name), expected='a .safetensors file beside it')
    if not (folder / name).is_file():
      raise UserError('The index names a file that is not there.', where=str(path), got=name)
  found: dict[str, Tensor] = {}
  for name in files:
    held = safetensors.open_tensors(folder / name)[0]
    named = {tensor for tensor, file in index.items() if file == name}
    layout.check({t: () for t in held}, {t: () for t in named}, str(folder / name),
                 hint=f'{INDEX} says which tensors it holds')
    found |= held
  return found


def _same(a: Tensor, b: Tensor) -> bool:
  if a.shape != b.shape or a.dtype != b.dtype:
    return False
  return all(np.array_equal(x, y) for (_, x), (_, y) in zip(a.read(), b.read()))


def _drop_copies(found: dict[str, Tensor]) -> None:
  """Leaves one embedding, which older files hold up to three times."""
  copies = [name for name in _COPIES if name in found]
  if _EMBEDDING not in found and copies:
    found[_EMBEDDING] = found[copies[0]]
  for name in copies:
    tensor = found.pop(name)
    if not _same(tensor, found[_EMBEDDING]):
      raise UserError('Encoder and decoder embed tokens in different ways.', where=tensor.where,
                      expected=f'a copy of {_EMBEDDING}')


def _is_tied(config: Mapping[str, Any], found: dict[str, Tensor], where: str) -> bool:
  """Whether the embedding is the head too; if so, a copy of it is dropped from `found`."""
  modern, head = hf_config.is_modern(config), found.get(_HEAD)
  if head is None:
    return modern or hf_config.says_tied(config)
  same = _EMBEDDING in found and _same(head, found[_EMBEDDING])
  if not modern and hf_config.says_tied(config) and not same:
    raise UserError('The configuration ties the output to the embedding, yet they differ.',
                    where=head.where, expected=f'a copy of {_EMBEDDING}, or none',
                    hint=f'{where}: tie_word_embeddings')
  tied = same and (modern or hf_config.says_tied(config))
  if tied:
    del found[_HEAD]
  return tied


def write_folder(folder: pathlib.Path, weights: Weights, dtype: str = 'float32') -> None:
  """Writes config.json and the tensors, the vocabulary without its padding."""
  cfg, said = weights.config, weights.info.get('hugging_face') or {}
  kind = said.get('model_type', 'umt5' if cfg.relpos_per_layer else 't5')
  scaled = bool(said.get('scaled_head')) and not cfg.logits_via_embedding
  config = hf_config.to_hf(cfg, kind, scaled, dtype, bool(said.get('modern')))
  tensors = {}
  for ours, theirs in names(cfg).items():
    tensor = weights.tensors[ours]
    if ours == 'decoder/logits_dense/kernel' and scaled:
      tensor = tensors_lib.scaled(tensor, cfg.emb_dim**0.5)
    tensor = tensor if theirs == _EMBEDDING else tensors_lib.transposed(tensor)
    if theirs in (_EMBEDDING, _HEAD):
      tensor = tensors_lib.resized(tensor, cfg.vocab_size - cfg.vocab_padding)
    tensors[theirs] = tensors_lib.cast(tensor, dtype)
  _write_shards(folder, tensors)
  (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')


def _write_shards(folder: pathlib.Path, tensors: dict[str, Tensor]) -> None:
  """One file, or several and their index where one would be large."""
  metadata, shards, size = {'format': 'pt'}, [{}], 0
  for name, tensor in tensors.items():
    if shards[-1] and size + tensor.nbytes > MAX_SHARD_BYTES:
      shards.append({})
      size = 0
    shards[-1][name] = tensor
    size += tensor.nbytes
  if len(shards) == 1:
    safetensors.write_tensors(folder / WEIGHTS, tensors, metadata)
    return
  index = {}
  for i, shard in enumerate(shards):
    name = f'model-{i + 1:05d}-of-{len(shards):05d}.safetensors'
    safetensors.write_tensors(folder / name, shard, metadata)
    index |= {tensor: name for tensor in shard}
  total = sum(t.nbytes for t in tensors.values())
  (folder / INDEX).write_text(json.dumps(
      {'metadata': {'total_size': total}, 'weight_map': index}, indent=2, sort_keys=True) + '\n')
