"""Object stores, played by file systems that nobody here wrote: of fsspec in memory, of TensorFlow."""

import json
import os
import pickle

import fsspec
import numpy as np
import prepared_tasks  # noqa: F401 (registers)
import pytest
import tensorflow as tf
from etils import epath
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem

from flanjax.commands import train_data
from flanjax.data import prepare, prepared_task, seqio_cache, vocabularies
from flanjax.errors import UserError
from flanjax.input import files, manifest, remote
from flanjax.input.mixture import open_mixture

LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'


class FakeBucket(MemoryFileSystem):
  """Objects by name, as a store has them."""

  protocol = ('gcs', 'gs', 's3')
  cachable = False
  store, pseudo_dirs = {}, ['']

  def __init__(self, finalize_on_close=True):
    super().__init__()

  @classmethod
  def _strip_protocol(cls, path):
    return MemoryFileSystem._strip_protocol(str(path).replace('gs://', '/').replace('s3://', '/'))


@pytest.fixture
def fsspec_store(monkeypatch):
  """gs:// and s3:// without TensorFlow."""
  FakeBucket.store.clear()
  FakeBucket.pseudo_dirs[:] = ['']
  for protocol in ('gcs', 's3'):
    fsspec.register_implementation(protocol, FakeBucket, clobber=True)
  monkeypatch.setattr(gpath, '_is_tf_installed', lambda: False)
  backend.fsspec_backend._get_filesystem.cache_clear()
  yield
  backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def tf_store(monkeypatch, tmp_path):
  """gs:// by TensorFlow, its requests sent to a folder."""
  def there(path):
    return os.fspath(path).replace('gs://', f'{tmp_path}/bucket/')

  class Gfile:
    GFile = staticmethod(lambda path, mode='r': tf.io.gfile.GFile(there(path), mode))

    def __getattr__(self, name):
      return lambda path, *args, **kwargs: getattr(tf.io.gfile, name)(there(path), *args, **kwargs)

  monkeypatch.setattr(type(backend.tf_backend), 'gfile', Gfile())


@pytest.fixture(params=['fsspec_store', 'tf_store'])
def store(request, monkeypatch, tmp_path):
  request.getfixturevalue(request.param)
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path / 'cache'))
  vocabularies.set_default('bytes')
  yield 'gs://bucket/data'
  vocabularies.set_default(None)


def _prepare(folder, **changes):
  return prepare.prepare(MIXTURE, LENGTHS, output_dir=folder, **{'num_workers': 1, **changes})


def _content(folder):
  """Relative path -> bytes, of what is in a store or a folder."""
  root, found = epath.Path(folder), {}
  for part in root.iterdir():
    for path in part.iterdir():
      for file in path.iterdir() if path.is_dir() else [path]:
        found[os.path.relpath(os.fspath(file), os.fspath(root))] = file.read_bytes()
  return found


def _forget_copies(tmp_path):
  """As another machine would begin."""
  for folder in ('remote', 'prepared'):
    path = tmp_path / 'cache' / folder
    if path.exists():
      path.rename(tmp_path / f'{folder}-{len(list(tmp_path.iterdir()))}')


def test_a_store_holds_what_a_folder_would(store, tmp_path):
  local, path = _prepare(tmp_path / 'local'), _prepare(store)
  assert os.fspath(path) == f'{store}/mixtures/{local.name}'
  assert _content(store) == _content(tmp_path / 'local')


def test_batches_of_a_store_are_those_of_a_folder(store, tmp_path):
  local, path = _prepare(tmp_path / 'local'), _prepare(store)
  _forget_copies(tmp_path)
  one, other = (open_mixture(p, batch_size=8, seed=3) for p in (local, os.fspath(path)))
  assert one.fingerprint == other.fingerprint and other.describe()['manifest'] == os.fspath(path)
  for key, value in one.batch(5).items():
    assert np.array_equal(value, other.batch(5)[key])
  copy = pickle.loads(pickle.dumps(other))
  assert os.fspath(copy.manifest.path) == os.fspath(path)
  assert np.array_equal(copy.batch(1)['encoder_input_tokens'], one.batch(1)['encoder_input_tokens'])


