"""What goes wrong in the FLAN code as released (2021, and its commit of June 2023), and does not here."""

import re

import flan2021_examples
import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds

from flanjax.data import metrics, mixtures, specs, vocabularies
from flanjax.data.specs import SHOTS

NAMES = list(flan2021_examples.EXAMPLES)
CLASSIFICATION = [name for name in NAMES if specs.get(name).is_classification]
every_task = pytest.mark.parametrize('name', NAMES)
every_classification = pytest.mark.parametrize('name', CLASSIFICATION)

# TFDS's names of the labels, and what stands for them, in the order of the labels.
LABELS = {
    'rte': {'entailment': 'yes', 'not_entailment': 'no'},
    'cb': {'entailment': 'Yes', 'contradiction': 'No', 'neutral': "It's impossible to say"},
    'wnli': {'not_entailment': 'no', 'entailment': 'yes'},
    'anli_r1': {'e': 'Yes', 'n': "It's impossible to say", 'c': 'No'},
    'anli_r2': {'e': 'Yes', 'n': "It's impossible to say", 'c': 'No'},
    'anli_r3': {'e': 'Yes', 'n': "It's impossible to say", 'c': 'No'},
    'mnli_matched': {'entailment': 'yes', 'neutral': 'it is not possible to tell', 'contradiction': 'no'},
    'mnli_mismatched': {'entailment': 'yes', 'neutral': 'it is not possible to tell', 'contradiction': 'no'},
    'snli': {'entailment': 'yes', 'neutral': 'it is not possible to tell', 'contradiction': 'no'},
    'qnli': {'entailment': 'yes', 'not_entailment': 'no'},
    'glue_mrpc': {'not_equivalent': 'no', 'equivalent': 'yes'},
    'paws_wiki': {'different_meaning': 'no', 'paraphrase': 'yes'},
    'glue_qqp': {'not_duplicate': 'no', 'duplicate': 'yes'},
    'cola': {'unacceptable': 'unacceptable', 'acceptable': 'acceptable'},
    'multirc': {'False': 'no', 'True': 'yes'},
    'wic': {'False': 'different meanings', 'True': 'the same meaning'},
    'wsc': {'False': 'no', 'True': 'yes'},
    'sst2': {'negative': 'negative', 'positive': 'positive'},
    'imdb_reviews': {'neg': 'negative', 'pos': 'positive'},
    'yelp_polarity_reviews': {'1': 'negative', '2': 'positive'},
    'ag_news_subset': {'World': 'World', 'Sports': 'Sports', 'Business': 'Business', 'Sci/Tech': 'Science/Tech'},
    'trec': {'DESC': 'description', 'ENTY': 'entity', 'ABBR': 'abbreviation', 'HUM': 'human', 'NUM': 'numeric',
             'LOC': 'location'},
}
# Templates for evaluation that ask for an option and do not list them: they name the options as they ask.
IN_WORDS = {('ag_news_subset', 6)}
SMALL = ['cb', 'wnli', 'copa']


@pytest.fixture(autouse=True)
def byte_vocabulary():
  vocabularies.set_default('bytes')
  yield
  vocabularies.set_default(None)


def judged(task_name, changes, predict=lambda targets: targets):
  """The metrics of a SeqIO task on changed examples, where `predict` makes predictions of targets."""
  task = seqio.TaskRegistry.get(task_name)
  rows = flan2021_examples.rows(task_name, changes)
  texts = [row['targets'].decode() for row in rows]
  targets = [task.postprocess_fn(t, example=x, is_target=True) for t, x in zip(texts, rows)]
  predictions = [task.postprocess_fn(t, example=x) for t, x in zip(predict(texts), rows)]
  return {k: v for fn in task.metric_fns for k, v in fn(targets, predictions).items()}


# Versions that are missing, or that TFDS has no more.


@every_task
def test_the_source_names_a_version_that_tfds_has(name, tmp_path):
  pinned = specs.get(name).source.tfds_dataset.name
  builder = tfds.builder(pinned, data_dir=tmp_path)
  assert pinned.split(':')[1] == str(builder.version)
  assert not pinned.startswith('huggingface')


# Of an article of CNN, the dateline was kept and the article dropped.


@pytest.mark.parametrize(('article', 'kept'), [
    ('(CNN) -- A ferry was late (again) -- nobody knows why.', 'A ferry was late (again) -- nobody knows why.'),
    ('(CNN)A ferry was late.', 'A ferry was late.'),
    ('LONDON, England (Reuters) -- A ferry was late.', 'A ferry was late.'),
    ('A ferry was late. The captain (and owner) -- he is 71 -- blamed the fog.',
     'A ferry was late. The captain (and owner) -- he is 71 -- blamed the fog.'),
    ('By . Ida Holm . PUBLISHED: . 10:00 EST, 1 May 2013 .', 'By . Ida Holm . PUBLISHED: . 10:00 EST, 1 May 2013 .'),
])
def test_a_dateline_is_cut_and_the_article_kept(article, kept):
  fields, = flan2021_examples.all_fields('cnn_dailymail', [{'article': article}])
  assert fields['text'] == kept


# Mixtures of few-shot tasks could not tell how many examples they have, and crashed.


