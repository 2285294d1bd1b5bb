"""Takes a checkpoint from a mesh of 8 fake devices to 1 and to 2 x 4; run by saving_test.

Prints, for each, whether it is equal to the bit, and how it lies, as JSON. The argument is a folder.
"""

import json
import pathlib
import sys

import jax
import numpy as np
import toy_training

from flanjax import partitioning
from flanjax.training import checkpoints
from flanjax.training.state import TrainState

KERNEL = ('encoder', 'layers_0', 'mlp', 'wi_0', 'kernel')


def template(mesh):
  model, optimizer = toy_training.toy_model(num_heads=4), toy_training.toy_optimizer()
  shapes = model.param_shapes()
  params, opt_state = partitioning.state_shardings(mesh, model.logical_axes(), optimizer, shapes)
  places = TrainState(partitioning.replicated(mesh), params, opt_state)
  return jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
                      jax.eval_shape(lambda p: TrainState.create(p, optimizer), shapes), places)


def main():
  folder, rng = pathlib.Path(sys.argv[1]), np.random.default_rng(0)
  meshes = {
      '8x1': partitioning.make_mesh(),
      '1': partitioning.make_mesh(1, 1, 1, devices=jax.devices()[:1]),
      '2x4': partitioning.make_mesh(2, 1, 4)}
  expected = jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(x.dtype), template(meshes['8x1']))
  expected = expected._replace(step=np.int32(5))
  state, seen = None, {}
  for name, mesh in meshes.items():
    wanted = template(mesh)
    if state is not None:
      checkpointer = checkpoints.Checkpointer(folder)
      state, _ = checkpointer.restore(wanted)
      checkpointer.close()
    else:
      state = jax.tree.map(lambda x, t: partitioning.put(x, t.sharding), expected, wanted)
    kernel = state.params
    for key in KERNEL:
      kernel = kernel[key]
    seen[name] = {
        'equal': all(np.asarray(x).tobytes() == y.tobytes() for x, y in zip(
            jax.tree.leaves(state), jax.tree.leaves(expected))),
        'placed': all(x.sharding == t.sharding for x, t in zip(
            jax.tree.leaves(state), jax.tree.leaves(wanted))),
        'shards': len({str(s.index) for s in kernel.addressable_shards}),
        'devices': len(kernel.sharding.device_set)}
    # The next mesh reads what this one wrote.
    folder = folder / name
    checkpointer = checkpoints.Checkpointer(folder)
    checkpointer.save(state, {})
    checkpointer.close()
  print(json.dumps(seen))


if __name__ == '__main__':
  main()
