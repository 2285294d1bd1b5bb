"""Options in another order and under other labels: what is asked, and what the report says of it."""

import doctest
import itertools
import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from flanjax.commands import eval as eval_script
from flanjax.commands import eval_plan
from flanjax.data import TaskSpec, Template, metrics, options, postprocessors, register, specs, vocabularies
from flanjax.errors import UserError
from flanjax.evaluation import report, run_data, score
from flanjax.evaluation import records as records_lib

LENGTHS = {'inputs': 200, 'targets': 24}
N = 12
FILMS, PLACES = 'variant_films', 'variant_places'


def _films(split, shuffle_files, seed=None):
  rows = {'text': [f'film {i}' for i in range(N)], 'label': [i % 2 for i in range(N)]}
  return tf.data.Dataset.from_tensor_slices(rows)


def _film_fields(example):
  return {'review': example['text'], 'options': ['no', 'yes'],
          'answer': tf.gather(['no', 'yes'], example['label']),
          'options_word': ['wrong', 'right'],
          'answer_word': tf.gather(['wrong', 'right'], example['label'])}


def _places(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'n': [2 + i % 2 for i in range(N)], 'id': list(range(N))})


def _place_fields(example):
  """Two or three options, the first always the right one."""
  every = tf.strings.join(['town ', tf.strings.as_string(example['id']), tf.constant(list('abc'))])
  return {'asked': tf.strings.as_string(example['id']), 'options': every[: example['n']], 'answer': every[0]}


def _source(read):
  return seqio.FunctionDataSource(read, ['train', 'test'], num_input_examples={'train': N, 'test': N})


@pytest.fixture(autouse=True, scope='module')
def tasks():
  vocabularies.set_default('bytes')
  shared = {'cluster': 'sentiment', 'metric_fns': [metrics.accuracy], 'suite': 'variants_test'}
  register(TaskSpec(
      name=FILMS, source=_source(_films), fields=_film_fields, **shared | {
          'metric_fns': [metrics.f1_binary], 'postprocess_fn': postprocessors.label_ids(['no', 'yes'])},
      templates=[Template('{review}\nIs it good?\n{options_}', '{answer}'),
                 Template('{review}\nSay yes if it is good.\n{options_}', '{answer}'),
                 Template('{review}\nGood?', '{answer}', ranks=True)]))
  register(TaskSpec(
      name=PLACES, source=_source(_places), fields=_place_fields, **shared | {'cluster': 'places'},
      templates=[Template('Where was {asked}?\n{options_}', 'It was {answer}.')]))
  yield
  specs.unregister(FILMS)
  specs.unregister(PLACES)
  vocabularies.set_default(None)


def _asked(name):
  """(inputs, right answer, options, option_order, wording) of each example."""
  specs.make_known(name)
  rows = seqio.get_mixture_or_task(name).get_dataset(LENGTHS, 'test', shuffle=False).as_numpy_iterator()
  return [(r['inputs_pretokenized'].decode(), r['targets_pretokenized'].decode(),
           [o.decode() for o in r['options']], r['option_order'].tolist(), r['wording'].decode()) for r in rows]


class Places:
  """Stands for a model: of the options as they are listed it always takes the same place.

  Where `order` says so, it reads the options instead: it is right there, and wrong anywhere else.
  """

  eos_id, fingerprint = 1, 'places'
  vocabulary = seqio.ByteVocabulary()

  def __init__(self, place=0, knows=None):
    self._place, self._knows = place, knows

  def _answer(self, text):
    listed = text.split('OPTIONS:\n- ')[1].split('\n- ')
    answer = self._knows(text, listed) if self._knows else listed[self._place]
    answer = answer.partition(' ')[0] if answer.startswith('(') else answer
    return answer if 'Where' not in text else f'It was {answer}.'

  def generate(self, inputs, max_decode_steps):
    return [self.vocabulary.encode(self._answer(self.vocabulary.decode(list(map(int, x))))) for x in inputs]

  def score(self, pairs):
    texts = [[self.vocabulary.decode(list(map(int, side))) for side in pair] for pair in pairs]
    return np.array([-1.0 if x and self._answer(x) == y else -5.0 for x, y in texts])


