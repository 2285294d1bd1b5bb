"""Tests of what a run tells: sinks, goodput, the order of events, environment.json."""

import doctest
import io
import json
import pathlib
import re
import subprocess
import sys
import threading
import types

import jax
import numpy as np
import pytest
import tensorflow as tf
import toy_training

from flanjax import errors, terminal
from flanjax.models import flops
from flanjax.training import goodput, intervals, logs, monitor, prefetch, profiler, reporting, sinks


class _Now:
  """A clock that a test turns."""

  def __init__(self):
    self.time = 0.0

  def __call__(self):
    return self.time


class _Record:
  """A sink that remembers, and fails when told to."""

  def __init__(self, fails=False):
    self.written, self.fails, self.closed = [], fails, False

  def write(self, step, scalars):
    if self.fails:
      raise RuntimeError('gone\nwith more to say')
    self.written.append((step, dict(scalars)))

  def close(self):
    self.closed = True


def _fed(step=0, rows=8):
  batch = toy_training.ToySource(rows).batch(step)
  return intervals.Fed.of(step, batch, {}, {'copy/0/examples': rows}, rows)


def _metrics(**more):
  return {'loss': 6.0, 'cross_ent_loss': 5.0, 'z_loss': 1.0, 'weight_sum': 3.0, 'correct': 1.0,
          'gradient_norm': 0.5, **more}


def test_goodput_is_the_share_of_time_that_nothing_else_took():
  now = _Now()
  clock = goodput.Clock(now)
  with clock.losing('init_or_restore'):
    now.time += 10
  with clock.losing('checkpoint'):
    now.time += 3
    with clock.losing('evaluate'):  # Within another it is that other's.
      now.time += 2
  clock.lose('data_wait', 5)
  now.time += 85
  scalars = clock.scalars()
  assert scalars['timing/goodput'] == 0.8 and scalars['timing/uptime'] == 100
  assert {k: v for k, v in scalars.items() if k.endswith('_seconds')} == {
      'timing/init_or_restore_seconds': 10, 'timing/checkpoint_seconds': 5,
      'timing/data_wait_seconds': 5, 'timing/compilation_seconds': 0, 'timing/evaluate_seconds': 0,
      'timing/profile_seconds': 0}
  assert clock.losses()[0] == ('first state', 10)


def test_only_a_call_that_compiles_counts_as_compilation():
  now = _Now()
  clock = goodput.Clock(now)
  double = jax.jit(lambda x: 2 * x)

  def call(length):
    x = np.ones(length)
    with clock.dispatching():
      double(x)
      now.time += 1
    return clock.scalars()['timing/compilation_seconds']

  assert [call(3), call(3), call(4), call(3)] == [1, 1, 2, 2]


def test_waiting_for_data_is_lost_only_while_the_devices_are_idle():
  gate, lost, polls = threading.Event(), [], []
  feeder = prefetch.Prefetcher(lambda step: gate.wait(30) and step, 0, 3)

  def idle(answer):
    polls.append(answer)
    if len(polls) == 3:
      gate.set()
    return answer

  feeder.watch(lambda: idle(False), lost.append)
  found = iter(feeder)
  assert next(found) == 0 and lost == [] and len(polls) >= 3
  feeder.close()
  gate.clear()
  polls.clear()
  feeder = prefetch.Prefetcher(lambda step: gate.wait(30) and step, 0, 1)
  feeder.watch(lambda: idle(len(polls) > 1), lost.append)
  assert list(feeder) == [0] and len(lost) == 1 and lost[0] > 0
  feeder.close()


