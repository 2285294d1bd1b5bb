"""FLAN's other regimes in the suite flan2021: continuations, the dataset's name alone, and neither."""

import re

import flan2021_examples
import pytest
import seqio

from flanjax.data import indexed_source, preprocessors, specs

NAMES = list(flan2021_examples.EXAMPLES)
CONTINUATIONS = [(name, i) for name in NAMES for i in range(len(specs.get(name).continuations))]
# Words that a `fields` function adds of its own: to say how a task is to be read, not what is in it.
WORDING = {'ask', 'ask_back', 'link', 'reverse', 'kind', 'language', 'count'}
MOST_WORDS = 12
every_task = pytest.mark.parametrize('name', NAMES)
every_continuation = pytest.mark.parametrize(('name', 'i'), CONTINUATIONS)


def own_words(text):
  return re.findall(r'[^\W_]+', re.sub(r'\{\w+\}', ' ', text))


@every_task
def test_every_task_has_a_continuation_or_two(name):
  assert len(specs.get(name).continuations) in (1, 2)


@every_continuation
def test_a_continuation_says_little_of_its_own_and_shows_no_options(name, i):
  spec = specs.get(name)
  continuation = spec.continuations[i]
  assert not continuation.has_options
  assert len(own_words(continuation.inputs)) <= MOST_WORDS
  assert continuation.inputs not in {t.inputs for t in spec.templates}


@every_continuation
def test_a_continuation_breaks_off_where_the_answer_is_due(name, i):
  inputs = specs.get(name).continuations[i].inputs
  assert inputs == inputs.strip()
  assert re.search(r'([:=}]|\w)\Z', inputs)
  assert not re.search(r'\w\{|\}\w|  | \n', inputs)


@every_continuation
def test_a_continuation_asks_for_the_answer_and_does_not_give_it(name, i):
  continuation = specs.get(name).continuations[i]
  assert not continuation.inverted
  assert continuation.targets == f'{{{continuation.answer_field}}}'
  assert not any(slot.startswith('answer') for slot in continuation.slots)


@every_continuation
def test_options_are_ranked_as_continuations_if_there_are_options(name, i):
  spec = specs.get(name)
  assert spec.continuations[i].ranks == spec.is_classification
  ranked = f'continuations_{name}_type_{i}_scoring_eval' in seqio.TaskRegistry.names()
  assert ranked == spec.is_classification


@every_continuation
def test_labels_in_other_words_keep_the_order_of_the_options(name, i):
  continuation, fields = specs.get(name).continuations[i], flan2021_examples.fields(name)
  if continuation.suffix:
    words, word = fields[continuation.options_field], fields[continuation.answer_field]
    assert words.index(word) == fields['options'].index(fields['answer'])
    assert len(words) == len(fields['options']) == len(set(words))


@every_continuation
def test_continuations_render_as_seqio_tasks(name, i):
  spec, fields = specs.get(name), flan2021_examples.fields(name)
  inputs, targets = spec.continuations[i].render(fields)
  assert not re.search(r'\s\Z', inputs)
  if not spec.is_classification:
    row, = flan2021_examples.rows(f'continuations_{name}_type_{i}')
    assert (row['inputs'].decode(), row['targets'].decode()) == (inputs, targets)
    return
  rows = flan2021_examples.rows(f'continuations_{name}_type_{i}_scoring_eval')
  assert [row['targets'].decode() for row in rows] == fields[spec.continuations[i].options_field]
  assert [row['targets'].decode() for row in rows if row['is_correct']] == [targets]
  assert {row['inputs'].decode() for row in rows} == {inputs}


@every_continuation
def test_perfect_predictions_on_continuations_score_perfect(name, i):
  spec = specs.get(name)
  task = seqio.TaskRegistry.get(f'continuations_{name}_type_{i}')
  answers = ['the quick brown fox jumps', 'over the lazy dog again', 'one two three four', 'a b c d e']
  if spec.is_classification:
    answers = flan2021_examples.fields(name)[spec.continuations[i].options_field]
  examples = [{'answers': [a.encode()], 'group': b'g'} for a in answers]
  targets, predictions = (
      [task.postprocess_fn(a, example=x, is_target=is_target) for a, x in zip(answers, examples)]
      for is_target in (True, False))
  assert len(set(map(str, targets))) == len(answers), 'the metric cannot tell the labels apart'
  for metric_fn in task.metric_fns:
    scores = metric_fn(targets, predictions)
    assert scores == pytest.approx(dict.fromkeys(scores, 100.0)), metric_fn


@every_task
def test_inputs_without_instructions_are_data_alone(name):
  spec = specs.get(name)
  plain, = spec.templates_of('no_instructions')
  assert re.fullmatch(r'\{\w+\}(\n\{\w+\})*', plain.inputs)
  assert not WORDING & set(plain.slots)
  assert plain.ranks == spec.is_classification
  assert ('options_' == plain.slots[-1]) == spec.is_classification
  assert plain.targets == '{answer}'


@every_task
def test_a_datasets_name_stands_before_the_inputs(name):
  spec = specs.get(name)
  named, = spec.templates_of('dataset_name')
  first, rest = named.inputs.split('\n', maxsplit=1)
  assert rest == spec.templates_of('no_instructions')[0].inputs
  assert first == f'[{spec.cluster}: {name}]'.replace('_', ' ')


@every_task
def test_regimes_without_instructions_render_as_seqio_tasks(name):
  for regime in ('dataset_name', 'no_instructions'):
    template, = specs.get(name).templates_of(regime)
    row, = flan2021_examples.rows(f'{regime}_{name}_type_0')
    assert (row['inputs'].decode(), row['targets'].decode()) == template.render(flan2021_examples.fields(name))


def test_a_clause_of_copa_goes_on_in_small_letters():
  changes = [{'choice1': 'The sun rose.', 'choice2': "I'd slept.", 'label': 0},
             {'choice1': 'It rained.', 'choice2': 'I slept.', 'label': 1, 'question': 'effect'}]
  first, second = flan2021_examples.all_fields('copa', changes)
  assert first['options_clause'] == ['the sun rose.', "I'd slept."]
  assert specs.get('copa').continuations[0].render(second) == ('The baker threw the loaf away and so', 'I slept.')


def test_a_gap_at_the_beginning_of_a_query_leaves_the_passage_alone():
  fields, = flan2021_examples.all_fields('record', [{'query': '@placeholder has closed the bridge.'}])
  inputs, target = specs.get('record').continuations[0].render(fields)
  assert inputs.endswith('found cracks in it on Friday.')
  assert target == 'Ida Holm has closed the bridge.'


@pytest.mark.real_data
def test_continuations_of_real_examples_are_tidy():
  for name in ('copa', 'rte', 'cb', 'wsc', 'winogrande', 'sst2', 'piqa', 'samsum'):
    spec = specs.get(name)
    source = indexed_source.IndexedSource(spec.source, name).get_dataset('test', shuffle=False).take(50)
    for x in preprocessors.to_fields(source, spec).as_numpy_iterator():
      fields = {k: flan2021_examples.plain(v) for k, v in x['fields'].items()}
      for continuation in spec.continuations:
        inputs, targets = continuation.render(fields)
        assert inputs == inputs.strip() and targets == targets.strip() and targets
        assert name != 'copa' or targets[0].islower() or re.match(r'I\b', targets)
