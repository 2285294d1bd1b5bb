"""Tests of the FLOPs of a step, against XLA's own counts."""

import doctest
import math
import os
import pathlib
import subprocess
import sys

import jax
import pytest
import toy_training

from flanjax import gin_files
from flanjax.models import flops

ROOT = pathlib.Path(__file__).parent.parent
ROWS, INPUTS, TARGETS = 4, 48, 20
# TFLOP of a row of 512 + 128 tokens, forward and backward.
KNOWN = {'small': 0.110, 'base': 0.437, 'large': 1.50, 'xl': 5.47, 'xxl': 21.4}


def _model(**overrides):
  return toy_training.toy_model(**{
      'vocab_size': 512, 'emb_dim': 64, 'num_heads': 4, 'head_dim': 16, 'mlp_dim': 160, **overrides})


def _batch():
  shapes = {'encoder_input_tokens': (INPUTS, 'int32'), 'decoder_input_tokens': (TARGETS, 'int32'),
            'decoder_target_tokens': (TARGETS, 'int32'), 'decoder_loss_weights': (TARGETS, 'float32')}
  return {name: jax.ShapeDtypeStruct((ROWS, n), dtype) for name, (n, dtype) in shapes.items()}


def _xla_flops(function, model):
  compiled = jax.jit(function).lower(model.param_shapes(), _batch()).compile()
  return compiled.cost_analysis()['flops']


def _product_flops(jaxpr):
  """FLOPs of the matrix products of a traced function, and of all that it calls."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      contracted = equation.params['dimension_numbers'][0][0]
      shared = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
      total += 2 * equation.outvars[0].aval.size * shared
    bodies = [getattr(p, 'jaxpr', p) for p in equation.params.values()]
    inner = sum(_product_flops(body) for body in bodies if hasattr(body, 'eqns'))
    total += inner * equation.params.get('length', 1)
  return total


@pytest.mark.parametrize('overrides', [
    {}, {'mlp_activations': ('relu',), 'logits_via_embedding': True}, {'mlp_dim': 640, 'emb_dim': 256}])
def test_the_forward_pass_costs_what_xla_counts(overrides):
  model = _model(**overrides)
  counted = flops.forward(model.config, ROWS, INPUTS, TARGETS).total
  # What XLA counts besides: softmax, norms, activations, masks, positions, the sums of the loss.
  assert counted < _xla_flops(lambda p, b: model.logits(p, b), model) < 1.05 * counted
  assert counted < _xla_flops(lambda p, b: model.loss_fn(p, b, None)[0], model) < 1.06 * counted


@pytest.mark.parametrize('overrides', [{}, {'mlp_dim': 640, 'emb_dim': 256}])
def test_a_step_costs_what_xla_counts_for_loss_and_gradients(overrides):
  model = _model(**overrides)
  counted = flops.step(model.config, ROWS, INPUTS, TARGETS)
  loss = lambda p, b: model.loss_fn(p, b, None)[0]
  assert counted < _xla_flops(jax.value_and_grad(loss), model) < 1.07 * counted


def test_the_products_of_the_forward_pass_are_counted_exactly():
  model = _model(num_encoder_layers=3, num_decoder_layers=2)
  traced = jax.make_jaxpr(lambda p, b: model.logits(p, b))(model.param_shapes(), _batch())
  assert _product_flops(traced.jaxpr) == flops.forward(model.config, ROWS, INPUTS, TARGETS).total


@pytest.mark.parametrize('size', KNOWN)
def test_the_shipped_sizes_cost_what_is_known(size):
  gin_files.load([f'models/t5_1_1/{size}.gin'], ['VOCAB_SIZE = 32128'], [])
  from flanjax.models import t5

  config = gin_files.construct(t5.T5Config)
  got = flops.step(config, 1, 512, 128) / 1e12
  assert got == pytest.approx(KNOWN[size], rel=0.005)
  # Of a frozen model the products of the backward pass that give its gradients are not needed.
  assert 2 / 3 < flops.step(config, 1, 512, 128, weights_trained=False) / 1e12 / got < 0.71


@pytest.mark.parametrize('kind', [k for k in flops.PEAK if k.startswith('TPU')])
def test_the_peaks_of_tpus_are_those_that_jax_knows(kind):
  tpu_info = pytest.importorskip('jax._src.pallas.mosaic.tpu_info')
  chip = tpu_info.chip_version_from_device_kind(kind)
  known = tpu_info.get_tpu_info_for_chip(chip, 1)
  cores = chip.num_physical_tensor_cores_per_chip
  assert flops.peak(kind) == pytest.approx(known.bf16_ops_per_second * cores, rel=0.005)


def test_an_unknown_device_has_no_utilization():
  assert flops.utilization(1e12, 'cpu') is None and flops.utilization(1e12, 'NVIDIA H100 NVL') is None
  assert flops.utilization(4 * 395.76e12, 'NVIDIA H200', 4) == pytest.approx(0.4)
  assert flops.peak('NVIDIA A100-PCIE-40GB') == flops.peak('NVIDIA A100-SXM4-80GB') == 312e12


def test_the_example_is_true():
  assert doctest.testmod(flops).failed == 0


def test_counting_needs_no_jax():
  program = 'import sys, flanjax.models.flops; print("jax" in sys.modules)'
  result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)}, check=True)
  assert result.stdout.strip() == 'False'
