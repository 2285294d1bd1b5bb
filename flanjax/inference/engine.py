"""Continuous batching: rows that end make way for the next request.

A prompt is encoded once for all its samples; texts are decoded some tokens at a time, all slots
together; a slot whose text is over takes the next prompt. What a request is answered does not
depend on its company, but for the rounding of sums whose order another length or number of rows
changes.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from flanjax import errors
from flanjax.inference import beam, buckets, pool, requests
from flanjax.inference.buckets import Buckets
from flanjax.inference.requests import Answer, Completion, Request, Update

# Prompts are encoded in groups of so many rows, each a compiled program, up to a bound on tokens.
_GROUPS = 4
# On a CPU few enough that activations stay in its caches: a fifth faster.
_GROUP_TOKENS = {'cpu': 1024}
_GROUP_TOKENS_ELSEWHERE = 16_384


def input_columns(length: int, multiple: int) -> int:
  """The columns that inputs are padded to: two lengths from one power of two to the next.

  >>> [input_columns(n, 32) for n in (1, 33, 65, 200, 300)]
  [32, 64, 96, 256, 384]
  """
  columns = max(1 << (max(length, 1) - 1).bit_length(), multiple)
  columns = columns * 3 // 4 if columns >= 4 and length <= columns * 3 // 4 else columns
  return -(-columns // multiple) * multiple


def group_sizes(parts: int, most: int) -> list[int]:
  """The numbers of prompts that are encoded together.

  >>> group_sizes(1, 40)
  [1, 4, 16, 40]
  """
  sizes = [parts]
  while sizes[-1] * _GROUPS < most:
    sizes.append(sizes[-1] * _GROUPS)
  return sizes if sizes[-1] >= most else [*sizes, most]


@dataclasses.dataclass
class _Job:
  """A request on its way.

  Attributes:
    request: as it came.
    columns: that its inputs are padded to.
    key: what its draws come from.
    over: samples that nobody waits for: ended or cancelled.
  """

  request: Request
  columns: int
  key: np.ndarray
  over: set[int] = dataclasses.field(default_factory=set)

  @property
  def limit(self) -> int:
    return self.request.sampling.max_decode_steps

  @property
  def beams(self) -> int:
    return self.request.sampling.beam_size

  @property
  def rows(self) -> int:
    """Of its prompt, in what takes it."""
    return self.request.sampling.num_samples if self.beams == 1 else 1

  def wants(self, sample: int) -> bool:
    return sample not in self.over

  @property
  def finished(self) -> bool:
    return len(self.over) == self.request.sampling.num_samples


class Engine:
  """Answers requests, many at a time.

  `add` and `cancel` may be called from any thread, `step`, `run` and `score` from one.

  Args:
    model: has `encode`, `init_cache`, `prepare_decoding` and `decode_step`:
      `models.t5.EncoderDecoderModel`.
    params: its parameters, on the host or on devices.
    slots: texts that are decoded together; rounded up to a multiple of the parts that `mesh`
      deals rows into. Beams have places of their own, as many.
    max_decode_steps: the most that a request may ask for.
    input_multiple: the least number of columns that inputs are padded to, and what all are
      multiples of.
    mesh: from `partitioning.make_mesh`; rows are dealt over its axes 'data' and 'fsdp',
      parameters are placed by the model's logical axes. None: the default device.
    eos_id: the token that ends a text.
    steps_per_call: tokens of each text per `step`.
    buckets: the only lengths there are, so that `compile` can compile all programs; None: as
      many as are needed.
  """

  def __init__(
      self, model: Any, params: Any, *, slots: int = 16, max_decode_steps: int = 1024,
      input_multiple: int = 32, mesh: jax.sharding.Mesh | None = None, eos_id: int = 1,
      steps_per_call: int = 8, buckets: Buckets | None = None,
  ):
    for name, value in (('slots', slots), ('max_decode_steps', max_decode_steps),
                        ('input_multiple', input_multiple), ('steps_per_call', steps_per_call)):
      if value < 1:
        raise errors.UserError(f'{name} must be at least 1', where='Engine', got=value)
    self.eos_id, self.max_decode_steps = eos_id, max_decode_steps
    self.input_multiple, self.buckets = input_multiple, buckets
    self._model, self._mesh = model, mesh
    self._device = pool.Device(model, params, mesh, eos_id)
    self.slots = -(-slots // self._device.parts) * self._device.parts
    self._steps = steps_per_call
    self._vocab_size = getattr(getattr(model, 'config', None), 'vocab_size', None)
    self._lock = threading.Lock()
    self._live: dict[Hashable, _Job] = {}
    self._queue: collections.deque[_Job] = collections.deque()
    self._predictor = None
    self._reset()

  def _reset(self) -> None:
    """Empty slots."""
    self._rows = pool.Pool(self._device, self.slots, self._steps, self.max_decode_steps,
                           self.buckets.texts if self.buckets else ())
    # Prompts that are encoded, of which some samples wait for slots.
    self._encoded: tuple[Any, list[tuple[int, pool.Row]]] | None = None
    self._beams: beam.Search | None = None

  def clear(self) -> None:
    """While idle: what comes next is computed as by a new engine, to the last bit.

    Else caches keep the length and the place in them that earlier texts left.
    """
    if self.idle:
      self._reset()

  @property
  def params(self) -> Any:
    return self._device.params

  @property
  def idle(self) -> bool:
    """Whether nobody waits for anything."""
    with self._lock:
      return not self._live

  @property
  def queued(self) -> int:
    """Requests that no prompt has been encoded of."""
    with self._lock:
      return sum(not job.finished for job in self._queue)

  def check(self, request: Request) -> None:
    """UserError when `request` cannot be answered here."""
    where, sampling = f'request {request.id!r}', request.sampling
    if sampling.max_decode_steps > self.max_decode_steps:
      raise errors.UserError('max_decode_steps is more than there is room for', where=where,
                             got=sampling.max_decode_steps,
                             expected=f'at most {self.max_decode_steps}')
    if self._vocab_size is not None and max(request.inputs) >= self._vocab_size:
      raise errors.UserError('inputs hold tokens that the model does not know', where=where,
                             got=max(request.inputs), expected=f'below {self._vocab_size}')
    most = self.buckets.inputs[-1] if self.buckets else len(request.inputs)
    if len(request.inputs) > most:
      raise errors.UserError('inputs are longer than there is room for', where=where,
                             got=f'{len(request.inputs):,} tokens', expected=f'at most {most:,}')

  def add(self, request: Request) -> None:
    """Puts `request` at the end of the queue.

    Raises:
      UserError: it cannot be answered, or another of its id is not answered yet.
    """
    self.check(request)
    job = _Job(request, self._columns(len(request.inputs)),
               requests.seed_of(request.sampling, request.inputs))
    with self._lock:
      if request.id in self._live:
        raise errors.UserError('a request of this id is not answered yet', where='Engine.add',
                               got=repr(request.id))
      self._live[request.id] = job
      self._queue.append(job)

  def _columns(self, length: int) -> int:
    if self.buckets:
      return buckets.holding(length, self.buckets.inputs)
    return input_columns(length, self.input_multiple)

  def cancel(self, id: Hashable, sample: int | None = None) -> None:
    """Gives up a request, or one sample of it; an unknown or answered id is no mistake.

    No `step` that begins after this reports anything of it, and the first gives its slots away.
    """
    with self._lock:
      job = self._live.get(id)
      if job is not None:
        job.over.update(range(job.request.sampling.num_samples) if sample is None else [sample])
        self._forget_finished(job)

  def _forget_finished(self, job: _Job) -> None:
    if job.finished and self._live.get(job.request.id) is job:
      del self._live[job.request.id]

  def step(self) -> list[Update]:
    """Encodes queued prompts for slots that are free, decodes a few tokens.

    Returns:
      What is new of each (request, sample). Beams are told when they are over, whole.

    Raises:
      Whatever the device does; all that was being answered is then given up, the queue is not.
    """
    try:
      self._release()
      self._fill()
      made = self._rows.advance()
      beams = self._step_beams()
    except BaseException:
      self._give_up()
      raise
    updates = []
    with self._lock:
      for m in made:
        if m.row.job.wants(m.row.sample):
          updates.append(self._update(m))
      for job, completions in beams:
        updates += [
            Update(job.request.id, i, c.tokens, c.log_probs, c.finish_reason, c.score)
            for i, c in enumerate(completions) if job.wants(i)]
        job.over.update(range(job.request.sampling.num_samples))
        self._forget_finished(job)
    return updates

  def _update(self, made: pool.Made) -> Update:
    row, tokens = made.row, made.tokens
    if made.finish_reason:
      row.job.over.add(row.sample)
      self._forget_finished(row.job)
      if made.finish_reason == 'end':
        tokens = tokens[:-1]
    return Update(row.job.request.id, row.sample, tokens, made.log_probs, made.finish_reason,
                  row.score if made.finish_reason else None)

  def _give_up(self) -> None:
    with self._lock:
      waiting = {id(job) for job in self._queue}
      self._live = {key: job for key, job in self._live.items() if id(job) in waiting}
    self._reset()

  def _release(self) -> None:
    """Slots of what was cancelled."""
    wanted = lambda row: row.job.wants(row.sample)
    self._rows.release(lambda row: not wanted(row))
    if self._encoded is not None:
      context, rows = self._encoded
      rows = [(i, row) for i, row in rows if wanted(row)]
      self._encoded = (context, rows) if rows else None

  def _fill(self) -> None:
    while self._rows.free:
      if self._encoded is None:
        jobs = self._take(lambda job: job.beams == 1, self._rows.free)
        if not jobs:
          return
        rows = [(i, pool.Row(job, sample, job.columns)) for i, job in enumerate(jobs)
                for sample in range(job.request.sampling.num_samples) if job.wants(sample)]
        self._encoded = self._encode(jobs), rows
      context, rows = self._encoded
      now, later = rows[: self._rows.free], rows[self._rows.free :]
      self._encoded = (context, later) if later else None
      self._rows.place(context, now, last=not later)

  def _take(self, fits: Callable[[_Job], bool], room: int) -> list[_Job]:
    """The oldest job that `fits`, and others that are padded to as many columns.

    Args:
      fits: which jobs.
      room: rows that there is room for; one job is taken in any case.
    """
    with self._lock:
      self._queue = collections.deque(job for job in self._queue if not job.finished)
      first = next(filter(fits, self._queue), None)
      if first is None:
        return []
      like = [job for job in self._queue if fits(job) and job.columns == first.columns]
      rows = np.cumsum([job.rows for job in like])
      count = max(1, int(np.searchsorted(rows, room, side='right')))
      chosen = like[: min(count, self._group(count, first.columns))]
      taken = set(map(id, chosen))
      self._queue = collections.deque(job for job in self._queue if id(job) not in taken)
    return chosen

  def _group(self, count: int, columns: int) -> int:
    """Rows of the program that encodes up to `count` prompts, or the first of them."""
    sizes = self._groups(columns)
    above = next((size for size in sizes if size >= count), None)
    if above is not None and (above <= 2 * count or above == sizes[0]):
      return above
    return max(size for size in sizes if size <= count)

  def _groups(self, columns: int) -> list[int]:
    parts = self._device.parts
    tokens = parts * _GROUP_TOKENS.get(self._device.platform, _GROUP_TOKENS_ELSEWHERE)
    return group_sizes(parts, min(self.slots, max(parts, tokens // columns // parts * parts)))

  def _encode(self, jobs: Sequence[_Job], rows: int | None = None) -> Any:
    rows = rows or self._group(len(jobs), jobs[0].columns)
    tokens = np.zeros((rows, jobs[0].columns), np.int32)
    for i, job in enumerate(jobs):
      tokens[i, : len(job.request.inputs)] = job.request.inputs
    return self._device.encode(tokens)

  def _searched(self, beams: int) -> int:
    """How many prompts are searched with so many beams together."""
    parts = self._device.parts
    return max(1, self.slots // beams // parts) * parts

  def _search(self, jobs: Sequence[_Job], prompts: int) -> beam.Search:
    return beam.Search(self._device, self._encode(jobs, prompts), jobs, self._steps,
                       self.buckets.texts if self.buckets else ())

  def _step_beams(self) -> list[tuple[_Job, list[Completion]]]:
    if self._beams is None:
      with self._lock:
        first = next((job for job in self._queue if job.beams > 1 and not job.finished), None)
      if first is None:
        return []
      prompts = self._searched(first.beams)
      jobs = self._take(lambda job: job.beams == first.beams, prompts)
      if not jobs:
        return []
      self._beams = self._search(jobs, prompts)
    ended = self._beams.advance()
    if ended is not None:
      self._beams = None
    return ended or []

  def run(
      self, requests: Iterable[Request], *, stop: Callable[[Update], bool] | None = None
  ) -> Iterator[Answer]:
    """Answers in the order in which they are finished.

    Requests are drawn as room comes for them. Nothing else should use the engine meanwhile.

    Args:
      requests: each of an id of its own.
      stop: called with each update of a text that goes on; True ends the text there.
    """
    source, begun = iter(requests), {}
    try:
      while True:
        while source is not None and self.queued < 2 * self.slots:
          request = next(source, None)
          if request is None:
            source = None
            break
          self.add(request)
          begun[request.id] = [_Text() for _ in range(request.sampling.num_samples)]
        if not begun:
          return
        for update in self.step():
          texts = begun[update.id]
          texts[update.sample].grow(update)
          if update.finish_reason is None and stop is not None and stop(update):
            self.cancel(update.id, update.sample)
            texts[update.sample].stop()
          if all(text.finish_reason for text in texts):
            yield Answer(update.id, [text.completion() for text in begun.pop(update.id)])
    finally:
      for key in begun:
        self.cancel(key)

  def score(
      self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
  ) -> list[np.ndarray]:
    """log p of every token of targets, for each (inputs, targets); see `evaluation.predict`."""
    return self._scorer().score_tokens(pairs)

  def score_batches(
      self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
  ) -> Iterator[list[tuple[int, np.ndarray]]]:
    """As `score`, batch by batch: (number of the pair, log p of its target's tokens)."""
    return self._scorer().score_batches(pairs)

  def _scorer(self) -> Any:
    # `predict` generates with engines.
    from flanjax.evaluation import predict

    if self._predictor is None:
      lengths = (self.buckets.inputs, self.buckets.targets) if self.buckets else None
      self._predictor = predict.Predictor(
          self._model, self.params, mesh=self._mesh, batch_size=self.slots,
          input_multiple=self.input_multiple, eos_id=self.eos_id, lengths=lengths)
    return self._predictor

  def compile(self, beam_sizes: Sequence[int] = ()) -> Iterator[int]:
    """While idle: all programs that answers and scores may need; `buckets` must be set.

    Args:
      beam_sizes: those that requests may have, beside 1.

    Yields:
      Each number of columns of prompts, once it is done, the most first: a lack of memory shows
      at once.
    """
    for columns in reversed(self.buckets.inputs):
      prompt = [self.eos_id] * columns
      for rows in self._groups(columns):
        self._rows.compile(
            self._device.encode(np.full((rows, columns), self.eos_id, np.int32)),
            self.buckets.inputs)
      for beams in beam_sizes:
        for length in self.buckets.texts:
          sampling = requests.Sampling(length, beam_size=beams)
          job = _Job(Request('compiled', prompt, sampling), columns, np.zeros(2, np.uint32))
          self._search([job], self._searched(beams)).advance()
      for length in self.buckets.targets:
        self.score([(prompt, [self.eos_id] * length)])
      yield columns


@dataclasses.dataclass
class _Text:
  """A completion in the making."""

  tokens: list[int] = dataclasses.field(default_factory=list)
  log_probs: list[float] = dataclasses.field(default_factory=list)
  score: float | None = None
  finish_reason: str | None = None

  def grow(self, update: Update) -> None:
    self.tokens += update.tokens
    self.log_probs += update.log_probs
    self.score, self.finish_reason = update.score, update.finish_reason

  def stop(self) -> None:
    self.score, self.finish_reason = sum(self.log_probs), 'stop'

  def completion(self) -> Completion:
    return Completion(self.tokens, self.log_probs, self.score, self.finish_reason)
