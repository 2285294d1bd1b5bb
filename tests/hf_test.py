"""Weights of transformers in and out: golden/hf, and transformers itself where it is installed.

golden/hf is made by tools/make_hf_golden.py: a folder per model as transformers saved it, and
expected.npz, what transformers computes with it.
"""

import base64
import json
import pathlib
import shutil
import subprocess
import sys
import unicodedata

import jax
import ml_dtypes
import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from flanjax import cli, errors
from flanjax.evaluation import predict
from flanjax.inference import tokenizer
from flanjax.input import pieces
from flanjax.interop import hf, layout, native, safetensors, tensors
from flanjax.models import t5
from flanjax.training import checkpoints

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'hf'
MODELS = ('t5_1_0', 't5_1_1', 'ul2', 'mt5', 'umt5', 'sharded_bfloat16')
MINI = ROOT / 'tasks' / 'mini' / 'base'


def _convert(source, target, *flags, to='flanjax'):
  other = {'flanjax': 'hf', 'hf': 'flanjax'}[to]
  assert cli.main(['convert', f'--from={other}', f'--to={to}', str(source), str(target), *flags]) == 0
  return target


def _params(path):
  return jax.tree.map(jax.numpy.asarray, checkpoints.restore_params(path)[0])


def _compare(model, params, expected):
  """Encoder, logits and greedy tokens are those expected."""
  mask = expected['decoder_attention_mask']
  batch = {'encoder_input_tokens': expected['input_ids'], 'decoder_target_tokens': mask,
           'decoder_input_tokens': expected['decoder_input_ids']}
  encode = lambda p, b: model.module.apply({'params': p}, b, method=t5.Transformer.encode)
  encoded = np.asarray(jax.jit(encode)(params, batch))
  valid = expected['input_ids'] > 0
  np.testing.assert_allclose(encoded[valid], expected['encoded'][valid], atol=1e-4, rtol=0)
  real = model.config.vocab_size - model.config.vocab_padding
  logits = np.asarray(jax.jit(model.logits)(params, batch))[mask > 0]
  np.testing.assert_allclose(logits[:, :real], expected['logits'][mask > 0], atol=1e-4, rtol=0)
  assert (logits[:, real:] < -1e9).all()
  greedy = expected['greedy']
  inputs = [[int(t) for t in row if t] for row in expected['input_ids']]
  found = predict.Predictor(model, params, batch_size=4).generate(inputs, greedy.shape[1])
  assert found == [[int(t) for t in row if t > 1] for row in greedy]


@pytest.mark.parametrize('name', MODELS)
def test_a_converted_model_computes_what_transformers_does(name, tmp_path):
  folder = _convert(GOLDEN / name, tmp_path / 'ours')
  with np.load(GOLDEN / name / 'expected.npz') as expected:
    _compare(t5.from_folder(folder), _params(folder), expected)


@pytest.mark.parametrize('name', MODELS)
def test_there_and_back_gives_the_same_tensors_and_configuration(name, tmp_path):
  ours = _convert(GOLDEN / name, tmp_path / 'ours')
  back = _convert(ours, tmp_path / 'back', '--dtype=bfloat16' if 'bfloat16' in name else
                  '--dtype=float32', to='hf')
  first, second = hf.open_folder(GOLDEN / name), hf.open_folder(back)
  assert first.config == second.config and first.info == second.info
  for key, tensor in first.tensors.items():
    np.testing.assert_array_equal(tensors.to_array(second.tensors[key]), tensors.to_array(tensor))
  assert json.loads((back / 'config.json').read_text())['vocab_size'] == 90
  assert not list(tmp_path.glob('*.part'))


def test_a_folder_of_transformers_is_an_initial_checkpoint(tmp_path):
  converted = _convert(GOLDEN / 'umt5', tmp_path / 'ours')
  direct, step = checkpoints.restore_params(GOLDEN / 'umt5')
  assert step == 0
  jax.tree.map(np.testing.assert_array_equal, direct, checkpoints.restore_params(converted)[0])


def test_weights_of_bfloat16_are_trained_as_float32(tmp_path):
  folder = _convert(GOLDEN / 't5_1_1', tmp_path / 'ours', '--dtype=bfloat16')
  found, _ = safetensors.open_tensors(folder / native.WEIGHTS)
  assert {t.dtype for t in found.values()} == {np.dtype(ml_dtypes.bfloat16)}
  params, _ = checkpoints.restore_params(folder)
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize('name', MODELS)
def test_the_layout_is_that_of_the_network(name):
  config = hf.open_folder(GOLDEN / name).config
  shapes = safetensors.flatten(t5.EncoderDecoderModel(config).param_shapes())
  assert layout.shapes(config) == {k: v.shape for k, v in shapes.items()}


