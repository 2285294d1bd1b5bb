import json
import pathlib

import forked
import pytest

KILLS = 20


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
  """What killed_prepare.py saw; contents are {path: [hash, inode]}."""
  program = pathlib.Path(__file__).with_name('killed_prepare.py')
  folder = tmp_path_factory.mktemp('killed')
  done = forked.run([program, folder, KILLS], modules=forked.TENSORFLOW)
  log = folder / 'log'
  assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else '')
  return json.loads(done.stdout)


def _hashes(content, folder=''):
  return {name: sha for name, (sha, _) in content.items() if name.startswith(folder)}


def test_a_prepare_killed_twenty_times_ends_as_one_left_alone(seen):
  statuses = [kill['status'] for kill in seen['kills']]
  # The last ones may find nothing left to do.
  assert len(statuses) == KILLS and statuses.count(-9) > KILLS * 3 // 4 and set(statuses) <= {0, -9}
  counts = [len(kill['content']) for kill in seen['kills']]
  assert len(set(counts)) > 4  # The kills were spread over the work.
  assert seen['killed']['statuses'] == [0] == seen['undisturbed']['statuses']
  assert _hashes(seen['killed']['content']) == _hashes(seen['undisturbed']['content'])


def test_what_has_its_final_name_is_whole_at_every_moment(seen):
  expected = _hashes(seen['undisturbed']['content'])
  for kill in seen['kills']:
    found = _hashes(kill['content'])
    assert found.items() <= expected.items()
    folders = {name.rpartition('/')[0] for name in found}
    assert {name for name in expected if name.rpartition('/')[0] in folders} == set(found)


def test_no_finished_task_is_prepared_again(seen):
  end = seen['killed']['content']
  for kill in seen['kills']:
    assert all(end[name] == made for name, made in kill['content'].items() if name[0] == 'k')


def test_killed_prepares_leave_nothing_behind(seen):
  assert seen['killed']['hidden'] == seen['both']['hidden'] == []


def test_two_prepares_at_once_in_one_folder_both_succeed(seen):
  assert seen['both']['statuses'] == [0, 0]
  found = _hashes(seen['both']['content'], 'k')
  assert len(found) == 3 * 3 and found.items() <= _hashes(seen['undisturbed']['content']).items()


def test_workers_end_with_a_prepare_that_is_killed(seen):
  assert seen['orphans'] == [2, 0]
