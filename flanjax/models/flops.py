"""What a step of T5 costs, counted from its sizes, and what share of a device's peak that is.

Model FLOPs, as in Chowdhery et al. 2022 (PaLM), appendix B: the matrix products that the model
needs, of the shapes that are run. Padding is counted, for the device does that work; recomputation
(remat) is not, for the model does not need it; all of a causal attention matrix is counted, though
half of it is masked. A product of m x k and k x n matrices costs 2mkn, its backward pass twice that:
one such product for the gradient of either factor. The lookup of embeddings is a gather and costs
nothing. Softmax, norms, activations, dropout and the optimizer's update are left out: together some
percent in a model of useful size.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from flanjax.models import t5

# Dense bfloat16 FLOP/s of one device as jax counts them, by `device.device_kind`. A name that
# is not here begins with the key of its family, or is unknown.
PEAK = {
    # NVIDIA A100 data sheet, 2020: 312 TFLOPS, without sparsity.
    'NVIDIA A100': 312e12,
    # NVIDIA H100 data sheet, 2022: 1,979 TFLOPS (SXM) and 1,513 (PCIe) with sparsity; half without.
    'NVIDIA H100 80GB HBM3': 989.4e12,
    'NVIDIA H100 PCIe': 756e12,
    # NVIDIA H200 data sheet, 2024: the H100's chip with more memory.
    'NVIDIA H200': 989.4e12,
    # cloud.google.com/tpu/docs: v4, v5e, v5p, v6e; "lite" is what jax calls the e kinds.
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5e': 197e12,
    'TPU v5': 459e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'TPU v6e': 918e12,
}
_FAMILIES = ('NVIDIA A100',)


@dataclasses.dataclass(frozen=True)
class Products:
  """FLOPs of a forward pass: products with parameters, and those of two activations."""

  weights: float
  activations: float

  @property
  def total(self) -> float:
    return self.weights + self.activations


def forward(config: t5.T5Config, rows: int, inputs_length: int, targets_length: int) -> Products:
  """The forward pass of a batch, by where the factors come from.

  With B rows, S input and T target positions, D = emb_dim, A = num_heads * head_dim,
  F = mlp_dim, g = 2 or 1 projections into the feed-forward, V = vocab_size:

    encoder layer   weights B S (8 D A + 2 (g+1) D F)             activations 4 B A S S
    decoder layer   weights B T (12 D A + 2 (g+1) D F) + 4 B S D A    activations 4 B A T (T + S)
    logits          weights 2 B T D V
  """
  inputs, targets = rows * inputs_length, rows * targets_length
  attention = config.num_heads * config.head_dim
  projection = 2 * config.emb_dim * attention
  mlp = 2 * (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim
  encoder = inputs * (4 * projection + mlp)
  decoder = targets * (6 * projection + mlp) + inputs * 2 * projection
  logits = targets * 2 * config.emb_dim * config.vocab_size
  return Products(
      weights=float(config.num_encoder_layers * encoder + config.num_decoder_layers * decoder
                    + logits),
      activations=float(4 * attention * (
          config.num_encoder_layers * inputs * inputs_length
          + config.num_decoder_layers * targets * (targets_length + inputs_length))))


def step(
    config: t5.T5Config, rows: int, inputs_length: int, targets_length: int,
    weights_trained: bool = True,
) -> float:
  """FLOPs of a step of training: forward, and backward.

  Args:
    config: the model's sizes.
    rows: of the batch.
    inputs_length: of its rows, with padding.
    targets_length: likewise.
    weights_trained: False where the model's own matrices are frozen (adapters, soft prompts): their
      gradients, a third of the cost of their products, are then not needed. The adapters' own
      products are not counted.

  >>> from types import SimpleNamespace
  >>> small = SimpleNamespace(
  ...     vocab_size=32128, emb_dim=512, num_heads=6, head_dim=64, mlp_dim=1024,
  ...     num_encoder_layers=8, num_decoder_layers=8, mlp_activations=('gelu', 'linear'))
  >>> round(step(small, 1, 512, 128) / 1e12, 3)
  0.11
  """
  products = forward(config, rows, inputs_length, targets_length)
  return (3 if weights_trained else 2) * products.weights + 3 * products.activations


def peak(device_kind: str) -> float | None:
  """Peak FLOP/s in bfloat16 of a device, None where it is not known (or a CPU).

  >>> peak('NVIDIA A100-SXM4-80GB'), peak('cpu')
  (312000000000000.0, None)
  """
  family = next((name for name in _FAMILIES if device_kind.startswith(name)), device_kind)
  return PEAK.get(family)


def utilization(flops_per_second: float, device_kind: str, devices: int = 1) -> float | None:
  """MFU: a rate of model FLOPs as a share of the devices' bfloat16 peak, None where unknown.

  float32 is measured against the same peak, which it cannot reach.
  """
  most = peak(device_kind)
  return None if most is None else flops_per_second / (most * devices)