def test_the_files_of_a_tokenizer_come_along_and_go_back(tmp_path):
  source = shutil.copytree(GOLDEN / 't5_1_1', tmp_path / 'source')
  shutil.copy(MINI / 'sentencepiece.model', source / 'spiece.model')
  (source / 'tokenizer_config.json').write_text('{"tokenizer_class": "T5Tokenizer"}')
  ours = _convert(source, tmp_path / 'ours')
  info = json.loads((ours / 'model.json').read_text())
  assert info['vocabulary'] == str(ours / 'spiece.model')
  assert info['vocabulary_fingerprint'] == json.loads(
      (MINI / 'model.json').read_text())['vocabulary_fingerprint']
  moved = ours.rename(tmp_path / 'moved')
  back = _convert(moved, tmp_path / 'back', to='hf')
  for name in ('spiece.model', 'tokenizer_config.json'):
    assert (back / name).read_bytes() == (source / name).read_bytes()


def test_a_model_whose_tokenizer_is_a_json_file_alone_gets_its_sentencepiece_model_back(tmp_path, monkeypatch):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path / 'cache'))
  source = shutil.copytree(GOLDEN / 't5_1_1', tmp_path / 'source')
  model = (MINI / 'sentencepiece.model').read_bytes()
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  said = {'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': base64.b64encode(
              proto.normalizer_spec.precompiled_charsmap).decode()},
          'pre_tokenizer': {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always'},
          'model': {'type': 'Unigram', 'unk_id': 2, 'vocab': [[p.piece, p.score] for p in proto.pieces] + [
              [f'<extra_id_{i}>', 0.0] for i in reversed(range(100))]}}
  (source / 'tokenizer.json').write_text(json.dumps(said))
  ours = _convert(source, tmp_path / 'ours')
  info = json.loads((ours / 'model.json').read_text())
  assert info['vocabulary'] == str(ours / 'spiece.model')
  assert info['vocabulary_content'] == pieces.content_of(pieces.parse(model, MINI / 'sentencepiece.model').proto)
  assert (ours / 'tokenizer.json').exists() and not (source / 'spiece.model').exists()
  assert tokenizer.get(str(ours)).encode('Who has it?') == tokenizer.get('mini').encode('Who has it?')


def test_a_large_model_leaves_in_shards_with_an_index(tmp_path, monkeypatch):
  monkeypatch.setattr(hf, 'MAX_SHARD_BYTES', 8_000)
  ours = _convert(GOLDEN / 't5_1_1', tmp_path / 'ours')
  back = _convert(ours, tmp_path / 'back', to='hf')
  assert len(list(back.glob('model-*.safetensors'))) > 3
  assert set(json.loads((back / hf.INDEX).read_text())['weight_map']) == set(
      safetensors.open_tensors(GOLDEN / 't5_1_1' / hf.WEIGHTS)[0])
  hf.open_folder(back)


def test_an_untied_head_of_umt5_is_read_by_the_rules_of_its_transformers(tmp_path):
  source = shutil.copytree(GOLDEN / 'umt5', tmp_path / 'umt5')
  config = json.loads((source / 'config.json').read_text())
  (source / 'config.json').write_text(json.dumps(
      config | {'transformers_version': '4.40.0', 'tie_word_embeddings': False}))
  head = 'decoder/logits_dense/kernel'
  new, old = hf.open_folder(GOLDEN / 'umt5').tensors[head], hf.open_folder(source).tensors[head]
  np.testing.assert_array_equal(tensors.to_array(old), tensors.to_array(new) * 4)


def _edit(folder, **changes):
  config = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(config | changes))


def _rewrite(folder, change):
  """Passes the tensors of a folder's file through `change`, a function of a dict."""
  found, _ = safetensors.open_tensors(folder / hf.WEIGHTS)
  arrays = change({k: tensors.to_array(t) for k, t in found.items()})
  safetensors.write_tensors(
      folder / hf.WEIGHTS, {k: tensors.from_array(v) for k, v in arrays.items()})


def _without(name):
  return lambda arrays: {k: v for k, v in arrays.items() if k != name}


