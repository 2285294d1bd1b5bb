"""`flanjax experiment`: what is done once, what goes on where it was, and what comes of it."""

import ast
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import types

import forked
import numpy as np
import pytest

from flanjax import cli, gin_files, phases
from flanjax.commands import common
from flanjax.commands import experiment as experiment_script
from flanjax.data import availability, clusters
from flanjax.errors import UsageError, UserError
from flanjax.evaluation import records, significance, statistics, task_records
from flanjax.experiments import figures, gather, matrix, parallel, plan, running, units

GIN = """
include 'experiments/mini/leave_one_cluster_out.gin'
HOLDOUTS = ['topic', 'nli']
SEEDS = [0, 1]
"""
SHIPPED = [n for n in gin_files.shipped() if re.match(r'experiments/(mini|flan2021)/', n)
           and 'holdout' not in n and not n.endswith(('small.gin', 'reduced.gin', 'paper.gin'))]


@pytest.fixture(scope='module', autouse=True)
def tasks():
  common.load_tasks()


class _Children:
  """Stands in for child processes: leaves what they would leave, and fails where it is told to."""

  def __init__(self, root):
    self.root, self.ran, self.fails = root, [], lambda verb, argv: None

  def __call__(self, argv, tell=None, **unused):
    del unused
    verb = argv[0]
    self.ran.append(verb)
    error = self.fails(verb, argv)
    if error:
      tell('error: it broke\n  here')
      raise error
    if verb == 'train':
      folder = pathlib.Path(self._said(argv, 'MODEL_DIR'))
      return {'model_dir': str(folder), 'step': 1, 'manifest': self._said(argv, 'MIXTURE_OR_TASK_NAME')}
    if verb == 'eval':
      return self._evaluate(argv)
    path = self.root / f'{verb}.json'
    path.write_text('')
    return {'manifest': str(path)} if verb == 'prepare' else {'data_dir': str(path)}

  def _said(self, argv, name):
    return [ast.literal_eval(a.split(' = ', 1)[1]) for a in argv if f'={name} = ' in a][-1]

  def _evaluate(self, argv):
    """Two tasks of the held-out cluster; a tuned model is right half as often again."""
    out = pathlib.Path(self._said(argv, 'EVAL_OUTPUT_DIR'))
    model = self._said(argv, 'CHECKPOINT_PATH')
    cluster = re.search(r'holdout_(\w+)_eval', self._said(argv, 'MIXTURE_OR_TASK_NAME')[0])[1]
    rng = np.random.default_rng([*pathlib.Path(model).name.encode()])
    for task in {'topic': ('mini_topics', 'mini_genres'), 'nli': ('mini_three_way',)}[cluster]:
      name = f'{task}_type_0_scoring_eval'
      right = rng.random(40) < (0.4 if model == 'mini' else 0.8)
      rows = [self._record(task, cluster, name, i, 100.0 * r) for i, r in enumerate(right)]
      records.write_task(records.task_path(out / 'records', 'tuned', name), rows,
                         {'split': 'test', 'num_examples': 100}, {})
    return {'output_dir': str(out), 'records': 80, 'tasks': []}

  def _record(self, task, cluster, name, i, score):
    return {'model': 'tuned', 'task': task, 'cluster': cluster, 'seqio_task': name, 'mode': 'rank',
            'template_id': 0, 'example_id': i, 'inputs': '', 'targets': 'a', 'prediction': 'a',
            'options': ['a', 'b'], 'option_scores': [0.0, 1.0], 'score': score,
            'metric': 'accuracy', 'metric_fn': 'rank_accuracy'}


@pytest.fixture
def children(tmp_path, monkeypatch):
  made = _Children(tmp_path)
  monkeypatch.setattr(common, 'run_child', made)
  monkeypatch.setattr(gather, '_RESAMPLES', 200)
  monkeypatch.setattr(significance, 'FLIPS', 200)
  monkeypatch.setattr(figures, 'draw', lambda data: None)
  (tmp_path / 'small.gin').write_text(GIN)
  return made


