import hashlib

import pytest
import sentencepiece
import seqio
import tensorflow as tf

from flanjax.data import vocabularies
from flanjax.data.vocabularies import SuiteVocabulary
from flanjax.errors import UserError


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
  monkeypatch.delenv('FLANJAX_VOCABULARY', raising=False)
  vocabularies.set_default(None)
  yield
  vocabularies.set_default(None)


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  folder = tmp_path_factory.mktemp('vocabulary')
  text = folder / 'text.txt'
  text.write_text('the cat sat on the mat\na dog ran to a man\n' * 20)
  sentencepiece.SentencePieceTrainer.train(
      input=str(text), model_prefix=str(folder / 'sp'), vocab_size=40, pad_id=0, eos_id=1,
      unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
  )  # fmt: skip
  return str(folder / 'sp.model')


def test_a_model_file_gets_a_hundred_extra_ids_at_its_end(model_path):
  vocabulary = vocabularies.get(model_path)
  plain = seqio.SentencePieceVocabulary(model_path)
  assert vocabulary.vocab_size == plain.vocab_size + 100
  assert vocabulary.decode(vocabulary.encode('the cat ran')) == 'the cat ran'
  assert (vocabulary.pad_id, vocabulary.eos_id) == (0, 1)
  assert vocabulary.tokenizer.id_to_piece(vocabulary.vocab_size - 1) == '▁<extra_id_0>'


def test_fingerprint_is_the_sha256_of_the_file(model_path):
  with open(model_path, 'rb') as f:
    assert vocabularies.fingerprint(model_path) == hashlib.sha256(f.read()).hexdigest()
  assert len(vocabularies.fingerprint('bytes')) == 64


def test_choice_goes_before_environment_before_the_suites_own(monkeypatch):
  assert vocabularies.default_name('mini') == 'mini'
  assert vocabularies.default_name('flan2021') == 't5'
  monkeypatch.setenv('FLANJAX_VOCABULARY', 'bytes')
  assert vocabularies.default_name('mini') == 'bytes'
  vocabularies.set_default('/some/model')
  assert vocabularies.default_name('mini') == '/some/model'


def test_suite_vocabulary_follows_the_choice_made_after_it_was_built(model_path):
  lazy = SuiteVocabulary('mini')
  for name in ('bytes', model_path):
    vocabularies.set_default(name)
    eager = vocabularies.get(name)
    assert lazy.encode('a cat') == list(eager.encode('a cat'))
    assert lazy.encode_tf('a cat').numpy().tolist() == lazy.encode('a cat')
    assert lazy.decode(lazy.encode('a cat')) == 'a cat'
    assert lazy.decode_tf(tf.constant(lazy.encode('a cat'))).numpy() == b'a cat'
    assert (lazy.vocab_size, lazy.eos_id, lazy.pad_id) == (eager.vocab_size, 1, 0)


def test_suite_vocabularies_are_equal_when_they_stand_for_the_same_one():
  assert SuiteVocabulary('mini') != SuiteVocabulary('flan2021')
  assert SuiteVocabulary('user') == SuiteVocabulary('flan2021')
  vocabularies.set_default('bytes')
  assert SuiteVocabulary('mini') == SuiteVocabulary('flan2021')
  assert SuiteVocabulary('mini') == seqio.ByteVocabulary()


def test_an_unreachable_file_is_an_error_that_names_it_and_the_way_out(tmp_path):
  with pytest.raises(UserError, match=r'(?s)nowhere/x\.model.*FLANJAX_VOCABULARY'):
    vocabularies.get('/nowhere/x.model')
  bad = tmp_path / 'bad.model'
  bad.write_bytes(b'not a model')
  with pytest.raises(UserError, match='not a SentencePiece model'):
    vocabularies.get(str(bad))


def test_t5_without_network_is_an_error_of_the_same_form(monkeypatch, tmp_path):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path))
  monkeypatch.setattr(vocabularies, '_T5_URL', 'http://127.0.0.1:9/nothing')
  with pytest.raises(UserError, match='gs://t5-data'):
    vocabularies._file_of('t5')
  assert not list(tmp_path.rglob('*model*'))
