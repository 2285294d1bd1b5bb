import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from flanjax.errors import UserError
from flanjax.evaluation import predict
from flanjax.models import t5

CONFIG = t5.T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32,
    num_encoder_layers=1, num_decoder_layers=1,
)  # fmt: skip
STEPS = 6


@pytest.fixture(scope='module')
def model():
  return t5.EncoderDecoderModel(CONFIG)


@pytest.fixture(scope='module')
def params(model):
  # Scaled up: a fresh model is nearly indifferent, and indifference hides mistakes.
  return jax.tree.map(lambda p: 3.0 * np.asarray(p), model.init(jax.random.key(1)))


def _sequences(rng, n, longest):
  return [rng.integers(2, 40, rng.integers(1, longest + 1)).tolist() + [1] for _ in range(n)]


@pytest.fixture(scope='module')
def pairs():
  rng = np.random.default_rng(0)
  return list(zip(_sequences(rng, 11, 30), _sequences(rng, 11, 12)))


def test_answers_and_scores_do_not_depend_on_batch_size_and_padding(model, params, pairs):
  inputs = [x for x, _ in pairs]
  alone = predict.Predictor(model, params, batch_size=1, input_multiple=48, target_multiple=20)
  together = predict.Predictor(model, params, batch_size=4)
  assert alone.generate(inputs, STEPS) == together.generate(inputs, STEPS)
  np.testing.assert_allclose(alone.score(pairs), together.score(pairs), rtol=1e-4)


def test_score_is_the_summed_log_likelihood_of_the_targets(model, params, pairs):
  scores = predict.Predictor(model, params, batch_size=4).score(pairs)
  x, y = pairs[2]
  batch = {
      'encoder_input_tokens': np.array([x]),
      'decoder_target_tokens': np.array([y]),
      'decoder_input_tokens': np.array([[0] + y[:-1]]),
  }
  logits = np.asarray(jax.jit(model.logits)(params, batch)[0], np.float64)
  log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  by_hand = sum(log_probs[i, token] for i, token in enumerate(y))
  assert scores[2] == pytest.approx(by_hand, rel=1e-4)


def test_options_of_one_prompt_score_as_each_alone(model, params):
  rng = np.random.default_rng(3)
  pairs = [(x, y) for x in _sequences(rng, 9, 30) for y in _sequences(rng, 1 + len(x) % 4, 12)]
  rng.shuffle(pairs)
  predictor = predict.Predictor(model, params, batch_size=4)
  alone = np.concatenate([predictor.score([pair]) for pair in pairs])
  np.testing.assert_allclose(predictor.score(pairs), alone, rtol=1e-5)


def test_a_prompt_is_encoded_once_for_all_its_options(model, params, monkeypatch):
  x = [5, 6, 1]
  pairs = [(x, [7, 1]), ([9, 1], [8, 1]), (x, [8, 8, 1]), (list(x), [3, 1])]
  found = predict.prompts(pairs)
  assert [(p.inputs, p.pairs) for p in found] == [(x, [0, 2, 3]), ([9, 1], [1])]
  batch = predict.prompt_batch(found, 2, 4, 8)
  assert batch['decoder_target_tokens'].tolist() == [[7, 1, 8, 8, 1, 3, 1, 0], [8, 1, 0, 0, 0, 0, 0, 0]]
  assert batch['decoder_input_tokens'][0].tolist() == [0, 7, 0, 8, 8, 0, 3, 0]
  assert batch['decoder_segment_ids'][0].tolist() == [1, 1, 2, 2, 2, 3, 3, 0]
  sizes = [len(p.pairs) for p in predict.prompts([(x, [2] * 100)] * 7)]
  assert sizes == [2, 2, 2, 1]
  assert [len(p.pairs) for p in predict.prompts([(x, [2] * 900)] * 2)] == [1, 1]


def test_lengths_are_few_and_hold_what_they_must():
  lengths = [predict.padded_length(n, 32) for n in range(1, 2049)]
  assert all(n <= padded < 2 * max(n, 32) for n, padded in enumerate(lengths, start=1))
  assert len(set(lengths)) == 20
  assert all(padded % 32 == 0 for padded in lengths)


def test_every_request_is_in_one_batch_longest_first():
  lengths = [3, 9, 1, 7, 7]
  found = [b.tolist() for b in predict.batches(lengths, 2)]
  assert found == [[1, 3], [4, 0], [2]]


def test_two_models_of_one_config_share_their_programs(params, pairs):
  first, second = (
      predict.Predictor(t5.EncoderDecoderModel(CONFIG), params, batch_size=4) for _ in range(2)
  )
  first.score(pairs)
  compiled = predict._score._cache_size()
  second.score(pairs)
  assert predict._score._cache_size() == compiled


def test_fingerprint_tells_parameters_apart(model, params):
  predictor = predict.Predictor(model, params)
  same = predict.Predictor(model, dict(params), batch_size=2)
  other = predict.Predictor(model, jax.tree.map(lambda p: p + 1e-3, params))
  assert predictor.fingerprint == same.fingerprint != other.fingerprint


def test_progress_ends_at_the_whole(model, params, pairs):
  calls = []
  predict.Predictor(model, params, batch_size=4).score(pairs, lambda *c: calls.append(c))
  assert calls == [(4, 11), (8, 11), (11, 11)]


def test_nothing_to_do_gives_nothing(model, params):
  predictor = predict.Predictor(model, params)
  assert predictor.generate([], STEPS) == [] and len(predictor.score([])) == 0


def test_a_batch_of_no_rows_is_refused(model, params):
  with pytest.raises(UserError, match='batch_size'):
    predict.Predictor(model, params, batch_size=0)


_ON_EIGHT_DEVICES = """
import jax, numpy as np
from flanjax import partitioning
from flanjax.evaluation import predict
from flanjax.models import t5

model = t5.EncoderDecoderModel(t5.T5Config(
    vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32,
    num_encoder_layers=1, num_decoder_layers=1))
params = model.init(jax.random.key(1))
pairs = [([5 + i, 7, 9, 1], [11, 5 + i, 1]) for i in range(7)]
alone = predict.Predictor(model, params, batch_size=7)
spread = predict.Predictor(
    model, params, batch_size=7, mesh=partitioning.make_mesh(data=4, model=2))
assert spread.batch_size == 8
np.testing.assert_allclose(spread.score(pairs), alone.score(pairs), rtol=1e-4)
inputs = [x for x, _ in pairs]
assert spread.generate(inputs, 4) == alone.generate(inputs, 4)
print('same')
"""


def test_a_mesh_of_eight_devices_gives_the_same_answers():
  environment = os.environ | {
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8', 'JAX_PLATFORMS': 'cpu',
  }  # fmt: skip
  found = subprocess.run(
      [sys.executable, '-c', _ON_EIGHT_DEVICES], env=environment, capture_output=True, text=True,
      check=False,
  )
  assert found.stdout.strip() == 'same', found.stderr
