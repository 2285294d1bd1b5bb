"""Strings that end an answer, found while it is made."""

from __future__ import annotations

from collections.abc import Sequence

from flanjax.errors import UserError


class StopStrings:
  """Finds the first of some strings in a text that comes in pieces.

    stops = StopStrings(('END',))
    stops.feed('a E'), stops.feed('ND b')    # ('a ', False), ('', True)

  Args:
    stop: the strings; none of them is in what is given out.

  Attributes:
    found: the string that was found, or None.

  Raises:
    UserError: one is empty, or is no text.
  """

  def __init__(self, stop: Sequence[str] = ()):
    for text in stop:
      if not isinstance(text, str) or not text:
        raise UserError('A stop string must be a text that is not empty.', got=repr(text))
    self._stop = tuple(stop)
    self._held = ''
    self.found: str | None = None

  def feed(self, text: str) -> tuple[str, bool]:
    """Takes the next piece; -> what may be given out, and whether a stop string was found.

    What may be the beginning of a stop string is held back until it is known.
    """
    if self.found is not None:
      return '', True
    text = self._held + text
    # The one that is complete first, so that it does not matter how the text was cut.
    places = [(place + len(s), place, s) for s in self._stop if (place := text.find(s)) >= 0]
    if places:
      _, place, self.found = min(places)
      self._held = ''
      return text[:place], True
    kept = self._may_begin(text)
    self._held = text[len(text) - kept:]
    return text[:len(text) - kept], False

  def finish(self) -> str:
    """What was held back, now that nothing more comes."""
    held, self._held = self._held, ''
    return held

  def _may_begin(self, text: str) -> int:
    """How many characters at the end of `text` a stop string may begin with."""
    longest = max((min(len(s) - 1, len(text)) for s in self._stop), default=0)
    return next((n for n in range(longest, 0, -1)
                 if any(s.startswith(text[-n:]) for s in self._stop)), 0)
