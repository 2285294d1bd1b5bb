import argparse
import functools
import pathlib
import re
import shlex

import gin
import pytest

from flanjax import cli, gin_files, quickstart
from flanjax.commands import eval as eval_script
from flanjax.commands import eval_plan, train
from flanjax.errors import UsageError, UserError
from flanjax.models import t5

TINY, FINETUNE = 'models/t5_1_1/tiny.gin', 'runs/finetune.gin'
# Model files have no command of their own, but that of this one.
MODEL_FILE = 'models/t5_1_1/base.gin'
REQUIRED = ["MIXTURE_OR_TASK_NAME = 'm'", "MODEL_DIR = '/nowhere'", 'TRAIN_STEPS = 7']


@pytest.fixture(autouse=True)
def _clean_gin():
  yield
  gin.clear_config()


def _error(*args, **kwargs) -> str:
  with pytest.raises(UserError) as e:
    gin_files.load(*args, **kwargs)
  return str(e.value)


def _commands(name: str) -> list[argparse.Namespace]:
  """The command lines in the header of a shipped file, parsed."""
  header = (gin_files.root() / name).read_text().split('\nfrom ')[0]
  if name.startswith('models/') and '#   flanjax ' not in header:
    header = (gin_files.root() / MODEL_FILE).read_text().split('\nfrom ')[0]
    header = header.replace(f'--gin_file={MODEL_FILE}', f'--gin_file={name}')
  header = header.replace('\\\n#', '')
  found = re.findall(r'^#   flanjax (.*)$', header, re.MULTILINE)
  return [args for line in found for args in _parsed(shlex.split(line))]


def _parsed(words: list[str]) -> list[argparse.Namespace]:
  """A command, or those that a quickstart is made of."""
  args = cli.parse(words)
  if args.verb != 'quickstart':
    return [args]
  settings = quickstart.Settings(workdir=pathlib.Path('/runs'), holdout=args.holdout)
  flags = [f'--gin_file={quickstart.GIN_FILE}',
           *quickstart._bindings(settings, settings.mixture, 'mini')]
  return [cli.parse([verb, *flags]) for verb in ('train', 'eval')]


@pytest.fixture
def tasks_of():
  """mixtures.tasks_of, with the shipped suites registered."""
  import flanjax.tasks.flan2021
  import flanjax.tasks.mini  # noqa: F401
  from flanjax.data import mixtures

  return mixtures.tasks_of


@functools.cache
def _millions(config: t5.T5Config) -> float:
  """Millions of parameters, from their shapes alone."""
  return t5.param_count(t5.EncoderDecoderModel(config).param_shapes()) / 1e6


def _is_of_a_matrix(name: str) -> bool:
  """Whether it is for `flanjax experiment`, or a part of such a file: see experiment_test."""
  text = (gin_files.root() / name).read_text()
  return any(part in text for part in (
      'flanjax experiment ', 'from flanjax.experiments import', 'Included by the files beside'))


@pytest.mark.parametrize('name', [n for n in gin_files.shipped() if not _is_of_a_matrix(n)])
def test_every_shipped_file_does_what_its_header_says(name, tasks_of):
  """Everything but the data and the arrays: settings, optimizer, mesh, model, mixtures."""
  runs, evaluated = {}, 0
  for args in _commands(name):
    if args.verb == 'report':
      assert set(args.run_dir) <= set(runs)
      continue
    assert name in args.gin_file
    if args.verb == 'train':
      run = train.configure(args)
      runs[run.model_dir] = run
      assert _millions(run.model.config) > 0.1
      assert run.optimizer.learning_rate(10_000) > 0
      if 'my_tasks' not in run.modules:
        assert all(t.endswith('templates') for t in tasks_of(run.mixture_or_task_name))
      continue
    settings = eval_script.configure(args)
    evaluated += 1
    run = runs.setdefault(settings.checkpoint_path, None)
    found = [t for n in settings.names for t in tasks_of(n)]
    found = found or eval_plan.default_tasks(run.mixture_or_task_name, run.holdout)
    assert found and all('_type_' in t for t in found)
  assert runs
  if name.startswith('experiments/') and 'finetune' not in name:
    assert evaluated, 'an experiment is evaluated as well'


