"""What Prometheus may read of a server."""

from __future__ import annotations

import prometheus_client as prometheus

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
  """Counters of one server; two servers of a process have two of these."""

  def __init__(self):
    self._registry = registry = prometheus.CollectorRegistry()

    def make(kind, name, text, *labels, **kwargs):
      return kind(f'flanjax_{name}', text, labels, registry=registry, **kwargs)

    counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
    self.requests = make(counter, 'requests', 'Answered HTTP requests', 'endpoint', 'status')
    self.request_seconds = make(
        histogram, 'request_seconds', 'Until a request was answered whole', 'endpoint',
        buckets=_SECONDS)
    self.first_token_seconds = make(
        histogram, 'first_token_seconds', 'Until the first tokens of a request',
        buckets=_SECONDS)
    self.token_seconds = make(
        histogram, 'token_seconds', 'Per token after the first ones of an answer',
        buckets=_TOKEN_SECONDS)
    self.prompt_tokens = make(counter, 'prompt_tokens', 'Tokens of prompts')
    self.completion_tokens = make(counter, 'completion_tokens', 'Tokens of answers')
    self.queue_length = make(gauge, 'queue_length', 'Prompts that wait for slots')
    self.running_slots = make(gauge, 'running_slots', 'Slots that decode')
    self.slots = make(gauge, 'slots', 'Slots there are')
    self.ready = make(gauge, 'ready', '1 while requests are taken')
    self.engine_steps = make(counter, 'engine_steps', 'Calls of the engine')
    self.engine_errors = make(counter, 'engine_errors', 'Calls of the engine that failed')
    self.cancelled = make(counter, 'cancelled', 'Requests whose client hung up')

  def text(self) -> tuple[bytes, str]:
    """The page and its content type."""
    return prometheus.generate_latest(self._registry), prometheus.CONTENT_TYPE_LATEST
