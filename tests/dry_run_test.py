"""Tests of `flanjax train --dry_run`."""

import json
import math

import forked
import jax
import pytest
import toy_training

from flanjax import cli, partitioning
from flanjax.commands import machine
from flanjax.errors import UsageError
from flanjax.models import t5
from flanjax.training import loop, memory

FILES = ['--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin']


def _plan(capsys, *flags, files=FILES):
  assert cli.main(['train', *files, '--dry_run', '--json', *flags]) == 0
  return json.loads(capsys.readouterr().out)


def test_a_dry_run_needs_no_data_no_folder_and_no_devices(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  plan = _plan(capsys, '--devices=2x8', '--device_memory=16GiB')
  assert plan['mesh'] == {'data': 16, 'fsdp': 1, 'model': 1}
  assert plan['memory']['fits'] and plan['memory']['limit'] == 2**34
  assert not list(tmp_path.iterdir())
  # What the model itself counts.
  config = t5.T5Config(vocab_size=32128, emb_dim=64, num_heads=4, head_dim=16, mlp_dim=128,
                       num_encoder_layers=2, num_decoder_layers=2)
  numbers = sum(row['count'] * math.prod(row['shape']) for row in plan['parameters'])
  assert numbers == t5.param_count(t5.EncoderDecoderModel(config).param_shapes())
  assert plan['memory']['params'] == 4 * numbers
  wi = next(r for r in plan['parameters'] if r['name'] == 'encoder/layers_*/mlp/wi_0/kernel')
  assert (wi['count'], wi['shape'], wi['sharding']) == (2, [64, 128], '-, -')


def test_a_model_too_large_for_a_device_is_cut_until_it_fits(capsys):
  flags = ('--devices=8', '--gin.BATCH_SIZE=8',
           "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 8}")
  whole = _plan(capsys, *flags)['memory']
  assert whole['fits'] is None
  cut = _plan(capsys, *flags, f"--device_memory={whole['total'] * 2 // 3}")
  assert cut['mesh']['fsdp'] in (2, 4, 8) and cut['memory']['fits']
  assert cut['memory']['params'] < whole['params'] / cut['mesh']['fsdp'] * 1.01
  never = _plan(capsys, *flags, '--device_memory=1MB')
  assert never['memory']['fits'] is False


def test_a_mesh_and_rules_given_in_gin_are_shown(capsys):
  assert cli.main(['train', *FILES, '--dry_run', '--devices=8', '--device_memory=100GB',
                   '--gin.partitioning.make_mesh.fsdp=2', '--gin.partitioning.make_mesh.model=4',
                   '--gin.partitioning.axis_rules.shard_length=True']) == 0
  lines = [line.split() for line in capsys.readouterr().out.splitlines()]
  assert 'mesh: data=1 x fsdp=2 x model=4, 8 device(s)'.split() in lines
  assert ['length', '-', 'model'] in lines and ['embed', 'fsdp', '-'] in lines
  assert ['encoder/layers_*/mlp/wo/kernel', '2', '128', 'x', '64', 'float32', 'model,', 'fsdp',
          '8.2', 'kB'] in lines
  assert any(line[:2] == ['fits:', 'a'] for line in lines)


def test_what_is_counted_is_what_is_allocated():
  model, mesh = toy_training.toy_model(), partitioning.make_mesh(devices=jax.devices()[:1])
  trainer = loop.Trainer(model, toy_training.toy_optimizer(), model_dir='none', total_steps=1,
                         batch_source=None, mesh=mesh)
  state = trainer.abstract_state()
  used = memory.estimate(state, model.config, mesh, 8, {'inputs': 6, 'targets': 4})
  optimizer = toy_training.toy_optimizer()
  params = toy_training.toy_params()
  held = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))
  assert used.params == used.gradients == held(params)
  assert used.opt_state == held(optimizer.init(params))


def test_the_compiler_is_asked_on_devices_that_are_not_there():
  result = forked.run(
      ['-m', 'flanjax.cli', 'train', *FILES, '--dry_run=compile', '--devices=4',
       '--json', '--gin.partitioning.make_mesh.fsdp=4', '--gin.BATCH_SIZE=8',
       '--gin.t5.T5Config.num_encoder_layers=1', '--gin.t5.T5Config.num_decoder_layers=1',
       '--gin.VOCAB_SIZE=256', "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 8}"])
  assert result.returncode == 0, result.stderr[-3000:]
  plan = json.loads(result.stdout)
  state = sum(plan['memory'][name] for name in ('params', 'opt_state'))
  batch = 2 * 4 * (3 * 16 + 5 * 8)
  # The compiler's arguments are the state as cut, and the rows of a device.
  assert plan['memory']['compiled']['arguments'] == pytest.approx(state + batch, rel=0.02)


@pytest.mark.parametrize('flags', [['--devices=0'], ['--devices=x'], ['--devices=8',
                                                                     '--device_memory=much']])
def test_what_cannot_be_understood_is_a_usage_error(flags):
  assert cli.main(['train', *FILES, '--dry_run', *flags]) == 2
  with pytest.raises(UsageError):
    machine.parse_size('80XB')
