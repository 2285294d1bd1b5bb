import gin
import pytest

from flanjax import gin_files
from flanjax.errors import UsageError, UserError

TINY, FINETUNE = 'models/t5_1_1/tiny.gin', 'runs/finetune.gin'
REQUIRED = ["MIXTURE_OR_TASK_NAME = 'm'", "MODEL_DIR = '/nowhere'", 'TRAIN_STEPS = 7']


@pytest.fixture(autouse=True)
def _clean_gin():
  yield
  gin.clear_config()


def _error(*args, **kwargs) -> str:
  with pytest.raises(UserError) as e:
    gin_files.load(*args, **kwargs)
  return str(e.value)


@pytest.mark.parametrize('name', gin_files.shipped())
def test_every_shipped_file_is_understood(name):
  values = {'MODEL_DIR': "'/nowhere'", 'MIXTURE_OR_TASK_NAME': "'m'", 'TRAIN_STEPS': '1',
            'CHECKPOINT_PATH': "'/nowhere'", 'VOCAB_SIZE': '384'}
  used = gin_files.names_used([TINY, name])
  gin_files.load([TINY, name], [f'{k} = {v}' for k, v in values.items() if k in used])
  if gin_files.macro('MODEL') is not None:
    from flanjax.models import t5
    model = gin_files.construct(t5.EncoderDecoderModel)
    assert model.config.vocab_size == 384


@pytest.mark.parametrize('name, millions', [('small', 77), ('base', 248), ('xxl', 11135)])
def test_sizes_are_those_of_t5_1_1(name, millions):
  from flanjax.models import t5

  gin_files.load([f'models/t5_1_1/{name}.gin'], ['VOCAB_SIZE = 32128'])
  model = gin_files.construct(t5.EncoderDecoderModel)
  assert round(t5.param_count(model.param_shapes()) / 1e6) == pytest.approx(millions, abs=3)


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
  from flanjax.models import t5

  gin_files.load([TINY], ['t5.T5Config.num_heads = 0', 'VOCAB_SIZE = 8'])
  with pytest.raises(UserError, match='num_heads must be a positive integer'):
    gin_files.construct(t5.EncoderDecoderModel)


def test_plain_values_are_read_without_importing():
  values = gin_files.literals('runs/quickstart.gin')
  assert values['VOCABULARY'] == 'mini' and set(values['TASK_FEATURE_LENGTHS']) == {
      'inputs', 'targets'}


def test_gin_is_no_package():
  assert not (gin_files.root() / '__init__.py').exists()
