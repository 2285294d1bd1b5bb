import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register, specs, vocabularies
from flanjax.errors import UserError
from flanjax.evaluation import records as records_lib
from flanjax.evaluation import score, statistics

LENGTHS = {'inputs': 200, 'targets': 24}
N = {'train': 12, 'test': 9}


def _dataset(split, shuffle_files, seed=None):
  n = N[split]
  rows = {'text': [f'{split} film {i}' for i in range(n)], 'label': [i % 2 for i in range(n)]}
  return tf.data.Dataset.from_tensor_slices(rows)


def _fields(example):
  options = tf.constant(['bad', 'good', 'neither'])
  # Every third example has an option more, so rows per example differ.
  n = tf.where(example['label'] == 0, 2, 3)
  return {'review': example['text'], 'options': options[:n], 'answer': options[example['label']]}


TEMPLATES = [
    Template('Review: {review}\nGood or bad?\n{options_}', '{answer}'),
    Template('{review}\n{options_}', 'It is {answer}.'),
]


def _register(name, **changes):
  register(TaskSpec(**({
      'name': name,
      'cluster': 'sentiment',
      'source': seqio.FunctionDataSource(_dataset, list(N), num_input_examples=N),
      'fields': _fields,
      'templates': TEMPLATES,
      'metric_fns': [metrics.accuracy],
      'suite': 'score_test',
  } | changes)))  # fmt: skip


@pytest.fixture(autouse=True, scope='module')
def tasks():
  vocabularies.set_default('bytes')
  _register('films')
  _register(
      'labels',
      templates=TEMPLATES[:1],
      postprocess_fn=postprocessors.label_ids(['bad', 'good']),
      metric_fns=[metrics.f1_binary, metrics.accuracy],
  )
  yield
  specs.unregister('films')
  specs.unregister('labels')
  vocabularies.set_default(None)


class Rule:
  """Stands for a model: says 'good' of film i where i is odd, except of those in `blind`."""

  eos_id = 1
  vocabulary = seqio.ByteVocabulary()

  def __init__(self, blind=(), fingerprint='rule'):
    self.blind, self.fingerprint, self.calls = blind, fingerprint, []

  def _answer(self, inputs):
    text = self.vocabulary.decode([int(i) for i in inputs])
    number = int(text.rsplit('test film ', 1)[1].split()[0])
    right = ('good' if number % 2 else 'bad')
    wrong = {'good': 'bad', 'bad': 'good'}[right]
    answer = wrong if number in self.blind else right
    return answer if 'Good or bad' in text else f'It is {answer}.'

  def generate(self, inputs, max_decode_steps):
    self.calls.append(('generate', len(inputs)))
    return [self.vocabulary.encode(self._answer(x))[:max_decode_steps] for x in inputs]

  def score(self, pairs):
    self.calls.append(('score', len(pairs)))
    if {len(x) for x, _ in pairs} == {1}:  # No prompt but its end token.
      return np.array([-0.5 * len(y) for _, y in pairs])
    texts = [self.vocabulary.decode([int(i) for i in y]) for _, y in pairs]
    return np.array([-1.0 if self._answer(x) == t else -5.0 for (x, _), t in zip(pairs, texts)])


GENERATE = ['films_type_0', 'films_type_1']
RANK = ['films_type_0_scoring_eval', 'films_type_1_scoring_eval']


def _evaluate(tmp_path, variants, names, **kwargs):
  return score.evaluate(variants, names, LENGTHS, records_dir=tmp_path, **kwargs)


def _seqio_metrics(tmp_path, model, task):
  return json.loads((tmp_path / model / f'{task}.done.json').read_text())['metrics']


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """(folder, rule, records) of all four tasks, with films 1 and 4 answered wrongly."""
  folder, rule = tmp_path_factory.mktemp('records'), Rule(blind=(1, 4))
  return folder, rule, _evaluate(folder, {'m': rule}, GENERATE + RANK)


def test_records_agree_with_the_metrics_that_seqio_computes(whole):
  folder, _, found = whole
  assert len(found) == 4 * N['test']
  for task in GENERATE + RANK:
    scores = [r['score'] for r in found if r['seqio_task'] == task]
    by_seqio = _seqio_metrics(folder, 'm', task)['accuracy']
    assert np.mean(scores) == pytest.approx(by_seqio) == pytest.approx(100 * 7 / 9)
  on_disk = [r for t in GENERATE + RANK for r in records_lib.read_task(folder / f'm/{t}.jsonl')]
  assert found == on_disk


