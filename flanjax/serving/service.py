"""One served model: from a checked request to the pieces of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from flanjax.errors import UserError
from flanjax.serving.choices import Choice, Piece
from flanjax.serving.metrics import Metrics
from flanjax.serving.problems import ApiError, bad_field, of_user_error
from flanjax.serving.scheduler import Scheduler, Ticket
from flanjax.serving.schemas import CompletionRequest, Limits, Prompt, ScoreRequest


class Service:
  """What the HTTP handlers call.

  Args:
    scheduler: has the model, once it is loaded.
    limits: of a request.
    metrics: to count in.
    name: of the model, for clients; None: what the model is called.
  """

  def __init__(
      self, scheduler: Scheduler, limits: Limits, metrics: Metrics, name: str | None = None
  ):
    self.scheduler, self.limits, self.metrics = scheduler, limits, metrics
    self._name = name
    self.created = int(time.time())

  @property
  def name(self) -> str:
    return self._name or self.generator.name

  @property
  def generator(self) -> Any:
    return self.scheduler.generator

  async def encode(self, prompts: Sequence[Prompt], param: str = 'prompt') -> list[list[int]]:
    """Token ids of prompts; long ones are tokenized beside the event loop.

    Raises:
      ApiError: one is refused.
    """
    return await asyncio.to_thread(lambda: [self._encode(p, param) for p in prompts])

  def _encode(self, prompt: Prompt, param: str) -> list[int]:
    try:
      if isinstance(prompt, str):
        return self.generator.encode(prompt)
      return self._fit(prompt)
    except UserError as e:
      raise of_user_error(e, param) from e

  def _fit(self, tokens: list[int]) -> list[int]:
    """Token ids with their end token, under the generator's rule for what is too long."""
    generator, eos_id = self.generator, self.generator.vocabulary.eos_id
    size, room = generator.vocabulary.size, generator.max_inputs_length - 1
    tokens = tokens[:-1] if tokens[-1] == eos_id else tokens
    wrong = [t for t in tokens if not 0 < t < size]
    if wrong:
      raise UserError('There is no such token.', got=str(wrong[0])[:20],
                      expected=f'ids from 1 to {size - 1}')
    if len(tokens) > room and generator.too_long == 'refuse':
      raise UserError('The prompt is too long.', got=f'{len(tokens) + 1:,} tokens',
                      expected=f'at most {generator.max_inputs_length:,}')
    kept = tokens[-room:] if generator.too_long == 'keep_end' else tokens[:room]
    return [*kept, eos_id]

  def submit(self, inputs: Sequence[Sequence[int]], asked: CompletionRequest) -> Ticket:
    ticket = Ticket(inputs, asked.sampling)
    self.scheduler.submit(ticket)
    self.metrics.prompt_tokens.inc(sum(map(len, inputs)))
    return ticket

  async def pieces(self, ticket: Ticket, asked: CompletionRequest) -> AsyncIterator[Piece]:
    """The pieces of all choices as they come; whoever stops listening cancels the rest.

    Raises:
      ApiError: the engine failed, or time ran out.
    """
    n = asked.sampling.num_samples
    running = {
        (i, sample): Choice(i * n + sample, self.generator.stream, asked.stop,
                            with_tokens=asked.logprobs is not None)
        for i in range(len(asked.prompts)) for sample in range(n)}
    started = time.monotonic()
    clock = _Clock(self.metrics, started)
    try:
      if asked.echo:
        for (i, _), choice in running.items():
          yield Piece(choice.index, self._text(asked.prompts[i]))
      while running:
        i, update = await self._next(ticket, started + self.limits.timeout_s)
        choice = running.get((i, update.sample))
        if choice is None:
          continue
        piece = choice.push(update)
        if asked.sampling.beam_size == 1:
          # A sum that the log-probabilities give as well.
          piece.score = None
        clock.count(piece)
        if piece.finish_reason:
          del running[i, update.sample]
          if piece.ended_early:
            self.scheduler.cancel(ticket, (i, update.sample))
        yield piece
    finally:
      if running:
        self.scheduler.cancel(ticket)

  def _text(self, prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else self.generator.decode(prompt)

  async def _next(self, ticket: Ticket, deadline: float) -> Any:
    try:
      async with asyncio.timeout(deadline - time.monotonic()):
        event = await ticket.events.get()
    except TimeoutError:
      raise self._late() from None
    if isinstance(event, ApiError):
      raise event
    return event

  def _late(self) -> ApiError:
    return ApiError(504, f'Not answered within {self.limits.timeout_s:g} seconds.',
                    code='timeout')

  async def score(self, asked: ScoreRequest) -> tuple[list[float], list[int], int]:
    """-> (log-likelihood of each option, its tokens, tokens of the prompt).

    Raises:
      ApiError: prompt or options are refused, the engine failed, or time ran out.
    """
    [inputs] = await self.encode([asked.prompt])
    vocabulary = self.generator.vocabulary
    targets = await asyncio.to_thread(
        lambda: [[*vocabulary.encode(option), vocabulary.eos_id] for option in asked.options])
    longest = max(map(len, targets))
    if longest > self.limits.max_tokens:
      raise bad_field('options', f'one has {longest:,} tokens; at most '
                      f'{self.limits.max_tokens:,} on this server')
    self.metrics.prompt_tokens.inc(len(inputs))
    try:
      async with asyncio.timeout(self.limits.timeout_s):
        log_probs = await self.scheduler.score([(inputs, t) for t in targets])
    except TimeoutError:
      raise self._late() from None
    return [float(sum(x)) for x in log_probs], [len(t) for t in targets], len(inputs)


class _Clock:
  """Times what one request's client sees."""

  def __init__(self, metrics: Metrics, started: float):
    self._metrics, self._started = metrics, started
    self._first: dict[int, tuple[float, int]] = {}
    self._counts: dict[int, int] = {}

  def count(self, piece: Piece) -> None:
    now = time.monotonic()
    self._metrics.completion_tokens.inc(piece.num_tokens)
    if not self._first:
      self._metrics.first_token_seconds.observe(now - self._started)
    first = self._first.setdefault(piece.index, (now, piece.num_tokens))
    count = self._counts[piece.index] = self._counts.get(piece.index, 0) + piece.num_tokens
    if piece.finish_reason and count > first[1]:
      self._metrics.token_seconds.observe((now - first[0]) / (count - first[1]))
