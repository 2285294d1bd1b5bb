"""A session of `flanjax chat`: what each line does."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import console as rich_console
from rich import text as rich_text

from flanjax import terminal
from flanjax.commands import common, render
from flanjax.errors import UserError, nearest
from flanjax.inference.prompt_formats import split_options
from flanjax.inference.requests import Request, Sampling

_OPTIONS_SLOT = 'options_'
_SHOWN = 300
_HELP = {
    '/template TASK [N]': 'asks for the fields of a registered template and answers its prompt',
    '/options a | b | c': 'ranks these as answers to the last prompt',
    '/set NAME VALUE': 'changes a setting; stop takes texts between bars',
    '/show': 'the settings, and what the model read of the last prompt',
    '/again': 'answers the last prompt again; at a temperature with the next seed',
    '/help': 'this',
    '/quit': 'leaves, as does Control-D',
}
_NOTES = ('A line that ends with \\ goes on in the next one; // begins a prompt with a /. '
          'Control-C ends an answer.')


class Session:
  """Reads lines, answers prompts.

  Args:
    generator: the model.
    sampling: how it answers, until `/set`.
    stop: strings that end an answer.
    ask: gives the next line, shown what it is asked for; raises EOFError at the end.
    modules: of a user, for `/template`.
    templates: libraries of templates, the same.
    console: where answers go; None: stdout.
  """

  def __init__(
      self, generator: Any, sampling: Sampling = Sampling(), stop: tuple[str, ...] = (), *,
      ask: Callable[[str], str] = input, modules: Sequence[str] = (),
      templates: Sequence[str] = (), console: rich_console.Console | None = None,
  ):
    self._generator, self._sampling, self._stop = generator, sampling, stop
    self._ask, self._modules, self._libraries = ask, modules, templates
    self._console = console or rich_console.Console(highlight=False)
    self._prompt: str | None = None
    self._options: list[str] = []
    self._count = 0
    self._commands = {
        '/template': self._template, '/options': self._rank, '/set': self._set,
        '/show': self._show, '/again': self._again, '/help': self._help}

  def run(self) -> None:
    """Until the end of input, or /quit."""
    while True:
      try:
        line = self._line('> ')
        if line.split(None, 1)[:1] == ['/quit']:
          return
        self.handle(line)
      except EOFError:
        return
      except KeyboardInterrupt:
        self._console.print('(/quit leaves)')
      except (UserError, common.ChildFailed) as e:
        # A child has told what was wrong.
        if isinstance(e, UserError):
          terminal.print_error(e)

  def _line(self, prompt: str) -> str:
    lines = [self._ask(prompt)]
    while lines[-1].endswith('\\'):
      lines[-1] = lines[-1][:-1]
      lines.append(self._ask('. '))
    return '\n'.join(lines)

  def handle(self, line: str) -> None:
    """Does what a line says; UserError when that cannot be done."""
    if not line.strip():
      return
    if line.startswith('/') and not line.startswith('//'):
      name, _, rest = line.partition(' ')
      if name not in self._commands:
        raise UserError(f'There is no {name}.', hint=nearest(name, [*self._commands, '/quit']))
      self._commands[name](rest.strip())
      return
    self._options = []
    self._answer(line[1:] if line.startswith('//') else line)

  def _answer(self, text: str) -> None:
    prompt = self._generator.prompt(text)
    self._prompt = text
    if prompt.dropped:
      terminal.note(f'{prompt.dropped:,} tokens were cut; /show says which')
    self._count += 1
    id, engine = ('chat', self._count), self._generator.engine
    samples = [self._generator.completion(self._stop) for _ in range(self._sampling.num_samples)]
    began = time.monotonic()
    with _control_c() as pressed:
      engine.add(Request(id, prompt.tokens, self._sampling))
      try:
        while not all(s.finish_reason for s in samples) and not pressed.is_set():
          for update in engine.step():
            sample = samples[update.sample]
            added = sample.take(update)
            if len(samples) == 1:
              self._write(added)
            if sample.finish_reason == 'stop':
              engine.cancel(id, update.sample)
      finally:
        engine.cancel(id)
    self._end(samples, time.monotonic() - began)

  def _write(self, text: str) -> None:
    if text:
      self._console.print(rich_text.Text(visible(text)), end='', soft_wrap=True)
      self._console.file.flush()

  def _end(self, samples: list[Any], seconds: float) -> None:
    if len(samples) > 1:
      for i, sample in enumerate(samples, start=1):
        self._write(f'[{i}] {sample.text}\n')
    else:
      self._write('\n')
    count = sum(len(s.tokens) for s in samples)
    reasons = ', '.join(s.finish_reason or 'Control-C' for s in samples)
    if self._console.is_terminal:
      self._console.print(f'{count} tokens in {seconds:.1f} s; ended by: {reasons}', style='dim')

  def _again(self, rest: str) -> None:
    del rest
    text = self._last()
    if self._sampling.temperature:
      self._sampling = dataclasses.replace(self._sampling, seed=self._sampling.seed + 1)
    self._answer(text)

  def _last(self) -> str:
    if self._prompt is None:
      raise UserError('There is no prompt yet.', hint='type one first')
    return self._prompt

  def _rank(self, rest: str) -> None:
    options = split_options(rest) or self._options
    if not options or '' in options:
      raise UserError('Options stand between bars.', got=repr(rest), expected='/options yes | no')
    tokens = self._generator.prompt(self._last()).tokens
    scores = self._generator.score_options([tokens], [options])[0]
    shares = probabilities(scores)
    rows = [{'p': f'{p:.3f}', 'log': f'{s:.3f}', 'option': visible(o)}
            for p, s, o in sorted(zip(shares, scores, options), key=lambda x: -x[1])]
    self._plain(terminal.table(
        rows, {'p': 'probability', 'log': 'log-likelihood', 'option': 'option'}))

  def _set(self, rest: str) -> None:
    name, _, value = rest.partition(' ')
    known = [f.name for f in dataclasses.fields(Sampling)]
    if name == 'stop':
      self._stop = tuple(split_options(value))
    elif name not in known:
      raise UserError(f"There is no setting '{name}'." if name else 'Which setting?',
                      hint=nearest(name, [*known, 'stop']))
    else:
      self._sampling = dataclasses.replace(self._sampling, **{name: _number(name, value.strip())})
    self._plain(self._settings_line())

  def _settings_line(self) -> str:
    values = {**dataclasses.asdict(self._sampling), 'stop': ' | '.join(self._stop) or 'none'}
    return ', '.join(f'{name} {value}' for name, value in values.items())

  def _show(self, rest: str) -> None:
    del rest
    generator = self._generator
    self._plain(f'model {generator.name}, prompts of up to {generator.max_inputs_length:,} tokens '
                f'({generator.too_long})')
    self._plain(self._settings_line())
    if self._prompt is None:
      self._plain('no prompt yet')
      return
    prompt = generator.prompt(self._prompt)
    self._plain(f'last prompt: {len(prompt.tokens):,} tokens, the end token among them')
    if prompt.dropped:
      tokens = generator.vocabulary.encode(self._prompt)
      cut = (tokens[:prompt.dropped] if generator.too_long == 'keep_end'
             else tokens[-prompt.dropped:])
      text = generator.decode(cut)
      more = ' ...' if len(text) > _SHOWN else ''
      self._plain(f'cut: {prompt.dropped:,} tokens: {text[:_SHOWN]}{more}')

  def _help(self, rest: str) -> None:
    del rest
    width = max(map(len, _HELP))
    self._plain('\n'.join(f'{name.ljust(width)}  {text}' for name, text in _HELP.items()))
    self._plain(_NOTES)

  def _plain(self, text: str) -> None:
    self._console.print(rich_text.Text(visible(text)), soft_wrap=True)

  def _template(self, rest: str) -> None:
    words = rest.split()
    if not 1 <= len(words) <= 2 or len(words) == 2 and not words[1].isdigit():
      raise UserError('A template is a task and a number.', got=repr(rest),
                      expected='/template rte 3')
    number = int(words[1]) if len(words) == 2 else 0
    template = render.template_in_a_child(words[0], number, self._modules, self._libraries)
    self._plain(f'{words[0]}, template {number} of {template["count"]}')
    values = {}
    for slot in template['fields']:
      values[slot] = self._line('options (a | b | c)> ' if slot == _OPTIONS_SLOT else f'{slot}> ')
    self._options = split_options(values.get(_OPTIONS_SLOT, ''))
    values[_OPTIONS_SLOT] = template['head'] + template['bullet'].join(self._options)
    text = ''.join(literal + (values[slot] if slot else '') for literal, slot in template['parts'])
    self._plain(text)
    self._answer(text)


def visible(text: str) -> str:
  """Text without what a terminal would obey.

  >>> visible('a\\x1b[2Jb')
  'a\\ufffd[2Jb'
  """
  return ''.join(c if c in '\n\t' or not (ord(c) < 32 or 127 <= ord(c) < 160) else '\ufffd'
                 for c in text)


def probabilities(scores: Sequence[float]) -> list[float]:
  """Of log-likelihoods, as if nothing but these were possible.

  >>> probabilities([-1.0, -1.0])
  [0.5, 0.5]
  """
  weights = [math.exp(s - max(scores)) for s in scores]
  return [w / sum(weights) for w in weights]


def _number(name: str, value: str) -> int | float:
  default = next(f.default for f in dataclasses.fields(Sampling) if f.name == name)
  try:
    return type(default)(value)
  except ValueError as e:
    kind = 'a whole number' if isinstance(default, int) else 'a number'
    raise UserError(f'{name} must be {kind}.', got=repr(value)) from e


@contextlib.contextmanager
def _control_c() -> Iterator[threading.Event]:
  """Whether Control-C was pressed within it, which then interrupts nothing else."""
  pressed = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield pressed
    return
  before = signal.signal(signal.SIGINT, lambda *unused: pressed.set())
  try:
    yield pressed
  finally:
    signal.signal(signal.SIGINT, before)