@pytest.mark.real_data
@pytest.mark.parametrize('shots', list(SHOTS))
def test_few_shot_training_mixtures_know_their_size_and_build(shots):
  names = [f'{name}_10templates{shots}' for name in SMALL]
  tasks = [seqio.TaskRegistry.get(name) for name in names]
  assert [mixtures.capped_rate(task) for task in tasks] == [200, 605, 350]
  mixture = seqio.Mixture(f'defects{shots}', names, default_rate=mixtures.capped_rate)
  dataset = mixture.get_dataset({'inputs': 512, 'targets': 32}, 'train', shuffle=False)
  assert len(list(dataset.take(3).as_numpy_iterator())) == 3


# Perfect predictions for cb, coqa and quac scored 0.


def test_perfect_predictions_for_cb_score_perfect_and_others_do_not():
  changes = [{'label': i} for i in range(3)]
  assert judged('cb_type_0', changes) == {'accuracy': 100.0, 'mean_3class_f1': pytest.approx(100.0)}
  wrong = judged('cb_type_0', changes, lambda texts: texts[1:] + texts[:1])
  assert wrong == {'accuracy': 0.0, 'mean_3class_f1': 0.0}


@pytest.mark.parametrize('name', ['coqa', 'quac'])
def test_perfect_predictions_for_conversations_score_perfect_and_others_do_not(name):
  assert judged(f'{name}_type_0', [{}]) == {'em': 100.0, 'f1': pytest.approx(100.0)}
  assert judged(f'{name}_type_0', [{}], lambda texts: ['nothing'] * len(texts)) == {'em': 0.0, 'f1': 0.0}


def test_any_of_the_references_of_quac_will_do():
  second = 'She built two lighthouses there'
  assert judged('quac_type_0', [{}], lambda texts: [second])['em'] == 100.0


# Ranking the options of stsb compared texts with a float.


def test_the_options_of_stsb_can_be_ranked():
  task = seqio.TaskRegistry.get('stsb_type_0_scoring_eval')
  rows = flan2021_examples.rows('stsb_type_0_scoring_eval', [{'label': 3.6}, {'label': 0.0}, {'label': 2.5}])
  targets = [task.postprocess_fn(row['targets'].decode(), example=row, is_target=True) for row in rows]
  assert [row['targets'] for row in rows if row['is_correct']] == [b'4', b'0', b'2']
  scores = np.array([float(row['is_correct']) for row in rows])
  assert [metrics.rank_accuracy(targets, s) for s in (scores, -scores)] == [{'accuracy': 100.0}, {'accuracy': 0.0}]


# multirc took the question's index for the answer's; labels of cb were in another order than its
# options; a filter for neutral tweets was never applied.


def test_answers_of_multirc_are_grouped_by_their_question():
  ids = [(1, 2, 3), (1, 2, 4), (1, 5, 3), (9, 2, 3)]
  changes = [{'idx': {'paragraph': p, 'question': q, 'answer': a}} for p, q, a in ids]
  groups = [fields['group'] for fields in flan2021_examples.all_fields('multirc', changes)]
  assert groups[0] == groups[1] and len(set(groups)) == 3


@pytest.mark.parametrize('name', LABELS)
def test_options_stand_for_the_labels_that_tfds_names(name):
  column = 'label-coarse' if name == 'trec' else 'label'
  assert flan2021_examples.features(name)[column].names == list(LABELS[name])
  found = flan2021_examples.all_fields(name, [{column: i} for i in range(len(LABELS[name]))])
  assert [fields['answer'] for fields in found] == list(LABELS[name].values())
  assert all(fields['options'] == list(LABELS[name].values()) for fields in found)


def test_neutral_tweets_are_left_out():
  found = flan2021_examples.all_fields('sentiment140', [{'polarity': p} for p in (0, 2, 4)])
  assert [fields['answer'] for fields in found] == ['negative', 'positive']


# A letter "n" clung to hypotheses, where a line was to end.


@pytest.mark.parametrize('name', ['rte', 'anli_r1', 'anli_r2', 'anli_r3', 'cb'])
def test_no_letter_clings_to_a_hypothesis(name):
  spec, fields = specs.get(name), flan2021_examples.fields(name)
  templates = [t for t in (*spec.templates, *spec.continuations) if 'hypothesis' in t.slots]
  assert len(templates) >= 9
  for template in templates:
    inputs, _ = template.render(fields)
    assert re.search(rf'(?<!\w){re.escape(fields["hypothesis"])}(?!\w)', inputs)


# Templates of winogrande and paws_wiki asked for one of the options without naming them, and options
# were ranked under inverted templates.


@every_classification
def test_what_is_evaluated_shows_the_options(name):
  spec = specs.get(name)
  for i in spec.zero_shot_templates:
    template, fields = spec.templates[i], flan2021_examples.fields(name)
    assert template.has_options != ((name, i) in IN_WORDS)
    assert template.has_options or all(option in template.inputs for option in fields['options'])


@every_classification
def test_options_are_never_ranked_under_an_inverted_template(name):
  spec = specs.get(name)
  ranked = [task for task in specs.task_names(spec).values() if task.scoring]
  assert ranked
  for task in ranked:
    assert not any(template.inverted for template in task.templates)
  assert set(spec.scoring_templates).isdisjoint(i for i, t in enumerate(spec.templates) if t.inverted)


def test_an_inverted_template_that_shows_options_is_not_ranked_either():
  spec = specs.get('cosmos_qa')
  assert spec.templates[9].inverted and spec.templates[9].has_options
  assert 'cosmos_qa_type_9_scoring_eval' not in specs.task_names(spec)
  assert 9 not in spec.scoring_templates
