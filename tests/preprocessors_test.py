import numpy as np
import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, preprocessors, register, specs, vocabularies
from flanjax.errors import UserError

ROWS = 40
TEMPLATES = [
    Template('Q: {question}\n{options_}', 'It is {answer}.'),
    Template('{question}?', '{answer}'),
    Template('Ask for {answer}', '{question}'),
]


def _dataset(split, shuffle_files, seed=None):
  ids = range(ROWS if split == 'train' else 5)
  return tf.data.Dataset.from_tensor_slices({'i': list(ids), 'text': [f'{split}{i}' for i in ids]})


def _fields(example):
  """Options vary in number: 2 for even examples, 3 for odd ones."""
  options = tf.constant(['a', 'b', 'c'])[: 2 + example['i'] % 2]
  return {'question': example['text'], 'options': options, 'answer': options[-1]}


def make(name='pre', **changes):
  settings = {
      'cluster': 'qa',
      'source': seqio.FunctionDataSource(_dataset, ['train', 'test']),
      'fields': _fields,
      'templates': TEMPLATES,
      'metric_fns': [metrics.accuracy],
      'suite': 'pre_test',
  }
  return register(TaskSpec(name, **(settings | changes)))


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('pre_test'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def _elements(name, split='test', lengths=None):
  dataset = seqio.TaskRegistry.get(name).get_dataset(lengths, split, shuffle=False)
  return list(dataset.as_numpy_iterator())


def test_scoring_has_a_row_for_each_option_of_each_example():
  make()
  rows = _elements('pre_type_0_scoring_eval')
  assert [x['idx'].tolist() for x in rows[:5]] == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
  assert [bool(x['is_correct']) for x in rows[:5]] == [False, True, False, False, True]
  assert [int(x['num_options']) for x in rows[:5]] == [2, 2, 3, 3, 3]
  assert rows[4]['targets_pretokenized'] == b'It is c.'
  assert rows[3]['inputs_pretokenized'] == b'Q: test1\nOPTIONS:\n- a\n- b\n- c'
  assert rows[0]['idx'].dtype == rows[0]['num_options'].dtype == 'int32'


def test_any_of_several_references_is_a_correct_option():
  make(fields=lambda x: _fields(x) | {'answers': ['a', 'b']})
  rows = _elements('pre_type_0_scoring_eval')
  assert [bool(x['is_correct']) for x in rows[:5]] == [True, True, True, True, False]


def test_references_are_written_as_the_template_writes_its_target():
  make(fields=lambda x: _fields(x) | {'answers': tf.stack(['a', 'b'])})
  for x in _elements('pre_10templates'):
    expected = {
        0: [b'It is a.', b'It is b.'],
        1: [b'a', b'b'],
        2: [x['targets_pretokenized']],
    }[int(x['template_id'])]
    assert x['answers'].tolist() == expected


def test_an_answer_outside_the_options_is_told_with_task_and_example():
  def fields(example):
    wrong = tf.where(example['i'] == 3, 'zz', 'b')
    return {'question': example['text'], 'options': ["a's", 'b'], 'answer': wrong}

  make(fields=fields)
  for name in ('pre_type_0', 'pre_type_0_scoring_eval'):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
      _elements(name)
    error = preprocessors.explain(raised.value)
    assert isinstance(error, UserError)
    assert error.where == 'task pre, example 3'
    assert (error.got, error.expected) == ("answer 'zz'", "one of a's | b")
  assert preprocessors.explain(ValueError('other')) is None


def test_a_field_that_no_template_finds_is_an_error_before_anything_is_read():
  make(templates=[*TEMPLATES, Template('{title}', '{answer}')])
  with pytest.raises(UserError, match=r"(?s)'title'.*template 3.*answer, options, question"):
    seqio.TaskRegistry.get('pre_type_0').get_dataset(None, 'test')


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (lambda x: {'question': x['nothing'], 'answer': 'a'}, r'(?s)KeyError.*columns i, text'),
        (lambda x: {'question': x['i'], 'options': ['a'], 'answer': 'a'}, "'question' in a form"),
        (lambda x: {'question': 'q', 'options': 'a', 'answer': 'a'}, "'options' in a form"),
        (lambda x: x['text'], 'must return a dict'),
        (lambda x: {'question': 'q', 'options': ['a']}, "'answer'"),
    ],
)
def test_fields_that_fail_are_a_users_error(fields, message):
  make(fields=fields)
  with pytest.raises(UserError, match=message):
    seqio.TaskRegistry.get('pre_type_0').get_dataset(None, 'test')