@pytest.mark.parametrize('name, millions', [('small', 77), ('base', 248), ('xxl', 11135)])
def test_sizes_are_those_of_t5_1_1(name, millions):
  gin_files.load([f'models/t5_1_1/{name}.gin'], ['VOCAB_SIZE = 32128'])
  config = gin_files.construct(t5.EncoderDecoderModel).config
  assert _millions(config) == pytest.approx(millions, abs=3)


@pytest.mark.parametrize('name', [n for n in gin_files.shipped() if n.startswith('models/t5')])
def test_the_size_in_a_model_files_header_is_its_own(name):
  said = re.search(r'([\d.]+) (million|billion)', (gin_files.root() / name).read_text())
  gin_files.load([name], ['VOCAB_SIZE = 32128'])
  millions = _millions(gin_files.construct(t5.EncoderDecoderModel).config)
  if said is None:
    assert name == TINY and millions < 10
  else:
    unit = {'million': 1, 'billion': 1000}[said[2]]
    assert millions / unit == pytest.approx(float(said[1]), rel=0.02)


CLUSTERS = (
    'nli commonsense sentiment paraphrase closed_book_qa struct_to_text reading_comprehension '
    'reading_comprehension_commonsense coreference translation summarization misc').split()


def _trained(name: str) -> train.TrainRun:
  return next(train.configure(args) for args in _commands(name) if args.verb == 'train')


def test_every_cluster_of_the_paper_has_its_holdout_with_the_papers_settings(tasks_of):
  from flanjax.data import clusters, specs

  assert sorted(clusters.clusters('flan2021')) == sorted(CLUSTERS)
  assert {n for n in gin_files.shipped() if 'flan2021/holdout_' in n} == {
      f'experiments/flan2021/holdout_{cluster}.gin' for cluster in CLUSTERS}
  for cluster in CLUSTERS:
    run = _trained(f'experiments/flan2021/holdout_{cluster}.gin')
    assert run.task_feature_lengths == {'inputs': 1024, 'targets': 256} and run.pack
    assert (run.total_steps, run.batch_size * 1024) == (30_000, 8_192)
    assert [float(run.optimizer.learning_rate(s)) for s in (0, 29_999)] == pytest.approx([3e-5] * 2)
    assert gin.query_parameter('T5Config.emb_dim') == 2048
    tasks = tasks_of(run.mixture_or_task_name)
    assert cluster not in {specs.parse_task_name(t).spec.cluster for t in tasks}
    evaluated = eval_plan.default_tasks(run.mixture_or_task_name, run.holdout)
    assert {specs.parse_task_name(t).spec.cluster for t in evaluated} == {cluster}


@pytest.mark.parametrize('size, millions, steps', [
    ('small', 77, 98_000), ('base', 248, 84_000), ('large', 783, 64_000), ('xl', 2_850, 38_000),
    ('xxl', 11_135, 14_000)])
def test_flan_t5_is_tuned_as_published(size, millions, steps):
  run = _trained(f'experiments/flan_t5/{size}.gin')
  assert (run.total_steps, run.batch_size, run.pack) == (steps, 64, True)
  assert run.task_feature_lengths == {'inputs': 2048, 'targets': 512}
  assert run.model.config.dropout_rate == 0.05
  assert [float(run.optimizer.learning_rate(s)) for s in (0, steps - 1)] == pytest.approx([5e-4] * 2)
  assert _millions(run.model.config) == pytest.approx(millions, rel=0.005)
  assert run.mixture_or_task_name == 'flan2021_all_train'


def test_sentiment_alone_is_evaluated_on_all_else(tasks_of):
  from flanjax.data import specs

  run = _trained('experiments/sentiment_alone.gin')
  cluster_of = lambda t: specs.parse_task_name(t).spec.cluster
  assert {cluster_of(t) for t in tasks_of(run.mixture_or_task_name)} == {'sentiment'}
  evaluated = eval_plan.default_tasks(run.mixture_or_task_name, run.holdout)
  assert {cluster_of(t) for t in evaluated} == set(CLUSTERS) - {'sentiment'}


def test_later_files_and_then_bindings_win(tmp_path):
  (tmp_path / 'mine.gin').write_text('BATCH_SIZE = 3\nDROPOUT_RATE = 0.5\n')
  config = gin_files.load(
      [TINY, FINETUNE, 'mine.gin'], REQUIRED + ['BATCH_SIZE = 4'], search_paths=[str(tmp_path)])
  assert (gin_files.macro('BATCH_SIZE'), gin_files.macro('DROPOUT_RATE')) == (4, 0.5)
  assert [f.rsplit('/', 1)[1] for f in config.files] == [
      'tiny.gin', 'base.gin', 'finetune.gin', 'mine.gin']


