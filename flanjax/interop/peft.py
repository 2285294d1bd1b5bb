"""Adapters in PEFT's format, in and out: LoRA's factors, and prompts of the encoder.

A folder holds adapter_config.json and adapter_model.safetensors. PEFT keeps factors as torch
keeps kernels: lora_A is [rank, in] and lora_B [out, rank], the transposes of ours.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flanjax.errors import UserError
from flanjax.interop import foreign, hf, json_files, layout, model_folders, native
from flanjax.interop import peft_config, safetensors, tokenizer_files
from flanjax.interop import tensors as tensors_lib
from flanjax.interop.tensors import Tensor, Weights
from flanjax.models import lora as lora_lib
from flanjax.models import prompts
from flanjax.models.t5 import T5Config

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'
_PREFIX, _PROMPT = 'base_model.model.', 'prompt_embeddings'
_HEAD = 'decoder/logits_dense'
_HEAD_COPY = f'{_PREFIX}lm_head.base_layer.weight'


def modules(cfg: T5Config) -> dict[str, str]:
  """Our path -> transformers' name of every projection."""
  table = hf.names(cfg)
  return {path: table[f'{path}/kernel'].removesuffix('.weight')
          for path in lora_lib.module_paths(cfg)}


def is_folder(path: pathlib.Path) -> bool:
  return (path / CONFIG).is_file()


def open_base(path: str, target: pathlib.Path) -> Weights:
  """The model that an adapter is for, in any layout, with its vocabulary.

  Args:
    path: of a folder or checkpoint.
    target: where its tokenizer will lie.
  """
  found = pathlib.Path(model_folders.find_checkpoint(path, '--base'))
  if not foreign.is_folder(found):
    return native.open_path(found)
  weights = foreign.open_folder(found)
  if hf.is_folder(found):
    weights.info.update(tokenizer_files.describe(found, target))
  return weights


def open_folder(
    folder: pathlib.Path, base: str | None, target: pathlib.Path, adapters: bool = False
) -> Weights:
  """The model that an adapter makes of its base, or the adapter alone.

  Args:
    folder: of the adapter.
    base: where the model lies that it was made for.
    target: where the model's tokenizer will lie.
    adapters: give the adapter alone, which needs the base again when it is used.

  Raises:
    UserError: it is of a kind that is not supported, or does not fit the base; a pickle.
  """
  config, where = json_files.read(folder / CONFIG), str(folder / CONFIG)
  kind = peft_config.kind(config, where)
  tensors = _tensors(folder)
  if not base:
    raise UserError('An adapter needs the model that it was made for.', where=str(folder),
                    expected='--base=FOLDER',
                    hint=f"it says: {config.get('base_model_name_or_path')!r}"[:200])
  found = open_base(base, target)
  if kind == peft_config.PROMPT:
    cfg, arrays = _prompt(config, tensors, found.config, where)
  else:
    lora, pairs = _factors(config, tensors, found, where, str(folder))
    if not adapters:
      return _merged(found, pairs)
    lora, arrays = _even(lora, pairs, where)
    cfg = dataclasses.replace(found.config, lora=lora)
  own = {name: tensors_lib.from_array(np.ascontiguousarray(x)) for name, x in arrays.items()}
  if not adapters:
    return dataclasses.replace(found, config=cfg, tensors={**found.tensors, **own})
  vocabulary = {k: v for k, v in found.info.items() if k.startswith('vocabulary')}
  return Weights(cfg, own, vocabulary | {'frozen': _record(cfg, base)})


def _tensors(folder: pathlib.Path) -> dict[str, Tensor]:
  if (folder / WEIGHTS).is_file():
    return safetensors.open_tensors(folder / WEIGHTS)[0]
  pickles = sorted(p.name for p in folder.glob('*.bin'))
  if pickles:
    raise UserError(
        'An adapter in a pickle is not read: loading one runs whatever code it holds.',
        where=str(folder), got=', '.join(pickles[:3]), expected=WEIGHTS,
        hint='load and save it with PEFT where you trust it: '
             'save_pretrained(..., safe_serialization=True)')
  raise UserError('There is no adapter here.', where=str(folder), expected=WEIGHTS)


def _prompt(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], base: T5Config, where: str
) -> tuple[T5Config, dict[str, np.ndarray]]:
  if config.get('num_transformer_submodules') != 1:
    raise UserError('Only a prompt of the encoder alone can be converted.', where=where,
                    got=f"num_transformer_submodules {config.get('num_transformer_submodules')!r}",
                    expected=1, hint='PEFT takes 2 for SEQ_2_SEQ_LM unless it is told otherwise')
  length = config.get('num_virtual_tokens')
  if isinstance(length, bool) or not isinstance(length, int) or length < 1:
    raise UserError('num_virtual_tokens cannot be used.', where=where, got=repr(length)[:100])
  layout.check({name: t.shape for name, t in tensors.items()},
               {_PROMPT: (length, base.emb_dim)}, where)
  cfg = dataclasses.replace(base, prompt_length=length, prompt_reads_inputs=True)
  return cfg, {'prompt/embedding': _read(tensors[_PROMPT])}