def test_python_conditions_in_fields_are_converted_as_in_any_seqio_preprocessor():
  def fields(example):
    answer = 'a'
    if example['i'] == 1:
      answer = 'b'
    return {'question': example['text'], 'options': ['a', 'b'], 'answer': answer}

  make(fields=fields)
  assert [x['targets_pretokenized'] for x in _elements('pre_type_1')][:3] == [b'a', b'b', b'a']


def test_eos_survives_truncation_and_a_length_of_zero_is_refused():
  make()
  for x in _elements('pre_type_0', lengths={'inputs': 5, 'targets': 3}):
    assert len(x['inputs']) == 5 and len(x['targets']) == 3
    assert x['inputs'][-1] == x['targets'][-1] == 1
  with pytest.raises(UserError, match="'targets' must be at least 1"):
    _elements('pre_type_0', lengths={'inputs': 5, 'targets': 0})


def _split_shots(x):
  *exemplars, query = x['inputs_pretokenized'].decode().split('\n\n')
  return exemplars, query


def test_exemplars_are_solved_training_examples_under_the_querys_template():
  make()
  for x in _elements('pre_10templates_three_shot'):
    exemplars, query = _split_shots(x)
    assert len(exemplars) == len(set(exemplars)) == 3
    template = TEMPLATES[int(x['template_id'])]
    rows = [{'question': f'train{i}', 'options': list('abc')[: 2 + i % 2]} for i in range(ROWS)]
    solved = [template.render(row | {'answer': row['options'][-1]}) for row in rows]
    assert set(exemplars) <= {f'{inputs}\n{targets}' for inputs, targets in solved}
    assert 'train' not in query


def test_exemplars_are_the_same_in_every_run_and_differ_between_examples():
  make()
  runs = [[_split_shots(x)[0] for x in _elements('pre_type_1_five_shot')] for _ in range(2)]
  assert runs[0] == runs[1]
  assert len({tuple(e) for e in runs[0]}) == 5


def test_a_training_query_is_never_its_own_exemplar():
  make()
  for x in _elements('pre_type_1_multi_shot', 'train'):
    exemplars, query = _split_shots(x)
    assert len(exemplars) == 16
    assert not any(e.startswith(query) for e in exemplars)


def test_exemplars_are_dropped_from_the_end_until_the_prompt_fits():
  make()
  whole = [_split_shots(x)[0] for x in _elements('pre_type_0_ten_shot')]
  for length in (64, 160):
    for full, x in zip(whole, _elements('pre_type_0_ten_shot', lengths={'inputs': length})):
      kept, query = _split_shots(x)
      assert kept == full[: len(kept)] and len(kept) < 10
      assert len(x['inputs']) <= length and query.startswith('Q: test')
      assert len(kept) >= (2 if length == 160 else 0)


def _labels(text):
  return [line for line in text.decode().split('\n') if line in ('a', 'b', 'c')]


def test_balanced_exemplars_show_every_label_once_before_any_again():
  # Three examples in four have the label 'a'.
  labels = lambda x: tf.gather(['a', 'a', 'a', 'b', 'a', 'a', 'a', 'c'], x['i'] % 8)
  make(templates=[Template('{question}\n{options_}', '{answer}')],
       fields=lambda x: {'question': x['text'], 'options': ['a', 'b', 'c'], 'answer': labels(x)})
  shown = [_labels(x['inputs_pretokenized']) for x in _elements('pre_type_0_five_shot_balanced')]
  assert all(sorted(s[:3]) == ['a', 'b', 'c'] and len(set(s[3:])) == 2 for s in shown)
  assert len({tuple(s) for s in shown}) > 1
  drawn = [_labels(x['inputs_pretokenized']) for x in _elements('pre_type_0_five_shot')]
  assert sum(s.count('a') for s in drawn) > 15


