"""Text from tokens as they come: whole characters, up to a stop string or the end."""

from __future__ import annotations

from collections.abc import Sequence

from flanjax.inference.requests import Update
from flanjax.inference.stops import StopStrings
from flanjax.inference.tokenizer import REPLACEMENT, Tokenizer


class TextStream:
  """Tokens of one answer in, text out; whole characters, and nothing of a stop string.

  Attributes:
    text: all that was given out.
    stopped: whether a stop string came.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
    self._tokenizer, self._stops = tokenizer, StopStrings(stop)
    self._tokens: list[int] = []
    self._seen = ''
    self.text, self.stopped = '', False

  def push(self, token: int) -> str:
    """Takes the next token; -> the text that it adds."""
    if self.stopped:
      return ''
    self._tokens.append(token)
    # All of it again: what a token says depends on those before it, and it is quick.
    whole = self._tokenizer.decode(self._tokens).rstrip(REPLACEMENT)
    return self._feed(whole)

  def finish(self) -> str:
    """The text that was held back, now that the answer is complete."""
    if self.stopped:
      return ''
    added = self._feed(self._tokenizer.decode(self._tokens))
    held = '' if self.stopped else self._stops.finish()
    self.text += held
    return added + held

  def _feed(self, whole: str) -> str:
    if not whole.startswith(self._seen):
      return ''
    new, self._seen = whole[len(self._seen):], whole
    out, self.stopped = self._stops.feed(new)
    self.text += out
    return out


class TextCompletion:
  """One sample of an answer while an engine makes it.

  Tokens count up to the one that completes a stop string, however many come at a time.

  Args:
    tokenizer: the vocabulary.
    stop: strings that end it.

  Attributes:
    tokens, log_probs: so far; see `requests.Completion`.
    finish_reason: None while it goes on.
    score: see `requests.Completion`.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()):
    self._stream = TextStream(tokenizer, stop)
    self.tokens: list[int] = []
    self.log_probs: list[float] = []
    self.score = 0.0
    self.finish_reason: str | None = None

  @property
  def text(self) -> str:
    """All that `take` gave."""
    return self._stream.text

  def take(self, update: Update) -> str:
    """Takes what is new of this sample; -> the text that it adds."""
    if self.finish_reason is not None:
      return ''
    added = ''
    for token, log_prob in zip(update.tokens, update.log_probs):
      self.tokens.append(token)
      self.log_probs.append(log_prob)
      added += self._stream.push(token)
      if self._stream.stopped:
        self._end('stop', None)
        return added
    if update.finish_reason is not None:
      self.log_probs += update.log_probs[len(update.tokens):]
      added += self._stream.finish()
      self._end('stop' if self._stream.stopped else update.finish_reason, update.score)
    return added

  def _end(self, reason: str, score: float | None) -> None:
    self.finish_reason = reason
    self.score = float(sum(self.log_probs)) if score is None else float(score)
