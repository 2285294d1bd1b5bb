"""Which tokens are drawn, against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanjax.inference import requests, sampling

VOCAB = 300


def _logits(rows=6, vocab=VOCAB, seed=0):
  return np.random.default_rng(seed).normal(scale=3, size=(rows, vocab)).astype(np.float32)


def _kept_by_sorting(logits, top_k, top_p):
  """Tokens that may be drawn from one row."""
  order = np.argsort(-logits.astype(np.float64), kind='stable')
  if top_k:
    order = order[:top_k]
  weights = np.exp(logits[order].astype(np.float64) - logits.max())
  before = np.concatenate([[0], np.cumsum(weights)[:-1]]) / weights.sum()
  return set(order[before < top_p].tolist()) if top_p < 1 else set(order.tolist())


@pytest.mark.parametrize('vocab', [VOCAB, 256])  # In one stage and in two.
def test_top_k_and_top_p_keep_what_sorting_keeps(vocab):
  logits = _logits(7, vocab)
  top_k = np.array([0, 1, 5, 40, 0, 0, 1000], np.int32)
  top_p = np.array([1, 1, 1, .9, .5, 1e-6, .97], np.float32)
  found = np.asarray(jax.jit(sampling.filtered)(logits, top_k, top_p))
  for row in range(7):
    kept = set(np.flatnonzero(np.isfinite(found[row])).tolist())
    assert kept == _kept_by_sorting(logits[row], top_k[row], top_p[row])
    np.testing.assert_array_equal(found[row][list(kept)], logits[row][list(kept)])


def test_tokens_as_likely_as_the_last_kept_one_are_kept():
  logits = np.log(np.array([[.1, .2, .2, .2, .3]], np.float32))
  kept = lambda k, p: np.isfinite(sampling.filtered(logits, np.array([k]), np.array([p])))[0].tolist()
  assert kept(2, 1.0) == [False, True, True, True, True]
  assert kept(0, 0.6) == [False, True, True, True, True]
  assert kept(0, 0.2) == [False, False, False, False, True]


def _draws(rows, temperature=1.0, top_k=0, top_p=1.0, key=(7, 8)):
  full = lambda value, dtype: np.full(rows, value, dtype)
  return sampling.Draws(full(temperature, np.float32), full(top_k, np.int32), full(top_p, np.float32),
                        np.tile(np.array(key, np.uint32), (rows, 1)), np.arange(rows, dtype=np.int32))


@pytest.mark.parametrize(('temperature', 'top_k', 'top_p'), [(1.0, 0, 1.0), (0.7, 5, 1.0), (4.0, 0, .9)])
def test_frequencies_of_what_is_drawn_are_the_softmax(temperature, top_k, top_p):
  logits, n = _logits(1, 12, seed=3)[0], 4000
  logits[0] = 9.0  # The likeliest, and padding.
  kind = 'drawn' if top_k == 0 and top_p == 1 else 'filtered'
  choose = jax.jit(sampling.choose, static_argnums=3)
  drawn, _ = choose(np.tile(logits, (n, 1)), _draws(n, temperature, top_k, top_p), np.zeros(n, np.int32), kind)
  scaled = np.where(np.arange(12) == 0, -np.inf, logits.astype(np.float64)) / temperature
  kept = _kept_by_sorting(scaled, top_k, top_p)
  weights = np.array([np.exp(scaled[i] - 9) if i in kept else 0 for i in range(12)])
  expected = n * weights / weights.sum()
  counts = np.bincount(np.asarray(drawn), minlength=12)
  assert counts[expected == 0].sum() == 0
  of = expected > 0
  assert of.sum() > 2
  chi_square = np.sum((counts[of] - expected[of]) ** 2 / expected[of])
  # Mean of - 1, standard deviation sqrt(2 (of - 1)): four of these.
  freedom = of.sum() - 1
  assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_a_draw_depends_on_key_sample_and_place_alone():
  logits = np.tile(_logits(1), (8, 1))
  choose = lambda draws, ages, kind='drawn': np.asarray(
      sampling.choose(logits[: len(ages)], draws, np.asarray(ages, np.int32), kind)[0])
  ages = [3] * 8
  together = choose(_draws(8), ages)
  assert len(set(together.tolist())) > 2
  for row in (0, 5):
    alone = jax.tree.map(lambda x: x[row : row + 1], _draws(8))
    assert choose(alone, [3]) == together[row]
  np.testing.assert_array_equal(choose(_draws(8), ages, 'filtered'), together)
  for other in (choose(_draws(8, key=(7, 9)), ages), choose(_draws(8), [4] * 8)):
    assert (other != together).any()


def test_greedy_rows_stay_greedy_beside_rows_that_draw():
  logits = _logits(4)
  draws = _draws(4)._replace(temperature=np.array([0, 1, 0, 1e-30], np.float32))
  best = np.where(np.arange(VOCAB) == 0, -np.inf, logits).argmax(1)
  found = np.asarray(sampling.choose(logits, draws, np.zeros(4, np.int32), 'filtered')[0])
  np.testing.assert_array_equal(found[[0, 2, 3]], best[[0, 2, 3]])
  assert found[1] != best[1]
  greedy = sampling.choose(logits, draws, np.zeros(4, np.int32), 'greedy')[0]
  np.testing.assert_array_equal(greedy, best)


def test_log_probabilities_are_the_models_own_at_any_temperature():
  logits = _logits(4)
  tokens, found = sampling.choose(logits, _draws(4, temperature=3.0, top_k=2), np.zeros(4, np.int32), 'filtered')
  expected = np.asarray(jax.nn.log_softmax(logits))[np.arange(4), np.asarray(tokens)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_of_equal_logits_the_first_is_the_likeliest():
  logits = jnp.zeros((2, VOCAB)).at[1, 200].set(2.0).at[1, 250].set(2.0)
  assert sampling.likeliest(logits).tolist() == [0, 200]


def test_seeds_and_inputs_make_the_key():
  key = lambda seed, inputs: tuple(requests.seed_of(requests.Sampling(seed=seed, temperature=1), inputs))
  assert key(1, [5, 1]) == key(1, (5, 1))
  assert len({key(1, [5, 1]), key(2, [5, 1]), key(1, [5, 6, 1]), key(1, [6, 5, 1])}) == 4
