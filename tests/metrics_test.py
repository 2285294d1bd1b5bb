import inspect

import numpy as np
import pytest

from flanjax.data import metrics
from flanjax.data.postprocessors import GroupedLabel, Option
from flanjax.errors import UserError

TEXT_METRICS = [
    metrics.accuracy, metrics.rouge, metrics.rouge_multi, metrics.bleu, metrics.squad,
    metrics.trivia_qa, metrics.token_f1, metrics.edit_distance,
]  # fmt: skip
PAIRS = (['the red cat sat', 'a dog', 'one two three four'], ['the red cat', 'a dog', 'five'])


@pytest.mark.parametrize('fn', TEXT_METRICS, ids=lambda fn: fn.__name__)
def test_a_perfect_prediction_scores_100_with_one_reference_or_many(fn):
  text = 'the red cat sat on the mat'
  assert fn([text], [text])[metrics.primary_key(fn)] == pytest.approx(100)
  assert fn([[text, 'x y']], [text])[metrics.primary_key(fn)] == pytest.approx(100)


@pytest.mark.parametrize('fn', TEXT_METRICS, ids=lambda fn: fn.__name__)
def test_unit_scores_average_to_the_headline_where_they_exist(fn):
  scores = metrics.unit_scores(fn, *PAIRS)
  if fn is metrics.bleu:
    assert scores is None
  else:
    assert scores.shape == (3,)
    assert scores.mean() == pytest.approx(fn(*PAIRS)[metrics.primary_key(fn)])


def test_every_metric_has_the_signature_that_seqio_dispatches_on():
  for fn in TEXT_METRICS + [metrics.f1_binary, metrics.pearson_spearman, metrics.multirc_f1]:
    assert tuple(inspect.signature(fn).parameters) == ('targets', 'predictions')
  assert tuple(inspect.signature(metrics.rank_accuracy).parameters) == ('targets', 'scores')


def test_accuracy_compares_case_but_not_outer_space():
  assert metrics.accuracy(['Yes', 'no'], [' Yes ', 'No'])['accuracy'] == 50
  assert metrics.accuracy([0, 1], [0, -1])['accuracy'] == 50


def test_squad_normalises_and_takes_the_best_reference():
  result = metrics.squad([['The Cat.', 'dog'], 'big red dog'], ['cat', 'red dog'])
  assert result['em'] == 50
  assert result['f1'] == pytest.approx(100 * (1 + 0.8) / 2)


def test_bleu_takes_different_numbers_of_references():
  targets = [['the cat sat on the mat', 'a cat sat down there'], 'the dog ran away from me']
  assert metrics.bleu(targets, ['a cat sat down there', 'the dog ran away from me'])['bleu'] > 99


def test_edit_similarity_counts_case():
  result = metrics.edit_distance(['ABcd'], ['abcd'])
  assert result == {'edit_similarity': 50, 'exact_match': 0}


def test_f1_binary_counts_an_invalid_prediction_as_wrong():
  assert metrics.f1_binary([1, 1, 0], [1, -1, 0])['f1'] == pytest.approx(200 / 3)
  assert metrics.f1_binary([1, 0], [1, -1])['f1'] == pytest.approx(200 / 3)
  with pytest.raises(UserError, match='label_ids'):
    metrics.f1_binary(['yes'], ['no'])


def test_mean_3class_f1_averages_the_classes_evenly():
  # F1 by class: 2/3 (one of two found), 0, 1; an invalid prediction belongs to none.
  assert metrics.mean_3class_f1([0, 0, 1, 2], [0, -1, -1, 2])['mean_3class_f1'] == pytest.approx(
      100 * (2 / 3 + 0 + 1) / 3
  )


def test_correlations_are_scaled_and_zero_when_undefined():
  result = metrics.pearson_spearman([0.0, 1.0, 2.0], [0.0, 10.0, 20.0])
  assert result == pytest.approx({'pearson': 100, 'spearman': 100, 'pearson_spearman': 100})
  assert metrics.pearson_spearman([0.0, 1.0], [3.0, 3.0])['pearson_spearman'] == 0


def test_multirc_judges_questions_whole():
  targets = [GroupedLabel(1, 'a'), GroupedLabel(0, 'a'), GroupedLabel(1, 'b')]
  predictions = [GroupedLabel(1, 'a'), GroupedLabel(1, 'a'), GroupedLabel(1, 'b')]
  result = metrics.multirc_f1(targets, predictions)
  assert result['em'] == 50
  assert result['f1'] == pytest.approx(80)


def test_rank_accuracy_takes_the_best_option_of_each_example_in_any_order():
  rows = [
      (Option((4, 0), False, 2), -3.0),
      (Option((7, 1), False, 3), -9.0),
      (Option((4, 1), True, 2), -1.0),
      (Option((7, 0), True, 3), -5.0),
      (Option((7, 2), False, 3), -2.0),
  ]
  targets, scores = zip(*rows)
  assert metrics.rank_accuracy(targets, scores) == {'accuracy': 50}
  assert metrics.unit_scores(metrics.rank_accuracy, targets, scores).tolist() == [100, 0]


def test_rank_accuracy_leaves_out_an_example_cut_in_its_midst():
  targets = [Option((0, 0), True, 2), Option((0, 1), False, 2), Option((1, 0), True, 2)]
  assert metrics.unit_scores(metrics.rank_accuracy, targets, np.zeros(3)).tolist() == [100]


def test_a_users_own_metric_has_its_name_as_key():
  def mine(targets, predictions):
    return {'mine': 1.0}

  assert metrics.primary_key(mine) == 'mine'
  assert metrics.unit_scores(mine, ['a'], ['a']) is None
