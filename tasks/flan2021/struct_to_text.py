"""Cluster `struct_to_text`: data in, sentences out."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line


def common_gen_fields(example):
  """Fields of CommonGen; only examples for evaluation have more than one reference."""
  target = one_line(example['target'])
  references = tf.concat([[target], one_line(example['references'])], axis=0)
  concepts = example['concepts']
  return {
      'concepts': tf.strings.reduce_join(concepts, separator=', '),
      'bullets': tf.strings.join(['- ', tf.strings.reduce_join(concepts, separator='\n- ')]),
      'count': tf.strings.as_string(tf.size(concepts)),
      'answer': target,
      'answers': tf.unique(references).y,
  }


COMMON_GEN_TEMPLATES = [
    Template(
        'Words: {concepts}\n\nUse every one of them in a single sentence about something that '
        'could really happen.',
        '{answer}',
    ),
    Template(
        'Build a sentence from these parts, in any order and with any endings that are needed: '
        '{concepts}',
        '{answer}',
    ),
    Template(
        '{bullets}\n\nDescribe an ordinary scene in which everything on this list has a place. '
        'One sentence will do.',
        '{answer}',
    ),
    Template(
        'What might be going on in a photograph that is tagged {concepts}? '
        'Tell me in one sentence.',
        '{answer}',
    ),
    Template('Vocabulary exercise. Put into one sentence: {concepts}', '{answer}'),
    Template(
        'Write a line that sounds like everyday life and leaves out none of the following.\n\n'
        '{bullets}',
        '{answer}',
    ),
    Template(
        'I have the words {concepts} and no idea what to do with them. '
        'Can you make me a sentence that has them all?',
        '{answer}',
    ),
    Template('The caption has to mention: {concepts}\nCaption:', '{answer}'),
    Template(
        'A pupil was given some words in their basic forms and made this sentence out of '
        'them:\n\n{answer}\n\nList the words that the pupil was probably given.',
        '{concepts}',
    ),
    Template(
        'Sentence: {answer}\n\nBoil the sentence down to the {count} words that say most about '
        'it. Give the forms found in a dictionary, with commas between them.',
        '{concepts}',
    ),
]

register(
    TaskSpec(
        name='common_gen',
        cluster='struct_to_text',
        source=held_back('gem/common_gen:1.1.0', 200),
        fields=common_gen_fields,
        templates=COMMON_GEN_TEMPLATES,
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        citation='Lin et al. 2020, CommonGen; Gehrmann et al. 2021, the GEM Benchmark',
        licence='MIT',
    )
)
