"""Tests of the token losses."""

import jax
import numpy as np

from flanjax.models import losses


def _case():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
  targets = rng.integers(0, 5, (2, 3)).astype(np.int32)
  weights = np.array([[1, 1, 0], [0.5, 0, 0]], np.float32)
  return logits, targets, weights


def test_cross_entropy_is_minus_the_weighted_log_likelihood():
  logits, targets, weights = _case()
  probabilities = np.asarray(jax.nn.softmax(logits))
  expected = sum(-np.log(probabilities[i, j, targets[i, j]]) * weights[i, j]
                 for i in range(2) for j in range(3))
  loss, metrics = losses.cross_entropy(logits, targets, weights)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(metrics['weight_sum'], 2.5)
  likelihood = losses.token_log_likelihood(logits, targets)
  np.testing.assert_allclose(np.sum(likelihood * weights), -expected, rtol=1e-6)


def test_z_loss_adds_the_squared_log_normaliser():
  logits, targets, weights = _case()
  log_z = np.log(np.exp(logits).sum(-1))
  loss, metrics = losses.cross_entropy(logits, targets, weights, z_loss=0.1)
  np.testing.assert_allclose(metrics['z_loss'], 0.1 * np.sum(log_z**2 * weights), rtol=1e-5)
  np.testing.assert_allclose(loss, metrics['cross_ent_loss'] + metrics['z_loss'], rtol=1e-6)


def test_smoothed_loss_of_the_best_possible_logits_is_zero():
  targets = np.array([[1, 2]], np.int32)
  smoothed = np.full((1, 2, 4), 0.1 / 3, np.float32)
  np.put_along_axis(smoothed, targets[..., None], 0.9, axis=-1)
  loss, _ = losses.cross_entropy(
      np.log(smoothed), targets, np.ones((1, 2), np.float32), label_smoothing=0.1)
  np.testing.assert_allclose(loss, 0.0, atol=1e-6)


def test_correct_counts_weighted_tokens_whose_target_is_likeliest():
  logits = np.zeros((1, 3, 4), np.float32)
  logits[0, 0, 2] = logits[0, 1, 3] = logits[0, 2, 1] = 5.0
  targets = np.array([[2, 0, 1]], np.int32)
  weights = np.array([[1, 1, 0]], np.float32)
  _, metrics = losses.cross_entropy(logits, targets, weights)
  assert float(metrics['correct']) == 1.0


def test_smoothing_gives_nothing_to_classes_that_stand_for_no_token():
  logits, targets, weights = _case()
  alone = losses.cross_entropy(logits, targets, weights, label_smoothing=0.1)
  masked = np.pad(logits, ((0, 0), (0, 0), (0, 3)), constant_values=-1e9)
  beside = losses.cross_entropy(masked, targets, weights, label_smoothing=0.1, num_classes=5)
  np.testing.assert_allclose(beside[0], alone[0], rtol=1e-6)
  assert losses.cross_entropy(masked, targets, weights, label_smoothing=0.1)[0] > 1e6
