"""The process around the application: socket, signals, draining, and what the operator is told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import pathlib
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from flanjax import terminal
from flanjax.errors import UserError
from flanjax.serving.app import make_app
from flanjax.serving.guard import Activity
from flanjax.serving.metrics import Metrics
from flanjax.serving.scheduler import Scheduler
from flanjax.serving.schemas import Limits
from flanjax.serving.service import Service

KEY_VARIABLE = 'FLANJAX_API_KEY'
_CLOSE_S = 10.0


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a server is run.

  Attributes:
    host: the address that is listened at.
    port: 0: a free one.
    slots: answers that are decoded side by side.
    max_queue: prompts that may wait for slots.
    drain_s: how long a server that was asked to stop goes on with what it has.
    api_keys: one of which a client must send; none: everyone may ask.
    access_log: whether each request is a line on stderr.
  """

  host: str = '127.0.0.1'
  port: int = 8000
  slots: int = 16
  max_queue: int = 64
  drain_s: float = 60.0
  api_keys: tuple[str, ...] = ()
  access_log: bool = True


def read_keys(file: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
  """API keys: one per line of a file, or the environment variable's.

  Raises:
    UserError: the file cannot be read, or holds no key or one that cannot be sent.
  """
  if file is None:
    text, where = environment.get(KEY_VARIABLE), KEY_VARIABLE
    if text is None:
      return ()
  else:
    where = file
    try:
      text = pathlib.Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as e:
      raise UserError('The file of API keys cannot be read.', where=file, got=str(e)) from e
  keys = tuple(line.strip() for line in text.splitlines() if line.strip())
  if not keys or not all(key.isascii() and key.isprintable() and ' ' not in key for key in keys):
    raise UserError('There is no API key that a client could send.', where=where,
                    expected='a line of printable ASCII without blanks')
  return keys


def listen(host: str, port: int) -> socket.socket:
  """A socket that is bound.

  Raises:
    UserError: the address is not this machine's, or is taken.
  """
  try:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return socket.create_server(address, family=family)
  except (OSError, OverflowError, UnicodeError) as e:
    raise UserError('The server cannot listen there.', where=f'{host}:{port}',
                    got=getattr(e, 'strerror', None) or str(e),
                    hint='--port 0 takes a port that is free') from e


def is_local(address: str) -> bool:
  return ipaddress.ip_address(address.partition('%')[0]).is_loopback


class Server:
  """Listens at once, answers when the model is loaded, and drains when it is told to stop.

  Args:
    load: opens the model, a `TextGenerator`; called in the thread that will use it.
    settings: see there.
    limits: of a request.
    name: of the model, for clients.
    on_ready: called on the event loop when requests are taken.

  Raises:
    UserError: nothing can listen at the address.
  """

  def __init__(
      self, load: Callable[[], Any], settings: Settings, limits: Limits,
      name: str | None = None, on_ready: Callable[[Server], None] = lambda server: None,
  ):
    self.settings, self._on_ready = settings, on_ready
    self._socket = listen(settings.host, settings.port)
    address, self.port = self._socket.getsockname()[:2]
    self.local = is_local(address)
    shown = f'[{address}]' if ':' in address else address
    self.url = f'http://{shown}:{self.port}'
    self.metrics, self.activity = Metrics(), Activity()
    self.scheduler = Scheduler(
        load, slots=settings.slots, max_queue=settings.max_queue, metrics=self.metrics,
        on_loaded=self._loaded)
    self.service = Service(self.scheduler, limits, self.metrics, name)
    # A key keeps strangers' pages out as well, whatever name they call the server by.
    named = self.local and not settings.api_keys
    hosts = ('localhost', '127.0.0.1', '[::1]', shown, settings.host.lower()) if named else None
    app = make_app(self.service, {
        'activity': self.activity, 'api_keys': settings.api_keys, 'hosts': hosts,
        'access_log': settings.access_log})
    connections = 4 * (settings.slots + settings.max_queue) + 64
    self._uvicorn = _Uvicorn(uvicorn.Config(
        app, log_config=None, access_log=False, lifespan='off', ws='none', proxy_headers=False,
        server_header=False, limit_concurrency=connections,
        timeout_graceful_shutdown=int(_CLOSE_S)), self._signalled)
    self._loop: asyncio.AbstractEventLoop | None = None
    self._error: BaseException | None = None
    self._asked = 0

  @property
  def stuck(self) -> bool:
    """Whether the engine's thread has not ended: it is in a call that cannot be stopped."""
    return self.scheduler.alive

  def run(self) -> None:
    """Serves until told to stop.

    Raises:
      UserError: the model cannot be loaded.
    """
    try:
      asyncio.run(self._serve())
    finally:
      self._socket.close()
      self.scheduler.close(_CLOSE_S)
    if self._error is not None:
      raise self._error

  async def _serve(self) -> None:
    self._loop = asyncio.get_running_loop()
    self.scheduler.start()
    await self._uvicorn.serve(sockets=[self._socket])

  def _loaded(self, error: BaseException | None) -> None:
    def tell() -> None:
      if error is None:
        self._on_ready(self)
      else:
        self._error = error
        self._uvicorn.should_exit = True

    # A server that was told to stop may be gone by now.
    with contextlib.suppress(RuntimeError):
      self._loop.call_soon_threadsafe(tell)

  def stop(self, at_once: bool = False) -> None:
    """Drains, then ends `run`; any thread may call it, also when `run` has ended."""
    with contextlib.suppress(RuntimeError):
      self._loop.call_soon_threadsafe(self._stop, at_once)

  def _signalled(self, number: int) -> None:
    self._asked += 1
    self._loop.call_soon_threadsafe(
        self._stop, self._asked > 1, signal.Signals(number).name)

  def _stop(self, at_once: bool, why: str = 'stopping') -> None:
    if at_once:
      terminal.note(f'{why}: ending at once')
      self.scheduler.close(0)
      self._uvicorn.should_exit = self._uvicorn.force_exit = True
    else:
      self._draining = asyncio.ensure_future(self._drain(why))

  async def _drain(self, why: str) -> None:
    self.scheduler.drain()
    terminal.note(f'{why}: {self.activity.count} requests go on, new ones are refused')
    try:
      async with asyncio.timeout(self.settings.drain_s):
        await self.activity.quiet.wait()
    except TimeoutError:
      terminal.note(f'{self.activity.count} requests are given up')
      self.scheduler.close(0)
    self._uvicorn.should_exit = True


class _Uvicorn(uvicorn.Server):
  """uvicorn would close the door at once, and end with the signal's status."""

  def __init__(self, config: uvicorn.Config, on_signal: Callable[[int], None]):
    super().__init__(config)
    self._on_signal = on_signal

  def handle_exit(self, sig: int, frame: Any) -> None:
    self._on_signal(sig)


def log_to_stderr() -> None:
  """Our log and uvicorn's complaints, as short lines."""
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  for name, level in (('flanjax.serving', logging.INFO), ('uvicorn', logging.WARNING)):
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(level)
