"""Stock T5X on our mixtures: its programs and losses where it is installed, our side everywhere."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import forked
import jax
import numpy as np
import prepared_data
import prepared_tasks  # noqa: F401 (registers)
import pytest
import seqio

from flanjax import cli, gin_files
from flanjax.data import prepare
from flanjax.errors import UserError
from flanjax.input import mixture
from flanjax.interop import safetensors, t5x
from flanjax.models import t5

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(p.name for p in (gin_files.root() / 't5x').glob('*.gin'))
LENGTHS = {'inputs': 60, 'targets': 40}
MIXTURE = 'prepare_suite_all_train'


def test_the_folder_of_gin_files_is_printed_for_t5x():
  done = subprocess.run([sys.executable, '-m', 'flanjax.gin_files'], check=True, capture_output=True, text=True)
  assert done.stdout.splitlines() == [str(gin_files.root())]
  assert FILES and not any(name.startswith('t5x/') for name in gin_files.shipped())


@pytest.mark.parametrize('name', FILES)
def test_what_a_file_for_t5x_names_of_ours_is_there(name):
  text = (gin_files.root() / 't5x' / name).read_text()
  for package, module in re.findall(r'^from (flanjax[\w.]*) import (\w+)', text, re.MULTILINE):
    found = importlib.import_module(f'{package}.{module}')
    for attribute in re.findall(rf'\b{module}\.(\w+)', text):
      assert callable(getattr(found, attribute))
  for module in re.findall(r"MIXTURE_OR_TASK_MODULE = '(flanjax[\w.]*)'", text):
    assert importlib.util.find_spec(module) is not None
  for other in re.findall(r'--gin_file=t5x/(\w+\.gin)', text):
    assert other in FILES


def test_the_network_for_t5x_is_that_of_the_base_model():
  text = (gin_files.root() / 't5x' / 'mini.gin').read_text()
  sizes = {name: json.loads(value.lower().replace("'", '"')) for name, value in
           re.findall(r'^  (\w+) = (.*)$', text, re.MULTILINE)}
  config = json.loads((ROOT / 'tasks/mini/base/model.json').read_text())['config']
  assert sizes == {name: config[name] for name in sizes} and len(sizes) == 9


def test_manifests_named_by_the_environment_are_tasks_of_seqio(registry, tmp_path):
  paths = [prepare.prepare(MIXTURE, LENGTHS, split, tmp_path, num_workers=1) for split in ('train', 'test')]
  found = forked.run(
      ['-c', 'import seqio, flanjax.data.prepared_tasks as p; '
       'print(p.REGISTERED[0].mixture, *seqio.get_mixture_or_task(p.REGISTERED[0].tasks[0]).splits)'],
      env=os.environ | {'FLANJAX_MANIFESTS': ', '.join(map(str, paths))}, modules=forked.TENSORFLOW).stdout.split()
  assert found[0] == f'prepared_{MIXTURE}' and set(found[1:]) == {'train', 'test'}


def test_no_manifest_is_told_with_the_variable_that_names_them(monkeypatch):
  monkeypatch.delenv('FLANJAX_MANIFESTS', raising=False)
  with pytest.raises(UserError, match='(?s)FLANJAX_MANIFESTS.*flanjax prepare'):
    importlib.import_module('flanjax.data.prepared_tasks')


def _networks():
  """The same network of ours and of T5X, and parameters of it."""
  models = pytest.importorskip('t5x.models', reason='T5X is not installed')
  from t5x import adafactor
  from t5x.examples.t5 import network

  sizes = {'vocab_size': 1_024, 'emb_dim': 16, 'num_heads': 2, 'head_dim': 8, 'mlp_dim': 24,
           'num_encoder_layers': 2, 'num_decoder_layers': 2}
  ours = t5.EncoderDecoderModel(t5.T5Config(**sizes))
  vocabulary = seqio.PassThroughVocabulary(1_024, eos_id=1)
  theirs = models.EncoderDecoderModel(
      network.Transformer(network.T5Config(**sizes, dropout_rate=0.0, mlp_activations=('gelu', 'linear'))),
      vocabulary, vocabulary, adafactor.Adafactor(), z_loss=1e-4)
  return ours, theirs, jax.tree.map(np.asarray, ours.init(jax.random.key(0)))


@pytest.mark.t5x
def test_losses_and_gradients_of_one_batch_are_t5xs(tmp_path):
  ours, theirs, params = _networks()
  data = {'a_10templates': prepared_data.examples(60, (20, 6), (64, 16), 0),
          'b_10templates': prepared_data.examples(80, (9, 9), (64, 16), 1)}
  path = prepared_data.write_mixture(tmp_path, data)
  for pack in (True, False):
    batch = mixture.open_mixture(path, batch_size=8, seed=0, pack=pack).batch(0)
    assert (batch.get('decoder_segment_ids', np.ones(1)).max() > 1) == pack
    (loss, metrics), grads = jax.jit(jax.value_and_grad(ours.loss_fn, has_aux=True))(params, batch)
    expected, wanted = jax.jit(jax.value_and_grad(
        lambda p, b: theirs.loss_fn(p, b, None)[0]))(params, batch)
    tokens = float(metrics['weight_sum'])
    assert tokens == (batch['decoder_target_tokens'] > 0).sum() > 40
    assert abs(float(loss) - float(expected)) / tokens <= 1e-5
    for name, grad in safetensors.flatten(grads).items():
      other = np.asarray(safetensors.flatten(wanted)[name])
      np.testing.assert_allclose(grad, other, rtol=1e-4, atol=1e-5 * np.abs(other).max(), err_msg=name)


@pytest.mark.t5x
def test_t5x_parses_every_file(monkeypatch):
  """After T5X's own files, which they include."""
  pytest.importorskip('t5x.train', reason='T5X is not installed')
  import gin
  import t5x as package

  folder = pathlib.Path(package.__path__[0]).parent
  runs = {'train': ['finetune.gin', 'heldout.gin'], 'eval': ['eval.gin'], 'infer': ['infer.gin']}
  runs['prepared'] = ['finetune.gin', 'prepared.gin']
  assert set(FILES) == {'mini.gin', *(name for names in runs.values() for name in names)}
  for program, names in runs.items():
    module = importlib.import_module(f"t5x.{'train' if program == 'prepared' else program}")
    monkeypatch.setitem(sys.modules, '__main__', module)
    gin.clear_config()
    for path in (gin_files.root(), folder):
      gin.add_config_file_search_path(str(path))
    gin.parse_config_files_and_bindings(
        ['t5x/mini.gin', *(f't5x/{name}' for name in names)], ["VOCABULARY_NAME = 'mini'"],
        finalize_config=False)
    assert gin.query_parameter('get.name').scoped_configurable_fn() == 'mini'
  gin.clear_config()