def test_rates_count_what_is_no_padding_and_mfu_what_is_run():
  now = _Now()
  clock = goodput.Clock(now)
  device = types.SimpleNamespace(device_kind='TPU v4')
  work = intervals.Work(toy_training.toy_model().config, [device, device])
  interval = intervals.Interval(clock, work)
  fed = _fed()
  for _ in range(4):
    interval.add(fed, _metrics())
  clock.lose('checkpoint', 6)
  now.time = 8.0
  got = interval.scalars()
  tokens = {side: int((toy_training.ToySource().batch(0)[name] > 0).sum()) for side, name in (
      ('inputs', 'encoder_input_tokens'), ('targets', 'decoder_target_tokens'))}
  assert got['timing/input_tokens_per_second'] == 4 * tokens['inputs'] / 8
  assert got['timing/target_tokens_per_second'] == 4 * tokens['targets'] / 8
  assert got['timing/target_tokens_per_second_per_core'] == 4 * tokens['targets'] / 16
  assert got['timing/step_seconds'] == 0.5 and got['timing/steps_per_second'] == 0.5
  # 8 rows of 6 + 4 tokens, padding and all, in the two seconds that went into steps.
  assert got['timing/mfu'] == pytest.approx(
      4 * flops.step(work.config, 8, 6, 4) / 2.0 / (2 * 275e12))
  assert got['loss_per_nonpadding_target_token'] == 2.0 and got['effective_batch_size/encoder'] == 8
  plain = intervals.Interval(clock)
  plain.add(fed, _metrics())
  assert 'timing/mfu' not in plain.scalars()


def test_packed_rows_count_their_examples():
  batch = {k: v for k, v in toy_training.ToySource(2).batch(0).items()}
  batch['encoder_segment_ids'] = np.array([[1, 1, 2, 2, 3, 0], [1, 1, 1, 0, 0, 0]])
  batch['decoder_segment_ids'] = np.array([[1, 2, 3, 0], [1, 1, 0, 0]])
  # One of two hosts.
  assert intervals.Fed.of(0, batch, {}, {}, 4).examples == {'encoder': 8, 'decoder': 8}


class _Value:
  """A number on a device, whose reading is an event."""

  def __init__(self, events, name, value):
    self.events, self.name, self.value = events, name, value

  def __float__(self):
    self.events.append(self.name)
    return self.value


def test_nothing_of_a_step_is_read_before_the_next_is_on_its_way(monkeypatch):
  events, log = [], _Record()
  monkeypatch.setattr(jax, 'device_get', lambda tree: tree)

  class Bar:
    restart = staticmethod(lambda done: None)

    def __call__(self, done, total, text):
      events.append(f'show {done}')

  def rate(step):
    events.append(f'dispatch rate {step + 1}')
    return _Value(events, f'read rate {step + 1}', 0.1)

  watch = monitor.Monitor(Bar(), log, total_steps=4, log_period=2, learning_rate=rate,
                          last_checkpoint=lambda: None)
  for step in range(4):
    events.append(f'dispatch {step + 1}')
    watch.add(_fed(step), _metrics(loss=_Value(events, f'read {step + 1}', 6.0)))
  watch.flush()
  assert events == [
      'dispatch 1',
      'dispatch 2', 'dispatch rate 2', 'read 1', 'show 1',
      'dispatch 3', 'read 2', 'read rate 2', 'show 2',
      'dispatch 4', 'dispatch rate 4', 'read 3', 'show 3',
      'read 4', 'read rate 4', 'show 4']
  assert [step for step, _ in log.written] == [2, 4]
  assert log.written[0][1]['learning_rate'] == 0.1


def test_a_sink_that_hangs_holds_up_nobody(capsys):
  release, entered = threading.Event(), threading.Event()

  class Hanging(_Record):

    def write(self, step, scalars):
      entered.set()
      release.wait(60)

  told = sinks.Sinks({'slow': Hanging()})
  told._patience = 0.05
  for step in range(1000):
    told.write(step, {'loss': 1.0})
  assert entered.wait(30)
  told.drain()
  told.drain()
  told.close()
  release.set()
  assert capsys.readouterr().err.count('the log hangs') >= 1


def test_a_sink_that_raises_is_dropped_with_one_warning(capsys):
  good, bad = _Record(), _Record(fails=True)
  told = sinks.Sinks({'bad': bad, 'good': good})
  for step in (1, 2, 3):
    told.write(step, {'loss': float(step)})
  told.drain()
  told.close()
  assert [step for step, _ in good.written] == [1, 2, 3] and good.closed and not bad.closed
  warnings = capsys.readouterr().err
  assert warnings.count('warning') == 1 and 'bad failed' in warnings and 'gone' in warnings
  assert 'more to say' not in warnings