WI = 'encoder.block.1.layer.1.DenseReluDense.wi_0.weight'
REFUSED = {
    'of another architecture': (
        lambda f: _edit(f, model_type='longt5'), 'not a T5.*config.json.*longt5'),
    'of an encoder alone': (
        lambda f: _edit(f, architectures=['T5EncoderModel']), 'T5EncoderModel'),
    'that is quantised': (lambda f: _edit(f, quantization_config={'bits': 4}), 'Quantised'),
    'of another activation': (lambda f: _edit(f, feed_forward_proj='gated-tanh'), 'gated-tanh'),
    'with the exact gelu': (lambda f: _edit(f, feed_forward_proj='gelu'), "'gelu'"),
    'of other buckets': (
        lambda f: _edit(f, relative_attention_num_buckets=64), 'num_buckets.*64.*32'),
    'of other special tokens': (lambda f: _edit(f, decoder_start_token_id=2), 'decoder_start'),
    'of a thousand million layers': (lambda f: _edit(f, num_layers=10**9), 'num_layers.*1,024'),
    'of a size beyond all': (lambda f: _edit(f, d_model=10**30), 'd_model'),
    'of a size that is no number': (lambda f: _edit(f, d_ff='20'), "d_ff.*'20'"),
    'whose sizes are others': (lambda f: _edit(f, d_ff=21), r'wi_0.*\(20, 16\).*\(21, 16\)'),
    'with more layers than tensors': (
        lambda f: _edit(f, num_layers=4), r'tensors are missing.*encoder\.block\.3\.'),
    'with fewer layers than tensors': (
        lambda f: _edit(f, num_layers=2), r'not of this model.*encoder\.block\.2\.'),
    'whose configuration is broken': (
        lambda f: (f / 'config.json').write_text('{"model_type"'), 'no JSON'),
    'whose configuration is nested without end': (
        lambda f: (f / 'config.json').write_text('[' * 100_000), 'no JSON'),
    'whose configuration is a list': (
        lambda f: (f / 'config.json').write_text('[]'), 'no JSON object'),
    'without a tensor': (lambda f: _rewrite(f, _without(WI)), f'1 tensors are missing.*{WI}'),
    'with a tensor too many': (
        lambda f: _rewrite(f, lambda a: a | {'bias': np.zeros(3, np.float32)}),
        '1 tensors are not of this model.*bias'),
    'with a tensor turned over': (
        lambda f: _rewrite(f, lambda a: a | {WI: np.ascontiguousarray(a[WI].T)}),
        rf'{WI} has another shape.*\(16, 20\).*\(20, 16\)'),
    'with two embeddings': (
        lambda f: _rewrite(f, lambda a: a | {'encoder.embed_tokens.weight': a['shared.weight'] + 1}),
        'encoder.embed_tokens.weight'),
    'that is cut short': (
        lambda f: (f / hf.WEIGHTS).write_bytes((f / hf.WEIGHTS).read_bytes()[:-100]),
        'no whole safetensors.*model.safetensors'),
    'that is empty': (lambda f: (f / hf.WEIGHTS).write_bytes(b''), 'no whole safetensors'),
    'with a header beyond its end': (
        lambda f: (f / hf.WEIGHTS).write_bytes((2**62).to_bytes(8, 'little') + b'{}'),
        'no whole safetensors'),
    'in a pickle': (
        lambda f: (f / hf.WEIGHTS).rename(f / 'pytorch_model.bin'),
        'pickle.*pytorch_model.bin.*save_pretrained'),
    'without weights': (lambda f: (f / hf.WEIGHTS).unlink(), 'no weights'),
    'without a configuration': (lambda f: (f / 'config.json').unlink(), 'config.json'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refuses_a_folder(case, tmp_path, capsys):
  spoil, message = REFUSED[case]
  folder = shutil.copytree(GOLDEN / 't5_1_1', tmp_path / 'theirs')
  spoil(folder)
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    hf.open_folder(folder)
  argv = ['convert', '--from=hf', '--to=flanjax', str(folder), str(tmp_path / 'ours')]
  assert cli.main(argv) == 1
  assert 'Traceback' not in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ['theirs']


@pytest.mark.parametrize('file, message', [
    ('model-00009-of-00009.safetensors', 'not there.*model-00009'),
    ('../outside.safetensors', 'cannot be one of its own.*outside'),
    ('weights.bin', 'cannot be one of its own'),
    ('model-00001-of-00004.safetensors', 'tensors are missing.*lm_head.weight')])
def test_refuses_an_index_that_does_not_fit_its_files(file, message, tmp_path):
  folder = shutil.copytree(GOLDEN / 'sharded_bfloat16', tmp_path / 'theirs')
  index = json.loads((folder / hf.INDEX).read_text())
  moved = next(k for k in ('lm_head.weight', *index['weight_map'])
               if index['weight_map'][k] != file)
  (folder / hf.INDEX).write_text(json.dumps(
      {'weight_map': index['weight_map'] | {moved: file}}))
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    hf.open_folder(folder)


def test_first_files_of_t5_carry_copies_that_are_dropped(tmp_path):
  folder = shutil.copytree(GOLDEN / 't5_1_0', tmp_path / 'theirs')
  extra = 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
  _rewrite(folder, lambda a: a | {
      extra: np.ones((32, 2), np.float32), 'lm_head.weight': a['shared.weight'],
      'decoder.embed_tokens.weight': a['shared.weight']})
  assert hf.open_folder(folder).config == hf.open_folder(GOLDEN / 't5_1_0').config


def test_refuses_to_write_over_a_folder(tmp_path, capsys):
  (tmp_path / 'ours').mkdir()
  (tmp_path / 'ours' / 'mine.txt').write_text('kept')
  assert cli.main(['convert', '--from=hf', '--to=flanjax', str(GOLDEN / 't5_1_0'),
                   str(tmp_path / 'ours')]) == 1
  assert 'there already' in capsys.readouterr().err
  assert [p.name for p in (tmp_path / 'ours').iterdir()] == ['mine.txt']


_MEASURED = """
import resource, sys
from flanjax import cli
from flanjax.interop import tensors
import flanjax.interop.hf, flanjax.interop.native
tensors.BLOCK_BYTES = 1 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert cli.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_model(tmp_path):
  folder, size = shutil.copytree(GOLDEN / 't5_1_1', tmp_path / 'theirs'), 1_000_000
  _edit(folder, vocab_size=size)
  _rewrite(folder, lambda a: a | {
      'shared.weight': np.zeros((size, 16), np.float32),
      'lm_head.weight': np.ones((size, 16), np.float32)})
  done = subprocess.run(
      [sys.executable, '-c', _MEASURED, 'convert', '--from=hf', '--to=flanjax', '--json',
       str(folder), str(tmp_path / 'ours')], check=True, capture_output=True, text=True)
  kilobytes = int(done.stdout.split()[-1])
  assert (tmp_path / 'ours' / native.WEIGHTS).stat().st_size > 128_000_000
  assert kilobytes < 30_000


@pytest.fixture
def live():
  """tools/make_hf_golden.py as a module, where torch and transformers are installed."""
  pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip('transformers', reason='transformers is not installed')
  transformers.logging.set_verbosity_error()
  sys.path.insert(0, str(ROOT / 'tools'))
  try:
    import make_hf_golden
  finally:
    sys.path.pop(0)
  return make_hf_golden


@pytest.mark.comparison
@pytest.mark.parametrize('name', MODELS)
def test_golden_numbers_are_what_transformers_gives_now(live, name, tmp_path):
  model = type(live.make(name)).from_pretrained(GOLDEN / name, dtype='float32')
  now = live.compute(model)
  with np.load(GOLDEN / name / 'expected.npz') as golden:
    assert set(golden) == set(now)
    for key, value in golden.items():
      np.testing.assert_allclose(now[key], value, atol=1e-5, err_msg=key)


@pytest.mark.comparison
@pytest.mark.parametrize('name', MODELS)
def test_what_leaves_computes_the_same_in_transformers(live, name, tmp_path):
  ours = _convert(GOLDEN / name, tmp_path / 'ours')
  back = _convert(ours, tmp_path / 'back', to='hf')
  model = type(live.make(name)).from_pretrained(back, dtype='float32')
  _compare(t5.from_folder(ours), _params(ours), live.compute(model))


@pytest.mark.comparison
@pytest.mark.parametrize('name', MODELS)
def test_a_model_of_ours_computes_the_same_in_transformers(live, name, tmp_path):
  config = hf.open_folder(GOLDEN / name).config
  params = t5.EncoderDecoderModel(config).init(jax.random.key(3))
  flat = {k: tensors.from_array(np.asarray(v)) for k, v in safetensors.flatten(params).items()}
  hf.write_folder(tmp_path, tensors.Weights(config, flat))
  auto = pytest.importorskip('transformers').AutoModelForSeq2SeqLM
  expected = live.compute(auto.from_pretrained(tmp_path))
  if name == 'umt5':
    # transformers 5 scales the output of every UMT5, whatever its head.
    expected['logits'] = expected['logits'] * config.emb_dim**0.5
  _compare(t5.EncoderDecoderModel(config), params, expected)


@pytest.mark.comparison
def test_the_mini_model_says_the_same_in_transformers(live, tmp_path):
  import transformers

  from flanjax.data import vocabularies

  back = _convert('mini', tmp_path / 'mini', to='hf')
  cut = transformers.AutoTokenizer.from_pretrained(back)
  theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(back)
  ours, params = t5.from_folder(MINI), _params(MINI / 'model.safetensors')
  vocabulary = vocabularies.get('mini')
  for text in ('Review: a lovely film.\nIs it positive or negative?', 'A dog <extra_id_0> bone.'):
    ids = [*vocabulary.encode(text), 1]
    inputs = cut(text, return_tensors='pt')
    assert inputs['input_ids'].tolist() == [ids]
    said = theirs.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=16)
    [tokens] = predict.Predictor(ours, params).generate([ids], 16)
    assert tokens == [t for t in said[0].tolist() if t > 1]


_LINES = ['', ' ', 'plain words', '  many   spaces ', 'a\tb\nc\r\nd', 'nb\u00a0sp\u3000wide\u2003em', 'ﬁ ﬂ ① Ⅷ ㎏ ½', 'ＡＢＣ１２３',
          'e\u0301 é E\u0301', 'か\u3099 が', '한글 \u1112\u1161\u11ab', 'مرحبا \u202eabc', 'zero\u200bwidth\u200d', 'soft\u00adhyphen',
          '😀👩\u200d👩\u200d👧 🇩🇪', '\ufeffbom', '\x00\x01\x1f', '\x0b\x0c\x85', '</s> <pad> <unk>', '▁under▁score', '漢字仮名', 'I\u0307 İ ı ß ſ',
          'x' * 300, '\u2028\u2029', '\U0001f600' * 20, 'ñ' * 9 + '\u0303', '1\u20442', '\uffff\ufffe', '“quotes” ‘q’ …', 'Ω Å \u212b']


def _hostile():
  rng = np.random.default_rng(0)
  kinds = [(0x20, 0x7f), (0, 0x300), (0x300, 0x370), (0x1e00, 0x2100), (0x2e80, 0x3400), (0xac00, 0xad00), (0xf900, 0xffff),
           (0x1f300, 0x1f700), (0x590, 0x780)]
  made = []
  for _ in range(400):
    low, high = kinds[rng.integers(len(kinds))]
    plain = ''.join(map(chr, rng.integers(97, 123, 12)))
    made.append(plain[:6] + ''.join(map(chr, rng.integers(low, high, 8))) + ' ' + plain[6:])
  return _LINES + made


@pytest.mark.comparison
def test_a_tokenizer_that_transformers_saved_without_its_model_cuts_as_that_model(live, tmp_path, monkeypatch):
  """tokenizer.json alone, against transformers and against the SentencePiece model it came from."""
  import sentencepiece
  import transformers

  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path / 'cache'))
  rng, original, saved = np.random.default_rng(1), tmp_path / 'original', tmp_path / 'saved'
  original.mkdir()
  words = [''.join(map(chr, rng.integers(97, 123, rng.integers(2, 7)))) for _ in range(300)]
  (tmp_path / 'text').write_text('\n'.join(
      [' '.join(rng.choice(words, 12)) for _ in range(400)] + ['漢字 かな 한글 é ñ ß 123 () ? ! “ ” مرحبا 😀'] * 40))
  sentencepiece.SentencePieceTrainer.train(
      input=str(tmp_path / 'text'), model_prefix=str(original / 'spiece'), vocab_size=500, pad_id=0, eos_id=1,
      unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2)
  (original / 'tokenizer_config.json').write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 100}')
  transformers.AutoTokenizer.from_pretrained(original).save_pretrained(saved)
  assert not (saved / 'spiece.model').exists()
  theirs = transformers.AutoTokenizer.from_pretrained(saved)
  ours, slow = tokenizer.get(str(saved)), tokenizer.get(str(original))
  assert ours.size == slow.size == len(theirs)
  assert pieces.identity(str(saved)).content == pieces.identity(str(original)).content
  lines = _hostile()
  assert [ours.encode(x) for x in lines] == [slow.encode(x) for x in lines]
  other = [x for x in lines if ours.encode(x) != theirs(x, add_special_tokens=False)['input_ids']]
  # Here transformers cuts otherwise than the model that it was given: letters and their marks as one,
  # U+0085 as a space, the text of special tokens as these.
  known = lambda x: unicodedata.normalize('NFC', x) != x or '\x85' in x or '</s>' in x
  assert all(map(known, other)) and len(other) < 0.03 * len(lines), other
