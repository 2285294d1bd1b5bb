"""adapter_config.json of PEFT: what it says of LoRA's factors, and what is not supported."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flanjax.errors import UserError, nearest
from flanjax.models.lora import Lora
from flanjax.models.t5 import T5Config

LORA, PROMPT = 'LORA', 'PROMPT_TUNING'
_MAX_RANK, _MAX_NUMBER = 1 << 16, 1e9
_TASKS = (None, 'SEQ_2_SEQ_LM')
# Of how the factors were drawn or trained: nothing of it is left when they are used.
_NO_MATTER = frozenset({
    'auto_mapping', 'base_model_name_or_path', 'revision', 'inference_mode', 'peft_version',
    'peft_type', 'task_type', 'init_lora_weights', 'lora_dropout', 'target_modules',
    'exclude_modules', 'layers_to_transform', 'layers_pattern', 'r', 'lora_alpha', 'use_rslora',
    'rank_pattern', 'alpha_pattern', 'loftq_config', 'eva_config', 'corda_config', 'lora_ga_config',
    'megatron_config', 'megatron_core', 'ensure_weight_tying', 'qalora_group_size', 'runtime_config',
    'num_virtual_tokens', 'token_dim', 'num_transformer_submodules', 'num_attention_heads',
    'num_layers', 'prompt_tuning_init', 'prompt_tuning_init_text', 'tokenizer_name_or_path',
    'tokenizer_kwargs'})
_OFF = {'use_dora': 'DoRA', 'modules_to_save': 'whole modules beside the factors',
        'layer_replication': 'layers that stand several times', 'lora_bias': 'biases',
        'trainable_token_indices': 'embeddings of some tokens',
        'target_parameters': 'factors of bare parameters', 'use_qalora': 'QALoRA'}
# These change the base's own weights before they begin.
_CHANGES_BASE = ('pissa', 'olora', 'corda', 'loftq', 'lora_ga')
_PLAIN = re.compile(r'\^?[\w.]+\$?')


@dataclasses.dataclass(frozen=True)
class Factors:
  """Ranks and scales of an adapter of PEFT.

  `of` gives rank and scale of a module by transformers' name.
  """

  rank: int
  alpha: float
  dropout: float
  rslora: bool
  ranks: Mapping[str, int]
  alphas: Mapping[str, float]

  def of(self, module: str) -> tuple[int, float]:
    rank = _matched(self.ranks, module, self.rank)
    alpha = _matched(self.alphas, module, self.alpha)
    return rank, alpha / (math.sqrt(rank) if self.rslora else rank)


def _matched(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
  """The value of the first pattern that is the end of a module's name, as PEFT finds it."""
  for pattern, value in patterns.items():
    plain = pattern.removeprefix('^').removesuffix('$')
    if module == plain or (not pattern.startswith('^') and module.endswith(f'.{plain}')):
      return value
  return default


def kind(config: Mapping[str, Any], where: str) -> str:
  """LORA or PROMPT; UserError for what cannot be read."""
  found = config.get('peft_type')
  if found not in (LORA, PROMPT):
    raise UserError('This kind of adapter is not supported.', where=where,
                    got=f'peft_type {found!r}', expected=f'{LORA} or {PROMPT}')
  if config.get('task_type') not in _TASKS:
    raise UserError('This adapter is not of an encoder-decoder model.', where=where,
                    got=f"task_type {config['task_type']!r}", expected=_TASKS[1])
  for name, value in config.items():
    on = value not in (None, False, 'none') and value != [] and value != {}
    if on and name not in _NO_MATTER:
      what = _OFF.get(name, 'this setting')
      raise UserError(f'{what[:1].upper()}{what[1:]} cannot be converted.', where=where,
                      got=f'{name} = {value!r}'[:200])
  drawn = config.get('init_lora_weights')
  if isinstance(drawn, str) and drawn.startswith(_CHANGES_BASE):
    raise UserError('This adapter began by changing the weights of its base.', where=where,
                    got=f'init_lora_weights = {drawn!r}'[:200],
                    hint='let PEFT save it as plain LoRA: path_initial_model_for_weight_conversion')
  return found


