import numpy as np
import pytest
import sacrebleu

from flanjax.errors import UserError
from flanjax.evaluation import baselines, statistics, summary
from flanjax.evaluation.records import EvalInfo

PAIR = EvalInfo(holdout='nli', models={'a': 'tuned', 'b': 'untuned'})


def record(model='a', task='t', template_id=0, example_id=0, score=100.0, **changes):
  return {
      'model': model, 'task': task, 'cluster': 'nli', 'seqio_task': f'{task}_type_{template_id}',
      'mode': 'generate', 'template_id': template_id, 'example_id': example_id, 'inputs': 'Say it.',
      'targets': 'yes', 'prediction': 'yes' if score else 'no', 'options': None,
      'option_scores': None, 'score': score, 'metric': 'accuracy', 'metric_fn': 'accuracy',
  } | changes  # fmt: skip


def grid(model, scores, **changes):
  """Records from scores [templates][examples]."""
  return [
      record(model, template_id=t, example_id=e, score=s, **changes)
      for t, row in enumerate(scores)
      for e, s in enumerate(row)
  ]


def only_cluster(records, info=PAIR, **kwargs):
  return summary.summarise(summary.make_tables(records, info, **kwargs))['clusters'][0]


def test_a_score_is_the_mean_over_examples_then_templates_then_tasks():
  records = grid('a', [[100.0, 0.0, 0.0, 0.0], [100.0]], task='t')  # templates: 25 and 100
  records += grid('a', [[0.0, 100.0]], task='u')
  cluster = only_cluster(records)
  assert cluster['scores'] == {'a': (62.5 + 50.0) / 2}
  assert cluster['n_examples'] == 4 + 2
  assert cluster['difference'] is None


def test_a_difference_is_over_the_examples_that_both_models_have():
  records = grid('a', [[100.0, 100.0, 0.0]]) + grid('b', [[0.0, 100.0]])
  cluster = only_cluster(records)
  assert cluster['scores'] == {'a': 100.0, 'b': 50.0}
  assert cluster['difference']['value'] == 50.0
  assert cluster['difference']['n_examples'] == 2


def test_two_models_without_a_common_example_are_an_error():
  records = grid('a', [[100.0]]) + [record('b', example_id=7)]
  with pytest.raises(UserError, match='no example in common'):
    only_cluster(records)


def test_pairing_takes_out_what_both_models_share():
  rng = np.random.default_rng(0)
  hard = rng.uniform(0, 60, 50)
  cluster = only_cluster(grid('a', [hard + 30]) + grid('b', [hard]))
  gap, alone = cluster['difference'], cluster['intervals']['a']
  assert gap['value'] == pytest.approx(30) == pytest.approx(gap['low']) == pytest.approx(gap['high'])
  assert alone['high'] - alone['low'] > 5


def test_repeating_an_example_under_more_templates_adds_no_certainty():
  row = np.random.default_rng(1).choice([0.0, 100.0], 40)
  once, often = (only_cluster(grid('a', [row] * n))['intervals']['a'] for n in (1, 8))
  assert once == pytest.approx(often)


def test_intervals_are_a_function_of_records_and_seed():
  rng = np.random.default_rng(2)
  records = grid('a', rng.choice([0.0, 100.0], (3, 30))) + grid('b', rng.choice([0.0, 100.0], (3, 30)))
  first, again, other = (only_cluster(r, seed=s)['difference'] for r, s in (
      (records, 0), (records[::-1], 0), (records, 1)))  # fmt: skip
  assert first == again and first['low'] != other['low'] and first['value'] == other['value']


def test_95_percent_intervals_hold_the_truth_95_percent_of_the_time():
  rng = np.random.default_rng(3)
  templates, examples, simulations, held = 2, 60, 400, 0
  effects = (8.0, -3.0)  # of the two tasks; the truth is their mean
  for simulation in range(simulations):
    gaps = []
    for task, effect in enumerate(effects):
      hard = rng.normal(0, 20, examples)  # an example's own effect, shared by its templates
      scores = effect + hard + rng.normal(0, 15, (templates, examples))
      weights = statistics.bootstrap_weights(f't{task}', examples, 400, seed=simulation)
      gaps.append(statistics.mean_statistic(scores)(weights).mean(axis=1))
    ends = statistics.interval(np.mean(gaps, axis=0))
    held += ends['low'] <= np.mean(effects) <= ends['high']
  assert 0.92 <= held / simulations <= 0.98


