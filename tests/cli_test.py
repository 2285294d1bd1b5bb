"""The command line: wrong usage, bad input, and a user's own tasks from registration to report."""

import doctest
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import forked
import gin
import jax
import pytest

from flanjax import cli, terminal
from flanjax.commands import common
from flanjax.errors import UserError

TASKS = '''
import functools
import numpy as np
import seqio
import tensorflow as tf
from flanjax.data import TaskSpec, Template, metrics, register

WORDS = ('red', 'blue')


def _dataset(split, shuffle_files=False, seed=None, *, word=''):
  n = {'train': 40, 'validation': 8, 'test': 8}[split]
  rows = [f'{word} {i}' for i in range(n)]
  return tf.data.Dataset.from_tensor_slices({'text': rows, 'label': [i % 2 for i in range(n)]})


def _fields(example):
  return {'text': example['text'], 'options': list(WORDS),
          'answer': tf.gather(tf.constant(WORDS), example['label'])}


for cluster in ('fruit', 'tools'):
  for i in range(2):
    name = f'my_{cluster}_{i}'
    register(TaskSpec(
        name=name, cluster=cluster,
        source=seqio.FunctionDataSource(
            functools.partial(_dataset, word=name), splits=('train', 'validation', 'test'),
            num_input_examples={'train': 40, 'validation': 8, 'test': 8}),
        fields=_fields,
        templates=[Template('{text}: which?\\n{options_}', '{answer}'),
                   Template('Choose for {text}.\\n{options_}', '{answer}')],
        metric_fns=[metrics.accuracy]))
'''


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
  """A verb sets what holds for its process; here all share one."""
  monkeypatch.setenv('FLANJAX_CACHE', os.environ.get('FLANJAX_CACHE', ''))
  yield
  gin.clear_config()
  if 'flanjax.data.vocabularies' in sys.modules:
    sys.modules['flanjax.data.vocabularies'].set_default(None)


