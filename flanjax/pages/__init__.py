"""What the pages that flanjax writes have in common: a style sheet, and how templates are filled.

A page is one file that loads nothing. Its policy (Content-Security-Policy) makes the browser hold
us to that, and lets no script run but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

import jinja2

_RAISED = str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹')


def environment(package: str, folder: str) -> jinja2.Environment:
  """Templates of a package's folder, which may include those here; everything is escaped.

  Args:
    package: its name.
    folder: of the templates in it.
  """
  made = jinja2.Environment(
      loader=jinja2.ChoiceLoader([
          jinja2.PackageLoader(package, folder), jinja2.PackageLoader('flanjax.pages', '.')]),
      autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
  )  # fmt: skip
  made.filters |= {
      'number': number, 'signed': signed, 'whole': lambda n: f'{n:,}', 'large': large,
      'duration': duration, 'p_value': p_value}
  return made


def policy(script: str | None = None) -> str:
  """The Content-Security-Policy of a page with at most one script, of exactly that text."""
  allowed = ["default-src 'none'", "style-src 'unsafe-inline'", 'img-src data:',
             "base-uri 'none'", "form-action 'none'"]
  if script is not None:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed.append(f"script-src 'sha256-{digest}'")
  return '; '.join(allowed)


def number(value: float | None, digits: int = 1) -> str:
  """A number for people; a dash for none."""
  return '–' if value is None else f'{value:,.{digits}f}'


def signed(value: float | None, digits: int = 1) -> str:
  """A number with its sign, a true minus, and no negative zero."""
  if value is None:
    return '–'
  text = f'{value:+.{digits}f}'
  return f'{0:.{digits}f}' if float(text) == 0 else text.replace('-', '−')


def p_value(p: float | None) -> str:
  """As 'p = 0.03', 'p < 0.001'; nothing for none."""
  if p is None:
    return ''
  return 'p < 0.001' if p < 0.001 else f'p = {p:.3f}' if p < 0.1 else f'p = {p:.2f}'


def large(value: float | None) -> str:
  """A large number in three digits.

  >>> large(1_234_567), large(950), large(2.5e15), large(None)
  ('1.23 million', '950', '2.50 × 10¹⁵', '–')
  """
  if value is None:
    return '–'
  for size, name in ((1e12, None), (1e9, 'billion'), (1e6, 'million')):
    if value >= size:
      if name is None:
        power = int(math.log10(value))
        return f'{value / 10**power:.2f} × 10{str(power).translate(_RAISED)}'
      return f'{value / size:.3g} {name}'
  return f'{value:,.0f}'


def duration(seconds: Any) -> str:
  """Seconds as '2 h 13 min', '4 min 05 s', '12 s'; a dash for none."""
  if seconds is None:
    return '–'
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours:,} h {minutes:02} min'
  return f'{minutes} min {rest:02} s' if minutes else f'{rest} s'
