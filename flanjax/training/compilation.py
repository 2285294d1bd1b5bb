"""Compiled programs that are kept from run to run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import platform

import jax


def keep_small_programs() -> None:
  """Keeps those, too, that take less than a second to compile."""
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def use_cache() -> None:
  """Keeps compiled programs in ~/.cache/flanjax/xla from run to run, unless told where.

  One folder per kind of processor: XLA's code for one CPU may not run on another.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  cpu = platform.machine()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    flags = sorted({line for line in lines if line.startswith(('flags', 'Features', 'model name'))})
    cpu += '-' + hashlib.sha256('\n'.join(flags).encode()).hexdigest()[:8]
  cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  jax.config.update('jax_compilation_cache_dir', str(cache / 'flanjax' / 'xla' / cpu))
