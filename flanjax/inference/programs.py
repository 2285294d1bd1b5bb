"""The compiled programs of an engine: read prompts, put them into slots, decode some tokens."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flanjax.inference import sampling
from flanjax.models import decoding


@dataclasses.dataclass(frozen=True)
class Static:
  """A model as a static argument of a jitted function: equal when type and config are.

  So the tuned and the untuned model share their compiled programs.
  """

  model: Any = dataclasses.field(compare=False)
  key: tuple[Any, ...]

  @classmethod
  def of(cls, model: Any) -> Static:
    return cls(model, (type(model), getattr(model, 'config', model)))


class Rows(NamedTuple):
  """What an engine's slots hold, beside caches; arrays [slots].

  Attributes:
    tokens: int32, the last token of each; 0 before the first.
    ages: int32, how many tokens each has made.
    limits: int32, how many it may make.
    running: bool.
  """

  tokens: jax.Array
  ages: jax.Array
  limits: jax.Array
  running: jax.Array


@functools.partial(jax.jit, static_argnames='model')
def encode(params: Any, tokens: jax.Array, *, model: Static) -> decoding.Context:
  return decoding.constrain(model.model.encode(params, tokens))


@functools.partial(jax.jit, static_argnames=('model', 'turn'))
def prepare(params: Any, *, model: Static, turn: bool) -> Any:
  return model.model.prepare_decoding(params, turn)


@functools.partial(jax.jit, static_argnames=('model', 'rows', 'length'))
def init_cache(*, model: Static, rows: int, length: int) -> decoding.Cache:
  return decoding.constrain(model.model.init_cache(rows, length))


@functools.partial(jax.jit, static_argnames=('rows', 'length'))
def widen(context: decoding.Context, *, rows: int, length: int) -> decoding.Context:
  """`context` with other numbers of rows and columns; new ones hold no inputs."""
  context = decoding.pad_context(context, length)
  add = lambda x: jnp.pad(x, [(0, rows - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
  return decoding.constrain(jax.tree.map(add, context))


@functools.partial(jax.jit, donate_argnums=0)
def insert(
    context: decoding.Context, new: decoding.Context, slots: jax.Array, rows: jax.Array,
    count: jax.Array,
) -> decoding.Context:
  """Row `rows[i]` of `new` into slot `slots[i]`, for i below `count`."""
  new = decoding.pad_context(new, context.valid.shape[1])

  def put(i, context):
    row = lambda x: jax.lax.dynamic_slice_in_dim(x, rows[i], 1)
    return jax.tree.map(
        lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, row(x), slots[i], axis=0),
        context, new)

  return decoding.constrain(jax.lax.fori_loop(0, count, put, context))


@functools.partial(jax.jit, static_argnames='length')
def resize(cache: decoding.Cache, column: jax.Array, *, length: int) -> decoding.Cache:
  return decoding.constrain(decoding.resize(cache, column, length))


@functools.cache
def compiler_options(platform: str) -> dict[str, str] | None:
  """Of programs that decode.

  On a CPU, without the library that XLA hands reductions to: for sums of a few rows its threads
  take longer to wake than to add, a quarter of a step's time. None where XLA does not know it.
  """
  options = {'xla_cpu_experimental_ynn_fusion_type': ''}
  if platform != 'cpu':
    return None
  try:
    jax.jit(lambda x: -x, compiler_options=options).lower(1.0).compile()
  except (jax.errors.JaxRuntimeError, ValueError):
    return None
  return options


@functools.cache
def decode(platform: str) -> Any:
  """-> `_decode`, compiled for a kind of device."""
  return jax.jit(_decode, donate_argnums=1, static_argnames=('model', 'steps', 'eos_id', 'kind'),
                 compiler_options=compiler_options(platform))


def _decode(
    params: Any, cache: decoding.Cache, context: decoding.Context, rows: Rows,
    draws: sampling.Draws, column: jax.Array, *, model: Static, steps: int, eos_id: int, kind: str,
) -> tuple[decoding.Cache, jax.Array, jax.Array]:
  """Up to `steps` tokens of every running row.

  Args:
    params: of `prepare`.
    cache: a ring with room for the oldest row.
    context: the prompts of the rows.
    rows: the rows.
    draws: how they choose.
    column: where the first of the tokens is written.
    model: the model.
    steps: the most tokens.
    eos_id: the token that ends a row.
    kind: of `sampling.choose`.

  Returns:
    The cache, int32 [steps, rows] with zeros where a row does not run, and log-probabilities.
  """
  def unfinished(carry):
    return (carry[0] < steps) & jnp.any(carry[2].running)

  def body(carry):
    i, cache, rows, tokens, log_probs = carry
    place = (column + i) % cache[0][0].shape[2]
    logits, cache = model.model.decode_step(
        params, rows.tokens, place, rows.ages, cache, context)
    chosen, log_p = sampling.choose(logits, draws, rows.ages, kind)
    chosen = jnp.where(rows.running, chosen, 0)
    ages = rows.ages + rows.running
    running = rows.running & (chosen != eos_id) & (ages < rows.limits)
    return (i + 1, cache, Rows(chosen, ages, rows.limits, running),
            tokens.at[i].set(chosen), log_probs.at[i].set(log_p))

  none = jnp.zeros((steps, rows.tokens.shape[0]), jnp.int32)
  start = jnp.int32(0), cache, rows, none, none.astype(jnp.float32)
  _, cache, _, tokens, log_probs = jax.lax.while_loop(unfinished, body, start)
  return decoding.constrain(cache), tokens, log_probs
