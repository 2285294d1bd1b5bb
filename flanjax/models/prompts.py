"""Soft prompts: learned vectors before the embedded inputs (Lester et al. 2021, 2104.08691).

Two forms, told apart by `T5Config.prompt_reads_inputs`:

- False: what the prompt is turned into by the encoder's layers does not depend on the inputs, and
  every input token sees it as if it stood right after it. So each of the examples that are packed
  in one row finds the prompt as it would alone.
- True: the paper's, plain columns before the inputs. A row then holds one example.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from flanjax import errors
from flanjax.models import layers

PARAMETERS = r'prompt/embedding'
# Lester et al. start from the 5,000 commonest tokens; a SentencePiece model lists them first,
# after its special ones.
_SPECIAL, _COMMON = 3, 5000


class Prompt(nn.Module):
  """The learned vectors; parameter `embedding` [prompt, embed], float32."""

  length: int
  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[batch, length, embed] -> [batch, prompt + length, embed]."""
    init = nn.with_logical_partitioning(layers.embedding_init, ('prompt', 'embed'))
    vectors = self.param('embedding', init, (self.length, self.features), jnp.float32)
    rows = jnp.broadcast_to(vectors.astype(self.dtype), (x.shape[0], *vectors.shape))
    x = jnp.concatenate([rows, x], axis=1)
    return layers.constrain(x, ('batch', 'length', 'embed'))


def from_vocabulary(rng: jax.Array, embedding: jax.Array, length: int) -> jax.Array:
  """-> [length, embed]: the embeddings of common tokens, drawn without replacement if they do."""
  first = min(_SPECIAL, embedding.shape[0] - 1)
  tokens = jnp.arange(first, min(embedding.shape[0], first + _COMMON))
  chosen = jax.random.choice(rng, tokens, (length,), replace=length > tokens.size)
  return embedding[chosen].astype(jnp.float32)


def encoder_mask(mask: jax.Array, length: int, reads_inputs: bool,
                 segments: jax.Array | None = None) -> jax.Array:
  """[batch, n, n] of the inputs -> [batch, length + n, length + n] with the prompt before them.

  >>> encoder_mask(jnp.array([[[1, 0], [0, 1]]]) > 0, 1, False).astype(int).tolist()
  [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]
  """
  if reads_inputs and segments is not None:
    raise errors.UserError(
        'a prompt that reads the inputs needs rows of one example',
        where='T5Config.prompt_reads_inputs', got='packed rows',
        hint='train.TrainRun.pack = False, or prompt_reads_inputs = False')
  batch, n, _ = mask.shape
  inputs = jnp.diagonal(mask, axis1=1, axis2=2)[:, None, :]
  above = jnp.broadcast_to(inputs & reads_inputs, (batch, length, n))
  left = jnp.ones((batch, length + n, length), bool)
  return jnp.concatenate([left, jnp.concatenate([above, mask], axis=1)], axis=2)


def cross_mask(mask: jax.Array, length: int) -> jax.Array:
  """[batch, targets, n] -> [batch, targets, length + n]: every target sees the prompt."""
  if not length:
    return mask
  return jnp.concatenate([jnp.ones((*mask.shape[:2], length), bool), mask], axis=2)
