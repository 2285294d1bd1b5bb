"""What a report holds of several runs, of what they cost, and of what stands behind its numbers."""

import json
import types

import pytest
from report_runs import PAIR, ROLES, assembled, record, write, write_training

from flanjax.errors import UserError
from flanjax.evaluation import records as records_lib
from flanjax.evaluation import report
from flanjax.models import flops


def test_two_runs_of_one_name_keep_their_own_models(tmp_path):
  runs = [write(tmp_path / parent / 'run', PAIR, models=ROLES, split='test') for parent in 'ab']
  found = assembled(*runs)
  assert [r['run'] for r in found['runs']] == ['run', 'run (2)']
  assert found['models'][2:] == ['tuned [run (2)]', 'untuned [run (2)]']


def test_what_differs_between_runs_is_told(tmp_path):
  runs = [write(tmp_path / name, PAIR, models=ROLES, split='test', checkpoints={'tuned': {'path': name}})
          for name in ('first', 'second')]
  for run, steps in zip(runs, (30, 40)):
    (run / 'config.gin').write_text(f'A = 1\nTRAIN_STEPS = {steps}\nf.x = \\\n    {steps}\n')
    (run / 'environment.json').write_text(json.dumps({'versions': {'jax': f'0.{steps}'}, 'date': steps}))
  [found] = report.build(runs, tmp_path / 'out', resamples=100)['compared']
  assert found['settings'] == [{'name': 'TRAIN_STEPS', 'first': '30', 'second': '40'},
                               {'name': 'f.x', 'first': '30', 'second': '40'}]
  assert found['environment'] == [{'name': 'versions.jax', 'first': '0.30', 'second': '0.40'}]
  assert found['data']['same'] is None and 'does not say' in found['data']['note']
  built = json.loads((tmp_path / 'out' / 'report.json').read_text())
  assert built['checkpoints']['tuned [second]']['path'] == 'second'
  text = (tmp_path / 'out' / 'report.html').read_text()
  assert 'first against second' in text and 'Settings that differ' in text


def test_runs_evaluated_on_other_data_are_named_and_not_compared(tmp_path):
  first = write(tmp_path / 'first', PAIR, models=ROLES, split='test')
  second = write(tmp_path / 'second', {'tuned': PAIR['tuned']}, models=ROLES, split='test')
  path = second / 'eval' / 'records' / 'tuned' / 'nli_task_type_0.jsonl'
  path.write_text(path.read_text().replace('"targets": "yes"', '"targets": "no"'))
  found = assembled(first, second)
  assert 'second is not compared on 1 tasks, of which other answers are right' in found['warnings'][0]
  scores = {c['cluster']: c['scores']['tuned [second]'] for c in found['clusters']}
  assert scores == {'nli': None, 'sentiment': 80.0}
  other = write(tmp_path / 'other', PAIR, models=ROLES, split='validation')
  with pytest.raises(UserError, match='different splits'):
    assembled(first, other)


def test_missing_examples_on_one_side_are_left_out_of_the_difference(tmp_path):
  first = write(tmp_path / 'first', PAIR, models=ROLES, split='test')
  second = write(tmp_path / 'second', {'tuned': {'nli': 0.5}}, count=10, models=ROLES, split='test')
  found = assembled(first, second)
  [nli] = [c for c in found['clusters'] if c['cluster'] == 'nli']
  [gap] = [d for d in nli['differences'] if d['model'] == 'tuned [second]']
  assert gap['n_examples'] == 10 and gap['value'] == pytest.approx(50)


def test_a_task_with_one_example_and_answers_that_are_all_equal(tmp_path):
  run = write(tmp_path, {'tuned': {'nli': 1.0}, 'untuned': {'nli': 1.0}}, count=1, models=ROLES, split='test')
  [cluster] = assembled(run)['clusters']
  assert cluster['difference']['value'] == 0 and cluster['difference']['p'] == 1
  assert cluster['difference']['low'] < 0 < cluster['difference']['high']


