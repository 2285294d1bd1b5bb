"""What a step of training takes of a device's memory, estimated before anything is allocated.

The state is counted, leaf by leaf, as it is cut over the mesh. What lives within a step is
estimated from the sizes of the model: XLA decides, and `flanjax train --dry_run=compile` asks it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flanjax import meshes
from flanjax.models import t5
from flanjax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on each device: parameters (`frozen` those not trained), and what a step needs.

  `stacked`: of parameters and gradients of layers that are scanned, second copies in one array.
  """

  params: int
  frozen: int
  opt_state: int
  gradients: int
  stacked: int
  activations: int

  @property
  def total(self) -> int:
    return sum(dataclasses.asdict(self).values())


def bytes_of(x: Any) -> int:
  """Of a whole array or shape."""
  return math.prod(x.shape) * np.dtype(x.dtype).itemsize


def bytes_per_device(x: Any) -> int:
  """Of the part that each device holds of an array, or a shape that has a sharding."""
  return math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize


def _stacked(state: TrainState, config: t5.T5Config, size: Callable[[Any], int]) -> int:
  if not getattr(config, 'scan_layers', False):
    return 0
  of_layers = lambda tree: sum(
      size(x) for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
      if 'layers_' in jax.tree_util.keystr(path))
  return 2 * of_layers(state.params) + of_layers(state.frozen)


def _layers(config: t5.T5Config, inputs: int, targets: int) -> tuple[int, int, int]:
  """Bytes of a row that the backward pass needs of all layers: not cut by `model`, and cut;
  and the part of the first that stands between layers."""
  width = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
  joined = config.num_heads * config.head_dim
  # Projections into the feed-forward, what is made of them, and that after dropout.
  mlp = (2 * len(config.mlp_activations) + 1) * config.mlp_dim
  encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
  between = width * config.emb_dim * (encoder * inputs + decoder * targets)
  whole = width * config.emb_dim * (4 * encoder * inputs + 6 * decoder * targets)
  cut = encoder * width * inputs * (4 * joined + mlp)
  cut += decoder * width * (targets * (6 * joined + mlp) + inputs * 2 * joined)
  return whole, cut + _weights(config, inputs, targets), between


def _weights(config: t5.T5Config, inputs: int, targets: int) -> int:
  """Bytes of a row's attention weights: kept as float32, and as what they are multiplied by."""
  width = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
  pairs = (config.num_encoder_layers * inputs**2
           + config.num_decoder_layers * targets * (targets + inputs))
  return (4 + width) * config.num_heads * pairs


def activations(config: t5.T5Config, inputs: int, targets: int) -> tuple[int, int]:
  """-> bytes of one row that are live at once: (not cut by `model`, cut by it).

  Logits are float32, and so are their gradients; with `logits_chunk` those of a chunk. With recomputation (`remat`) what stands
  between layers is kept, and one layer's inside; 'minimal' keeps what projections give as well.
  """
  inputs += getattr(config, 'prompt_length', 0)
  whole, cut, between = _layers(config, inputs, targets)
  if getattr(config, 'remat', None) == 'minimal':
    # Without attention weights, which grow with the square of the length.
    cut = _layers(config, inputs, targets)[1] - _weights(config, inputs, targets)
  elif getattr(config, 'remat', None) == 'full':
    deep = max(config.num_encoder_layers, config.num_decoder_layers)
    whole, cut = between + whole // deep, cut // deep
  targets = min(targets, getattr(config, 'logits_chunk', 0) or targets)
  return whole, cut + 2 * 4 * targets * config.vocab_size


def estimate(
    state: TrainState, config: t5.T5Config, mesh: Any, rows: int, lengths: dict[str, int],
    num_microbatches: int = 1, shard_length: bool = False,
) -> Memory:
  """-> bytes on each device of a mesh.

  Args:
    state: shapes with shardings.
    config: the model's sizes.
    mesh: on which the shardings are.
    rows: of a batch.
    lengths: {'inputs': n, 'targets': n}.
    num_microbatches: parts of a batch that are worked on one after another.
    shard_length: whether what stands between layers is cut by `model`.
  """
  summed = lambda tree: sum(map(bytes_per_device, jax.tree.leaves(tree)))
  whole, cut = activations(config, lengths['inputs'], lengths['targets'])
  data, fsdp, model = (mesh.shape[name] for name in meshes.AXES)
  per_device = math.ceil(rows / (data * fsdp * num_microbatches))
  # A second set is added to the sum of those before it.
  copies = 1 if num_microbatches == 1 else 2
  return Memory(
      params=summed(state.params), frozen=summed(state.frozen), opt_state=summed(state.opt_state),
      gradients=copies * summed(state.params), stacked=_stacked(state, config, bytes_per_device),
      activations=per_device * (cut // model + whole // (model if shard_length else 1)))


def need(
    state: TrainState, config: t5.T5Config, rows: int, lengths: dict[str, int],
    num_microbatches: int = 1, memory: int | None = None,
) -> meshes.Need:
  """-> what `meshes.choose_shape` chooses by; arguments as `estimate` has them."""
  summed = lambda tree: sum(map(bytes_of, jax.tree.leaves(tree)))
  within = (1 if num_microbatches == 1 else 2) * summed(state.params)
  within += _stacked(state, config, bytes_of)
  rows = max(1, rows // num_microbatches)
  whole, cut = activations(config, lengths['inputs'], lengths['targets'])
  return meshes.Need(
      state=summed(state) + within, activations=rows * whole, model_activations=rows * cut,
      memory=memory, rows=rows,
      model_divisor=math.gcd(config.num_heads, config.mlp_dim, config.vocab_size))


def device_memory() -> int | None:
  """Bytes that programs may use of a device of this process; None where it does not say."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('bytes_limit')


def agreed_device_memory() -> int | None:
  """`device_memory` of the first process, the same in all: they must choose one mesh."""
  limit = device_memory()
  if jax.process_count() == 1:
    return limit
  mebibytes = multihost_utils.broadcast_one_to_all(np.int32((limit or 0) >> 20))
  return (int(mebibytes) << 20) or None
