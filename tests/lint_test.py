import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, lint, metrics, register, specs, vocabularies

GOOD = [Template('{q}\n{options_}', '{answer}'), Template('Ask: {answer}', '{q}')]


def _dataset(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'q': [f'{split} {i}' for i in range(4)]})


def _fields(example):
  return {'q': example['q'], 'options': ['aa', 'bb'], 'answer': 'bb'}


def make(name, templates=None, fields=_fields, source=None):
  source = source or seqio.FunctionDataSource(_dataset, ['train', 'test'])
  spec = TaskSpec(name, 'qa', source, fields, templates or GOOD, [metrics.accuracy], suite='lint')
  return register(spec)


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('lint'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def test_check_finds_nothing_in_a_sound_task():
  make('one')
  assert lint.check_task('one') == []


@pytest.mark.parametrize(
    ('templates', 'fields', 'template', 'level', 'message'),
    [
        ([GOOD[0], Template('{title}', '{answer}')], _fields, None, 'error', "'title'"),
        (GOOD, lambda x: _fields(x) | {'answer': 'cc'}, None, 'error', "'cc' is not among"),
        (GOOD, lambda x: _fields(x) | {'options': ['bb', 'bb']}, None, 'warning', 'are the same'),
        (GOOD, lambda x: _fields(x) | {'q': ' '}, 1, 'error', 'targets are empty'),
        (GOOD, lambda x: _fields(x) | {'q': 'why? '}, None, 'warning', "'q' begins or ends"),
        ([GOOD[0], Template('{q}\n{options_} ', '{ANSWER}')], _fields, None, 'error', "'ANSWER'"),
        ([Template('{q} {answer}', '{answer}')], _fields, 0, 'error', 'name {answer}'),
        ([Template('{q} or {title}', '{title}')], _fields, 0, 'error', 'name {title}'),
        ([Template('Say a word.', '{answer}')], _fields, 0, 'error', 'the same for every example'),
        ([Template('What of {q}?', 'good')], _fields, 0, 'error', 'targets are the same'),
        ([Template('{q}!', '{answer}')], lambda x: {'q': x['q'], 'answer': x['q']}, 0,
         'note', 'in all of 4'),
        ([Template('{answer}', '{q}')], _fields, None, 'warning', 'every template is inverted'),
        ([*GOOD, Template('{q}', '{answer}')], _fields, 2, 'note', 'without showing them'),
        ([Template('Is it {q}.', '{answer}')], lambda x: _fields(x) | {'q': x['q'] + '?'}, 0,
         'warning', "read '?.' in 4 of 4"),
    ],
)  # fmt: skip
def test_check_tells_what_is_wrong(templates, fields, template, level, message):
  make('one', templates, fields)
  assert _found(template, level, message)


def _found(template, level, message):
  problems = lint.check_task('one')
  return [p for p in problems
          if (p.template, p.level) == (template, level) and message in p.message] or print(problems)


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        ('{q}n\n{options_}', 'a letter touches a slot'),
        ('{q} \n{options_}', 'ends with a space'),
        ('{q}\n{options_} ', 'ends with a space'),
        (' {q}\n{options_}', 'begin with white space'),
        ('{q}\n{options_}\n', 'end with a line break'),
        ('{q}\n\n\n{options_}', 'more than one empty line'),
        ('Is  it {q}?\n{options_}', 'two spaces'),
        ('Is it\t{q}?\n{options_}', 'a tab'),
        ('Is it {q} ?\n{options_}', 'a space comes before'),
        ('Is it "{q}?\n{options_}', 'is not closed'),
        ('Is it ({q}?\n{options_}', 'is not closed'),
        ('Is it\u200b {q}?\n{options_}', 'U+200B'),
    ],
)
def test_stray_characters_are_errors(inputs, message):
  make('one', [Template(inputs, '{answer}')])
  assert _found(0, 'error', message)


@pytest.mark.parametrize('inputs', ['{q} {{x}}\n{options_}', '1) {q}\n{options_}', '{q}? ...\n{options_}',
                                    '"{q}" (a thing)\n\n{options_}', "{q}'s\n  {options_}"])
def test_what_only_looks_stray_is_not(inputs):
  make('one', [Template(inputs, '{answer}')])
  assert lint.check_task('one') == []


def test_templates_with_the_same_or_nearly_the_same_wording_are_told():
  first = Template('Read this text and say what it is about: {q}\n{options_}', '{answer}')
  same = Template('read this text and say what it is about: {q}\n{options_}', '{answer}')
  near = Template('{q}\n\nRead the text above and say what it is about.\n{options_}', '{answer}')
  other = Template('{q}\nTopic of these lines:\n{options_}', '{answer}')
  turned = Template('Read this answer and say what it is about: {answer}', '{q}')
  make('one', [first, same, near, other, turned])
  found = [(p.template, p.level, p.message) for p in lint.check_task('one')]
  assert found == [(1, 'error', 'it says the same as template 0'),
                   (2, 'warning', 'it says nearly the same as template 0'),
                   (2, 'warning', 'it says nearly the same as template 1')]


def test_a_problem_of_many_examples_is_told_once():
  make('one', fields=lambda x: _fields(x) | {'answer': 'cc'})
  assert len(lint.check_task('one')) == 1


def test_a_task_without_a_training_split_is_checked_on_what_it_has():
  make('one', source=seqio.FunctionDataSource(_dataset, ['test']))
  assert lint.check_task('one') == []
  assert 'no split' in lint.check_task('one', split='train')[0].message


def test_without_data_the_fields_are_traced_on_the_features(tmp_path):
  source = seqio.TfdsDataSource('glue/rte:2.0.0', tfds_data_dir=str(tmp_path))
  fields = lambda x: {'q': x['sentence1'], 'options': ['aa', 'bb'], 'answer': 'bb'}
  make('one', source=source, fields=fields)
  assert [(p.level, p.unread) for p in lint.check_task('one')] == [('note', True)]
  specs.unregister('one')
  make('one', source=source, fields=lambda x: fields(x) | {'q': x['premise']})
  assert _found(None, 'error', 'it reads the columns idx, label, sentence1, sentence2')
  assert not list(tmp_path.iterdir())


def test_the_shipped_suites_are_clean():
  import flanjax.tasks.flan2021
  import flanjax.tasks.mini  # noqa: F401

  shipped = [*specs.all_specs('mini'), *specs.all_specs('flan2021')]
  assert len(shipped) == 27 + 71
  found = [p for spec in shipped for p in lint.check_wording(spec) if p.level != 'note']
  assert not found


@pytest.mark.real_data
def test_the_shipped_suites_are_clean_on_their_data():
  import flanjax.tasks.flan2021
  import flanjax.tasks.mini  # noqa: F401

  shipped = [*specs.all_specs('mini'), *specs.all_specs('flan2021')]
  problems = [p for spec in shipped for p in lint.check_task(spec.name, 5)]
  assert not [p for p in problems if p.level != 'note']
  assert sum(p.unread for p in problems) < 60
