"""What every request passes: who may ask, how many are being answered, the log and the counts."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse

from flanjax.serving.problems import ApiError
from flanjax.serving.service import Service

ENDPOINTS = ('/v1/completions', '/v1/score', '/v1/chat/completions', '/v1/models', '/health',
             '/metrics')
# Machines that look after a server ask for these again and again.
_QUIET = ('/health', '/metrics')
log = logging.getLogger('flanjax.serving')


class Activity:
  """Counts the requests that are being answered; `quiet` is set while there are none."""

  def __init__(self):
    self.count = 0
    self.quiet = asyncio.Event()
    self.quiet.set()

  def add(self, n: int) -> None:
    self.count += n
    self.quiet.set() if not self.count else self.quiet.clear()


class Guard:
  """Middleware.

  Args:
    app: what comes after it.
    service: has the metrics.
    activity: to count in.
    api_keys: one of which a client must send; none: everyone may ask.
    hosts: names by which the server may be called, None: any. A page of a stranger whose name
      leads to this machine (DNS rebinding) calls it by the stranger's.
    access_log: whether each request is a line in the log.
  """

  def __init__(
      self, app: Any, *, service: Service, activity: Activity, api_keys: Sequence[str] = (),
      hosts: Sequence[str] | None = None, access_log: bool = True,
  ):
    self._app, self._service, self._activity = app, service, activity
    self._keys = [key.encode() for key in api_keys]
    self._hosts, self._access_log = hosts, access_log

  async def __call__(self, scope, receive, send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    started, status = time.monotonic(), 500

    async def sending(message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
      await send(message)

    self._activity.add(1)
    try:
      error = self._refusal(scope)
      if error is None:
        await self._app(scope, receive, sending)
      else:
        response = JSONResponse(error.body(), error.status, headers=error.headers)
        await response(scope, receive, sending)
    finally:
      self._activity.add(-1)
      self._count(scope, scope.get('flanjax.status', status), time.monotonic() - started)

  def _refusal(self, scope) -> ApiError | None:
    headers = {name.lower(): value for name, value in scope['headers']}
    if self._hosts is not None:
      host = headers.get(b'host', b'').decode('latin-1')
      if _without_port(host).lower() not in self._hosts:
        return ApiError(421, f'This server does not go by the name {ascii(host[:80])}.',
                        code='unknown_host')
    if self._keys and scope['path'] != '/health':
      kind, _, key = headers.get(b'authorization', b'').partition(b' ')
      # All are compared, each in constant time.
      if kind.lower() != b'bearer' or not sum(hmac.compare_digest(key, k) for k in self._keys):
        return ApiError(401, 'A key is needed: Authorization: Bearer KEY.',
                        code='invalid_api_key')
    return None

  def _count(self, scope, status: int, seconds: float) -> None:
    path = scope['path']
    endpoint = path if path in ENDPOINTS else 'other'
    self._service.metrics.requests.labels(endpoint, str(status)).inc()
    self._service.metrics.request_seconds.labels(endpoint).observe(seconds)
    if self._access_log and path not in _QUIET:
      client = (scope.get('client') or ('-',))[0]
      note = f" {scope['flanjax.note']}" if 'flanjax.note' in scope else ''
      log.info('%s %s %s %d %.3fs%s', client, scope['method'], ascii(path)[1:-1][:80], status,
               seconds, note)


def _without_port(host: str) -> str:
  """
  >>> _without_port('localhost:80'), _without_port('[::1]:80'), _without_port('::1')
  ('localhost', '[::1]', '::1')
  """
  name, colon, port = host.rpartition(':')
  return name if colon and port.isdigit() and (':' not in name or name.endswith(']')) else host
