#!/usr/bin/env python3
"""Decoding: our engine against T5X's own decoding and transformers' generate, in one run.

    PYTHONPATH=t5x:airio:jestimator tools/bench/decode.py --hf_python venv/bin/python

Each measurement is a process of its own, the sides by turns, all of random weights of one shape
and random inputs of one length, greedy, until every row has made as many tokens as are asked for
(the end token is one that is not met). T5X decodes as its `EncoderDecoderModel.predict_batch`
does, by temperature_sample at temperature 0 ('t5x') or by its default, beam_search with one beam
('t5x_beam'). transformers runs in another interpreter, --hf_python, that has torch.
Nothing is read from the compilation cache. The first answer counts from the start of the
process, imports and drawing of parameters among it; rates are of whole batches after it, the
reading of prompts among them, `decode` of the tokens after the first alone.
Prints a table in Markdown and, with --json, the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZES = {
    # emb_dim, heads, mlp_dim, layers of each stack (Raffel et al. 2020; T5 1.1's checkpoints).
    'tiny': (128, 4, 256, 2), 'small': (512, 6, 1024, 8), 'base': (768, 12, 2048, 12),
    'large': (1024, 16, 2816, 24),
}
VOCAB_SIZE = 32_128
# In the vocabulary's padding: no side ever takes it.
NO_EOS = VOCAB_SIZE - 1
SIDES = ('t5x', 't5x_beam', 'transformers', 'flanjax')
# A batch, and the number of tokens to make -> the number of tokens made.
Decode = Callable[[np.ndarray, int], int]


def t5x_decode(args: argparse.Namespace) -> Decode:
  """T5X's model as its gin files put it together."""
  import functools

  import jax
  import seqio
  from t5x import decoding, models
  from t5x.examples.t5 import network

  emb_dim, heads, mlp_dim, layers = SIZES[args.size]
  vocabulary = seqio.PassThroughVocabulary(VOCAB_SIZE, eos_id=NO_EOS)
  decode_fn = decoding.beam_search
  if args.one == 't5x':
    decode_fn = functools.partial(decoding.temperature_sample, temperature=0.0)
  model = models.EncoderDecoderModel(
      module=network.Transformer(config=network.T5Config(
          vocab_size=VOCAB_SIZE, emb_dim=emb_dim, num_heads=heads, head_dim=64, mlp_dim=mlp_dim,
          num_encoder_layers=layers, num_decoder_layers=layers, dropout_rate=0.0, dtype=args.dtype,
          mlp_activations=('gelu', 'linear'), logits_via_embedding=False)),
      input_vocabulary=vocabulary, output_vocabulary=vocabulary, optimizer_def=None,
      decode_fn=decode_fn)
  shapes = {'encoder_input_tokens': (args.rows, args.inputs),
            'decoder_input_tokens': (args.rows, args.tokens)}
  params = jax.jit(lambda key: model.get_initial_variables(key, shapes)['params'])(
      jax.random.PRNGKey(0))

  @jax.jit
  def predict(params, inputs, room):
    return model.predict_batch(
        params, {'encoder_input_tokens': inputs, 'decoder_input_tokens': room})

  def decode(inputs: np.ndarray, tokens: int) -> int:
    made = predict(params, inputs, np.zeros((len(inputs), tokens), np.int32))
    return int(np.asarray(made).size)

  return decode


def transformers_decode(args: argparse.Namespace) -> Decode:
  """Its T5 with the default implementation, cache on."""
  import torch
  import transformers

  emb_dim, heads, mlp_dim, layers = SIZES[args.size]
  torch.manual_seed(0)
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  model = transformers.T5ForConditionalGeneration(transformers.T5Config(
      vocab_size=VOCAB_SIZE, d_model=emb_dim, d_kv=64, d_ff=mlp_dim, num_layers=layers,
      num_heads=heads, feed_forward_proj='gated-gelu', tie_word_embeddings=False, pad_token_id=0,
      eos_token_id=NO_EOS, decoder_start_token_id=0, dropout_rate=0.0)).eval()
  model = model.to(getattr(torch, args.dtype))

  def decode(inputs: np.ndarray, tokens: int) -> int:
    with torch.inference_mode():
      made = model.generate(
          input_ids=torch.tensor(inputs, dtype=torch.long), do_sample=False, num_beams=1,
          attention_mask=torch.ones(inputs.shape, dtype=torch.long), max_new_tokens=tokens,
          min_new_tokens=tokens)
    return int(made[:, 1:].numel())

  return decode


def flanjax_decode(args: argparse.Namespace) -> Decode:
  """What `flanjax infer` runs."""
  import jax

  from flanjax.inference import engine, requests
  from flanjax.models import t5

  emb_dim, heads, mlp_dim, layers = SIZES[args.size]
  model = t5.EncoderDecoderModel(t5.T5Config(
      VOCAB_SIZE, emb_dim, heads, 64, mlp_dim, layers, layers, dtype=args.dtype, vocab_padding=28))
  made = engine.Engine(
      model, model.init(jax.random.key(0)), slots=args.rows, eos_id=NO_EOS,
      steps_per_call=args.steps_per_call)

  def decode(inputs: np.ndarray, tokens: int) -> int:
    asked = (requests.Request(i, row.tolist(), requests.Sampling(tokens))
             for i, row in enumerate(inputs))
    return sum(len(answer.completions[0].tokens) for answer in made.run(asked))

  return decode


