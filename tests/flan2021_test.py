"""The suite flan2021: its facts, its templates, and how they read on real data."""

import functools
import re

import numpy as np
import pytest
import seqio
import tensorflow as tf

from flanjax.data import clusters, lint, metrics, preprocessors, specs
from flanjax.data import vocabularies
from flanjax.tasks.flan2021 import closed_book_qa, coreference

# task: cluster, TFDS name, examples in train, validation and test, inverted templates.
FACTS = {
    'arc_easy': ('closed_book_qa', 'ai2_arc/ARC-Easy:1.0.0', (2051, 200, 2376), 2),
    'arc_challenge': ('closed_book_qa', 'ai2_arc/ARC-Challenge:1.0.0', (919, 200, 1172), 2),
    'copa': ('commonsense', 'super_glue/copa:1.0.2', (350, 50, 100), 2),
    'piqa': ('commonsense', 'piqa:1.0.0', (16013, 100, 1838), 2),
    'definite_pronoun_resolution': (
        'coreference', 'definite_pronoun_resolution:1.1.0', (1122, 200, 564), 0,
    ),
    'winogrande': ('coreference', 'winogrande:1.2.0', (30000, 200, 1267), 0),
    'wsc': ('coreference', 'super_glue/wsc:1.0.2', (504, 50, 104), 0),
    'trec': ('misc', 'trec:1.0.0', (5252, 200, 500), 1),
    'cola': ('misc', 'glue/cola:2.0.0', (8351, 200, 1043), 2),
    'wic': ('misc', 'super_glue/wic:1.0.2', (5228, 200, 638), 1),
    'rte': ('nli', 'super_glue/rte:1.0.2', (2290, 200, 277), 1),
    'cb': ('nli', 'super_glue/cb:1.0.2', (200, 50, 56), 1),
    'wnli': ('nli', 'glue/wnli:2.0.0', (605, 30, 71), 0),
    'glue_mrpc': ('paraphrase', 'glue/mrpc:2.0.0', (3468, 200, 408), 1),
    'stsb': ('paraphrase', 'glue/stsb:2.0.0', (5649, 100, 1500), 2),
    'multirc': ('reading_comprehension', 'super_glue/multirc:1.0.2', (27043, 200, 4848), 2),
    'sst2': ('sentiment', 'glue/sst2:2.0.0', (30000, 200, 872), 2),
    'common_gen': ('struct_to_text', 'gem/common_gen:1.1.0', (30000, 200, 993), 2),
    'aeslc': ('summarization', 'aeslc:1.0.0', (14436, 200, 1906), 2),
    'samsum': ('summarization', 'samsum:1.0.0', (14732, 200, 819), 2),
}
WITHOUT_OPTIONS = {'common_gen', 'aeslc', 'samsum'}
# Enough of the test split to hold every label, and several questions of MultiRC.
NUM_ROWS = 168
NUM_EXAMPLES = 30
READ = 100

every_task = pytest.mark.parametrize('name', FACTS)


@pytest.fixture(autouse=True)
def byte_vocabulary():
  vocabularies.set_default('bytes')
  yield
  vocabularies.set_default(None)


@functools.cache
def elements(name):
  """Test examples under template 0; a row for each option where there are options."""
  task = f'{name}_type_0' if name in WITHOUT_OPTIONS else f'{name}_type_0_scoring_eval'
  dataset = seqio.TaskRegistry.get(task).get_dataset(split='test', shuffle=False)
  return list(dataset.take(NUM_ROWS).as_numpy_iterator())


@functools.cache
def fields_of(name, split='train'):
  """The fields of the first READ examples, as plain texts."""
  source = seqio.TaskRegistry.get(f'{name}_type_0').source
  dataset = source.get_dataset(split, shuffle=False).take(READ)
  return [
      {
          k: v.decode() if isinstance(v, bytes) else [t.decode() for t in v]
          for k, v in x['fields'].items()
      }
      for x in preprocessors.to_fields(dataset, specs.get(name)).as_numpy_iterator()
  ]


def with_source(name, split='train'):
  """Pairs of an example of the source and its fields; for tasks without a filter."""
  raw = specs.get(name).source.get_dataset(split, shuffle=False).take(READ)
  return zip(raw.as_numpy_iterator(), fields_of(name, split), strict=True)


@every_task
def test_the_tfds_version_is_pinned(name):
  assert specs.get(name).source.tfds_dataset.name == FACTS[name][1]


@every_task
def test_there_are_ten_templates_and_at_most_three_are_inverted(name):
  spec = specs.get(name)
  inverted = [t for t in spec.templates if t.inverted]
  assert len(spec.templates) == 10
  assert len(inverted) == FACTS[name][3] <= 3


def test_wnli_and_wsc_never_stand_on_both_sides():
  by_nli = clusters.holdout('flan2021', 'nli')
  assert {s.name for s in by_nli.excluded} == {'wsc', 'glue_mrpc', 'stsb', 'glue_qqp', 'paws_wiki'}
  assert {'winogrande', 'definite_pronoun_resolution'} <= {s.name for s in by_nli.train}
  by_coreference = clusters.holdout('flan2021', 'coreference')
  assert {s.name for s in by_coreference.excluded} == {'wnli'}
  assert 'winograd_schema' in specs.get('wnli').all_lineage & specs.get('wsc').all_lineage


