"""`flanjax train --show_batch`: a batch as the model gets it, decoded, before any training."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich import console as rich_console
from rich import text as rich_text

from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UsageError, UserError
from flanjax.input import detokenize
from flanjax.terminal import visible

_INPUTS, _LEARNT, _SEEN = 'cyan', 'bold green', 'yellow'
_SEGMENTS = ('magenta', 'blue', 'red', 'bright_cyan', 'bright_magenta', 'bright_blue')


def run(args: argparse.Namespace, source: Any, manifest: Any) -> int:
  """Prints batch `args.show_batch` of `source`."""
  step = args.show_batch
  if step < 0 or source.num_batches is not None and step >= source.num_batches:
    raise UsageError('There is no such batch.', where='--show_batch', got=step, expected=(
        f'0 to {source.num_batches - 1}' if source.num_batches else '0 on'))
  for earlier in range(0 if hasattr(source, 'restore') else step, step):
    source.batch(earlier)  # A stream comes in order.
  if jax.process_index():
    return 0
  found = describe(source.batch(step), _decoder(manifest), args.show_rows)
  found = {'step': step, 'mixture': manifest.mixture, 'vocabulary': manifest.vocabulary, **found}
  if args.json:
    common.answer(args, found, '')
  else:
    show(found, rich_console.Console(highlight=False))
  return 0


def _decoder(manifest: Any) -> detokenize.Decode:
  try:
    return detokenize.decoder(manifest.vocabulary, manifest.vocabulary_fingerprint)
  except UserError as e:
    terminal.note(f'token ids are shown, not text: {e}')
    return lambda ids: ' '.join(map(str, ids)) + ' '


def describe(
    batch: Mapping[str, np.ndarray], decode: detokenize.Decode, most_rows: int | None = None
) -> dict[str, Any]:
  """The rows of a batch as plain data.

  Args:
    batch: arrays [rows, length] under SeqIO's feature names.
    decode: ids -> text.
    most_rows: how many rows to tell of.

  Returns:
    {rows, lengths, packed, shown: [{row, padding, segments: [{segment, inputs, targets}]}]}, where
    inputs and targets are {tokens, runs: [{loss_weight, text}]}: neighbours of one weight are one
    run. Inputs have no loss weight.
  """
  inputs, targets = batch['encoder_input_tokens'], batch['decoder_target_tokens']
  segments = {side: batch.get(f'{side}_segment_ids', (x > 0).astype(np.int32))
              for side, x in (('encoder', inputs), ('decoder', targets))}
  weights = batch.get('decoder_loss_weights', (targets > 0).astype(np.float32))
  shown = []
  for row in range(len(inputs) if most_rows is None else min(most_rows, len(inputs))):
    numbers = sorted({*segments['encoder'][row].tolist(), *segments['decoder'][row].tolist()} - {0})
    parts = []
    for number in numbers:
      mine, theirs = segments['encoder'][row] == number, segments['decoder'][row] == number
      parts.append({
          'segment': number,
          'inputs': _side(inputs[row][mine], None, decode),
          'targets': _side(targets[row][theirs], weights[row][theirs], decode)})
    shown.append({'row': row, 'segments': parts, 'padding': {
        'inputs': int((segments['encoder'][row] == 0).sum()),
        'targets': int((segments['decoder'][row] == 0).sum())}})
  return {'rows': len(inputs), 'packed': 'decoder_segment_ids' in batch, 'shown': shown,
          'lengths': {'inputs': inputs.shape[1], 'targets': targets.shape[1]}}


def _side(ids: np.ndarray, weights: np.ndarray | None, decode: detokenize.Decode) -> dict[str, Any]:
  told = [None] * len(ids) if weights is None else [float(w) for w in weights]
  runs = [{'loss_weight': weight, 'text': decode([int(i) for i, _ in pairs])}
          for weight, pairs in itertools.groupby(zip(ids, told), key=lambda pair: pair[1])]
  return {'tokens': len(ids), 'runs': runs}


def show(found: Mapping[str, Any], console: rich_console.Console) -> None:
  """Prints what `describe` gave: with colours on a terminal, else with words before each line."""
  coloured = console.is_terminal and not console.no_color
  lengths, shown = found['lengths'], found['shown']
  for line in _legend(coloured):
    console.print(line, soft_wrap=True)
  for row in shown:
    console.print(rich_text.Text(
        f"\nrow {row['row']}, padding {row['padding']['inputs']} + {row['padding']['targets']}",
        'bold'), soft_wrap=True)
    for part in row['segments']:
      for line in _segment(part, coloured):
        console.print(line, soft_wrap=True)
  packed = 'packed' if found['packed'] else 'one example a row'
  console.print(rich_text.Text(
      f"\nbatch {found['step']} of {found['mixture']}: {found['rows']} rows of {lengths['inputs']} + "
      f"{lengths['targets']} tokens, {packed}; {len(shown)} shown"), soft_wrap=True)


def _legend(coloured: bool) -> Sequence[rich_text.Text]:
  if not coloured:
    return [rich_text.Text(
        'inputs |      what the model reads\n'
        'targets 1 |   what it is to say: loss weight 1, learnt from\n'
        'targets 0 |   loss weight 0: read, not learnt from\n'
        'segments are the examples of a packed row; they do not see each other')]
  legend = rich_text.Text.assemble(
      ('inputs', _INPUTS), '   ', ('targets, loss weight 1: learnt from', _LEARNT), '   ',
      ('loss weight 0: read only', _SEEN + ' reverse'), '\n')
  for number in range(1, 4):
    legend.append('▌', _SEGMENTS[(number - 1) % len(_SEGMENTS)])
  return [legend.append(' segments: the examples of a packed row; they do not see each other')]


def _segment(part: Mapping[str, Any], coloured: bool) -> list[rich_text.Text]:
  """The lines of one segment; every line begins with what it is, whatever the text says."""
  heading = (f"segment {part['segment']}: {part['inputs']['tokens']} input and "
             f"{part['targets']['tokens']} target tokens")
  colour = _SEGMENTS[(part['segment'] - 1) % len(_SEGMENTS)]
  if not coloured:
    return [rich_text.Text(heading)] + [
        rich_text.Text(f'{marker:<9} | {line}')
        for side in ('inputs', 'targets') for marker, line in _marked(side, part[side]['runs'])]
  lines = [rich_text.Text('▌ ', colour).append(heading, 'dim')]
  for side in ('inputs', 'targets'):
    lines.append(rich_text.Text('▌ ', colour))
    for run in part[side]['runs']:
      first, *rest = visible(run['text'])
      lines[-1].append(first, _style(run['loss_weight']))
      for line in rest:
        lines.append(rich_text.Text('▌ ', colour).append(line, _style(run['loss_weight'])))
  return lines


def _marked(side: str, runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
  return [(side if run['loss_weight'] is None else f"{side} {run['loss_weight']:g}", line)
          for run in runs for line in visible(run['text'])]


def _style(weight: float | None) -> str:
  return _INPUTS if weight is None else (_LEARNT if weight else _SEEN + ' reverse')
