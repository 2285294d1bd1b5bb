"""The quickstart's phases: what is done again, what is not, and the whole of it, shrunk."""

import dataclasses
import json
import os
import pathlib

import forked
import pytest

from flanjax import cli, quickstart
from flanjax.commands import common


class _Children:
  """Stands in for child processes: notes what is run, and fails where it is told to."""

  def __init__(self, folder):
    self.folder, self.ran, self.failing = folder, [], None
    self.argv = {}

  def __call__(self, argv, **options):
    name = argv[0]
    self.ran.append(name)
    self.argv[name] = argv
    if name == self.failing:
      raise common.ChildFailed(1)
    path = self.folder / name
    path.write_text('')
    return {'data': {'data_dir': str(path)}, 'prepare': {'manifest': str(path)},
            'pretrain': {'base': str(path)},
            'report': {'report': str(path), 'headline': 'It works.'}}.get(name, {'file': str(path)})


@pytest.fixture
def children(tmp_path, monkeypatch):
  monkeypatch.setenv('FLANJAX_CACHE', '')
  made = _Children(tmp_path)
  monkeypatch.setattr(common, 'run_child', made)
  return made


@pytest.fixture
def settings(tmp_path):
  return quickstart.Settings(workdir=tmp_path / 'work')


ALL = ['data', 'prepare', 'train', 'eval', 'report']


def test_a_stopped_quickstart_goes_on_with_the_phase_that_it_was_in(children, settings):
  children.failing = 'train'
  with pytest.raises(common.ChildFailed):
    quickstart.run(settings)
  children.failing = None
  assert quickstart.run(settings)['headline'] == 'It works.'
  assert children.ran == ['data', 'prepare', 'train'] + ['train', 'eval', 'report']


def test_a_finished_quickstart_does_nothing_again(children, settings):
  first = quickstart.run(settings)
  assert quickstart.run(settings) == first
  assert children.ran == ALL


def test_a_phase_whose_files_are_gone_is_done_again(children, settings):
  quickstart.run(settings)
  (children.folder / 'prepare').unlink()
  quickstart.run(settings)
  assert children.ran == ALL + ['prepare']


@pytest.mark.parametrize('change', [
    {'holdout': 'nli'}, {'seed': 1}, {'steps': 10}, {'from_scratch': True}])
def test_other_training_has_another_folder(children, settings, change):
  other = dataclasses.replace(settings, **change)
  assert other.run_dir != settings.run_dir
  quickstart.run(settings)
  quickstart.run(other)
  assert children.ran.count('train') == 2


def test_other_numbers_of_examples_only_evaluate_again(children, settings):
  quickstart.run(settings)
  quickstart.run(dataclasses.replace(settings, num_examples=5))
  assert children.ran == ALL + ['eval', 'report']
  assert {'--gin.NUM_EXAMPLES=5', '--gin.SEEN_NUM_EXAMPLES=5'} <= set(children.argv['eval'])


def test_from_scratch_trains_from_the_model_pretrained_here(children, settings):
  quickstart.run(dataclasses.replace(settings, from_scratch=True))
  assert children.ran == ['data', 'prepare', 'pretrain', 'train', 'eval', 'report']
  assert f"--gin.INITIAL_CHECKPOINT_PATH='{children.folder}/pretrain'" in children.argv['train']


def test_training_and_evaluation_share_the_settings_that_tell_a_run(children, settings):
  quickstart.run(dataclasses.replace(settings, seed=3, holdout='nli', steps=7))
  for verb in ('train', 'eval'):
    argv = children.argv[verb]
    assert '--gin.RANDOM_SEED=3' in argv and '--gin.TRAIN_STEPS=7' in argv
    assert f"--gin.MODEL_DIR='{settings.workdir}/nli-seed3-steps7'" in argv
  assert children.argv['prepare'][1] == 'mini_holdout_nli_train'


def test_an_unknown_cluster_is_refused_with_the_known_ones(tmp_path, capfd):
  status = cli.main(['quickstart', '--holdout', 'sentimnt', '--workdir', str(tmp_path)])
  err = capfd.readouterr().err
  assert status == 1 and 'did you mean sentiment' in err and 'Traceback' not in err


def test_the_whole_quickstart_shrunk(tmp_path):
  program = pathlib.Path(__file__).with_name('quickstart_program.py')
  environment = dict(os.environ, FLANJAX_CACHE=str(tmp_path / 'work'))
  done = forked.run([program, tmp_path], env=environment, modules=forked.TENSORFLOW)
  assert done.returncode == 0, done.stderr
  report = json.loads((tmp_path / 'work/topic-seed0-steps2/report/report.json').read_text())
  assert done.stdout.strip() == report['headline'] and report['holdout'] == 'topic'
  held = [c['cluster'] for c in report['clusters'] if c['held_out']]
  assert held == ['topic'] and len(report['clusters']) > 8
  assert set(report['models']) == {'tuned', 'untuned', 'untuned, one-shot'}
  assert report['environment'] and report['loss'] and report['audit'] and report['config']
