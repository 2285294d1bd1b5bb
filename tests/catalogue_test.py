import pytest
import seqio
import tensorflow as tf

from flanjax.data import (
    TaskSpec,
    Template,
    catalogue,
    metrics,
    mixtures,
    register,
    specs,
    vocabularies,
)
from flanjax.errors import UserError

GOOD = [Template('{q}\n{options_}', '{answer}'), Template('Ask: {answer}', '{q}')]


def _dataset(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'q': [f'{split} {i}' for i in range(4)]})


def _fields(example):
  return {'q': example['q'], 'options': ['aa', 'bb'], 'answer': 'bb'}


def make(name, templates=None, fields=_fields, cluster='qa'):
  source = seqio.FunctionDataSource(_dataset, ['train', 'test'])
  templates = templates or GOOD
  spec = TaskSpec(name, cluster, source, fields, templates, [metrics.accuracy], suite='cat')
  return register(spec)


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('cat'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def test_list_tells_of_every_task_and_can_be_narrowed():
  make('one')
  make('two', cluster='nli')
  rows = catalogue.list_tasks('cat')
  assert [r['task'] for r in rows] == ['one', 'two']
  assert rows[0]['templates'] == 2 and rows[0]['inverted'] == 1 and rows[0]['classification']
  assert [r['task'] for r in catalogue.list_tasks('cat', 'nli')] == ['two']
  for wrong in (('cot', None), ('cat', 'nil')):
    with pytest.raises(UserError, match='did you mean'):
      catalogue.list_tasks(*wrong)


def test_show_gives_text_and_token_counts():
  make('one')
  rows = catalogue.show_task('one', num_examples=1, split='test')
  assert [(r['template_id'], r['inverted']) for r in rows] == [(0, False), (1, True)]
  assert rows[0]['inputs'] == 'test 0\nOPTIONS:\n- aa\n- bb' and rows[0]['targets'] == 'bb'
  assert rows[0]['input_tokens'] == len(rows[0]['inputs']) + 1 and rows[0]['target_tokens'] == 3
  rows = catalogue.show_task('one_type_0_scoring_eval', num_examples=2)
  assert [(r['option'], r['is_correct']) for r in rows] == [(0, False), (1, True)]
  with pytest.raises(UserError, match='no split'):
    catalogue.show_task('one', split='trian')
  with pytest.raises(UserError, match='did you mean one'):
    catalogue.show_task('ones')


def test_show_explains_an_answer_outside_the_options():
  make('one', fields=lambda x: _fields(x) | {'answer': 'cc'})
  with pytest.raises(UserError, match=r'(?s)task one, example 0.*cc'):
    catalogue.show_task('one')


def test_mixture_table_has_the_columns_a_person_reads():
  make('one')
  make('two', cluster='nli')
  names = mixtures.register_suite_mixtures('cat')
  rows = catalogue.mixture_table('cat_all_train')
  assert [(r['task'], r['cluster'], r['num_examples'], r['rate'], r['share']) for r in rows] == [
      ('one_10templates', 'qa', 4, 4, 0.5),
      ('two_10templates', 'nli', 4, 4, 0.5),
  ]
  shown = [r['mixture'] for r in catalogue.list_mixtures() if r['mixture'].startswith('cat_')]
  assert 'cat_holdout_nli_train' in shown and not any(n.endswith('_shot') for n in shown)
  for name in names:
    seqio.MixtureRegistry.remove(name)
