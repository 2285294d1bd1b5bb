"""Files of prompts: every format, and what strangers put into them."""

import csv
import io
import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from flanjax.errors import UserError
from flanjax.inference import prompt_formats
from flanjax.inference.prompt_files import PromptFile

ROWS = [{'inputs': 'Is the sea blue?', 'id': 'a'}, {'inputs': 'Say "no",\nthen 中.', 'id': 'b'}]


def _file(tmp_path, content, name='prompts.jsonl'):
  path = tmp_path / name
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return PromptFile(str(path))


def _errors(file):
  return {r.line: r.error for r in file.records() if r.error}


def test_every_format_gives_the_same_records(tmp_path):
  lines = ''.join(json.dumps(r) + '\n' for r in ROWS)
  table = io.StringIO()
  writer = csv.DictWriter(table, ['id', 'inputs'])
  writer.writeheader()
  writer.writerows(ROWS)
  parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / 'p.parquet')
  files = [_file(tmp_path, lines), _file(tmp_path, b'\xef\xbb\xbf' + lines.replace('\n', '\r\n').encode(), 'b.jsonl'),
           _file(tmp_path, table.getvalue(), 'p.csv'), PromptFile(str(tmp_path / 'p.parquet')),
           PromptFile('-', stdin=io.BytesIO(lines.encode()))]
  for file in files:
    records = list(file.records())
    assert [dict(r.fields) for r in records] == ROWS
    assert [r.inputs for r in records] == [r['inputs'] for r in ROWS]
    assert not any(r.error or r.options for r in records)


def test_a_line_of_text_is_a_prompt(tmp_path):
  records = list(_file(tmp_path, 'one\r\n two\n', 'p.txt').records())
  assert [(r.line, r.inputs, r.fields) for r in records] == [
      (1, 'one', {'inputs': 'one'}), (2, ' two', {'inputs': ' two'})]
  assert [r.inputs for r in PromptFile('-', stdin=io.BytesIO(b'one\n{two}\n')).records()] == ['one', '{two}']


@pytest.mark.parametrize('line, reason', [
    (b'{"inputs": "caf\xe9"}', 'no valid UTF-8: byte 16 is 0xe9'),
    (b'{"inputs": "x"', 'is no JSON'),
    (b'{"inputs": "x", "y": NaN}', 'is no JSON: NaN'),
    (b'{"inputs": "x", "y": 1e999}', 'JSON has no words for'),
    (b'{"inputs": "x\\ud800"}', 'half of a character'),
    (b'[' * 100_000, 'is no JSON'),
    (b'["x"]', 'must be an object, not a list'),
    (b'{"prompt": "x"}', 'has no "inputs", but prompt'),
    (b'{"inputs": 3}', '"inputs" must be a text, not a number'),
    (b'{"inputs": null}', 'not null'),
    (b'{"inputs": " "}', 'prompt is empty'),
    (b'{"inputs": "x", "options": "a"}', 'must be a list of texts'),
    (b'{"inputs": "x", "options": ["a", ""]}', 'must be a list of texts'),
    (b'', 'line is empty'),
])
def test_a_bad_line_is_told_with_its_number_and_the_others_are_read(tmp_path, line, reason):
  file = _file(tmp_path, b'{"inputs": "one"}\n' + line + b'\n{"inputs": "three"}\n')
  records = list(file.records())
  assert [r.inputs for r in records if not r.error] == ['one', 'three']
  assert list(_errors(file)) == [2] and reason in _errors(file)[2]
  for record in records:
    json.dumps(record.fields).encode()


def test_empty_lines_at_the_end_are_no_prompts(tmp_path):
  for name in ('a.txt', 'a.jsonl'):
    assert len(list(_file(tmp_path, '{"inputs": "x"}\n\n \n', name).records())) == 1


def test_a_line_too_long_to_hold_is_passed_over(tmp_path, monkeypatch):
  monkeypatch.setattr(prompt_formats, 'MAX_LINE_BYTES', 50)
  file = _file(tmp_path, b'x' * 180 + b'\nshort\n', 'p.txt')
  assert [(r.line, r.inputs) for r in file.records()] == [(1, ''), (2, 'short')]
  assert 'longer than' in _errors(file)[1]


