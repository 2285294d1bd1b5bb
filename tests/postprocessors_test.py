import numpy as np

from flanjax.data import postprocessors


def test_a_target_becomes_its_references_and_a_prediction_stays():
  example = {'answers': np.array([b'a', 'é'.encode()], object)}
  assert postprocessors.references('a', example=example, is_target=True) == ['a', 'é']
  assert postprocessors.references('x', example=example, is_target=False) == 'x'
  assert postprocessors.references('a', example={}, is_target=True) == 'a'


def test_rank_keeps_option_example_and_correctness():
  example = {'idx': np.array([5, 1]), 'is_correct': np.True_, 'num_options': np.int32(3)}
  option = postprocessors.rank('text', example=example, is_target=True)
  assert option == ((5, 1), True, 3)


def test_label_ids_give_minus_one_for_anything_else():
  label_id = postprocessors.label_ids(['no', 'yes'])
  assert [label_id(t) for t in ('no', ' yes ', 'Yes', '')] == [0, 1, -1, -1]


def test_several_lists_name_the_same_labels():
  label_id = postprocessors.label_ids(['no', 'yes'], ['different', 'the same'])
  assert [label_id(t) for t in ('no', 'the same', 'different', 'same')] == [0, 1, 0, -1]


def test_to_float_gives_minus_one_for_text():
  assert [postprocessors.to_float(t) for t in ('3.5', 'x')] == [3.5, -1.0]


def test_grouped_labels_carry_the_group_of_the_example():
  grouped = postprocessors.grouped_label_ids(['no', 'yes'])
  assert grouped('yes', example={'group': b'q1'}, is_target=False) == (1, 'q1')
