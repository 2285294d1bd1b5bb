"""The report's figures: drawn once with Matplotlib, as PNG files and as SVG inside the page.

In the page the colours become CSS variables, so that a figure follows the reader's light or dark
setting. All text from data is drawn as it is: mathematical markup is off.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import figure as mpl_figure
from matplotlib import ticker

# Light colours by role; the page's style sheet has a variable of the same name for each.
COLOURS = {
    'ink': '#1f2328',
    'muted': '#6b7280',
    'line': '#d9d7d0',
    'paper': '#fdfcf9',
    'band': '#f6edd6',
    'model-0': '#0f6e6e',
    'model-1': '#b4552d',
    'model-2': '#6a5aa0',
    'model-3': '#4d7a2f',
}
STYLE = {
    'text.parse_math': False,
    'axes.formatter.use_mathtext': False,
    'axes.unicode_minus': True,
    'svg.fonttype': 'none',
    'font.family': 'DejaVu Sans',
    'font.size': 9.5,
    'text.color': COLOURS['ink'],
    'axes.labelcolor': COLOURS['muted'],
    'axes.edgecolor': COLOURS['line'],
    'xtick.color': COLOURS['muted'],
    'ytick.color': COLOURS['ink'],
    'figure.facecolor': COLOURS['paper'],
    'axes.facecolor': COLOURS['paper'],
}
_LABEL_CHARACTERS = 44
_SPREAD = 0.17  # between the models of a row


def model_colour(index: int) -> str:
  return COLOURS[f'model-{min(index, 3)}']


def clusters(report: Mapping[str, Any]) -> mpl_figure.Figure:
  """Scores of all models per cluster with intervals, and the difference beside them."""
  rows = report['clusters']
  paired = any(c['difference'] for c in rows)
  fig = mpl_figure.Figure(figsize=(8.6, 1.15 + 0.47 * len(rows)), layout='constrained')
  axes = fig.subplots(
      1, 2 if paired else 1, sharey=True, squeeze=False,
      gridspec_kw={'width_ratios': [1.75, 1] if paired else [1]},
  )[0]  # fmt: skip
  _cluster_scores(axes[0], report)
  if paired:
    _cluster_differences(axes[1], rows)
  fig.legend(loc='outside upper left', ncols=4, frameon=False, handletextpad=0.4, fontsize=9)
  return fig


def _cluster_scores(ax, report: Mapping[str, Any]) -> None:
  rows, models = report['clusters'], report['columns']
  _cluster_axis(ax, rows, 'score, 0 to 100')
  for i, model in enumerate(models):
    points = []
    for y, c in enumerate(rows):
      shown = [m for m in models if c['scores'][m] is not None]
      if model in shown:
        step = min(_SPREAD, 0.8 / len(shown))
        offset = step * (shown.index(model) - (len(shown) - 1) / 2)
        points.append((c['scores'][model], y + offset, c['intervals'][model]))
    dots(ax, points, model_colour(i), model, hollow=i > 0)
  ticks = [
      (c['baselines']['best'], y) for y, c in enumerate(rows) if c['baselines']['best'] is not None
  ]
  if ticks:
    ax.scatter(*zip(*ticks), marker='|', s=260, linewidths=1.6, color=COLOURS['muted'],
               label='best trivial baseline', zorder=2)  # fmt: skip
  ax.set_xlim(-2, 102)


def _cluster_differences(ax, rows: Sequence[Mapping[str, Any]]) -> None:
  _cluster_axis(ax, rows, 'tuned − untuned, points')
  ax.axvline(0, color=COLOURS['muted'], linewidth=0.9, zorder=1)
  for clear in (True, False):
    points = [
        (c['difference']['value'], y, c['difference'])
        for y, c in enumerate(rows)
        if c['difference'] and c['difference']['value'] is not None
        and _excludes_zero(c['difference']) == clear
    ]
    dots(ax, points, COLOURS['ink'], None, hollow=not clear)
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f'{v:+.0f}' if v else '0'))


def _excludes_zero(interval: Mapping[str, float | None]) -> bool:
  return interval['low'] is not None and (interval['low'] > 0 or interval['high'] < 0)


def _cluster_axis(ax, rows: Sequence[Mapping[str, Any]], label: str) -> None:
  for y, c in enumerate(rows):
    if c['held_out']:
      ax.axhspan(y - 0.5, y + 0.5, color=COLOURS['band'], linewidth=0, zorder=0)
  names = [short(c['cluster']) + (' (held out)' if c['held_out'] else '') for c in rows]
  ax.set_yticks(range(len(rows)), names)
  ax.set_ylim(len(rows) - 0.5, -0.5)
  ax.set_xlabel(label)
  plain(ax)


def dots(ax, points, colour: str, label: str | None, hollow: bool = False) -> None:
  """Points (value, y, interval) with their interval as a line."""
  for value, y, ends in points:
    if ends and ends['low'] is not None:
      ax.plot([ends['low'], ends['high']], [y, y], color=colour, linewidth=1.7, zorder=3,
              solid_capstyle='round')  # fmt: skip
  ax.scatter(
      [p[0] for p in points], [p[1] for p in points], s=34, zorder=4, linewidths=1.5,
      facecolor=COLOURS['paper'] if hollow else colour, edgecolor=colour,
      label=label and short(label),
  )  # fmt: skip


def loss(report: Mapping[str, Any]) -> mpl_figure.Figure:
  """Training loss by step, one line per run."""
  fig = mpl_figure.Figure(figsize=(8.6, 2.6), layout='constrained')
  ax = fig.subplots()
  for i, run in enumerate(report['loss']):
    ax.plot(run['steps'], run['values'], color=model_colour(i), linewidth=1.5,
            label=short(run['run']))  # fmt: skip
  ax.set_xlabel('step')
  ax.set_ylabel('loss per target token')
  ax.set_ylim(bottom=0)
  ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f'{v:,.0f}'))
  if len(report['loss']) > 1:
    ax.legend(frameon=False)
  plain(ax, grid='y')
  return fig


def shares(report: Mapping[str, Any]) -> mpl_figure.Figure:
  """Each task's share of the mixture: as its rate says, and as drawn."""
  rows = report['audit']['tasks']
  fig = mpl_figure.Figure(figsize=(8.6, 0.95 + 0.215 * len(rows)), layout='constrained')
  ax = fig.subplots()
  y = range(len(rows))
  ax.hlines(y, 0, [100 * r['expected'] for r in rows], color=COLOURS['line'], linewidth=1)
  ax.scatter([100 * r['expected'] for r in rows], y, marker='|', s=90, linewidths=1.8,
             color=COLOURS['muted'], label='expected from the rates', zorder=3)  # fmt: skip
  ax.scatter([100 * r['drawn'] for r in rows], y, s=22, color=COLOURS['model-0'],
             label='drawn', zorder=4)  # fmt: skip
  ax.set_yticks(y, [short(r['dataset']) for r in rows], fontsize=8.5)
  ax.set_ylim(len(rows) - 0.4, -0.6)
  ax.set_xlim(left=0)
  ax.set_xlabel('share of examples, %')
  fig.legend(loc='outside upper left', ncols=2, frameon=False, fontsize=9)
  plain(ax)
  return fig


