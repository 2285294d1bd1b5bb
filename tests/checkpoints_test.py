"""Tests of checkpoints."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_training

from flanjax import errors
from flanjax.interop import safetensors
from flanjax.training import checkpoints
from flanjax.training.saving import Saving
from flanjax.training.state import TrainState


def _state(step):
  params = jax.tree.map(lambda p: jnp.asarray(p) + step, toy_training.toy_params())
  state = TrainState.create(params, toy_training.toy_optimizer())
  return state._replace(step=jnp.int32(step))


def _template(**overrides):
  shapes = toy_training.toy_model(**overrides).param_shapes()
  return jax.eval_shape(lambda p: TrainState.create(p, toy_training.toy_optimizer()), shapes)


def _assert_equal(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture
def saved(tmp_path):
  """A run's folder with checkpoints 1, 2, 3, of which the newest two are kept."""
  checkpointer = checkpoints.Checkpointer(tmp_path, Saving(keep=2))
  for step in (1, 2, 3):
    checkpointer.save(_state(step), {'fingerprint': 'f', 'tasks': {'a': step}})
  checkpointer.close()
  return tmp_path


@pytest.fixture
def reopened(saved):
  checkpointer = checkpoints.Checkpointer(saved, Saving(keep=2))
  yield checkpointer
  checkpointer.close()


def _damage(folder: pathlib.Path):
  for path in folder.rglob('*'):
    if path.is_file() and path.stat().st_size:
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_newest_is_restored_and_the_oldest_gone(reopened):
  assert sorted(p.name for p in reopened.folder.iterdir()) == ['2', '3']
  state, position = reopened.restore(_state(0))
  _assert_equal(state, _state(3))
  assert position == {'step': 3, 'fingerprint': 'f', 'tasks': {'a': 3}}


def test_nothing_saved_is_nothing_restored(tmp_path):
  checkpointer = checkpoints.Checkpointer(tmp_path)
  assert checkpointer.restore(_state(0)) is None and checkpointer.newest_folder is None
  checkpointer.close()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(reopened, caplog):
  _damage(reopened.folder / '3')
  state, _ = reopened.restore(_state(0))
  _assert_equal(state, _state(2))
  assert 'cannot be read, trying an older one' in caplog.text
  reopened.save(_state(3), {'fingerprint': 'f', 'tasks': {}})
  reopened.wait()
  assert {'2', '3', 'unreadable-3-0'} == {p.name for p in reopened.folder.iterdir()}


def test_nothing_is_lost_when_none_can_be_read(reopened):
  for step in '23':
    _damage(reopened.folder / step)
  with pytest.raises(errors.UserError, match='no checkpoint can be read'):
    reopened.restore(_state(0))
  assert sorted(p.name for p in reopened.folder.iterdir()) == ['2', '3']


def test_another_model_is_named_with_both_shapes(reopened):
  with pytest.raises(errors.UserError) as error:
    reopened.restore(_template(vocab_size=20))
  text = str(error.value)
  assert 'decoder/logits_dense/kernel' in text and '(8, 16)' in text and '(8, 20)' in text
  with pytest.raises(errors.UserError, match='encoder/layers_1/.*'):
    reopened.restore(_template(num_encoder_layers=2))


def test_parameters_are_read_from_run_checkpoint_and_file_alike(saved):
  for path, step, expected in ((saved, None, 3), (saved / 'checkpoints', 2, 2),
                               (saved / 'checkpoints' / '2', None, 2)):
    params, found = checkpoints.restore_params(path, step)
    assert found == expected
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    _assert_equal(params, jax.tree.map(np.asarray, _state(expected).params))
  (saved / 'converted').mkdir()
  safetensors.save_params(saved / 'converted' / 'params.safetensors', params, {'step': '9'})
  for path in (saved / 'converted', saved / 'converted' / 'params.safetensors'):
    again, found = checkpoints.restore_params(path)
    assert found == 9
    _assert_equal(again, params)


def test_what_is_no_checkpoint_is_refused(saved):
  with pytest.raises(errors.UserError, match='no checkpoint of this step'):
    checkpoints.restore_params(saved, step=7)
  with pytest.raises(errors.UserError, match='no such checkpoint'):
    checkpoints.restore_params(saved / 'none')
  (saved / 'empty').mkdir()
  with pytest.raises(errors.UserError, match='no checkpoint here'):
    checkpoints.restore_params(saved / 'empty')
  _damage(saved / 'checkpoints' / '3')
  with pytest.raises(errors.UserError, match='cannot be read'):
    checkpoints.restore_params(saved)
