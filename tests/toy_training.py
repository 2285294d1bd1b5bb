"""A small model and an endless source of batches in memory, for tests of training."""

from __future__ import annotations

import functools

import jax
import numpy as np

from flanjax.models import t5
from flanjax.training import optimizers


class ToySource:
  """Copying: the target is the beginning of the inputs. Lengths are ragged."""

  def __init__(self, rows: int = 8, seed: int = 0, fingerprint: str = 'toy'):
    self.rows = self.batch_size = rows
    self.seed, self.fingerprint = seed, fingerprint

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([self.seed, step])
    inputs = rng.integers(2, 16, (self.rows, 6)).astype(np.int32)
    lengths = rng.integers(2, 6, (self.rows, 1))
    inputs = np.where(np.arange(6) < lengths, inputs, 0)
    targets = inputs[:, :4]
    batch = {
        'encoder_input_tokens': inputs,
        'decoder_target_tokens': targets,
        'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        'decoder_loss_weights': (targets > 0).astype(np.float32),
    }
    return {k: v[slice(*(rows or (None,)))] for k, v in batch.items()}

  def tally(self, step: int) -> dict[str, int]:
    return {'copy/0/examples': self.rows - step % 2, 'copy_odd/0/examples': step % 2}

  def audit(self, counts) -> dict[str, int]:
    return dict(counts)


@functools.cache
def toy_model(**overrides) -> t5.EncoderDecoderModel:
  sizes = {'vocab_size': 16, 'emb_dim': 8, 'num_heads': 2, 'head_dim': 4, 'mlp_dim': 16,
               'num_encoder_layers': 1, 'num_decoder_layers': 1}
  return t5.EncoderDecoderModel(t5.T5Config(**{**sizes, **overrides}))


def toy_optimizer(rate: float = 0.05) -> optimizers.Optimizer:
  return optimizers.adafactor(rate, min_dim_size_to_factor=8)


@functools.cache
def toy_params(seed: int = 0, **overrides):
  """As numpy, so that a step's donation leaves them alone."""
  return jax.tree.map(np.asarray, toy_model(**overrides).init(jax.random.key(seed)))


@functools.cache
def toy_logits(**overrides):
  """The jitted logits of (params, batch), compiled once for all tests."""
  return jax.jit(toy_model(**overrides).logits)
