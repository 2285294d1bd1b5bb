"""Cluster `closed_book_qa`: questions to be answered from memory."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, as_question, held_back, one_line, pick, tfds_source


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

for name, config, size in (
    ('arc_easy', 'ARC-Easy', 2_040), ('arc_challenge', 'ARC-Challenge', 910)
):  # fmt: skip
  register(
      TaskSpec(
          name=name,
          cluster='closed_book_qa',
          source=tfds_source(f'ai2_arc/{config}:1.0.0', 'train[:-200]', 'train[-200:]', 'test'),
          fields=arc_fields,
          filter_fn=has_four_choices,
          templates=ARC_TEMPLATES,
          continuations=[
              Template('Question: {question}\nAnswer:', '{answer}', ranks=True),
              Template('{question}', '{answer}', ranks=True),
          ],
          metric_fns=[metrics.accuracy],
          suite=SUITE,
          num_train_examples=size,
          citation='Clark et al. 2018, the AI2 Reasoning Challenge',
          licence='CC BY-SA 4.0',
      )
  )


def natural_questions_fields(example):
  answers = one_line(example['answer'])
  return {'question': as_question(example['question']), 'answer': answers[0], 'answers': answers}


# The questions are in lower case.
NATURAL_QUESTIONS_TEMPLATES = [
    Template('Question: {question}\nAnswer:', '{answer}'),
    Template('{question}\n\nReply in no more than a few words.', '{answer}'),
    Template('Answer from memory, as briefly as you can.\n\n{question}', '{answer}'),
    Template(
        'Somebody has typed this into a search engine: {question}\n\n'
        'Which name, number, date or phrase are they after?',
        '{answer}',
    ),
    Template("hey, quick one, don't google it: {question}", '{answer}'),
    Template(
        'You will be given a query, without any text in which to look it up. State the fact that '
        'satisfies it, and nothing else.\n\nQuery: {question}\nFact:',
        '{answer}',
    ),
    Template('User: {question}\nAssistant: In short,', '{answer}'),
    Template(
        'The telephone rings at the information desk of a library.\n\n'
        'Caller: {question}\nLibrarian:',
        '{answer}',
    ),
    Template('The answer is "{answer}". So what was the question?', '{question}'),
    Template(
        'Suppose you want a search engine to come up with this:\n\n{answer}\n\n'
        'What might you ask it?',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='natural_questions',
        cluster='closed_book_qa',
        source=held_back('natural_questions_open:1.0.0', 200),
        fields=natural_questions_fields,
        templates=NATURAL_QUESTIONS_TEMPLATES,
        continuations=[Template('Q: {question}\nA:', '{answer}')],
        metric_fns=[metrics.trivia_qa],
        suite=SUITE,
        num_train_examples=87_720,
        citation='Kwiatkowski et al. 2019, Natural Questions; Lee et al. 2019, Latent Retrieval '
        'for Weakly Supervised Open Domain Question Answering',
        licence='CC BY-SA 3.0',
    )
)


def trivia_qa_fields(example):
  """Fields of TriviaQA; its normalised answers are in lower case, without punctuation."""
  answer = one_line(example['answer']['normalized_value'])
  aliases = one_line(example['answer']['normalized_aliases'])
  return {
      'question': one_line(example['question']),
      'answer': answer,
      'answers': tf.concat([[answer], tf.boolean_mask(aliases, aliases != answer)], axis=0),
  }


TRIVIA_QA_TEMPLATES = [
    Template('General knowledge: {question}\nCorrect response:', '{answer}'),
    Template('Trivia time! Use lower case for what you think is right.\n\n{question}', '{answer}'),
    Template('{question}\n\nThis came up in a pub quiz. What do I put on the sheet?', '{answer}'),
    Template(
        'The quizmaster reads out: "{question}" Your hand is on the buzzer. What do you say?',
        '{answer}',
    ),
    Template(
        'Draw on your education to deal with the item below. Explanations are not wanted, only '
        'the person, place or thing.\n\n{question}',
        '{answer}',
    ),
    Template('I was asked this last night and could not think of it: {question}', '{answer}'),
    Template('Here is one side of a quiz card.\n\n{question}\n\nOther side:', '{answer}'),
    Template(
        'Round 3 of 5\n\nHost: {question}\nContestant, after some thought:',
        '{answer}',
    ),
    Template(
        'Devise a puzzler for people who know a lot. There must be one correct reply to it: '
        '{answer}.',
        '{question}',
    ),
    Template(
        'A game show was won with the words "{answer}". Make up what the players had been asked.',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='trivia_qa',
        cluster='closed_book_qa',
        # The examples of FLAN's trivia_qa/rc, without their pages of evidence (15 GB).
        source=held_back('trivia_qa/rc.nocontext:1.1.0', 200),
        fields=trivia_qa_fields,
        templates=TRIVIA_QA_TEMPLATES,
        continuations=[Template('Question: {question}\nAnswer:', '{answer}')],
        metric_fns=[metrics.trivia_qa],
        suite=SUITE,
        num_train_examples=138_180,
        citation='Joshi et al. 2017, TriviaQA: A Large Scale Distantly Supervised Challenge '
        'Dataset for Reading Comprehension',
        licence='not stated',
    )
)