def _bleu(targets, predictions):
  return {'bleu': sacrebleu.corpus_bleu(predictions, [targets], tokenize='intl').score}


def test_bleu_from_sums_is_bleu_of_the_resampled_texts():
  texts = ['the cat sat on a mat', 'a dog ran home', 'two birds sing in a tree today', 'it rains']
  said = ['the cat sat on the mat', 'a dog ran', 'two birds sing in the tree', 'it snows a lot']
  rows = [record(targets=t, prediction=p, example_id=i, score=None, metric='bleu')
          for i, (t, p) in enumerate(zip(texts, said))]  # fmt: skip
  weights = np.array([[1, 1, 1, 1], [0, 3, 1, 0], [2, 0, 0, 2]])
  fast = statistics.corpus_statistic(_bleu, 'bleu', [rows])(weights)
  slow = [
      _bleu([t for t, w in zip(texts, row) for _ in range(w)],
            [s for s, w in zip(said, row) for _ in range(w)])['bleu'] for row in weights
  ]  # fmt: skip
  np.testing.assert_allclose(fast[:, 0], slow)


def test_a_corpus_metric_is_computed_anew_on_every_resample():
  def share_of_kinds(targets, predictions):  # no mean over examples
    return {'kinds': 100.0 * len(set(predictions)) / len(targets)}

  records = [
      record(m, example_id=e, score=None, metric='kinds', metric_fn='kinds', prediction=str(e % k))
      for m, k in (('a', 20), ('b', 2))
      for e in range(20)
  ]
  cluster = only_cluster(records, metric_fns={'kinds': share_of_kinds}, resamples=100)
  assert cluster['scores'] == {'a': 100.0, 'b': 10.0}
  assert cluster['intervals']['a']['high'] < 100  # no resample of twenty has all twenty
  with pytest.raises(UserError, match='kinds'):
    only_cluster(records)


def test_tasks_with_options_count_by_their_ranked_options():
  records = grid('a', [[0.0, 0.0]]) + grid('b', [[0.0, 0.0]])
  records += grid('a', [[100.0, 0.0]], mode='rank') + grid('b', [[0.0, 0.0]], mode='rank')
  cluster = only_cluster(records)
  assert (cluster['mode'], cluster['scores']['a']) == ('rank', 50.0)
  assert cluster['by_mode']['generate']['scores']['a'] == 0.0


def test_a_model_with_only_some_of_the_tasks_has_no_cluster_score():
  info = EvalInfo(models={'a': 'tuned', 'b': 'untuned', 'few': 'untuned few-shot'})
  records = [record(m, task=t, example_id=e) for m in 'ab' for t in 'tu' for e in range(3)]
  records += [record('few', task='t', example_id=e, score=0.0) for e in range(3)]
  result = summary.summarise(summary.make_tables(records, info))
  assert result['clusters'][0]['scores'] == {'a': 100.0, 'b': 100.0, 'few': None}
  by_task = {t['task']: t for t in result['tasks']}
  few = next(d for d in by_task['t']['differences'] if d['model'] == 'few')
  assert few['value'] == 100.0 and by_task['u']['scores']['few'] is None


def test_mixed_metrics_are_named_and_still_averaged():
  records = grid('a', [[80.0]], task='t') + grid('a', [[20.0]], task='u', metric='rougeLsum')
  cluster = only_cluster(records)
  assert cluster['metric'] == 'mixed: accuracy, rougeLsum' and cluster['scores'] == {'a': 50.0}


def test_the_best_dev_template_is_chosen_on_dev_and_scored_on_test():
  test, dev = grid('a', [[100.0, 0.0], [0.0, 0.0]]), grid('a', [[0.0, 0.0], [0.0, 100.0]])
  cluster = only_cluster(test, dev_records=dev)
  assert cluster['best_dev_template'] == {'a': 0.0} and cluster['scores'] == {'a': 25.0}


