"""Cluster `closed_book_qa`: questions to be answered from memory."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, one_line, pick, tfds_source


def has_four_choices(example):
  return tf.size(example['choices']['text']) == 4


def arc_fields(example):
  options = one_line(example['choices']['text'])
  is_answer = tf.equal(example['choices']['label'], example['answerKey'])
  return {
      'question': one_line(example['question']),
      'options': options,
      'answer': pick(options, tf.argmax(tf.cast(is_answer, tf.int32))),
  }


# Some of the questions are sentences to be completed.
ARC_TEMPLATES = [
    Template('{question}\n\nOne of the following is right. Which?\n\n{options_}', '{answer}'),
    Template(
        'This is taken from a science test. Find the best answer.\n\n{question}\n{options_}',
        '{answer}',
    ),
    Template('Science quiz\n\nQ: {question}\n{options_}\nA:', '{answer}'),
    Template(
        '{options_}\n\nThe choices above belong to the exercise below. '
        'Which is the right one?\n\n{question}',
        '{answer}',
    ),
    Template(
        'A pupil is stuck on this exercise:\n\n{question}\n\n'
        'Say which of these the pupil ought to mark.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'No books, no internet: use what you know about the world to deal with this one.\n\n'
        '{question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Rule out everything that is wrong and write down what is left.\n\n{options_}\n\n'
        'Question: {question}',
        '{answer}',
    ),
    Template(
        'Our teacher put this to us: {question}\nWhat should we have answered?\n{options_}',
        '{answer}',
    ),
    Template(
        'You are setting a science test. Write a question for it to which the correct answer '
        'is this:\n\n{answer}',
        '{question}',
    ),
    Template(
        'Correct answer: {answer}\n\nSo says the key to an exam in natural science. '
        'What may the exam have asked?',
        '{question}',
    ),
]

for name, config in (('arc_easy', 'ARC-Easy'), ('arc_challenge', 'ARC-Challenge')):
  register(
      TaskSpec(
          name=name,
          cluster='closed_book_qa',
          source=tfds_source(f'ai2_arc/{config}:1.0.0', 'train[:-200]', 'train[-200:]', 'test'),
          fields=arc_fields,
          filter_fn=has_four_choices,
          templates=ARC_TEMPLATES,
          metric_fns=[metrics.accuracy],
          suite=SUITE,
          citation='Clark et al. 2018, the AI2 Reasoning Challenge',
          licence='CC BY-SA 4.0',
      )
  )
