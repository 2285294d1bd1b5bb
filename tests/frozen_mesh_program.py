"""Trains LoRA's factors on one device and on meshes of eight; prints a line of JSON for each."""

import json
import sys

import jax
import toy_training

from flanjax import partitioning
from flanjax.models import lora
from flanjax.training import freezing, loop


def _run(folder: str, mesh: jax.sharding.Mesh) -> dict:
  model = toy_training.toy_model(lora=lora.Lora(rank=2, dropout=0.1), prompt_length=2)
  trainer = loop.Trainer(
      model, toy_training.toy_optimizer(), model_dir=folder, total_steps=3, mesh=mesh,
      batch_source=toy_training.ToySource(), initial_params=toy_training.toy_params(3),
      log_period=1)
  state = trainer.run()
  losses = [json.loads(line)['loss'] for line in open(f'{folder}/train/log.jsonl')]
  kernel = state.frozen['encoder']['layers_0']['mlp']['wi_0']['kernel']
  return {'losses': losses, 'fingerprint': freezing.fingerprint(state.frozen),
          'cut': not kernel.sharding.is_fully_replicated}


def main() -> None:
  one = partitioning.make_mesh(1, devices=jax.devices()[:1])
  meshes = {'one': one, 'model': partitioning.make_mesh(4, 1, 2),
            'fsdp': partitioning.make_mesh(2, 4, 1)}
  for name, mesh in meshes.items():
    print(json.dumps(_run(f'{sys.argv[1]}/{name}', mesh)), flush=True)


if __name__ == '__main__':
  main()