@pytest.fixture
def user_tasks(tmp_path, monkeypatch):
  """A user's module in the current folder; forgets what it registers."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'cli_user_tasks.py').write_text(TASKS)
  yield 'cli_user_tasks'
  import seqio

  from flanjax.data import specs
  for spec in specs.all_specs('user'):
    specs.unregister(spec.name)
  for name in [n for n in seqio.MixtureRegistry.names() if n.startswith('user_')]:
    seqio.MixtureRegistry.remove(name)
  del sys.modules['cli_user_tasks']


def _run(capsys, *argv) -> tuple[int, str, str]:
  status = cli.main([str(a) for a in argv])
  out, err = capsys.readouterr()
  return status, out, err


@pytest.mark.parametrize('argv', [[verb] for verb in cli.VERBS] + [
    ['tasks', 'list'], ['tasks', 'show'], ['tasks', 'check'], ['tasks', 'export'], ['mixtures', 'list'],
    ['mixtures', 'show']])
def test_every_help_has_an_example_and_loads_nothing_heavy(argv, capsys):
  with pytest.raises(SystemExit) as e:
    cli.main([*argv, '--help'])
  assert e.value.code == 0
  assert re.search(rf'example:\n  flanjax {argv[0]}', capsys.readouterr().out)


def test_help_and_version_are_quick():
  started = time.monotonic()
  code = ('import sys; from flanjax import cli\n'
          'try: cli.main(["train", "--help"])\n'
          'except SystemExit: pass\n'
          'heavy = {"tensorflow", "jax", "seqio"} & set(sys.modules)\n'
          'sys.exit(f"imports {heavy}" if heavy else 0)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert time.monotonic() - started < 30


def test_mixtures_of_one_form_share_a_line_unless_they_are_asked_for(capsys):
  from flanjax.commands import mixtures

  assert doctest.testmod(mixtures).failed == 0
  _, out, _ = _run(capsys, 'mixtures', 'list')
  shipped = [line for line in out.splitlines() if line.startswith(('flan', 'mini'))]
  assert len(shipped) < 60
  for line in (r'mini_holdout_<cluster>_train +12 +23-25',
               r'flan_inter_cluster_split_{0..16}_10templates_train +17 +55-68',
               r'flan_superglue_split_10templates_{5,10..55}train_tasks_eval +11 +\d+'):
    assert re.search(f'^{line}', out, re.MULTILINE), out
  _, out, _ = _run(capsys, 'mixtures', 'list', 'flan_diversity_split1_')
  assert 'flan_diversity_split1_10templates_train' in out and len(out.splitlines()) == 21
  status, _, err = _run(capsys, 'mixtures', 'list', 'flan_inter_cluster_splt_3_10templates_train')
  assert status == 1 and 'did you mean flan_inter_cluster_split_3_10templates_train' in err


@pytest.mark.parametrize('argv, expected', [
    ([], 'VERB'),
    (['quikstart'], 'did you mean quickstart'),
    (['tasks', 'lst'], 'did you mean list'),
    (['train', '--gin_fil=x'], 'did you mean --gin_file'),
    (['train', '--gin.TRAIN_STEPS'], '--gin.TRAIN_STEPS=VALUE'),
    (['train'], '--gin_file'),
    (['prepare'], 'mixture'),
    (['prepare', 'm', '--inputs_length', '0'], 'at least 1'),
    (['prepare', 'm', '--inputs_length', 'x'], 'invalid int value'),
    (['prepare', 'm', '--max_bad_examples', '-1'], 'at least 0'),
    (['quickstart', '--steps', '0'], '--steps must be at least 1'),
    (['report'], 'RUN'),
    (['tasks', 'export', 'm'], '--output'),
    (['tasks', 'export', 'm', '--output', 'x.jsonl', '--num_examples', '0'], 'at least 1'),
])
def test_wrong_usage_ends_with_status_2(argv, expected, capsys):
  status, out, err = _run(capsys, *argv)
  assert (status, out) == (2, '')
  assert expected in err and 'Traceback' not in err


TRAIN = ['train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin',
         "--gin.MIXTURE_OR_TASK_NAME='m'", "--gin.MODEL_DIR='/nowhere'", '--gin.TRAIN_STEPS=1']


@pytest.mark.parametrize('argv, expected', [
    (['train', '--gin_file=runs/finetun.gin'], 'did you mean runs/finetune.gin'),
    (['train', '--gin_file=runs/finetune.gin'], 'MODEL_DIR'),
    (TRAIN + ['--gin.BATCH_SZE=2'], 'did you mean BATCH_SIZE'),
    (TRAIN + ['--gin.TRAIN_STEPS=-1'], 'total_steps'),
    (TRAIN + ['--gin.MODEL_DIR=3'], 'model_dir must be a text'),
    (TRAIN + ["--gin.ON_MISSING='skp'"], 'did you mean skip'),
    (TRAIN + ["--gin.TASK_FEATURE_LENGTHS={'inputs': 0, 'targets': 8}"], 'TASK_FEATURE_LENGTHS'),
    (TRAIN + ["--gin.INITIAL_CHECKPOINT_PATH='/no/such'"], 'There is no such checkpoint'),
    (TRAIN + ["--gin.MODEL_DIR='/proc/run'"], 'cannot be written'),
    (TRAIN + ['--gin.saving.Saving.keeep=1'], 'did you mean keep'),
    (['eval', "--gin.CHECKPOINT_PATH='/no/such'"], 'There is no such checkpoint'),
    (['eval'], 'CHECKPOINT_PATH'),
    (['report', '/no/such'], '/no/such'),
    (['tasks', 'list', '--module', 'no_such_module'], "There is no module 'no_such_module'"),
    (['tasks', 'show', 'mini_sentimnt'], 'known: '),
    (['tasks', 'show', 'mini_sentimnt', '--html', 'x.html'], 'known: '),
    (['tasks', 'export', 'mini_kinds', '--output', 'x.jsnl'], "did you mean .jsonl"),
    (['tasks', 'export', 'mini_kind', '--output', 'x.jsonl'], 'did you mean'),
    (['tasks', 'list', '--cluster', 'sentment'], 'did you mean sentiment'),
    (['tasks', 'list', '--holdout', 'sentment'], 'did you mean sentiment'),
    (['mixtures', 'show', 'mini_holdout_nli_trian'], 'did you mean mini_holdout_nli_train'),
    (['mixtures', 'list', '--holdout', 'sentment'], 'did you mean sentiment'),
])
def test_bad_input_ends_with_status_1_and_one_message(argv, expected, capsys):
  status, out, err = _run(capsys, *argv)
  assert (status, out) == (1, '')
  assert err.startswith('error: ') and expected in err and 'Traceback' not in err


def test_debug_shows_the_traceback(capsys):
  status, _, err = _run(capsys, 'report', '/no/such', '--debug')
  assert status == 1 and 'Traceback' in err


def test_a_broken_module_is_told_with_its_line(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'broken_tasks.py').write_text('x = 1\ny = x / 0\n')
  status, _, err = _run(capsys, 'tasks', 'list', '--module', 'broken_tasks')
  assert status == 1
  assert 'broken_tasks.py:2' in err and 'ZeroDivisionError' in err and 'Traceback' not in err


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
  (tmp_path / 'sleeper.py').write_text(textwrap.dedent('''
      import os, pathlib, signal, sys, time
      from flanjax.commands import common
      folder = pathlib.Path(sys.argv[1])
      def end(*_):
        (folder / 'ended').touch()
        os._exit(0)
      signal.signal(signal.SIGTERM, end)
      common.end_with_parent()
      (folder / 'started').touch()
      time.sleep(60)
  '''))
  code = ('import sys; from flanjax.commands import common\n'
          f'common.run_child([{str(tmp_path)!r}], module="sleeper")')
  parent = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path)
  _wait_for(tmp_path / 'started')
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  _wait_for(tmp_path / 'ended')


def _wait_for(path: pathlib.Path, seconds: float = 30.0) -> None:
  deadline = time.monotonic() + seconds
  while not path.exists():
    assert time.monotonic() < deadline, f'no {path.name}'
    time.sleep(0.05)


def test_a_childs_failure_is_told_once():
  with pytest.raises(common.ChildFailed) as e:
    common.run_child(['tasks'])
  assert e.value.status == 2


def test_an_unwritable_folder_is_a_users_mistake(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot be written'):
    common.writable(tmp_path / 'file' / 'folder')


def test_plain_progress_tells_rate_and_time_left(capsys, monkeypatch):
  monkeypatch.setattr(terminal, 'PLAIN_PERIOD_S', 0.0)
  with terminal.bar('reading', sys.stderr) as bar:
    bar(0, 4)
    time.sleep(0.02)
    bar(1, 4, 'rte')
    bar(4, 4)
  lines = capsys.readouterr().err.splitlines()
  assert re.fullmatch(r'reading: 1/4, \S+/s, \S+ left, rte', lines[1])
  assert re.fullmatch(r'reading: 4/4, \S+/s, took 0s', lines[-1])


def test_the_examples_in_the_docstrings_of_the_terminal_are_true():
  assert doctest.testmod(terminal).failed == 0


def test_losses_on_the_validation_split_change_nothing_of_training(tmp_path):
  import types

  import numpy as np
  import toy_training

  from flanjax import partitioning
  from flanjax.commands import validation
  from flanjax.training import loop

  model, mesh = toy_training.toy_model(), partitioning.make_mesh()
  make = lambda folder: functools.partial(
      loop.Trainer, model, toy_training.toy_optimizer(), model_dir=folder, mesh=mesh,
      batch_source=toy_training.ToySource(), log_period=1)
  settings = types.SimpleNamespace(
      model=model, mesh=mesh, total_steps=3, eval_period=2, eval_steps=2)
  _, state = validation.train(
      settings, make(tmp_path / 'a'), toy_training.ToySource(seed=1), tmp_path / 'a', 'mix')
  plain = make(tmp_path / 'b')(total_steps=3).run()
  for got, expected in zip(jax.tree.leaves(state.params), jax.tree.leaves(plain.params)):
    np.testing.assert_array_equal(got, expected)
  log = (tmp_path / 'a/training_eval/mix/log.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in log] == [2, 3]
  assert all(0 < json.loads(line)['cross_ent_loss'] < 5 for line in log)


@pytest.mark.parametrize('width', [80, 100, 160])
def test_the_list_of_tasks_fits_its_terminal(width, monkeypatch, capsys):
  monkeypatch.setenv('COLUMNS', str(width))
  status, out, _ = _run(capsys, 'tasks', 'list', '--suite', 'flan2021')
  assert status == 0 and max(map(len, out.splitlines())) <= width
  for words in ('task +cluster +train', 'wsc +coreference +500', 'newsroom +summarization +994,560'):
    assert re.search(words, out)
  assert ('super_glue/wsc:1.0.2' in out) == (width == 160)


def test_a_long_list_of_tasks_has_everything(capsys):
  status, out, _ = _run(capsys, 'tasks', 'list', '--cluster', 'nli', '--long')
  assert status == 0 and 'mini: 2 tasks' in out and 'flan2021: 10 tasks' in out
  assert re.search(r'anli_r1 .*anli/r1:0\.1\.0 +19 MB +CC BY-NC 4\.0 .*Nie et al\. 2020', out)
  _, out, _ = _run(capsys, 'tasks', 'list', '--suite', 'flan2021', '--json')
  row = next(r for r in json.loads(out) if r['task'] == 'story_cloze')
  assert row['downloads'] == 'by hand' and 'cs.rochester.edu' in row['by_hand'] and row['citation']


def test_the_way_of_a_users_own_tasks(user_tasks, tmp_path, capsys):
  """tasks check -> mixtures show -> train (which prepares) -> eval -> report."""
  module = ['--module', user_tasks]
  common_flags = [*module, '--json', '--workdir', tmp_path / 'work']

  status, out, err = _run(capsys, 'tasks', 'check', 'my_fruit_0', *common_flags)
  assert (status, json.loads(out)) == (0, {'my_fruit_0': []}), err
  status, out, _ = _run(capsys, 'tasks', 'show', 'my_fruit_0_type_1', '--num_examples', 1,
                        '--vocabulary', 'bytes', *module)
  assert status == 0 and 'template 1' in out and '    Choose for my_fruit_0 0.' in out
  status, out, _ = _run(capsys, 'tasks', 'list', '--holdout', 'tools', *module)
  assert re.search(r'my_tools_1 +tools +eval +here', out)
  status, out, _ = _run(capsys, 'tasks', 'export', 'my_fruit_0', '--output', tmp_path / 'rows.jsonl',
                        '--num_examples', 3, *common_flags)
  assert (status, json.loads(out)['examples']) == (0, 3)
  assert len((tmp_path / 'rows.jsonl').read_text().splitlines()) == 3
  status, out, _ = _run(capsys, 'tasks', 'show', 'my_fruit_0', '--html', tmp_path / 'page.html',
                        '--vocabulary', 'bytes', *module)
  assert status == 0 and 'Choose for' in (tmp_path / 'page.html').read_text()
  status, out, _ = _run(capsys, 'mixtures', 'show', 'user_holdout_tools_train', *common_flags)
  assert [(r['task'], r['num_examples'], r['share']) for r in json.loads(out)] == [
      ('my_fruit_0_10templates', 40, 0.5), ('my_fruit_1_10templates', 40, 0.5)]

  status, out, err = _run(
      capsys, 'vocab', 'train', '--task', 'user_holdout_tools_train', '--vocab_size', 300, '--byte_fallback',
      '--model_type', 'bpe', '--output', 'my.model', *common_flags)
  assert (status, json.loads(out)['vocab_size']) == (0, 400), err

  run = tmp_path / 'run'
  train = ['train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin',
           "--gin.MIXTURE_OR_TASK_NAME='user_holdout_tools_train'", f"--gin.MODEL_DIR='{run}'",
           "--gin.VOCABULARY='my.model'", '--gin.BATCH_SIZE=4',
           "--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 16}"]
  status, out, err = _run(capsys, *train, '--gin.TRAIN_STEPS=2', '--seed', 3, *common_flags)
  assert status == 0, err
  assert json.loads(out)['step'] == 2
  described = json.loads((run / 'run.json').read_text())
  assert (described['holdout'], described['seed']) == ('tools', 3)
  described_model = json.loads((run / 'model.json').read_text())
  assert described_model['vocabulary'] == str(tmp_path / 'my.model')
  assert described_model['config']['vocab_size'] == 512

  # Goes on from the run's own description, with neither module nor TensorFlow.
  manifest = described['mixture_manifest']
  code = ('import sys; from flanjax import cli; status = cli.main(sys.argv[1:])\n'
          'sys.exit("imports tensorflow" if "tensorflow" in sys.modules else status)')
  done = forked.run(
      ['-c', code, 'train', f'--gin_file={run}/config.gin', f"--gin.MIXTURE_OR_TASK_NAME='{manifest}'",
       '--gin.TRAIN_STEPS=3', '--json'], cwd='/')
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['step'] == 3

  status, _, err = _run(capsys, *train, '--gin.TRAIN_STEPS=4', '--holdout', 'fruit', *common_flags)
  assert status == 1 and "held-out cluster 'fruit'" in err

  # The run's folder has the vocabulary, too.
  (tmp_path / 'my.model').rename(tmp_path / 'moved.model')
  status, out, err = _run(
      capsys, 'eval', '--gin_file=runs/eval.gin', f"--gin.CHECKPOINT_PATH='{run}'",
      "--gin.MODES='rank'", '--gin.NUM_EXAMPLES=2', '--gin.SEEN_TEMPLATES=1', '--gin.SEEN_NUM_EXAMPLES=2',
      "--gin.UNTUNED_FEW_SHOT='one_shot'", '--gin.FEW_SHOT_INPUTS_LENGTH=128', '--gin.DEV_NUM_EXAMPLES=2',
      '--gin.OPTION_ORDERS=1', '--gin.VARIANT_TEMPLATES=1', *common_flags)
  assert status == 0, err
  assert 'smallest difference found 80% of the time' in err and re.search(r'tools .* examples', err)
  told = json.loads((run / 'eval' / 'eval.json').read_text())['detectable']
  assert {d['cluster']: d['n_examples'] // d['tasks'] for d in told} == {'tools': 2, 'fruit': 2}
  status, out, err = _run(capsys, 'report', run, '--json')
  assert status == 0, err
  assert pathlib.Path(json.loads(out)['report']).exists()
  report = json.loads((run / 'report' / 'report.json').read_text())
  assert [(c['cluster'], c['held_out']) for c in report['clusters']] == [
      ('tools', True), ('fruit', False)]
  assert set(report['models']) == {'tuned', 'untuned', 'untuned, one-shot'}
  assert report['clusters'][0]['best_dev_template']['tuned'] is not None
  varied = next(t for t in report['tasks'] if t['cluster'] == 'tools')['variants']
  assert [w['variant'] for w in varied['tuned']['ways']] == ['original', 'order_1']
  assert varied['untuned, one-shot'] is None