def test_labels_take_letters_where_the_template_names_one():
  letters = _asked(f'{FILMS}_type_1_reworded')
  assert letters[1] == ('film 1\nSay yes if it is good.\nOPTIONS:\n- (A) no\n- (B) yes', '(B)', ['(A)', '(B)'],
                        [0, 1], 'letters')


@pytest.mark.parametrize('given, own, text, expected', [
    (['yes', 'no'], [], 'Does it follow?', ['true', 'false']),
    (['Yes', "It's impossible to say", 'No'], [], '', ['True', 'Uncertain', 'False']),
    (['maybe', 'no', 'yes'], [], '', ['uncertain', 'false', 'true']),
    (['no', 'yes'], ['wrong', 'right'], '', ['wrong', 'right']),
    (['no', 'yes'], ['wrong'], '', ['false', 'true']),
    (['negative', 'positive'], [], 'Is this Positive?', ['(A)', '(B)']),
    (['no', 'yes'], [], 'I note that nobody knows', ['false', 'true']),
    (['0', '1', '2'], [], '', ['(A)', '(B)', '(C)']),
    (['same', 'same'], [], '', ['(A)', '(B)']),
])
def test_labels_are_worded_otherwise(given, own, text, expected):
  labels, shown, kind = options.relabel(given, own, text)
  assert labels == expected and kind == ('letters' if expected[0] == '(A)' else 'words')
  assert shown == (labels if kind == 'words' else [f'{a} {b}' for a, b in zip(labels, given)])


def test_the_examples_of_labels_are_true():
  assert doctest.testmod(options).failed == 0 and doctest.testmod(options).attempted == 2


def test_every_table_of_words_is_one_to_one_and_letters_go_on_after_z():
  assert all(len(set(t.values())) == len(t) and not set(t.values()) & t.keys() for t in options.WORDS)
  assert len({frozenset(t) for t in options.WORDS}) == len(options.WORDS)
  assert [options.letter(i) for i in (0, 25, 26, 51, 52)] == ['A', 'Z', 'AA', 'AZ', 'BA']


def test_only_zero_shot_templates_that_list_their_options_are_asked_otherwise():
  assert not specs.can_vary(f'{FILMS}_type_2') and specs.can_vary(f'{FILMS}_type_0_scoring_eval')
  for name, variant in ((f'{FILMS}_type_2', 'order_1'), (f'{FILMS}_type_0_two_shot', 'order_1'),
                        (f'{FILMS}_type_0_order_1', 'reworded'), (f'{FILMS}_type_0', 'order_0')):
    with pytest.raises(UserError):
      specs.varied(name, variant)


def _evaluated(folder, models, names, varied, num_examples=None):
  """The report of a run, evaluated as it is and with its options otherwise."""
  for tasks, records in ((names, 'records'), (varied, 'variant_records')):
    score.evaluate(models, tasks, LENGTHS, records_dir=folder / 'eval' / records, num_examples=num_examples)
  records_lib.EvalInfo(models={m: m for m in models}, split='test').write(folder / 'eval' / 'eval.json')
  return report.assemble([run_data.load(folder)], resamples=200)


def _of(found, task, mode='rank'):
  return next(t for t in found['tasks'] if (t['task'], t['mode']) == (task, mode))['variants']


