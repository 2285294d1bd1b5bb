"""`flanjax lm_eval` against lm-evaluation-harness's own model of the same weights."""

import json
import math
import pathlib
import types

import pytest

from flanjax import cli

ROOT = pathlib.Path(__file__).parent.parent
PROMPTS = ['The river runs through', 'Who has the lamp? Anna has the lamp.', 'It was dull. ', '']
TASK = """task: lamps
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc}
  - {metric: acc_norm}
"""


def test_a_missing_harness_is_said_with_what_to_do(capsys, monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name, *_: None)
  assert cli.main(['lm_eval', '--model_dir=mini', '--tasks', 'rte']) == 1
  assert "pip install 'flanjax[lm_eval]'" in capsys.readouterr().err


def test_wrong_numbers_are_wrong_usage(capsys):
  assert cli.main(['lm_eval', '--model_dir=mini', '--tasks', 'rte', '--limit=0']) == 2
  assert '--limit must be at least 1' in capsys.readouterr().err


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  pytest.importorskip('lm_eval')
  folder = tmp_path_factory.mktemp('lm_eval') / 'hf'
  assert cli.main(['convert', '--from=flanjax', '--to=hf', 'mini', str(folder)]) == 0
  return folder


@pytest.fixture(scope='module')
def ours(exported):
  from flanjax.inference.harness import HarnessModel
  from flanjax.inference.text import TextGenerator

  del exported
  return HarnessModel(TextGenerator.open('mini', slots=4, max_decode_steps=16))


@pytest.fixture(scope='module')
def theirs(exported):
  from lm_eval.models.huggingface import HFLM

  return HFLM(pretrained=str(exported), backend='seq2seq', batch_size=1, device='cpu', dtype='float32')


def _requests(rows):
  return [types.SimpleNamespace(args=row) for row in rows]


@pytest.mark.comparison
def test_likelihoods_are_those_of_the_harness(ours, theirs):
  rows = [(p, c) for p in PROMPTS for c in (' the town', ' of of of', ' positive')]
  for (a, greedy), (b, their_greedy) in zip(
      ours.loglikelihood(_requests(rows)), theirs.loglikelihood(_requests(rows), disable_tqdm=True)):
    assert math.isclose(a, b, abs_tol=2e-3), (a, b)
    assert greedy == their_greedy


@pytest.mark.comparison
def test_generated_texts_are_those_of_the_harness(ours, theirs):
  rows = [(p, {'until': ['.'], 'max_gen_toks': 12, 'do_sample': False}) for p in PROMPTS[:3]]
  rows += [(PROMPTS[0], {'until': [' '], 'max_gen_toks': 12, 'do_sample': False})]
  found = ours.generate_until(_requests(rows))
  assert found == theirs.generate_until(_requests(rows), disable_tqdm=True)
  assert any(found)


@pytest.mark.comparison
def test_a_task_of_ones_own_is_evaluated_as_by_the_harness(exported, theirs, tmp_path, capsys):
  import lm_eval
  from lm_eval.tasks import TaskManager

  rows = [{'question': p, 'choices': ['the town', 'a hat', 'of of of'], 'label': i % 3}
          for i, p in enumerate(PROMPTS[:3] * 2)]
  (tmp_path / 'data.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
  (tmp_path / 'lamps.yaml').write_text(TASK.replace('DATA', str(tmp_path / 'data.jsonl')))
  flags = ['lm_eval', '--model_dir', str(exported), '--tasks', 'lamps', '--include_path', str(tmp_path)]
  assert cli.main([*flags, '--json', '--output', str(tmp_path / 'out.json')]) == 0
  found = json.loads(capsys.readouterr().out)['results']['lamps']
  expected = lm_eval.simple_evaluate(
      model=theirs, tasks=['lamps'], task_manager=TaskManager(include_path=str(tmp_path)))
  for name in ('acc,none', 'acc_norm,none'):
    assert found[name] == expected['results']['lamps'][name]
  assert len(json.loads((tmp_path / 'out.json').read_text())['samples']['lamps']) == 6
  assert cli.main([*flags[:4], 'lamsp', *flags[5:]]) == 1
  assert 'did you mean lamps' in capsys.readouterr().err


@pytest.mark.comparison
def test_what_cannot_be_done_is_said(ours):
  from flanjax.errors import UserError

  with pytest.raises(UserError, match='repetition_penalty'):
    ours.generate_until(_requests([('a', {'repetition_penalty': 2.0})]))
  with pytest.raises(UserError, match='rank options'):
    ours.loglikelihood_rolling(_requests([('a',)]))
