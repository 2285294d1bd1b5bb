"""However the layers are run, and gradients laid out, the numbers are those of the plain form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanjax.errors import UserError
from flanjax.models import attention, linear, t5

CONFIG = t5.T5Config(40, 16, 2, 8, 24, 3, 2, dropout_rate=0.2)


def _batch():
  rng = np.random.default_rng(0)
  inputs, targets = (rng.integers(2, 40, (3, n)).astype(np.int32) for n in (9, 6))
  inputs[0, 7:] = targets[1, 4:] = 0
  return {'encoder_input_tokens': inputs, 'decoder_target_tokens': targets,
          'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1]}


def _loss_and_gradients(params, **changes):
  model = t5.EncoderDecoderModel(dataclasses.replace(CONFIG, **changes))
  step = jax.jit(jax.value_and_grad(lambda p: model.loss_fn(p, _batch(), jax.random.key(1))[0]))
  return step(params)


def _assert_close(found, expected, rtol=2e-5):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(jnp.max(jnp.abs(b))))


@pytest.fixture(scope='module')
def plain():
  params = t5.EncoderDecoderModel(CONFIG).init(jax.random.key(0))
  return params, _loss_and_gradients(params)


@pytest.mark.parametrize('changes', [
    {'scan_layers': True}, {'remat': 'minimal'}, {'remat': 'full', 'scan_layers': True}], ids=str)
def test_scanned_and_recomputed_layers_give_the_loss_and_gradients_of_plain_ones(plain, changes):
  params, expected = plain
  _assert_close(_loss_and_gradients(params, **changes), expected)


def test_scanned_layers_may_have_relative_positions_of_their_own():
  config = dataclasses.replace(CONFIG, relpos_per_layer=True)
  params = t5.EncoderDecoderModel(config).init(jax.random.key(0))
  _assert_close(_loss_and_gradients(params, relpos_per_layer=True, scan_layers=True),
                _loss_and_gradients(params, relpos_per_layer=True))


def test_a_scanned_layer_is_in_the_program_once():
  def loops(**changes):
    model = t5.EncoderDecoderModel(dataclasses.replace(CONFIG, dropout_rate=0.0, **changes))
    text = jax.jit(lambda p: model.loss_fn(p, _batch())[0]).lower(model.param_shapes()).as_text()
    return text.count('stablehlo.while'), text.count('stablehlo.tanh')

  assert loops() == (0, 5) and loops(scan_layers=True) == (2, 2)


@pytest.mark.parametrize('chunk', [2, 4, 6, 50])  # Targets are 6 tokens long.
def test_logits_in_chunks_give_the_loss_and_gradients_of_all_at_once(plain, chunk):
  params, expected = plain
  _assert_close(_loss_and_gradients(params, logits_chunk=chunk), expected)


def test_with_chunks_no_more_logits_are_in_memory_than_those_of_one():
  def widest(**changes):
    model = t5.EncoderDecoderModel(dataclasses.replace(CONFIG, **changes))
    step = jax.grad(lambda p: model.loss_fn(p, _batch(), jax.random.key(1))[0])
    text = jax.jit(step).lower(model.param_shapes()).as_text()
    return max(n for n in range(1, 7) if f'tensor<3x{n}x40xf32>' in text)

  assert (widest(), widest(logits_chunk=2)) == (6, 2)


def test_the_library_s_attention_gives_the_loss_of_the_plain_one(plain):
  params, _ = plain
  losses = [_loss_and_gradients(params, dropout_rate=0.0, attention=name) for name in ('plain', 'xla')]
  _assert_close(losses[1], losses[0], rtol=1e-4)


@pytest.mark.parametrize('field, value', [('remat', 'some'), ('attention', 'flash')])
def test_an_unknown_choice_is_an_error(field, value):
  with pytest.raises(UserError, match=f'(?s){field} not known.*{value}'):
    dataclasses.replace(CONFIG, **{field: value})


@pytest.mark.parametrize('shape', [(5, 3), (3, 5)])
def test_a_projection_s_gradients_are_those_of_a_matrix_product(shape):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(2, 4, shape[0])), rng.normal(size=shape)
  x, kernel = x.astype(np.float32), kernel.astype(np.float32)
  loss = lambda product: jax.grad(lambda x, k: jnp.sum(jnp.sin(product(x, k))), (0, 1))(x, kernel)
  _assert_close(loss(linear.project), loss(jnp.matmul))


def test_a_kernel_s_gradient_is_summed_in_float32_whatever_the_activations():
  x = jnp.ones((1, 4096, 2), jnp.bfloat16) / 3
  grads = jax.grad(lambda k: jnp.sum(linear.project(x, k).astype(jnp.float32)))(jnp.ones((2, 3)))
  # 4096 times bfloat16(1/3), which bfloat16 itself could only tell to eight bits.
  np.testing.assert_allclose(grads, 4096 * float(x[0, 0, 0]), rtol=1e-6)
  assert grads.dtype == jnp.float32


def test_attention_s_gradients_are_those_of_autodiff_with_bias_mask_and_dropout():
  rng = np.random.default_rng(0)
  query, key, value = (jnp.asarray(rng.normal(size=(2, n, 3, 4)), jnp.float32) for n in (5, 6, 6))
  bias = jnp.asarray(rng.normal(size=(1, 3, 5, 6)), jnp.float32)
  allowed = jnp.asarray(rng.random((2, 5, 6)) < 0.7).at[:, :, 0].set(True)
  keep = jnp.asarray(rng.random((2, 3, 1, 6)) < 0.8, jnp.float32) / 0.8

  def simple(query, key, value, bias):
    logits = jnp.einsum('bqhd,bkhd->bhqk', query, key) + bias
    weights = jax.nn.softmax(jnp.where(allowed[:, None], logits, attention.MASKED)) * keep
    return jnp.einsum('bhqk,bkhd->bqhd', weights, value)

  ours = lambda *args: attention.dot_product_attention(*args, allowed, keep)
  gradients = lambda f: jax.grad(lambda *args: jnp.sum(jnp.cos(f(*args))), (0, 1, 2, 3))(
      query, key, value, bias)
  np.testing.assert_allclose(ours(query, key, value, bias), simple(query, key, value, bias), rtol=1e-5, atol=1e-6)
  _assert_close(gradients(ours), gradients(simple))