def test_a_file_in_the_current_folder_includes_a_shipped_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.gin').write_text(
      'from __gin__ import dynamic_registration\n'
      f"include '{TINY}'\n"
      'from flanjax.models import t5\n'
      't5.T5Config.num_heads = 2\n')
  gin_files.load(['mine.gin'])
  assert gin.query_parameter('T5Config.num_heads') == 2
  assert gin.query_parameter('T5Config.emb_dim') == 64


def test_the_command_line_uses_the_imports_of_the_files_and_short_names():
  gin_files.load([TINY, FINETUNE], REQUIRED + ['loop.Trainer.log_period = 5',
                                               'T5Config.num_heads = 8'])
  assert gin.query_parameter('Trainer.log_period') == 5
  assert gin.query_parameter('T5Config.num_heads') == 8


def test_modules_that_a_file_imports_are_told(tmp_path):
  (tmp_path / 'mine.gin').write_text('import json.decoder\n')
  assert 'json.decoder' in gin_files.load([str(tmp_path / 'mine.gin')]).modules
  assert gin_files.load([TINY]).modules == ()


def test_t5x_flags_become_bindings():
  flags = ['train', '--gin.A=1', "--gin.B='x=y'", '--json']
  assert gin_files.rewrite_flags(flags) == [
      'train', '--gin_bindings=A = 1', "--gin_bindings=B = 'x=y'", '--json']
  with pytest.raises(UsageError, match='--gin.A=VALUE'):
    gin_files.rewrite_flags(['--gin.A'])


@pytest.mark.parametrize('binding, expected', [
    ('TRAIN_STPES = 3', 'did you mean TRAIN_STEPS'),
    ('train.TrainRun.batchsize = 3', 'did you mean batch_size'),
    ('loop.Trainr.keep = 3', 'did you mean Trainer'),
    ('lop.Trainer.keep = 3', 'did you mean loop'),
    ('MODEL_DIR = /tmp/run', 'quotes of their own'),
    ('BATCH_SIZE = [1, 2', 'cannot be parsed'),
    ('MODEL = @t5.NoModel()', "There is no 't5.NoModel'"),
])
def test_a_binding_that_cannot_be_used_names_what_is_near(binding, expected):
  message = _error([TINY, FINETUNE], REQUIRED + [binding])
  assert expected in message
  assert binding in message


def test_all_settings_without_a_value_are_named_at_once():
  message = _error([FINETUNE])
  for name in ('MODEL', 'MODEL_DIR', 'TRAIN_STEPS', 'MIXTURE_OR_TASK_NAME', '--gin_file=models/'):
    assert name in message


def test_gin_required_counts_as_no_value(tmp_path):
  (tmp_path / 'mine.gin').write_text('SIZE = %gin.REQUIRED\n')
  assert 'SIZE' in _error([str(tmp_path / 'mine.gin')])
  gin_files.load([str(tmp_path / 'mine.gin')], ['SIZE = 3'])


@pytest.mark.parametrize('text, expected', [
    ("include 'models/t5_1_1/tinny.gin'\n", 'did you mean models/t5_1_1/tiny.gin'),
    ('import no_such_module_at_all\n', 'no_such_module_at_all'),
    ('X = \n', 'mine.gin:1'),
    ("include 'mine.gin'\n", 'includes itself'),
])
def test_a_file_that_cannot_be_used_is_named(tmp_path, monkeypatch, text, expected):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.gin').write_text(text)
  message = _error(['mine.gin'])
  assert expected in message and 'mine.gin' in message


def test_values_that_the_model_refuses_are_a_users_mistake():
  gin_files.load([TINY], ['t5.T5Config.num_heads = 0', 'VOCAB_SIZE = 8'])
  with pytest.raises(UserError, match='num_heads must be a positive integer'):
    gin_files.construct(t5.EncoderDecoderModel)


def test_plain_values_are_read_without_importing():
  values = gin_files.literals('runs/quickstart.gin')
  assert values['VOCABULARY'] == 'mini' and set(values['TASK_FEATURE_LENGTHS']) == {
      'inputs', 'targets'}


def test_gin_is_no_package():
  assert not (gin_files.root() / '__init__.py').exists()
