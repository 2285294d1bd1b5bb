"""Cluster `summarization`: a long text in, a short one out."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, one_line, tfds_source


def aeslc_fields(example):
  """Fields of AESLC; an e-mail is put on one line."""
  return {'body': one_line(example['email_body']), 'answer': one_line(example['subject_line'])}


def has_body_and_subject(example):
  texts = tf.stack([example['email_body'], example['subject_line']])
  return tf.reduce_all(one_line(texts) != '')


AESLC_TEMPLATES = [
    Template(
        '{body}\n\nThat was an e-mail. What would you put in its subject line?',
        '{answer}',
    ),
    Template(
        'Find a short title for this e-mail, one from which the recipient can tell what it is '
        'about.\n\n{body}',
        '{answer}',
    ),
    Template('E-mail: {body}\n\nSubject:', '{answer}'),
    Template(
        'Someone pressed "send" with the subject field still empty. Fill it in for them.\n\n'
        'Message: {body}',
        '{answer}',
    ),
    Template(
        'In a crowded inbox people see nothing but subject lines. Give the message below one '
        'that is brief and to the point.\n\n{body}',
        '{answer}',
    ),
    Template(
        'Message received: {body}\n\nName its topic in a few words, as they might appear at the '
        'top of an e-mail.',
        '{answer}',
    ),
    Template(
        'You file the correspondence of an office by subject. What do you write on the folder '
        'for this e-mail?\n\n{body}',
        '{answer}',
    ),
    Template(
        'I want to send this off and do not know what to type beside "Subject:".\n\n{body}\n\n'
        'Any ideas?',
        '{answer}',
    ),
    Template(
        'Compose a message that might be sent at work under the heading "{answer}".',
        '{body}',
    ),
    Template('Subject line: {answer}\n\nThe e-mail itself, in full:', '{body}'),
]

register(
    TaskSpec(
        name='aeslc',
        cluster='summarization',
        source=tfds_source('aeslc:1.0.0', 'train', 'validation[-200:]', 'test'),
        fields=aeslc_fields,
        filter_fn=has_body_and_subject,
        templates=AESLC_TEMPLATES,
        metric_fns=[metrics.rouge],
        suite=SUITE,
        citation='Zhang and Tetreault 2019, This Email Could Save Your Life',
        licence='CC BY-NC-SA 4.0',
    )
)


def _attachments_in_words(dialogue: tf.Tensor) -> tf.Tensor:
  """'<file_photo>' -> '(photo)', '<file_other>' -> '(file)'.

  FLAN blanks them; but summaries tell of the photo that was sent, and T5's vocabulary has
  no '<'.
  """
  dialogue = tf.strings.regex_replace(dialogue, r'(?i)<\s*files?[ _:-]*(?:others?)?\s*>', '(file)')
  dialogue = tf.strings.regex_replace(dialogue, r'(?i)<\s*file?[ _:-]+(\w+)\s*>', r'(\1)')
  return tf.strings.regex_replace(dialogue, r'(?i)<([a-z][^<>\n]*)>', r'(\1)')


def samsum_fields(example):
  """Fields of SAMSum; a dialogue keeps its lines, one message on each."""
  dialogue = tf.strings.regex_replace(example['dialogue'], r'\s*\r?\n\s*', '\n')
  dialogue = tf.strings.regex_replace(dialogue, r'[\t\p{Z}]+', ' ')
  return {
      'dialogue': tf.strings.strip(_attachments_in_words(dialogue)),
      'answer': one_line(example['summary']),
  }


def has_dialogue(example):
  return one_line(example['dialogue']) != ''


SAMSUM_TEMPLATES = [
    Template(
        'Messages:\n{dialogue}\n\nTell me in a sentence or two what came out of this.',
        '{answer}',
    ),
    Template(
        'Sum up the following conversation for somebody who was not part of it.\n\n{dialogue}',
        '{answer}',
    ),
    Template('{dialogue}\n\nIn short:', '{answer}'),
    Template(
        'Chat log\n\n{dialogue}\n\nMinutes of the chat, as brief as possible and in the third '
        'person:',
        '{answer}',
    ),
    Template(
        'I left my phone at home and missed all this. Just the essentials, please!\n\n{dialogue}',
        '{answer}',
    ),
    Template(
        'Read the exchange below, and report who says, wants or is going to do what.\n\n'
        '{dialogue}\n\nReport:',
        '{answer}',
    ),
    Template('Condense these messages into a short paragraph.\n\n{dialogue}', '{answer}'),
    Template(
        '{dialogue}\n\nHow would you retell this to a friend, leaving out the small talk?',
        '{answer}',
    ),
    Template(
        'Invent the chat that is behind this summary. Begin every message with the name of the '
        'person who sends it.\n\n{answer}',
        '{dialogue}',
    ),
    Template('What happened: {answer}\n\nWhat was said:', '{dialogue}'),
]

register(
    TaskSpec(
        name='samsum',
        cluster='summarization',
        source=tfds_source('samsum:1.0.0', 'train', 'validation[:200]', 'test'),
        fields=samsum_fields,
        filter_fn=has_dialogue,
        templates=SAMSUM_TEMPLATES,
        metric_fns=[metrics.rouge],
        suite=SUITE,
        citation='Gliwa et al. 2019, the SAMSum Corpus',
        licence='CC BY-NC-ND 4.0',
    )
)
