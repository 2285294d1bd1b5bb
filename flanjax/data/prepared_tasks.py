"""Prepared mixtures as SeqIO tasks, for programs that are told a module, such as T5X.

    FLANJAX_MANIFESTS=/data/mixtures/one.json,/data/mixtures/two.json
    MIXTURE_OR_TASK_MODULE = 'flanjax.data.prepared_tasks'
    MIXTURE_OR_TASK_NAME = 'prepared_mini_holdout_nli_train'

Importing this registers what `seqio_source.register_prepared` does; manifests of one mixture are
its splits. The environment says which, since an import has no arguments.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from flanjax.data import seqio_source
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib

ENVIRONMENT_VARIABLE = 'FLANJAX_MANIFESTS'


def register(paths: Sequence[str]) -> list[seqio_source.Registered]:
  """Registers the mixtures of some manifests.

  Raises:
    UserError: none is given, or one cannot be used.
  """
  if not paths:
    raise UserError('No prepared mixture is named.', where=ENVIRONMENT_VARIABLE,
                    expected='the paths of manifests, with commas between them',
                    hint='`flanjax prepare` prints the path of the manifest that it wrote')
  mixtures: dict[str, list[str]] = {}
  for path in paths:
    mixtures.setdefault(manifest_lib.load(path).mixture, []).append(path)
  return [seqio_source.register_prepared(*of_one) for of_one in mixtures.values()]


REGISTERED = register([p.strip() for p in os.environ.get(ENVIRONMENT_VARIABLE, '').split(',')
                       if p.strip()])
