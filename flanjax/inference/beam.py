"""Beam search: the likeliest texts, followed side by side.

As in T5X: from each step's twice as many candidates as beams, those that end compete with what
has ended before, by log-probability over ((5 + n) / 6) ** alpha, and the best of the others
live on; a search is over when no living beam can still enter the ended ones. Where it differs:

- 0, padding, is never taken; T5X takes it when it is likely.
- A search ends by itself, not with the last one of its batch.
- Where fewer beams have ended than answers are asked for, living ones follow, scored alike;
  T5X gives such only where none has ended, and then their bare log-probabilities.

transformers differs in more: its scores divide by n ** length_penalty, which T5X's alpha cannot
express; by default it holds a search to be over when no beam of the present length could enter,
not of the longest; and it adds what lives at the end to what has ended.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flanjax import partitioning
from flanjax.inference import buckets, programs
from flanjax.inference.requests import Completion
from flanjax.models import decoding

# As good as -inf, and sums of it stay numbers.
_NONE = -1e7
_LEAST_LENGTH = 16


class Texts(NamedTuple):
  """The beams of one kind, [prompts, beams, ...], the best first.

  Attributes:
    tokens: int32 [prompts, beams, length], zeros after them.
    log_probs: float32, of each token.
    rank: float32 [prompts, beams]: log-probability of the living, score of the ended.
  """

  tokens: jax.Array
  log_probs: jax.Array
  rank: jax.Array


class State(NamedTuple):
  """A search between two steps.

  Attributes:
    step: int32, tokens of the living beams.
    live: what goes on.
    ended: what has met the end token; a rank of -1e7: a place not taken.
    over: bool [prompts].
  """

  step: jax.Array
  live: Texts
  ended: Texts
  over: jax.Array


def penalty(alpha: jax.Array, length: jax.Array) -> jax.Array:
  """((5 + length) / 6) ** alpha (Wu et al. 2016, 1609.08144, section 7).

  >>> float(penalty(1.0, 7))
  2.0
  """
  return ((5.0 + length) / 6.0) ** alpha


def start(prompts: int, beams: int, length: int, real: np.ndarray) -> State:
  """Nothing but one empty beam for each prompt that is `real`."""
  zeros = np.zeros((prompts, beams, length), np.int32)
  none = np.full((prompts, beams), _NONE, np.float32)
  first = none.copy()
  first[:, 0] = 0
  texts = lambda rank: Texts(zeros, zeros.astype(np.float32), rank)
  return State(np.int32(0), texts(first), texts(none), ~real)


def _pick(texts: Texts, places: jax.Array) -> Texts:
  """Beams `places`, [prompts, n], of each prompt."""
  of = lambda x: jnp.take_along_axis(x, places.reshape(*places.shape, *(1,) * (x.ndim - 2)), 1)
  return Texts(*map(of, texts))


def _best(texts: Texts, beams: int) -> tuple[Texts, jax.Array]:
  places = jax.lax.top_k(texts.rank, beams)[1]
  return _pick(texts, places), places


def _candidates(state: State, logits: jax.Array) -> tuple[Texts, jax.Array]:
  """-> twice as many continuations as beams, and the living beam that each comes from."""
  prompts, beams, _ = state.live.tokens.shape
  log_probs = jax.nn.log_softmax(logits).at[:, 0].set(_NONE)
  # In two stages: the best of each beam, then of all.
  best, tokens = jax.lax.top_k(log_probs, min(2 * beams, log_probs.shape[1]))
  best = best.reshape(prompts, beams, -1)
  ranks, places = jax.lax.top_k(
      (best + state.live.rank[:, :, None]).reshape(prompts, -1), 2 * beams)
  parents = places // best.shape[2]
  of_place = lambda x: jnp.take_along_axis(x.reshape(prompts, -1), places, axis=1)
  grown = _pick(state.live, parents)
  return Texts(grown.tokens.at[:, :, state.step].set(of_place(tokens)),
               grown.log_probs.at[:, :, state.step].set(of_place(best)), ranks), parents


def grow(
    state: State, logits: jax.Array, limits: jax.Array, alphas: jax.Array, eos_id: int
) -> tuple[State, jax.Array]:
  """One token more of every living beam.

  Args:
    state: the search.
    logits: float32 [prompts * beams, vocab].
    limits: int32 [prompts], the most tokens of a text.
    alphas: float32 [prompts].
    eos_id: the token that ends a text.

  Returns:
    The search after it, and the beam that each living one comes from, [prompts, beams].
  """
  beams, length = state.live.tokens.shape[1], state.step + 1
  found, parents = _candidates(state, logits)
  ends = found.tokens[:, :, state.step] == eos_id
  live, places = _best(found._replace(rank=found.rank + ends * _NONE), beams)
  scores = found.rank / penalty(alphas, length)[:, None]
  # What comes of a beam that is none has not ended.
  scores = jnp.where(ends & (found.rank > _NONE / 2), scores, _NONE)
  both = [jnp.concatenate(pair, axis=1)
          for pair in zip(state.ended, found._replace(rank=scores))]
  ended, _ = _best(Texts(*both), beams)
  # What the best living beam could come to, if all that follows had probability 1.
  hope = live.rank[:, 0] / penalty(alphas, limits + 1)
  over = (ended.rank[:, -1] > hope) | (length >= limits)
  keep = lambda old, new: jnp.where(state.over.reshape(-1, *(1,) * (new.ndim - 1)), old, new)
  grown = State(length, jax.tree.map(keep, state.live, live),
                jax.tree.map(keep, state.ended, ended), state.over | over)
  return grown, jnp.take_along_axis(parents, places, axis=1)


@functools.cache
def advance(platform: str) -> Any:
  """-> `_advance`, compiled for a kind of device."""
  return jax.jit(_advance, donate_argnums=(1, 2), static_argnames=('model', 'steps', 'eos_id'),
                 compiler_options=programs.compiler_options(platform))


def _advance(
    params: Any, cache: decoding.Cache, state: State, context: decoding.Context,
    limits: jax.Array, alphas: jax.Array, *, model: programs.Static, steps: int, eos_id: int,
) -> tuple[decoding.Cache, State]:
  """Up to `steps` tokens more; `cache` is as long as texts may be."""
  prompts, beams, _ = state.live.tokens.shape

  def unfinished(carry):
    return (carry[0] < steps) & ~jnp.all(carry[2].over)

  def body(carry):
    i, cache, state = carry
    last = jnp.where(state.step == 0, 0, state.live.tokens[:, :, state.step - 1])
    ages = jnp.full(prompts * beams, state.step)
    logits, cache = model.model.decode_step(
        params, last.reshape(-1), state.step, ages, cache, context)
    state, parents = grow(state, logits, limits, alphas, eos_id)
    rows = (parents + jnp.arange(prompts)[:, None] * beams).reshape(-1)
    return i + 1, jax.tree.map(lambda x: jnp.take(x, rows, axis=0), cache), state

  _, cache, state = jax.lax.while_loop(unfinished, body, (jnp.int32(0), cache, state))
  return decoding.constrain(cache), state


class Search:
  """Beam search for some prompts of one number of beams.

  Args:
    device: an `inference.pool.Device`.
    context: of the prompts, perhaps with rows after them that are none.
    jobs: what is asked; each has a `request`.
    steps: tokens per `advance`.
    lengths: the only ones that its texts have room for; (): powers of two.
  """

  def __init__(
      self, device: Any, context: decoding.Context, jobs: Sequence[Any], steps: int,
      lengths: Sequence[int] = (),
  ):
    self._device, self._context, self._jobs, self._steps = device, context, jobs, steps
    prompts, asked = context.valid.shape[0], [job.request.sampling for job in jobs]
    beams, self._limits = asked[0].beam_size, np.ones(prompts, np.int32)
    self._alphas = np.zeros(prompts, np.float32)
    for i, sampling in enumerate(asked):
      self._limits[i], self._alphas[i] = sampling.max_decode_steps, sampling.length_penalty
    most = int(self._limits.max())
    length = (buckets.holding(most, lengths) if lengths
              else max(_LEAST_LENGTH, 1 << (most - 1).bit_length()))
    self._cache = device.init_cache(prompts * beams, length)
    self._state = start(prompts, beams, length, np.arange(prompts) < len(jobs))

  def advance(self) -> list[tuple[Any, list[Completion]]] | None:
    """Some more tokens; -> (job, its completions), once all are over, None before."""
    run = self._device.run
    self._cache, self._state = run(
        advance(self._device.platform), self._device.decoder, self._cache, self._state,
        self._context, self._limits, self._alphas, model=self._device.model, steps=self._steps,
        eos_id=self._device.eos_id)
    if not all(job.finished or over
               for job, over in zip(self._jobs, partitioning.fetch(self._state.over))):
      return None
    live, ended = (Texts(*map(partitioning.fetch, texts))
                   for texts in (self._state.live, self._state.ended))
    return [(job, self._completions(i, job.request.sampling, live, ended))
            for i, job in enumerate(self._jobs)]

  def _completions(self, i: int, sampling: Any, live: Texts, ended: Texts) -> list[Completion]:
    found = [self._completion(i, j, ended, float(ended.rank[i, j]))
             for j in range(sampling.beam_size) if ended.rank[i, j] > _NONE / 2]
    scale = float(penalty(sampling.length_penalty, sampling.max_decode_steps))
    found += [self._completion(i, j, live, float(live.rank[i, j]) / scale)
              for j in range(sampling.beam_size) if live.rank[i, j] > _NONE / 2]
    return found[: sampling.num_samples]

  def _completion(self, i: int, j: int, texts: Texts, score: float) -> Completion:
    tokens = texts.tokens[i, j].tolist()
    length = next((n for n, token in enumerate(tokens) if not token), len(tokens))
    tokens, log_probs = tokens[:length], texts.log_probs[i, j, :length].astype(float).tolist()
    ends = tokens[-1:] == [self._device.eos_id]
    reason = 'end' if ends else 'length'
    return Completion(tokens[:-1] if ends else tokens, log_probs, score, reason)