@pytest.fixture(scope='module')
def first(tmp_path_factory):
  """A folder, and the report of a model that always takes the first option and one that reads them."""
  folder = tmp_path_factory.mktemp('run')
  knows = Places(knows=lambda text, listed: next(o for o in listed if o.endswith('a')))
  rank, generate = f'{PLACES}_type_0_scoring_eval', f'{PLACES}_type_0'
  ways = ['order_1', 'order_2', 'reworded']
  return folder, _evaluated(
      folder, {'tuned': Places(), 'untuned': knows}, [rank, generate],
      [f'{rank}_{way}' for way in ways] + [f'{generate}_{way}' for way in ('order_1', 'reworded')])


def _records(folder, name, model='tuned'):
  return records_lib.read_task(folder / 'eval' / 'variant_records' / model / f'{name}.jsonl')


def test_an_order_is_a_rotation_of_its_own_and_the_answer_follows_its_text(first):
  found = [_records(first[0], f'{PLACES}_type_0_scoring_eval_order_{k}') for k in (1, 2)]
  assert [len(f) for f in found] == [12, 6]  # Two options have one other order, three have two.
  by_example = {}
  for r in itertools.chain(*found):
    town = f'town {r["example_id"]}'
    listed, order = [o.removeprefix('It was ').rstrip('.') for o in r['options']], r['option_order']
    assert listed == [f'{town}{"abc"[i]}' for i in order] and r['inputs'].endswith('OPTIONS:\n- ' + '\n- '.join(listed))
    assert r['targets'] == f'It was {town}a.' and r['wording'] == ''
    by_example.setdefault(town, [list(range(len(order)))]).append(order)
  for orders in by_example.values():
    assert [sorted(column) for column in zip(*orders)] == [list(range(len(orders)))] * len(orders)
  assert len({tuple(o[1]) for o in by_example.values() if len(o) == 3}) > 1  # Drawn, by example.
  generated = _records(first[0], f'{PLACES}_type_0_order_1')
  assert [r['option_order'] for r in generated] == [r['option_order'] for r in found[0]]


def test_options_that_differ_by_example_take_letters(first):
  asked = _records(first[0], f'{PLACES}_type_0_reworded')[0]
  assert asked['inputs'].endswith('- (A) town 0a\n- (B) town 0b') and asked['targets'] == ['It was (A).']


def test_a_model_that_always_takes_the_first_option_shows_exactly_that(first):
  found = _of(first[1], PLACES)['tuned']
  assert found['n_examples'] == N and found['templates'] == [0]
  ways = {w['variant']: w for w in found['ways']}
  # The right option is the first as the data has it, and never the first in another order.
  assert {v: w['value'] for v, w in ways.items()} == {
      'original': 100, 'order_1': 0, 'order_2': 0, 'reworded': 100}
  assert found['flips']['value'] == ways['order_1']['flips']['value'] == 100
  assert ways['reworded']['flips']['value'] == 0 and found['wordings'] == {'letters': N}
  gap = ways['order_1']['difference']
  assert (gap['value'], gap['test'], gap['discordant']['lost'], gap['n_examples']) == (-100, 'mcnemar', N, N)
  assert gap['p'] == pytest.approx(2 * 0.5**N) and gap['high'] < 0
  # Of two and three options in all of their orders, the first is right in a half and a third.
  rate = 100 * np.mean([1 / 2, 1 / 3])
  position = found['position']
  assert position['first']['chosen'] == 100 and position['first']['right'] == pytest.approx(rate)
  assert position['first']['lean'] == pytest.approx(100 - rate) and position['first']['low'] > 0
  assert position['last']['chosen'] == 0 and position['none'] == 0
  assert found['spread'] | {'lower_quartile': 0, 'median': 50, 'upper_quartile': 100} == found['spread']
  assert (found['spread']['worst_variant'], found['spread']['best_variant']) == ('order_1', 'original')


def test_a_model_that_reads_the_options_leans_nowhere(first):
  found = _of(first[1], PLACES)['untuned']
  assert {w['variant']: w['value'] for w in found['ways']}['order_2'] == 100
  assert found['flips']['value'] == 0 and found['position']['first']['lean'] == 0


