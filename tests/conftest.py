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
