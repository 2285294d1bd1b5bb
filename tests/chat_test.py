"""`flanjax chat`, as a program sees it: lines in, lines out."""

import io
import os
import signal
import sys
import types

import jax
import numpy as np
import pytest
from rich import console as rich_console

from flanjax import cli
from flanjax.commands import chat, chat_session, render
from flanjax.errors import UserError
from flanjax.evaluation import predict
from flanjax.inference.engine import Engine
from flanjax.inference.requests import Sampling
from flanjax.inference.text import TextGenerator
from flanjax.inference import tokenizer
from flanjax.models import t5
STEPS = 8


@pytest.fixture(scope='module')
def model():
  config = t5.T5Config(vocab_size=1664, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32,
                       num_encoder_layers=1, num_decoder_layers=1)
  made = t5.EncoderDecoderModel(config)
  return made, jax.tree.map(lambda p: 3.0 * np.asarray(p), made.init(jax.random.key(1)))


@pytest.fixture(scope='module')
def generator(model):
  engine = Engine(*model, slots=4, max_decode_steps=STEPS, steps_per_call=1)
  return TextGenerator(engine, tokenizer.get('mini'), max_inputs_length=12, name='toy')


class _Script:
  """Gives lines as if typed, and raises what is no line."""

  def __init__(self, *lines):
    self.lines, self.asked = list(lines), []

  def __call__(self, prompt):
    self.asked.append(prompt)
    if not self.lines:
      raise EOFError
    line = self.lines.pop(0)
    if isinstance(line, str):
      return line
    raise line


def _talk(generator, *lines, sampling=Sampling(max_decode_steps=STEPS), **settings):
  """What a session prints; the script of what was asked."""
  out, script = io.StringIO(), _Script(*lines)
  console = rich_console.Console(file=out, highlight=False, width=300)
  chat_session.Session(generator, sampling, ask=script, console=console, **settings).run()
  return out.getvalue(), script


def test_the_streamed_answer_is_the_whole_one(generator, model):
  prompt = 'the sea is blue'
  ids = predict.Predictor(*model, batch_size=1).generate([generator.encode(prompt)], STEPS)[0]
  out, _ = _talk(generator, prompt, '/quit', 'never read')
  assert out == chat_session.visible(generator.decode(ids)) + '\n' and len(out) > 5


def test_it_works_through_a_pipe(generator, monkeypatch, capsys):
  lines = b'the sea\n\xff\n/nothing\n/quit\nnot read\n'
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(lines)))
  monkeypatch.setattr(TextGenerator, 'open', lambda *a, **k: generator)
  assert cli.main(['chat', '--model_dir=toy', f'--max_decode_steps={STEPS}']) == 0
  told = capsys.readouterr()
  assert told.out.strip() and told.out.count('\n') == 1
  assert 'no valid UTF-8' in told.err and 'There is no /nothing' in told.err


def test_settings_are_changed_and_shown_and_wrong_ones_name_the_nearest(generator, capsys):
  out, _ = _talk(generator, '/set temperature 0.7', '/set top_k 5', '/set stop END | ###',
                 '/set temprature 1', '/set top_k many', '/set temperature -1', '/set', '/show')
  assert 'temperature 0.7, top_k 5' in out and out.count('stop END | ###') == 2
  assert 'prompts of up to 12 tokens (truncate)' in out and 'no prompt yet' in out
  errors = capsys.readouterr().err
  for message in ('did you mean temperature?', 'must be a whole number', 'temperature is not possible',
                  'Which setting?'):
    assert message in errors


def test_unknown_commands_name_the_nearest_and_two_slashes_begin_a_prompt(generator, capsys):
  out, _ = _talk(generator, '/halp', '/help', '//the sea', '')
  assert 'did you mean /help?' in capsys.readouterr().err
  assert '/template TASK [N]' in out and '/quit' in out
  assert len(out.splitlines()) >= 9


def test_what_was_cut_of_a_prompt_is_shown(generator, capsys):
  out, _ = _talk(generator, 'the sea is blue and the box is red', '/show')
  cut = len(generator.vocabulary.encode('the sea is blue and the box is red')) - 11
  assert cut > 0 and f'{cut} tokens were cut' in capsys.readouterr().err
  assert 'last prompt: 12 tokens' in out and f'cut: {cut} tokens: ' in out
  assert out.rstrip().endswith('d')


