"""The HTTP interface: OpenAI's completions, scores, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flanjax.serving import responses, schemas
from flanjax.serving.guard import Guard
from flanjax.serving.problems import ApiError
from flanjax.serving.service import Service

BODY_TIMEOUT_S = 30.0
# No client reads it; nginx's number for one that hung up, in the log and the metrics.
HUNG_UP = 499
_NO_CHAT = (
    'T5 has no chat template, so there are no chat completions here: what a list of messages would '
    'become is not known. Write the prompt as the model was tuned to read it, and send it to '
    '/v1/completions.')


class HungUp(Exception):
  """The client has closed its connection."""


def make_app(service: Service, guard: dict[str, Any]) -> Starlette:
  """The application; `guard` holds the arguments of `Guard` beside the service."""
  routes = [
      Route('/v1/completions', _completions, methods=['POST']),
      Route('/v1/score', _score, methods=['POST']),
      Route('/v1/chat/completions', _chat, methods=['POST']),
      Route('/v1/models', _models),
      Route('/v1/models/{name:path}', _model),
      Route('/health', _health),
      Route('/metrics', _metrics),
  ]
  app = Starlette(
      routes=routes, middleware=[Middleware(Guard, service=service, **guard)],
      exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _crash})
  app.state.service = service
  return app


def _problem(error: ApiError) -> JSONResponse:
  return JSONResponse(error.body(), error.status, headers=error.headers)


async def _api_error(request: Request, error: ApiError) -> Response:
  return _problem(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
  response = _problem(ApiError(error.status_code, f'{error.detail}.', code='unknown_url'))
  response.headers.update(error.headers or {})
  return response


async def _crash(request: Request, error: Exception) -> Response:
  return _problem(ApiError(500, 'The server failed; its log says how.', code='internal_error'))


async def _body(request: Request, limit: int) -> dict[str, Any]:
  """The JSON object that was sent.

  Only as application/json: a page of another site may make a browser send anything else here
  without asking first.
  """
  if request.headers.get('content-type', '').partition(';')[0].strip() != 'application/json':
    raise ApiError(415, 'Send JSON, with the header Content-Type: application/json.',
                   code='unsupported_media_type')
  too_large = ApiError(413, f'The body is larger than {limit:,} bytes.', code='body_too_large')
  length = request.headers.get('content-length', '')
  if length.isdecimal() and int(length[:20]) > limit:
    raise too_large
  body = bytearray()
  try:
    async with asyncio.timeout(BODY_TIMEOUT_S):
      async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
          raise too_large
  except TimeoutError:
    raise ApiError(408, 'The body did not arrive.', code='timeout') from None
  return schemas.load_json(bytes(body))


async def _while_connected(request: Request, work: Awaitable[Any]) -> Any:
  """The result of `work`, which is cancelled when the client hangs up."""

  async def hang_up() -> None:
    while (await request.receive())['type'] != 'http.disconnect':
      pass

  task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(hang_up())
  try:
    await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
      return task.result()
    raise HungUp
  finally:
    watcher.cancel()
    if task.cancel():
      with contextlib.suppress(asyncio.CancelledError):
        await task


async def _completions(request: Request) -> Response:
  service: Service = request.app.state.service
  service.scheduler.check_open()
  body = await _body(request, service.limits.max_body_bytes)
  asked = schemas.completion(body, service.name, service.limits)
  inputs = await service.encode(asked.prompts)
  ticket = service.submit(inputs, asked)
  answer = _Answer(service, asked, sum(map(len, inputs)), service.pieces(ticket, asked))
  if asked.stream:
    return _Stream(request, answer)
  try:
    response = JSONResponse(await _while_connected(request, answer.whole()))
  except HungUp:
    return _hung_up(service)
  _note(request, answer.prompt_tokens, answer.completion_tokens)
  return response


def _hung_up(service: Service) -> Response:
  service.metrics.cancelled.inc()
  return Response(status_code=HUNG_UP)


def _note(request: Request, prompt_tokens: int, completion_tokens: int) -> None:
  request.scope['flanjax.note'] = f'{prompt_tokens}+{completion_tokens} tokens'


class _Answer:
  """The pieces of an answer as one body, or as many."""

  def __init__(
      self, service: Service, asked: schemas.CompletionRequest, prompt_tokens: int,
      pieces: AsyncIterator[Any],
  ):
    self._asked, self._pieces = asked, pieces
    self.service = service
    self.prompt_tokens, self.completion_tokens = prompt_tokens, 0
    self._header = responses.Header(service.name)

  async def _counted(self) -> AsyncIterator[Any]:
    async with contextlib.aclosing(self._pieces) as pieces:
      async for piece in pieces:
        self.completion_tokens += piece.num_tokens
        yield piece

  def _usage(self) -> dict[str, int]:
    return responses.usage(self.prompt_tokens, self.completion_tokens)

  async def whole(self) -> dict[str, Any]:
    async with contextlib.aclosing(self._counted()) as pieces:
      got = [piece async for piece in pieces]
    merged = responses.merge(got, len(self._asked.prompts) * self._asked.sampling.num_samples)
    choices = [responses.choice(piece, self._asked.logprobs) for piece in merged]
    return self._header.body(choices, self._usage())

  async def events(self) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(self._counted()) as pieces:
      async for piece in pieces:
        if piece.text or piece.tokens or piece.finish_reason:
          choices = [responses.choice(piece, self._asked.logprobs)]
          yield responses.event(self._header.body(choices, None))
    if self._asked.include_usage:
      yield responses.event(self._header.body([], self._usage()))
    yield responses.DONE


class _Stream(Response):
  """Server-sent events. The status waits for the first, so that early errors have their own."""

  def __init__(self, request: Request, answer: _Answer):
    self._request, self._answer = request, answer

  async def __call__(self, scope, receive, send) -> None:
    service = self._answer.service
    try:
      # A client that stops reading would else hold its connection for ever.
      async with asyncio.timeout(service.limits.timeout_s + BODY_TIMEOUT_S):
        await _while_connected(self._request, self._send(send))
    except HungUp:
      service.metrics.cancelled.inc()
      scope['flanjax.status'] = HUNG_UP
    except TimeoutError:
      scope['flanjax.status'] = 504
    _note(self._request, self._answer.prompt_tokens, self._answer.completion_tokens)

  async def _send(self, send) -> None:
    started = False
    part = lambda data, more: send(
        {'type': 'http.response.body', 'body': data, 'more_body': more})
    async with contextlib.aclosing(self._answer.events()) as events:
      try:
        async for event in events:
          if not started:
            await send({'type': 'http.response.start', 'status': 200, 'headers': [
                (b'content-type', b'text/event-stream; charset=utf-8'),
                (b'cache-control', b'no-cache')]})
            started = True
          await part(event, True)
      except ApiError as e:
        if not started:
          raise
        self._request.scope['flanjax.status'] = e.status
        await part(responses.event(e.body()), True)
    await part(b'', False)


async def _score(request: Request) -> Response:
  service: Service = request.app.state.service
  service.scheduler.check_open()
  body = await _body(request, service.limits.max_body_bytes)
  asked = schemas.score(body, service.name, service.limits)
  try:
    totals, counts, prompt_tokens = await _while_connected(request, service.score(asked))
  except HungUp:
    return _hung_up(service)
  _note(request, prompt_tokens, sum(counts))
  header = responses.Header(service.name, 'score')
  return JSONResponse(responses.scores(header, asked.options, totals, counts, prompt_tokens))


async def _chat(request: Request) -> Response:
  raise ApiError(404, _NO_CHAT, code='unsupported')


async def _models(request: Request) -> Response:
  service: Service = request.app.state.service
  if service.generator is None:
    return JSONResponse({'object': 'list', 'data': []})
  return JSONResponse(responses.models(
      service.name, service.created, max_inputs_length=service.generator.max_inputs_length,
      max_tokens=service.limits.max_tokens))


async def _model(request: Request) -> Response:
  service: Service = request.app.state.service
  service.scheduler.check_open()
  schemas.check_model({'model': request.path_params['name']}, service.name)
  [model] = responses.models(service.name, service.created)['data']
  return JSONResponse(model)


async def _health(request: Request) -> Response:
  state = request.app.state.service.scheduler.state
  return JSONResponse({'status': state}, 200 if state == 'ready' else 503)


async def _metrics(request: Request) -> Response:
  page, content_type = request.app.state.service.metrics.text()
  return Response(page, headers={'Content-Type': content_type})
