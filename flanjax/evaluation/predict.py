"""The device side of evaluation: token ids in, generated ids or log-likelihoods out.

Requests of any number and length are sorted by length, cut into batches of one size, and padded to
few lengths, so that few programs are compiled. An answer does not depend on its neighbours.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flanjax import errors, partitioning
from flanjax.inference import buckets, requests
from flanjax.inference.engine import Engine
from flanjax.inference.programs import Static

Progress = Callable[[int, int], None]


@functools.partial(jax.jit, static_argnames='model')
def _score(params, batch, *, model: Static):
  return model.model.score_tokens(params, batch)


def padded_length(length: int, multiple: int) -> int:
  """The least allowed length that holds `length`.

  Multiples of `multiple`, coarser as they grow, so that there are at most eight lengths from one
  power of two to the next.

  >>> [padded_length(n, 32) for n in (0, 32, 33, 300, 513)]
  [32, 32, 64, 320, 640]
  """
  length = max(length, 1)
  step = max(multiple, (1 << (length - 1).bit_length()) // 8)
  return -(-length // step) * step


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
  """Indices of the requests of each batch, the longest first: a lack of memory shows at once."""
  order = np.argsort(-np.asarray(lengths), kind='stable')
  for start in range(0, len(order), batch_size):
    yield order[start : start + batch_size]


def pad(sequences: Sequence[Sequence[int]], rows: int, length: int) -> np.ndarray:
  """int32 [rows, length], zeros where there is nothing."""
  out = np.zeros((rows, length), np.int32)
  for i, sequence in enumerate(sequences):
    out[i, : len(sequence)] = sequence
  return out


@dataclasses.dataclass(frozen=True)
class _Prompt:
  """A prompt, and the pairs of a request that it is the inputs of."""

  inputs: Sequence[int]
  pairs: list[int]
  targets: list[Sequence[int]]

  @property
  def target_tokens(self) -> int:
    return sum(map(len, self.targets))


def prompts(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], row_tokens: int = buckets.SCORED_TOKENS
) -> list[_Prompt]:
  """Pairs of the same inputs together, of at most `row_tokens` tokens of targets (or one pair)."""
  found: list[_Prompt] = []
  newest: dict[bytes, _Prompt] = {}
  for i, (inputs, targets) in enumerate(pairs):
    key = np.asarray(inputs, np.int32).tobytes()
    prompt = newest.get(key)
    if prompt is None or prompt.target_tokens + len(targets) > row_tokens:
      prompt = newest[key] = _Prompt(inputs, [], [])
      found.append(prompt)
    prompt.pairs.append(i)
    prompt.targets.append(targets)
  return found


def prompt_batch(
    chosen: Sequence[_Prompt], rows: int, input_length: int, target_length: int
) -> dict[str, np.ndarray]:
  """The batch dictionary of prompts, the targets of each one after another in its row.

  Two targets [5 1] and [6 7 1] of one prompt:

      decoder_target_tokens  5 1 6 7 1 0
      decoder_input_tokens   0 5 0 6 7 0
      decoder_segment_ids    1 1 2 2 2 0
  """
  batch = {
      'encoder_input_tokens': pad([p.inputs for p in chosen], rows, input_length),
      **{name: np.zeros((rows, target_length), np.int32)
         for name in ('decoder_target_tokens', 'decoder_input_tokens', 'decoder_segment_ids')},
  }
  for row, prompt in enumerate(chosen):
    start = 0
    for segment, target in enumerate(prompt.targets, start=1):
      stop = start + len(target)
      batch['decoder_target_tokens'][row, start:stop] = target
      batch['decoder_input_tokens'][row, start + 1 : stop] = target[:-1]
      batch['decoder_segment_ids'][row, start:stop] = segment
      start = stop
  return batch


class Predictor:
  """Generates from and scores with one set of parameters.

  Args:
    model: has `score_tokens(params, batch)` and what `inference.engine.Engine` needs; a `config`
      that can be hashed lets equal models share compiled programs.
    params: its parameters, on the host or on devices.
    mesh: from `partitioning.make_mesh`; a batch is dealt over its axes 'data' and 'fsdp',
      parameters are placed by the model's logical axes. None: the default device.
    batch_size: rows per batch; rounded up to a multiple of the parts it is dealt into.
    input_multiple: inputs are padded to multiples of this.
    target_multiple: the same of targets.
    eos_id: the token that ends a text.
    lengths: of inputs and of targets, the only ones that they are padded to, where they shall be
      few; None: multiples of those two.
  """

  def __init__(
      self,
      model: Any,
      params: Any,
      *,
      mesh: jax.sharding.Mesh | None = None,
      batch_size: int = 64,
      input_multiple: int = 32,
      target_multiple: int = 16,
      eos_id: int = 1,
      lengths: tuple[Sequence[int], Sequence[int]] | None = None,
  ):
    if batch_size < 1:
      raise errors.UserError('batch_size must be at least 1', where='Predictor', got=batch_size)
    self.model = model
    self._static = Static.of(model)
    self._input_multiple, self._target_multiple = input_multiple, target_multiple
    self._lengths = lengths
    self.eos_id = eos_id
    self._mesh = mesh
    shardings = None
    if mesh is not None:
      shardings = partitioning.param_shardings(mesh, model.logical_axes(params), params)
      parts = partitioning.row_parts(mesh)
      batch_size = -(-batch_size // parts) * parts
    self.params = jax.device_put(params, shardings)
    self.batch_size = batch_size

  @functools.cached_property
  def fingerprint(self) -> str:
    """Tells parameters apart: a hash over names, shapes and the start of every array."""
    digest = hashlib.sha256(repr(self._static.key[1:]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      digest.update(f'{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}'.encode())
      start = leaf.addressable_shards[0].data[(slice(0, 8),) * leaf.ndim]
      digest.update(np.ascontiguousarray(start).tobytes())
    return digest.hexdigest()[:16]

  def generate(
      self,
      inputs: Sequence[Sequence[int]],
      max_decode_steps: int,
      progress: Progress | None = None,
  ) -> list[list[int]]:
    """Greedy continuations, one per input, without the end token and what follows it.

    Args:
      inputs: token ids, each with its end token.
      max_decode_steps: the most tokens of an answer.
      progress: called with (inputs answered, all).
    """
    if not inputs:
      return []
    engine = Engine(
        self.model, self.params, slots=min(self.batch_size, len(inputs)), mesh=self._mesh,
        max_decode_steps=max_decode_steps, input_multiple=self._input_multiple,
        eos_id=self.eos_id)
    greedy = requests.Sampling(max_decode_steps)
    # The longest first: a lack of memory shows at once.
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    answers: list[list[int]] = [[] for _ in inputs]
    asked = (requests.Request(i, inputs[i], greedy) for i in order)
    for done, answer in enumerate(engine.run(asked), start=1):
      answers[answer.id] = answer.completions[0].tokens
      if progress:
        progress(done, len(inputs))
    return answers

  def score(
      self,
      pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
      progress: Progress | None = None,
  ) -> np.ndarray:
    """log p(targets | inputs), summed over the targets' tokens: float64 [pairs].

    Args:
      pairs: token ids of inputs and targets, each with its end token.
      progress: called with (pairs scored, all).
    """
    return np.array([np.sum(x) for x in self.score_tokens(pairs, progress)], np.float64)

  def score_tokens(
      self,
      pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
      progress: Progress | None = None,
  ) -> list[np.ndarray]:
    """log p of every target token, float64 [length of the target] for each pair.

    A prompt is encoded once for all its targets, which share a row of the decoder. Arguments as
    of `score`.
    """
    scores, done = [np.zeros(0)] * len(pairs), 0
    for batch in self.score_batches(pairs):
      for i, part in batch:
        scores[i] = part
      done += len(batch)
      if progress:
        progress(done, len(pairs))
    return scores

  def score_batches(
      self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
  ) -> Iterator[list[tuple[int, np.ndarray]]]:
    """As `score_tokens`, batch by batch: (number of the pair, log p of its target's tokens)."""
    asked = prompts(pairs)
    for rows in batches([len(p.inputs) + p.target_tokens for p in asked], self.batch_size):
      chosen = [asked[i] for i in rows]
      batch = prompt_batch(
          chosen, self.batch_size, *self._padded(
              max(len(p.inputs) for p in chosen), max(p.target_tokens for p in chosen)))
      tokens = self._run(_score, batch).astype(np.float64)
      scores = []
      for row, prompt in zip(tokens, chosen):
        ends = np.cumsum([len(t) for t in prompt.targets])
        scores += zip(prompt.pairs, np.split(row[: ends[-1]], ends[:-1]))
      yield scores

  def _padded(self, inputs: int, targets: int) -> tuple[int, int]:
    if self._lengths:
      return tuple(map(buckets.holding, (inputs, targets), self._lengths))
    return (padded_length(inputs, self._input_multiple),
            padded_length(targets, self._target_multiple))

  def _run(self, function: Any, batch: Mapping[str, np.ndarray], **static: Any) -> np.ndarray:
    """A jitted function of (params, batch), its result whole on this host."""
    if self._mesh is not None:
      batch = partitioning.put(batch, partitioning.batch_sharding(self._mesh))
    with partitioning.activate(self._mesh):
      return partitioning.fetch(function(self.params, batch, model=self._static, **static))
