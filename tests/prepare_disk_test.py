import errno
import os
import pathlib
import shutil
import subprocess

import prepared_tasks  # noqa: F401 (registers)
import pytest

from flanjax.data import prepare, vocabularies
from flanjax.errors import UserError
from flanjax.input import staging, writer

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'


@pytest.fixture(autouse=True)
def vocabulary():
  vocabularies.set_default('bytes')
  yield
  vocabularies.set_default(None)


def _prepare(folder, **changes):
  return prepare.prepare(MIXTURE, LENGTHS, output_dir=folder, **{'num_workers': 1, **changes})


def _content(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def _names(folder):
  return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  """The mixture on a disk with room."""
  vocabularies.set_default('bytes')
  folder = tmp_path_factory.mktemp('reference')
  _prepare(folder)
  vocabularies.set_default(None)
  return folder


@pytest.fixture
def small_disk(reference, tmp_path):
  """A file system with room for the larger of two tasks and not for both."""
  sizes = sorted(
      sum(-(-f.stat().st_size // 4096) + 1 for f in task.rglob('*') if f.is_file())
      for task in reference.glob('prep_*'))
  folder = tmp_path / 'disk'
  folder.mkdir()
  pages = sizes[-1] + sizes[0] // 2
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={pages * 4}k', 'tmpfs', os.fspath(folder)]
  if os.geteuid() or not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('a small file system can be mounted by root alone')
  yield folder
  subprocess.run(['umount', os.fspath(folder)], check=True)


@pytest.mark.parametrize('num_workers', [1, 2])
def test_a_full_disk_is_told_and_preparing_goes_on_when_there_is_room(small_disk, reference, num_workers):
  folder = small_disk
  with pytest.raises(UserError, match='no room') as error:
    _prepare(folder, num_workers=num_workers, modules=['prepared_tasks'])
  message = str(error.value)
  assert os.fspath(folder / 'prep_') in message and 'are free' in message
  assert 'for this task' in message and '--output_dir' in message
  # Of what is there, all is whole; and nothing else is there.
  expected, found = _content(reference), _content(folder)
  assert found.items() < expected.items()
  assert not [name for name in _names(folder) if '/.' in name or 'part-' in name]
  subprocess.run(['mount', '-o', 'remount,size=16m', os.fspath(folder)], check=True)
  kept = {p: p.stat().st_ino for p in folder.rglob('*.array_record')}
  path = _prepare(folder)
  assert path.is_file() and _content(folder) == expected
  assert {p: p.stat().st_ino for p in folder.rglob('*.array_record')}.items() >= kept.items()


class _FullDisk:
  """An ArrayRecord writer that fails as the real one does, when its file is closed."""

  def __init__(self, path, options):
    self._path = pathlib.Path(path)
    self._path.write_bytes(b'the first half')

  def write(self, record):
    pass

  def close(self):
    raise RuntimeError(f'write() failed: {os.strerror(errno.ENOSPC)}; writing {self._path}; at byte 14')


def test_a_write_error_in_the_middle_of_a_task_leaves_nothing_of_it(reference, tmp_path, monkeypatch):
  real, made = writer.array_record_module.ArrayRecordWriter, []

  def second_fails(path, options):
    made.append(path)
    return (real if len(made) == 1 else _FullDisk)(path, options)

  monkeypatch.setattr(writer.array_record_module, 'ArrayRecordWriter', second_fails)
  folder = tmp_path / 'disk'
  with pytest.raises(UserError, match='no room') as error:
    _prepare(folder)
  assert len(made) == 2 and 'prep_a_10templates' in str(error.value)
  assert 'for this task' in str(error.value)
  assert [p.name for p in folder.glob('*/*')] == [
      p.name for p in reference.glob('prep_b_10templates/*')]
  monkeypatch.undo()
  vocabularies.set_default('bytes')
  _prepare(folder)
  assert _content(folder) == _content(reference)


def test_a_mixture_whose_manifest_has_no_room_keeps_its_tasks(tmp_path, monkeypatch):
  def no_room(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(staging, 'replace_file', no_room)
  with pytest.raises(UserError, match='no room') as error:
    _prepare(tmp_path)
  assert f'{tmp_path}/mixtures/{MIXTURE}' in str(error.value)
  assert {p.parent.parent.name for p in tmp_path.rglob('manifest.json')} == {
      'prep_a_10templates', 'prep_b_10templates'}


def test_another_error_of_a_disk_is_told_as_it_is(tmp_path, monkeypatch):
  def broken(self):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(writer.TaskWriter, 'close', broken)
  with pytest.raises(UserError, match='cannot be written') as error:
    _prepare(tmp_path)
  assert os.strerror(errno.EIO) in str(error.value)
