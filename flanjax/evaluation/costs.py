"""Where a training's time and work went, from what it wrote itself."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.models import flops

_SIZES = ('vocab_size', 'emb_dim', 'num_heads', 'head_dim', 'mlp_dim', 'num_encoder_layers',
          'num_decoder_layers', 'mlp_activations')


def of(
    log: Sequence[Mapping[str, Any]],
    audit: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
    model: Mapping[str, Any] | None,
    made: Mapping[str, Any],
) -> dict[str, Any] | None:
  """What a training cost: plain data, None in each place that its files do not tell.

  A run that was stopped and went on has several parts; its seconds are those of all, without
  what was lost at a crash.

  Args:
    log: rows of train/log.jsonl.
    audit: train/audit.json.
    environment: environment.json.
    model: model.json.
    made: run.json.

  Returns:
    {steps, starts, seconds, device_seconds, goodput, tokens_per_second, mfu, memory_bytes,
    examples, tokens: {inputs, targets}, padding, flops, devices}; None without log and audit.
  """
  if not log and not audit:
    return None
  parts = _parts(log)
  seconds = sum(part[-1]['seconds'] for part in parts) if parts else None
  environment = environment or {}
  count = environment.get('device_count')
  return {
      'steps': audit['steps'] if audit else log[-1]['step'],
      'starts': len(parts) or None,
      'seconds': seconds,
      'device_seconds': seconds * count if seconds is not None and count else None,
      'goodput': _by_time(parts, 'goodput'),
      'tokens_per_second': _by_time(parts, 'tokens_per_second'),
      'mfu': _by_time(parts, 'mfu'),
      'memory_bytes': max((r['memory_bytes'] for r in log if r.get('memory_bytes')), default=None),
      'examples': audit and audit['examples'],
      'tokens': audit and dict(audit['tokens']),
      'padding': audit and dict(audit['padding']),
      'flops': _flops(audit, model, made),
      'devices': environment.get('devices'),
  }


def _parts(log: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
  """Rows by the process that wrote them: its clock begins anew."""
  parts: list[list[Mapping[str, Any]]] = []
  for row in log:
    if not isinstance(row.get('seconds'), (int, float)):
      continue
    if not parts or row['seconds'] < parts[-1][-1]['seconds']:
      parts.append([])
    parts[-1].append(row)
  return parts


def _by_time(parts: Sequence[Sequence[Mapping[str, Any]]], name: str) -> float | None:
  """The mean over time: of goodput, which is of the run so far, each part's last."""
  weighted = total = 0.0
  for part in parts:
    before = 0.0
    for row in part[-1:] if name == 'goodput' else part:
      value, width = row.get(name), row['seconds'] - before
      before = row['seconds']
      if isinstance(value, (int, float)):
        weighted, total = weighted + value * width, total + width
  return weighted / total if total > 0 else None


def _flops(
    audit: Mapping[str, Any] | None, model: Mapping[str, Any] | None, made: Mapping[str, Any]
) -> float | None:
  """Model FLOPs of all steps, padding included, as if every row were of the full length."""
  config, lengths = (model or {}).get('config', {}), made.get('task_feature_lengths') or {}
  known = all(n in config for n in _SIZES) and all(s in lengths for s in ('inputs', 'targets'))
  if not audit or not known:
    return None
  share = 1 - audit['padding']['inputs']
  if share <= 0:
    return None
  rows = audit['tokens']['inputs'] / share / lengths['inputs']
  frozen = bool(config.get('lora') or config.get('prompt_length'))
  sizes = types.SimpleNamespace(**{name: config[name] for name in _SIZES})
  return flops.step(sizes, 1, lengths['inputs'], lengths['targets'], not frozen) * rows
