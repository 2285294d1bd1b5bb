#!/usr/bin/env python3
"""Writes what T5X's beam search finds in random tables, for tests/beam_search_test.py.

Needs T5X, airio and jestimator on the path, which their repositories hold and PyPI does not:

  PYTHONPATH=.:t5x:airio:jestimator tools/make_beam_golden.py tests/golden/beams.npz

A table gives the logits of a token at each place after each token. Padding is never likely in
it: T5X would take it.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from t5x import decoding

EOS = 1
# Prompts, places, vocabulary, beams, alpha, how much likelier the end token is.
CASES = [(3, 9, 12, 4, 0.6, 0.0), (2, 12, 20, 1, 0.6, 1.0), (4, 7, 9, 3, 0.0, 2.0),
         (2, 10, 30, 8, 1.5, 1.0), (3, 6, 12, 2, 0.6, -4.0), (2, 8, 15, 5, 0.6, 4.0)]


def search(table: np.ndarray, beams: int, alpha: float) -> tuple[jax.Array, jax.Array]:
  """Each prompt alone: T5X goes on until the last one of a batch is over."""
  def logits_of(state):
    return table[state.cur_index, state.cur_token[:, 0]], state.cache

  return decoding.beam_search(
      jnp.zeros((1, len(table)), jnp.int32), {}, logits_of, EOS, num_decodes=beams, alpha=alpha)


def main() -> None:
  arrays = {}
  for case, (prompts, places, vocab, beams, alpha, ends) in enumerate(CASES):
    rng = np.random.default_rng(case)
    table = rng.normal(size=(prompts, places, vocab, vocab), scale=2).astype(np.float32)
    table[..., EOS] += ends
    table[..., 0] = -60
    found = [search(jnp.asarray(rows), beams, alpha) for rows in table]
    values = {'table': table, 'beams': beams, 'alpha': alpha,
              'tokens': np.concatenate([f[0] for f in found]),
              'scores': np.concatenate([f[1] for f in found])}
    arrays |= {f'{case}/{name}': value for name, value in values.items()}
  np.savez_compressed(sys.argv[1], **arrays)


if __name__ == '__main__':
  main()
