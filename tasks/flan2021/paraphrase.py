"""Cluster `paraphrase`: do two sentences mean the same, and how nearly?"""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick

MRPC_OPTIONS = ['no', 'yes']
STSB_OPTIONS = ['0', '1', '2', '3', '4', '5']


def mrpc_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      'options': MRPC_OPTIONS,
      'answer': pick(MRPC_OPTIONS, example['label']),
  }


MRPC_TEMPLATES = [
    Template(
        'One newspaper wrote: {sentence1}\nAnother one wrote: {sentence2}\n\n'
        'Are the two papers making the same statement in different words?\n{options_}',
        '{answer}',
    ),
    Template(
        'Compare two sentences from the news.\n\n1) {sentence1}\n2) {sentence2}\n\n'
        'Could either of them stand in for the other without changing what readers learn?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        '{sentence1}\n\nIs what you see below a rewording of what you see above?\n\n'
        '{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nUse one of these to say whether sentence B is a paraphrase of '
        'sentence A.\n\nA: {sentence1}\nB: {sentence2}',
        '{answer}',
    ),
    Template(
        'Original: {sentence1}\nRewrite: {sentence2}\n{options_}\n'
        'Has the rewrite kept the meaning of the original?',
        '{answer}',
    ),
    Template(
        'An editor strikes out every sentence that merely repeats an earlier one. Earlier in '
        'the article it says:\n\n{sentence1}\n\nFurther down it says:\n\n{sentence2}\n\n'
        'Should the editor strike out the second sentence?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Small details apart, would you say that these amount to the same?\n\n'
        '{sentence1}\n{sentence2}\n\n{options_}\n\nAnswer:',
        '{answer}',
    ),
    Template(
        'Two students were told to put a line from a news story into words of their own.\n'
        'The first came up with this: {sentence1}\nThe second came up with this: {sentence2}\n\n'
        'Is it possible that they started from one and the same line?\n{options_}',
        '{answer}',
    ),
    Template(
        'First sentence: {sentence1}\nSecond sentence: {sentence2}\n\n'
        'Equivalent in meaning?\n{options_}',
        '{answer}',
    ),
    Template(
        'Write a second sentence to go with the first. If the entry beside "Paraphrase" is yes, '
        'it should say the same as the first in another way; if the entry is no, it should '
        'deal with the same matter but say something else.\n\n'
        'First sentence: {sentence1}\nParaphrase: {answer}\nSecond sentence:',
        '{sentence2}',
    ),
]

register(
    TaskSpec(
        name='glue_mrpc',
        cluster='paraphrase',
        source=held_back('glue/mrpc:2.0.0', 200),
        fields=mrpc_fields,
        templates=MRPC_TEMPLATES,
        metric_fns=[metrics.accuracy, metrics.f1_binary],
        postprocess_fn=postprocessors.label_ids(MRPC_OPTIONS),
        suite=SUITE,
        citation='Dolan and Brockett 2005, the Microsoft Research Paraphrase Corpus; '
        'Wang et al. 2019, GLUE',
        licence='not stated',
    )
)


def stsb_fields(example):
  """Fields of STS-B; the similarity, a float, is rounded to a whole number (2.5 to 2)."""
  grade = tf.cast(tf.round(example['label']), tf.int32)
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      'options': STSB_OPTIONS,
      'answer': tf.strings.as_string(grade),
  }


STSB_TEMPLATES = [
    Template(
        'How near are these sentences to each other in meaning? Give a whole number from 0 '
        '(nothing in common) to 5 (no difference at all).\n\n{sentence1}\n{sentence2}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        '{sentence1}\n{sentence2}\n\nLet 5 stand for a pair of sentences that come to exactly '
        'the same thing, and 0 for a pair that have nothing to do with one another. '
        'What number would you give the pair above?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'First: {sentence1}\nSecond: {sentence2}\n{options_}\n'
        'Likeness in meaning, from 0 (none) to 5 (complete):',
        '{answer}',
    ),
    Template(
        '{options_}\n\nChoose a grade from this list. The closer the second text comes to '
        'saying what the first one says, the higher the grade.\n\n'
        'First text: {sentence1}\nSecond text: {sentence2}',
        '{answer}',
    ),
    Template(
        'Two people are telling you about something.\nOne says: {sentence1}\n'
        'The other says: {sentence2}\n\nHow well do they agree? '
        '0 means not in the least, and 5 means in every point.\n{options_}',
        '{answer}',
    ),
    Template(
        'A line was translated twice, and I would like to know how much the translations '
        'differ in sense.\n\nTranslation one: {sentence1}\nTranslation two: {sentence2}\n\n'
        'Write 5 if they are equivalent, 0 if they are unrelated, and a number in between if '
        'they share part of their meaning.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Judge the overlap in content, not in wording.\n\nA: {sentence1}\nB: {sentence2}\n'
        '{options_}\nPoints out of 5:',
        '{answer}',
    ),
    Template(
        'If the line at the bottom had been written to restate the line at the top, how many '
        'marks out of 5 should it get?\n\n{sentence1}\n\n{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Here is a sentence. Write another one; on a scale that runs from 0 (unrelated) to 5 '
        '(equivalent), its meaning should come out at {answer}.\n\n{sentence1}',
        '{sentence2}',
    ),
    Template(
        'Sentence: {sentence2}\nDesired similarity (0 = another subject, 5 = same meaning): '
        '{answer}\nMatching sentence:',
        '{sentence1}',
    ),
]

register(
    TaskSpec(
        name='stsb',
        cluster='paraphrase',
        source=held_back('glue/stsb:2.0.0', 100),
        fields=stsb_fields,
        templates=STSB_TEMPLATES,
        metric_fns=[metrics.pearson_spearman],
        postprocess_fn=postprocessors.to_float,
        suite=SUITE,
        # Its part MSRpar is taken from the Microsoft Research Paraphrase Corpus.
        lineage=['glue/mrpc'],
        citation='Cer et al. 2017, SemEval-2017 Task 1; Wang et al. 2019, GLUE',
        licence='mixed, see LICENSE.txt of the dataset',
    )
)
