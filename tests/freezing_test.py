"""Tests of training a part of the parameters: by pattern, adapters, soft prompts."""

import functools
import json
import pathlib
import types

import forked
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_training

from flanjax import cli, errors, partitioning
from flanjax.commands import eval as eval_command
from flanjax.interop import model_folders, safetensors
from flanjax.models import lora, t5
from flanjax.training import checkpoints, loop
from flanjax.training.freezing import Freezing, fingerprint
from flanjax.training.state import TrainState, merge, split
from flanjax.training.step import make_train_step

LORA = lora.Lora(rank=2, dropout=0.1)
ADAM = optax.adam(0.05)


def _base(seed=3, **overrides):
  return toy_training.toy_params(seed, **overrides)


def _flat(tree):
  return {name: np.asarray(x) for name, x in safetensors.flatten(tree).items()}


def _trainer(folder, steps=4, base=None, model=None, **arguments):
  model = model or toy_training.toy_model(lora=LORA, dropout_rate=0.1)
  return loop.Trainer(
      model, toy_training.toy_optimizer(), model_dir=folder, total_steps=steps,
      batch_source=toy_training.ToySource(), initial_params=base, **arguments)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run with LoRA on a base that lies beside it, in two parts, and what it ended with."""
  folder = tmp_path_factory.mktemp('lora')
  safetensors.save_params(folder / 'base.safetensors', _base())
  arguments = {'base': functools.partial(_read, folder / 'base.safetensors'),
               'model_info': {'initial_checkpoint': str(folder / 'base.safetensors')}}
  _trainer(folder / 'run', 2, **arguments).run()
  state = _trainer(folder / 'run', 4, **arguments).run()
  return types.SimpleNamespace(folder=folder, path=folder / 'run', state=state,
                               arguments=arguments)


def _read(path):
  return checkpoints.restore_params(path)[0]


def test_split_and_merge_are_inverse():
  params = toy_training.toy_params()
  one, other = split(params, lambda name: name.startswith('decoder/layers_0/mlp'))
  assert set(safetensors.flatten(one)) == {
      f'decoder/layers_0/mlp/{name}/kernel' for name in ('wi_0', 'wi_1', 'wo')}
  jax.tree.map(np.testing.assert_array_equal, merge(one, other), params)
  jax.tree.map(np.testing.assert_array_equal, merge(params, {}), params)


def test_frozen_parameters_do_not_move_and_the_others_do(run):
  base, frozen = _flat(_base()), _flat(run.state.frozen)
  assert frozen.keys() == base.keys()
  for name, value in base.items():
    np.testing.assert_array_equal(frozen[name], value)
  start = _flat(toy_training.toy_model(lora=LORA).init(jax.random.key(0)))
  for name, value in _flat(run.state.params).items():
    assert name.endswith(('/lora_a', '/lora_b'))
    assert not np.array_equal(value, start[name]), name


def test_optimizer_and_checkpoint_hold_adapters_only(run):
  held = _flat(checkpoints.read_params(run.path)[0])
  assert held.keys() == _flat(run.state.params).keys()
  adapters = sum(x.size for x in held.values())
  moments = sum(x.size for x in jax.tree.leaves(run.state.opt_state))
  assert moments <= adapters + 3 * len(held)


def test_a_resumed_run_ends_as_an_uninterrupted_one_bit_for_bit(run, tmp_path):
  whole = _trainer(tmp_path / 'run', 4, **run.arguments).run()
  jax.tree.map(np.testing.assert_array_equal, whole, run.state)


def test_a_checkpoint_is_completed_by_its_base(run):
  apart, step = checkpoints.restore_params(run.path, merged=False)
  assert step == 4
  jax.tree.map(np.testing.assert_array_equal, apart, run.state.all_params)
  merged, _ = checkpoints.restore_params(run.path)
  assert _flat(merged).keys() == _flat(_base()).keys()
  expected = lora.merge(apart, LORA.scale)
  jax.tree.map(np.testing.assert_array_equal, merged, expected)


def test_another_base_is_refused_when_a_run_goes_on(run):
  arguments = dict(run.arguments, base=_base(4))
  with pytest.raises(errors.UserError, match='other frozen parameters'):
    _trainer(run.path, 6, **arguments).run()


def test_another_base_is_refused_when_a_checkpoint_is_completed(run, tmp_path):
  record = json.loads((run.path / 'model.json').read_text())
  assert record['frozen']['base'] == str(run.folder / 'base.safetensors')
  held = checkpoints.read_params(run.path)[0]
  safetensors.save_params(tmp_path / 'params.safetensors', held)
  safetensors.save_params(tmp_path / 'other.safetensors', _base(4))
  for path, message in ((tmp_path / 'other.safetensors', 'another than'),
                        (tmp_path / 'none', 'not there')):
    record['frozen']['base'] = str(path)
    (tmp_path / 'model.json').write_text(json.dumps(record))
    with pytest.raises(errors.UserError, match=message):
      checkpoints.restore_params(tmp_path)


def test_one_changed_number_or_two_exchanged_change_a_fingerprint():
  params = {'a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.ones(3, np.float32)}
  same = fingerprint(params)
  assert fingerprint(jax.tree.map(jnp.asarray, params)) == same
  changed, exchanged = params['a'].copy(), params['a'].copy()
  changed[1, 2] = np.nextafter(changed[1, 2], 9)
  exchanged[0] = exchanged[0][::-1]
  others = [dict(params, a=changed), dict(params, a=exchanged), dict(params, a=params['a'].T),
            {'a': params['a'], 'c': params['b']}]
  assert len({same, *map(fingerprint, others)}) == 5


def test_a_fingerprint_does_not_depend_on_the_mesh():
  base = _base()
  mesh = partitioning.make_mesh()
  placed = partitioning.put(base, partitioning.replicated(mesh))
  assert fingerprint(placed) == fingerprint(base)


def test_parameters_are_frozen_by_pattern(tmp_path):
  model, base = toy_training.toy_model(), _base()
  trainer = _trainer(tmp_path, 2, base, model, freezing=Freezing('decoder/.*'))
  state = trainer.run()
  assert set(state.params) == {'decoder'} and set(state.frozen) == {'encoder', 'token_embedder'}
  jax.tree.map(np.testing.assert_array_equal, state.frozen['encoder'], base['encoder'])
  moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), state.params['decoder'],
                       base['decoder'])
  assert moved['layers_0']['mlp']['wo']['kernel']


def test_drawn_parameters_that_are_frozen_are_drawn_again(tmp_path):
  make = functools.partial(_trainer, tmp_path, model=toy_training.toy_model(), seed=5,
                           freezing=Freezing('encoder/.*'))
  make(steps=2).run()
  state = make(steps=3).run()
  drawn = _flat(_base(5))
  for name, value in _flat(state.frozen).items():
    np.testing.assert_array_equal(value, drawn[name])
  whole, _ = checkpoints.restore_params(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, whole, state.all_params)
  with pytest.raises(errors.UserError, match='other frozen parameters'):
    _trainer(tmp_path, 4, model=toy_training.toy_model(), seed=6,
             freezing=Freezing('encoder/.*')).run()


def test_frozen_parameters_are_held_in_bfloat16_by_option(tmp_path):
  safetensors.save_params(tmp_path / 'base.safetensors', _base())
  state = _trainer(tmp_path, 1, _base(), freezing=Freezing(frozen_dtype='bfloat16'),
                   model_info={'initial_checkpoint': str(tmp_path / 'base.safetensors')}).run()
  assert {x.dtype for x in _flat(state.frozen).values()} == {np.dtype(jnp.bfloat16)}
  assert {x.dtype for x in _flat(state.params).values()} == {np.dtype('float32')}
  whole = _flat(checkpoints.restore_params(tmp_path, merged=False)[0])
  for name, value in _flat(state.all_params).items():
    np.testing.assert_array_equal(whole[name], value.astype(np.float32))


def test_a_pattern_of_no_parameter_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='decoder/layers_0/mlp/wo/kernel'):
    _trainer(tmp_path, freezing=Freezing('decodr/.*'), model=toy_training.toy_model()).run()
  with pytest.raises(errors.UserError, match='no regular expression'):
    Freezing('decoder/(')
  with pytest.raises(errors.UserError, match='bfloat16'):
    Freezing(frozen_dtype='int8')


def test_microbatches_train_adapters_as_the_whole_batch_does():
  model = toy_training.toy_model(lora=lora.Lora(rank=2))
  params, frozen = split(model.init(jax.random.key(1)), lambda name: 'lora' in name)
  batch, ends = toy_training.ToySource().batch(0), []
  for parts in (1, 4):
    state = TrainState.create(jax.tree.map(jnp.copy, params), ADAM,
                              jax.tree.map(jnp.copy, frozen))
    state, metrics = make_train_step(model, ADAM, num_microbatches=parts)(state, batch)
    ends.append((state, metrics))
  # Adam's first step is the sign of the gradient, whatever its size: what is compared is metrics.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), *(m for _, m in ends))
  jax.tree.map(np.testing.assert_array_equal, ends[1][0].frozen, frozen)


def test_a_frozen_kernel_costs_no_gradient():
  sizes = {'emb_dim': 64, 'mlp_dim': 256, 'head_dim': 32, 'vocab_size': 128}
  flops = {}
  for name, overrides in (('full', {}), ('lora', {'lora': lora.Lora(rank=2)})):
    model = toy_training.toy_model(**sizes, **overrides)
    trains = lambda n, name=name: name == 'full' or 'lora' in n
    params, frozen = split(model.param_shapes(), trains)
    sgd = optax.sgd(0.1)
    state = jax.eval_shape(lambda p, sgd=sgd: TrainState.create(p, sgd), params)
    step = make_train_step(model, sgd)
    lowered = step.lower(state._replace(frozen=frozen), toy_training.ToySource().batch(0))
    flops[name] = lowered.compile().cost_analysis()['flops']
  # Two of a full step's three products per kernel, and a little for the factors.
  assert flops['lora'] < 0.75 * flops['full']


def test_a_soft_prompt_begins_in_the_base_s_vocabulary_and_alone_is_trained(tmp_path):
  model, base = toy_training.toy_model(prompt_length=3), _base()
  state = _trainer(tmp_path / 'one', 1, base, model).run()
  assert _flat(state.params).keys() == {'prompt/embedding'}
  assert _flat(checkpoints.read_params(tmp_path / 'one')[0]).keys() == {'prompt/embedding'}
  start = np.asarray(model.init(jax.random.key(0), base=base)['prompt']['embedding'])
  moved = np.abs(_flat(state.params)['prompt/embedding'] - start)
  # Adafactor's first step is of about the rate times the parameter's own size.
  assert 0 < moved.max() < 0.2


def test_factors_and_a_prompt_are_trained_together_or_one_of_them_by_pattern(tmp_path):
  model = toy_training.toy_model(lora=LORA, prompt_length=2)
  both = _trainer(tmp_path / 'both', 1, _base(), model).run()
  assert set(both.params) == {'prompt', 'encoder', 'decoder'}
  one = _trainer(tmp_path / 'one', 1, _base(), model, freezing=Freezing('.*/lora_b')).run()
  assert {name.rsplit('/')[-1] for name in _flat(one.params)} == {'lora_b'}


def test_convert_writes_merged_weights_and_adapters_alone(run, tmp_path, capsys):
  ours = ['convert', '--from=flanjax', '--to=flanjax']
  assert cli.main([*ours, str(run.path), str(tmp_path / 'merged')]) == 0
  assert cli.main([*ours, '--adapters', str(run.path), str(tmp_path / 'alone')]) == 0
  assert cli.main(['convert', '--from=flanjax', '--to=hf', str(run.path), str(tmp_path / 'hf')]) == 0
  expected, _ = checkpoints.restore_params(run.path)
  held = safetensors.load_params(tmp_path / 'alone' / 'params.safetensors')[0]
  jax.tree.map(np.testing.assert_array_equal, held, checkpoints.read_params(run.path)[0])
  for name in ('merged', 'alone'):
    jax.tree.map(np.testing.assert_array_equal,
                 checkpoints.restore_params(tmp_path / name)[0], expected)
  # There the vocabulary is padded.
  jax.tree.map(np.testing.assert_array_equal,
               checkpoints.restore_params(tmp_path / 'hf')[0]['encoder'], expected['encoder'])
  assert t5.from_folder(tmp_path / 'merged').config == toy_training.toy_model(
      dropout_rate=0.1).config
  assert cli.main([*ours, '--adapters', str(tmp_path / 'merged'), str(tmp_path / 'no')]) == 1
  assert 'trained all parameters' in capsys.readouterr().err


def test_evaluation_is_of_the_plain_network_with_merged_weights(run):
  opened = model_folders.find(str(run.path), 'CHECKPOINT_PATH')
  settings = types.SimpleNamespace(batch_size=4, untuned=False)
  made, places = eval_command._predictors(settings, opened, ())
  assert list(made) == ['tuned'] and places['tuned']['step'] == 4
  tuned = made['tuned']
  assert tuned.model.config.adapters is None
  jax.tree.map(np.testing.assert_array_equal, tuned.params,
               checkpoints.restore_params(run.path)[0])


def test_a_mesh_of_eight_devices_trains_adapters_as_one_device_does(tmp_path):
  """In a process of its own: the number of devices is fixed when jax starts."""
  script = pathlib.Path(__file__).with_name('frozen_mesh_program.py')
  done = forked.run([script, tmp_path], env=forked.devices(8))
  assert done.returncode == 0, done.stderr
  one, *meshes = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(meshes) == 2 and len(one['losses']) == 3
  for mesh in meshes:
    np.testing.assert_allclose(mesh['losses'], one['losses'], rtol=1e-5)
    assert mesh['fingerprint'] == one['fingerprint'] and mesh['cut']
