"""Test environment: quiet, on the CPU, with real data where there is some."""

import atexit
import os
import pathlib
import shutil
import tempfile
from importlib import metadata

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Programs here run once or twice: compiling them is what takes time.
_FLAGS = '--xla_backend_optimization_level=0'
if metadata.version('jaxlib').startswith('0.10.'):  # A version that does not know a flag ends the process.
  _FLAGS += ' --xla_cpu_use_fusion_emitters=false'
os.environ.setdefault('XLA_FLAGS', _FLAGS)
# Many tests compile the same programs: workers of one run of tests and their children share them.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='flanjax-xla-')
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

_REAL_DATA = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'tfds'
if 'TFDS_DATA_DIR' not in os.environ and _REAL_DATA.is_dir():
  os.environ['TFDS_DATA_DIR'] = str(_REAL_DATA)

import pytest

# Begun first, so that no worker ends with one of them while the other has nothing left to do.
LONGEST = (
    'cli', 'leakage', 'prepare_kill', 'partitioning', 'quickstart', 'faults', 'distributed', 'prepare', 'freezing',
    'flan2021', 'gin_files', 't5x_state', 'infer', 'engine', 'flan2021_library', 'experiment', 'real_data',
    'template_libraries', 'workers', 'verification', 'saving', 'streaming', 'lint', 'export', 'serve', 'hf')


def pytest_collection_modifyitems(items):
  places = {f'{name}_test': place for place, name in enumerate(LONGEST)}
  items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
  if os.environ.get('TFDS_DATA_DIR'):
    return
  for item in items:
    if 'real_data' in item.keywords:
      item.add_marker(pytest.mark.skip(reason='TFDS_DATA_DIR is not set'))


@pytest.fixture
def registry():
  """Takes away what a test adds to SeqIO's registries; bytes are the vocabulary meanwhile."""
  import seqio

  from flanjax.data import vocabularies

  known = set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
  vocabularies.set_default('bytes')
  yield
  for names, added in zip(known, (seqio.TaskRegistry, seqio.MixtureRegistry)):
    for name in set(added.names()) - names:
      added.remove(name)
  vocabularies.set_default(None)


@pytest.fixture
def prepare_registry(registry):
  """Takes away what a test registers beside the tasks of `prepared_tasks`."""
  import prepared_tasks

  from flanjax.data import specs

  yield
  for spec in specs.all_specs(prepared_tasks.SUITE):
    if spec.name not in prepared_tasks.SIZES:
      specs.unregister(spec.name)
