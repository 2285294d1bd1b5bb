import functools
import os
import signal

import prepared_tasks
import pytest
import seqio

from flanjax.data import mixtures, prepare, specs, vocabularies, worker_process, workers
from flanjax.errors import UserError

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'


def _job(job, report):
  """What the tests below let workers do."""
  if job == 'die':
    os.kill(os.getpid(), signal.SIGKILL)
  if job == 'user error':
    raise UserError('It is wrong.', where='there', got=['a', 'list'])
  if job == 'fault':
    raise ValueError('not expected')
  report(job, os.getpid())
  return job, os.getpid()


def _nothing():
  pass


def _cannot():
  raise UserError('There is no such module.')


def _run(jobs, num_workers=1, seen=None):
  report = (lambda *what: seen.append(what)) if seen is not None else (lambda *what: None)
  return list(workers.run(_job, jobs, num_workers, [], report, 'a test'))


@pytest.fixture
def forks(monkeypatch):
  """Processes that begin at once, without TensorFlow."""
  monkeypatch.setattr(worker_process, 'START_METHOD', 'fork')
  monkeypatch.setattr(workers, '_set_up', lambda *unused: None)


@pytest.fixture
def bytes_vocabulary():
  vocabularies.set_default('bytes')
  yield
  vocabularies.set_default(None)


def _content(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_a_process_does_so_many_jobs_and_another_goes_on(forks, monkeypatch):
  monkeypatch.setattr(worker_process, 'MOST_JOBS', 2)
  seen = []
  found = _run(['a', 'b', 'c'], seen=seen)
  assert [job for job, _ in found] == ['a', 'b', 'c'] == [job for job, _ in seen]
  pids = [pid for _, (_, pid) in found]
  assert pids[0] == pids[1] != pids[2] and os.getpid() not in pids
  for pid in set(pids):
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)


def test_few_jobs_of_one_worker_are_done_here():
  assert _run(['a', 'b']) == [(job, (job, os.getpid())) for job in 'ab']


def test_a_process_that_has_grown_is_tired(forks, monkeypatch):
  monkeypatch.setattr(worker_process, 'MOST_GROWTH_BYTES', -1)
  worker = worker_process.Worker(_job, _nothing, 'a test')
  worker.give('a')
  while (result := worker.result(lambda *what: None)) is worker_process.NOT_YET:
    assert worker.job == 'a' and not worker.tired
  worker.let_go()
  worker.end()
  assert result[0] == 'a' and worker.tired and worker.job is None


def test_an_error_comes_back_after_the_others_have_finished(forks):
  done = []
  with pytest.raises(UserError, match='It is wrong') as error:
    for job, _ in workers.run(_job, ['a', 'user error', 'b'], 2, [], lambda *what: None, 'a test'):
      done.append(job)
  assert 'a' in done and error.value.got == "['a', 'list']" and error.value.where == 'there'
  assert '_job' in error.value.__notes__[0]


def test_what_happened_to_a_worker_is_told(forks):
  def of(job, set_up=_nothing):
    worker = worker_process.Worker(_job, set_up, 'a test')
    try:
      worker.give(job)
      while worker.result(lambda *what: None) is worker_process.NOT_YET:
        pass
    finally:
      worker.end()

  with pytest.raises(UserError, match='died') as error:
    of('die')
  assert 'SIGKILL' in str(error.value) and 'a test' in str(error.value) and 'fewer' in str(error.value)
  with pytest.raises(RuntimeError, match='ValueError: not expected') as error:
    of('fault')
  assert 'in _job' in error.value.__notes__[0]
  with pytest.raises(UserError, match='no such module'):
    of('a', _cannot)
  with pytest.raises(UserError, match='could not start') as error:
    of('a', functools.partial(os._exit, 3))
  assert 'exit status 3' in str(error.value) and "__name__ == '__main__'" in str(error.value)


def test_processes_started_anew_write_the_same_bytes(tmp_path, monkeypatch, bytes_vocabulary):
  _prepare = functools.partial(prepare.prepare, MIXTURE, LENGTHS, num_workers=1, modules=['prepared_tasks'])
  _prepare(output_dir=tmp_path / 'here')
  monkeypatch.setattr(worker_process, 'MOST_JOBS', 1)
  started = []
  real = worker_process.Worker
  monkeypatch.setattr(worker_process, 'Worker', lambda *args: started.append(args) or real(*args))
  _prepare(output_dir=tmp_path / 'elsewhere')
  assert len(started) == 2 and _content(tmp_path / 'elsewhere') == _content(tmp_path / 'here')


def test_one_worker_goes_on_here_with_tasks_that_no_other_process_knows(tmp_path, monkeypatch, bytes_vocabulary):
  monkeypatch.setattr(worker_process, 'MOST_JOBS', 1)
  prepared_tasks.add('local', source=prepared_tasks.source('prep_a'))
  names = ['local_10templates', 'prep_a_10templates', 'prep_b_10templates']
  seqio.MixtureRegistry.add('with_local', names, default_rate=mixtures.capped_rate)
  run = functools.partial(prepare.prepare, 'with_local', LENGTHS, output_dir=tmp_path, modules=['prepared_tasks'])
  try:
    with pytest.raises(UserError, match='does not know a task'):
      run(num_workers=2)
    run(num_workers=1)
  finally:
    seqio.MixtureRegistry.remove('with_local')
    specs.unregister('local')
  assert {p.parent.parent.name for p in tmp_path.rglob('manifest.json')} == set(names)
