"""Cluster `reading_comprehension`: questions about a given text."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick

MULTIRC_OPTIONS = ['no', 'yes']


def has_response(example):
  """A few training examples have an empty answer to judge."""
  return one_line(example['answer']) != ''


def multirc_fields(example):
  """Fields of MultiRC: is `response` a right answer to `question`? A question may have several.

  `group` names the question, for the share of questions with all answers judged rightly.
  """
  ids = [tf.strings.as_string(example['idx'][key]) for key in ('paragraph', 'question')]
  return {
      'paragraph': one_line(example['paragraph']),
      'question': one_line(example['question']),
      'response': one_line(example['answer']),
      'kind': tf.where(example['label'] == 1, 'correct', 'wrong'),
      'group': tf.strings.join(ids, '-'),
      'options': MULTIRC_OPTIONS,
      'answer': pick(MULTIRC_OPTIONS, example['label']),
  }


MULTIRC_TEMPLATES = [
    Template(
        'Passage: {paragraph}\n\nQuestion: {question}\nProposed answer: {response}\n\n'
        'Is the proposed answer right?\n{options_}',
        '{answer}',
    ),
    Template(
        'You are marking a reading test. This is what the pupils had to read:\n\n{paragraph}\n\n'
        'The question was: {question}\nOne pupil wrote: {response}\n\n'
        'Does the pupil get the mark?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Question: {question}\nCandidate: {response}\n{options_}\n\nLook up the answer in the '
        'text below, and say whether the candidate will do.\n\n{paragraph}',
        '{answer}',
    ),
    Template(
        '{paragraph}\n\nI was asked the following about the text above.\n{question}\n'
        'My reply was:\n{response}\n\nWas I right?\n{options_}',
        '{answer}',
    ),
    Template(
        'A question about a text may have several good answers. Is the one that you are shown '
        'here among them?\n\n{paragraph}\n\nQ: {question}\nA: {response}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nReply with one of the two. According to the article that follows, would '
        'it be true to answer "{response}" to the question "{question}"?\n\n'
        'Article: {paragraph}',
        '{answer}',
    ),
    Template(
        'In this multiple-choice question, any number of boxes may be ticked.\n\n{paragraph}\n\n'
        '{question}\n[ ] {response}\n\nShould there be a tick in this box?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'With the paragraph as your only source, check what the guest says.\n\n'
        'Paragraph: {paragraph}\n\nHost: {question}\nGuest: {response}\n{options_}\n'
        'Is the guest correct?',
        '{answer}',
    ),
    Template(
        'Read the text and give one {kind} answer to the question at the end.\n\n{paragraph}\n\n'
        '{question}',
        '{response}',
    ),
    Template(
        'Text: {paragraph}\n\nSomeone was asked a question about this text. The answer was '
        '"{response}", and it was {kind}. What had the question been?',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='multirc',
        cluster='reading_comprehension',
        source=held_back('super_glue/multirc:1.0.2', 200),
        fields=multirc_fields,
        filter_fn=has_response,
        templates=MULTIRC_TEMPLATES,
        metric_fns=[metrics.multirc_f1],
        postprocess_fn=postprocessors.grouped_label_ids(MULTIRC_OPTIONS),
        suite=SUITE,
        citation='Khashabi et al. 2018, Looking Beyond the Surface; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)
