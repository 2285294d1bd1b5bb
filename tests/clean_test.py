"""Lists of clean examples: what is written is read, and nothing else is taken for one."""

import json
import subprocess
import sys

import pytest

from flanjax.errors import UserError
from flanjax.evaluation import clean


def _write(path, **changes):
  clean.write_clean(path, {'rte': [0, 2], 'wnli': []}, {'rte': 3, 'wnli': 1}, split='test', mixture='m')
  content = {**json.loads(path.read_text()), **changes}
  path.write_text(json.dumps(content))
  return path


def test_what_is_written_is_read(tmp_path):
  path = _write(tmp_path / 'clean.json')
  assert clean.load_clean(path) == clean.load_clean(path, split='test') == {
      'rte': frozenset({0, 2}), 'wnli': frozenset()}
  assert json.loads(path.read_text())['tasks']['rte'] == {'examples': 3, 'clean': [0, 2]}


@pytest.mark.parametrize('changes, message', [
    ({'format': 'flanjax-leakage'}, "(?s)no list of clean examples.*format 'flanjax-leakage'"),
    ({'version': 2}, '(?s)another version.*got: version 2.*expected: version 1'),
    ({'tasks': None}, 'no tasks'),
    ({'tasks': {'rte': {'clean': '0, 2'}}}, "task 'rte'"),
    ({'tasks': {'rte': {'clean': [0, -1]}}}, "task 'rte'"),
    ({'tasks': {'rte': {'clean': [True]}}}, "task 'rte'"),
    ({'tasks': {'rte': [0]}}, "task 'rte'"),
    ({'split': 'validation'}, '(?s)another split.*got: validation.*expected: test'),
])  # fmt: skip
def test_another_file_is_refused(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    clean.load_clean(_write(tmp_path / 'clean.json', **changes), split='test')


@pytest.mark.parametrize('content, message', [
    ('[]', 'no list of clean'), ('{"form', 'no JSON'), (None, 'cannot be read')])
def test_broken_and_missing_files_are_told(tmp_path, content, message):
  path = tmp_path / 'x.json'
  if content is not None:
    path.write_text(content)
  with pytest.raises(UserError, match=message) as e:
    clean.load_clean(path)
  assert str(path) in str(e.value)


def test_reading_a_list_loads_nothing_heavy():
  code = ('import sys, flanjax.evaluation.clean\n'
          'sys.exit(" ".join({"tensorflow", "jax", "seqio", "numpy"} & set(sys.modules)) or 0)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
