"""Test environment: quiet, on the CPU, with real data where there is some."""

import os
import pathlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Programs here run once or twice: compiling them is what takes time.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')

_REAL_DATA = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'tfds'
if 'TFDS_DATA_DIR' not in os.environ and _REAL_DATA.is_dir():
  os.environ['TFDS_DATA_DIR'] = str(_REAL_DATA)

import pytest


def pytest_collection_modifyitems(items):
  if os.environ.get('TFDS_DATA_DIR'):
    return
  for item in items:
    if 'real_data' in item.keywords:
      item.add_marker(pytest.mark.skip(reason='TFDS_DATA_DIR is not set'))


@pytest.fixture(scope='module')
def shared_compilations(tmp_path_factory):
  """Trainers of one module compile the same program: once is enough."""
  import jax

  settings = {'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('xla')),
              'jax_persistent_cache_min_compile_time_secs': 0.0}
  previous = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
  yield
  for name, value in previous.items():
    jax.config.update(name, value)


@pytest.fixture
def prepare_registry():
  """Takes away what a test registers beside the tasks of `prepared_tasks`."""
  import prepared_tasks
  import seqio

  from flanjax.data import specs, vocabularies

  known = set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs(prepared_tasks.SUITE):
    if spec.name not in prepared_tasks.SIZES:
      specs.unregister(spec.name)
  for names, added in zip(known, (seqio.TaskRegistry, seqio.MixtureRegistry)):
    for name in set(added.names()) - names:
      added.remove(name)
  vocabularies.set_default(None)