def draw(report: Mapping[str, Any]) -> dict[str, tuple[bytes, str]]:
  """Figure name -> (PNG, SVG element), for those figures that the report has data for."""
  wanted: dict[str, Callable[[Mapping[str, Any]], mpl_figure.Figure]] = {'clusters': clusters}
  if report['loss']:
    wanted['loss'] = loss
  if report['audit'] and report['audit']['tasks']:
    wanted['shares'] = shares
  with matplotlib.rc_context(STYLE):
    figures = {name: make(report) for name, make in wanted.items()}
    return {name: (png(fig), svg(fig, name)) for name, fig in figures.items()}


def shares_png(audit: Mapping[str, Any]) -> bytes:
  """The figure of shares alone, as a PNG file."""
  with matplotlib.rc_context(STYLE):
    return png(shares({'audit': audit}))


def png(fig: mpl_figure.Figure) -> bytes:
  out = io.BytesIO()
  fig.savefig(out, format='png', dpi=160, metadata={'Software': None})
  return out.getvalue()


def svg(fig: mpl_figure.Figure, name: str) -> str:
  """An <svg> element: colours as CSS variables, ids that no other figure of the page has."""
  out = io.StringIO()
  with matplotlib.rc_context({'svg.hashsalt': name}):
    fig.savefig(out, format='svg', metadata={'Date': None, 'Creator': None}, transparent=True)
  svg = out.getvalue()
  return re.sub(r'<[^<>]*>', lambda tag: _adapt(tag[0], name), svg[svg.index('<svg') :])


def _adapt(tag: str, name: str) -> str:
  """An SVG tag with its ids under the figure's name and its colours as variables."""
  tag = re.sub(r'(\sid="|href="#|url\(#)', rf'\g<1>{name}-', tag)
  for role, colour in COLOURS.items():
    tag = tag.replace(f': {colour}', f': var(--{role})')
  return tag


def plain(ax, grid: str = 'x') -> None:
  for side in ('top', 'right', 'left'):
    ax.spines[side].set_visible(False)
  ax.tick_params(length=0)
  ax.grid(axis=grid, color=COLOURS['line'], linewidth=0.6)
  ax.set_axisbelow(True)


def short(text: str) -> str:
  text = ' '.join(text.split())
  return text if len(text) <= _LABEL_CHARACTERS else text[: _LABEL_CHARACTERS - 1] + '…'
