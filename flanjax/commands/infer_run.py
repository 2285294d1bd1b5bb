"""One run of `flanjax infer` over its prompts: into a file that may be gone on with, or a stream."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flanjax import terminal
from flanjax.inference import answer_file, answers
from flanjax.inference.prompt_files import PromptFile, Record
from flanjax.inference.text import TextGenerator
from flanjax.training.interrupts import Interrupts, Stopped


class InferRun:
  """Answers prompts, tells how it goes, and stops between answers when it is told to.

  Args:
    generator: the model.
    job: what to do with a prompt.
    source: where prompts come from.
    prompts: gives them from the first on.
    total: how many there are, if that is known.
    settings: what answers depend on besides.

  Attributes:
    before: answers that were there.
    written: answers that were added.
  """

  def __init__(
      self, generator: TextGenerator, job: answers.Job, source: PromptFile,
      prompts: Callable[[], Iterator[Record]], total: int | None, settings: Mapping[str, Any],
  ):
    self._generator, self._job, self._source = generator, job, source
    self._prompts, self._total, self._settings = prompts, total, settings
    self._interrupts = Interrupts()
    self._answering = answers.Answering(generator, job, source.shown, step=self._step)
    self._began = time.monotonic()
    self._resumable = False
    self.before = self.written = self._errors = self._truncated = 0

  def run(self, output: pathlib.Path | None) -> None:
    """Answers all prompts into a file, or to standard output.

    Raises:
      Stopped: a signal came.
      UserError: a prompt cannot be used, or an answer not written; those before it are.
    """
    with self._interrupts.caught(), terminal.bar('answering') as bar:
      if output is None:
        self._stream(sys.stdout.buffer, bar)
      elif output.exists() and not output.is_file():
        with output.open('wb') as stream:
          self._stream(stream, bar)
      else:
        with answer_file.AnswerFile(output, self._all_settings()) as file:
          self.before, self._resumable = file.done, True
          self._into(file, bar)

  def _step(self, work: Callable[[], Any]) -> Any:
    if self._interrupts.signal is not None:
      raise Stopped
    return self._interrupts.run(work)

  def _stream(self, stream: Any, bar: terminal.Bar) -> None:
    again = self._source.can_be_read_again
    blocks = (answers.blocks if again else answers.blocks_as_they_come)(self._prompts())
    while block := self._step(lambda: next(blocks, None)):
      self._begin(bar)
      for answer in self._answering.block(block):
        stream.write(answer_file.encode(answer))
        stream.flush()
        self._count(answer, bar)

  def _into(self, file: answer_file.AnswerFile, bar: terminal.Bar) -> None:
    blocks = answers.blocks(self._prompts())
    while block := self._step(lambda: next(blocks, None)):
      done = file.skip(block)
      if done == len(block):
        continue
      self._begin(bar)
      # As a whole, also where a part is there: sums are then rounded as they were in that company.
      with contextlib.closing(self._answering.block(block)) as found:
        for number, answer in enumerate(found):
          if number >= done:
            file.write(answer)
            self._count(answer, bar)
    file.check_end()

  def _begin(self, bar: terminal.Bar) -> None:
    """Time runs from before the first answer: it waits for programs to be compiled."""
    if not self.written:
      bar.restart(self.before)

  def _count(self, answer: answers.Answer, bar: terminal.Bar) -> None:
    self.written += 1
    self._errors += 'error' in answer
    self._truncated += 'dropped_tokens' in answer
    rate = self._answering.tokens / max(time.monotonic() - self._began, 1e-9)
    # Options that are ranked make no tokens.
    bar(self.before + self.written, self._total, f'{rate:,.0f} tokens/s' if rate else '')

  def _all_settings(self) -> dict[str, Any]:
    return {
        'model': self._generator.fingerprint,
        'max_inputs_length': self._generator.max_inputs_length,
        'too_long': self._generator.too_long,
        'sampling': dataclasses.asdict(self._job.sampling),
        'stop': list(self._job.stop),
        'scores': self._job.details,
        **self._settings,
    }

  def stopped(self) -> int:
    """Tells that a signal came; -> 128 + its number.

    Where a thread is left in a call that cannot be stopped, the process ends here: the
    interpreter's own end would wait for it, or crash.
    """
    name = self._interrupts.signal.name
    on = '; the same command goes on from there' if self._resumable else ''
    terminal.note(f'{name}: stopped after {self.before + self.written:,} answers{on}')
    status = 128 + signal.Signals[name]
    if self._interrupts.left:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(status)
    return status

  def summary(self) -> dict[str, Any]:
    """What was done, and notes of what somebody should know."""
    if self._truncated:
      cut = 'beginning' if self._generator.too_long == 'keep_end' else 'end'
      terminal.note(
          f'{self._truncated:,} prompts were longer than {self._generator.max_inputs_length:,} '
          f'tokens, and their {cut} was cut: dropped_tokens says by how much')
    if self._errors:
      terminal.note(f'{self._errors:,} prompts could not be used: error says why')
    return {
        'there_before': self.before, 'written': self.written, 'errors': self._errors,
        'truncated': self._truncated, 'tokens': self._answering.tokens,
        'seconds': round(time.monotonic() - self._began, 3)}
