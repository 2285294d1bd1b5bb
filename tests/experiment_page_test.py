import copy
import html.parser
import json

import pytest
import report_runs

from flanjax import cli
from flanjax.errors import UserError
from flanjax.evaluation import experiment_page
from flanjax.evaluation import records as records_lib

ROW = {'value': 25.0, 'low': 18.0, 'high': 32.0, 'holdout': 'nli', 'group': 'nli', 'held_out': True,
       'n_examples': 400, 'n_seeds': 2, 'cells': ['a']}
DATA = {
    'format_version': 1, 'experiment': 'loo', 'question': 'Does it help?', 'suite': 'mini', 'figure': 'groups',
    'x_label': '', 'conditions': ['untuned', 'tuned'], 'holdouts': ['nli'], 'seeds': [0, 1], 'paper': None,
    'problems': ['one was left out'],
    'scores': [{**ROW, 'condition': 'tuned', 'value': 61.7, 'x': None, 'series': '', 'by_seed': {}}],
    'differences': [{**ROW, 'condition': 'tuned', 'minus': 'untuned', 'p': 0.001, 'p_holm': 0.004,
                     'by_seed': {'0': 27.0, '1': 23.0}}],
    'cells': [{'cell': 'nli-seed0', 'condition': 'tuned', 'holdout': 'nli', 'seed': 0, 'state': 'done',
               'error': None, 'mixture': 'mix', 'trainings': ['trainings/a'], 'evaluation': 'e',
               'train_seconds': 80.0, 'eval_seconds': 5.0},
              {'cell': 'nli-seed1', 'condition': 'tuned', 'holdout': 'nli', 'seed': 1, 'state': 'failed',
               'error': 'no memory', 'mixture': 'mix', 'trainings': ['../../elsewhere'], 'evaluation': 'e',
               'train_seconds': None, 'eval_seconds': None}],
}  # fmt: skip


def _text(path):
  parser = html.parser.HTMLParser()
  found, tags = [], []
  parser.handle_data = found.append
  parser.handle_starttag = lambda tag, attributes: tags.append(tag)
  parser.feed(path.read_text())
  return ' '.join(''.join(found).split()), tags


def _write(root, data):
  root.mkdir(parents=True, exist_ok=True)
  (root / 'experiment.json').write_text(json.dumps(data))
  return root


def test_an_experiment_is_reported_with_what_each_cell_cost(tmp_path, capsys):
  root = _write(tmp_path / 'loo', DATA)
  (root / 'trainings' / 'a').mkdir(parents=True)
  report_runs.write_training(root / 'trainings' / 'a')
  assert cli.main(['report', str(root)]) in (None, 0)
  assert 'tuned is above untuned (+25.0 points' in capsys.readouterr().out
  text, tags = _text(root / 'report' / 'report.html')
  for part in ('Does it help?', '61.7', '+25.0**', 'p = 0.004', '0: +27.0, 1: +23.0', 'one was left out',
               '1 min 20 s', '1.23 million', '65 %', 'no memory', '1 of 2 cells are not done'):
    assert part in text, part
  assert 'svg' in tags and tags.count('script') == 2  # One of them is data.


def _difference(condition, minus, group, value, half=5.0):
  return {**ROW, 'condition': condition, 'minus': minus, 'group': group, 'value': value,
          'low': value - half, 'high': value + half, 'held_out': False}


def test_of_a_line_the_headline_tells_the_ends():
  names = [f'clusters: {i}' for i in (1, 2, 3)]
  data = {'figure': 'line', 'baseline': 'untuned', 'cells': [], 'scores': [
      {'condition': n, 'series': 'tuned', 'x': i} for i, n in enumerate(names)]}
  data['differences'] = [_difference(n, 'untuned', g, v) for n, v in zip(names, (1.0, 9.0, 20.0))
                         for g in ('nli', 'mean')]
  data['differences'].append(_difference(names[2], names[0], 'mean', 19.0))
  told = experiment_page.headline(data)
  parts = [part.split(' (')[0] for part in told.split('. ')]
  assert parts == ['On average, clusters: 3 is above untuned', 'On average, clusters: 1 is not clearly apart from '
                   'untuned', 'On average, clusters: 3 is above clusters: 1', '1 more comparison is below.']


