"""The whole suite flan2021: what is in it, its templates, and how they read on mocked data."""

import dataclasses
import re

import flan2021_examples
import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds

import flanjax.tasks.flan2021  # noqa: F401
from flanjax.data import clusters, indexed_source, mixtures, preprocessors, specs, vocabularies

# The 12 clusters of Wei et al. 2022, figure 3, with the configurations that FLAN's code gives them,
# wsc273 (for evaluation alone), the three kinds of text formatting, and DialogSum.
LIBRARY = {
    'nli': 'rte cb wnli anli_r1 anli_r2 anli_r3 mnli_matched mnli_mismatched qnli snli',
    'commonsense': 'copa piqa hellaswag story_cloze',
    'sentiment': 'sst2 imdb_reviews sentiment140 yelp_polarity_reviews',
    'paraphrase': 'glue_mrpc stsb paws_wiki glue_qqp',
    'closed_book_qa': 'arc_easy arc_challenge natural_questions trivia_qa',
    'struct_to_text': 'common_gen dart e2e_nlg web_nlg_en',
    'reading_comprehension': 'multirc bool_q squad_v1 squad_v2 drop openbookqa',
    'reading_comprehension_commonsense': 'cosmos_qa record',
    'coreference': 'definite_pronoun_resolution winogrande wsc wsc273',
    'translation': 'para_crawl_enes wmt14_enfr wmt16_translate_deen wmt16_translate_tren wmt16_translate_csen '
                   'wmt16_translate_fien wmt16_translate_roen wmt16_translate_ruen',
    'summarization': 'aeslc samsum ag_news_subset cnn_dailymail gigaword multi_news newsroom '
                     'opinion_abstracts_rotten_tomatoes opinion_abstracts_idebate xsum wiki_lingua_english_en dialogsum',
    'misc': 'trec cola wic coqa quac math_dataset true_case fix_punct word_segment',
}
NAMES = [name for members in LIBRARY.values() for name in members.split()]
CLASSIFICATION = set(
    'rte cb wnli anli_r1 anli_r2 anli_r3 mnli_matched mnli_mismatched qnli snli copa piqa hellaswag '
    'story_cloze sst2 imdb_reviews sentiment140 yelp_polarity_reviews glue_mrpc stsb paws_wiki glue_qqp '
    'arc_easy arc_challenge multirc bool_q openbookqa cosmos_qa record definite_pronoun_resolution '
    'winogrande wsc wsc273 ag_news_subset trec cola wic'.split())
every_task = pytest.mark.parametrize('name', NAMES)


@pytest.fixture(autouse=True)
def byte_vocabulary():
  vocabularies.set_default('bytes')
  yield
  vocabularies.set_default(None)


def test_every_task_is_in_the_cluster_of_the_paper():
  found = {c: {s.name for s in members} for c, members in clusters.clusters('flan2021').items()}
  assert found == {c: set(members.split()) for c, members in LIBRARY.items()}
  assert {s.name for s in specs.all_specs('flan2021') if s.is_classification} == CLASSIFICATION


def test_holding_out_nli_leaves_what_the_paper_leaves():
  assert len(mixtures.tasks_of('flan2021_all_train')) == len(NAMES) - 1
  trained = {specs.parse_task_name(t).spec.name for t in mixtures.tasks_of('flan2021_holdout_nli_train')}
  held_back = {*LIBRARY['nli'].split(), *LIBRARY['paraphrase'].split(), 'wsc', 'wsc273'}
  assert trained == set(NAMES) - held_back


@every_task
def test_there_are_ten_templates_and_at_most_three_are_inverted(name):
  spec = specs.get(name)
  assert len(spec.templates) == 10
  assert sum(t.inverted for t in spec.templates) <= 3


@every_task
def test_a_template_asks_for_what_it_does_not_give_away(name):
  without = 0
  for template in specs.get(name).templates:
    asked, given = (set(re.findall(r'\{(\w+)\}', side)) for side in (template.targets, template.inputs))
    assert asked and not asked & given
    assert template.inverted or template.targets == '{answer}'
    without += name in CLASSIFICATION and not template.inverted and 'options_' not in given
    assert name in CLASSIFICATION or 'options_' not in given
  assert without <= 2


# Answers that a column gives as an index into others; random numbers will not do there.
INDEXED = {
    'hellaswag': 'can put in a spoon of soda to loosen the stains. Leave it for an hour.',
    'story_cloze': 'She called Bob and waited on the steps.',
    'wsc273': 'the box was too small.',
    'winogrande': 'Bea had cooked it all day.',
    'wsc': 'yes',
}


@every_task
def test_every_template_renders_on_an_example_by_hand(name):
  fields = flan2021_examples.fields(name)
  assert fields['answer'] == INDEXED.get(name, fields['answer'])
  assert name not in CLASSIFICATION or fields['answer'] in fields['options']
  for template in specs.get(name).templates:
    inputs, targets = template.render(fields)
    assert inputs == inputs.strip() and targets == targets.strip() and targets
    assert template.inverted or targets == fields['answer']
    assert not re.search(r'[?!.]"?[?.]', inputs.replace('...', '')), 'punctuation is doubled'


@pytest.mark.parametrize('name', [n for n in NAMES if n not in INDEXED])
def test_every_template_renders_on_data_of_the_right_features(name, monkeypatch):
  # Random data seldom passes a filter, and its answers are not among its options.
  monkeypatch.setattr(preprocessors, '_answer_checks', lambda *unused: [])
  spec = dataclasses.replace(specs.get(name), filter_fn=None)
  with tfds.testing.mock_data(num_examples=20, policy=tfds.testing.MockPolicy.USE_CODE):
    source = indexed_source.IndexedSource(spec.source, name)
    fields = preprocessors.to_fields(source.get_dataset('test', shuffle=False).take(3), spec)
    for i in range(len(spec.templates)):
      rows = list(preprocessors.render(fields, specs.parse_task_name(f'{name}_type_{i}')).as_numpy_iterator())
      assert len(rows) == 3
      assert all(row['template_id'] == i and row['inputs'] for row in rows)


@pytest.mark.parametrize('name', [n for n in NAMES if specs.get(n).filter_fn])
def test_filters_can_be_called(name):
  spec = specs.get(name)
  with tfds.testing.mock_data(num_examples=20, policy=tfds.testing.MockPolicy.USE_CODE):
    dataset = spec.source.get_dataset('test', shuffle=False)
    assert {bool(spec.filter_fn(x)) for x in dataset.take(5)} <= {True, False}


@every_task
def test_perfect_predictions_score_perfect_on_words(name):
  """With answers that are words or labels; metrics of the real data are in flan2021_test."""
  spec = specs.get(name)
  task = seqio.TaskRegistry.get(f'{name}_type_{spec.zero_shot_templates[0]}')
  if name == 'stsb':
    answers = ['0', '3', '5', '1']
  elif name == 'cb':
    answers = ['Yes', 'No', "It's impossible to say", 'Yes']
  elif name in ('glue_mrpc', 'glue_qqp', 'multirc'):
    answers = ['yes', 'no', 'yes', 'no']
  else:
    answers = ['the quick brown fox jumps', 'over the lazy dog again', 'one two three four', 'a b c d e']
  examples = [{'answers': np.array([a.encode()]), 'group': b'g'} for a in answers]
  targets, predictions = (
      [task.postprocess_fn(a, example=x, is_target=is_target) for a, x in zip(answers, examples)]
      for is_target in (True, False))
  for metric_fn in task.metric_fns:
    scores = metric_fn(targets, predictions)
    assert scores == pytest.approx(dict.fromkeys(scores, 100.0)), metric_fn
