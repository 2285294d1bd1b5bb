"""From the engine's tokens to the text of an answer, piece by piece.

A streamed answer is these pieces one after another, a whole one is their sum: they cannot differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from flanjax.inference.requests import Update
from flanjax.inference.text import TextStream


@dataclasses.dataclass
class Piece:
  """What is new of one choice.

  Attributes:
    index: of the choice.
    text: new text that no stop string can take back.
    tokens: the text of each token whose text is given out with this piece.
    log_probs: theirs.
    offsets: where each begins in the text of the choice.
    finish_reason: 'stop': the end token or a stop string came; 'length'; None: it goes on.
    score: of a beam that has ended.
    ended_early: a stop string came, and the engine need not go on.
    num_tokens: new tokens that were decoded, the end token among them.
  """

  index: int
  text: str = ''
  tokens: list[str] = dataclasses.field(default_factory=list)
  log_probs: list[float] = dataclasses.field(default_factory=list)
  offsets: list[int] = dataclasses.field(default_factory=list)
  finish_reason: str | None = None
  score: float | None = None
  ended_early: bool = False
  num_tokens: int = 0


class Choice:
  """One answer in the making.

  Args:
    index: its place among the choices of a response.
    open_stream: `TextGenerator.stream`.
    stop: strings that end it.
    with_tokens: whether the text of each token is wanted.
  """

  def __init__(
      self, index: int, open_stream: Callable[[Sequence[str]], TextStream],
      stop: Sequence[str] = (), with_tokens: bool = False,
  ):
    self.index = index
    self._stream = open_stream(stop)
    # Knows nothing of stop strings, so that each token has its own text.
    self._plain = open_stream(()) if with_tokens else None
    self._held: list[tuple[str, float, int]] = []

  def push(self, update: Update) -> Piece:
    """Takes what the engine did; what comes after a stop string counts for nothing."""
    piece = Piece(self.index)
    for token, log_prob in zip(update.tokens, update.log_probs):
      piece.num_tokens += 1
      piece.text += self._stream.push(token)
      self._hold(self._plain and self._plain.push(token), log_prob)
      if self._stream.stopped:
        break
    else:
      if update.finish_reason is not None:
        self._finish(piece, update)
    if self._stream.stopped:
      piece.ended_early = update.finish_reason is None
      piece.finish_reason = 'stop'
    self._give_out(piece)
    return piece

  def _finish(self, piece: Piece, update: Update) -> None:
    piece.num_tokens += update.finish_reason == 'end'
    piece.text += self._stream.finish()
    rest = self._plain and self._plain.finish()
    if rest and self._held:
      text, log_prob, offset = self._held[-1]
      self._held[-1] = text + rest, log_prob, offset
    piece.finish_reason = 'length' if update.finish_reason == 'length' else 'stop'
    piece.score = update.score

  def _hold(self, text: str | None, log_prob: float) -> None:
    if text is not None:
      self._held.append((text, log_prob, len(self._plain.text) - len(text)))

  def _give_out(self, piece: Piece) -> None:
    """The tokens that begin before the end of what was given out; at the end, all but cut ones."""
    end = len(self._stream.text)
    whole = piece.finish_reason is not None and not self._stream.stopped
    given = [x for x in self._held if whole or x[2] < end]
    self._held = self._held[len(given):]
    for text, log_prob, offset in given:
      piece.tokens.append(text)
      piece.log_probs.append(log_prob)
      piece.offsets.append(offset)
