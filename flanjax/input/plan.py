"""What a way of mixing will do, before any training."""

from __future__ import annotations

from typing import Any

from flanjax.input.manifest import SIDES
from flanjax.input.mixture import MixtureSource


def plan(source: MixtureSource, steps: int) -> dict[str, Any]:
  """What a model will be given in the first steps, from shares and mean lengths.

  An estimate: rows hold as many examples as in the first blocks. `MixtureSource.audit` counts.

  Returns:
    {mixture, steps, examples, inputs, targets, num_batches, row_fill, tasks}; each task has
    {task, dataset, cluster, prepared, rate, share, examples, epochs, inputs, targets,
    target_share}. Tokens count EOS. The tasks of the largest share come first.
  """
  if source.num_batches is not None:
    steps = min(steps, source.num_batches)
  examples = steps * source.batch_size * source.fill.examples_per_row
  rows = []
  for task, share in zip(source.manifest.tasks, source.promised(steps).tolist()):
    count = share * examples
    tokens = {side: count * task.tokens[side].mean for side in SIDES}
    rows.append({
        'task': task.name, 'dataset': task.task, 'cluster': task.cluster,
        'prepared': task.num_examples, 'rate': task.rate, 'share': share,
        'examples': round(count), 'epochs': count / task.num_examples,
        **{side: round(n) for side, n in tokens.items()},
    })
  targets = sum(r['targets'] for r in rows) or 1
  for row in rows:
    row['target_share'] = row['targets'] / targets
  return {
      'mixture': source.manifest.mixture,
      'steps': steps,
      'batch_size': source.batch_size,
      'examples': round(examples),
      **{side: sum(r[side] for r in rows) for side in SIDES},
      'num_batches': source.num_batches,
      'row_fill': source.fill.row,
      'tasks': sorted(rows, key=lambda r: (-r['share'], r['task'])),
  }
