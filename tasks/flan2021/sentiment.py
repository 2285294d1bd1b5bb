"""Cluster `sentiment`: does a text speak well or badly of something?"""

from __future__ import annotations

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick

SENTIMENTS = ['negative', 'positive']


def sst2_fields(example):
  return {
      'sentence': one_line(example['sentence']),
      'options': SENTIMENTS,
      'answer': pick(SENTIMENTS, example['label']),
  }


# The sentences are whole reviews and pieces of reviews, in lower case.
SST2_TEMPLATES = [
    Template(
        '{sentence}\n\nHow does the person who wrote this about a film feel about it?\n{options_}',
        '{answer}',
    ),
    Template(
        'The following words were found in a review of a film: {sentence}\n\n'
        'What sort of opinion do they express?\n\n{options_}',
        '{answer}',
    ),
    Template('Excerpt from a review: {sentence}\n{options_}\nSentiment:', '{answer}'),
    Template(
        '{options_}\n\nOne of the words above describes what a critic thinks of a film. '
        'Find out which from the critic\'s own words:\n\n{sentence}',
        '{answer}',
    ),
    Template(
        'A film studio goes through its press cuttings. Whatever might sell a ticket is filed '
        'under "positive", whatever might keep people at home under "negative". '
        'Where does this cutting go?\n\n{sentence}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Praise is positive, fault-finding is negative. Which is this?\n\n"{sentence}"\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Critics were asked for a few words on a new release. One of them wrote:\n\n'
        '{sentence}\n\nThe tone of this is\n{options_}',
        '{answer}',
    ),
    Template(
        'thinking of watching this one tonight. somebody online says "{sentence}"\n'
        'is that good or bad?\n{options_}',
        '{answer}',
    ),
    Template(
        'Imagine that you have just left the cinema. Jot down a few words about the film, '
        'and let your tone be {answer}.',
        '{sentence}',
    ),
    Template('Tone: {answer}\nWhat the critic had to say about the film:', '{sentence}'),
]

register(
    TaskSpec(
        name='sst2',
        cluster='sentiment',
        source=held_back('glue/sst2:2.0.0', 200),
        fields=sst2_fields,
        templates=SST2_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        citation='Socher et al. 2013, the Stanford Sentiment Treebank; Wang et al. 2019, GLUE',
        licence='not stated',
    )
)
