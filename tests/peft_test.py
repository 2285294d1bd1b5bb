"""Adapters of PEFT in and out: golden/peft, and PEFT itself where it is installed.

golden/peft is made by tools/make_peft_golden.py: adapters of golden/hf/t5_1_1 as PEFT saved them,
and expected.npz, what PEFT computes with them.
"""

import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from flanjax import cli, errors
from flanjax.evaluation import predict
from flanjax.interop import native, peft, safetensors, tensors
from flanjax.models import t5
from flanjax.training import checkpoints

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'peft'
BASE = pathlib.Path(__file__).parent / 'golden' / 'hf' / 't5_1_1'
REAL = 90


def _convert(source, target, *flags, layouts=('peft', 'flanjax')):
  argv = ['convert', *(f'--{k}={v}' for k, v in zip(('from', 'to'), layouts)), str(source), str(target)]
  assert cli.main([*argv, f'--base={BASE}', *flags]) == 0
  return target


def _compare(folder, expected):
  """Logits and greedy tokens are those expected."""
  mask = expected['decoder_attention_mask']
  batch = {'encoder_input_tokens': expected['input_ids'], 'decoder_target_tokens': mask,
           'decoder_input_tokens': expected['decoder_input_ids']}
  model = t5.from_folder(folder, merged=True)
  params = jax.tree.map(jax.numpy.asarray, checkpoints.restore_params(folder)[0])
  logits = np.asarray(jax.jit(model.logits)(params, batch))[mask > 0][:, :REAL]
  np.testing.assert_allclose(logits, expected['logits'][mask > 0], atol=1e-4, rtol=0)
  greedy = expected['greedy']
  inputs = [row[row > 0] for row in expected['input_ids']]
  found = predict.Predictor(model, params, batch_size=4).generate(inputs, greedy.shape[1])
  assert found == [[int(t) for t in row if t > 1] for row in greedy]


def _tensors(folder):
  found, _ = safetensors.open_tensors(folder / peft.WEIGHTS)
  return {name: tensors.to_array(t) for name, t in found.items()}


@pytest.mark.parametrize('name, flags', [
    ('attention', []), ('attention', ['--adapters']), ('all_rslora', []), ('prompt', ['--adapters'])])
def test_an_adapter_of_peft_computes_the_same_here(name, flags, tmp_path):
  folder = _convert(GOLDEN / name, tmp_path / 'ours', *flags)
  with np.load(GOLDEN / name / 'expected.npz') as expected:
    _compare(folder, expected)


@pytest.mark.parametrize('name', ['attention', 'prompt'])
def test_there_and_back_gives_the_same_adapter(name, tmp_path):
  ours = _convert(GOLDEN / name, tmp_path / 'ours', '--adapters')
  info = json.loads((ours / native.MODEL).read_text())
  assert info['frozen']['base'] == str(BASE)
  back = _convert(ours, tmp_path / 'back', layouts=('flanjax', 'peft'))
  first, second = _tensors(GOLDEN / name), _tensors(back)
  assert set(first) == set(second)
  for key in first:
    np.testing.assert_array_equal(first[key], second[key])
  said, expected = (json.loads((f / peft.CONFIG).read_text()) for f in (back, GOLDEN / name))
  same = set(said) - {'base_model_name_or_path', 'target_modules', 'num_layers'}
  assert {k: said[k] for k in same} == {k: expected[k] for k in same}
  assert sorted(said.get('target_modules') or []) == sorted(expected.get('target_modules') or [])
  assert said['base_model_name_or_path'] == str(BASE)


def test_a_merged_adapter_leaves_for_transformers_in_one_go(tmp_path):
  theirs = _convert(GOLDEN / 'attention', tmp_path / 'theirs', layouts=('peft', 'hf'))
  ours = _convert(GOLDEN / 'attention', tmp_path / 'ours')
  first, second = (checkpoints.restore_params(f)[0] for f in (theirs, ours))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def _edit(folder, **changes):
  config = json.loads((folder / peft.CONFIG).read_text())
  (folder / peft.CONFIG).write_text(json.dumps(config | changes))