def test_files_are_read_as_they_are_needed():
  class Endless(io.RawIOBase):
    """Fails where somebody reads on."""

    lines = [b'{"inputs": "one"}\n', b'{"inputs": "two"}\n']

    def readline(self, size=-1):
      del size
      return self.lines.pop(0)

  records = PromptFile('-', 'jsonl', stdin=Endless()).records()
  assert [next(records).inputs, next(records).inputs] == ['one', 'two']


def test_options_and_modes_say_what_is_ranked(tmp_path):
  file = _file(tmp_path, '\n'.join(json.dumps({'inputs': 'x', **r}) for r in (
      {}, {'options': ['a', 'b']}, {'options': []}, {'options': ['a'], 'mode': 'generate'})))
  assert [r.options for r in file.records()] == [(), ('a', 'b'), (), ()]
  assert [r.options for r in file.records(('yes', 'no'))] == [('yes', 'no'), ('a', 'b'), ('yes', 'no'), ()]


def test_bad_rows_of_csv_are_told_with_their_lines(tmp_path):
  file = _file(tmp_path, b'inputs,options\n"two\nlines",yes | no\nx\ncaf\xe9,\ngood,\n', 'p.csv')
  records = list(file.records())
  assert [(r.line, r.inputs, r.options) for r in records if not r.error] == [
      (2, 'two\nlines', ('yes', 'no')), (6, 'good', ())]
  assert {line: error[:22] for line, error in _errors(file).items()} == {
      4: 'The row has 1 columns,', 5: 'The line is no valid U'}
  assert 'no CSV' in _errors(_file(tmp_path, 'inputs\n"open\nx\n', 'q.csv')).popitem()[1]
  with pytest.raises(UserError, match='name the columns'):
    list(_file(tmp_path, 'a,b\n1,2\n', 'r.csv').records())


def test_values_that_json_lacks_become_text_and_rows_of_parquet_are_counted(tmp_path):
  import datetime

  table = pa.table({'inputs': ['x', None], 'day': [datetime.date(2024, 1, 2)] * 2,
                    'p': [float('nan'), 0.5], 'raw': [b'y', b'z']})
  parquet.write_table(table, tmp_path / 'p.parquet')
  first, second = PromptFile(str(tmp_path / 'p.parquet')).records()
  assert first.fields == {'inputs': 'x', 'day': '2024-01-02', 'p': None, 'raw': 'y'}
  assert (second.line, second.error) == (2, '"inputs" must be a text, not null.')
  parquet.write_table(table.drop(['inputs']), tmp_path / 'q.parquet')
  with pytest.raises(UserError, match="no column 'inputs'"):
    list(PromptFile(str(tmp_path / 'q.parquet')).records())
  with pytest.raises(UserError, match='no Parquet'):
    list(_file(tmp_path, b'PAR1 but not really', 'r.parquet').records())


@pytest.mark.parametrize('path, settings, message', [
    ('none.jsonl', {}, 'no such file'), ('', {}, 'no such file'),
    ('p.doc', {}, 'says no format'), ('p.doc', {'format': 'jsonll'}, 'did you mean jsonl'),
    ('-', {'format': 'parquet'}, 'standard input')])
def test_a_file_that_cannot_be_used_is_refused_before_it_is_read(tmp_path, path, settings, message):
  (tmp_path / 'p.doc').write_text('x')
  with pytest.raises(UserError, match=message):
    PromptFile(path if path == '-' else str(tmp_path / path), **settings)
  assert [r.inputs for r in PromptFile(str(tmp_path / 'p.doc'), 'txt').records()] == ['x']


def test_a_pipe_is_read_as_standard_input_is(tmp_path):
  read, write = os.pipe()
  with os.fdopen(write, 'wb') as stream:
    stream.write(b'{"inputs": "one"}\n')
  file = PromptFile(f'/dev/fd/{read}')
  assert not file.can_be_read_again
  assert [r.inputs for r in file.records()] == ['one']
  os.close(read)
