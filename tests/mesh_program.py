"""Trains the toy model on meshes of eight fake devices; run by partitioning_test.

Prints {run: [loss per step]} as JSON. The argument is a folder to work in.
"""

import functools
import json
import pathlib
import sys

import jax
import numpy as np
import toy_training

from flanjax import partitioning
from flanjax.training import loop


@functools.cache
def initial_params():
  """Drawn without compiling an init for every mesh."""
  rng = np.random.default_rng(0)
  shapes = toy_training.toy_model(logits_via_embedding=True).param_shapes()
  return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.5).astype(x.dtype), shapes)


def losses(folder: pathlib.Path) -> list[float]:
  return [json.loads(line)['loss'] for line in (folder / 'train' / 'log.jsonl').open()]


def train(folder: pathlib.Path, mesh: jax.sharding.Mesh, steps: int, num_microbatches: int = 1):
  state = loop.Trainer(
      toy_training.toy_model(logits_via_embedding=True), toy_training.toy_optimizer(),
      model_dir=folder, total_steps=steps, batch_source=toy_training.ToySource(rows=16),
      mesh=mesh, initial_params=initial_params(), log_period=1,
      num_microbatches=num_microbatches).run()
  return state, losses(folder)


def main():
  folder = pathlib.Path(sys.argv[1])
  one = partitioning.make_mesh(1, 1, devices=jax.devices()[:1])
  wide, cut = partitioning.make_mesh(), partitioning.make_mesh(4, 2)
  assert dict(wide.shape) == {'data': 8, 'model': 1}
  _, expected = train(folder / '1x1', one, 4)
  _, data_parallel = train(folder / '8x1', wide, 4, num_microbatches=2)
  train(folder / '4x2', cut, 2)
  # Goes on from a checkpoint that one device wrote, on a mesh that cuts the parameters.
  state, resumed = train(folder / '1x1', cut, 6)
  kernel = state.params['encoder']['layers_0']['mlp']['wi_0']['kernel']
  moment = state.opt_state[0].v_row['encoder']['layers_0']['mlp']['wi_0']['kernel']
  print(json.dumps({
      'expected': expected, '8x1': data_parallel, '4x2': losses(folder / '4x2'),
      'resumed': resumed, 'kernel': list(kernel.sharding.spec),
      'shards': len({str(s.index) for s in kernel.addressable_shards}),
      'moment': list(moment.sharding.spec)}))


if __name__ == '__main__':
  main()