def _read(tensor: Tensor) -> np.ndarray:
  return tensors_lib.to_array(tensor).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Pair:
  """Factors of ours: a [in, rank], b [rank, out]."""

  a: np.ndarray
  b: np.ndarray
  scale: float


def _factors(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], base: Weights, where: str, folder: str
) -> tuple[lora_lib.Lora, dict[str, _Pair]]:
  """-> what holds for all factors, and those of each module by our path."""
  said = peft_config.factors(config, where)
  table = modules(base.config)
  ours = {theirs: path for path, theirs in table.items()}
  tensors = _without_head(tensors, base, folder)
  held = {name.removeprefix(_PREFIX).partition('.lora_')[0] for name in tensors}
  adapted = peft_config.named_modules(config, ours, where) | (held & set(ours))
  shapes, sizes = {}, _sizes(base.config)
  for module in adapted:
    rank, _ = said.of(module)
    inputs, outputs = sizes[ours[module]]
    shapes[f'{_PREFIX}{module}.lora_A.weight'] = (rank, inputs)
    shapes[f'{_PREFIX}{module}.lora_B.weight'] = (outputs, rank)
  layout.check({name: t.shape for name, t in tensors.items()}, shapes, folder)
  if not adapted:
    raise UserError('The adapter holds no factors.', where=folder)
  pairs = {}
  for module in sorted(adapted):
    a, b = (_read(tensors[f'{_PREFIX}{module}.lora_{x}.weight']).T for x in 'AB')
    if ours[module] == _HEAD:
      b = _head_to_ours(b, base)
    pairs[ours[module]] = _Pair(a, b, said.of(module)[1])
  pattern = _pattern(pairs, table)
  return lora_lib.Lora(said.rank, float(said.alpha), said.dropout, pattern, said.rslora), pairs


def _without_head(
    tensors: Mapping[str, Tensor], base: Weights, folder: str
) -> dict[str, Tensor]:
  """Without the copy of the output layer that PEFT saves where that has factors."""
  left = dict(tensors)
  copy = left.pop(_HEAD_COPY, None)
  if copy is not None and f'{_HEAD}/kernel' in base.tensors:
    kernel = _read(base.tensors[f'{_HEAD}/kernel'])
    own = kernel[:, :base.config.vocab_size - base.config.vocab_padding].T / _head_factor(base)
    layout.check({_HEAD_COPY: copy.shape}, {_HEAD_COPY: own.shape}, folder)
    if not np.allclose(_read(copy), own.astype(copy.dtype).astype(np.float32), rtol=1e-5):
      raise UserError('The adapter changes the output layer as a whole.', where=folder,
                      got=_HEAD_COPY, expected="a copy of the base's",
                      hint='is --base the model that it was made for?')
  return left


def _sizes(cfg: T5Config) -> dict[str, tuple[int, int]]:
  """Our path -> (in, out) of a projection, the vocabulary without its padding."""
  shapes = layout.shapes(cfg.base)
  made = {path: shapes[f'{path}/kernel'] for path in lora_lib.module_paths(cfg)}
  if _HEAD in made:
    made[_HEAD] = (cfg.emb_dim, cfg.vocab_size - cfg.vocab_padding)
  return made


def _head_factor(base: Weights) -> float:
  """What is taken into our head of a model whose decoder's output is scaled there."""
  scaled = (base.info.get('hugging_face') or {}).get('scaled_head')
  return base.config.emb_dim**-0.5 if scaled else 1.0


def _head_to_ours(b: np.ndarray, base: Weights) -> np.ndarray:
  return np.pad(b, ((0, 0), (0, base.config.vocab_padding))) * np.float32(_head_factor(base))


def _pattern(adapted: Iterable[str], known: Iterable[str]) -> str:
  """An expression that matches the paths `adapted`, and no other of those known."""
  adapted = set(adapted)
  general = lambda path: re.sub(r'layers_\d+', r'layers_\\d+', path)
  whole = sorted({general(path) for path in adapted})
  pattern = '|'.join(whole)
  if {path for path in known if re.fullmatch(pattern, path)} == adapted:
    return pattern
  return '|'.join(sorted(adapted))


def _merged(base: Weights, pairs: Mapping[str, _Pair]) -> Weights:
  """The base, factors folded into its kernels block by block."""
  tensors = dict(base.tensors)
  for path, pair in pairs.items():
    name = f'{path}/kernel'
    tensors[name] = _added(tensors_lib.cast(tensors[name], np.float32), pair)
  return dataclasses.replace(base, tensors=tensors)


def _added(kernel: Tensor, pair: _Pair) -> Tensor:
  def read() -> tensors_lib.Blocks:
    for index, block in kernel.read():
      rows, columns = index
      yield index, block + np.float32(pair.scale) * (pair.a[rows] @ pair.b[:, columns])

  return dataclasses.replace(kernel, read=read)


