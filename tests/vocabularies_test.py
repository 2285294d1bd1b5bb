import base64
import hashlib
import json

import pytest
import sentencepiece
import seqio
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from flanjax.data import fingerprints, vocabularies
from flanjax.data.vocabularies import SuiteVocabulary
from flanjax.errors import UserError
from flanjax.input import detokenize, pieces


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
    vocabularies.get('t5')
  assert not list(tmp_path.rglob('*model*'))


def test_a_file_with_extra_ids_of_its_own_gets_no_others_and_is_the_same_vocabulary(model_path, tmp_path):
  """As cc_all.32000.100extra beside cc_all.32000, and as mT5's."""
  own = tmp_path / 'own.model'
  own.write_bytes(pieces.read(model_path).proto)
  found, plain = vocabularies.get(str(own)), vocabularies.get(model_path)
  assert found.vocab_size == plain.vocab_size == seqio.SentencePieceVocabulary(str(own)).vocab_size
  assert list(found.encode('the <extra_id_0> sat')) == list(plain.encode('the <extra_id_0> sat'))
  first, second = vocabularies.identity(str(own)), vocabularies.identity(model_path)
  assert first.fingerprint != second.fingerprint and first.content == second.content
  pieces.check_same(first, second, 'not the same', 'here')
  ids = [plain.vocab_size - 1, plain.vocab_size - 100]
  assert detokenize.decoder(model_path)(ids) == '<extra_id_0><extra_id_99>'


def test_a_folder_of_transformers_says_how_many_extra_ids_there_are(model_path, tmp_path):
  """As UMT5's, which has 300."""
  size = sentencepiece.SentencePieceProcessor(model_file=model_path).vocab_size()
  (tmp_path / 'spiece.model').write_bytes(open(model_path, 'rb').read())
  assert vocabularies.get(str(tmp_path)).vocab_size == size + 100
  (tmp_path / 'tokenizer_config.json').write_text('{"extra_ids": 300}')
  pieces.read.cache_clear()
  vocabularies.get.cache_clear()
  assert vocabularies.get(str(tmp_path)).vocab_size == pieces.size_of(str(tmp_path)) == size + 300
  with pytest.raises(UserError, match=r"(?s)another.*got: '.*expected: '.*sha256"):
    pieces.check_same(pieces.identity(str(tmp_path)), pieces.identity(model_path), 'It is another.', 'here')


def tokenizer_json(model_path, extra_ids=100):
  """As transformers writes it of a SentencePiece model."""
  proto = sentencepiece_model_pb2.ModelProto.FromString(open(model_path, 'rb').read())
  charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
  vocab = [[p.piece, p.score] for p in proto.pieces]
  return {
      'version': '1.0',
      'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': charsmap},
      'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [
          {'type': 'WhitespaceSplit'},
          {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True}]},
      'model': {'type': 'Unigram', 'unk_id': 2, 'byte_fallback': False,
                'vocab': vocab + [[f'<extra_id_{i}>', 0.0] for i in reversed(range(extra_ids))]}}