def test_what_is_in_a_store_is_not_prepared_again(store, tmp_path, monkeypatch):
  path = _prepare(store)
  _forget_copies(tmp_path)
  monkeypatch.setattr(prepared_task, '_write_here', None)
  assert os.fspath(_prepare(store)) == os.fspath(path)
  assert not (tmp_path / 'cache' / 'prepared').exists() or not list(
      (tmp_path / 'cache' / 'prepared').iterdir())


def test_what_is_here_is_copied_and_not_prepared_again(store, monkeypatch):
  local = _prepare(None)
  monkeypatch.setattr(prepared_task, '_write_task', None)
  assert _prepare(store).name == local.name


@pytest.mark.parametrize('damage', ['shorter', 'no manifest', 'torn manifest'])
def test_a_task_that_is_not_whole_in_a_store_is_copied_again(store, tmp_path, damage):
  _prepare(store)
  expected = _content(store)
  [folder] = epath.Path(f'{store}/prep_a_10templates').iterdir()
  shard, about = folder / 'train-00000-of-00001.array_record', folder / 'manifest.json'
  if damage == 'shorter':
    shard.write_bytes(shard.read_bytes()[:-5])
  elif damage == 'no manifest':
    about.unlink()
  else:
    about.write_bytes(about.read_bytes()[:99])
  _forget_copies(tmp_path)
  _prepare(store)
  assert _content(store) == expected


def test_the_manifest_of_a_task_comes_last_and_that_of_the_mixture_after_all(store, monkeypatch):
  written, real = [], backend.fsspec_backend.open
  for kind in (backend._FileSystemSpecBackend, backend._TfBackend):
    real = kind.open

    def opened(self, path, mode, real=real):
      written.append(os.fspath(path)) if 'w' in mode else None
      return real(self, path, mode)

    monkeypatch.setattr(kind, 'open', opened)
  _prepare(store)
  names = [path.rpartition('/')[2] for path in written if '.probe' not in path]
  assert [n == 'manifest.json' for n in names] == [False, False, True] * 2 + [False]
  assert names[-1].startswith(MIXTURE)


def test_copies_are_shared_by_all_that_hold_the_same(store, tmp_path):
  path = _prepare(store)
  for name in ('one', 'two'):
    # The same data under another mixture, and in another bucket.
    content = json.loads(path.read_text())
    del content['checksum'], content['format_version']
    there = f'gs://{name}/data'
    for file, data in _content(store).items():
      target = epath.Path(f'{there}/{file}')
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(data)
    remote.write_text(f'{there}/mixtures/{name}.json', manifest.dumps({**content, 'mixture': name}))
    files.check_files(manifest.load(f'{there}/mixtures/{name}.json').tasks)
  copies = [p for p in (tmp_path / 'cache' / 'remote').glob('*/*')]
  assert sorted(p.parent.name for p in copies) == ['prep_a_10templates', 'prep_b_10templates']
  assert all(p.is_dir() and p.name[0] != '.' for p in copies)


def test_only_what_is_missing_or_torn_is_copied(store, monkeypatch):
  tasks = manifest.load(_prepare(store)).tasks
  files.check_files(tasks)
  shard = tasks[0].path / tasks[0].shards[0].file
  shard.write_bytes(shard.read_bytes()[:-9])
  copied, real = [], remote._fetch_file
  monkeypatch.setattr(remote, '_fetch_file', lambda *args: copied.append(args[0]) or real(*args))
  files.check_files(tasks)
  assert copied == [f'{tasks[0].origin}/{f.file}' for f in tasks[0].files]
  files.check_files(tasks)
  assert len(copied) == 2


def test_a_copy_with_a_flipped_bit_is_named_and_how_to_get_another(store):
  tasks = manifest.load(_prepare(store)).tasks
  files.check_files(tasks)
  shard = tasks[1].path / tasks[1].shards[0].file
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.write_bytes(content)
  with pytest.raises(UserError, match='corrupted') as error:
    files.check_files(tasks)
  assert str(shard) in str(error.value) and f'remove this copy of {tasks[1].origin}' in str(error.value)


@pytest.mark.parametrize('damage, message', [
    (lambda data: data[:-1], 'truncated or was changed'),
    (lambda data: data[:-1] + bytes([data[-1] ^ 1]), 'corrupted'),
    (None, 'missing'),
])
def test_what_a_store_holds_is_checked_while_it_is_copied(store, tmp_path, damage, message):
  tasks = manifest.load(_prepare(store)).tasks
  shard = epath.Path(tasks[0].origin) / tasks[0].shards[0].file
  data = shard.read_bytes()
  shard.write_bytes(damage(data)) if damage else shard.unlink()
  with pytest.raises(UserError, match=message) as error:
    files.check_files(tasks)
  assert os.fspath(shard) in str(error.value)
  assert not (tasks[0].path).exists() and not list((tmp_path / 'cache' / 'remote').rglob('.*'))