def test_a_record_says_what_was_asked_and_answered(whole):
  generated, ranked = (
      [r for r in whole[2] if r['seqio_task'] == t][1] for t in (GENERATE[1], RANK[1])
  )
  shared = {
      'model': 'm', 'task': 'films', 'cluster': 'sentiment', 'template_id': 1, 'example_id': 1,
      'inputs': 'test film 1\nOPTIONS:\n- bad\n- good\n- neither', 'targets': 'It is good.',
      'prediction': 'It is bad.', 'score': 0.0, 'metric': 'accuracy',
  }  # fmt: skip
  assert shared.items() <= generated.items() and shared.items() <= ranked.items()
  assert (generated['mode'], ranked['mode']) == ('generate', 'rank')
  assert ranked['options'] == ['It is bad.', 'It is good.', 'It is neither.']
  assert ranked['option_scores'] == [-1.0, -5.0, -5.0] and generated['option_scores'] is None
  assert ranked['option_tokens'] == [len(o) + 1 for o in ranked['options']]
  assert ranked['unconditional_scores'] == [-0.5 * n for n in ranked['option_tokens']]


def test_predictions_of_many_tasks_are_made_together(whole):
  rows_of_options = sum(2 if i % 2 == 0 else 3 for i in range(N['test']))
  # Without a prompt each of the six options is asked once.
  assert sorted(whole[1].calls) == [
      ('generate', 2 * N['test']), ('score', 6), ('score', 2 * rows_of_options)]


def test_a_cap_counts_whole_examples_of_rank_tasks(tmp_path):
  registered = set(seqio.TaskRegistry.names())
  found = _evaluate(tmp_path, {'m': Rule()}, RANK[:1], num_examples=4)
  assert [r['example_id'] for r in found] == [0, 1, 2, 3]
  assert [len(r['options']) for r in found] == [2, 3, 2, 3]
  assert set(seqio.TaskRegistry.names()) == registered


def test_examples_that_were_cut_are_counted(tmp_path):
  # Bytes, and the end of the text.
  lengths = [len(r['inputs']) + 1 for r in score.evaluate(
      {'rule': Rule()}, ['films_type_0'], LENGTHS, records_dir=tmp_path / 'all')]
  for limit in (min(lengths), max(lengths)):
    folder = tmp_path / str(limit)
    score.evaluate({'rule': Rule()}, ['films_type_0', 'films_type_0_scoring_eval'],
                   {'inputs': limit, 'targets': 24}, records_dir=folder)
    for task in ('films_type_0', 'films_type_0_scoring_eval'):
      told = records_lib.read_json(folder / 'rule' / f'{task}.done.json')
      assert told['cut'] == {'inputs': sum(n > limit for n in lengths), 'targets': 0}, task


def test_only_what_is_missing_or_changed_is_evaluated_again(tmp_path):
  first = _evaluate(tmp_path, {'m': Rule()}, GENERATE)
  again, calls = Rule(), []
  assert _evaluate(tmp_path, {'m': again}, GENERATE, progress=lambda *c: calls.append(c[:2])) == first
  assert again.calls == [] and calls == [(2, 2)]

  cut = tmp_path / 'm' / 'films_type_1.jsonl'
  cut.write_bytes(cut.read_bytes()[:-30])
  assert _evaluate(tmp_path, {'m': again}, GENERATE) == first
  assert again.calls == [('generate', N['test'])]

  retrained = Rule(fingerprint='after more steps')
  _evaluate(tmp_path, {'m': retrained}, GENERATE)
  assert retrained.calls == [('generate', 2 * N['test'])]


def test_a_few_shot_variant_pairs_with_the_plain_one(tmp_path):
  variants = [
      score.Variant('plain', Rule(blind=(2,))),
      score.Variant('few-shot', Rule(), '_two_shot', sequence_length={'inputs': 600, 'targets': 24}),
  ]
  found = _evaluate(tmp_path, variants, RANK[:1])
  key = lambda r: (r['task'], r['mode'], r['template_id'], r['example_id'])
  plain, few = ([r for r in found if r['model'] == m] for m in ('plain', 'few-shot'))
  assert sorted(map(key, plain)) == sorted(map(key, few))
  assert few[0]['seqio_task'] == 'films_type_0_scoring_eval_two_shot'
  assert all(f['inputs'].endswith(p['inputs']) and f['inputs'] != p['inputs']
             for p, f in zip(plain, few))  # fmt: skip


def test_a_corpus_metric_can_be_computed_again_from_the_records(tmp_path):
  found = _evaluate(tmp_path, {'m': Rule(blind=(1, 4, 6))}, ['labels_type_0'])
  assert all(r['score'] is None for r in found)
  assert found[1]['postprocessed'] == [1, 0] and found[1]['prediction'] == 'bad'
  table = statistics.group(found)['labels', 'generate']
  by_seqio = _seqio_metrics(tmp_path, 'm', 'labels_type_0')['f1']
  assert statistics.template_scores(table, 'm') == {0: pytest.approx(by_seqio)}


def test_what_cannot_be_evaluated_is_named(tmp_path):
  with pytest.raises(UserError, match="no split 'dev'"):
    _evaluate(tmp_path, {'m': Rule()}, GENERATE, split='dev')
  with pytest.raises(UserError, match='films_type_0'):
    _evaluate(tmp_path, {'m': Rule()}, ['filns_type_0'])
  with pytest.raises(UserError, match='folder name'):
    _evaluate(tmp_path, {'../m': Rule()}, GENERATE)
