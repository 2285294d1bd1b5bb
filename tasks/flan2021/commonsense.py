"""Cluster `commonsense`: which of two things makes more sense?"""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick, tfds_source


def copa_fields(example):
  """Fields: the event `premise`, and `question`, which is 'cause' or 'effect'.

  `opening` is the premise without its full stop, `link` the words that join it to the option and
  `answer_clause` the option as they do; `reverse` is the other one of 'cause' and 'effect'.
  """
  premise = one_line(example['premise'])
  options = tf.stack([one_line(example['choice1']), one_line(example['choice2'])])
  clauses = _clauses(options)
  is_cause = example['question'] == 'cause'
  return {
      'premise': premise,
      'opening': tf.strings.regex_replace(premise, r'[.!?]+$', ''),
      'question': example['question'],
      'reverse': tf.where(is_cause, 'effect', 'cause'),
      'ask': tf.where(is_cause, 'How did this come about?', 'What came of this?'),
      'ask_back': tf.where(is_cause, 'And what did that lead to?', 'And what had brought that on?'),
      'link': tf.where(is_cause, 'because', 'and so'),
      'options': options,
      'answer': pick(options, example['label']),
      'options_clause': clauses,
      'answer_clause': pick(clauses, example['label']),
  }


def _clauses(sentences: tf.Tensor) -> tf.Tensor:
  """Without their capitals: none of them begins with a name."""
  begins_with_i = tf.strings.regex_full_match(sentences, r"I\b.*")
  first = tf.strings.lower(tf.strings.substr(sentences, 0, 1, unit='UTF8_CHAR'))
  rest = tf.strings.regex_replace(sentences, r'\A.', '')
  return tf.where(begins_with_i, sentences, tf.strings.join([first, rest]))


COPA_TEMPLATES = [
    Template('{premise}\n\n{ask} Take your pick:\n\n{options_}', '{answer}'),
    Template(
        'Something happened: {premise} Which of these is the likelier {question}?\n{options_}',
        '{answer}',
    ),
    Template(
        'Two sentences are offered as the {question} of an event, but only one of them makes '
        'sense in that role.\n\nEvent: {premise}\n\n{options_}\n\nWhich one is it?',
        '{answer}',
    ),
    Template(
        'Join the beginning of this sentence to the ending that suits it better.\n\n'
        '{opening} {link} ...\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nOne of the two sentences above gives the {question} of what you read '
        'here. Pick it out.\n\n{premise}',
        '{answer}',
    ),
    Template(
        'Use your knowledge of everyday life to choose between the two sentences.\n\n'
        'What happened: {premise}\nWanted: its {question}\n{options_}\nChoice:',
        '{answer}',
    ),
    Template(
        'A friend tells you this: "{premise}" You do not hear the rest, so you guess at the '
        '{question}. Of the possibilities below, which would you bet on?\n\n{options_}',
        '{answer}',
    ),
    Template('Event: {premise}\n{options_}\nMore plausible {question}:', '{answer}'),
    Template(
        'Think of something that could well be the {reverse} of the event described below, and '
        'put it in one short sentence.\n\n{answer}',
        '{premise}',
    ),
    Template('Ann: {answer}\nBen: {ask_back}\nAnn:', '{premise}'),
]