def factors(config: Mapping[str, Any], where: str) -> Factors:
  """Ranks and scales; UserError for values that cannot be."""
  tables = [config.get(name) or {} for name in ('rank_pattern', 'alpha_pattern')]
  for table in tables:
    odd = [p for p in table if not _PLAIN.fullmatch(p)] if isinstance(table, dict) else [table]
    if odd:
      raise UserError('Ranks and alphas are read by names of modules alone.', where=where,
                      got=repr(odd[0])[:200], expected="a name or its end, as 'SelfAttention.q'")
  number = lambda value, least: isinstance(value, (int, float)) and not isinstance(
      value, bool) and least <= value <= _MAX_NUMBER
  for name, default, values in (
      ('r', 8, tables[0].values()), ('lora_alpha', 8, tables[1].values()), ('lora_dropout', 0, ())):
    for value in (config.get(name, default), *values):
      whole = name != 'r' or (isinstance(value, int) and value <= _MAX_RANK)
      if not number(value, 1 if name == 'r' else 0) or not whole:
        raise UserError(f'{name} cannot be used.', where=where, got=repr(value)[:100])
  return Factors(config.get('r', 8), config.get('lora_alpha', 8), config.get('lora_dropout', 0.0),
                 config.get('use_rslora') is True, *tables)


def named_modules(config: Mapping[str, Any], modules: Iterable[str], where: str) -> set[str]:
  """The modules that target_modules lists; none where it is an expression or is narrowed down.

  Raises:
    UserError: it lists one that the model does not have.
  """
  targets = config.get('target_modules')
  narrowed = any(config.get(name) for name in ('exclude_modules', 'layers_pattern')) or (
      config.get('layers_to_transform') is not None)
  if not isinstance(targets, list) or narrowed:
    return set()
  found, modules = set(), list(modules)
  for target in targets:
    matched = {m for m in modules if m == target or m.endswith(f'.{target}')}
    if not matched:
      raise UserError('The model has no such module.', where=f'{where}: target_modules',
                      got=repr(target)[:200],
                      hint=nearest(str(target), {m.rpartition('.')[2] for m in modules}))
    found |= matched
  return found


def targets(adapted: set[str], modules: Iterable[str]) -> list[str]:
  """The shortest ends of names that mean `adapted` and no other module."""
  modules = list(modules)
  for parts in (1, 2):
    ends = {'.'.join(m.split('.')[-parts:]) for m in adapted}
    if {m for m in modules if any(m == e or m.endswith(f'.{e}') for e in ends)} == adapted:
      return sorted(ends)
  return sorted(adapted)


def of_lora(lora: Lora, target_modules: list[str], base: str | None) -> dict[str, Any]:
  """adapter_config.json of factors of ours."""
  alpha = int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha
  return _common(LORA, base) | {
      'r': lora.rank, 'lora_alpha': alpha, 'lora_dropout': lora.dropout,
      'target_modules': target_modules, 'use_rslora': lora.rslora, 'use_dora': False,
      'bias': 'none', 'fan_in_fan_out': False, 'modules_to_save': None, 'rank_pattern': {},
      'alpha_pattern': {}, 'layers_to_transform': None, 'init_lora_weights': True}


def of_prompt(cfg: T5Config, base: str | None) -> dict[str, Any]:
  """adapter_config.json of a soft prompt of ours, which stands in the encoder alone."""
  return _common(PROMPT, base) | {
      'num_virtual_tokens': cfg.prompt_length, 'token_dim': cfg.emb_dim,
      'num_transformer_submodules': 1, 'num_attention_heads': cfg.num_heads,
      'num_layers': cfg.num_encoder_layers, 'prompt_tuning_init': 'RANDOM',
      'prompt_tuning_init_text': None, 'tokenizer_name_or_path': None}


def _common(kind: str, base: str | None) -> dict[str, Any]:
  return {'peft_type': kind, 'task_type': _TASKS[1], 'base_model_name_or_path': base,
          'inference_mode': True, 'revision': None}
