"""Training on every FLAN task whose data is there, but for the cluster held out, and its report."""

import json

import gin
import pytest
import seqio

from flanjax import cli
from flanjax.commands import common

HELD_OUT = {'cb', 'rte', 'wnli'}
# Paraphrase excludes nli and the other way, and wsc is made of wnli's sentences.
NEAR = {'glue_mrpc', 'stsb', 'wsc'}
LENGTHS = "--gin.TASK_FEATURE_LENGTHS={'inputs': 128, 'targets': 32}"


@pytest.fixture
def few_examples(monkeypatch):
  """Keeps 12 training examples of a dataset; sources remember their counts."""
  common.load_tasks()
  from flanjax.data import indexed_source, specs, vocabularies

  def forget():
    for spec in specs.all_specs('flan2021'):
      seqio.TaskRegistry.get(f'{spec.name}_type_0').source._counts.clear()

  forget()
  monkeypatch.setattr(indexed_source, 'MAX_TRAIN_EXAMPLES', 12)
  yield
  forget()
  vocabularies.set_default(None)
  gin.clear_config()


@pytest.mark.real_data
def test_real_tasks_train_without_nli_and_are_evaluated_on_it(tmp_path, few_examples):
  from flanjax.data import availability, prepare, specs

  manifest = prepare.prepare(
      'flan2021_holdout_nli_train', {'inputs': 128, 'targets': 32}, vocabulary='bytes',
      output_dir=tmp_path / 'prepared', num_workers=1, on_missing='skip', download=False)
  tasks = {t['task'] for t in json.loads(manifest.read_text())['tasks']}
  here = {s.name for s in specs.all_specs('flan2021') if availability.check_available(s) is None}
  assert HELD_OUT <= here and len(here) >= 20
  assert tasks == here - HELD_OUT - NEAR

  run = tmp_path / 'run'
  assert cli.main([
      'train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin',
      f"--gin.MIXTURE_OR_TASK_NAME='{manifest}'", f"--gin.MODEL_DIR='{run}'",
      '--gin.TRAIN_STEPS=2', '--gin.BATCH_SIZE=4', LENGTHS]) == 0
  assert cli.main([
      'eval', f"--gin.CHECKPOINT_PATH='{run}'", '--gin.NUM_EXAMPLES=1', '--json',
      "--gin.MIXTURE_OR_TASK_NAME=['rte_type_0', 'rte_type_0_scoring_eval', 'cb_type_0', "
      "'cb_type_0_scoring_eval', 'wnli_type_0', 'wnli_type_0_scoring_eval']"]) == 0
  assert cli.main(['report', str(run)]) == 0
  report = json.loads((run / 'report/report.json').read_text())
  assert report['holdout'] == 'nli'
  assert {t['task'] for t in report['tasks']} == HELD_OUT
  assert {t['mode'] for t in report['tasks']} == {'generate', 'rank'}
