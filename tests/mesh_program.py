"""Trains the toy model on meshes of eight fake devices; run by partitioning_test.

Prints what happened as JSON. The argument is a folder to work in.
"""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import toy_training

from flanjax import partitioning
from flanjax.training import loop, step
from flanjax.training.state import TrainState

MESHES = ((8, 1, 1), (2, 2, 2), (1, 8, 1), (1, 1, 8))
ROWS, STEPS, MICROBATCHES = 16, 3, 2


def model():
  # Eight devices on `model` need eight heads.
  return toy_training.toy_model(
      logits_via_embedding=True, dropout_rate=0.2, emb_dim=16, num_heads=8, mlp_dim=32)


@functools.cache
def initial_params():
  """Drawn without compiling an init for every mesh."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: rng.normal(size=x.shape, scale=0.5).astype(x.dtype), model().param_shapes())


@functools.cache
def initial_state() -> TrainState:
  create = lambda params: TrainState.create(params, toy_training.toy_optimizer())
  return jax.tree.map(np.asarray, jax.jit(create)(initial_params()))


def shardings(mesh, rules) -> TrainState:
  return TrainState(partitioning.replicated(mesh), *partitioning.state_shardings(
      mesh, model().logical_axes(), toy_training.toy_optimizer(), initial_params(), rules))


def steps(mesh, **rules):
  """-> losses of a few steps, and the parameters after them."""
  rules = partitioning.axis_rules(**rules)
  places = shardings(mesh, rules)
  step_fn = step.make_train_step(
      model(), toy_training.toy_optimizer(), seed=5, num_microbatches=MICROBATCHES,
      out_shardings=(places, None))
  source, losses = toy_training.ToySource(rows=ROWS), []
  state = jax.tree.map(jax.device_put, initial_state(), places)
  with partitioning.activate(mesh, rules):
    for t in range(STEPS):
      batch = partitioning.put_rows(source.batch(t), mesh, 0, ROWS)
      state, metrics = step_fn(state, batch)
      losses.append(float(metrics['loss']))
  assert step_fn._cache_size() == 1  # The state lies where it lay: nothing is compiled twice.
  return losses, state.params


def difference(got, expected) -> float:
  """The largest difference of any parameter, as a part of the largest number in its array."""
  return max(jax.tree.leaves(jax.tree.map(
      lambda a, b: float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b))), got, expected)))


def train(folder: pathlib.Path, mesh: jax.sharding.Mesh, total_steps: int):
  state = loop.Trainer(
      model(), toy_training.toy_optimizer(), model_dir=folder, total_steps=total_steps,
      batch_source=toy_training.ToySource(rows=ROWS), mesh=mesh, initial_params=initial_params(),
      seed=5, log_period=1, num_microbatches=MICROBATCHES).run()
  return state, [json.loads(line)['loss'] for line in (folder / 'train' / 'log.jsonl').open()]


def layout(state) -> dict[str, list]:
  """Where some arrays lie."""
  layer = lambda tree: tree['encoder']['layers_0']
  embedding = state.params['token_embedder']['embedding']
  spec = lambda x: [list(a) if isinstance(a, tuple) else a for a in x.sharding.spec]
  return {
      'wi_0': spec(layer(state.params)['mlp']['wi_0']['kernel']),
      'norm': spec(layer(state.params)['pre_mlp_layer_norm']['scale']),
      'v_row': spec(layer(state.opt_state[0].v_row)['mlp']['wi_0']['kernel']),
      'embedding': spec(embedding), 'shard': list(embedding.addressable_shards[0].data.shape)}


def main():
  folder = pathlib.Path(sys.argv[1])
  one = partitioning.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  losses, params = steps(one)
  expected = jax.tree.map(np.asarray, params)
  results = {}
  for shape in MESHES:
    got, params = steps(partitioning.make_mesh(*shape))
    results[str(shape)] = [got, difference(params, expected)]
  got, params = steps(partitioning.make_mesh(1, 2, 4), shard_length=True)
  results['(1, 2, 4), length over model'] = [got, difference(params, expected)]
  train(folder, one, 2)
  # Goes on from a checkpoint that one device wrote, on a mesh that cuts the parameters.
  state, resumed = train(folder, partitioning.make_mesh(2, 2, 2), 3)
  print(json.dumps({'expected': losses, 'results': results, 'resumed': resumed,
                    'resumed difference': difference(state.params, expected),
                    'layout': layout(state)}))


if __name__ == '__main__':
  main()