def test_generated_answers_are_compared_by_their_text(first):
  ways = {w['variant']: w for w in _of(first[1], PLACES, 'generate')['tuned']['ways']}
  assert ways['original']['value'] == ways['reworded']['value'] == 100 and ways['order_1']['value'] == 0
  assert ways['order_1']['flips']['value'] == 100
  # 'It was (A).' is no option as it is listed, so nobody can say whether the answer is the same.
  assert ways['reworded']['flips'] is None and _of(first[1], PLACES, 'generate')['tuned']['position'] is None


def test_the_tasks_own_words_are_taken_whatever_labels_its_metric_knows(tmp_path):
  name = f'{FILMS}_type_0'
  found = _evaluated(tmp_path, {'m': Places(1)}, [name], [f'{name}_{w}' for w in ('order_1', 'order_2', 'reworded')])
  told = _of(found, FILMS, 'generate')['m']
  # Two options have no second other order.
  assert {w['variant']: w['value'] for w in told['ways']} == {'original': 50, 'order_1': 50, 'reworded': 50}
  assert told['position']['last']['chosen'] == 100 and told['wordings'] == {'words': N}
  [asked, *_] = _records(tmp_path, f'{name}_reworded', 'm')
  assert (asked['variant'], asked['wording'], asked['option_order']) == ('reworded', 'words', [0, 1])
  assert asked['inputs'] == 'film 0\nIs it good?\nOPTIONS:\n- wrong\n- right' and asked['targets'] == ['wrong']
  assert (asked['metric'], asked['options'], asked['prediction']) == ('accuracy', ['wrong', 'right'], 'right')


def test_a_cap_takes_the_same_examples_in_every_way_and_other_parameters_are_left_out(tmp_path):
  name = f'{PLACES}_type_0_scoring_eval'
  found = _evaluated(tmp_path, {'m': Places()}, [name], [f'{name}_order_2'], num_examples=4)
  assert _of(found, PLACES)['m']['n_examples'] == 2
  # Of the first four, two have three options or more.
  assert [r['example_id'] for r in _records(tmp_path, f'{name}_order_2', 'm')] == [1, 3]
  done = tmp_path / 'eval' / 'variant_records' / 'm' / f'{name}_order_2.done.json'
  done.write_text(done.read_text().replace('"model": "places"', '"model": "places before"'))
  found = report.assemble([run_data.load(tmp_path)], resamples=50)
  assert _of(found, PLACES) is None and 'comes from other parameters' in found['warnings'][0]
  assert json.dumps(found)


def test_the_plan_of_an_evaluation_names_what_is_asked_otherwise():
  names = [f'{FILMS}_type_0', f'{FILMS}_type_1', f'{FILMS}_type_2', f'{FILMS}_type_0_scoring_eval']
  plan = lambda **settings: eval_plan.make(eval_script.EvalRun(
      checkpoint_path='/runs/x', mixture_or_task_name=names, **settings), {}).varied
  assert plan() == []
  assert plan(option_orders=2, label_wordings=True, variant_templates=1) == [
      f'{n}_{way}' for way in ('order_1', 'order_2', 'reworded') for n in (names[0], names[3])]
  with pytest.raises(UserError, match='OPTION_ORDERS'):
    plan(option_orders=-1)


def test_what_could_be_detected_is_told_before_examples_are_read():
  found, unknown = eval_plan.detectable([([f'{FILMS}_type_0', f'{FILMS}_type_0_scoring_eval'], 'test', 5),
                                         ([f'{PLACES}_type_0'], 'test', None)])
  assert [(d.cluster, d.tasks, d.n_examples) for d in found] == [('sentiment', 1, 5), ('places', 1, N)]
  # Ranked options are right or wrong; the F1 of generated ones would be thought to spread less.
  assert found[0].effect / found[1].effect == pytest.approx(np.sqrt(N / 5)) and unknown == []
