"""Tests of LoRA's factors and of soft prompts, as parts of the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_training

from flanjax import errors
from flanjax.evaluation import predict
from flanjax.interop import layout, safetensors
from flanjax.models import layers, lora, prompts, t5
from flanjax.training.state import merge, split

LORA = lora.Lora(rank=2, alpha=8.0)
ATTENTION = r'.*attention/(query|value)'


def _model(**overrides):
  return toy_training.toy_model(**{'lora': LORA, **overrides})


def _trained(model, seed=0):
  """Parameters whose second factors are not zero."""
  params = model.init(jax.random.key(seed))
  rng = np.random.default_rng(seed)
  draw = lambda path, x: (
      jnp.asarray(rng.normal(size=x.shape, scale=0.3), jnp.float32)
      if path[-1].key == 'lora_b' else x)
  return jax.tree_util.tree_map_with_path(draw, params)


def test_at_the_start_the_outputs_are_the_base_s_bit_for_bit():
  batch, params = toy_training.ToySource().batch(0), _model().init(jax.random.key(0))
  kernels, _ = split(params, lambda name: 'lora' not in name)
  jax.tree.map(np.testing.assert_array_equal, kernels, toy_training.toy_params())
  expected = toy_training.toy_logits()(toy_training.toy_params(), batch)
  np.testing.assert_array_equal(jax.jit(_model().logits)(params, batch), expected)


@pytest.mark.parametrize('activations', [('relu',), ('gelu', 'linear')])
def test_merged_weights_compute_what_those_kept_apart_do(activations):
  model = _model(mlp_activations=activations)
  base = toy_training.toy_model(mlp_activations=activations)
  params, batch = _trained(model), toy_training.ToySource().batch(1)
  merged = lora.merge(params, LORA.scale)
  assert jax.tree.structure(merged) == jax.tree.structure(base.param_shapes())
  expected = jax.jit(model.logits)(params, batch)
  plain = jax.jit(base.logits)(split(params, lambda name: 'lora' not in name)[0], batch)
  assert np.abs(expected - plain).max() > 0.05
  np.testing.assert_allclose(jax.jit(base.logits)(merged, batch), expected, atol=2e-5)
  # The network with factors takes a tree without them too.
  np.testing.assert_array_equal(
      jax.jit(model.logits)(merged, batch), jax.jit(base.logits)(merged, batch))


@pytest.mark.parametrize('rslora', [False, True])
def test_a_projection_follows_the_formula_of_peft(rslora):
  """PEFT's Linear: W x + B (A x) * alpha / r, or alpha / sqrt(r); A [r, in], B [out, r]."""
  rng = np.random.default_rng(0)
  x, w, a, b = (rng.normal(size=s) for s in ((3, 5), (7, 5), (4, 5), (7, 4)))
  scaling = 6.0 / (np.sqrt(4) if rslora else 4)
  expected = x @ w.T + x @ a.T @ b.T * scaling
  dense = layers.Dense(7, ('embed', 'mlp'), jnp.float32,
                       lora=lora.Lora(rank=4, alpha=6.0, modules='.*', rslora=rslora))
  params = {'kernel': w.T, 'lora_a': a.T, 'lora_b': b.T}
  found = dense.apply({'params': jax.tree.map(jnp.float32, params)}, jnp.float32(x))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_first_factor_is_drawn_as_peft_draws_it_and_the_second_is_zero():
  a = np.asarray(lora.a_init(jax.random.key(0), (400, 50), jnp.float32))
  assert 0.99 / 20 < np.abs(a).max() <= 1 / 20
  assert a.std() == pytest.approx(1 / np.sqrt(3 * 400), rel=0.02)
  params = safetensors.flatten(_model().init(jax.random.key(0)))
  assert not any(np.any(x) for name, x in params.items() if name.endswith('lora_b'))


