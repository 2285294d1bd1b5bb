"""Tests of `flanjax verify`: what it compares, and that it finds what is wrong."""

import json
import re

import forked
import jax
import numpy as np
import optax
import pytest
import toy_training

from flanjax import cli, partitioning
from flanjax.input import packing, synthetic
from flanjax.models import t5
from flanjax.training import loop, reporting, verification

LENGTHS = {'inputs': 12, 'targets': 8}
TINY = ['verify', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin',
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 16}", '--gin.VOCAB_SIZE=384',
        '--gin.t5.T5Config.num_encoder_layers=1', '--gin.t5.T5Config.num_decoder_layers=1']


def _source(**changes):
  return synthetic.SyntheticSource(**{
      'batch_size': 4, 'feature_lengths': LENGTHS, 'vocab_size': 16, **changes})


def _run(*flags):
  return forked.run(['-m', 'flanjax.cli', *TINY, *flags])


def test_the_shipped_configuration_keeps_every_equality_on_four_devices():
  done = _run('--json', "--gin.t5.T5Config.dtype='float32'", '--devices=4')
  assert done.returncode == 0, done.stderr[-2000:]
  checks = {c.pop('name'): c for c in json.loads(done.stdout)['checks']}
  assert list(checks) == [
      'packed = unpacked', '2 microbatches = whole batch', '1 device = data 4', '1 device = fsdp 4',
      '1 device = model 4', 'saved = restored', 'saved = read for evaluation',
      'resumed = uninterrupted']
  exact = ('saved = restored', 'saved = read for evaluation', 'resumed = uninterrupted')
  for name, check in checks.items():
    assert check['difference'] <= (0 if name in exact else 5e-5), name


def test_adapters_in_bfloat16_keep_them_too():
  done = _run('--gin_file=models/lora.gin', '--devices=1', '--checks', 'packing', 'microbatches')
  assert done.returncode == 0, done.stderr[-2000:]
  assert done.stdout.endswith('all 2 hold\n')
  assert 'FAILS' not in done.stdout


def test_synthetic_rows_are_packed_and_the_same_each_time():
  source, batch = _source(), _source().batch(3)
  assert batch['decoder_segment_ids'].max() > 1
  for name, x in source.batch(3, (1, 3)).items():
    np.testing.assert_array_equal(x, batch[name][1:3])
  assert not np.array_equal(source.batch(4)['encoder_input_tokens'], batch['encoder_input_tokens'])
  assert 'decoder_segment_ids' not in _source(pack=False).batch(0)


def test_unpacked_rows_hold_one_example_each():
  lengths = np.array([[3, 2], [2, 2], [4, 3]])
  inputs, targets = np.array([7, 8, 1, 9, 1, 5, 6, 7, 1], np.int32), np.array([5, 1, 6, 1, 4, 3, 1], np.int32)
  starts = np.array([0, 2, 3])
  packed = packing.batch_arrays(inputs, targets, lengths, starts, (6, 5), packed=True)
  alone = packing.unpacked(packed)
  np.testing.assert_array_equal(alone['encoder_input_tokens'], [
      [7, 8, 1, 0, 0, 0], [9, 1, 0, 0, 0, 0], [5, 6, 7, 1, 0, 0]])
  np.testing.assert_array_equal(alone['decoder_target_tokens'], [
      [5, 1, 0, 0, 0], [6, 1, 0, 0, 0], [4, 3, 1, 0, 0]])
  np.testing.assert_array_equal(alone['decoder_input_tokens'], [
      [0, 5, 0, 0, 0], [0, 6, 0, 0, 0], [0, 4, 3, 0, 0]])
  assert sorted(alone) == ['decoder_input_tokens', 'decoder_loss_weights',
                           'decoder_target_tokens', 'encoder_input_tokens']


class _Leaking(t5.EncoderDecoderModel):
  """Its attention does not know segments."""

  def score_tokens(self, params, batch):
    return super().score_tokens(params, {k: v for k, v in batch.items() if 'segment' not in k})


class _Averaging(t5.EncoderDecoderModel):
  """Its loss is a mean, as where a mean is taken for each microbatch."""

  def loss_fn(self, params, batch, rng=None):
    loss, metrics = super().loss_fn(params, batch, rng)
    return loss / metrics['weight_sum'], metrics | {'weight_sum': metrics['weight_sum'] * 0 + 1}


def test_examples_that_see_their_neighbours_are_found():
  model, params, batch = toy_training.toy_model(), toy_training.toy_params(), _source().batch(0)
  assert verification.packing(model, params, batch).holds
  assert not verification.packing(_Leaking(model.config), params, batch).holds


def test_means_of_ragged_microbatches_are_found(monkeypatch):
  model, params, batch = toy_training.toy_model(), toy_training.toy_params(), _source().batch(0)
  assert verification.microbatches(model, params, {}, batch, 2).holds
  monkeypatch.setattr(verification.t5, 'EncoderDecoderModel', _Averaging)
  assert not verification.microbatches(model, params, {}, batch, 2).holds


def test_a_run_that_goes_on_elsewhere_is_found(tmp_path):
  class Drifting(loop.Trainer):
    """What it goes on with is not what was saved."""

    def _restore_or_init(self, checkpointer):
      state = super()._restore_or_init(checkpointer)
      return state._replace(params=jax.tree.map(lambda x: x * 1.0001, state.params))

  def trainer(**arguments):
    mesh = partitioning.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    return Drifting(toy_training.toy_model(), toy_training.toy_optimizer(), mesh=mesh,
                    batch_source=_source(), reporting=reporting.Reporting(tensorboard=False),
                    **arguments)

  checks = verification.resuming(trainer, tmp_path)
  assert {c.name: c.holds for c in checks} == {
      'saved = restored': True, 'saved = read for evaluation': True,
      'resumed = uninterrupted': False}


def test_what_is_not_finite_does_not_hold():
  nan = {'a': np.array([1.0, np.nan])}
  assert not verification.Check('a', 'b', verification.difference(nan, {'a': np.ones(2)}), 1.0).holds


@pytest.mark.parametrize('flags, words', [
    (('--rows=3', '--devices=2'), '--rows does not divide'),
    (('--devices=0',), '--devices must be at least 1'),
    (('--checks', 'packings'), "packings.*did you mean packing"),
])
def test_wrong_flags_are_refused(flags, words):
  done = _run(*flags)
  assert done.returncode == 2
  assert re.search(words, done.stderr, re.DOTALL), done.stderr


def test_a_configuration_is_needed(capsys):
  assert cli.main(['verify']) == 2
  assert '--gin_file' in capsys.readouterr().err


def test_the_recorder_keeps_gradients_and_changes_nothing():
  recorder, params = verification._recorder(), {'a': np.ones(2, np.float32)}
  updates, state = recorder.update({'a': np.array([1., 2.])}, recorder.init(params))
  np.testing.assert_array_equal(optax.apply_updates(params, updates)['a'], params['a'])
  np.testing.assert_array_equal(state['a'], [1., 2.])