def test_of_many_comparisons_the_headline_tells_the_largest():
  values = {'a': 1.0, 'b': -8.9, 'c': 9.1, 'd': 3.0, 'e': -6.2, 'f': 0.0}
  data = {'figure': 'groups', 'cells': [], 'scores': [], 'differences': [
      _difference(name, 'base', 'mean', value) for name, value in values.items()]}
  told = experiment_page.headline(data)
  assert [part.split(' is ')[0][-1] for part in told.split('. ')[:4]] == ['c', 'b', 'e', 'd']
  assert told.endswith('2 more comparisons are below.')


def test_of_many_clusters_the_headline_names_those_that_differ():
  values = {'sentiment': 12.7, 'paraphrase': -17.0, 'commonsense': -8.0, 'topic': 0.0, 'nli': 4.0}
  data = {'figure': 'groups', 'cells': [], 'scores': [], 'differences': [
      *(_difference('alone', 'before', g, v) for g, v in values.items()),
      *(_difference('rehearsed', 'before', g, 1.0) for g in values)]}
  assert experiment_page.headline(data) == (
      'alone is above before on sentiment (+12.7) and below it on paraphrase (−17.0), commonsense (−8.0); '
      'not clearly apart on 2 more. rehearsed is not clearly apart from before on any of 5 clusters.')


def _evaluate(root, cell, seqio_task, template_id=0, prompt='Is it so?', **stamp):
  """What a cell's evaluation leaves: records of one task under one template."""
  rows = [report_runs.record('tuned', 'nli_task', 'nli', i, True, prompt=prompt, template_id=template_id)
          for i in range(4)]
  stamp = {'model': 'f00d', 'split': 'test', 'num_examples': 200, 'vocabulary': 'bytes',
           'sequence_length': {'inputs': 128, 'targets': 32}} | stamp
  records_lib.write_task(root / cell / 'records' / 'tuned' / f'{seqio_task}.jsonl',
                         [r | {'seqio_task': seqio_task} for r in rows], stamp, {}, {'inputs': 3, 'targets': 0})


def evaluated(root, prompt='Is it so?'):
  """An experiment of two finished cells: one trained, and reported by itself, and one not."""
  data = copy.deepcopy(DATA)
  data['cells'][1] |= {'cell': 'nli-untuned', 'condition': 'untuned', 'seed': None, 'state': 'done', 'error': None,
                       'mixture': None, 'trainings': [], 'evaluation': 'evaluations/b'}
  data['cells'][0] |= {'evaluation': 'evaluations/a', 'seqio_tasks': ['nli_task_type_0', 'nli_task_type_3']}
  data['scores'][0] |= {'cells': ['nli-seed0'], 'tasks': ['nli_task'], 'metric': 'accuracy', 'resamples': 2000,
                        'by_seed': {'0': 61.7}, 'like_these': {'low': 40.0, 'high': 80.0, 'df': 2.5}}
  data['differences'][0]['cells'] = ['nli-seed0', 'nli-untuned']
  _write(root, data)
  _evaluate(root, 'evaluations/a', 'nli_task_type_0', prompt=prompt)
  _evaluate(root, 'evaluations/a', 'nli_task_type_3', 3, prompt)
  _evaluate(root, 'evaluations/a', 'dataset_name_nli_task_type_0', prompt='not of this cell')
  _evaluate(root, 'evaluations/b', 'nli_task_type_0', prompt=prompt, model='beef')
  (root / 'evaluations/a/eval.json').write_text(json.dumps(
      {'split': 'test', 'checkpoints': {'tuned': {'path': 'trainings/a/checkpoints', 'step': 300}}}))
  training = root / 'trainings' / 'a'
  (training / 'report').mkdir(parents=True)
  (training / 'report' / 'report.html').write_text('the report of this run')
  (training / 'run.json').write_text(json.dumps({'mixture_manifest': '/prepared/mix-1234abcd.json'}))
  return root


