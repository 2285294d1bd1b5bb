"""Checkpoints of T5X in and out: golden/t5x_checkpoints.tgz, and T5X itself where it is installed.

The archive is written by T5X's own checkpointers, see tools/make_t5x_checkpoints.py.
"""

import json
import os
import pathlib
import subprocess
import sys
import tarfile

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from flanjax import cli, errors
from flanjax.interop import hf, native, t5x, tensors
from flanjax.models import t5
from flanjax.training import checkpoints

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden'
WRITTEN = ('per_layer_legacy', 'per_layer_orbax', 'scanned_legacy', 'scanned_orbax')


@pytest.fixture
def golden(tmp_path):
  with tarfile.open(GOLDEN / 't5x_checkpoints.tgz') as archive:
    archive.extractall(tmp_path / 'golden', filter='data')
  return tmp_path / 'golden'


@pytest.fixture
def expected(golden):
  with np.load(golden / 'expected.npz') as file:
    return dict(file)


def _convert(source, target, *flags, of='t5x', to='flanjax'):
  assert cli.main(['convert', f'--from={of}', f'--to={to}', str(source), str(target), *flags]) == 0
  return target


def _logits(folder, batch):
  params, step = checkpoints.restore_params(folder)
  assert step == 7
  inputs = ('encoder_input_tokens', 'decoder_input_tokens', 'decoder_target_tokens')
  return jax.jit(t5.from_folder(folder).logits)(params, {name: batch[name] for name in inputs})


def _arrays(weights):
  return {name: tensors.to_array(tensor) for name, tensor in weights.tensors.items()}


def _equal(first, second):
  assert first.config == second.config
  jax.tree.map(np.testing.assert_array_equal, _arrays(first), _arrays(second))


@pytest.mark.parametrize('name', WRITTEN)
def test_what_t5x_wrote_computes_the_same_here(name, golden, expected, tmp_path):
  folder = _convert(golden / name, tmp_path / 'ours')
  network = name.rpartition('_')[0]
  np.testing.assert_allclose(_logits(folder, expected), expected[network], atol=1e-5)
  config = json.loads((folder / 'model.json').read_text())['config']
  assert config['num_decoder_layers'] == 3 and config['head_dim'] == 4
  assert config['relpos_per_layer'] == (network == 'scanned')


@pytest.mark.parametrize('network', ('per_layer', 'scanned'))
def test_both_layouts_hold_the_same(network, golden):
  _equal(t5x.open_path(golden / f'{network}_legacy'), t5x.open_path(golden / f'{network}_orbax'))


@pytest.mark.parametrize('name', ['per_layer_legacy', 'scanned_orbax'])
def test_a_checkpoint_of_t5x_is_an_initial_checkpoint(name, golden, tmp_path):
  ours = _convert(golden / name / 'checkpoint_7', tmp_path / 'ours')
  direct, step = checkpoints.restore_params(golden / name / 'checkpoint_7')
  assert step == 7
  jax.tree.map(np.testing.assert_array_equal, direct, checkpoints.restore_params(ours)[0])


@pytest.mark.parametrize('name, flags', [
    ('per_layer_legacy', ()), ('per_layer_legacy', ('--scanned',)),
    ('scanned_legacy', ('--scanned',))])
def test_there_and_back_gives_the_same(name, flags, golden, tmp_path):
  ours = _convert(golden / name, tmp_path / 'ours')
  back = _convert(ours, tmp_path / 'back', *flags, of='flanjax', to='t5x')
  _equal(t5x.open_path(golden / name), t5x.open_path(back))


@pytest.mark.parametrize('network', ['per_layer', 'scanned'])
def test_what_we_write_is_what_t5x_wrote(network, golden, tmp_path):
  weights = t5x.open_path(golden / f'{network}_legacy')
  t5x.write_folder(tmp_path / 'back', weights, scanned=network == 'scanned')
  read = lambda folder: serialization.msgpack_restore((folder / 'checkpoint_7/checkpoint').read_bytes())
  ours, theirs = read(tmp_path / 'back'), read(golden / f'{network}_legacy')
  assert ours['version'] == theirs['version']
  assert ours['optimizer']['state']['step'] == theirs['optimizer']['state']['step']
  drop = lambda spec: {k: v for k, v in spec.items() if k != 'metadata'} | {
      'shape': spec['metadata']['shape'], 'compressor': spec['metadata']['compressor']}
  is_spec = lambda x: 'driver' in x
  described = [jax.tree.map(drop, x['optimizer']['target'], is_leaf=is_spec)
               for x in (ours, theirs)]
  assert described[0] == described[1]


def test_a_model_of_transformers_reaches_t5x_in_bfloat16(tmp_path):
  source = GOLDEN / 'hf' / 'sharded_bfloat16'
  back = _convert(source, tmp_path / 'back', '--dtype=bfloat16', of='hf', to='t5x')
  found, there = t5x.open_path(back), hf.open_folder(source)
  jax.tree.map(np.testing.assert_array_equal, _arrays(found), _arrays(there))
  assert {t.dtype for t in found.tensors.values()} == {np.dtype(np.float32)}
  zarray = back / 'checkpoint_0/target.encoder.encoder_norm.scale/.zarray'
  assert json.loads(zarray.read_text())['dtype'] == np.dtype(ml_dtypes.bfloat16).name