def _even(
    lora: lora_lib.Lora, pairs: Mapping[str, _Pair], where: str
) -> tuple[lora_lib.Lora, dict[str, np.ndarray]]:
  """The factors as arrays of one rank and one scale, into which other alphas are folded."""
  ranks = {pair.a.shape[1] for pair in pairs.values()}
  if len(ranks) > 1:
    raise UserError('Adapters of several ranks cannot be kept apart from their base.', where=where,
                    got=f'ranks {sorted(ranks)}', hint='without --adapters they are merged with it')
  lora = dataclasses.replace(lora, rank=ranks.pop())
  made = {}
  for path, pair in pairs.items():
    made[f'{path}/lora_a'] = pair.a
    made[f'{path}/lora_b'] = pair.b * np.float32(pair.scale / lora.scale if lora.scale else 0)
  return lora, made


def _record(cfg: T5Config, base: str) -> dict[str, Any]:
  """What model.json says of a base, as a run that trained the adapter would have."""
  from flanjax.training import checkpoints, freezing
  from flanjax.training.restoring import Restoring

  path = model_folders.find_checkpoint(base, '--base')
  trainable = cfg.adapters
  frozen = checkpoints.restore_params(path)[0]
  return {'base': path, 'drawn': False, 'seed': 0, 'restoring': dataclasses.asdict(Restoring()),
          'trainable': trainable, 'dtype': 'float32', 'fingerprint': freezing.fingerprint(frozen)}


def write_folder(
    folder: pathlib.Path, weights: Weights, dtype: str = 'float32', base: str | None = None
) -> None:
  """Writes adapter_config.json and the factors, or the prompt, of a run.

  Args:
    folder: where.
    weights: what the run trained, as `native.open_path` gives it with `adapters`.
    dtype: of the numbers written.
    base: what base_model_name_or_path says; None: the run's own base, if transformers can read it.

  Raises:
    UserError: the run trained what PEFT's format has no place for.
  """
  cfg = weights.config
  check(weights)
  said = base or _base_of(weights)
  if cfg.prompt_length:
    tensors = {_PROMPT: weights.tensors['prompt/embedding']}
    config = peft_config.of_prompt(cfg, said)
  else:
    tensors, adapted = _theirs(weights)
    config = peft_config.of_lora(
        cfg.lora, peft_config.targets(adapted, modules(cfg).values()), said)
  tensors = {name: tensors_lib.cast(t, dtype) for name, t in sorted(tensors.items())}
  safetensors.write_tensors(folder / WEIGHTS, tensors, {'format': 'pt'})
  (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + '\n')


def check(weights: Weights) -> None:
  """UserError unless the tensors are one adapter that PEFT has."""
  cfg = weights.config
  if not cfg.adapters:
    raise UserError('This run trained no adapter.', where='T5Config',
                    expected='lora, or prompt_length', hint='convert the whole model: --to=hf')
  if cfg.lora is not None and cfg.prompt_length:
    raise UserError('PEFT keeps factors and prompts in adapters of their own.', where='T5Config',
                    got='both lora and prompt_length')
  if cfg.prompt_length and not cfg.prompt_reads_inputs:
    raise UserError('A prompt that does not read the inputs has no place in PEFT.',
                    where='T5Config.prompt_reads_inputs', got=False, expected=True)
  pattern = re.compile(lora_lib.PARAMETERS if cfg.lora else prompts.PARAMETERS)
  others = [name for name in weights.tensors if not pattern.fullmatch(name)]
  if others:
    raise UserError('The run trained more than an adapter.', where='TRAINABLE',
                    got=layout.listed(others), hint='convert the whole model: --to=hf')


def _theirs(weights: Weights) -> tuple[dict[str, Tensor], set[str]]:
  """PEFT's name -> factor, and the modules that have factors."""
  table, made = modules(weights.config), {}
  adapted = {name.removesuffix('/lora_a') for name in weights.tensors if name.endswith('/lora_a')}
  for path in adapted:
    a, b = (weights.tensors[f'{path}/lora_{x}'] for x in 'ab')
    if path == _HEAD:
      b = _head_to_theirs(b, weights)
    made[f'{_PREFIX}{table[path]}.lora_A.weight'] = tensors_lib.transposed(a)
    made[f'{_PREFIX}{table[path]}.lora_B.weight'] = tensors_lib.transposed(b)
  return made, {table[path] for path in adapted}


def _head_to_theirs(b: Tensor, weights: Weights) -> Tensor:
  """Without the vocabulary's padding, which only the base tells of."""
  path = (weights.info.get('frozen') or {}).get('base')
  if not path:
    raise UserError('Factors of the output layer need the base that they were trained on.',
                    where=_HEAD, got='a base that was drawn')
  base = open_base(path, pathlib.Path())
  real = base.config.vocab_size - base.config.vocab_padding
  array = tensors_lib.to_array(b).astype(np.float32)[:, :real] / np.float32(_head_factor(base))
  return tensors_lib.from_array(np.ascontiguousarray(array))


def _base_of(weights: Weights) -> str | None:
  path = (weights.info.get('frozen') or {}).get('base')
  return path if path and hf.is_folder(pathlib.Path(path)) else None
