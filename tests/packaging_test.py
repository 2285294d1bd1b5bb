"""The wheel holds everything, and works from another folder without the checkout."""

import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _call(*argv, **options) -> str:
  done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False,
                        **options)
  assert done.returncode == 0, f'{argv}: {done.stdout}\n{done.stderr}'
  return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  source = folder / 'source'
  # A copy, since a build writes into the tree it builds.
  source.mkdir()
  for name in ('flanjax', 'tasks', 'gin', 'setup.py', 'pyproject.toml', 'README.md'):
    if (ROOT / name).exists():
      _call('cp', '-r', ROOT / name, source)
  _call(sys.executable, '-m', 'pip', 'wheel', source, '--no-deps', '--no-build-isolation',
        '--no-index', '--quiet', '--wheel-dir', folder)
  return next(folder.glob('flanjax-*.whl'))


def test_the_wheel_holds_what_is_read_at_run_time(wheel):
  names = set(zipfile.ZipFile(wheel).namelist())
  packed = lambda folder, prefix: {
      f'{prefix}/{p.relative_to(ROOT / folder).as_posix()}'
      for p in (ROOT / folder).rglob('*') if p.is_file() and '__pycache__' not in p.parts}
  assert packed('gin', 'flanjax/gin') <= names
  assert packed('flanjax', 'flanjax') <= names
  assert packed('tasks', 'flanjax/tasks') <= names


def test_the_wheel_brings_no_tests_tools_or_gin_package(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {n.split('/')[0].split('-')[0] for n in names} == {'flanjax'}
  assert 'flanjax/gin/__init__.py' not in names


def test_the_installed_package_works_from_another_folder(wheel, tmp_path):
  target = tmp_path / 'site'
  _call(sys.executable, '-m', 'pip', 'install', wheel, '--no-deps', '--no-index', '--quiet',
        '--target', target)
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  environment = dict(os.environ, PYTHONPATH=str(target), FLANJAX_CACHE=str(tmp_path / 'cache'))
  run = lambda *argv: _call(
      sys.executable, '-m', 'flanjax.cli', *argv, cwd=elsewhere, env=environment)
  assert 'quickstart' in run('--help')
  code = ('import flanjax.gin_files as g, flanjax.commands.train as t; '
          'print(g.__file__, g.find("models/t5_1_1/tiny.gin"), t.mini_base())')
  found = _call(sys.executable, '-c', code, cwd=elsewhere, env=environment).split()
  assert all(path.startswith(str(target)) for path in found)
  listed = run('tasks', 'list')
  assert re.search(r'^rte +nli', listed, re.MULTILINE)
  assert re.search(r'^mini_\w+ +sentiment', listed, re.MULTILINE)


def test_every_locked_version_is_exact_and_every_requirement_locked():
  lock = [line for line in (ROOT / 'requirements.lock').read_text().splitlines()
          if line and line[0] != '#']
  locked = {}
  for line in lock:
    match = re.fullmatch(r'([\w.-]+)==([\w.]+)(; python_version < "3.13")?', line)
    assert match, line
    locked[match[1].lower().replace('_', '-')] = match[2]
  for name in re.findall(r"^ +'([A-Za-z_-]+)(?:\[\w+\])?[><=]", (ROOT / 'setup.py').read_text(),
                         re.MULTILINE):
    assert name.lower().replace('_', '-') in locked, name


@pytest.mark.parametrize('name', ['tools/quickstart', 'tools/test', 'tools/install', '.ci/run'])
def test_scripts_can_be_run_and_parsed(name):
  assert os.access(ROOT / name, os.X_OK)
  _call('bash', '-n', ROOT / name)
