"""Tests of greedy decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import toy_training

from flanjax.models import decoding

STEPS = 7


def _greedy_without_cache(model, params, source, eos_id):
  """Feeds the whole prefix anew at every position, through the training network."""
  logits_of = jax.jit(model.logits)
  output = np.zeros((len(source), STEPS), np.int32)
  ended = np.zeros(len(source), bool)
  for i in range(STEPS):
    batch = {
        'encoder_input_tokens': source,
        'decoder_input_tokens': np.pad(output, ((0, 0), (1, 0)))[:, :-1],
        'decoder_target_tokens': np.ones_like(output),
    }
    logits = np.array(logits_of(params, batch)[:, i])
    logits[:, 0] = -np.inf
    output[:, i] = np.where(ended, 0, logits.argmax(-1))
    ended |= output[:, i] == eos_id
  return output


def test_cached_decoding_is_decoding_without_cache():
  model = toy_training.toy_model(num_decoder_layers=2)
  # Parameters larger than they start out, so that rows differ.
  params = jax.tree.map(lambda p: 1.7 * p, toy_training.toy_params(5, num_decoder_layers=2))
  source = toy_training.ToySource(rows=6).batch(0)['encoder_input_tokens']
  predict = jax.jit(model.predict_batch, static_argnums=(2, 3))
  found = predict(params, {'encoder_input_tokens': source}, STEPS, 3)
  expected = _greedy_without_cache(model, params, source, eos_id=3)
  assert len({tuple(row) for row in expected}) > 2
  np.testing.assert_array_equal(found, expected)


def test_rows_end_at_their_end_token_and_decoding_with_the_last():
  calls = []

  def step(tokens, index, caches):
    jax.debug.callback(lambda i: calls.append(int(i)), index)
    ends = jnp.array([1, 3])
    best = jnp.where(index == ends, 1, 5)
    return jax.nn.one_hot(best, 8), caches

  found = decoding.greedy(step, (), 2, 6)
  assert found.tolist() == [[5, 1, 0, 0, 0, 0], [5, 5, 5, 1, 0, 0]]
  jax.effects_barrier()
  assert sorted(calls) == [0, 1, 2, 3]


def test_padding_is_never_predicted():
  step = lambda tokens, index, caches: (jax.nn.one_hot(jnp.zeros(2, int), 4), caches)
  assert (np.asarray(decoding.greedy(step, (), 2, 3)) > 0).any(axis=1).all()