def _argv(folder, *more, name='loo'):
  return ['experiment', f'--gin_file={folder}/small.gin', f"--gin.EXPERIMENT_DIR='{folder / name}'",
          *more]


def _results(folder, name='loo'):
  return json.loads((folder / name / 'experiment.json').read_text())


def test_what_cells_share_is_done_once(children, tmp_path):
  assert cli.main(_argv(tmp_path)) == 0
  # 2 holdouts x 2 seeds tuned, and the untuned model once for each holdout.
  counts = {verb: children.ran.count(verb) for verb in ('data', 'prepare', 'train', 'eval')}
  assert counts == {'data': 1, 'prepare': 2, 'train': 4, 'eval': 6}
  assert cli.main(_argv(tmp_path)) == 0
  assert len(children.ran) == sum(counts.values())


def test_a_run_killed_in_a_cell_goes_on_in_it(children, tmp_path):
  killed = lambda verb, argv: KeyboardInterrupt() if children.ran.count('train') == 2 else None
  children.fails = killed
  assert cli.main(_argv(tmp_path)) == 130
  done = list(children.ran)
  children.fails = lambda verb, argv: None
  assert cli.main(_argv(tmp_path)) == 0
  assert children.ran[len(done)] == 'train'
  assert children.ran.count('train') == 5 and children.ran.count('prepare') == 2


def test_a_failing_cell_is_told_and_sinks_no_other(children, tmp_path, capsys):
  bad = lambda argv: 'topic' in ' '.join(argv) and 'RANDOM_SEED = 1' in ' '.join(argv)
  children.fails = lambda verb, argv: (
      common.ChildFailed(1) if verb == 'train' and bad(argv) else None)
  assert cli.main(_argv(tmp_path)) == 1
  assert 'failed: topic-seed1-tuned: error: it broke here' in capsys.readouterr().err
  data = _results(tmp_path)
  states = {c['cell']: c['state'] for c in data['cells']}
  assert [n for n, s in states.items() if s != 'done'] == ['topic-seed1-tuned']
  [row] = [r for r in data['scores'] if r['condition'] == 'tuned' and r['group'] == 'topic']
  assert row['cells'] == ['topic-seed0-tuned'] and row['n_seeds'] == 1
  children.fails = lambda verb, argv: None
  before = len(children.ran)
  assert cli.main(_argv(tmp_path)) == 1 and len(children.ran) == before
  assert cli.main(_argv(tmp_path, '--retry_failed')) == 0
  assert _results(tmp_path)['cells'][1]['error'] is None


def test_parts_done_in_any_order_gather_to_the_same_as_all_at_once(children, tmp_path):
  assert cli.main(_argv(tmp_path)) == 0
  assert cli.main(_argv(tmp_path, '--cell', '3', 'of', '3', name='parts')) == 0
  half = _results(tmp_path, 'parts')
  assert {c['state'] for c in half['cells']} == {'done', 'missing'}
  for part in ('1/3', '2/3'):
    assert cli.main(_argv(tmp_path, '--cell', part, name='parts')) == 0
  whole, parts = _results(tmp_path), _results(tmp_path, 'parts')
  assert parts['scores'] == whole['scores'] and parts['differences'] == whole['differences']
  assert (tmp_path / 'loo/experiment.csv').read_text() == (
      tmp_path / 'parts/experiment.csv').read_text()