def test_dropout_is_of_the_factors_input_alone():
  model = _model(lora=dataclasses.replace(LORA, dropout=0.5))
  params, batch = _trained(model), toy_training.ToySource().batch(0)
  logits = jax.jit(model.logits)
  without = logits(params, batch)
  assert np.any(logits(params, batch, jax.random.key(0)) != without)
  np.testing.assert_array_equal(without, jax.jit(_model().logits)(params, batch))
  start = model.init(jax.random.key(0))
  np.testing.assert_array_equal(logits(start, batch, jax.random.key(0)), logits(start, batch))


@pytest.mark.parametrize('overrides', [
    {}, {'lora': lora.Lora(3, modules=ATTENTION)}, {'lora': lora.Lora(modules='decoder/.*')},
    {'lora': None, 'prompt_length': 3}, {'prompt_length': 3, 'logits_via_embedding': True},
    {'mlp_activations': ('relu',), 'num_decoder_layers': 2}])
def test_names_and_shapes_are_known_without_the_network(overrides):
  model = _model(**overrides)
  found = {name: x.shape for name, x in safetensors.flatten(model.param_shapes()).items()}
  assert found == layout.shapes(model.config)
  axes = safetensors.flatten(model.logical_axes())
  assert {name: len(x) for name, x in axes.items()} == {n: len(s) for n, s in found.items()}
  if model.config.lora:
    adapted = {name.removesuffix('/lora_a') for name in found if name.endswith('/lora_a')}
    paths = set(lora.module_paths(model.config))
    assert adapted == {path for path in paths if model.config.lora.adapts(path)} and adapted


def test_modules_are_chosen_by_pattern():
  names = safetensors.flatten(_model(lora=lora.Lora(modules=ATTENTION)).param_shapes())
  adapted = {name.rsplit('/', 2)[1] for name in names if name.endswith('lora_a')}
  assert adapted == {'query', 'value'}
  assert all(name.startswith('decoder/logits_dense') for name in safetensors.flatten(
      _model(lora=lora.Lora(modules='.*logits_dense')).param_shapes()) if 'lora' in name)


def test_a_pattern_of_no_module_is_refused():
  with pytest.raises(errors.UserError, match='encoder/layers_0/attention/query'):
    _model(lora=lora.Lora(modules='.*/q'))
  for wrong in ({'rank': 0}, {'rank': True}, {'dropout': 1.0}, {'modules': '('}):
    with pytest.raises(errors.UserError, match=next(iter(wrong))):
      lora.Lora(**wrong)


def test_a_folder_describes_its_adapters(tmp_path):
  config = _model(prompt_length=4, prompt_reads_inputs=True).config
  (tmp_path / 'model.json').write_text(t5.to_json(config))
  assert t5.from_folder(tmp_path).config == config
  assert hash(config) and config.base.adapters is None
  assert config.base == toy_training.toy_model().config
  assert t5.from_folder(tmp_path, merged=True).config.lora is None


def _generate(model, params, tokens, steps, eos_id=1):
  inputs = [[int(t) for t in row if t] for row in tokens]
  return predict.Predictor(model, params, batch_size=4, eos_id=eos_id).generate(inputs, steps)


def test_decoding_uses_the_factors():
  model = _model()
  params, batch = _trained(model, 4), toy_training.ToySource().batch(2)
  merged = lora.merge(params, LORA.scale)
  tokens = batch['encoder_input_tokens']
  assert _generate(model, params, tokens, 5) == _generate(toy_training.toy_model(), merged, tokens, 5)


def _pack(first, second):
  """Two batches -> one whose rows hold a row of each, one after the other."""
  packed = {}
  for key in first:
    packed[key] = np.concatenate([first[key], second[key]], axis=1)
  for side, key in (('encoder', 'encoder_input_tokens'), ('decoder', 'decoder_target_tokens')):
    tokens = [b[key] > 0 for b in (first, second)]
    packed[f'{side}_segment_ids'] = np.concatenate([tokens[0] * 1, tokens[1] * 2], axis=1)
  return packed