MAKERS = {'t5x': t5x_decode, 't5x_beam': t5x_decode, 'transformers': transformers_decode,
          'flanjax': flanjax_decode}


def started() -> float:
  """When this process began, in seconds of the clock."""
  ticks = float(pathlib.Path('/proc/self/stat').read_text().rsplit(')', 1)[1].split()[19])
  uptime = float(pathlib.Path('/proc/uptime').read_text().split()[0])
  return time.time() - uptime + ticks / os.sysconf('SC_CLK_TCK')


def one(args: argparse.Namespace) -> dict[str, Any]:
  """What a child does: the first batch from the start of the process, then others."""
  decode = MAKERS[args.one](args)
  rng = np.random.default_rng(0)
  batch = lambda: rng.integers(2, 32_000, (args.rows, args.inputs), np.int32)
  decode(batch(), args.tokens)
  first, first_cpu = time.time() - started(), time.process_time()
  wall, cpu, made, prompts = [], [], [], []
  for _ in range(args.batches):
    start, used = time.perf_counter(), time.process_time()
    made.append(decode(batch(), args.tokens))
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - used)
  # What reading the prompts takes; a side may compile a program for it.
  if args.prompts:
    decode(batch(), 1)
    for _ in range(args.batches):
      start = time.perf_counter()
      decode(batch(), 1)
      prompts.append(time.perf_counter() - start)
  return {'first_s': first, 'first_cpu_s': first_cpu, 'wall': wall, 'cpu': cpu, 'made': made,
          'prompts': prompts,
          'memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
  found: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
  for _ in range(args.rounds):
    for side in args.sides:
      python = args.hf_python if side == 'transformers' else sys.executable
      command = [python, __file__, '--one', side, *sys.argv[1:]]
      environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
                     'JAX_ENABLE_COMPILATION_CACHE': 'false'}
      if side == 'transformers':
        environment.pop('PYTHONPATH', None)
      done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True,
                            stderr=None if args.debug else subprocess.DEVNULL)
      if done.returncode:
        print(f'{side}: failed with status {done.returncode}; --debug shows why', file=sys.stderr)
        continue
      found[side].append(json.loads(done.stdout.splitlines()[-1]))
  return [summary(side, results) for side, results in found.items() if results]


def summary(side: str, results: list[dict[str, Any]]) -> dict[str, Any]:
  all_of = lambda kind: [x for r in results for x in r[kind]]
  made = statistics.median(all_of('made'))
  wall, cpu = statistics.median(all_of('wall')), statistics.median(all_of('cpu'))
  prompts = statistics.median(all_of('prompts') or [0])
  return {
      'side': side, 'n': len(all_of('wall')), 'first_s': min(r['first_s'] for r in results),
      'first_cpu_s': min(r['first_cpu_s'] for r in results), 'batch_s': wall,
      'fastest_s': min(all_of('wall')), 'prompts_s': prompts, 'tokens_per_s': made / wall,
      'decode_tokens_per_s': made / (wall - prompts), 'cpu_per_1000': 1000 * cpu / made,
      'made': made, 'memory_mb': max(r['memory_mb'] for r in results),
  }


def line(row: dict[str, Any]) -> str:
  prompts = f"{row['prompts_s']:.2f} s" if row['prompts_s'] else ''
  decode = f"{row['decode_tokens_per_s']:,.0f}" if row['prompts_s'] else ''
  return (f"| {row['side']} | {row['n']} | {row['first_s']:.1f} s | {row['first_cpu_s']:.1f} s | "
          f"{row['batch_s']:.2f} s | {row['fastest_s']:.2f} s | {prompts} | {row['tokens_per_s']:,.0f} | "
          f"{decode} | {row['cpu_per_1000']:.2f} s | {row['memory_mb']:,.0f} MB |")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sides', nargs='+', default=['t5x', 'transformers', 'flanjax'], choices=SIDES)
  parser.add_argument('--size', default='small', choices=SIZES)
  parser.add_argument('--rows', type=int, default=16)
  parser.add_argument('--inputs', type=int, default=256)
  parser.add_argument('--tokens', type=int, default=64)
  parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16'])
  parser.add_argument('--batches', type=int, default=3, help='measured, after the first')
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--prompts', action='store_true', help='measure batches of one token too')
  parser.add_argument('--steps_per_call', type=int, default=8)
  parser.add_argument('--hf_python', default=sys.executable, help='an interpreter with torch and transformers')
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--debug', action='store_true')
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(one(args)))
    return
  rows = run(args)
  print('| side | n | first answer | its cpu | a batch, median | fastest | of it, prompts | tokens/s | decode alone | cpu per 1,000 tokens | memory |')
  print('|---|---|---|---|---|---|---|---|---|---|---|')
  print('\n'.join(map(line, rows)))
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
  main()