@pytest.mark.real_data
@every_task
def test_the_splits_have_the_sizes_of_flan(name):
  task = seqio.TaskRegistry.get(f'{name}_type_0')
  sizes = tuple(task.num_input_examples(s) for s in ('train', 'validation', 'test'))
  assert sizes == FACTS[name][2]


@pytest.mark.real_data
@every_task
def test_every_template_renders_on_real_examples(name):
  problems = lint.check_task(name, num_examples=NUM_EXAMPLES, split='test')
  told = [p for p in problems if p.level != 'note']
  assert not [p for p in told if p.message != 'two options are the same']


@pytest.mark.real_data
@every_task
def test_rendered_text_is_tidy(name):
  spec = specs.get(name)
  for fields in fields_of(name):
    if 'options' in fields:
      assert fields['answer'] in fields['options']
    for template in spec.templates:
      inputs, targets = template.render(fields)
      assert inputs == inputs.strip() and targets == targets.strip() and targets
      assert '\r' not in inputs + targets
      assert not re.search(r'[ \t]\n', inputs + targets)


@pytest.mark.real_data
@every_task
def test_perfect_predictions_score_perfect(name):
  task = seqio.TaskRegistry.get(f'{name}_type_0')
  examples = [x for x in elements(name) if x.get('is_correct', True)]
  if name == 'aeslc':  # ROUGE-2 of a single word is 0 by definition, even against itself.
    examples = [x for x in examples if b' ' in x['targets_pretokenized']]
  targets, predictions = (
      [
          task.postprocess_fn(x['targets_pretokenized'].decode(), example=x, is_target=is_target)
          for x in examples
      ]
      for is_target in (True, False)
  )
  for metric_fn in task.metric_fns:
    scores = metric_fn(targets, predictions)
    assert scores == pytest.approx(dict.fromkeys(scores, 100.0)), metric_fn


@pytest.mark.real_data
@pytest.mark.parametrize('name', [n for n in FACTS if n not in WITHOUT_OPTIONS])
def test_ranking_the_right_option_first_scores_perfect(name):
  task = seqio.TaskRegistry.get(f'{name}_type_0_scoring_eval')
  rows = elements(name)
  texts = [x['targets_pretokenized'].decode() for x in rows]
  targets = [task.postprocess_fn(t, example=x, is_target=True) for t, x in zip(texts, rows)]
  right = np.array([float(x['is_correct']) for x in rows])
  assert metrics.rank_accuracy(targets, right) == {'accuracy': 100.0}
  assert metrics.rank_accuracy(targets, -right) == {'accuracy': 0.0}


@pytest.mark.real_data
def test_labels_keep_the_order_of_the_options():
  for name in ('rte', 'cb', 'wnli', 'glue_mrpc', 'trec', 'cola', 'wic', 'sst2', 'wsc'):
    column = 'label-coarse' if name == 'trec' else 'label'
    for example, fields in with_source(name):
      assert fields['options'].index(fields['answer']) == example[column]


@pytest.mark.real_data
def test_stsb_rounds_the_similarity_to_a_whole_number():
  for example, fields in with_source('stsb'):
    assert fields['answer'] == f'{example["label"]:.0f}'


@pytest.mark.real_data
def test_wsc_marks_one_word_and_changes_no_other():
  for example, fields in with_source('wsc'):
    marked = re.findall(r'\*([^*]+)\*', fields['text'])
    assert [m.lower() for m in marked] == [fields['pronoun'].lower()]
    assert fields['text'].replace('*', '') == ' '.join(example['text'].decode().split())


def test_wsc_marks_the_pronoun_where_its_index_is_one_too_low():
  example = {
      'text': 'They kept the pebble. Some day they might want to use it',
      'span1_text': 'the pebble',
      'span2_text': 'it',
      'span2_index': 10,
      'label': 1,
  }
  fields = coreference.wsc_fields({k: tf.constant(v) for k, v in example.items()})
  assert fields['text'] == b'They kept the pebble. Some day they might want to use *it*'


@pytest.mark.real_data
def test_winogrande_options_are_fillings_with_the_rest_of_the_sentence():
  for example, fields in with_source('winogrande'):
    filling = example['option2' if example['label'] else 'option1'].decode()
    whole = example['sentence'].decode().replace('_', filling)
    assert f'{fields["context"]} {fields["answer"]}'.split() == whole.split()


def test_arc_keeps_only_questions_with_four_choices():
  kept = [
      bool(closed_book_qa.has_four_choices({'choices': {'text': ['leaf'] * count}}))
      for count in (3, 4, 5)
  ]
  assert kept == [False, True, False]


@pytest.mark.real_data
def test_common_gen_is_judged_against_all_references():
  assert all(f['answers'] == [f['answer']] for f in fields_of('common_gen'))
  for example, fields in with_source('common_gen', 'test'):
    references = {' '.join(r.decode().split()) for r in example['references']}
    assert set(fields['answers']) == references


@pytest.mark.real_data
def test_samsum_puts_attachments_into_words():
  dialogues = [f['dialogue'] for f in fields_of('samsum')]
  assert any('(photo)' in d for d in dialogues)
  assert not any(re.search(r'<[a-z]\w*>', d) for d in dialogues)
  assert all(len(d.split('\n')) > 1 for d in dialogues)


@pytest.mark.real_data
def test_an_email_of_aeslc_is_on_one_line():
  assert all('\n' not in f['body'] and f['body'] for f in fields_of('aeslc'))
