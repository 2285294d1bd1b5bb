"""An experiment's figure, beside the paper's values where they are confirmed.

The paper's are of another model and other data, and say so: what can be compared is their shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import figure as mpl_figure

from flanjax.evaluation import plots
from flanjax.evaluation.plots import COLOURS
from flanjax.experiments.gather import MEAN

_PALETTE = (*(COLOURS[f'model-{i}'] for i in range(4)), '#8a6d1f', '#9c3d6e', '#3d6f9c', '#5c5c5c',
            '#2f7a5a')
_LEGEND_COLUMNS = 3
_SPREAD = 0.62  # of a row, between the conditions in it


def draw(data: Mapping[str, Any]) -> tuple[bytes, str] | None:
  """(PNG, SVG element), or None where no cell is done."""
  if not data['scores']:
    return None
  make = _lines if data['figure'] == 'line' else _groups
  with matplotlib.rc_context(plots.STYLE):
    fig = make(data)
    return plots.png(fig), plots.svg(fig, data['experiment'])


def _groups(data: Mapping[str, Any]) -> mpl_figure.Figure:
  """A row for each cluster, a dot with its interval for each condition; beside them what is between
  the conditions and the baseline."""
  labels = list(dict.fromkeys(map(_label, data['scores'])))
  baseline = data.get('baseline')
  compared = [r for r in data['differences']
              if r['minus'] == baseline or baseline not in data['conditions']]
  rows = [r for r in (data['paper'] or {}).get('rows', ())]
  widths = [1.7] + ([1.1] if compared else []) + ([1.45] if rows else [])
  height = max(len(labels) * max(0.42, 0.17 * len(data['conditions'])), 0.19 * len(rows))
  fig, axes = _figure(1.5 + height, widths)
  _dots(axes[0], data['scores'], labels, data['conditions'], 'condition')
  axes[0].set_xlabel('score, 0 to 100')
  axes[0].set_xlim(-2, 102)
  if compared:
    _dots(axes[1], compared, labels, data['conditions'], 'condition', named=False)
    axes[1].axvline(0, color=COLOURS['muted'], linewidth=0.9, zorder=1)
    minus = list(dict.fromkeys(r['minus'] for r in compared))
    other = minus[0] if len(minus) == 1 else 'what it is compared with'
    axes[1].set_xlabel(f'minus {other}, points')
    axes[1].set_yticklabels([])
  if rows:
    _paper_rows(axes[-1], data)
  fig.legend(loc='outside upper left', ncols=_LEGEND_COLUMNS, frameon=False, fontsize=9)
  return fig


def _figure(height: float, widths: Sequence[float]) -> tuple[mpl_figure.Figure, Any]:
  fig = mpl_figure.Figure(figsize=(8.6, min(height, 14)), layout='constrained')
  axes = fig.subplots(1, len(widths), squeeze=False, gridspec_kw={'width_ratios': widths})[0]
  return fig, axes


def _label(row: Mapping[str, Any]) -> str:
  if row['group'] == row['holdout']:
    return row['group']
  return row['group'] + (' (held out)' if row['held_out'] else '')


def _dots(
    ax: Any, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], names: Sequence[str],
    key: str, named: bool = True,
) -> None:
  shown = [n for n in names if any(r[key] == n for r in rows)]
  for i, name in enumerate(names):
    if name not in shown:
      continue
    offset = _SPREAD * ((shown.index(name) + 0.5) / len(shown) - 0.5)
    points = [(r['value'], labels.index(_label(r)) + offset, r) for r in rows
              if r[key] == name and _label(r) in labels]
    plots.dots(ax, points, _colour(i), name if named else None, hollow=i == 0)
  ax.set_yticks(range(len(labels)), [plots.short(x.replace('_', ' ')) for x in labels])
  ax.set_ylim(len(labels) - 0.5, -0.5)
  for y in range(len(labels) - 1):
    ax.axhline(y + 0.5, color=COLOURS['line'], linewidth=0.6)
  plots.plain(ax)


def _paper_rows(ax: Any, data: Mapping[str, Any]) -> None:
  """The paper's values as bars, under their own names."""
  rows = data['paper']['rows']
  y = range(len(rows))
  ax.barh(y, [r['value'] for r in rows], height=0.62, color=COLOURS['line'])
  for i, row in enumerate(rows):
    name = row['condition'] if row['group'] == MEAN else f"{row['group']}: {row['condition']}"
    ax.text(1, i, f"{row['value']:.1f}  {name.replace('_', ' ')}", va='center', fontsize=7.5)
  ax.set_yticks([])
  ax.set_ylim(len(rows) - 0.4, -0.6)
  ax.set_xlim(0, 100)
  ax.set_xlabel('the paper')
  _about_paper(ax, data)
  plots.plain(ax)


def _about_paper(ax: Any, data: Mapping[str, Any]) -> None:
  paper = data['paper']
  ax.set_title(f"another model and other data:\n{paper['model']}\n{paper['source']}", fontsize=7.5,
               color=COLOURS['muted'], loc='left')


def _lines(data: Mapping[str, Any]) -> mpl_figure.Figure:
  """A line over x for each series, of the mean over clusters where there is one."""
  rows = [r for r in data['paper']['rows'] if 'x' in r] if data['paper'] else []
  fig, axes = _figure(3.4, [1.7] + ([1.0] if rows else []))
  chosen = [r for r in data['scores'] if r['group'] == MEAN] or data['scores']
  series = list(dict.fromkeys((r['series'], r['group']) for r in chosen if r['x'] is not None))
  xs = sorted({r['x'] for r in chosen if r['x'] is not None}, key=_order)
  for i, (name, group) in enumerate(series):
    points = sorted((r for r in chosen if (r['series'], r['group']) == (name, group)
                     and r['x'] is not None), key=lambda r: _order(r['x']))
    _line(axes[0], points, xs, _colour(i), name or group)
  for row in (r for r in chosen if r['x'] is None):
    axes[0].axhline(row['value'], color=COLOURS['muted'], linewidth=1, linestyle='--',
                    label=plots.short(row['condition']))
  axes[0].set_xticks(range(len(xs)), [_number(x) for x in xs])
  axes[0].set_xlabel(data['x_label'])
  axes[0].set_ylabel('score, 0 to 100')
  plots.plain(axes[0], grid='y')
  if rows:
    ax = axes[1]
    ax.plot([r['x'] for r in rows], [r['value'] for r in rows], color=COLOURS['muted'],
            marker='o', markersize=4, linewidth=1.2)
    ax.set_xlabel(data['x_label'])
    ax.set_xticks([r['x'] for r in rows])
    _about_paper(ax, data)
    plots.plain(ax, grid='y')
  fig.legend(loc='outside upper left', ncols=_LEGEND_COLUMNS, frameon=False, fontsize=9)
  return fig


def _line(ax: Any, points: Sequence[Mapping[str, Any]], xs: Sequence[Any], colour: str,
          label: str) -> None:
  at = [xs.index(p['x']) for p in points]
  for x, p in zip(at, points):
    ax.plot([x, x], [p['low'], p['high']], color=colour, linewidth=1.7, solid_capstyle='round')
  ax.plot(at, [p['value'] for p in points], color=colour, marker='o', markersize=5, linewidth=1.2,
          label=plots.short(label))


def _order(x: Any) -> tuple[int, Any]:
  return (0, x) if isinstance(x, (int, float)) else (1, str(x))


def _number(x: Any) -> str:
  return f'{x:,}' if isinstance(x, int) else str(x)


def _colour(i: int) -> str:
  return _PALETTE[i % len(_PALETTE)]