def test_numbers_are_those_of_the_records(children, tmp_path, monkeypatch):
  assert cli.main(_argv(tmp_path)) == 0
  data = _results(tmp_path)
  by_cell = {}
  for cell in data['cells']:
    folder = tmp_path / 'loo' / cell['evaluation'] / 'records'
    rows = records.read_all(folder)
    tasks = {r['task'] for r in rows}
    by_cell[cell['cell']] = np.mean([np.mean([r['score'] for r in rows if r['task'] == t])
                                     for t in tasks])
  for row in data['scores']:
    if row['group'] != 'mean':
      assert row['value'] == pytest.approx(np.mean([by_cell[c] for c in row['cells']]))
      assert row['low'] <= row['value'] <= row['high']
  [topic] = [r for r in data['differences'] if r['group'] == 'topic']
  tuned = np.mean([by_cell['topic-seed0-tuned'], by_cell['topic-seed1-tuned']])
  assert topic['value'] == pytest.approx(tuned - by_cell['topic-untuned'])
  assert topic['n_examples'] == 80 and topic['n_seeds'] == 2 and topic['p_holm'] >= topic['p']
  mean = [r for r in data['differences'] if r['group'] == 'mean'][0]
  assert mean['value'] == pytest.approx(np.mean(
      [r['value'] for r in data['differences'] if r['group'] != 'mean']))
  assert list(mean['by_seed']) == ['0', '1']
  assert np.mean(list(mean['by_seed'].values())) == pytest.approx(mean['value'])
  assert data['paper']['rows'] and 'LaMDA' in data['paper']['model']
  monkeypatch.undo()
  assert cli.main(_argv(tmp_path, '--gather')) == 0
  for name in ('figure.png', 'figure.svg'):
    assert (tmp_path / 'loo' / name).stat().st_size > 5_000


def test_intervals_are_those_of_a_run_and_no_points_where_all_is_right(children, tmp_path):
  """Of one seed they are what a run's report gives for the same records."""
  argv = _argv(tmp_path, '--gin.SEEDS=[0]')
  assert cli.main(argv) == 0
  sides = {}
  for cell in _results(tmp_path)['cells']:
    folder = tmp_path / 'loo' / cell['evaluation'] / 'records/tuned'
    for path in folder.glob('*.jsonl'):
      rows = [json.loads(line) for line in path.read_text().splitlines()]
      for row in rows if cell['condition'] == 'tuned' and cell['holdout'] == 'topic' else ():
        row['score'] = 100.0
      path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
      sides.setdefault(cell['holdout'], []).extend(
          row | {'model': cell['condition']} for row in rows)
  assert cli.main([*argv, '--gather']) == 0
  data = _results(tmp_path)
  for row in [r for r in data['scores'] + data['differences'] if r['group'] != 'mean']:
    grouped = task_records.group(sides[row['holdout']])
    tables = list({task: table for (task, _), table in sorted(grouped.items())}.values())
    analysis = statistics.Analysis(('untuned', 'tuned'), 'tuned', 'untuned')
    found = (analysis.difference(tables, 'untuned') if 'minus' in row
             else analysis.score(tables, row['condition']))
    assert row['method'] == found['method'] and row['value'] == pytest.approx(found['value'])
    # The two resample with other draws.
    within = 1e-9 if row['method'] != 'bootstrap' else 2.5
    assert [row['low'], row['high']] == pytest.approx([found['low'], found['high']], abs=within)
  [right] = [r for r in data['scores'] if (r['condition'], r['group']) == ('tuned', 'topic')]
  assert right['value'] == right['high'] == 100 and 90 < right['low'] < 99
  [gap] = [r for r in data['differences'] if r['group'] == 'topic']
  assert gap['method'] == 'newcombe' and gap['low'] < gap['value'] < gap['high']
  for rows, kind in ((data['scores'], 'wilson'), (data['differences'], 'newcombe')):
    mean = [r for r in rows if r['group'] == 'mean'][-1]
    parts = [r for r in rows if r['group'] != 'mean' and r['condition'] == mean['condition']]
    assert kind in mean['method']
    for end, side in (('low', -1), ('high', 1)):
      distance = math.hypot(*(r['value'] - r[end] for r in parts)) / len(parts)
      assert mean[end] == pytest.approx(mean['value'] + side * distance)


