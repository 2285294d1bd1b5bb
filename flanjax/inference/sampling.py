"""Which token comes next: the likeliest one, or a draw among the likely ones.

Draws add Gumbel noise to logits and take the largest (Gumbel 1954; the noise comes from the
request's own key and the place of the token), so that a rounding error elsewhere in the
vocabulary, which a cumulative sum would hand on, does not change what is drawn.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Of two stages, the first runs along the vocabulary with as many lanes: fast on a CPU.
_LANES = 128
# By how much has to be computed.
KINDS = ('greedy', 'drawn', 'filtered')


class Draws(NamedTuple):
  """How each row chooses; arrays [rows].

  Attributes:
    temperature: float32; 0 takes the likeliest.
    top_k: int32; 0 for all.
    top_p: float32; 1 for all.
    key: uint32 [rows, 2], of `requests.seed_of`.
    sample: int32, which sample of its request a row is.
  """

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  key: jax.Array
  sample: jax.Array


def _reduce(function, x: jax.Array) -> jax.Array:
  """`function` over the last axis, [rows, vocab] -> [rows]."""
  rows, vocab = x.shape
  if vocab % _LANES:
    return function(x, axis=-1)
  return function(function(x.reshape(rows, vocab // _LANES, _LANES), axis=1), axis=-1)


def likeliest(logits: jax.Array) -> jax.Array:
  """int32 [rows]: the first of the largest; two plain reductions, where argmax takes pairs."""
  vocab = logits.shape[-1]
  best = _reduce(jnp.max, logits)
  places = jnp.where(logits == best[:, None], jnp.arange(vocab, dtype=jnp.int32), vocab - 1)
  return _reduce(jnp.min, places)


def log_probs_of(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """float32 [rows]: log p of one token of each row."""
  best = _reduce(jnp.max, logits)
  log_z = best + jnp.log(_reduce(jnp.sum, jnp.exp(logits - best[:, None])))
  return jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0] - log_z


def _ordered(x: jax.Array) -> jax.Array:
  """uint32 numbers in the order of float32 ones."""
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  return jnp.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


def _threshold(places: jax.Array, weights: jax.Array, least: jax.Array) -> jax.Array:
  """uint32 [rows]: the largest t for which the weights at places >= t come to `least`.

  Found bit by bit: thirty-two sums are quicker than sorting a vocabulary.
  """
  def with_bit(i, t):
    higher = t | (np.uint32(1 << 31) >> i.astype(jnp.uint32))
    reached = _reduce(jnp.sum, jnp.where(places >= higher[:, None], weights, 0)) >= least
    return jnp.where(reached, higher, t)

  return jax.lax.fori_loop(0, 32, with_bit, jnp.zeros(places.shape[0], jnp.uint32))


def filtered(logits: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
  """`logits` with -inf at what is not to be drawn.

  Tokens as likely as the last one that is kept are kept too.

  >>> filtered(jnp.log(jnp.array([[.5, .3, .2]])), jnp.array([2]), jnp.array([1.])).tolist()[0][2]
  -inf
  """
  places = _ordered(logits)
  kth = _threshold(places, jnp.ones_like(logits), top_k.astype(jnp.float32))
  logits = jnp.where((top_k[:, None] == 0) | (places >= kth[:, None]), logits, -jnp.inf)
  weights = jnp.exp(logits - _reduce(jnp.max, logits)[:, None])
  edge = _threshold(places, weights, top_p * _reduce(jnp.sum, weights))
  return jnp.where((top_p[:, None] >= 1) | (places >= edge[:, None]), logits, -jnp.inf)


def _noise(draws: Draws, ages: jax.Array, vocab: int) -> jax.Array:
  def of_row(key, sample, age):
    key = jax.random.wrap_key_data(key, impl='threefry2x32')
    return jax.random.gumbel(jax.random.fold_in(jax.random.fold_in(key, sample), age), (vocab,))

  return jax.vmap(of_row)(draws.key, draws.sample, ages)


def choose(
    logits: jax.Array, draws: Draws, ages: jax.Array, kind: str
) -> tuple[jax.Array, jax.Array]:
  """-> the next token of each row, int32 [rows], and its log-probability under the model.

  0 is padding, which no target holds: it is never chosen.

  Args:
    logits: float32 [rows, vocab].
    draws: how each row chooses.
    ages: int32 [rows], the place of the token in its text.
    kind: 'greedy' where no row draws, 'drawn' where some do, 'filtered' where some of these
      have a `top_k` or `top_p`: how much has to be computed. What a row gets is the same. 'any':
      one program that finds out.
  """
  if kind == 'any':
    warm = draws.temperature > 0
    cut = warm & ((draws.top_k > 0) | (draws.top_p < 1))
    number = jnp.any(warm).astype(jnp.int32) + jnp.any(cut)
    return jax.lax.switch(
        number, [functools.partial(choose, kind=k) for k in KINDS], logits, draws, ages)
  open_ = jnp.where(jnp.arange(logits.shape[1]) > 0, logits, -jnp.inf)
  tokens = likeliest(open_)
  if kind != 'greedy':
    warm = draws.temperature > 0
    # The largest is 0: at a temperature near 0 the others go to -inf, none to a NaN.
    scaled = open_ - _reduce(jnp.max, open_)[:, None]
    scaled = scaled / jnp.where(warm, draws.temperature, 1.0)[:, None]
    if kind == 'filtered':
      scaled = filtered(scaled, draws.top_k, draws.top_p)
    drawn = likeliest(scaled + _noise(draws, ages, logits.shape[-1]))
    tokens = jnp.where(warm, drawn, tokens)
  return tokens, log_probs_of(logits, tokens)
