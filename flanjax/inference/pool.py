"""The slots of an engine: rows that decode together, each with a text of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from flanjax import partitioning
from flanjax.inference import buckets, programs, sampling
from flanjax.models import decoding

_LEAST_CACHE = 64


def cache_length(tokens: int, most: int) -> int:
  """The length of a cache that holds `tokens`: a power of two, or all that can be needed.

  >>> [cache_length(n, 300) for n in (1, 65, 257)]
  [64, 128, 300]
  """
  return min(max(_LEAST_CACHE, 1 << (tokens - 1).bit_length()), most)


class Device:
  """A model's parameters where they lie, and programs run there.

  Args:
    model: has `encode`, `init_cache`, `prepare_decoding` and `decode_step`.
    params: its parameters, on the host or on devices.
    mesh: over whose axes 'data' and 'fsdp' rows are dealt; None: the default device.
    eos_id: the token that ends a text.
  """

  def __init__(self, model: Any, params: Any, mesh: jax.sharding.Mesh | None, eos_id: int):
    self.model, self.eos_id, self._mesh = programs.Static.of(model), eos_id, mesh
    shardings = None
    if mesh is not None:
      shardings = partitioning.param_shardings(mesh, model.logical_axes(params), params)
    self.params = jax.device_put(params, shardings)
    # On a CPU a turned copy is worth its memory; elsewhere products are as fast either way.
    self.platform = next(iter(jax.tree.leaves(self.params)[0].devices())).platform
    self.decoder = self.run(
        programs.prepare, self.params, model=self.model, turn=self.platform == 'cpu')

  @property
  def parts(self) -> int:
    """What a number of rows must be a multiple of."""
    return 1 if self._mesh is None else partitioning.row_parts(self._mesh)

  def put(self, tree: Any) -> Any:
    """Arrays whose first axis are rows."""
    if self._mesh is None:
      return tree
    return partitioning.put(tree, partitioning.batch_sharding(self._mesh))

  def run(self, function: Callable[..., Any], *args: Any, **static: Any) -> Any:
    with partitioning.activate(self._mesh):
      return function(*args, **static)

  def encode(self, tokens: np.ndarray) -> decoding.Context:
    return self.run(programs.encode, self.params, self.put(tokens), model=self.model)

  def init_cache(self, rows: int, length: int) -> decoding.Cache:
    return self.run(programs.init_cache, model=self.model, rows=rows, length=length)


@dataclasses.dataclass
class Row:
  """A text in the making.

  Attributes:
    job: whose it is; `job.wants(sample)` tells whether anybody still waits for it.
    sample: which of the samples.
    columns: of the context that it was encoded in.
    age: the tokens made.
    token: the last of them.
    score: the sum of their log-probabilities.
  """

  job: Any
  sample: int
  columns: int
  age: int = 0
  token: int = 0
  score: float = 0.0


@dataclasses.dataclass(frozen=True)
class Made:
  """What a row has got: tokens, the end token among them, and whether it is over."""

  row: Row
  tokens: list[int]
  log_probs: list[float]
  finish_reason: str | None


class Pool:
  """Rows that decode together, in slots.

  Args:
    device: the model.
    count: how many; a multiple of `device.parts`.
    steps: tokens of a row per call.
    most: the most tokens of a row.
    lengths: the only ones that caches have; (): as many as are needed.
  """

  def __init__(
      self, device: Device, count: int, steps: int, most: int, lengths: Sequence[int] = ()
  ):
    self._device, self._steps, self._most, self._lengths = device, steps, most, lengths
    self.rows: list[Row | None] = [None] * count
    self._context: decoding.Context | None = None
    self._cache: decoding.Cache | None = None
    self._column = 0

  @property
  def free(self) -> int:
    return self.rows.count(None)

  @property
  def running(self) -> list[Row]:
    return [row for row in self.rows if row is not None]

  def release(self, unwanted: Callable[[Row], bool]) -> None:
    self.rows = [None if row is None or unwanted(row) else row for row in self.rows]

  def place(self, context: decoding.Context, rows: Sequence[tuple[int, Row]], last: bool) -> None:
    """Puts rows into free slots.

    Args:
      context: what the encoder made of their prompts.
      rows: (row of `context`, row); no more than are free.
      last: nobody needs `context` any more.
    """
    count, columns = len(self.rows), context.valid.shape[1]
    if last and not self.running and [i for i, _ in rows] == list(range(count)) and (
        context.valid.shape[0] == count):
      self._context, self.rows = context, [row for _, row in rows]
      return
    self._fit_context(context, columns)
    free = [i for i, row in enumerate(self.rows) if row is None]
    places, sources = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for i, (slot, (source, row)) in enumerate(zip(free, rows)):
      places[i], sources[i], self.rows[slot] = slot, source, row
    self._context = self._device.run(
        programs.insert, self._context, context, places, sources, np.int32(len(rows)))

  def _fit_context(self, new: decoding.Context, columns: int) -> None:
    """Makes room for `columns`; gives room back where half would do."""
    needed = max([columns, *(row.columns for row in self.running)])
    have = 0 if self._context is None else self._context.valid.shape[1]
    if have != needed and not (self.running and needed < have < 2 * needed):
      of = new if self._context is None else self._context
      self._context = self._widened(of, needed)

  def _widened(self, context: decoding.Context, columns: int) -> decoding.Context:
    return self._device.run(programs.widen, context, rows=len(self.rows), length=columns)

  def _fit_cache(self) -> None:
    needed = max(min(r.age + self._steps, r.job.limit) for r in self.running)
    needed = (buckets.holding(needed, self._lengths) if self._lengths
              else cache_length(needed, self._most))
    if self._cache is None:
      self._cache = self._device.init_cache(len(self.rows), needed)
    have = self._cache[0][0].shape[2]
    if not needed <= have < 4 * needed:
      self._cache = self._resized(self._cache, needed)
      self._column %= needed

  def _resized(self, cache: decoding.Cache, length: int) -> decoding.Cache:
    return self._device.run(programs.resize, cache, np.int32(self._column), length=length)

  def advance(self) -> list[Made]:
    """Some more tokens of every row; those that are over leave their slots."""
    if not self.running:
      return []
    self._fit_cache()
    start, tokens, log_probs = self._decode()
    self._column = start + self._steps - 1
    return self._collect(partitioning.fetch(tokens), partitioning.fetch(log_probs))

  def _decode(self) -> tuple[int, jax.Array, jax.Array]:
    """-> the column of the first of the tokens, the tokens, their log-probabilities."""
    start = (self._column + 1) % self._cache[0][0].shape[2]
    rows, draws, kind = self._arrays()
    self._cache, tokens, log_probs = self._device.run(
        programs.decode(self._device.platform), self._device.decoder, self._cache, self._context,
        self._device.put(rows), self._device.put(draws), np.int32(start),
        model=self._device.model, steps=self._steps, eos_id=self._device.eos_id, kind=kind)
    return start, tokens, log_probs

  def compile(self, new: decoding.Context, columns: Sequence[int]) -> None:
    """Every program that this may run for prompts like `new`, with nobody in the slots.

    Args:
      new: what the encoder makes of such prompts.
      columns: the only numbers of columns that there are.
    """
    width = new.valid.shape[1]
    self._context = self._widened(new, width)
    for length in self._lengths:
      self._cache = self._device.init_cache(len(self.rows), length)
      for other in self._lengths:
        if other != length:
          self._resized(self._cache, other)
      self._decode()
    none = np.zeros(len(self.rows), np.int32)
    # Its own width at last: what is inserted into is given away.
    for other in sorted(columns, key=lambda n: n == width):
      context = self._widened(self._context, other)
      if other >= width:
        self._device.run(programs.insert, context, new, none, none, np.int32(0))
    self._context = self._cache = None

  def _arrays(self) -> tuple[programs.Rows, sampling.Draws, str]:
    nobody = Row(None, 0, 0)
    rows = [row or nobody for row in self.rows]
    of = lambda get, dtype: np.array([get(row) for row in rows], dtype)
    asked = lambda name, default, dtype: of(
        lambda row: getattr(row.job.request.sampling, name) if row.job else default, dtype)
    temperature = asked('temperature', 0, np.float32)
    vocab = np.iinfo(np.int32).max
    top_k = of(lambda row: min(row.job.request.sampling.top_k, vocab) if row.job else 0, np.int32)
    top_p = asked('top_p', 1, np.float32)
    kind = 'any' if self._lengths else 'greedy'
    if (temperature > 0).any() and not self._lengths:
      kind = 'filtered' if ((top_k > 0) | (top_p < 1))[temperature > 0].any() else 'drawn'
    return (
        programs.Rows(of(lambda row: row.token, np.int32), of(lambda row: row.age, np.int32),
                      of(lambda row: row.job.limit if row.job else 0, np.int32),
                      of(lambda row: row.job is not None, bool)),
        sampling.Draws(temperature, top_k, top_p,
                       np.stack([row.job.key if row.job else np.zeros(2, np.uint32)
                                 for row in rows]),
                       of(lambda row: row.sample, np.int32)),
        kind)

  def _collect(self, tokens: np.ndarray, log_probs: np.ndarray) -> list[Made]:
    made = []
    for slot, row in enumerate(self.rows):
      if row is None:
        continue
      count = min(self._steps, row.job.limit - row.age)
      got = tokens[:count, slot].tolist()
      ended = self._device.eos_id in got
      if ended:
        got = got[: got.index(self._device.eos_id) + 1]
      of_got = log_probs[: len(got), slot].astype(float).tolist()
      row.age, row.token, row.score = row.age + len(got), got[-1], row.score + sum(of_got)
      reason = 'end' if ended else 'length' if row.age >= row.job.limit else None
      made.append(Made(row, got, of_got, reason))
      if reason:
        self.rows[slot] = None
    return made