def test_what_a_full_disk_did_not_take_is_written_later(tmp_path, capsys, monkeypatch):
  path = tmp_path / 'log.jsonl'
  lines = sinks.JsonLines(path, 0)
  lines.write(1, {'loss': 1.0})
  opened = pathlib.Path.open

  class Full:
    """A file that takes five characters."""

    def __init__(self, *args):
      self.file = opened(*args)

    def __enter__(self):
      return self

    def __exit__(self, *_):
      self.file.close()

    def write(self, text):
      self.file.write(text[:5])
      self.file.flush()
      raise OSError(28, 'No space left on device')

  full = lambda path, mode='r': Full(path, mode) if mode == 'a' else opened(path, mode)
  monkeypatch.setattr(pathlib.Path, 'open', full)
  lines.write(2, {'loss': 2.0})
  lines.write(3, {'loss': 3.0})
  monkeypatch.undo()
  assert path.read_text() == '{"step": 1, "loss": 1.0}\n'
  lines.write(4, {'loss': 4.0})
  assert [json.loads(line)['step'] for line in path.open()] == [1, 2, 3, 4]
  assert capsys.readouterr().err.count('cannot be written') == 1


def _events(folder):
  """(step, value or start) of the event files of a folder, as TensorFlow reads them."""
  return [
      [(e.step, e.summary.value[0].simple_value if e.summary.value else e.session_log.status)
       for e in tf.compat.v1.train.summary_iterator(str(path)) if e.WhichOneof('what') != 'file_version']
      for path in sorted(folder.glob('events*'), key=lambda p: p.stat().st_mtime_ns)]


def test_what_tensorboard_could_not_write_goes_into_another_file(tmp_path, capsys, monkeypatch):
  board = sinks.TensorBoard(tmp_path, 0)
  board.write(1, {'loss': 1.0})
  full = lambda self: (_ for _ in ()).throw(OSError(28, 'No space left on device'))
  with monkeypatch.context() as patch:
    patch.setattr(sinks.event_file_writer.EventsWriter, 'flush', full)
    board.write(2, {'loss': 2.0})
    board.write(3, {'loss': 3.0})
  board.write(4, {'loss': 4.0})
  board.close()
  found = _events(tmp_path)
  assert sorted({event for file in found for event in file}) == [(i, float(i)) for i in (1, 2, 3, 4)]
  assert len(found) == 2 and [(2, 2.0), (3, 3.0), (4, 4.0)] in found
  assert capsys.readouterr().err.count('No space left') == 1


def test_tensorboard_and_lines_of_a_resumed_run_go_on_where_it_was(tmp_path):
  for start in (0, 4):
    told = reporting.Reporting().open(tmp_path, 'train', start, {'loss': 'a/loss', 'mfu': 'mfu'})
    for step in (2, 4, 6):
      if step > start:
        told.write(step, {'a/loss': float(step + start)})
    told.close()
  lines = [json.loads(line) for line in (tmp_path / 'train/log.jsonl').open()]
  assert lines == [{'step': 2, 'loss': 2.0, 'mfu': None}, {'step': 4, 'loss': 4.0, 'mfu': None},
                   {'step': 6, 'loss': 10.0, 'mfu': None}]
  first, second = _events(tmp_path / 'train')
  assert first == [(2, 2.0), (4, 4.0), (6, 6.0)]
  # TensorBoard hides what an earlier file has of the step of a start, and later ones.
  assert second == [(5, tf.compat.v1.SessionLog.START), (6, 10.0)]


