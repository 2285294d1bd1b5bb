import functools
import json

import numpy as np
import prepared_tasks
import pytest
import seqio
import tensorflow as tf

from flanjax import cli
from flanjax.data import Template, prepare
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib
from flanjax.input.records import RecordReader, decode

LENGTHS = {'inputs': 60, 'targets': 40}
ROWS = 300


pytestmark = pytest.mark.usefixtures('prepare_registry')


def _number(example):
  return tf.strings.to_number(tf.strings.split(example['line'])[3], tf.int64)


def _failing_at(*numbers):
  """Fields that cannot be had of some examples."""
  def fields(example):
    bad = tf.reduce_any(_number(example) == tf.constant(numbers, tf.int64))
    with tf.control_dependencies([tf.debugging.Assert(~bad, ['a broken line'])]):
      return {k: tf.identity(v) for k, v in prepared_tasks.fields(example).items()}
  return fields


def _add(name='bad', rows=ROWS, **changes):
  settings = {'source': prepared_tasks.source('bad', {'bad': rows}),
              'templates': prepared_tasks.TEMPLATES[:1], **changes}
  prepared_tasks.add(name, **settings)
  return f'{name}_10templates'


def _prepare(name, folder, **changes):
  return prepare.prepare(name, LENGTHS, output_dir=folder, num_workers=1, **changes)


def _task(path):
  [task] = manifest_lib.load(path).tasks
  return task


def _records(task):
  count = task.num_examples
  return [decode(r) for r in RecordReader([task]).read(np.zeros(count, int), np.arange(count))]


def _bad(task):
  return task.bad_examples['number'], [b['example'] for b in task.bad_examples['first']]


def test_an_example_that_fails_is_named_and_shown(tmp_path):
  with pytest.raises(UserError, match='Preparing a task failed') as error:
    _prepare(_add(fields=_failing_at(41)), tmp_path)
  message = str(error.value)
  assert 'task bad_10templates, split train, example 41' in message
  assert 'a broken line' in message and '--max_bad_examples' in message
  assert "column line: 'bad train line 41 and so on and so on" in message and 'field ' not in message
  assert max(map(len, message.splitlines())) < 400


def test_fields_are_shown_when_it_is_the_template_that_fails(tmp_path):
  def fields(example):
    answer = tf.where(_number(example) == 7, 'maybe', 'no')
    return {'text': tf.strings.join([example['line']] * 20), 'options': ['no', 'yes'], 'answer': answer}

  templates = [Template('{text} {options_}', '{answer}')]
  with pytest.raises(UserError, match='do not contain its answer') as error:
    _prepare(_add(fields=fields, templates=templates), tmp_path)
  message = str(error.value)
  assert 'example 7' in message and "field answer: 'maybe'" in message
  assert "field options: ['no', 'yes']" in message
  [text] = [line for line in message.splitlines() if 'field text' in line]
  assert text.endswith('...') and len(text) < 130


def test_the_example_is_found_behind_others_that_are_filtered_out(tmp_path):
  filter_fn = lambda x: (_number(x) < 10) | (_number(x) > 150)
  with pytest.raises(UserError, match='example 203\n'):
    _prepare(_add(fields=_failing_at(100, 203), filter_fn=filter_fn), tmp_path)


def test_as_many_as_allowed_are_left_out_and_told(tmp_path):
  good, bad = _add('good'), _add('bad', fields=_failing_at(0, 41, 42, 299))
  task = _task(_prepare(bad, tmp_path, max_bad_examples=4))
  assert _bad(task) == (4, [0, 41, 42, 299]) and task.num_examples == ROWS - 4
  assert all('a broken line' in b['reason'] for b in task.bad_examples['first'])
  everything = _records(_task(_prepare(good, tmp_path)))
  rest = [e for e in everything if e.example_id not in (0, 41, 42, 299)]
  for one, other in zip(_records(task), rest, strict=True):
    assert (one.example_id, one.template_id) == (other.example_id, other.template_id)
    assert np.array_equal(one.inputs, other.inputs) and np.array_equal(one.targets, other.targets)


def test_one_more_than_allowed_is_an_error_that_lists_them(tmp_path):
  with pytest.raises(UserError, match='More examples') as error:
    _prepare(_add(fields=_failing_at(5, 6, 7, 200)), tmp_path, max_bad_examples=2)
  message = str(error.value)
  assert all(f'example {k}: ' in message for k in (5, 6, 7)) and 'example 200' not in message
  assert 'expected: at most 2' in message
  assert not list(tmp_path.rglob('*.array_record'))