def test_packed_examples_have_the_loss_that_each_has_alone_under_a_prompt():
  model = toy_training.toy_model(prompt_length=3)
  params, logits = model.init(jax.random.key(2)), jax.jit(model.logits)
  parts = toy_training.ToySource().batch(0), toy_training.ToySource().batch(1)
  packed = logits(params, _pack(*parts))
  for part, found in zip(parts, (packed[:, :4], packed[:, 4:])):
    real = part['decoder_target_tokens'] > 0
    np.testing.assert_allclose(found[real], logits(params, part)[real], atol=2e-5)
  loss = lambda batch: jax.jit(model.loss_fn)(params, batch)[0]
  np.testing.assert_allclose(loss(_pack(*parts)), sum(map(loss, parts)), rtol=1e-5)


def test_a_prompt_changes_every_target_and_padding_changes_none():
  model = toy_training.toy_model(prompt_length=3)
  params, batch = model.init(jax.random.key(2)), toy_training.ToySource().batch(0)
  logits, real = jax.jit(model.logits), batch['decoder_target_tokens'] > 0
  before = logits(params, batch)
  other = merge(split(params, lambda name: 'prompt' not in name)[0],
                {'prompt': {'embedding': params['prompt']['embedding'][::-1] * 2}})
  assert np.all(np.any(logits(other, batch) != before, axis=-1)[real])
  wider = {**batch, 'encoder_input_tokens':
           np.pad(batch['encoder_input_tokens'], ((0, 0), (0, 3)))}
  np.testing.assert_allclose(before[real], logits(params, wider)[real], atol=1e-5)


def test_a_prompt_that_reads_the_inputs_is_tokens_before_them():
  """Lester et al. 2021: as if the inputs began with tokens of these embeddings."""
  model = toy_training.toy_model(prompt_length=2, prompt_reads_inputs=True)
  params, batch = model.init(jax.random.key(1)), toy_training.ToySource().batch(0)
  tokens = np.array([3, 7])
  params['prompt']['embedding'] = params['token_embedder']['embedding'][tokens]
  longer = {**batch, 'encoder_input_tokens': np.concatenate(
      [np.tile(tokens, (8, 1)), batch['encoder_input_tokens']], axis=1).astype(np.int32)}
  base = {name: value for name, value in params.items() if name != 'prompt'}
  real = batch['decoder_target_tokens'] > 0
  np.testing.assert_allclose(jax.jit(model.logits)(params, batch)[real],
                             toy_training.toy_logits()(base, longer)[real], atol=1e-5)
  with pytest.raises(errors.UserError, match='rows of one example'):
    model.loss_fn(params, _pack(batch, batch))


def test_a_prompt_begins_at_embeddings_of_common_tokens():
  embedding = jax.random.normal(jax.random.key(0), (60, 4))
  found = np.asarray(prompts.from_vocabulary(jax.random.key(1), embedding, 10))
  rows = [int(np.flatnonzero((np.asarray(embedding) == row).all(1))[0]) for row in found]
  assert len(set(rows)) == 10 and min(rows) >= 3
  model = toy_training.toy_model(prompt_length=5)
  base = toy_training.toy_params(9)
  started = model.init(jax.random.key(0), base=base)['prompt']['embedding']
  assert all((base['token_embedder']['embedding'] == row).all(1).any() for row in started)


def test_scores_and_predictions_agree_under_a_prompt():
  model = toy_training.toy_model(prompt_length=3)
  params, source = model.init(jax.random.key(3)), toy_training.ToySource().batch(0)
  inputs = {'encoder_input_tokens': source['encoder_input_tokens']}
  tokens = np.array(_generate(model, params, source['encoder_input_tokens'], 3, eos_id=-1))
  batch = {**inputs, 'decoder_target_tokens': tokens,
           'decoder_input_tokens': np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]}
  logits = np.array(jax.jit(model.logits)(params, batch))
  logits[..., 0] = -np.inf
  np.testing.assert_array_equal(logits.argmax(-1), tokens)