@pytest.fixture
def wandb(monkeypatch):
  """A module that stands for Weights & Biases."""
  module = types.ModuleType('wandb')
  module.run, module.logged, module.opened = None, [], []

  def init(**settings):
    if module.refuses:
      raise ConnectionError('no key')
    module.opened.append(settings)
    module.run = types.SimpleNamespace(
        id=settings['id'], log=lambda scalars, step: module.logged.append((step, scalars)))
    return module.run

  module.init, module.refuses = init, False
  monkeypatch.setitem(sys.modules, 'wandb', module)
  return module


def test_weights_and_biases_gets_one_run_of_all_parts(wandb, tmp_path):
  told = reporting.Reporting(tensorboard=False, wandb_project='tuning')
  for part, step in (('train', 1), ('training_eval/mix', 1)):
    opened = told.open(tmp_path, part, 0, description={'model': {'emb_dim': 8}})
    opened.write(step, {'loss': 2.0})
    opened.close()
  assert wandb.logged == [(1, {'train/loss': 2.0}), (1, {'training_eval/mix/loss': 2.0})]
  [settings] = wandb.opened
  assert settings['project'] == 'tuning' and settings['resume'] == 'allow'
  assert settings['config'] == {'model': {'emb_dim': 8}} and settings['dir'] == str(tmp_path)
  wandb.run = None
  told.open(tmp_path, 'train', 1).close()
  assert wandb.opened[1]['id'] == settings['id']


def test_a_run_that_weights_and_biases_refuses_does_not_begin_but_goes_on(wandb, tmp_path, capsys):
  wandb.refuses = True
  told = reporting.Reporting(tensorboard=False, wandb_project='tuning')
  with pytest.raises(errors.UserError, match='takes no run\n.*tuning\n.*no key\n.*offline'):
    told.open(tmp_path, 'train', 0)
  told.open(tmp_path, 'train', 5).close()
  assert 'warning: Weights & Biases is left out: ConnectionError: no key' in capsys.readouterr().err


def test_weights_and_biases_that_is_not_installed_is_said_before_training(monkeypatch):
  monkeypatch.delitem(sys.modules, 'wandb', raising=False)
  monkeypatch.setattr(reporting.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match=r"not installed\n.*\n.*tuning\n.*flanjax\[wandb\]"):
    reporting.Reporting(wandb_project='tuning')
  assert reporting.Reporting().wandb_project is None


@pytest.mark.parametrize('text, expected', [
    ('ten', 'FIRST:LAST'), ('5:3', 'FIRST:LAST'), ('0:3', 'FIRST:LAST'), ('-1:3', 'FIRST:LAST'),
    ('1:2:3', 'FIRST:LAST'), ('', 'FIRST:LAST'), ('10:21', 'steps 1 to 20')])
def test_steps_that_cannot_be_profiled_are_refused(text, expected):
  with pytest.raises(errors.UsageError, match=expected):
    profiler.parse(text, total_steps=20)


def test_environment_tells_what_a_run_ran_on(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['flanjax', 'train', '--gin.API_KEY="s3cret"', '--seed=1'])
  found = logs.environment(None)
  assert set(found['versions']) >= {'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint'}
  assert found['device_kinds'] == {'cpu': jax.device_count()} and found['mesh'] is None
  assert found['command'][2:] == ['--gin.API_KEY=***', '--seed=1']
  assert 's3cret' not in json.dumps(found) and found['date'].endswith('+00:00')


@pytest.mark.parametrize('word', [
    '--wandb_api_key=SECRET', 'token=SECRET', '--gin_bindings=a.password = SECRET',
    'https://user:SECRET@host/x', 'gs://b/o?x=1&X-Goog-Signature=SECRET', '--hf_token=SECRET',
    's3://SECRET@bucket'])
def test_no_secret_of_a_command_line_is_kept(word):
  assert 'SECRET' not in ' '.join(logs.redacted(['flanjax', word]))


def test_no_secret_that_is_a_word_of_its_own_is_kept():
  words = ['--api_key', 'SECRET', '--seed', '3']
  assert logs.redacted(words) == ['--api_key', '***', '--seed', '3']


