"""The main job on embedded data, as phases that a killed run takes up again.

    data      builds the TFDS datasets of the suite `mini`
    pretrain  only with --from_scratch: a base model instead of the one that ships
    prepare   writes the mixture of every cluster but one
    train     instruction-tunes the base model on it
    eval      tuned and untuned model zero-shot, the untuned one few-shot
    report    the page

Each phase is a process of its own: what reads data imports TensorFlow, what trains does not.
`<run folder>/quickstart.json` says which are done; training and evaluation resume inside.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

from flanjax import gin_files
from flanjax import phases as phases_lib
from flanjax import terminal
from flanjax.commands import common
from flanjax.errors import UserError

HOLDOUT = 'sentiment'
PRETRAIN_STEPS = 1_500
GIN_FILE = 'runs/quickstart.gin'
# Fewer page faults in XLA's large buffers: a fifth less CPU time a step.
HUGE_PAGES = 'glibc.malloc.hugetlb=1'


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a quickstart does.

  Attributes:
    workdir: holds the data and a folder for each run.
    holdout: the cluster withheld.
    seed: of data order, dropout and pretraining.
    steps: training steps; None: what the gin file says.
    num_examples: examples of each held-out task and template; None: what the gin file says.
    from_scratch: whether to pretrain briefly instead of taking the base model that ships.
  """

  workdir: pathlib.Path
  holdout: str = HOLDOUT
  seed: int = 0
  steps: int | None = None
  num_examples: int | None = None
  from_scratch: bool = False

  @property
  def run_dir(self) -> pathlib.Path:
    """A folder of its own for everything that changes what is trained."""
    steps = '' if self.steps is None else f'-steps{self.steps}'
    scratch = '-from-scratch' if self.from_scratch else ''
    return self.workdir / f'{self.holdout}-seed{self.seed}{steps}{scratch}'

  @property
  def mixture(self) -> str:
    return f'mini_holdout_{self.holdout}_train'


def run(settings: Settings) -> dict[str, Any]:
  """Does what is not done yet.

  Returns:
    {report, headline, run_dir, seconds}.
  """
  os.environ['FLANJAX_CACHE'] = str(common.writable(settings.workdir))
  run_dir = common.writable(settings.run_dir)
  with phases_lib.locked(run_dir) as lock:
    phases = phases_lib.Phases(run_dir / 'quickstart.json', lock)
    phases.run('data', 'building the embedded datasets', ['data', settings.holdout],
               module='flanjax.quickstart')
    prepared = phases.run(
        'prepare', f'preparing every cluster but {settings.holdout}', _prepare(settings))
    bindings = _bindings(settings, prepared['manifest'], _base(settings, phases))
    fast = {'accelerator': True, 'GLIBC_TUNABLES': HUGE_PAGES}
    phases.run('train', 'instruction-tuning', ['train', f'--gin_file={GIN_FILE}', *bindings],
               **fast)
    if settings.num_examples is not None:
      seen = min(settings.num_examples, gin_files.literals(GIN_FILE)['SEEN_NUM_EXAMPLES'])
      bindings += [f'--gin.NUM_EXAMPLES={settings.num_examples}', f'--gin.SEEN_NUM_EXAMPLES={seen}']
    phases.run('eval', 'evaluating', ['eval', f'--gin_file={GIN_FILE}', *bindings],
               {'num_examples': settings.num_examples}, **fast)
    report = phases.run('report', 'writing the report', ['report', str(run_dir)],
                        {'num_examples': settings.num_examples})
    if phases.skipped:
      terminal.note(f'done before: {", ".join(phases.skipped)}')
    return {**report, 'run_dir': str(run_dir), 'seconds': round(phases.seconds, 1)}


def _prepare(settings: Settings) -> list[str]:
  lengths = gin_files.literals(GIN_FILE)['TASK_FEATURE_LENGTHS']
  return ['prepare', settings.mixture, '--vocabulary', 'mini',
          '--inputs_length', str(lengths['inputs']), '--targets_length', str(lengths['targets'])]


def _base(settings: Settings, phases: phases_lib.Phases) -> str:
  """The base model: the one that ships, or one pretrained here."""
  if not settings.from_scratch:
    return 'mini'
  argv = ['pretrain', str(settings.run_dir / 'base'), str(PRETRAIN_STEPS), str(settings.seed)]
  return phases.run('pretrain', 'pretraining a base model from scratch', argv,
                    module='flanjax.quickstart', accelerator=True,
                    GLIBC_TUNABLES=HUGE_PAGES)['base']


def _bindings(settings: Settings, manifest: str, base: str) -> list[str]:
  """Gin bindings that training and evaluation share."""
  values = {'MODEL_DIR': str(settings.run_dir), 'MIXTURE_OR_TASK_NAME': manifest,
            'INITIAL_CHECKPOINT_PATH': base, 'RANDOM_SEED': settings.seed,
            'HOLDOUT': settings.holdout}
  if settings.steps is not None:
    values['TRAIN_STEPS'] = settings.steps
  return [f'--gin.{name}={value!r}' for name, value in values.items()]


def build_data(holdout: str) -> dict[str, str]:
  """The phase `data`: the TFDS datasets; UserError when there is no such cluster."""
  common.load_tasks()
  from flanjax.data import clusters
  from flanjax.tasks import mini

  clusters.holdout('mini', holdout)
  with terminal.bar('datasets') as progress:
    return {'data_dir': str(mini.build(progress=progress))}


def pretrain(folder: str, steps: str, seed: str) -> dict[str, str]:
  """The phase `pretrain`: a run folder or parameters to begin from."""
  from flanjax.tasks.mini import pretrain as mini_pretrain

  path = mini_pretrain.pretrain_base(pathlib.Path(folder), steps=int(steps), seed=int(seed))
  return {'base': str(path)}


def main(argv: list[str]) -> int:
  """Runs a phase that is no verb; for `run` alone."""
  parser = argparse.ArgumentParser(prog='python -m flanjax.quickstart')
  parser.add_argument('phase', choices=('data', 'pretrain'))
  parser.add_argument('arguments', nargs='*')
  parser.add_argument('--json', action='store_true')
  args = parser.parse_args(argv)
  common.end_with_parent()
  common.silence_libraries()
  try:
    answer = {'data': build_data, 'pretrain': pretrain}[args.phase](*args.arguments)
  except UserError as e:
    terminal.print_error(e)
    return 1
  except KeyboardInterrupt:
    return 130
  print(json.dumps(answer))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
