#!/usr/bin/env python3
"""Writes adapters as PEFT saves them and what it computes with them, for tests/peft_test.py.

Needs torch, transformers and peft (`pip install 'flanjax[comparison]'`):

  tools/make_peft_golden.py tests/golden/hf/t5_1_1 tests/golden/peft

Each folder it writes is an adapter with random weights, and expected.npz beside it: tokens in;
logits and greedy tokens out.
"""

from __future__ import annotations

import argparse
import pathlib

import make_hf_golden
import numpy as np
import peft
import torch
import transformers

# Larger ones make of float32's rounding more than the 1e-4 that is compared.
_STD = 0.1


def configs() -> dict[str, peft.PeftConfig]:
  """Name -> an adapter's configuration."""
  task = peft.TaskType.SEQ_2_SEQ_LM
  linear = ['q', 'k', 'v', 'o', 'wi_0', 'wi_1', 'wo']
  return {
      'attention': peft.LoraConfig(
          task_type=task, r=3, lora_alpha=6, lora_dropout=0.1, target_modules=['q', 'v']),
      'all_rslora': peft.LoraConfig(
          task_type=task, r=4, lora_alpha=5, use_rslora=True, target_modules=[*linear, 'lm_head'],
          rank_pattern={'DenseReluDense.wo': 2}, alpha_pattern={'EncDecAttention.q': 3}),
      'prompt': peft.PromptTuningConfig(
          task_type=task, num_virtual_tokens=5, num_transformer_submodules=1),
  }


def make(base: pathlib.Path, name: str) -> peft.PeftModel:
  """The base with the adapter `name`, whose every weight is random."""
  torch.manual_seed(sum(name.encode()))
  model = transformers.T5ForConditionalGeneration.from_pretrained(base)
  model = peft.get_peft_model(model, configs()[name]).eval()
  with torch.no_grad():
    for value in model.parameters():
      if value.requires_grad:
        value.normal_(0.0, _STD)
  return model


def load(base: pathlib.Path, folder: pathlib.Path) -> peft.PeftModel:
  """The base with an adapter that is in a folder."""
  model = transformers.T5ForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
  return peft.PeftModel.from_pretrained(model, folder).eval()


def compute(model: peft.PeftModel) -> dict[str, np.ndarray]:
  """What a model gives for the batch of tools/make_hf_golden.py."""
  inputs = make_hf_golden.batch()
  with torch.no_grad():
    out = model(**inputs)
    greedy = model.generate(
        input_ids=inputs['input_ids'], attention_mask=inputs['attention_mask'], do_sample=False,
        num_beams=1, max_new_tokens=make_hf_golden.MAX_NEW_TOKENS, suppress_tokens=[0])
  return {**{name: value.numpy().astype(np.int32) for name, value in inputs.items()},
          'logits': out.logits.numpy(), 'greedy': greedy[:, 1:].numpy().astype(np.int32)}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('base', type=pathlib.Path)
  parser.add_argument('folder', type=pathlib.Path)
  args = parser.parse_args()
  for name in configs():
    folder = args.folder / name
    model = make(args.base, name)
    # The name of a folder on this machine means nothing on another.
    model.peft_config['default'].base_model_name_or_path = 'tests/golden/hf/t5_1_1'
    model.save_pretrained(folder)
    (folder / 'README.md').unlink(missing_ok=True)
    np.savez_compressed(folder / 'expected.npz', **compute(load(args.base, folder)))
