"""One thread that drives the engine for all clients.

The HTTP side, on its event loop, submits a `Ticket` and reads what happens to it. A prompt waits
here until there are slots for all its answers, so that it is known what waits and what runs.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flanjax.errors import UserError
from flanjax.inference.requests import Request, Sampling, Update
from flanjax.serving.metrics import Metrics
from flanjax.serving.problems import ApiError, bad_field, of_user_error

MAX_FAILURES = 3
_UNAVAILABLE = {
    'loading': 'The model is being loaded.',
    'draining': 'The server is about to stop.',
    'failed': 'The engine has failed.',
    'stopped': 'The server has stopped.',
}
log = logging.getLogger('flanjax.serving')
_numbers = itertools.count()


class Ticket:
  """What one HTTP request has asked of the engine.

  `events` gets (index of the prompt, Update), or an ApiError that ends it all.
  """

  def __init__(self, prompts: Sequence[Sequence[int]], sampling: Sampling):
    number = next(_numbers)
    self.requests = [Request((number, i), x, sampling) for i, x in enumerate(prompts)]
    self.events: asyncio.Queue[tuple[int, Update] | ApiError] = asyncio.Queue()
    self.loop = asyncio.get_running_loop()


@dataclasses.dataclass
class _Running:
  """A prompt that the engine has; `left` are its samples that go on."""

  ticket: Ticket
  sampling: Sampling
  left: set[int]

  @property
  def rows(self) -> int:
    """The slots that are not free again yet."""
    return len(self.left) if self.sampling.beam_size == 1 else self.sampling.rows


@dataclasses.dataclass
class _Scoring:
  """Pairs that are scored; `over`: nobody waits for them any more."""

  pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
  settle: Callable[[Any], None]
  found: dict[int, Any] = dataclasses.field(default_factory=dict)
  batches: Iterator[Any] | None = None
  over: bool = False


class Scheduler:
  """Starts with `load()`, which gives a generator, in the thread that will use it.

  An engine that raises ends what it was working on with status 500. What waits is tried
  afterwards; the third failure with no success between ends the service: state 'failed'.

  Args:
    load: opens the model.
    slots: of the engine.
    max_queue: prompts that may wait.
    metrics: to count in.
    on_loaded: called in the thread, with None or what `load` raised.
  """

  def __init__(
      self, load: Callable[[], Any], *, slots: int, max_queue: int, metrics: Metrics,
      on_loaded: Callable[[BaseException | None], None] = lambda error: None,
  ):
    self._load, self._on_loaded, self._metrics = load, on_loaded, metrics
    self.slots, self.max_queue = slots, max_queue
    self.generator: Any = None
    self.state = 'loading'
    self._wake = threading.Condition()
    self._waiting: collections.deque[tuple[Ticket, Request]] = collections.deque()
    self._scoring: collections.deque[_Scoring] = collections.deque()
    self._cancelled: list[tuple[Any, int | None]] = []
    self._running: dict[Any, _Running] = {}
    self._failures = 0
    self._thread = threading.Thread(target=self._main, name='engine', daemon=True)
    metrics.slots.set(slots)

  def start(self) -> None:
    self._thread.start()

  def drain(self) -> None:
    """Takes nothing new from here on; what waits and runs goes on."""
    with self._wake:
      if self.state in ('loading', 'ready'):
        self._set('draining')

  def close(self, timeout: float | None = None) -> None:
    """Ends the thread after the engine's current call, and with it whatever runs."""
    with self._wake:
      self._set('stopped')
      self._wake.notify()
    if self._thread.ident is not None:
      self._thread.join(timeout)

  @property
  def alive(self) -> bool:
    return self._thread.is_alive()

  def check_open(self) -> None:
    if self.state != 'ready':
      raise ApiError(503, _UNAVAILABLE[self.state], code=self.state)

  def submit(self, ticket: Ticket) -> None:
    """Queues the prompts of a request, all or none.

    Raises:
      ApiError: there is no room in the queue, or the service is closed.
    """
    with self._wake:
      self.check_open()
      mine = [(ticket, request) for request in ticket.requests]
      if _queued(mine, self.slots) > self.max_queue:
        raise bad_field('prompt', 'these are more than this server takes at a time; send some '
                        'after others')
      waiting = [*self._waiting, *mine]
      queued = _queued(waiting, self.slots - self._rows())
      if queued > self.max_queue:
        raise ApiError(429, f'{queued} prompts would have to wait; {self.max_queue} may.',
                       code='queue_full')
      self._waiting = collections.deque(waiting)
      self._metrics.queue_length.set(len(self._waiting))
      self._wake.notify()

  async def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Any:
    """What `engine.score` says of pairs, a batch between two of the engine's steps.

    Where nobody waits for it any more it ends after the batch that it is at.
    """
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    def settle(value: Any) -> None:
      if not answered.done():
        answered.set_exception(value) if isinstance(value, ApiError) else answered.set_result(value)

    job = _Scoring(pairs, lambda value: _call(loop, settle, value))
    with self._wake:
      self.check_open()
      waiting = sum(not other.over for other in self._scoring)
      if waiting >= max(self.max_queue, 1):
        raise ApiError(429, f'{waiting} requests are waiting already.', code='queue_full')
      self._scoring.append(job)
      self._wake.notify()
    try:
      return await answered
    finally:
      job.over = True

  def cancel(self, ticket: Ticket, answer: tuple[int, int] | None = None) -> None:
    """Forgets a request; its slots are free after the engine's current call.

    Args:
      ticket: the request.
      answer: (index of a prompt, sample): only this one of its answers.
    """
    with self._wake:
      if answer is None:
        self._cancelled += [(request.id, None) for request in ticket.requests]
      else:
        self._cancelled.append((ticket.requests[answer[0]].id, answer[1]))
      self._wake.notify()

  def _set(self, state: str) -> None:
    self.state = state
    self._metrics.ready.set(state == 'ready')

  def _main(self) -> None:
    try:
      self.generator = self._load()
    except BaseException as e:
      with self._wake:
        self._set('failed')
      self._on_loaded(e)
      return
    with self._wake:
      if self.state == 'loading':
        self._set('ready')
    self._on_loaded(None)
    try:
      while self._wait_for_work():
        self._forget_cancelled()
        self._admit()
        self._score_batch()
        if self._running:
          self._step()
    except Exception as e:
      log.error('the scheduler failed: %s', e, exc_info=e)
      with self._wake:
        self._set('failed')
    self._end_all(ApiError(503, _UNAVAILABLE[self.state], code=self.state))

  def _wait_for_work(self) -> bool:
    with self._wake:
      self._wake.wait_for(lambda: (
          self._waiting or self._scoring or self._running or self._cancelled
          or self.state in ('stopped', 'failed')))
      return self.state not in ('stopped', 'failed')

  def _rows(self) -> int:
    with self._wake:
      return sum(running.rows for running in self._running.values())

  def _end(self, key: Any, sample: int | None = None) -> None:
    """One answer, or all of a prompt, is over."""
    with self._wake:
      running = self._running[key]
      running.left -= running.left if sample is None else {sample}
      if not running.left:
        del self._running[key]

  def _forget_cancelled(self) -> None:
    with self._wake:
      cancelled, self._cancelled = self._cancelled, []
      gone = {key for key, sample in cancelled if sample is None}
      if gone:
        self._waiting = collections.deque(x for x in self._waiting if x[1].id not in gone)
    for key, sample in cancelled:
      if key in self._running:
        self.generator.engine.cancel(key, sample)
        self._end(key, sample)
    self._gauge()

  def _admit(self) -> None:
    """Gives the engine what has waited longest, as far as slots are free."""
    while True:
      with self._wake:
        if not self._waiting or (
            self._rows() + self._waiting[0][1].sampling.rows > self.slots):
          break
        ticket, request = self._waiting.popleft()
        self._running[request.id] = _Running(
            ticket, request.sampling, set(range(request.sampling.num_samples)))
      try:
        self.generator.engine.add(request)
      except UserError as e:
        self._end(request.id)
        self._tell([(ticket, of_user_error(e, 'prompt'))])
      except Exception as e:
        self._failed(e)
    self._gauge()

  def _score_batch(self) -> None:
    """The next batch of the request that has waited longest."""
    with self._wake:
      while self._scoring and self._scoring[0].over:
        self._scoring.popleft()
      job = self._scoring[0] if self._scoring else None
    if job is None:
      return
    try:
      if job.batches is None:
        job.batches = self.generator.engine.score_batches(job.pairs)
      job.found.update(next(job.batches))
    except Exception as e:
      self._count_failure(e)
      self._settle(job, _engine_error())
      return
    self._failures = 0
    if len(job.found) == len(job.pairs):
      self._settle(job, [job.found[i] for i in range(len(job.pairs))])

  def _settle(self, job: _Scoring, value: Any) -> None:
    job.over = True
    job.settle(value)

  def _step(self) -> None:
    try:
      updates = self.generator.engine.step()
    except Exception as e:
      self._failed(e)
      return
    self._failures = 0
    self._metrics.engine_steps.inc()
    events = []
    for update in updates:
      running = self._running.get(update.id)
      if running is None or update.sample not in running.left:
        continue
      events.append((running.ticket, (update.id[1], update)))
      if update.finish_reason is not None:
        self._end(update.id, update.sample)
    self._gauge()
    self._tell(events)

  def _count_failure(self, error: Exception) -> None:
    log.error('the engine failed: %s: %s', type(error).__name__, error, exc_info=error)
    self._metrics.engine_errors.inc()
    self._failures += 1
    with self._wake:
      if self._failures >= MAX_FAILURES and self.state != 'stopped':
        self._set('failed')

  def _failed(self, error: Exception) -> None:
    """Ends all that runs."""
    self._count_failure(error)
    for key in list(self._running):
      try:
        self.generator.engine.cancel(key)
      except Exception as e:
        log.error('cancelling failed: %s', e)
    with self._wake:
      tickets = {running.ticket for running in self._running.values()}
      self._running.clear()
      self._waiting = collections.deque(x for x in self._waiting if x[0] not in tickets)
    self._tell([(ticket, _engine_error()) for ticket in tickets])
    self._gauge()

  def _end_all(self, error: ApiError) -> None:
    with self._wake:
      tickets = {ticket for ticket, _ in self._waiting}
      tickets |= {running.ticket for running in self._running.values()}
      scoring, self._scoring = list(self._scoring), collections.deque()
      self._waiting.clear()
      self._running.clear()
    self._tell([(ticket, error) for ticket in tickets])
    for job in scoring:
      job.settle(error)
    self._gauge()

  def _gauge(self) -> None:
    self._metrics.queue_length.set(len(self._waiting))
    self._metrics.running_slots.set(self._rows())

  def _tell(self, events: list[tuple[Ticket, Any]]) -> None:
    """One call per event loop: waking it costs more than an event."""
    for loop in {ticket.loop for ticket, _ in events}:
      mine = [(ticket.events, event) for ticket, event in events if ticket.loop is loop]
      _call(loop, lambda mine=mine: [queue.put_nowait(event) for queue, event in mine])


def _queued(waiting: Sequence[tuple[Ticket, Request]], free: int) -> int:
  """How many cannot begin at once."""
  rows = itertools.accumulate(request.sampling.rows for _, request in waiting)
  return sum(n > free for n in rows)


def _engine_error() -> ApiError:
  return ApiError(500, 'The engine failed while it worked on this request.', code='engine_error')


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
  try:
    loop.call_soon_threadsafe(function, *args)
  except RuntimeError:
    # The loop is closed, and whoever waited there is gone.
    pass
