"""The optimizer's state from T5X and to it: golden/t5x_state.tgz, and T5X itself where installed.

The archive is written by T5X's own checkpointers and optimizer, see tools/make_t5x_checkpoints.py.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import jax
import numpy as np
import optax
import pytest
import toy_training
from flax import serialization

from flanjax import cli, errors
from flanjax.interop import layout, opt_state, safetensors, t5x, t5x_names, tensors
from flanjax.models import t5
from flanjax.training import checkpoints, continuing, loop, optimizers
from flanjax.training.restoring import Restoring, by_name
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden' / 't5x_state.tgz'
CASES = ('per_layer', 'scanned', 'per_layer_momentum', 'scanned_momentum')
STEPS, LEARNING_RATE = 3, 0.1


@pytest.fixture(scope='module')
def golden(tmp_path_factory):
  folder = tmp_path_factory.mktemp('golden')
  with tarfile.open(GOLDEN) as archive:
    archive.extractall(folder, filter='data')
  return folder


def _expected(golden, case):
  with np.load(golden / f'{case}.npz') as file:
    return dict(file)


def _flags(case):
  return ('--scanned',) if 'scanned' in case else ()


def _convert(source, target, *flags, of='t5x', to='flanjax'):
  assert cli.main(['convert', f'--from={of}', f'--to={to}', str(source), str(target), *flags]) == 0
  return target


def _optimizer(case):
  return optimizers.adafactor(LEARNING_RATE, beta1=0.9 if 'momentum' in case else None)


def _begin(folder, case):
  """The state with which a run that goes on begins."""
  params, _ = checkpoints.restore_params(folder)
  state = TrainState.create(jax.tree.map(jax.numpy.asarray, params), _optimizer(case))
  return continuing.continued(state, folder)


def _ours(theirs, config):
  """T5X's tree by our names, stacks taken apart, without what is under test."""
  made = {}
  for name, shape in layout.shapes(config).items():
    stacked = None if name in theirs else t5x_names.stacked_name(name)
    made[name] = np.take(theirs[stacked[0]], stacked[1], 1).reshape(shape) if stacked else theirs[name]
  return made


def _theirs(ours, config, scanned):
  """The way back."""
  made = {}
  for name, shape in t5x_names.shapes(config, scanned).items():
    parts = () if name in ours else t5x_names.layers(name, shape[1])
    stack = [ours[part].reshape(shape[0], *shape[2:]) for part in parts]
    made[name] = np.stack(stack, 1) if stack else ours[name]
  return made


def _train(state, case, grads):
  """The state after each step; what `train` of the tool does."""
  optimizer = _optimizer(case)
  update = jax.jit(optimizer.update)
  for i in range(STEPS):
    scaled = safetensors.unflatten({name: grad * (i + 1) for name, grad in grads.items()})
    updates, inner = update(scaled, state.opt_state, state.params)
    state = TrainState(state.step + 1, optax.apply_updates(state.params, updates), inner)
    yield state


def _under(prefix, arrays):
  return {name[len(prefix):]: x for name, x in arrays.items() if name.startswith(prefix)}


def _assert_steps(states, expected, config, scanned):
  """The parameters of each state are those that T5X reached."""
  for i, state in enumerate(states):
    params = {name: np.asarray(x) for name, x in safetensors.flatten(state.params).items()}
    for name, value in _theirs(params, config, scanned).items():
      exact = value.astype(np.float64).reshape(-1)
      found = np.append(exact[::499], np.mean(np.square(exact)))
      np.testing.assert_allclose(found, expected[f'{i}/{name}'], rtol=1e-5, atol=2e-6 * np.sqrt(found[-1]),
                                 err_msg=f'{name} after step {i}')


@pytest.mark.parametrize('case, converted', [
    ('per_layer', False), ('scanned', True), ('per_layer_momentum', True), ('scanned_momentum', False)])
