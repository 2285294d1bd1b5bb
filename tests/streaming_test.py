import collections
import json

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
import toy_training

from flanjax.data import TaskSpec, Template, metrics, mixtures, register, specs, vocabularies
from flanjax.data.streaming import StreamingSource
from flanjax.errors import UserError
from flanjax.training import loop, saving

MIXTURE, LENGTHS = 'streamed_all_train', {'inputs': 64, 'targets': 16}
TASK = 'streamed_one_10templates'
TEMPLATES = [Template('{text}: good?\n{options_}', '{answer}'), Template('Is this good? {text}', '{answer}')]


def _source(name):
  def dataset(split, shuffle_files, seed=None):
    texts = [f'{name} {split} {i}' + ' x' * (i % 9) for i in range(300)]
    return tf.data.Dataset.from_tensor_slices({'text': texts})

  return seqio.FunctionDataSource(dataset, ['train', 'test'], num_input_examples={'train': 300, 'test': 300})


def _fields(example):
  return {'text': example['text'], 'options': ['no', 'yes'], 'answer': 'yes'}


@pytest.fixture(autouse=True, scope='module')
def suite():
  vocabularies.set_default('bytes')
  for name, cluster in (('streamed_one', 'qa'), ('streamed_two', 'nli')):
    register(TaskSpec(name, cluster, _source(name), _fields, TEMPLATES, [metrics.accuracy], suite='streamed'))
  names = mixtures.register_suite_mixtures('streamed')
  yield
  vocabularies.set_default(None)
  for name in names:
    seqio.MixtureRegistry.remove(name)
  for spec in specs.all_specs('streamed'):
    specs.unregister(spec.name)


def _open(name=TASK, **changes):
  settings = {'batch_size': 8, 'feature_lengths': LENGTHS, 'seed': 1, 'snapshot_period': 4}
  return StreamingSource(name, **(settings | changes))


def _batches(source, steps):
  return [source.batch(step) for step in steps]


def _same(one, two):
  return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize('pack', [True, False])
def test_a_batch_is_what_seqio_gives_a_t5x_user(pack):
  ours = _batches(_open(pack=pack), range(3))
  theirs = seqio.get_dataset(
      TASK, task_feature_lengths=LENGTHS, dataset_split='train', shuffle=True, num_epochs=None, seed=1, batch_size=8,
      feature_converter=seqio.EncDecFeatureConverter(pack=pack))
  for batch, expected in zip(ours, theirs.as_numpy_iterator()):
    assert _same(batch, expected)
    assert batch['decoder_loss_weights'].dtype == np.float32


def test_a_run_goes_on_with_the_batch_that_follows(tmp_path):
  whole = _batches(_open(MIXTURE), range(14))
  for stop in (2, 8, 11):
    first = _open(MIXTURE)
    # Two batches are read ahead of training, as the prefetcher does.
    _batches(first, range(stop + 2))
    first.save(tmp_path / f'state{stop}', stop)
    second = _open(MIXTURE)
    second.restore(tmp_path / f'state{stop}', stop)
    for step in range(stop, 14):
      assert _same(second.batch(step), whole[step]), (stop, step)


def test_batches_come_in_order_or_not_at_all(tmp_path):
  source = _open()
  _batches(source, range(2))
  with pytest.raises(UserError, match='in order'):
    source.batch(5)
  assert _same(source.batch(0), _open().batch(0))
  with pytest.raises(UserError, match='cannot be read'):
    source.restore(tmp_path, 3)
  source.save(tmp_path, 1)
  with pytest.raises(UserError, match='another step'):
    source.restore(tmp_path, 3)


def test_a_state_that_is_damaged_or_of_other_data_is_refused(tmp_path):
  source = _open()
  _batches(source, range(6))
  source.save(tmp_path, 5)
  for path in tmp_path.glob('iterator*'):
    path.unlink()
  other = _open()
  other.restore(tmp_path, 5)
  with pytest.raises(UserError, match='cannot be read') as error:
    other.batch(5)
  assert str(tmp_path) in str(error.value)


def test_hosts_read_disjoint_parts():
  hosts = [_open(pack=False, shuffle=False) for _ in range(2)]
  texts = [
      [tuple(row) for step in range(20)
       for row in source.batch(step, (4 * i, 4 * i + 4))['encoder_input_tokens'].tolist()]
      for i, source in enumerate(hosts)
  ]
  assert len(texts[0]) == 80 and not set(texts[0]) & set(texts[1])
  with pytest.raises(UserError, match='equal parts'):
    _open().batch(0, (0, 3))


def test_an_audit_of_a_stream_tells_the_whole():
  source, counts = _open(MIXTURE), collections.Counter()
  tokens = 0
  for step in range(5):
    tokens += int((source.batch(step)['decoder_target_tokens'] > 0).sum())
    counts.update(source.tally(step))
  found = source.audit(counts)
  assert found['steps'] == 5 and found['tokens']['targets'] == tokens and found['tasks'] == []


def test_settings_are_told_apart_and_tasks_can_be_left_out():
  one = _open(MIXTURE)
  assert one.fingerprint == _open(MIXTURE).fingerprint
  others = [_open(MIXTURE, seed=2), _open(MIXTURE, pack=False), _open(TASK),
            _open(MIXTURE, skipped={TASK: 'gone'})]
  assert len({one.fingerprint, *(o.fingerprint for o in others)}) == 5
  assert TASK not in {t.name for t in others[-1].manifest.tasks}
  assert one.manifest.vocab_size == one.vocab_size and {t.cluster for t in others[2].manifest.tasks} == {'qa'}


def _train(folder, total_steps):
  trainer = loop.Trainer(
      toy_training.toy_model(vocab_size=384), toy_training.toy_optimizer(), model_dir=folder,
      total_steps=total_steps, batch_source=_open(MIXTURE, pack=False), seed=0, saving=saving.Saving(3, keep=2))
  return jax.device_get(trainer.run().params)


def test_a_trainer_goes_on_with_a_stream_as_if_never_stopped(tmp_path):
  whole = _train(tmp_path / 'whole', 11)
  _train(tmp_path / 'parts', 7)
  jax.tree.map(np.testing.assert_array_equal, _train(tmp_path / 'parts', 11), whole)
  # A checkpoint that is being deleted may keep its state until the next one.
  steps = {int(p.name) for p in (tmp_path / 'parts' / 'stream').iterdir()}
  assert {9, 11} <= steps and 3 not in steps
  audit = [json.loads((tmp_path / run / 'train' / 'audit.json').read_text()) for run in ('whole', 'parts')]
  assert audit[0] == audit[1] and audit[0]['steps'] == 11 and audit[0]['examples'] == 88
