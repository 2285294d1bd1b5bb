"""Answers to a stream of prompts, in its order, whatever the order in which they are ready."""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flanjax.errors import UserError
from flanjax.inference.prompt_files import Record
from flanjax.inference.requests import Request, Sampling
from flanjax.inference.streams import TextCompletion
from flanjax.inference.text import TextGenerator

# Prompts that are answered together; the next ones begin when the last of them is answered, so that
# a run that goes on later computes the same batches.
BLOCK = 256
_RANKED_TOGETHER = 64
_DIGITS = 4

ONE = ('prediction', 'score', 'finish_reason', 'tokens', 'log_probs')
SEVERAL = ('predictions', 'scores', 'finish_reasons', 'tokens', 'log_probs')
# Fields that answers add; those of a prompt that are called so are left out.
FIELDS = (*ONE, *SEVERAL, 'option_scores', 'dropped_tokens', 'error', 'line')

Answer = dict[str, Any]
Step = Callable[[Callable[[], Any]], Any]


@dataclasses.dataclass(frozen=True)
class Job:
  """What to do with prompts.

  Attributes:
    sampling: how they are continued.
    stop: strings that end an answer.
    details: whether answers tell their tokens and the log-probability of each.
    skip_bad: whether an error takes the place of a prompt that cannot be used.
  """

  sampling: Sampling = Sampling()
  stop: tuple[str, ...] = ()
  details: bool = False
  skip_bad: bool = False


def fields_of(record: Record) -> Answer:
  """What an answer keeps of its record."""
  return {k: v for k, v in record.fields.items() if k not in FIELDS}


def blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
  """BLOCK records at a time."""
  records = iter(records)
  while block := list(itertools.islice(records, BLOCK)):
    yield block


def blocks_as_they_come(records: Iterable[Record]) -> Iterator[list[Record]]:
  """What there is, as soon as there is any: for somebody who waits for an answer."""
  arrived: queue.Queue[Any] = queue.Queue(BLOCK)
  end = object()

  def read():
    try:
      for record in records:
        arrived.put(record)
      arrived.put(end)
    except BaseException as e:  # noqa: BLE001 (it is raised again below)
      arrived.put(e)

  threading.Thread(target=read, name='prompts', daemon=True).start()
  while True:
    block = [arrived.get()]
    while len(block) < BLOCK and not arrived.empty():
      block.append(arrived.get())
    ended = next((i for i, x in enumerate(block) if not isinstance(x, Record)), None)
    if block[:ended]:
      yield block[:ended]
    if ended is not None:
      if isinstance(block[ended], BaseException):
        raise block[ended]
      return


class Answering:
  """Answers blocks of prompts with one generator.

  Args:
    generator: the model.
    job: what to do.
    where: what errors call the file of the prompts.
    step: calls the function it is given; a place to stop at.

  Attributes:
    tokens: generated so far.
  """

  def __init__(self, generator: TextGenerator, job: Job, where: str = 'prompts',
               step: Step = lambda work: work()):
    self._generator, self._job, self._where, self._step = generator, job, where, step
    self.tokens = 0

  def block(self, records: list[Record]) -> Iterator[Answer]:
    """The answers to some prompts, in their order, each as soon as those before it are there.

    Raises:
      UserError: a prompt cannot be used; the answers to all before it were given.
    """
    answers: dict[int, Answer] = {}
    bad: UserError | None = None
    generating, ranking, bases = {}, {}, {}
    for i, record in enumerate(records):
      try:
        prompt = self._prompt(record)
      except UserError as e:
        if not self._job.skip_bad:
          bad = e
          break
        answers[i] = {**fields_of(record), 'error': e.what, 'line': record.line}
        continue
      bases[i] = fields_of(record)
      if prompt.dropped:
        bases[i]['dropped_tokens'] = prompt.dropped
      (ranking if record.options else generating)[i] = prompt.tokens
    place = 0
    for found in itertools.chain([{}], self._rank(ranking, records), self._generate(generating)):
      answers |= {i: {**bases[i], **answer} for i, answer in found.items()}
      while place in answers:
        yield answers.pop(place)
        place += 1
    if bad is not None:
      raise bad

  def _prompt(self, record: Record) -> Any:
    try:
      if record.error is not None:
        raise UserError(record.error)
      return self._generator.prompt(record.inputs)
    except UserError as e:
      raise UserError(
          e.what, where=f'{self._where}:{record.line}', got=e.got, expected=e.expected,
          hint='--on_bad_line=skip writes an error in its place and goes on') from e

  def _rank(
      self, prompts: Mapping[int, list[int]], records: list[Record]
  ) -> Iterator[dict[int, Answer]]:
    places = list(prompts)
    for start in range(0, len(places), _RANKED_TOGETHER):
      chosen = places[start : start + _RANKED_TOGETHER]
      options = [records[i].options for i in chosen]
      scores = self._step(
          lambda: self._generator.score_options([prompts[i] for i in chosen], options))
      yield {i: _ranked(o, s) for i, o, s in zip(chosen, options, scores)}

  def _generate(self, prompts: Mapping[int, list[int]]) -> Iterator[dict[int, Answer]]:
    engine, sampling = self._generator.engine, self._job.sampling
    open_: dict[int, list[TextCompletion]] = {}
    engine.clear()
    for i, tokens in prompts.items():
      open_[i] = [self._generator.completion(self._job.stop)
                  for _ in range(sampling.num_samples)]
      engine.add(Request(i, tokens, sampling))
    try:
      while open_:
        found = {}
        for update in self._step(engine.step):
          if update.id not in open_:
            continue
          samples = open_[update.id]
          sample = samples[update.sample]
          sample.take(update)
          if sample.finish_reason == 'stop':
            engine.cancel(update.id, update.sample)
          if all(s.finish_reason for s in samples):
            self.tokens += sum(len(s.tokens) for s in samples)
            found[update.id] = self._answer(open_.pop(update.id))
        if found:
          yield found
    finally:
      for i in open_:
        engine.cancel(i)

  def _answer(self, samples: list[TextCompletion]) -> Answer:
    values = [(s.text, round(s.score, _DIGITS), s.finish_reason) for s in samples]
    if self._job.details:
      values = [(*v, s.tokens, [round(p, _DIGITS) for p in s.log_probs])
                for v, s in zip(values, samples)]
    if self._job.sampling.num_samples == 1:
      return dict(zip(ONE, values[0]))
    return dict(zip(SEVERAL, map(list, zip(*values))))


def _ranked(options: tuple[str, ...], scores: list[float]) -> Answer:
  scores = [round(s, _DIGITS) for s in scores]
  best = max(range(len(scores)), key=scores.__getitem__)
  return {'prediction': options[best], 'score': scores[best], 'option_scores': scores}