def test_steps_from_a_checkpoint_of_t5x_are_t5xs(case, converted, golden, tmp_path):
  expected = _expected(golden, case)
  state = _begin(_convert(golden / case, tmp_path / 'ours') if converted else golden / case, case)
  counts = {int(x) for name, x in by_name(state.opt_state).items() if name.endswith('count')}
  assert int(state.step) == 7 and counts == {7}
  config = t5x.open_path(golden / case).config
  grads = _ours(_under('gradient/', expected), config)
  _assert_steps(_train(state, case, grads), expected, config, 'scanned' in case)


def _equal(first, second):
  assert first.config == second.config and first.info['step'] == second.info['step']
  for one, other in ((first.tensors, second.tensors), (first.opt_state, second.opt_state)):
    assert list(one) and set(one) == set(other)
    for name in one:
      np.testing.assert_array_equal(tensors.to_array(one[name]), tensors.to_array(other[name]), name)


@pytest.mark.parametrize('case', CASES)
def test_there_and_back_gives_the_same_state(case, golden, tmp_path):
  back = _convert(_convert(golden / case, tmp_path / 'ours'), tmp_path / 'back', *_flags(case),
                  of='flanjax', to='t5x')
  _equal(t5x.open_path(back, with_state=True), t5x.open_path(golden / case, with_state=True))


@pytest.mark.parametrize('case', ['per_layer', 'scanned_momentum'])
def test_the_index_is_that_of_t5x(case, golden, tmp_path):
  t5x.write_folder(tmp_path, t5x.open_path(golden / case, with_state=True), scanned='scanned' in case)
  read = lambda folder: serialization.msgpack_restore((folder / 'checkpoint_7/checkpoint').read_bytes())
  ours, theirs = (_flat(read(f)['optimizer']['state']) for f in (tmp_path, golden / case))
  assert set(ours) == set(theirs)
  for name, value in theirs.items():
    if isinstance(value, dict):
      assert ours[name]['kvstore']['path'] == value['kvstore']['path']
      assert ours[name]['dtype'] == value['dtype'] == 'float32'
      assert ours[name]['metadata']['shape'] == value['metadata']['shape']
    else:
      np.testing.assert_array_equal(ours[name], value, name)


def _flat(tree, prefix=''):
  found = {}
  for name, value in tree.items():
    nested = isinstance(value, dict) and 'driver' not in value
    found |= _flat(value, f'{prefix}{name}/') if nested else {prefix + name: value}
  return found


def test_a_per_layer_state_is_the_scanned_one_where_layers_are_stacked(golden, tmp_path):
  """Layers are stacked and taken apart again; the table that they share stays one."""
  weights = t5x.open_path(golden / 'per_layer', with_state=True)
  t5x.write_folder(tmp_path, weights, scanned=True)
  _equal(t5x.open_path(tmp_path, with_state=True), weights)


def test_what_is_kept_whole_becomes_its_means(golden):
  name, shape = 'decoder/logits_dense/kernel', (3, 2)
  whole = np.arange(6, dtype=np.float32).reshape(shape)
  state = {f'v/{name}': tensors.from_array(whole)}
  template = {f'0/v_row/{name}': np.zeros(2), f'0/v_col/{name}': np.zeros(3), '0/count': np.zeros(()),
              f'0/v/{name}': np.zeros(1)}
  made = opt_state.fitted(state, template, 5)
  np.testing.assert_array_equal(made[f'0/v_row/{name}'], whole.mean(0))
  np.testing.assert_array_equal(made[f'0/v_col/{name}'], whole.mean(1))
  assert made['0/count'] == 5 and made[f'0/v/{name}'].shape == (1,)


def test_params_only_leaves_step_and_state_out(golden, tmp_path):
  ours = _convert(golden / 'per_layer', tmp_path / 'ours', '--params_only')
  assert {p.name for p in ours.iterdir()} == {'params.safetensors', 'model.json'}
  assert checkpoints.restore_params(ours)[1] == 0
  with pytest.raises(errors.UserError, match='no state of Adafactor'):
    _begin(ours, 'per_layer')


