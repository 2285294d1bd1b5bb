"""What a report says, in a sentence or three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flanjax.pages import signed


def of(report: Mapping[str, Any]) -> str:
  """What the report says, in a sentence or three.

  It says 'raised' or 'lowered' only where the interval of the difference excludes zero, and
  'above' a baseline only where the tuned model's interval does.
  """
  if report['compared'] and report['tuned']:
    return ' '.join(_compared(report, c) for c in report['compared'])
  held = [c for c in report['clusters'] if c['held_out']]
  rest = [c for c in report['clusters'] if c['status'] == 'seen']
  parts = [_cluster_sentence(report, c) for c in held]
  compared = [c for c in rest if _known(c['difference'])]
  if compared:
    parts.append(_many_sentence(report, compared, 'seen in tuning'))
  elif rest and not held:
    parts += [_cluster_sentence(report, c) for c in rest[:3]]
  unseen = [c for c in report['clusters'] if c['status'] == 'unseen' and _known(c['difference'])]
  if unseen:
    parts.append(_many_sentence(report, unseen, 'not tuned on'))
  return ' '.join(parts) or 'No cluster was scored.'


def _compared(report: Mapping[str, Any], other: Mapping[str, Any]) -> str:
  """The tuned models of two runs, on what is held out and on the rest."""
  gaps = {c['cluster']: d for c in report['clusters'] for d in c['differences']
          if d['model'] == other['tuned'] and _known(d)}
  if not gaps:
    return f'{other["run"]} has no tuned model with examples in common.'
  run = report['runs'][0]['run']
  held = [c['cluster'] for c in report['clusters'] if c['held_out'] and c['cluster'] in gaps]
  parts = [
      f'On held-out {c}, tuned in {run} is {_relation(gaps[c])} tuned in {other["run"]} '
      f'({signed(gaps[c]["value"])} points, 95 % interval {signed(gaps[c]["low"])} to '
      f'{signed(gaps[c]["high"])}, n = {gaps[c]["n_examples"]:,}).' for c in held]
  rest = [d for c, d in gaps.items() if c not in held]
  better, worse = sum(d['low'] > 0 for d in rest), sum(d['high'] < 0 for d in rest)
  if rest:
    which = f'the {len(rest)} other clusters' if held else f'{len(rest)} clusters'
    parts.append(f'Of {which}, {run} is clearly better on {better} and worse on {worse}.')
  return ' '.join(parts)


def _relation(gap: Mapping[str, Any]) -> str:
  return 'above' if gap['low'] > 0 else 'below' if gap['high'] < 0 else 'not clearly apart from'


def _many_sentence(
    report: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]], which_ones: str
) -> str:
  if len(clusters) == 1:
    return _cluster_sentence(report, clusters[0])
  clear = sum(c['difference']['low'] > 0 for c in clusters)
  worse = sum(c['difference']['high'] < 0 for c in clusters)
  n = len(clusters)
  which = f'All {n}' if clear == n else f'{clear} of the {n}' if clear else f'None of the {n}'
  verb = 'is' if clear == 1 < n else 'are'
  text = f'{which} clusters {which_ones} {verb} clearly better for it'
  return f'{text}, {worse} clearly worse.' if worse else f'{text}.'


def _cluster_sentence(report: Mapping[str, Any], c: Mapping[str, Any]) -> str:
  lead = report['tuned'] or report['models'][0]
  score, gap = c['scores'][lead], c['difference']
  where = f'{"held-out " if c["held_out"] else ""}{c["cluster"]}'
  if score is None:
    return f'On {where} there is no score of {lead}.'
  if not _known(gap):
    text = f'On {where}, {lead} scores {score:.1f} ({c["metric"]}, n = {c["n_examples"]:,})'
  else:
    verb = 'raised' if gap['low'] > 0 else 'lowered' if gap['high'] < 0 else 'did not clearly move'
    text = (
        f'On {where}, tuning {verb} {c["metric"]}: {c["scores"][report["untuned"]]:.1f} before, '
        f'{score:.1f} after ({signed(gap["value"])} points, 95 % interval {signed(gap["low"])} to '
        f'{signed(gap["high"])}, n = {gap["n_examples"]:,})'
    )
  baseline = c['baselines']['best']
  if baseline is None:
    return f'{text}.'
  low = c['intervals'][lead]['low']
  relation = (
      'above' if low is not None and low > baseline
      else 'not clearly above' if score > baseline else 'not above'
  )  # fmt: skip
  return f'{text}, {relation} the best trivial baseline of {baseline:.1f}.'


def _known(gap: Mapping[str, Any] | None) -> bool:
  return bool(gap) and all(gap[k] is not None for k in ('value', 'low', 'high'))
