"""Tests of the conventions for ranked options, against lm-evaluation-harness's formulas."""

import numpy as np
import pytest

from flanjax.evaluation import conventions

# Each convention prefers another option.
RECORD = {
    'options': ['no', 'yes indeed', 'öööööööö', 'it is', 'so'],
    'option_scores': [-2.0, -5.0, -6.0, -4.5, -3.0],
    'option_tokens': [2, 3, 2, 9, 2],
    'unconditional_scores': [-2.5, -5.0, -4.0, -6.0, -9.0],
    'targets': 'it is',
}


def _lm_eval(record):
  """As `process_results` of its multiple-choice tasks computes them, written from its documentation."""
  lls = np.array(record['option_scores'])
  characters = np.array([float(len(o)) for o in record['options']])
  in_bytes = np.array([float(len(o.encode('utf-8'))) for o in record['options']])
  return {'sum': np.argmax(lls), 'per_character': np.argmax(lls / characters),
          'per_byte': np.argmax(lls / in_bytes),
          'unconditional': np.argmax(lls - np.array(record['unconditional_scores']))}


def test_choices_are_those_of_the_harness():
  rng = np.random.default_rng(0)
  records = [RECORD] + [
      {**RECORD, 'option_scores': rng.normal(-9, 4, 5).tolist(),
       'unconditional_scores': rng.normal(-9, 4, 5).tolist()} for _ in range(50)]
  for record in records:
    for name, expected in _lm_eval(record).items():
      assert conventions.choice(record, name) == expected
  assert len({conventions.choice(r, n) for r in records for n in conventions.CONVENTIONS}) == 5


def test_a_choice_by_tokens_is_the_likeliest_on_average():
  assert conventions.choice(RECORD, 'per_token') == 3  # -4.5 / 9


def test_a_score_asks_whether_the_choice_is_a_right_one():
  assert [conventions.score(RECORD, n) for n in conventions.CONVENTIONS] == [
      0.0, 100.0, 0.0, 0.0, 0.0]
  assert conventions.score({**RECORD, 'targets': ['no', 'so']}, 'unconditional') == 100.0


@pytest.mark.parametrize('field, convention', [
    ('option_tokens', 'per_token'), ('unconditional_scores', 'unconditional')])
def test_a_record_of_an_earlier_evaluation_does_not_tell_all(field, convention):
  record = {k: v for k, v in RECORD.items() if k != field}
  assert conventions.score(record, convention) is None
  assert conventions.score(record, 'sum') == 0.0


def test_a_generated_answer_has_no_ranking():
  assert conventions.choice({'options': ['a', 'b'], 'option_scores': None, 'targets': 'a'}, 'sum') is None


def test_an_empty_option_is_no_division_by_zero():
  record = {'options': ['', 'a'], 'option_scores': [-3.0, -2.0], 'targets': 'a'}
  assert conventions.choice(record, 'per_character') == 1