@pytest.mark.parametrize('case', ['per_layer', 'scanned'])
def test_what_has_no_state_gets_a_fresh_one_at_step_0(case, golden, tmp_path):
  """T5X would not begin without."""
  ours = _convert(golden / case, tmp_path / 'ours', '--params_only')
  back = _convert(ours, tmp_path / 'back', *_flags(case), of='flanjax', to='t5x')
  fresh, wanted = (t5x.open_path(f, with_state=True).opt_state for f in (back, golden / case))
  assert {n: t.shape for n, t in fresh.items()} == {n: t.shape for n, t in wanted.items()}
  assert not any(tensors.to_array(t).any() for t in fresh.values())
  assert (back / 'checkpoint_0').is_dir()


def _run(folder, golden, case):
  """A run of ours, two steps on from T5X's checkpoint; -> its folder, and the state saved."""
  config = t5x.open_path(golden / case).config
  grads = _ours(_under('gradient/', _expected(golden, case)), config)
  states = list(_train(_begin(golden / case, case), case, grads))
  writer = checkpoints.Checkpointer(folder)
  writer.save(states[1], {})
  writer.close()
  (folder / 'model.json').write_text(t5.to_json(config))
  return states[1], states[2]


@pytest.mark.parametrize('case', ['per_layer_momentum', 'scanned'])
def test_a_run_goes_on_from_another_runs_optimizer(case, golden, tmp_path):
  saved, _ = _run(tmp_path / 'run', golden, case)
  back = _convert(tmp_path / 'run', tmp_path / 'back', *_flags(case), of='flanjax', to='t5x')
  for folder in (tmp_path / 'run', _convert(tmp_path / 'run', tmp_path / 'copy', of='flanjax'), back):
    jax.tree.map(np.testing.assert_array_equal, _begin(folder, case), saved)


def _index(folder, change):
  path = folder / 'checkpoint'
  contents = serialization.msgpack_restore(path.read_bytes())
  change(contents['optimizer']['state'])
  path.write_bytes(serialization.msgpack_serialize(contents))


def _of_kernel(state):
  return state['param_states']['decoder']['logits_dense']['kernel']