def test_options_are_ranked_by_their_probabilities(generator):
  out, _ = _talk(generator, 'the sea', '/options blue | red box | no')
  rows = [line.split(maxsplit=2) for line in out.splitlines()[-3:]]
  scores = dict(zip(('blue', 'red box', 'no'), generator.score_options(
      [generator.encode('the sea')], [['blue', 'red box', 'no']])[0]))
  assert [r[2] for r in rows] == sorted(scores, key=scores.get, reverse=True)
  total = sum(np.exp(s) for s in scores.values())
  for p, _, option in rows:
    assert float(p) == pytest.approx(np.exp(scores[option]) / total, abs=1e-3)


def test_commands_that_need_a_prompt_say_so(generator, capsys):
  _talk(generator, '/again', '/options a | b', 'the sea', '/options a || b', '   ')
  assert capsys.readouterr().err.count('There is no prompt yet') == 2


def test_again_draws_anew_and_a_seed_repeats(generator):
  sampling = Sampling(max_decode_steps=STEPS, temperature=1.0, num_samples=2)
  out, _ = _talk(generator, 'the sea', '/again', '/set seed 0', '/again', '/again', sampling=sampling)
  answers = [line for line in out.splitlines() if line.startswith('[')]
  assert answers[0].startswith('[1] ') and answers[1].startswith('[2] ')
  assert answers[2:4] == answers[4:6] != answers[:2]


def test_control_c_ends_the_answer_and_not_the_program(generator, monkeypatch):
  step, count = generator.engine.step, []

  def step_and_press():
    count.append(1)
    if len(count) == 2:
      os.kill(os.getpid(), signal.SIGINT)
    return step()

  monkeypatch.setattr(generator.engine, 'step', step_and_press)
  out, script = _talk(generator, 'the sea is blue', KeyboardInterrupt(), 'the sea is blue', '/quit')
  assert not script.lines and generator.engine.idle
  first, told, whole = out.splitlines()
  assert told == '(/quit leaves)' and whole.startswith(first) and len(first) < len(whole)


def test_a_line_goes_on_after_a_backslash(generator, monkeypatch):
  seen = []
  monkeypatch.setattr(generator, 'prompt', lambda text: seen.append(text) or TextGenerator.prompt(generator, text))
  _talk(generator, 'one \\', 'two', '/quit')
  assert seen == ['one \ntwo']


def test_a_template_asks_for_its_fields_and_its_options_can_be_ranked(generator, monkeypatch, capsys):
  template = {'task': 'sea', 'number': 1, 'count': 3, 'fields': ['text', 'options_'], 'head': 'OPTIONS:\n- ',
              'bullet': '\n- ', 'parts': [['Is ', 'text'], ['?\n', 'options_'], ['', None]]}

  def made(task, number, modules, libraries):
    if task != 'sea':
      raise UserError(f"There is no task '{task}'.")
    assert (number, modules) == (1, ['mine'])
    return template

  monkeypatch.setattr(render, 'template_in_a_child', made)
  out, script = _talk(generator, '/template', '/template land', '/template sea 1', 'it', 'a | b', '/options',
                      modules=['mine'])
  assert script.asked[3:5] == ['text> ', 'options (a | b | c)> ']
  assert 'sea, template 1 of 3\nIs it?\nOPTIONS:\n- a\n- b\n' in out
  assert {line.split()[-1] for line in out.splitlines()[-2:]} == {'a', 'b'}
  assert 'A template is a task and a number' in (errors := capsys.readouterr().err)
  assert "no task 'land'" in errors


def test_a_terminal_is_shown_nothing_that_it_would_obey():
  assert chat_session.visible('a\x1b]0;title\x07\x9b2J\tb\n') == 'a\ufffd]0;title\ufffd\ufffd2J\tb\n'


def test_lines_without_text_are_not_kept_for_the_arrow_keys(monkeypatch):
  kept, lines = [], ['Who?', '', '  ', '/help']
  monkeypatch.setitem(sys.modules, 'readline', types.SimpleNamespace(add_history=kept.append))
  monkeypatch.setattr('builtins.input', lambda prompt: lines.pop(0))
  ask = chat._ask(by_hand=True)
  assert [ask('> ') for _ in range(4)] == ['Who?', '', '  ', '/help'] and kept == ['Who?', '/help']