def test_what_is_no_secret_is_kept():
  words = ['--gin.MODEL_DIR="/runs/a@b"', '--gin.TRAIN_STEPS=20', 'gs://bucket/tokens', '--tokens=3']
  assert logs.redacted(words) == words


def test_the_commit_is_that_of_the_checkout(tmp_path):
  logs.git_commit.cache_clear()
  assert logs.git_commit(tmp_path) is None
  git = lambda *words: subprocess.run(
      ['git', '-C', str(tmp_path), '-c', 'user.name=x', '-c', 'user.email=x@y', *words], check=True,
      capture_output=True, text=True).stdout.strip()
  git('init', '-q')
  (tmp_path / 'a').write_text('1')
  logs.git_commit.cache_clear()
  assert logs.git_commit(tmp_path) is None
  logs.git_commit.cache_clear()
  git('add', 'a')
  git('commit', '-q', '-m', 'a')
  head = git('rev-parse', 'HEAD')
  assert logs.git_commit(tmp_path) == head and logs.git_commit(tmp_path, 'b') is None
  (tmp_path / 'a').write_text('2')
  logs.git_commit.cache_clear()
  assert logs.git_commit(tmp_path) == head + '+changes'


def test_memory_is_told_by_the_process_where_devices_do_not():
  found = goodput.memory()
  assert found['memory/host_peak_bytes'] > 50_000_000
  assert ('memory/device_peak_bytes' in found) == any(d.memory_stats() for d in jax.local_devices())


@pytest.mark.parametrize('module', [logs, profiler])
def test_the_examples_in_docstrings_are_true(module):
  assert doctest.testmod(module).failed == 0


def test_what_was_skipped_is_counted_and_spoils_no_mean(tmp_path):
  interval = intervals.Interval(goodput.Clock(_Now()))
  interval.add(_fed(), _metrics(skipped_updates=0.0))
  interval.add(_fed(), _metrics(skipped_updates=1.0, loss=float('nan'), gradient_norm=float('inf')))
  got = interval.scalars()
  assert got['skipped_updates'] == 1 and got['loss_per_nonpadding_target_token'] == 2.0
  assert got['gradient_norm'] == 0.5 and interval.loss == 2.0
  nothing = intervals.Interval(goodput.Clock(_Now()))
  nothing.add(_fed(), _metrics(skipped_updates=1.0, loss=float('nan')))
  sinks.JsonLines(tmp_path / 'log.jsonl', 0).write(1, nothing.scalars())
  strict = json.loads((tmp_path / 'log.jsonl').read_text(), parse_constant=pytest.fail)
  assert strict['loss'] is None and strict['skipped_updates'] == 1


def test_the_live_line_keeps_its_numbers_on_a_narrow_terminal(monkeypatch):
  text = 'loss 2.345, 1,234,567 tokens/s, MFU 41.2 %'
  for width, drawn in ((80, False), (110, True), (160, True)):
    monkeypatch.setenv('COLUMNS', str(width))
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setenv('TERM', 'xterm')
    with terminal.bar('train', stream) as bar:
      bar(0, 30000, 'compiling')
      bar.restart(0)
      monkeypatch.setattr(bar, '_rate', lambda: (3.4, 8000.0))
      bar(120, 30000, text)
    plain = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', stream.getvalue())
    last = [line for line in re.split(r'[\r\n]+', plain) if line.strip()][-1]
    for part in ('120/30000', '3.4/s, 2h 13m left', text):
      assert part.replace(' ', '') in last.replace(' ', ''), (width, last)
    assert ('━' in last) == drawn and len(last.rstrip()) <= width


def test_the_first_plain_line_of_a_run_tells_the_loss(monkeypatch, capsys):
  monkeypatch.setattr(terminal, 'PLAIN_PERIOD_S', 0.0)
  with terminal.bar('train') as bar:
    watch = monitor.Monitor(bar, None, total_steps=40, log_period=20, learning_rate=None,
                            last_checkpoint=lambda: None)
    watch.add(_fed(), _metrics())
    watch.flush()
  assert 'train: 1/40, loss 2.000' in capsys.readouterr().err