def _rewrite(folder, change):
  found = change(_tensors(folder))
  safetensors.write_tensors(
      folder / peft.WEIGHTS, {k: tensors.from_array(np.ascontiguousarray(v)) for k, v in found.items()})


Q = 'base_model.model.encoder.block.1.layer.0.SelfAttention.q.lora_A.weight'
REFUSED = {
    'in a pickle': (
        lambda f: (f / peft.WEIGHTS).rename(f / 'adapter_model.bin'),
        'pickle.*adapter_model.bin.*save_pretrained'),
    'without weights': (lambda f: (f / peft.WEIGHTS).unlink(), 'no adapter here'),
    'cut short': (
        lambda f: (f / peft.WEIGHTS).write_bytes((f / peft.WEIGHTS).read_bytes()[:-9]), 'no whole'),
    'without a tensor': (
        lambda f: _rewrite(f, lambda a: {k: v for k, v in a.items() if k != Q}), f'1 tensors are missing.*{Q}'),
    'with a tensor too many': (
        lambda f: _rewrite(f, lambda a: a | {'base_model.model.shared.lora_embedding_A': a[Q]}),
        'not of this model.*shared.lora_embedding_A'),
    'with a tensor turned over': (
        lambda f: _rewrite(f, lambda a: a | {Q: a[Q].T}), rf'{Q} has another shape.*\(16, 3\).*\(3, 16\)'),
    'of another rank': (lambda f: _edit(f, r=4), r'lora_A.*another shape.*\(3, 16\).*\(4, 16\)'),
    'of a module that is not there': (
        lambda f: _edit(f, target_modules=['q', 'v', 'q_proj']), "no such module.*'q_proj'.*known: k, lm_head"),
    'with a module that has no tensors': (
        lambda f: _edit(f, target_modules=['q', 'v', 'k']), r'tensors are missing.*\.k\.lora_A'),
    'of DoRA': (lambda f: _edit(f, use_dora=True), 'DoRA.*use_dora = True'),
    'of another kind': (lambda f: _edit(f, peft_type='IA3'), "not supported.*'IA3'.*LORA"),
    'of a decoder': (lambda f: _edit(f, task_type='CAUSAL_LM'), 'CAUSAL_LM.*SEQ_2_SEQ_LM'),
    'with whole modules': (lambda f: _edit(f, modules_to_save=['shared']), "modules_to_save = .'shared'"),
    'with biases': (lambda f: _edit(f, bias='all'), "bias = 'all'"),
    'with a setting of tomorrow': (lambda f: _edit(f, use_new=True), 'use_new = True'),
    'that changed its base': (lambda f: _edit(f, init_lora_weights='pissa_niter_4'), 'pissa'),
    'with a rank that is none': (lambda f: _edit(f, r='8'), "r cannot be used.*'8'"),
    'with an alpha beyond numbers': (lambda f: _edit(f, lora_alpha=float('inf')), 'lora_alpha.*inf'),
    'with an alpha of many digits': (lambda f: _edit(f, lora_alpha=10**400), 'lora_alpha.*100'),
    'with ranks by expression': (lambda f: _edit(f, rank_pattern={'(a+)+b': 2}), r'\(a\+\)\+b'),
    'whose configuration is broken': (lambda f: (f / peft.CONFIG).write_text('{'), 'no JSON'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refuses_an_adapter(case, tmp_path):
  spoil, message = REFUSED[case]
  folder = shutil.copytree(GOLDEN / 'attention', tmp_path / 'theirs')
  spoil(folder)
  with pytest.raises(errors.UserError, match=f'(?s){message}'):
    peft.open_folder(folder, str(BASE), tmp_path)


def test_refuses_what_cannot_be_kept_apart_and_what_has_no_base(tmp_path):
  with pytest.raises(errors.UserError, match=r'(?s)several ranks.*\[2, 4\].*without --adapters'):
    peft.open_folder(GOLDEN / 'all_rslora', str(BASE), tmp_path, adapters=True)
  with pytest.raises(errors.UserError, match='(?s)needs the model.*--base.*golden/hf/t5_1_1'):
    peft.open_folder(GOLDEN / 'attention', None, tmp_path)
  folder = shutil.copytree(GOLDEN / 'prompt', tmp_path / 'two')
  _edit(folder, num_transformer_submodules=2)
  with pytest.raises(errors.UserError, match='(?s)encoder alone.*submodules 2'):
    peft.open_folder(folder, str(BASE), tmp_path)
  head = shutil.copytree(GOLDEN / 'all_rslora', tmp_path / 'head')
  _rewrite(head, lambda a: a | {peft._HEAD_COPY: a[peft._HEAD_COPY] + 1})
  with pytest.raises(errors.UserError, match='(?s)output layer as a whole.*--base'):
    peft.open_folder(head, str(BASE), tmp_path)


def test_other_directions_are_wrong_usage(tmp_path, capsys):
  for layouts, flags, message in (
      (('hf', 'peft'), [], 'Only a run of flanjax'), (('peft', 'hf'), ['--adapters'], '--adapters is from'),
      (('hf', 'flanjax'), ['--base=x'], '--base is for adapters')):
    argv = ['convert', f'--from={layouts[0]}', f'--to={layouts[1]}', *flags, str(BASE), str(tmp_path / 'x')]
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err
  whole = tmp_path / 'whole'
  assert cli.main(['convert', '--from=hf', '--to=flanjax', str(BASE), str(whole)]) == 0
  assert cli.main(['convert', '--from=flanjax', '--to=peft', str(whole), str(tmp_path / 'x')]) == 1
  assert 'trained all parameters' in capsys.readouterr().err


@pytest.fixture
def live():
  """tools/make_peft_golden.py as a module, where PEFT is installed."""
  pytest.importorskip('peft', reason='peft is not installed')
  pytest.importorskip('transformers').logging.set_verbosity_error()
  sys.path.insert(0, str(ROOT / 'tools'))
  try:
    import make_peft_golden
  finally:
    sys.path.pop(0)
  return make_peft_golden


@pytest.mark.comparison
def test_an_adapter_of_ours_computes_the_same_in_peft(live, tmp_path):
  """Factors of every projection, the output layer's too, each of them random."""
  from flanjax.models import lora

  base = peft.open_base(str(BASE), tmp_path)
  wanted = lora.Lora(rank=3, alpha=4.5, rslora=True, modules='.*(attention|mlp)/.*|.*logits_dense')
  model = t5.EncoderDecoderModel(t5.dataclasses.replace(base.config, lora=wanted))
  rng = np.random.default_rng(0)
  own = {name: tensors.from_array(rng.normal(size=x.shape, scale=0.1).astype(np.float32))
         for name, x in safetensors.flatten(model.param_shapes()).items() if 'lora_' in name}
  info = {'frozen': peft._record(model.config, str(BASE))}
  (tmp_path / 'ours').mkdir()
  native.write_folder(tmp_path / 'ours', tensors.Weights(model.config, own, info))
  theirs = _convert(tmp_path / 'ours', tmp_path / 'theirs', layouts=('flanjax', 'peft'))
  _compare(tmp_path / 'ours', live.compute(live.load(BASE, theirs)))


@pytest.mark.comparison
@pytest.mark.parametrize('name', ['attention', 'all_rslora', 'prompt'])
def test_golden_numbers_are_what_peft_gives_now(live, name):
  now = live.compute(live.load(BASE, GOLDEN / name))
  with np.load(GOLDEN / name / 'expected.npz') as golden:
    assert set(golden) == set(now)
    for key, value in golden.items():
      np.testing.assert_allclose(now[key], value, atol=1e-5, err_msg=key)
