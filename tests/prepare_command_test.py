import argparse

import gin
import pytest

from flanjax.commands import common, prepare, train, train_data
from flanjax.errors import UserError

FILES = ['models/t5_1_1/tiny.gin', 'runs/finetune.gin']
NEEDED = ["MIXTURE_OR_TASK_NAME = 'mix'", "MODEL_DIR = '/nowhere'", 'TRAIN_STEPS = 7']


@pytest.fixture
def asked(monkeypatch):
  """The command lines of the children that are started."""
  lines = []

  def run_child(argv, **unused):
    lines.append(argv)
    return {'manifest': '/data/mixtures/mix.json'}

  monkeypatch.setattr(common, 'run_child', run_child)
  yield lines
  gin.clear_config()


def _run(*bindings, holdout=None, seed=None, module=()):
  arguments = argparse.Namespace(
      gin_file=FILES, gin_bindings=[*NEEDED, *bindings], gin_search_paths='', holdout=holdout,
      seed=seed, module=list(module))
  return train.configure(arguments)


def test_a_run_hands_its_policies_to_the_process_that_prepares(asked):
  train_data._manifest_of(_run("TOO_LONG = 'drop'", 'MAX_BAD_EXAMPLES = 3'))
  train_data._manifest_of(_run())
  pairs = [dict(zip(line[2::2], line[3::2])) for line in asked]
  assert [(p['--too_long'], p['--max_bad_examples']) for p in pairs] == [('drop', '3'), ('truncate', '0')]


@pytest.mark.parametrize('binding, message', [
    ("TOO_LONG = 'shorten'", "TOO_LONG has no choice 'shorten'"),
    ('MAX_BAD_EXAMPLES = -1', 'max_bad_examples must be a whole number'),
])
def test_policies_out_of_range_are_refused_with_the_configuration(asked, binding, message):
  with pytest.raises(UserError, match=message):
    _run(binding)


def test_streamed_mixtures_take_no_policy(asked):
  with pytest.raises(UserError, match='SeqIO cuts'):
    train_data.Data.streamed(_run("TOO_LONG = 'drop'", 'USE_PREPARED = False'))


def test_hints_name_what_sets_a_run():
  error = UserError('what', hint='allow more: --max_bad_examples, or elsewhere: --output_dir')
  assert prepare._in_gin_terms(error).hint == (
      'allow more: --gin.MAX_BAD_EXAMPLES, or elsewhere: --gin.PREPARED_DIR')
  assert prepare._in_gin_terms(UserError('what')).hint is None
