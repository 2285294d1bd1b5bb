"""Preparing on Apache Beam, where it is installed: pip install 'flanjax[beam]'."""

import json
import pathlib
import sys

import prepared_tasks
import pytest
import seqio
import tensorflow as tf

from flanjax import cli
from flanjax.data import beam_runner, mixtures, prepare, prepared_task
from flanjax.errors import UserError
from flanjax.input import manifest

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'


@pytest.fixture
def beam():
  return pytest.importorskip('apache_beam')


pytestmark = pytest.mark.usefixtures('prepare_registry')


def _prepare(name, folder, **changes):
  return prepare.prepare(name, LENGTHS, output_dir=folder, **changes)


def _content(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def _broken_at(number):
  def fields(example):
    bad = tf.strings.regex_full_match(example['line'], f'.* line {number}( .*)?')
    with tf.control_dependencies([tf.debugging.Assert(~bad, ['a broken line'])]):
      return {k: tf.identity(v) for k, v in prepared_tasks.fields(example).items()}
  return fields


@pytest.mark.beam
def test_beam_writes_the_same_files_byte_for_byte(beam, tmp_path):
  local = _prepare(MIXTURE, tmp_path / 'local', num_workers=1)
  seen = []
  path = _prepare(MIXTURE, tmp_path / 'beam', runner='direct', progress=lambda *e: seen.append(e))
  assert path.name == local.name and _content(tmp_path / 'beam') == _content(tmp_path / 'local')
  assert seen[0] == (0, 287, '') and seen[-1][:2] == (287, 287)


@pytest.mark.beam
def test_processes_of_beam_write_them_too(beam, tmp_path, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(pathlib.Path(__file__).parent))
  _prepare(MIXTURE, tmp_path / 'local', num_workers=1)
  _prepare(MIXTURE, tmp_path / 'beam', runner='direct', modules=['prepared_tasks'], runner_options=[
      'direct_running_mode=multi_processing', 'direct_num_workers=2'])
  assert _content(tmp_path / 'beam') == _content(tmp_path / 'local')


@pytest.mark.beam
def test_what_is_there_is_not_sent_to_beam(beam, tmp_path, monkeypatch):
  _prepare(MIXTURE, tmp_path, num_workers=1)
  before = _content(tmp_path)
  monkeypatch.setattr(beam_runner, '_run', None)
  _prepare(MIXTURE, tmp_path, runner='direct')
  assert _content(tmp_path) == before


@pytest.mark.beam
def test_errors_of_tasks_come_back_and_the_others_are_kept(beam, tmp_path):
  for name in ('bad', 'worse'):
    source = prepared_tasks.source(name, {name: 20})
    prepared_tasks.add(name, fields=_broken_at(7), source=source)
  for mixture, names in (('one_bad', ['prep_a', 'bad']), ('two_bad', ['bad', 'worse'])):
    seqio.MixtureRegistry.add(mixture, [f'{n}_10templates' for n in names],
                              default_rate=mixtures.capped_rate)
  with pytest.raises(UserError, match='Preparing a task failed') as error:
    _prepare('one_bad', tmp_path, runner='direct')
  message = str(error.value)
  assert 'task bad_10templates, split train, example 7' in message and 'a broken line' in message
  assert [p.name for p in tmp_path.glob('*_10templates/*') if p.is_dir()]
  assert not [p for p in tmp_path.rglob('*') if p.name.startswith('.')]
  with pytest.raises(UserError, match='2 tasks cannot be prepared') as error:
    _prepare('two_bad', tmp_path, runner='direct')
  assert 'bad_10templates' in str(error.value) and 'worse_10templates' in str(error.value)
  [task] = [t for t in manifest.load(_prepare('one_bad', tmp_path, runner='direct', max_bad_examples=1)).tasks
            if t.name == 'bad_10templates']
  assert task.bad_examples['number'] == 1


@pytest.mark.beam
def test_the_command_takes_a_runner_and_its_options(beam, tmp_path, capsys):
  arguments = ['prepare', MIXTURE, '--inputs_length', '60', '--targets_length', '40', '--vocabulary',
               'bytes', '--output_dir', str(tmp_path), '--json']
  assert cli.main([*arguments, '--runner', 'direct', '--runner_option', 'direct_num_workers=1']) == 0
  assert len(manifest.load(json.loads(capsys.readouterr().out)['manifest']).tasks) == 2


def test_what_a_worker_is_sent_is_json_and_says_all(tmp_path, monkeypatch):
  sent, made = [], []
  monkeypatch.setattr(beam_runner, '_beam', lambda: None)
  monkeypatch.setattr(beam_runner, '_run', lambda beam, jobs, knowledge, *rest: sent.extend(
      beam_runner._dumps(job, knowledge) for job in jobs) or [])
  monkeypatch.setattr(prepared_task, 'write', lambda job, report: made.append(job))
  with pytest.raises(UserError, match='cannot be seen from here') as error:
    _prepare(MIXTURE, tmp_path, runner='flink', too_long='drop', max_bad_examples=4)
  assert '--output_dir gs://' in str(error.value)
  assert [beam_runner.prepare_one(element) for element in sent] == [None, None]
  jobs = [prepare._job(j.name, 'train', LENGTHS, tmp_path, 'drop', 4) for j in made]
  assert [vars(j) for j in made] == [vars(j) for j in jobs] and len(jobs) == 2


def test_a_worker_that_does_not_know_a_task_says_so(tmp_path):
  [job] = [prepare._job('prep_a_10templates', 'train', LENGTHS, tmp_path)]
  element = json.loads(beam_runner._dumps(job, beam_runner.workers.Knowledge((), (), None)))
  element['job']['name'] = 'nobody_knows'
  found = json.loads(beam_runner.prepare_one(json.dumps(element)))
  assert 'does not know a task' in found['what'] and found['task'] == 'nobody_knows'


@pytest.mark.parametrize('changes, message', [
    ({'runner': 'spork'}, 'did you mean spark'),
    ({'runner': 'direct', 'num_workers': 2}, 'num_workers'),
    ({'runner_options': ['a=b']}, 'a=b'),
    ({'runner': 'dataflow'}, 'a folder of a store'),
])
def test_runners_that_cannot_be_are_refused(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    _prepare(MIXTURE, tmp_path, **changes)


def test_without_beam_it_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match='not installed') as error:
    _prepare(MIXTURE, tmp_path, runner='direct')
  assert "pip install 'flanjax[beam]'" in str(error.value)
