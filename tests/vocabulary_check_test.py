"""A model and data of different vocabularies do not meet."""

import functools
import json

import prepared_data
import pytest

from flanjax import cli
from flanjax.commands import train, vocabulary_check
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib
from flanjax.input import pieces
from flanjax.interop import model_folders, tokenizer_files
from flanjax.models import t5

TINY = ['train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin', '--gin.TRAIN_STEPS=1']


@pytest.fixture
def manifest(tmp_path):
  """vocabulary -> the manifest of data prepared with it."""
  @functools.cache
  def write(name):
    data = prepared_data.examples(4, (9, 4), (20, 9), 0)
    return manifest_lib.load(prepared_data.write_mixture(
        tmp_path / f'data-{name}', {'a': data}, **pieces.identity(name).entries))
  return write


def _settings(tmp_path, *flags):
  return train.configure(cli.parse([
      *TINY, '--gin.VOCAB_SIZE=1664', "--gin.MIXTURE_OR_TASK_NAME='x'",
      f"--gin.MODEL_DIR='{tmp_path}/run'", *flags]))


def _model(folder, name):
  """A folder that a run of data in a vocabulary leaves."""
  folder.mkdir()
  config = t5.T5Config(vocab_size=1664, emb_dim=4, num_heads=1, head_dim=2, mlp_dim=4,
                       num_encoder_layers=1, num_decoder_layers=1)
  (folder / 'model.json').write_text(t5.to_json(config, **pieces.identity(name).entries))
  return folder


def test_data_of_another_vocabulary_than_the_checkpoints_is_refused(tmp_path, manifest):
  settings, initial = _settings(tmp_path), str(_model(tmp_path / 'base', 'bytes'))
  with pytest.raises(UserError, match=r"(?s)checkpoint's.*'mini', sha256 6ccfba.*'bytes', sha256 60f3b7.*Restoring"):
    vocabulary_check.before_training(settings, {0: manifest('mini')}, initial)
  vocabulary_check.before_training(settings, {0: manifest('bytes')}, initial)
  vocabulary_check.before_training(settings, {0: manifest('mini')}, None)


def test_a_run_that_learns_its_embeddings_anew_may_have_another_vocabulary(tmp_path, manifest):
  settings = _settings(tmp_path, "--gin.restoring.Restoring.assignment_map=[('token_embedder/.*', None)]")
  vocabulary_check.before_training(settings, {0: manifest('mini')}, str(_model(tmp_path / 'base', 'bytes')))


def test_the_same_vocabulary_elsewhere_is_accepted(tmp_path, manifest):
  copy = tmp_path / 'copy.model'
  copy.write_bytes(pieces.read('mini').proto)
  initial = str(_model(tmp_path / 'base', str(copy)))
  assert pieces.identity(str(copy)).fingerprint != pieces.identity('mini').fingerprint
  vocabulary_check.before_training(_settings(tmp_path), {0: manifest('mini')}, initial)


def test_a_run_and_all_its_mixtures_keep_one_vocabulary(tmp_path, manifest):
  settings, (mini, other) = _settings(tmp_path), (manifest('mini'), manifest('bytes'))
  with pytest.raises(UserError, match="(?s)mixtures.*'bytes'.*'mini'"):
    vocabulary_check.before_training(settings, {0: mini, 10: other}, None)
  _model(tmp_path / 'run', 'bytes')
  with pytest.raises(UserError, match="(?s)this run began with.*'mini'.*'bytes'.*MODEL_DIR"):
    vocabulary_check.before_training(settings, {0: mini}, None)
  vocabulary_check.before_training(settings, {0: other}, None)


def test_a_checkpoint_that_names_no_vocabulary_goes_with_any(tmp_path, manifest):
  (tmp_path / 'bare.safetensors').write_bytes(b'')
  for path in (tmp_path / 'bare.safetensors', _model(tmp_path / 'base', 'bytes')):
    if path.is_dir():
      info = json.loads((path / 'model.json').read_text())
      del info['vocabulary']
      (path / 'model.json').write_text(json.dumps(info))
    vocabulary_check.before_training(_settings(tmp_path), {0: manifest('mini')}, str(path))


def test_a_vocabulary_whose_file_was_changed_is_refused_when_a_model_is_opened(tmp_path, monkeypatch):
  monkeypatch.delenv('FLANJAX_VOCABULARY', raising=False)
  own = tmp_path / 'my.model'
  own.write_bytes(pieces.file_of('mini').read_bytes())
  folder = _model(tmp_path / 'run', str(own))
  assert vocabulary_check.name_for(model_folders.find(str(folder), 'x')) == str(own)
  info = json.loads((folder / 'model.json').read_text()) | {
      'vocabulary_fingerprint': '0' * 64, 'vocabulary_content': '1' * 64}
  (folder / 'model.json').write_text(json.dumps(info))
  with pytest.raises(UserError, match='(?s)not that of the model.*6ccfba.*000000'):
    vocabulary_check.name_for(model_folders.find(str(folder), 'x'))


def test_a_folder_keeps_its_vocabulary_when_it_moves(tmp_path, monkeypatch):
  monkeypatch.delenv('FLANJAX_VOCABULARY', raising=False)
  own = tmp_path / 'theirs' / 'spiece.model'
  own.parent.mkdir()
  own.write_bytes(pieces.file_of('mini').read_bytes())
  (own.parent / 'tokenizer_config.json').write_text('{"extra_ids": 5}')
  folder = _model(tmp_path / 'run', str(own.parent))
  assert tokenizer_files.keep(str(own.parent), folder) == ['spiece.model', 'tokenizer_config.json']
  assert tokenizer_files.keep('mini', folder) == []
  moved = folder.rename(tmp_path / 'moved')
  own.parent.rename(tmp_path / 'gone')
  opened = model_folders.find(str(moved), 'x')
  assert vocabulary_check.name_for(opened) == str(moved / 'spiece.model')
  assert pieces.size_of(opened.vocabulary) == 1_484


def test_two_models_of_different_vocabularies_are_not_compared(tmp_path):
  models = {name: model_folders.find(str(_model(tmp_path / name, name)), 'x') for name in ('mini', 'bytes')}
  with pytest.raises(UserError, match="(?s)models have different.*'bytes'.*'mini'"):
    vocabulary_check.before_evaluation(models, (), {})


def test_tasks_of_another_vocabulary_or_a_larger_one_are_refused(tmp_path):
  import seqio

  import flanjax.tasks.mini  # noqa: F401

  task = seqio.TaskRegistry.get('mini_sentiment_10templates') if (
      'mini_sentiment_10templates' in seqio.TaskRegistry.names()) else None
  name = task.name if task else next(n for n in seqio.TaskRegistry.names() if n.startswith('mini_'))
  mini, other = (model_folders.find(str(_model(tmp_path / n, n)), 'x') for n in ('mini', 'bytes'))
  vocabulary_check.before_evaluation({'tuned': mini}, [name], {'tuned': 1664})
  with pytest.raises(UserError, match=f"(?s)task has another.*{name}.*'mini'.*'bytes'"):
    vocabulary_check.before_evaluation({'tuned': other}, [name], {'tuned': 1664})
  with pytest.raises(UserError, match="(?s)larger.*1,579 ids in 'mini'.*at most 90"):
    vocabulary_check.before_evaluation({'tuned': mini}, [name], {'tuned': 90})
