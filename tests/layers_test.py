"""Tests of the layers of T5."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np

from flanjax.models import attention, layers


def test_the_examples_in_docstrings_hold():
  assert doctest.testmod(layers).failed == doctest.testmod(attention).failed == 0


def test_relative_position_buckets_are_exact_when_near_and_one_when_far():
  positions = np.arange(-300, 301)
  both = attention.relative_position_bucket(positions, bidirectional=True)
  causal = attention.relative_position_bucket(positions, bidirectional=False)
  assert both.min() == 0 and both.max() == 31 and causal.max() == 31
  assert [both[positions == -d][0] for d in range(8)] == list(range(8))
  assert [causal[positions == -d][0] for d in range(16)] == list(range(16))
  assert len(set(both[positions <= -128])) == 1
  assert (causal[positions >= 0] == 0).all()
  assert (np.diff(causal[positions <= 0]) <= 0).all()


def test_rms_norm_of_bfloat16_is_computed_in_float32():
  x = jnp.full((1, 4096), 200.0, jnp.bfloat16)
  y = layers.rms_norm(x, jnp.ones(4096), jnp.bfloat16)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(y, np.float32), 1.0, rtol=1e-2)


def test_attention_sees_only_what_the_mask_allows():
  rng = np.random.default_rng(0)
  query, key, value = rng.normal(size=(3, 1, 4, 2, 3)).astype(np.float32)
  mask = np.array([[[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]], bool)
  result = attention.dot_product_attention(query, key, value, None, mask)
  changed = value.copy()
  changed[:, 2:] += 7
  again = attention.dot_product_attention(query, key, changed, None, mask)
  np.testing.assert_array_equal(result[:, :2], again[:, :2])
  np.testing.assert_allclose(result[0, 0], value[0, 0], rtol=1e-6)


def test_query_starts_smaller_by_the_root_of_head_dim():
  key = jax.random.key(0)
  query = layers.query_init(16)(key, (64, 32), jnp.float32)
  other = layers.attention_init(key, (64, 32), jnp.float32)
  np.testing.assert_allclose(query * 4, other, rtol=1e-6)