def test_a_cell_of_another_evaluation_set_is_named_and_not_compared(children, tmp_path):
  assert cli.main(_argv(tmp_path)) == 0
  data = _results(tmp_path)
  folder = tmp_path / 'loo' / data['cells'][1]['evaluation'] / 'records/tuned'
  for path in folder.glob('*.done.json'):
    done = json.loads(path.read_text())
    path.write_text(json.dumps({**done, 'stamp': {**done['stamp'], 'num_examples': 7}}))
  assert cli.main(_argv(tmp_path, '--gather')) == 0
  again = _results(tmp_path)
  assert any(p.startswith('topic-seed0-tuned is not compared') for p in again['problems'])
  assert not any('topic-seed0-tuned' in r['cells'] for r in again['scores'])


def test_examples_missing_on_one_side_are_left_out_of_both_and_told(children, tmp_path):
  assert cli.main(_argv(tmp_path)) == 0
  folder = tmp_path / 'loo' / _results(tmp_path)['cells'][0]['evaluation'] / 'records/tuned'
  path = folder / 'mini_topics_type_0_scoring_eval.jsonl'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(lines[5:]) + lines[0][:30])
  assert cli.main(_argv(tmp_path, '--gather')) == 0
  data = _results(tmp_path)
  [row] = [r for r in data['differences'] if r['group'] == 'topic']
  assert row['n_examples'] == 75
  assert any('mini_topics: 5 examples are not in every cell' in p for p in data['problems'])
  assert any('the last record is cut off' in p for p in data['problems'])


def test_a_setting_of_evaluation_trains_nothing_again(children, tmp_path):
  assert cli.main(_argv(tmp_path)) == 0
  assert cli.main(_argv(tmp_path, '--gin.NUM_EXAMPLES=5')) == 0
  assert children.ran.count('train') == 4 and children.ran.count('eval') == 12
  assert cli.main(_argv(tmp_path, '--gin.LEARNING_RATE=0.1')) == 0
  assert children.ran.count('train') == 8


def test_a_cell_that_another_job_is_at_is_waited_for_at_the_end(tmp_path):
  class Busy(running.Runner):
    told = []

    def _cell(self, cell, wait):
      self.told.append((cell, wait))
      if cell == 'a' and not wait:
        raise phases.Busy

  Busy(tmp_path, None, '').run(['a', 'b'])
  assert Busy.told[:2] == [('a', False), ('b', False)] and Busy.told[-1] == ('a', True)