@pytest.mark.t5x
def test_t5x_trains_on_a_mixture_of_ours_and_we_go_on(registry, tmp_path):
  """T5X's program with our gin; its checkpoint with the optimizer's state opens here."""
  pytest.importorskip('t5x.train', reason='T5X is not installed')
  flags = {'MIXTURE_OR_TASK_NAME': MIXTURE, 'MIXTURE_OR_TASK_MODULE': 'prepared_tasks', 'VOCABULARY_NAME': 'bytes',
           'TASK_FEATURE_LENGTHS': LENGTHS, 'MODEL_DIR': str(tmp_path / 'run'), 'TRAIN_STEPS': 2, 'BATCH_SIZE': 4,
           'INITIAL_CHECKPOINT_PATH': [], 'EVAL_PERIOD': 2, 'network.T5Config.vocab_size': 384,
           'network.T5Config.dtype': 'float32', 'train.train_eval_dataset_cfg': None,
           'utils.SaveCheckpointConfig.period': 2}
  path = os.pathsep.join([str(ROOT / 'tests'), *sys.path])
  subprocess.run(
      [sys.executable, '-m', 't5x.train', f'--gin_search_paths={gin_files.root()}',
       '--gin_file=t5x/examples/t5/t5_1_1/tiny.gin', '--gin_file=t5x/finetune.gin',
       *(f'--gin.{name}={value!r}' for name, value in flags.items())],
      env=os.environ | {'PYTHONPATH': path, 'FLANJAX_VOCABULARY': 'bytes'}, check=True, capture_output=True)
  weights = t5x.open_path(tmp_path / 'run', with_state=True)
  assert weights.info['step'] == 2 and len(weights.opt_state) == len(weights.tensors)
  assert (tmp_path / 'run/checkpoint_2/dataset').is_dir()
  argv = ['convert', '--from=t5x', '--to=flanjax', str(tmp_path / 'run'), str(tmp_path / 'ours')]
  assert cli.main(argv) == 0 and (tmp_path / 'ours/opt_state.safetensors').exists()