def test_refuses_relative_positions_of_each_layer_where_t5x_has_one_table(golden, tmp_path):
  weights = t5x.open_path(golden / 'scanned_legacy')
  with pytest.raises(errors.UserError, match='(?s)one table.*--scanned'):
    t5x.write_folder(tmp_path / 'back', weights)


def _index(folder, change):
  path = folder / 'checkpoint'
  contents = serialization.msgpack_restore(path.read_bytes())
  change(contents['optimizer']['target'])
  path.write_bytes(serialization.msgpack_serialize(contents))


def _elsewhere(target):
  target['token_embedder']['embedding']['kvstore'] = {
      'driver': 'http', 'base_url': 'http://example.com', 'path': '/etc/..'}


SCALE = 'target.encoder.encoder_norm.scale'
EMBEDDING = 'target.token_embedder.embedding'
REFUSED = {
    'without a tensor': (
        lambda f: _index(f, lambda t: t['encoder'].pop('encoder_norm')),
        '1 tensors are missing.*encoder_norm/scale'),
    'with a tensor too many': (
        lambda f: _index(f, lambda t: t.update(bias=np.zeros(2, np.float32))),
        'not of this model.*bias'),
    'with a tensor of another shape': (
        lambda f: _index(f, lambda t: t['encoder'].update(
            encoder_norm={'scale': np.ones(9, np.float32)})), r'encoder_norm/scale.*\(9,\).*\(8,\)'),
    'without an array': (lambda f: (f / SCALE / '.zarray').unlink(), f'not there.*{SCALE}'),
    'without a part of an array': (
        lambda f: (f / EMBEDDING / '0.0').unlink(), f'(?s)not there.*{EMBEDDING}.*0.0'),
    'with a part cut short': (
        lambda f: (f / EMBEDDING / '0.0').write_bytes((f / EMBEDDING / '0.0').read_bytes()[:40]),
        f'cannot be read.*{EMBEDDING}'),
    'whose index is cut short': (
        lambda f: (f / 'checkpoint').write_bytes((f / 'checkpoint').read_bytes()[:-9]),
        'no index of T5X'),
    'whose index points elsewhere': (lambda f: _index(f, _elsewhere), 'token_embedder/embedding'),
    'that is a pickle': (
        lambda f: (f / 'checkpoint').write_bytes(b'\x80\x04K\x01.'), 'no index of T5X'),
    'of another network': (
        lambda f: _index(f, lambda t: t.pop('token_embedder')), 'no T5 of T5X'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refuses_a_checkpoint(case, golden, tmp_path):
  spoil, message = REFUSED[case]
  folder = golden / 'per_layer_legacy' / 'checkpoint_7'
  spoil(folder)
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    _arrays(t5x.open_path(folder))
  argv = ['convert', '--from=t5x', '--to=flanjax', str(folder), str(tmp_path / 'ours')]
  assert cli.main(argv) == 1
  assert [p.name for p in tmp_path.iterdir()] == ['golden']


def test_refuses_an_orbax_folder_without_its_data(golden, tmp_path, capsys):
  state = golden / 'scanned_orbax' / 'checkpoint_7' / 'state'
  for file in (state / 'd').iterdir():
    file.unlink()
  argv = ['convert', '--from=t5x', '--to=flanjax', str(state.parent), str(tmp_path / 'ours')]
  assert cli.main(argv) == 1
  assert 'cannot be read' in capsys.readouterr().err


def test_a_run_of_ours_leaves_tensor_by_tensor(golden, tmp_path):
  """native.open_path reads what Orbax wrote in a run's folder without restoring it whole."""
  from flanjax.training.state import TrainState

  weights = t5x.open_path(golden / 'per_layer_legacy')
  params, _ = checkpoints.restore_params(golden / 'per_layer_legacy')
  run = tmp_path / 'run'
  writer = checkpoints.Checkpointer(run)
  writer.save(TrainState(np.int32(7), jax.tree.map(jax.numpy.asarray, params), {'count': jax.numpy.zeros(1)}), {})
  writer.close()
  (run / 'model.json').write_text(t5.to_json(weights.config))
  _equal(native.open_path(run), weights)
  assert native.open_path(run).info['step'] == 7


@pytest.mark.parametrize('network', ['per_layer', 'scanned'])
def test_t5x_reads_what_we_write(network, golden, expected, tmp_path):
  pytest.importorskip('t5x.checkpoints', reason='T5X is not installed')
  ours = _convert(golden / f'{network}_orbax', tmp_path / 'ours')
  flags = ('--scanned',) if network == 'scanned' else ()
  back = _convert(ours, tmp_path / 'back', *flags, of='flanjax', to='t5x')
  done = subprocess.run(
      [sys.executable, ROOT / 'tools' / 'make_t5x_checkpoints.py', 'read', back,
       '--network', network], check=True, capture_output=True, text=True, env=os.environ)
  answer = json.loads(done.stdout.splitlines()[-1])
  assert answer['step'] == 7
  np.testing.assert_allclose(answer['logits'], expected[network], atol=1e-5)
