import copy
import html.parser
import json

import pytest
import report_runs

from flanjax import cli
from flanjax.errors import UserError
from flanjax.evaluation import experiment_page

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
  assert 'svg' in tags and tags.count('script') == 1


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
  assert tags.count('script') == 1 and 'img' not in tags


def test_a_file_that_is_no_experiment_and_one_beside_runs(tmp_path, capsys):
  root = _write(tmp_path / 'loo', {'question': 'what?'})
  with pytest.raises(UserError, match='no experiment(?s:.)*conditions'):
    experiment_page.build(root)
  run = tmp_path / 'run'
  run.mkdir()
  assert cli.main(['report', str(root), str(run)]) == 1
  assert 'reported by itself' in capsys.readouterr().err