register(
    TaskSpec(
        name='copa',
        cluster='commonsense',
        source=held_back('super_glue/copa:1.0.2', 50),
        fields=copa_fields,
        templates=COPA_TEMPLATES,
        continuations=[
            Template('{opening} {link}', '{answer_clause}', ranks=True, suffix='_clause'),
        ],
        plain='{premise}\n{question}\n{options_}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=350,
        citation='Roemmele et al. 2011, Choice of Plausible Alternatives; '
        'Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def piqa_fields(example):
  options = tf.stack([one_line(example['sol1']), one_line(example['sol2'])])
  return {
      'goal': one_line(example['goal']),
      'options': options,
      'answer': pick(options, example['label']),
  }


# A goal may be a sentence, a question, the beginning of a sentence or a single noun.
PIQA_TEMPLATES = [
    Template('Goal: {goal}\n\nWhich of these will work better?\n\n{options_}', '{answer}'),
    Template(
        '{goal}\n\nHere are two suggestions. Only one of them is sensible; which?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'A collection of household tips is being checked before it goes to print. Under the '
        'heading\n\n{goal}\n\nthere are two drafts:\n\n{options_}\n\n'
        'Which draft gives good advice?',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of these two lines would come from somebody with practical '
        'experience of the following?\n\n{goal}',
        '{answer}',
    ),
    Template(
        'Someone has just come to me with this: {goal}\nWhat should I tell them?\n{options_}',
        '{answer}',
    ),
    Template(
        'Rely on what you know about ordinary objects and materials to find the better text.\n\n'
        'Topic: {goal}\n{options_}\nBetter text:',
        '{answer}',
    ),
    Template('Problem: {goal}\n{options_}\nSolution:', '{answer}'),
    Template(
        'Picture yourself trying out both of the ideas below, and then name the one that gets '
        'you where you want to be.\n\nWhat you have in mind: {goal}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'What might a person who follows this advice be trying to do?\n\n{answer}',
        '{goal}',
    ),
    Template(
        'Tip: {answer}\n\nGive the heading under which this tip could stand in a book of '
        'practical advice.',
        '{goal}',
    ),
]

register(
    TaskSpec(
        name='piqa',
        cluster='commonsense',
        source=held_back('piqa:1.0.0', 100),
        fields=piqa_fields,
        templates=PIQA_TEMPLATES,
        continuations=[
            Template('{goal}', '{answer}', ranks=True),
            Template('Aim: {goal}\nWay to get there:', '{answer}', ranks=True),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=16_010,
        citation='Bisk et al. 2020, PIQA: Reasoning about Physical Commonsense',
        licence='not stated',
    )
)


def _without_tags(text: tf.Tensor) -> tf.Tensor:
  """Drops WikiHow's marks, '[header]', '[title]', '[step]', '[substeps]'.

  A title has no full stop of its own, so its mark becomes one.
  """
  text = tf.strings.regex_replace(text, r'([^\s.?!:,;])\s*\[title\]', r'\1.')
  return one_line(tf.strings.regex_replace(text, r'\[.*?\]', ''))


def hellaswag_fields(example):
  options = _without_tags(example['endings'])
  return {
      'topic': one_line(example['activity_label']),
      'context': _without_tags(example['context']),
      'options': options,
      'answer': pick(options, example['label']),
  }


def has_label(example):
  return example['label'] >= 0


# Contexts are captions of videos and parts of how-to guides; they end anywhere.
HELLASWAG_TEMPLATES = [
    Template('{context} ...\n\nWhat comes next?\n\n{options_}', '{answer}'),
    Template('Continue this text in the most sensible way.\n\n{context}\n{options_}', '{answer}'),
    Template(
        'Heading: {topic}\nSo far: {context}\n{options_}\nContinuation:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nThree of the above make no sense after the words below. '
        'Find the one that does.\n\n{context}',
        '{answer}',
    ),
    Template(
        'The description of a video, or a piece of a how-to guide, has been cut short here:\n\n'
        '{context}\n\nJudging by the way the world usually works, what is the missing rest?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'i was reading about "{topic}" and the page froze at this point: {context}\n\n'
        'any guess how it went on?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Examination question: complete the passage with one of the four endings on offer.\n\n'
        'Passage: {context}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Ann: {context}\nBen: Stop! I bet I can tell you the rest myself.\n\n{options_}\n\n'
        'If Ben is right, which of these does he say?',
        '{answer}',
    ),
    Template(
        'A text on "{topic}" was torn in two. Match its first half with the proper second half.'
        '\n\n{options_}\n\nFirst half: {context}\nSecond half:',
        '{answer}',
    ),
    Template(
        'Write the opening of a text on "{topic}" which leads up to these words:\n\n{answer}',
        '{context}',
    ),
]

register(
    TaskSpec(
        name='hellaswag',
        cluster='commonsense',
        source=held_back('hellaswag:1.1.0', 200),
        fields=hellaswag_fields,
        filter_fn=has_label,
        templates=HELLASWAG_TEMPLATES,
        continuations=[
            Template('{context}', '{answer}', ranks=True),
            Template('{topic}\n\n{context}', '{answer}', ranks=True),
        ],
        plain='{context}\n{options_}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=39_700,
        citation='Zellers et al. 2019, HellaSwag: Can a Machine Really Finish Your Sentence?',
        licence='MIT',
    )
)


def story_cloze_fields(example):
  options = one_line(example['endings'])
  return {
      'context': one_line(example['context']),
      'options': options,
      'answer': pick(options, example['label'] - 1),
  }


STORY_CLOZE_TEMPLATES = [
    Template('{context}\n\nHow does the story end?\n\n{options_}', '{answer}'),
    Template(
        'A tale of five sentences has lost its last one. Put it back.\n\n{context}\n{options_}',
        '{answer}',
    ),
    Template('Story: {context}\n{options_}\nEnding:', '{answer}'),
    Template(
        '{options_}\n\nWhich of these two would be the better way to round off the following?\n\n'
        '{context}',
        '{answer}',
    ),
    Template(
        'My daughter wrote this for school, all but the final line, which I am hiding from you. '
        'Can you work out what it is?\n\n{context}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Of two conclusions to a short narrative, one agrees with everything that has gone before '
        'and one clashes with it. Identify the former.\n\n{options_}\n\nNarrative: {context}',
        '{answer}',
    ),
    Template('Listen to this! {context} And guess what happened then:\n\n{options_}', '{answer}'),
    Template(
        'Bear in mind how people usually feel and behave, and choose.\n\n'
        'Sentences 1 to 4: {context}\n\n{options_}\n\nSentence 5:',
        '{answer}',
    ),
    Template(
        'Tell me something in four sentences. I shall add a fifth to it, namely:\n\n{answer}',
        '{context}',
    ),
    Template(
        '"{answer}"\n\nSo ends a little story about everyday life. What events had brought things '
        'to that point? Relate them in order.',
        '{context}',
    ),
]

register(
    TaskSpec(
        name='story_cloze',
        cluster='commonsense',
        # There is no training split; FLAN, too, trains on most of the validation split.
        source=tfds_source(
            'story_cloze/2016:1.0.0', 'validation[:-200]', 'validation[-200:]', 'test'
        ),
        fields=story_cloze_fields,
        templates=STORY_CLOZE_TEMPLATES,
        continuations=[Template('{context}', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=1_670,
        citation='Mostafazadeh et al. 2016, A Corpus and Cloze Evaluation for Deeper '
        'Understanding of Commonsense Stories',
        licence='not stated',
    )
)
