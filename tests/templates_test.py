import pytest
import tensorflow as tf

from flanjax.data import templates
from flanjax.data.templates import Template
from flanjax.errors import UserError

FIELDS = {'review': 'I slept', 'options': ['bad', 'good'], 'answer': 'bad', 'n': '{3}'}
TEMPLATES = [
    Template('Is "{review}" good or bad?\n{options_}', '{answer}'),
    Template('{{literal}} {review}{n}', 'It is {answer}, {{n}} {n}.'),
    Template('Write what is {answer}.', '{review}'),
    Template('No slot', 'at all', inverted=False),
]


def _tensors(fields):
  return {k: tf.constant(v) for k, v in fields.items()}


def test_example_of_the_docstring():
  assert TEMPLATES[0].render(FIELDS) == (
      'Is "I slept" good or bad?\nOPTIONS:\n- bad\n- good',
      'bad',
  )


def test_double_braces_are_literal_and_field_text_is_never_parsed():
  assert TEMPLATES[1].render(FIELDS) == ('{literal} I slept{3}', 'It is bad, {n} {3}.')


def test_tf_rendering_equals_python_rendering_for_every_template():
  for i, template in enumerate(TEMPLATES):
    rendered = templates.render_tf(TEMPLATES, tf.constant(i), _tensors(FIELDS))
    assert tuple(t.numpy().decode() for t in rendered) == template.render(FIELDS)


def test_tf_rendering_takes_whole_vectors_of_fields():
  fields = {k: tf.constant([v, v + '!']) for k, v in FIELDS.items() if k != 'options'}
  fields['options_'] = templates.options_text_tf(tf.ragged.constant([['x'], ['y', 'z']]))
  inputs, targets = templates.render_tf(TEMPLATES, tf.constant(0), fields, [2])
  assert inputs.numpy()[1].decode() == 'Is "I slept!" good or bad?\nOPTIONS:\n- y\n- z'
  assert targets.numpy().tolist() == [b'bad', b'bad!']
  inputs, _ = templates.render_tf(TEMPLATES, tf.constant(3), fields, [2])
  assert inputs.numpy().tolist() == [b'No slot', b'No slot']


def test_fields_name_options_by_their_field():
  assert TEMPLATES[0].fields == {'review', 'options', 'answer'}


def test_inverted_means_the_target_does_not_name_the_answer():
  assert [t.inverted for t in TEMPLATES] == [False, False, True, False]
  assert Template('a', '{answer}', inverted=True).inverted


def test_a_missing_field_is_an_error_that_names_it_and_the_known_ones():
  with pytest.raises(UserError, match="'review'.*\n.*answer, n"):
    TEMPLATES[0].render({'answer': 'bad', 'n': '1', 'options': []})
  with pytest.raises(UserError, match="'review'"):
    templates.render_tf(TEMPLATES, tf.constant(0), _tensors({'answer': 'bad', 'options': ['a']}))


@pytest.mark.parametrize('text', ['{', 'a } b', '{0}', '{}', '{a.b}', '{a!r}', '{a:>3}', ' ', 3])
def test_a_malformed_template_is_refused_at_once(text):
  with pytest.raises(UserError):
    Template(text, '{answer}')