REFUSED = {
    'another optimizer': (lambda s: s.update(param_states={'0': {'mu': np.zeros(3)}}),
                          'not that of Adafactor.*--params_only'),
    'a factor too few': (lambda s: _of_kernel(s).pop('v_col'), 'v_col/decoder/logits_dense/kernel'),
    'a parameter too few': (lambda s: s['param_states'].pop('token_embedder'), 'v/token_embedder'),
    'another shape': (lambda s: _of_kernel(s).update(v_row=np.ones(9, np.float32)),
                      r'v_row of decoder/logits_dense/kernel.*\(9,\).*\(128,\)'),
    'a state that is none': (lambda s: s.update(param_states=3), 'no index of T5X'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refuses_a_state(case, golden, tmp_path, capsys):
  change, message = REFUSED[case]
  shutil.copytree(golden / 'per_layer', tmp_path / 'spoilt')
  folder = tmp_path / 'spoilt' / 'checkpoint_7'
  _index(folder, change)
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    t5x.open_path(folder, with_state=True)
  argv = ['convert', '--from=t5x', '--to=flanjax', str(folder), str(tmp_path / 'ours')]
  assert cli.main(argv) == 1 and not (tmp_path / 'ours').exists()
  if case != 'a state that is none':
    assert '--params_only' in capsys.readouterr().err
  assert cli.main([*argv, '--params_only']) == 0


@pytest.mark.parametrize('of, optimizer, message', [
    ('per_layer_momentum', optimizers.adafactor(1.0), 'has momentum.*beta1'),
    ('per_layer', optimizers.adafactor(1.0, beta1=0.9), 'no m of.*beta1'),
    ('per_layer', optimizers.adafactor(1.0, factored=False), 'no v of.*got: v_row, v_col'),
    ('per_layer', optimizers.adamw(1.0), 'is for Adafactor'),
])
def test_refuses_another_optimizer_than_that_of_the_state(of, optimizer, message, golden):
  params, _ = checkpoints.restore_params(golden / of)
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    continuing.continued(TrainState.create(params, optimizer), golden / of)


def test_refuses_to_write_what_t5x_would_not_factor(golden, tmp_path):
  weights = t5x.open_path(golden / 'per_layer', with_state=True)
  small = 'encoder/relpos_bias/rel_embedding'
  del weights.opt_state[f'v/{small}']
  weights.opt_state[f'v_row/{small}'] = tensors.from_array(np.ones(2, np.float32))
  weights.opt_state[f'v_col/{small}'] = tensors.from_array(np.ones(32, np.float32))
  whole = 'decoder/logits_dense/kernel'
  for slot in ('v_row', 'v_col'):
    del weights.opt_state[f'{slot}/{whole}']
  weights.opt_state[f'v/{whole}'] = tensors.from_array(np.ones((128, 128), np.float32))
  with pytest.raises(errors.UserError, match='(?s)one length of sides.*--scanned'):
    t5x.write_folder(tmp_path, weights)


class _Streamed(toy_training.ToySource):
  """A source with a state, as streaming has."""

  begun = None

  def begin(self, step):
    self.begun = step

  def save(self, folder, step):
    folder.mkdir(parents=True)
    (folder / 'step').write_text(str(step))

  def restore(self, folder, step):
    assert (folder / 'step').read_text() == str(step)


def _trainer(folder, total_steps, source, initial=None):
  read = (lambda: checkpoints.restore_params(initial)[0]) if initial else None
  return loop.Trainer(
      toy_training.toy_model(dropout_rate=0.1), optimizers.adafactor(0.05), model_dir=folder,
      total_steps=total_steps, batch_source=source, initial_params=read, saving=Saving(period=4),
      restoring=Restoring(optimizer_state=initial is not None),
      model_info={'initial_checkpoint': initial and str(initial)})


def test_a_run_goes_on_as_the_run_that_it_began_from_did(tmp_path):
  """Batches, learning rate, dropout and optimizer count from the other run's step, through T5X's files."""
  whole = _trainer(tmp_path / 'whole', 6, toy_training.ToySource()).run()
  initial = _convert(tmp_path / 'whole/checkpoints/4', tmp_path / 't5x', of='flanjax', to='t5x')
  source, resumed = _Streamed(), _Streamed()
  assert _trainer(tmp_path / 'second', 5, source, initial).run().step == 5
  again = _trainer(tmp_path / 'second', 6, resumed, initial).run()
  jax.tree.map(np.testing.assert_array_equal, again, whole)
  assert (source.begun, resumed.begun) == (4, None)
  assert checkpoints.steps_in(tmp_path / 'second') == [5, 6]


def test_refuses_to_go_on_without_initial_parameters(tmp_path):
  trainer = loop.Trainer(
      toy_training.toy_model(), optimizers.adafactor(0.05), model_dir=tmp_path, total_steps=1,
      batch_source=toy_training.ToySource(), restoring=Restoring(optimizer_state=True))
  with pytest.raises(errors.UserError, match='INITIAL_CHECKPOINT_PATH'):
    trainer.run()


@pytest.mark.t5x
@pytest.mark.parametrize('case', CASES)
def test_t5x_trains_on_from_a_run_of_ours(case, golden, tmp_path):
  pytest.importorskip('t5x.checkpoints', reason='T5X is not installed')
  expected = _expected(golden, case)
  back = _convert(_convert(golden / case, tmp_path / 'ours'), tmp_path / 'back', *_flags(case),
                  of='flanjax', to='t5x')
  output = tmp_path / 'trained.npz'
  subprocess.run([sys.executable, ROOT / 'tools' / 'make_t5x_checkpoints.py', 'train', back,
                  '--network', case, '--output', output], check=True, env=os.environ)
  with np.load(output) as found:
    assert found['step'] == 7
    for name, value in expected.items():
      np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