@pytest.mark.parametrize('extra_ids', [100, 300])
def test_a_tokenizer_json_alone_is_the_model_that_it_was_made_of(model_path, extra_ids, tmp_path, monkeypatch):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path / 'cache'))
  folder, beside = tmp_path / 'fast', tmp_path / 'slow'
  for made in (folder, beside):
    made.mkdir()
    (made / 'tokenizer_config.json').write_text(json.dumps({'extra_ids': extra_ids}))
  (folder / 'tokenizer.json').write_text(json.dumps(tokenizer_json(model_path, extra_ids)))
  (beside / 'spiece.model').write_bytes(open(model_path, 'rb').read())
  ours, theirs = vocabularies.get(str(folder)), vocabularies.get(str(beside))
  assert ours.vocab_size == theirs.vocab_size
  for text in ('the cat', 'ﬁne  ｃａｔ', 'a\tman\u3000sat', 'é漢 ?? <extra_id_0>', '</s>'):
    assert list(ours.encode(text)) == list(theirs.encode(text))
  first, second = pieces.identity(str(folder)), pieces.identity(str(beside))
  assert first.content == second.content and first.fingerprint != second.fingerprint
  assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize('change, message', [
    (lambda x: x['model'].update(type='BPE'), 'another model'),
    (lambda x: x['model'].update(unk_id='2'), 'unk_id'),
    (lambda x: x['model']['vocab'].append(['cat', float('nan')]), 'another form'),
    (lambda x: x['model']['vocab'].append(['cat', 10**400]), 'another form'),
    (lambda x: x['model']['vocab'].append(['\ud800', -1.0]), 'another form'),
    (lambda x: x['model']['vocab'].append(['<mine>', 0.0]), 'score 0'),
    (lambda x: x['model']['vocab'].append(['the', -1.0]) or x['model']['vocab'].append(['the', -1.0]), 'another form'),
    (lambda x: x.update(normalizer={'type': 'Lowercase'}), 'Lowercase'),
    (lambda x: x.update(normalizer={'type': 'Precompiled', 'precompiled_charsmap': '!'}), 'broken table'),
    (lambda x: x.update(normalizer=[[]]), 'another form of normalizers'),
    (lambda x: x.update(pre_tokenizer={'type': 'ByteLevel'}), 'ByteLevel'),
    (lambda x: x['pre_tokenizer']['pretokenizers'][1].update(prepend_scheme='never'), 'spaces'),
    (lambda x: x.clear(), 'another model')])
def test_a_tokenizer_json_of_another_kind_is_refused(change, message, model_path, tmp_path):
  said = tokenizer_json(model_path)
  change(said)
  (tmp_path / 'tokenizer.json').write_text(json.dumps(said))
  with pytest.raises(UserError, match=f'(?s){message}.*copy spiece.model'):
    vocabularies.get(str(tmp_path))


def test_folders_without_a_sentencepiece_model(tmp_path):
  with pytest.raises(UserError, match='no vocabulary in this folder: no .*tokenizer.json'):
    vocabularies.get(str(tmp_path))
  (tmp_path / 'tokenizer.json').write_text('{' * 100_000)
  with pytest.raises(UserError, match='(?s)no JSON.*copy spiece.model'):
    vocabularies.get(str(tmp_path))
  (tmp_path / 'tokenizer_config.json').write_text('{"tokenizer_class": "ByT5Tokenizer"}')
  assert vocabularies.get(str(tmp_path)) == seqio.ByteVocabulary()
  assert vocabularies.fingerprint(str(tmp_path)) == vocabularies.fingerprint('bytes')


def test_a_vocabulary_of_seqio_is_known_again_as_one_of_ours(model_path):
  theirs = fingerprints.identity_of(seqio.SentencePieceVocabulary(model_path, extra_ids=100))
  pieces.check_same(theirs, vocabularies.identity(model_path), 'not the same', 'here')
  pieces.check_same(fingerprints.identity_of(seqio.ByteVocabulary()), vocabularies.identity('bytes'), 'x', 'y')
  for other in (seqio.SentencePieceVocabulary(model_path), seqio.ByteVocabulary()):
    with pytest.raises(UserError, match='x'):
      pieces.check_same(fingerprints.identity_of(other), vocabularies.identity(model_path), 'x', 'y')


def test_hashes_of_older_files_are_compared_by_what_the_files_hold(model_path, tmp_path):
  own = tmp_path / 'own.model'
  own.write_bytes(pieces.read(model_path).proto)
  old = pieces.Identity.of({'vocabulary': str(own), 'vocabulary_fingerprint': vocabularies.fingerprint(str(own))})
  pieces.check_same(old, vocabularies.identity(model_path), 'not the same', 'here')
  gone = pieces.Identity('/nowhere/x.model', old.fingerprint)
  with pytest.raises(UserError, match=f'(?s)nowhere.*{old.fingerprint[:16]}'):
    pieces.check_same(gone, vocabularies.identity(model_path), 'not the same', 'here')
  assert pieces.Identity.of({'vocabulary': None}) is None


def test_a_vocabulary_larger_than_the_model_is_refused_with_both_sizes():
  pieces.check_size(90, 90, 'x', 'here')
  with pytest.raises(UserError, match=r"(?s)1,579 ids in 'mini'.*at most 90"):
    pieces.check_size(pieces.size_of('mini'), 90, 'mini', 'here')