def test_balanced_exemplars_run_on_when_a_label_has_no_more():
  draw, labels = tf.constant([0.9, 0.8, 0.7, -1.0, 0.1]), np.array([0, 0, 1, 1, 0], np.int32)
  scores = preprocessors._in_turns(draw, labels).numpy()
  assert np.argsort(-scores).tolist() == [0, 2, 1, 4, 3]


def test_a_balanced_query_is_never_its_own_exemplar():
  make()
  for x in _elements('pre_type_0_ten_shot_balanced', 'train'):
    text = x['inputs_pretokenized'].decode()
    query = text.rsplit('Q: ', 1)[1].split('\n')[0]
    assert text.count(f'Q: {query}\n') == 1 and text.count('Q: ') == 11


def test_templates_may_have_labels_of_their_own():
  def fields(x):
    fields = _fields(x)
    words = tf.strings.upper(fields['options'])
    return fields | {'options_word': words, 'answer_word': words[-1]}

  word = Template('{question} It is', '{answer_word}', ranks=True, suffix='_word')
  make(fields=fields, templates=[TEMPLATES[0], word])
  rows = _elements('pre_type_1_scoring_eval')
  assert [x['targets_pretokenized'] for x in rows[:5]] == [b'A', b'B', b'A', b'B', b'C']
  assert [bool(x['is_correct']) for x in rows[:5]] == [False, True, False, False, True]
  assert rows[2]['options'].tolist() == [b'A', b'B', b'C']
  mixed = _elements('pre_10templates')
  for x in mixed:
    own = x['template_id'] == 1
    assert x['options'].tolist() == [b'A', b'B', b'C'][: len(x['options'])] if own else [
        b'a', b'b', b'c'][: len(x['options'])]
    assert x['targets_pretokenized'].decode().isupper() == own
  assert {int(x['template_id']) for x in mixed} == {0, 1}


def test_a_template_without_its_labels_is_an_error_before_anything_is_read():
  make(templates=[Template('{question} It is', '{answer_word}', ranks=True, suffix='_word')],
       fields=lambda x: _fields(x) | {'answer_word': 'A'})
  with pytest.raises(UserError, match="(?s)'options_word'.*rank classification"):
    _elements('pre_type_0')


def test_examples_that_a_template_leaves_empty_are_left_out_where_a_task_says_so():
  sometimes = lambda x: _fields(x) | {'hint': tf.where(x['i'] % 2 == 0, x['text'], ' ')}
  make(fields=sometimes, templates=[Template('{hint}', '{question}')], drop_empty=True)
  assert [int(x['example_id']) for x in _elements('pre_type_0')] == [0, 2, 4]
  make('kept', fields=sometimes, templates=[Template('{hint}', '{question}')])
  assert len(_elements('kept_type_0')) == 5


def test_few_shot_needs_a_training_split():
  make(source=seqio.FunctionDataSource(_dataset, ['test']))
  with pytest.raises(UserError, match='training split'):
    _elements('pre_type_1_one_shot')


def test_seqio_evaluator_scores_generation_and_ranks_options():
  make(fields=lambda x: _fields(x) | {'answers': tf.stack([_fields(x)['answer'], 'A'])})
  lengths = {'inputs': 64, 'targets': 16}

  def evaluator(task):
    return seqio.Evaluator(
        task, seqio.EncDecFeatureConverter(pack=False), 'test', sequence_length=lengths,
        async_compute_metrics=False,
    )  # fmt: skip

  vocabulary = seqio.ByteVocabulary()
  predict = lambda ds: [(int(i), vocabulary.encode('A') + [1]) for i, _ in ds]
  metrics_future, _ = evaluator('pre_type_1').evaluate(compute_metrics=True, predict_fn=predict)
  assert metrics_future.result()['pre_type_1'] == {'accuracy': 100}

  score = lambda ds: [(int(i), float(i)) for i, _ in ds]
  metrics_future, _ = evaluator('pre_type_0_scoring_eval').evaluate(
      compute_metrics=True, score_fn=score
  )
  assert metrics_future.result()['pre_type_0_scoring_eval'] == {'accuracy': 100}