def test_what_is_prepared_does_not_depend_on_how_many_were_allowed(tmp_path):
  name = _add(fields=_failing_at(3, 9))
  first = _prepare(name, tmp_path, max_bad_examples=2)
  assert _prepare(name, tmp_path, max_bad_examples=50) == first
  anew = _prepare(name, tmp_path / 'anew', max_bad_examples=7)
  assert anew.read_bytes() == first.read_bytes()
  # It is there already, and may not be used.
  with pytest.raises(UserError, match='More examples') as error:
    _prepare(name, tmp_path, max_bad_examples=1)
  assert 'example 3: ' in str(error.value) and 'at most 1' in str(error.value)


def test_many_bad_examples_are_counted_and_the_first_told(tmp_path):
  task = _task(_prepare(_add(fields=_failing_at(*range(100, 112))), tmp_path, max_bad_examples=20))
  assert _bad(task) == (12, [100, 101, 102, 103, 104])


def _plain(name, preprocessor, add_eos=True):
  """A mixture of a task that SeqIO alone knows."""
  texts = functools.partial(prepared_tasks.texts, name='bad', sizes={'bad': ROWS})
  feature = seqio.Feature(seqio.ByteVocabulary(), add_eos=add_eos)
  seqio.TaskRegistry.add(
      name, source=seqio.FunctionDataSource(texts, ['train'], num_input_examples={'train': ROWS}),
      preprocessors=[
          preprocessor, lambda data: data.map(lambda x: {'inputs': x['text'], 'targets': x['answer']}),
          seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
      output_features={'inputs': feature, 'targets': feature})
  seqio.MixtureRegistry.add(f'{name}_mixture', [(name, 1.0)])
  return f'{name}_mixture'


def test_an_example_without_tokens_is_a_bad_one(tmp_path):
  def nothing_at_8(dataset):
    return dataset.map(lambda x: {'text': tf.where(_number(x) == 8, '', x['line']), 'answer': x['line']})

  name = _plain('no_eos', nothing_at_8, add_eos=False)
  with pytest.raises(UserError, match='empty inputs') as error:
    _prepare(name, tmp_path)
  assert 'example 8\n' in str(error.value)
  assert _bad(_task(_prepare(name, tmp_path, max_bad_examples=1))) == (1, [8])


def test_a_plain_seqio_task_tells_the_place_in_its_source(tmp_path):
  def broken(dataset):
    return dataset.filter(lambda x: _number(x) % 2 == 0).map(_failing_at(120))

  name = _plain('plain', broken)
  with pytest.raises(UserError, match='split train, example 120\n'):
    _prepare(name, tmp_path)
  task = _task(_prepare(name, tmp_path, max_bad_examples=1))
  assert _bad(task) == (1, [120]) and task.num_examples == ROWS // 2 - 1


def test_a_source_that_fails_is_never_a_bad_example(tmp_path):
  def lines(split, shuffle_files, seed=None):
    def rows():
      for i in range(ROWS):
        if i == 30:
          raise OSError('the disk is gone')
        yield f'bad {split} line {i}'
    dataset = tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec([], tf.string))
    return dataset.map(lambda line: {'line': line})

  source = seqio.FunctionDataSource(lines, ['train'], num_input_examples={'train': ROWS})
  with pytest.raises(UserError, match='the disk is gone') as error:
    _prepare(_add(source=source), tmp_path, max_bad_examples=ROWS)
  assert 'reading the source' in str(error.value)
  assert not list(tmp_path.rglob('*.array_record'))


def test_a_split_of_bad_examples_alone_is_refused(tmp_path):
  with pytest.raises(UserError, match='No example is left') as error:
    _prepare(_add(rows=4, fields=_failing_at(*range(4))), tmp_path, max_bad_examples=4)
  assert '4 fail' in str(error.value)


def test_a_number_below_zero_is_refused(tmp_path):
  with pytest.raises(UserError, match='negative'):
    _prepare('prep_a_10templates', tmp_path, max_bad_examples=-1)


def test_the_command_tells_what_it_left_out(tmp_path, capsys):
  name = _add(fields=_failing_at(41))
  arguments = ['prepare', name, '--inputs_length', '60', '--targets_length', '40', '--num_workers', '1',
               '--vocabulary', 'bytes', '--output_dir', str(tmp_path)]
  assert cli.main(arguments) == 1
  assert 'example 41' in capsys.readouterr().err
  assert cli.main([*arguments, '--max_bad_examples', '1']) == 0
  shown = capsys.readouterr()
  assert 'bad' in shown.out.splitlines()[0] and 'example 41: ' in shown.out
  assert cli.main([*arguments, '--max_bad_examples', '1', '--json']) == 0
  answer = json.loads(capsys.readouterr().out)
  assert answer['bad_examples'][name]['number'] == 1
  assert answer['bad_examples'][name]['first'][0]['example'] == 41