def test_two_processes_never_hold_one_lock(tmp_path):
  program = ('import pathlib, sys; from flanjax import phases\n'
             'with phases.locked(pathlib.Path(sys.argv[1])):\n'
             '  print("held", flush=True); sys.stdin.read()')
  other = subprocess.Popen(
      [sys.executable, '-c', program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  try:
    assert other.stdout.readline() == b'held\n'
    with pytest.raises(phases.Busy), phases.locked(tmp_path, wait=False):
      pass
  finally:
    other.kill()
    other.communicate()
  with phases.locked(tmp_path, wait=False):
    pass


def test_the_plan_counts_cells_tokens_and_flops(children, tmp_path, capsys):
  from flanjax.models import flops

  assert cli.main(_argv(tmp_path, '--plan', '--json', '--gin.TRAIN_STEPS=7',
                        '--tokens_per_second', '1000')) == 0
  told = json.loads(capsys.readouterr().out)
  assert (told['cells'], len(told['trainings']), told['evaluations']) == (6, 4, 6)
  assert told['tokens'] == 4 * 7 * 32 * (128 + 32) and told['states']['missing'] == 6
  assert told['hours'] == pytest.approx(told['tokens'] / 1000 / 3600)
  assert {d['cluster']: (d['tasks'], d['n_examples']) for d in told['detectable']} == {
      'topic': (2, 200), 'nli': (2, 200)}
  model = json.loads((pathlib.Path(__file__).parents[1] / 'tasks/mini/base/model.json').read_text())
  assert told['flops'] == pytest.approx(
      4 * 7 * flops.step(types.SimpleNamespace(**model['config']), 32, 128, 32))
  assert children.ran == []


def test_tasks_without_data_that_are_skipped_are_not_counted_as_evidence(
    children, tmp_path, capsys, monkeypatch):
  gone = clusters.clusters('mini')['nli'][0].name
  monkeypatch.setattr(availability, 'check_available',
                      lambda spec: 'not here' if spec.name == gone else None)
  found = {}
  for on_missing in ('error', 'skip'):
    assert cli.main(_argv(tmp_path, '--plan', '--json', f"--gin.ON_MISSING='{on_missing}'")) == 0
    told = json.loads(capsys.readouterr().out)['detectable']
    found[on_missing] = {d['cluster']: d['n_examples'] for d in told}
  assert found == {'error': {'topic': 200, 'nli': 200}, 'skip': {'topic': 200, 'nli': 100}}


def test_cells_that_are_done_tell_the_plan_how_long_the_others_take(children, tmp_path):
  assert cli.main(_argv(tmp_path, '--cell', '2/5')) == 0
  args = cli.parse(_argv(tmp_path))
  experiment, given = experiment_script.configure(args)
  cells, root = units.make_cells(experiment, given), pathlib.Path(experiment.directory)
  [done] = [c for c in cells if c.training and running.state(root, c) == running.DONE]
  path = units.folder(root, done.training) / 'phases.json'
  kept = json.loads(path.read_text())
  path.write_text(json.dumps({**kept, 'seconds': {'train': 3600.0}}))
  told = plan.make(experiment, cells, root, given, plan.Rate(parallel=2))
  assert told['hours'] == pytest.approx(3 / 2, rel=0.01) and 'measured on 1' in told['hours_from']


def test_parts_are_a_partition_that_keeps_trainings_whole(children, tmp_path):
  experiment, given = experiment_script.configure(cli.parse(
      ['experiment', '--gin_file=experiments/mini/role_of_instructions.gin',
       f"--gin.EXPERIMENT_DIR='{tmp_path}'"]))
  cells = units.make_cells(experiment, given)
  parts = [experiment_script.part_of(cells, k, 4) for k in range(1, 5)]
  assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in cells)
  keys = [{c.training.key for c in part} for part in parts]
  assert sum(map(len, keys)) == len(set().union(*keys)) == 6


@pytest.mark.parametrize('words, expected', [
    (['3/8'], (3, 8)), (['3', 'of', '8'], (3, 8)), (None, (1, 1)), (['0/3'], None),
    (['4/3'], None), (['x'], None)])
def test_a_part_is_said_in_two_ways(words, expected):
  if expected:
    assert experiment_script.fraction(words) == expected
  else:
    with pytest.raises(UsageError, match='which part'):
      experiment_script.fraction(words)


@pytest.mark.parametrize('count, gpus, expected', [
    (2, ['0', '1', '2'], ['0,2', '1']), (3, ['0'], ['0', '0', '0'])])
def test_workers_share_the_gpus(count, gpus, expected):
  found = [e for e, _ in parallel.shares(count, gpus, [0, 1])]
  assert [e['CUDA_VISIBLE_DEVICES'] for e in found] == expected
  assert all(('XLA_PYTHON_CLIENT_PREALLOCATE' in e) == (count > len(gpus)) for e in found)


def test_workers_without_gpus_share_the_cores():
  assert [c for _, c in parallel.shares(2, [], [0, 1, 2])] == [{0, 2}, {1}]


@pytest.mark.parametrize('change, message', [
    ({'seeds': [1, 1]}, 'Every seed must be there once'),
    ({'conditions': []}, 'Every condition'),
    ({'holdouts': []}, 'Every holdout'),
    ({'baseline': 'tund'}, 'did you mean tuned'),
    ({'seeds': [-1]}, 'at least 0'),
    ({'figure': 'pie'}, "no figure 'pie'")])
def test_a_matrix_that_makes_no_sense_is_refused(change, message):
  good = {'name': 'x', 'directory': '/x', 'suite': 'mini', 'holdouts': ['nli'],
          'conditions': [matrix.Condition('tuned', 'mini_all_train')]}
  with pytest.raises(UserError, match=message):
    matrix.Experiment(**{**good, **change})


@pytest.mark.parametrize('binding, message', [
    ("HOLDOUTS=['nil']", 'did you mean nli'),
    ("matrix.Experiment.suite='min'", "no suite 'min'"),
    ("tuned/matrix.Condition.train='mini:onyl.nli'", 'did you mean only'),
    ('EXPERIMENT_DIR=3', 'EXPERIMENT_DIR must be a text'),
    ("matrix.Experiment.conditions=['x']", 'are Conditions')])
def test_a_mistake_is_told_before_anything_is_done(children, tmp_path, capsys, binding, message):
  assert cli.main(_argv(tmp_path, f'--gin.{binding}')) == 1
  assert message in capsys.readouterr().err and not children.ran


def test_a_sweep_fills_its_values_in():
  found = matrix.sweep(['a', 'b'], 'clusters: {x}', cumulative=True, train='mini:only.{x}')
  assert [(c.name, c.x, c.train) for c in found] == [
      ('clusters: 1', 1, 'mini:only.a'), ('clusters: 2', 2, 'mini:only.a.b')]
  found = matrix.sweep({'none': '', 'one': '_one_shot'}, evaluate='e{x}', settings={'A': '{x}'})
  assert [(c.name, c.evaluate, c.settings) for c in found] == [
      ('none', ('e',), {'A': ''}), ('one', ('e_one_shot',), {'A': '_one_shot'})]


def _cells_of(name, *more):
  experiment, given = experiment_script.configure(cli.parse(
      ['experiment', f'--gin_file={name}', "--gin.EXPERIMENT_DIR='/x'", *more]))
  return experiment, given, units.make_cells(experiment, given)


def test_each_size_of_model_is_compared_with_itself_untuned():
  weights = ['--gin.MODEL_WEIGHTS="/models/t5_1_1_{x}"', '--gin.MODEL_SIZES={77: "small", 248: "base"}']
  experiment, given, cells = _cells_of('experiments/flan2021/model_scale.gin', *weights)
  assert experiment.pairs == [(f'tuned, {x} M', f'untuned, {x} M') for x in (77, 248)]
  widths = {}
  for cell in cells:
    settings = given.settings(cell.evaluation.files, cell.evaluation.settings)
    widths[settings['INITIAL_CHECKPOINT_PATH']] = settings['t5.T5Config.emb_dim']
    # A model's file is read before the experiment's, whose settings stand.
    assert settings['DROPOUT_RATE'] == 0.1 and settings['BATCH_SIZE'] == 8
  assert widths == {'/models/t5_1_1_small': 512, '/models/t5_1_1_base': 768}
  assert len({c.training.key for c in cells if c.training}) == 2


def test_a_model_beside_those_that_conditions_name_is_refused():
  with pytest.raises(UserError, match='name their models'):
    _cells_of('models/t5_1_1/xl.gin', '--gin_file=experiments/flan2021/model_scale.gin',
              '--gin.MODEL_WEIGHTS="/models/{x}"')


@pytest.mark.parametrize('name', SHIPPED)
def test_every_shipped_experiment_can_be_run(name, tmp_path):
  """The command of its header: every cell's mixtures are known, every configuration constructs."""
  from flanjax.data import mixtures

  text = (gin_files.root() / name).read_text()
  command = re.sub(r'\\\n#', '', re.search(r'flanjax (experiment .*?)\n#\n', text, re.DOTALL)[1])
  argv = [re.sub(r'^(--gin\.\w+=)"(.*)"$', r'\1\2', word) for word in command.split()]
  experiment, given = experiment_script.configure(cli.parse(argv))
  assert f'--gin_file={name}' in argv and experiment.name in name
  cells = units.make_cells(experiment, given)
  trained = {t.mixture for c in cells if c.training for t in c.training.chain()}
  for mixture in trained | {n for c in cells for n in c.names}:
    assert mixtures.tasks_of(mixture)
  for cell in cells:
    kept_apart = 'holdout_{holdout}' in (cell.condition.train or '')
    if kept_apart and '{suite}_all_eval' not in cell.condition.evaluate:
      held = {c for n in cell.names for c in _clusters(n)}
      assert not held & set(_clusters(cell.training.mixture))
  told = plan.make(experiment, cells, tmp_path, given, plan.Rate(device='TPU v4'))
  assert told['flops'] > 0 and told['hours'] > 0


def _clusters(mixture):
  from flanjax.data import mixtures, specs

  return [specs.parse_task_name(t).spec.cluster for t in mixtures.tasks_of(mixture)]


def test_a_line_is_drawn_beside_the_papers():
  rows = [{'condition': f'{x}', 'series': 'tuned', 'x': x, 'group': 'mean', 'holdout': 'mean',
           'held_out': True, 'value': 50.0 + x, 'low': 48.0, 'high': 60.0} for x in (1, 2, 10)]
  from flanjax.experiments import paper

  data = {'experiment': 'number_of_clusters', 'figure': 'line', 'scores': rows, 'x_label': 'clusters',
          'paper': paper.of('number_of_clusters'), 'differences': [], 'conditions': ['1', '2', '10']}
  png, svg = figures.draw(data)
  assert png[:4] == b'\x89PNG' and 'another model and other data' in svg
  assert figures.draw({**data, 'scores': []}) is None


def test_beside_the_scores_is_what_is_between_them_and_the_baseline():
  row = {'holdout': 'nli', 'held_out': True, 'value': 50.0, 'low': 40.0, 'high': 60.0, 'x': None}
  names, groups = ('before', 'alone', 'rehearsed'), ('nli', 'topic')
  data = {
      'experiment': 'forgetting', 'figure': 'groups', 'paper': None, 'conditions': list(names),
      'baseline': 'before',
      'scores': [row | {'condition': n, 'group': g} for n in names for g in groups],
      'differences': [row | {'condition': a, 'minus': b, 'group': g} for g in groups for a, b in (
          ('alone', 'before'), ('rehearsed', 'before'), ('rehearsed', 'alone'))]}
  fig = figures._groups(data)
  assert len(fig.axes) == 2
  assert sum(len(dots.get_offsets()) for dots in fig.axes[1].collections) == 4
  assert fig.axes[1].get_xlabel() == 'minus before, points'


def test_an_experiment_shrunk_stopped_and_resumed(tmp_path):
  program = pathlib.Path(__file__).with_name('experiment_program.py')
  environment = dict(os.environ, FLANJAX_CACHE=str(tmp_path / 'cache'))
  done = forked.run([program, tmp_path], env=environment, modules=forked.TENSORFLOW)
  assert done.returncode == 0, done.stderr
  told = json.loads(done.stdout.splitlines()[-1])
  assert told['statuses'] == [130, 0]
  # The second run begins with the training in which the first was stopped.
  assert told['started'] == ['prepare', 'train', 'eval', 'prepare', 'train', 'eval']
  data = json.loads((tmp_path / 'loo/experiment.json').read_text())
  assert {c['state'] for c in data['cells']} == {'done'}
  assert {r['group'] for r in data['scores']} == {'topic', 'coreference', gather.MEAN}
  runs = [json.loads((tmp_path / 'loo' / c['trainings'][0] / 'run.json').read_text())
          for c in data['cells'] if c['trainings']]
  assert [r['holdout'] for r in runs] == ['topic', 'coreference']
