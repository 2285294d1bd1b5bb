#!/usr/bin/env python3
"""Writes what transformers computes with small random models, for tests/hf_test.py.

Needs torch and transformers (`pip install 'flanjax[comparison]'`):

  tools/make_hf_golden.py tests/golden/hf

Each folder it writes is a model as transformers saved it, and expected.npz beside its weights:
tokens in; encoder output, logits and greedy tokens out.
"""

from __future__ import annotations

import argparse
import os
import pathlib

import numpy as np
import torch
import transformers

SIZES = {'vocab_size': 90, 'd_model': 16, 'd_kv': 6, 'd_ff': 20, 'num_heads': 2,
         'num_layers': 3, 'num_decoder_layers': 2, 'decoder_start_token_id': 0}
MAX_NEW_TOKENS = 12
TARGET_LENGTHS = (20, 7)
# Larger ones make of float32's rounding more than the 1e-4 that is compared.
_STD = {'shared': 1.0, 'lm_head': 0.5, 'relative_attention_bias': 1.0}


def models() -> dict[str, tuple[type, type, dict]]:
  """Name -> (configuration class, model class, what differs)."""
  t5 = (transformers.T5Config, transformers.T5ForConditionalGeneration)
  gated = {'feed_forward_proj': 'gated-gelu', 'tie_word_embeddings': False}
  return {
      't5_1_0': (*t5, {}),
      't5_1_1': (*t5, gated),
      'ul2': (*t5, gated | {'feed_forward_proj': 'gated-silu'}),
      'mt5': (transformers.MT5Config, transformers.MT5ForConditionalGeneration, {}),
      'umt5': (transformers.UMT5Config, transformers.UMT5ForConditionalGeneration, {}),
      'sharded_bfloat16': (*t5, gated),
  }


def make(name: str) -> torch.nn.Module:
  """A model whose every weight is random and large enough to matter; untied unless T5 1.0."""
  config_cls, model_cls, changes = models()[name]
  torch.manual_seed(sum(name.encode()))
  model = model_cls(config_cls(**SIZES | changes)).eval()
  if name != 't5_1_0':
    model.lm_head.weight = torch.nn.Parameter(torch.empty(SIZES['vocab_size'], SIZES['d_model']))
  with torch.no_grad():
    for key, value in model.named_parameters():
      value.normal_(1.0 if 'layer_norm' in key else 0.0, _STD.get(key.split('.')[-2], 0.25))
  return model


def batch() -> dict[str, torch.Tensor]:
  """Two rows of inputs and targets, one padded; the longer input reaches the last bucket."""
  rng = np.random.default_rng(0)
  made = {}
  for key, lengths in (('input_ids', (150, 9)), ('decoder_input_ids', TARGET_LENGTHS)):
    rows = [np.pad(rng.integers(2, SIZES['vocab_size'], n), (0, max(lengths) - n))
            for n in lengths]
    made[key] = torch.tensor(np.stack(rows))
  mask = np.arange(max(TARGET_LENGTHS))[None] < np.array(TARGET_LENGTHS)[:, None]
  made['decoder_input_ids'][:, 0] = 0
  made['decoder_attention_mask'] = torch.tensor(mask.astype(np.int64))
  made['attention_mask'] = (made['input_ids'] > 0).long()
  return made


def compute(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """What a model in float32 gives for `batch`."""
  inputs = batch()
  with torch.no_grad():
    out = model(**inputs)
    greedy = model.generate(
        input_ids=inputs['input_ids'], attention_mask=inputs['attention_mask'], do_sample=False,
        num_beams=1, max_new_tokens=MAX_NEW_TOKENS, suppress_tokens=[0])
  return {**{name: value.numpy().astype(np.int32) for name, value in inputs.items()},
          'encoded': out.encoder_last_hidden_state.numpy(), 'logits': out.logits.numpy(),
          'greedy': greedy[:, 1:].numpy().astype(np.int32)}


def save(name: str, folder: pathlib.Path) -> None:
  """Saves the model `name`, reads it back and writes what it computes."""
  model = make(name)
  if name == 'sharded_bfloat16':
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size='8KB')
  else:
    model.save_pretrained(folder)
  model = type(model).from_pretrained(folder, dtype=torch.float32)
  np.savez_compressed(folder / 'expected.npz', **compute(model))


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('folder', type=pathlib.Path)
  args = parser.parse_args()
  for name in models():
    os.makedirs(args.folder / name, exist_ok=True)
    save(name, args.folder / name)