def test_a_copy_that_another_process_finished_meanwhile_is_kept(store, monkeypatch):
  tasks = manifest.load(_prepare(store)).tasks[:1]
  real, kept = remote._fetch_file, {}

  def slower(*args):
    # Whoever begins second ends first.
    monkeypatch.setattr(remote, '_fetch_file', real)
    if not kept:
      files._fetch(tasks)
      kept.update({p: p.stat().st_ino for p in tasks[0].path.iterdir()})
    real(*args)

  monkeypatch.setattr(remote, '_fetch_file', slower)
  files.check_files(tasks)
  assert {p: p.stat().st_ino for p in tasks[0].path.iterdir()} == kept and len(kept) == 2
  assert not [p for p in tasks[0].path.parent.iterdir() if p.name.startswith('.')]


@pytest.mark.parametrize('name', ['../../elsewhere', '/tmp/elsewhere', '..'])
def test_a_manifest_cannot_make_a_copy_write_elsewhere(store, name):
  path = _prepare(store)
  content = json.loads(path.read_text())
  del content['checksum'], content['format_version']
  content['tasks'][0]['index']['file'] = name
  remote.write_text(path, manifest.dumps(content))
  with pytest.raises(UserError, match='file of another folder') as error:
    manifest.load(os.fspath(path))
  assert name in str(error.value)
  content['tasks'][0] |= {'path': '../../f00d', 'index': content['tasks'][1]['index']}
  remote.write_text(path, manifest.dumps(content))
  with pytest.raises(UserError, match='file of another folder'):
    manifest.load(os.fspath(path))


def test_a_manifest_that_is_not_in_a_store_is_named(store):
  with pytest.raises(UserError, match='cannot be read') as error:
    manifest.load(f'{store}/mixtures/none.json')
  assert f'{store}/mixtures/none.json' in str(error.value)


def test_a_store_that_cannot_be_reached_is_told_with_what_it_needs(store, monkeypatch):
  def refuse(self, path, *args, **kwargs):
    raise PermissionError('no credentials')

  for kind in (backend._FileSystemSpecBackend, backend._TfBackend):
    monkeypatch.setattr(kind, 'open', refuse)
  with pytest.raises(UserError, match='cannot be reached') as error:
    _prepare(store)
  assert 'no credentials' in str(error.value) and store in str(error.value)
  assert 'flanjax[gcs]' in str(error.value)


def test_a_cache_of_seqio_can_be_in_a_store(store, tmp_path):
  path = _prepare(store)
  for folder in (f'{store}/cache', tmp_path / 'folder' / 'cache'):
    names = seqio_cache.write(path, folder)
    seqio_cache.write(path, folder)
  for name in names:
    one, other = ({p.name: p.read_bytes() for p in (epath.Path(folder) / name).iterdir()}
                  for folder in (f'{store}/cache', tmp_path / 'folder' / 'cache'))
    assert one == other and 'COMPLETED' in one


def test_s3_is_a_store_too(fsspec_store, monkeypatch, tmp_path):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path / 'cache'))
  vocabularies.set_default('bytes')
  path = _prepare('s3://bucket/data')
  vocabularies.set_default(None)
  assert os.fspath(path).startswith('s3://bucket/data/mixtures/')
  source = open_mixture(os.fspath(path), batch_size=4, seed=0, pack=False)
  assert source.batch(0)['encoder_input_tokens'].shape == (4, 60)


def test_a_run_reads_a_manifest_in_a_store(store):
  path = _prepare(store)

  class Run:
    mixture_or_task_name = os.fspath(path)

  assert os.fspath(train_data._manifest_of(Run)) == os.fspath(path)


def test_paths_are_told_apart(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert remote.resolved('a/b') == tmp_path / 'a/b'
  assert os.fspath(remote.resolved('s3://b/x')) == 's3://b/x'
  assert remote.joined('gs://b/data/mixtures', '../t/f00d') == 'gs://b/data/t/f00d'