def test_a_number_names_the_cells_checkpoints_data_and_prompts_behind_it(tmp_path):
  found = experiment_page.build(evaluated(tmp_path / 'loo'))['panels']
  [score], [difference] = found['scores'], found['differences']
  lines = dict(score['lines'])
  assert score['title'] == 'tuned, on nli' and lines['examples (n)'] == '400, test split, at most 200 of a task'
  assert lines['tasks'] == 'nli_task (2 templates: 0, 3)' and lines['how'].startswith('options ranked')
  assert lines['lengths'] == '128 tokens read, 32 answered' and lines['mixture'] == 'mix'
  assert lines['95 % interval'].startswith('18.0 to 32.0; percentiles of 2,000 bootstrap resamples of examples')
  assert lines['like these'].startswith("40.0 to 80.0; Student's t with 2.5") and lines['seeds (n)'] == '2'
  cell = lines['cell nli-seed0']
  for part in ('seed 0', 'trained in trainings/a', 'checkpoint trainings/a/checkpoints at step 300, fingerprint f00d',
               'data mix-1234abcd.json', 'evaluated in evaluations/a', '6 prompts and 0 targets cut'):
    assert part in cell, part
  assert lines['in experiment.json'] == '/scores/0' and score['prompts'] == [['nli_task_type_0', 'Is it so? 0']]
  assert score['links'] == [['report of nli-seed0', '../trainings/a/report/report.html']]
  lines = dict(difference['lines'])
  assert difference['title'] == 'tuned − untuned, on nli' and lines['mixture'] == 'mix, nothing'
  assert lines['p'].startswith('0.001 (examples swapped between the sides at random), 0.004 after Holm')
  assert lines['by seed'] == '0: +27.0, 1: +23.0'
  assert 'no seed; not trained' in lines['cell nli-untuned'] and 'fingerprint beef' in lines['cell nli-untuned']


def test_a_panel_of_cells_that_left_nothing_or_nonsense_says_so(tmp_path):
  root = evaluated(tmp_path / 'deep' / 'loo')
  (root / 'evaluations/a/eval.json').write_text('{"checkpoints": [1]}')
  (root / 'trainings/a/run.json').write_text('{}')
  for path in (root / 'evaluations/a').rglob('*.done.json'):
    path.write_text('{"stamp": 5, "cut": [3]}')
  (root / 'evaluations/b/records/tuned/nli_task_type_0.jsonl').write_text('{"task": "x"')
  found = experiment_page.build(root)['panels']
  cell = dict(found['scores'][0]['lines'])['cell nli-seed0']
  assert 'checkpoint not kept' in cell and 'data not told' in cell and 'cuts not counted' in cell
  data = json.loads((root / 'experiment.json').read_text())
  data['cells'][0]['evaluation'] = '../../elsewhere'
  outside = tmp_path / 'elsewhere'
  _evaluate(outside, '.', 'nli_task_type_0')
  (root / 'experiment.json').write_text(json.dumps(data))
  [panel] = experiment_page.build(root)['panels']['scores']
  assert dict(panel['lines'])['tasks'] == 'not to be read' and panel['prompts'] == []


def test_folders_outside_the_experiment_are_not_read(tmp_path):
  root = _write(tmp_path / 'deep' / 'loo', DATA)
  outside = tmp_path / 'elsewhere'
  outside.mkdir()
  report_runs.write_training(outside)
  assert (root / DATA['cells'][1]['trainings'][0]).resolve() == outside.resolve()
  found = experiment_page.build(root)
  assert found['costs']['nli-seed1'] == {'tokens': None, 'flops': None, 'goodput': None}


def test_texts_of_an_experiment_stay_text(tmp_path):
  data = copy.deepcopy(DATA)
  hostile = report_runs.HOSTILE
  data |= {'question': hostile, 'problems': [hostile], 'conditions': ['untuned', hostile]}
  data['cells'][1] |= {'error': hostile}
  data['scores'][0]['condition'] = hostile
  experiment_page.build(_write(tmp_path, data))
  text, tags = _text(tmp_path / 'report' / 'report.html')
  assert text.count('<script>window.harmed = 1</script>') >= 4
  assert tags.count('script') == 2 and 'img' not in tags


def test_a_file_that_is_no_experiment_and_one_beside_runs(tmp_path, capsys):
  root = _write(tmp_path / 'loo', {'question': 'what?'})
  with pytest.raises(UserError, match='no experiment(?s:.)*conditions'):
    experiment_page.build(root)
  run = tmp_path / 'run'
  run.mkdir()
  assert cli.main(['report', str(root), str(run)]) == 1
  assert 'reported by itself' in capsys.readouterr().err