def test_a_best_template_tells_what_it_was_chosen_by_and_stands_beside_the_median():
  test = grid('a', [[100.0, 0.0, 0.0], [100.0, 100.0, 0.0], [0.0, 0.0, 0.0]])
  dev = grid('a', [[0.0, 100.0], [0.0, 0.0], [0.0, 0.0]])
  found = summary.summarise(summary.make_tables(test, EvalInfo(models={'a': 'a'}), dev_records=dev))
  best = found['tasks'][0]['best_dev_template']['a']
  told = {'template_id': 0, 'dev_value': 50.0, 'n_dev': 2, 'of': 3, 'method': 'wilson'}
  assert told.items() <= best.items() and best['value'] == pytest.approx(100 / 3)
  assert best['low'] < best['value'] < best['high']
  assert found['clusters'][0]['median_template'] == {'a': pytest.approx(100 / 3)}


def _asked(model, name, scores):
  """Records of the task 't' asked as the SeqIO task `name`."""
  return [r | {'seqio_task': name} for r in grid(model, [scores])]


def test_one_task_in_two_regimes_is_two_tasks_of_two_clusters():
  rows = _asked('a', 't_type_0', [100.0, 100.0]) + _asked('a', 'dataset_name_t_type_0', [0.0, 0.0])
  rows += _asked('b', 't_type_0', [0.0, 100.0]) + _asked('b', 'dataset_name_t_type_0', [0.0, 100.0])
  info = EvalInfo(models={'a': 'tuned', 'b': 'untuned'}, holdout='nli')
  for order in (rows, rows[::-1]):
    found = summary.summarise(summary.make_tables(order, info, clean={'t': frozenset({0})}))
    assert {(c['cluster'], c['status'], c['scores']['a'], c['difference']['value']) for c in found['clusters']} == {
        ('nli', 'held out', 100.0, 50.0), ('nli (dataset_name)', 'held out', 0.0, -50.0)}
    assert {t['task']: t['clean']['n_examples'] for t in found['tasks']} == {'t': 1, 'dataset_name_t': 1}


def test_exemplars_for_one_model_alone_are_compared_and_for_a_model_with_and_without_are_not():
  rows = _asked('a', 't_type_0', [100.0, 100.0])
  few = _asked('b', 't_type_0_five_shot', [0.0, 100.0])
  assert set(statistics.group(rows + few)) == {('t', 'generate')}
  table = statistics.group(rows + few)['t', 'generate']
  assert len(table.by_model['b']) == 2
  both = statistics.group(rows + few + _asked('b', 't_type_0', [0.0, 0.0]))
  assert {name: set(t.by_model) for (name, _), t in both.items()} == {'t': {'a', 'b'}, 't_five_shot': {'b'}}
  assert both['t_five_shot', 'generate'].cluster == 'nli (five_shot)'


def _choices(answers, options=('yes', 'no', 'maybe')):
  return [
      record(mode='rank', example_id=i, targets=a, options=list(options))
      for i, a in enumerate(answers)
  ]


def test_baselines_of_choices_are_the_commonest_answer_and_an_even_draw():
  found = baselines.trivial(_choices(['yes', 'no', 'no', 'maybe']), None)
  assert found == {'majority': 50.0, 'chance': pytest.approx(100 / 3), 'copy': None}


def test_always_taking_the_first_option_is_a_majority_too():
  rows = [
      record(mode='rank', example_id=i, targets=f'right {i}', options=[f'right {i}', f'wrong {i}'])
      for i in range(4)
  ]
  assert baselines.trivial(rows, None)['majority'] == 100.0


def test_copying_finds_the_sentence_that_answers():
  rows = [
      record(example_id=i, inputs=f'Tom ran to town {i}. It was far.\nShorten this.',
             targets=f'Tom ran to town {i}.', metric='rougeLsum', metric_fn='rouge')
      for i in range(3)
  ]  # fmt: skip
  found = baselines.trivial(rows, baselines.metric_fn('rouge'))
  assert found['copy'] == 100.0 and found['chance'] is None and 0 < found['majority'] < 100


def test_a_metric_name_finds_only_metrics():
  assert baselines.metric_fn('accuracy') is not None
  assert baselines.metric_fn('np') is None and baselines.metric_fn('__loader__') is None