def test_what_a_training_cost_is_that_of_all_its_parts(tmp_path):
  [run] = assembled(write_training(write(tmp_path, PAIR, models=ROLES)))['runs']
  cost = run['cost']
  assert (cost['steps'], cost['starts'], cost['seconds'], cost['device_seconds']) == (5, 2, 80.0, 320.0)
  assert cost['goodput'] == pytest.approx((40 * 0.5 + 40 * 0.8) / 80)
  assert cost['tokens'] == {'inputs': 1_234_567, 'targets': 80} and cost['flops'] is None


def test_flops_of_a_training_are_those_of_its_rows(tmp_path):
  run = write_training(write(tmp_path, PAIR, models=ROLES))
  sizes = {'vocab_size': 100, 'emb_dim': 8, 'num_heads': 2, 'head_dim': 4, 'mlp_dim': 16,
           'num_encoder_layers': 1, 'num_decoder_layers': 1, 'mlp_activations': ['gelu', 'linear']}
  (run / 'model.json').write_text(json.dumps({'config': sizes}))
  (run / 'run.json').write_text(json.dumps({'task_feature_lengths': {'inputs': 512, 'targets': 128}}))
  [told] = assembled(run)['runs']
  rows = 1_234_567 / 0.875 / 512
  step = flops.step(types.SimpleNamespace(**sizes), 1, 512, 128)
  assert told['cost']['flops'] == pytest.approx(rows * step)


def test_what_stands_behind_a_number_is_kept(tmp_path):
  stamps = {'nli': {'model': 'abc', 'split': 'test', 'sequence_length': {'inputs': 9, 'targets': 3}}}
  run = write(tmp_path, PAIR, stamps=stamps, cut={'inputs': 2, 'targets': 0}, models=ROLES,
              checkpoints={'tuned': {'path': '/c/300', 'step': 300}}, command=('flanjax', 'eval'))
  found = assembled(run)
  assert found['checkpoints']['tuned'] == {
      'run': run.name, 'path': '/c/300', 'step': 300, 'fingerprint': 'abc'}
  assert found['checkpoints']['untuned']['path'] is None and found['command'] == ['flanjax', 'eval']
  behind = {t['task']: t['behind']['tuned'] for t in found['tasks']}['nli_task']
  assert behind == {'seqio_tasks': ['nli_task_type_0'], 'split': 'test', 'num_examples': None, 'n_records': 40,
                    'sequence_length': {'inputs': 9, 'targets': 3}, 'vocabulary': None,
                    'cut': {'inputs': 2, 'targets': 0}}


def test_conventions_are_scored_from_the_same_records(tmp_path):
  rows = [record('m', 'task', 'nli', i, True) for i in range(4)]
  for i, row in enumerate(rows):
    # 'yes' is the right one, less likely than 'no', and longer.
    row |= {'targets': 'yes', 'option_scores': [-2.0, -1.5], 'option_tokens': [4, 1],
            'unconditional_scores': [-9.0, -1.0] if i < 3 else None}
  records_lib.write_task(tmp_path / 'eval' / 'records' / 'm' / 'task.jsonl', rows, {}, {})
  [task] = assembled(tmp_path)['tasks']
  values = {name: by_model['m'] and by_model['m']['value'] for name, by_model in task['conventions'].items()}
  # One record does not tell of the score without a prompt.
  assert values == {'sum': 0, 'per_token': 100, 'per_character': 100, 'per_byte': 100, 'unconditional': None}


def test_a_lock_that_cannot_be_read_is_compared_by_name(tmp_path):
  runs = [write(tmp_path / name, PAIR, models=ROLES) for name in ('first', 'second')]
  for run, of in zip(runs, ('a-123.json', 'a-456.json')):
    (run / 'run.json').write_text(json.dumps({'mixture_manifest': f'/gone/{of}'}))
  [found] = assembled(*runs)['compared']
  assert found['data']['same'] is False and found['data']['lines'] == ['mixture: a-123.json -> a-456.json']
