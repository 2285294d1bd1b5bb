"""Prepared data that is damaged: it is named, and no batch is ever made of it."""

import json
import os

import numpy as np
import prepared_data
import pytest
import seqio
import tensorflow as tf

from flanjax.data import prepare
from flanjax.errors import UserError
from flanjax.input import files, manifest
from flanjax.input.mixture import open_mixture

LENGTHS = {'inputs': 64, 'targets': 16}


@pytest.fixture
def mixture(tmp_path):
  tasks = {name: prepared_data.examples(60, (12, 4), (64, 16), seed)
           for seed, name in enumerate(('a_10templates', 'b_10templates'))}
  return prepared_data.write_mixture(tmp_path, tasks, records_per_shard=40)


def _open(path, **changes):
  return open_mixture(path, **{'batch_size': 8, 'seed': 1, 'pack': False, **changes})


def _batches(source):
  return [source.batch(step) for step in range(30)]  # Every example twice.


def _shard(path, task=0, shard=1):
  found = manifest.load(path).tasks[task]
  return found.path / found.shards[shard].file


def _flip(path, bit):
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def _edit_task(path, **changes):
  content = json.loads(path.read_text())
  content['tasks'][0] |= changes
  prepared_data.edit_manifest(path, tasks=content['tasks'])


@pytest.mark.parametrize('damage, message', [
    (lambda path: _flip(path, 8 * path.stat().st_size // 2), 'corrupted'),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), 'truncated'),
    (lambda path: path.write_bytes(b''), 'truncated'),
    (lambda path: os.remove(path), 'missing'),
])
@pytest.mark.parametrize('what', ['shard', 'index'])
def test_damaged_files_are_found_before_the_first_batch(mixture, damage, message, what):
  task = manifest.load(mixture).tasks[0]
  path = task.path / (task.shards[1] if what == 'shard' else task.index).file
  damage(path)
  with pytest.raises(UserError, match=message) as error:
    _open(mixture)
  assert str(path) in str(error.value) and 'task a_10templates' in str(error.value)
  assert 'flanjax prepare' in str(error.value)


def test_flipped_bits_of_files_too_large_to_hash_are_found_when_they_are_read(mixture, monkeypatch):
  monkeypatch.setattr(files, 'HASH_UP_TO_BYTES', 0)
  expected, path = _batches(_open(mixture)), _shard(mixture)
  whole, found = path.read_bytes(), 0
  # Most of so small a file is padding.
  places = np.flatnonzero(np.frombuffer(whole, np.uint8))
  for place in np.random.default_rng(0).choice(places, 60, replace=False).tolist():
    bit = 8 * place + place % 8
    _flip(path, bit)
    try:
      batches = _batches(_open(mixture))
    except UserError as e:
      found += 1
      assert 'corrupted' in str(e) and str(path) in str(e), bit
    else:
      # It was a bit that says nothing about records.
      for one, other in zip(batches, expected):
        assert all(np.array_equal(one[key], other[key]) for key in one), bit
    path.write_bytes(whole)
  assert found > 40


def test_a_flipped_bit_of_an_index_is_found_however_large_the_data_is(mixture, monkeypatch):
  monkeypatch.setattr(files, 'HASH_UP_TO_BYTES', 0)
  task = manifest.load(mixture).tasks[1]
  index = task.path / task.index.file
  _flip(index, 8 * index.stat().st_size - 30)  # The number of a template.
  with pytest.raises(UserError, match='corrupted') as error:
    _open(mixture)
  assert str(index) in str(error.value)


def test_a_manifest_of_a_newer_format_is_refused(mixture):
  text = mixture.read_text()
  newer = manifest.FORMAT_VERSION + 1
  mixture.write_text(text.replace(f'"format_version": {newer - 1}', f'"format_version": {newer}'))
  with pytest.raises(UserError, match='newer flanjax') as error:
    _open(mixture)
  assert f'format {newer}' in str(error.value) and str(mixture) in str(error.value)


def test_a_manifest_whose_folders_are_gone_names_the_first_file(mixture):
  folder = manifest.load(mixture).tasks[1].path
  folder.rename(folder.with_name('elsewhere'))
  with pytest.raises(UserError, match='missing') as error:
    _open(mixture)
  assert 'task b_10templates' in str(error.value) and str(folder) in str(error.value)


def test_a_vocabulary_smaller_than_the_ids_is_refused(mixture):
  prepared_data.edit_manifest(mixture, vocab_size=100)
  with pytest.raises(UserError, match='not in the vocabulary') as error:
    _open(mixture)
  assert 'ids below 100' in str(error.value) and 'a_10templates' in str(error.value)


def test_ids_that_the_manifest_does_not_own_up_to_are_found_when_they_are_read(mixture):
  content = json.loads(mixture.read_text())
  for task in content['tasks']:
    for side in task['tokens'].values():
      side['max_id'] = 99
  prepared_data.edit_manifest(mixture, vocab_size=100, tasks=content['tasks'])
  with pytest.raises(UserError, match='not in the vocabulary'):
    _batches(_open(mixture))


@pytest.mark.parametrize('changes, message', [
    ({'rate': 0.0}, 'above zero'),
    ({'rate': -1.0}, 'above zero'),
    ({'num_examples': 0}, 'no example'),
    ({'num_examples': 59}, 'as many examples'),
])
def test_tasks_that_cannot_be_drawn_from_are_refused(mixture, changes, message):
  _edit_task(mixture, **changes)
  with pytest.raises(UserError, match=message) as error:
    _open(mixture)
  assert 'a_10templates' in str(error.value)


def test_a_task_whose_vocabulary_is_smaller_than_its_ids_is_not_prepared(tmp_path):
  small = seqio.PassThroughVocabulary(size=9, eos_id=1)
  rows = [[3, 4, 1], [3, 12, 1]]

  def source(split, shuffle_files, seed=None):
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    return dataset.map(lambda ids: {'inputs': tf.cast(ids, tf.int32), 'targets': tf.cast(ids, tf.int32)})

  feature = seqio.Feature(small, add_eos=False)
  seqio.TaskRegistry.add(
      'too_high', output_features={'inputs': feature, 'targets': feature}, preprocessors=[],
      source=seqio.FunctionDataSource(source, ['train'], num_input_examples={'train': 2}))
  try:
    with pytest.raises(UserError, match='not in the vocabulary') as error:
      prepare.prepare('too_high', LENGTHS, output_dir=tmp_path, num_workers=1)
  finally:
    seqio.TaskRegistry.remove('too_high')
  assert 'task too_high' in str(error.value) and 'ids below 9' in str(error.value)
  assert not list(tmp_path.rglob('*.array_record'))
