"""Tests of the T5 network and of the model's pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_training

from flanjax import errors
from flanjax.interop import safetensors
from flanjax.models import t5


def _pack(first, second):
  """Two batches of as many rows -> one, whose rows hold a row of each, padding between."""
  packed = {}
  for side, keys in (('encoder', ['encoder_input_tokens']),
                     ('decoder', ['decoder_target_tokens', 'decoder_input_tokens',
                                  'decoder_loss_weights'])):
    for key in keys:
      packed[key] = np.concatenate([first[key], second[key]], axis=1)
    tokens = [b[keys[0]] > 0 for b in (first, second)]
    packed[f'{side}_segment_ids'] = np.concatenate([tokens[0] * 1, tokens[1] * 2], axis=1)
  return packed


def test_packed_rows_have_the_logits_of_their_parts():
  params, logits = toy_training.toy_params(), toy_training.toy_logits()
  parts = toy_training.ToySource().batch(0), toy_training.ToySource().batch(1)
  packed = logits(params, _pack(*parts))
  for part, found in zip(parts, (packed[:, :4], packed[:, 4:])):
    real = part['decoder_target_tokens'] > 0
    np.testing.assert_allclose(found[real], logits(params, part)[real], atol=2e-5)


def test_nothing_is_seen_of_later_targets_nor_of_padding():
  params, logits = toy_training.toy_params(), toy_training.toy_logits()
  batch = toy_training.ToySource().batch(3)
  before = logits(params, batch)
  later = {k: v.copy() for k, v in batch.items()}
  later['decoder_input_tokens'][:, 1:] = 5
  np.testing.assert_array_equal(before[:, 0], logits(params, later)[:, 0])
  wider = {**batch, 'encoder_input_tokens':
           np.pad(batch['encoder_input_tokens'], ((0, 0), (0, 3)))}
  real = batch['decoder_target_tokens'] > 0
  np.testing.assert_allclose(before[real], logits(params, wider)[real], atol=1e-5)


def test_bfloat16_keeps_parameters_and_logits_in_float32():
  params, batch = toy_training.toy_params(), toy_training.ToySource().batch(0)
  shapes = toy_training.toy_model(dtype='bfloat16').param_shapes()
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(shapes))
  logits = toy_training.toy_logits(dtype='bfloat16')(params, batch)
  assert logits.dtype == jnp.float32
  exact = toy_training.toy_logits()(params, batch)
  assert np.abs(exact).max() > 0.5
  np.testing.assert_allclose(logits, exact, atol=0.1)


def test_dropout_follows_the_key_and_no_key_means_none():
  params, batch = toy_training.toy_params(), toy_training.ToySource().batch(0)
  logits = toy_training.toy_logits(dropout_rate=0.5)
  first, again, other = [logits(params, batch, jax.random.key(k)) for k in (1, 1, 2)]
  assert (first == again).all() and (first != other).any()
  np.testing.assert_array_equal(logits(params, batch), toy_training.toy_logits()(params, batch))


def test_score_is_the_weighted_log_likelihood_of_each_row():
  params, batch = toy_training.toy_params(), toy_training.ToySource().batch(0)
  scores = jax.jit(toy_training.toy_model().score_batch)(params, batch)
  logits = np.asarray(toy_training.toy_logits()(params, batch), np.float64)
  probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  targets, weights = batch['decoder_target_tokens'], batch['decoder_loss_weights']
  of_targets = np.take_along_axis(probabilities, targets[..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(scores, (np.log(of_targets) * weights).sum(-1), rtol=1e-5)


def test_every_dimension_has_a_logical_axis():
  model, params = toy_training.toy_model(), toy_training.toy_params()
  axes = safetensors.flatten(model.logical_axes())
  shapes = safetensors.flatten(params)
  assert {k: len(v) for k, v in axes.items()} == {k: v.ndim for k, v in shapes.items()}
  assert axes['encoder/layers_0/attention/query/kernel'] == ('embed', 'joined_kv')
  assert t5.param_count(params) == t5.param_count(model.param_shapes())


def test_small_t5_1_1_has_its_published_size():
  config = t5.T5Config(vocab_size=32128, emb_dim=512, num_heads=6, head_dim=64, mlp_dim=1024,
                       num_encoder_layers=8, num_decoder_layers=8)
  assert t5.param_count(t5.EncoderDecoderModel(config).param_shapes()) == 76_961_152


def test_a_folder_describes_its_model(tmp_path):
  config = toy_training.toy_model(mlp_activations=('relu',), logits_via_embedding=True).config
  (tmp_path / 'model.json').write_text(t5.to_json(config, vocabulary='mini'))
  assert t5.from_folder(tmp_path).config == config
  with pytest.raises(errors.UserError, match='no model.json'):
    t5.from_folder(tmp_path / 'elsewhere')
  (tmp_path / 'model.json').write_text('{"config": {"vocab_size": 0}}')
  with pytest.raises(errors.UserError, match='model.json cannot be read'):
    t5.from_folder(tmp_path)


@pytest.mark.parametrize('field, value', [
    ('emb_dim', 0), ('dropout_rate', 1.0), ('dtype', 'float16'), ('mlp_activations', ('gelo',))])
def test_sizes_that_make_no_model_are_refused(field, value):
  with pytest.raises(errors.UserError, match=field if field != 'mlp_activations' else 'activation'):
    toy_training.toy_model(**{field: value})


def test_safetensors_give_back_what_they_were_given(tmp_path):
  params = toy_training.toy_params()
  path = tmp_path / 'params.safetensors'
  safetensors.save_params(path, params, {'step': '7'})
  loaded, metadata = safetensors.load_params(path)
  assert metadata == {'step': '7'}
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(errors.UserError, match='no whole safetensors file'):
    safetensors.load_params(path)
  with pytest.raises(errors.UserError, match='no such file'):
    safetensors.load_params(tmp_path / 'none.safetensors')
