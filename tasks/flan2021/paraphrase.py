"""Cluster `paraphrase`: do two sentences mean the same, and how nearly?"""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, held_back, labels, one_line, tfds_source

MRPC_OPTIONS = ['no', 'yes']
# How two sentences are: 'In meaning, they are ...'
LIKENESS = ['different', 'the same']
STSB_OPTIONS = ['0', '1', '2', '3', '4', '5']


def mrpc_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      **labels(MRPC_OPTIONS, example['label'], LIKENESS),
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
        continuations=[
            Template(
                '{sentence1}\n{sentence2}\n\nQ: Do both sentences say the same thing?\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                'First: {sentence1}\nSecond: {sentence2}\nWhat they report is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy, metrics.f1_binary],
        postprocess_fn=postprocessors.label_ids(MRPC_OPTIONS, LIKENESS),
        suite=SUITE,
        num_train_examples=3_460,
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
        continuations=[
            Template(
                'First: {sentence1}\nSecond: {sentence2}\nSimilarity, from 0 to 5:',
                '{answer}',
                ranks=True,
            ),
        ],
        metric_fns=[metrics.pearson_spearman],
        postprocess_fn=postprocessors.to_float,
        suite=SUITE,
        # Its part MSRpar is taken from the Microsoft Research Paraphrase Corpus.
        lineage=['glue/mrpc'],
        num_train_examples=5_640,
        citation='Cer et al. 2017, SemEval-2017 Task 1; Wang et al. 2019, GLUE',
        licence='mixed, see LICENSE.txt of the dataset',
    )
)


PAWS_WIKI_OPTIONS = ['no', 'yes']
QQP_OPTIONS = ['no', 'yes']


def paws_wiki_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      **labels(PAWS_WIKI_OPTIONS, example['label'], LIKENESS),
  }


# The two sentences of a pair consist of nearly the same words.
PAWS_WIKI_TEMPLATES = [
    Template(
        'Pay attention to the order of the words.\n\n{sentence1}\n{sentence2}\n\n'
        'Do both lines tell us the same facts?\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{sentence1}\n\nSomebody has moved parts of this around, or put other words in their '
        'place, and got the following. Did the sense survive?\n\n{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Version 1: {sentence1}\nVersion 2: {sentence2}\n{options_}\nSame meaning:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nPut one of these at the end. Whenever statement X is true, statement Y '
        'is true, and the other way round.\n\nX: {sentence1}\nY: {sentence2}\n\n'
        'Is that a correct remark about X and Y?',
        '{answer}',
    ),
    Template(
        'An encyclopedia says: {sentence1}\nAn editor wants to change this to: {sentence2}\n\n'
        'Would the article still inform its readers of the same thing?\n{options_}',
        '{answer}',
    ),
    Template(
        'A faithful paraphrase never alters who did what, where, when or to whom. By that '
        'measure, is the candidate faithful to the source?\n\nSource: {sentence1}\n'
        'Candidate: {sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'these look almost identical to me:\n\n{sentence1}\n{sentence2}\n\n'
        'but do they mean the same?\n{options_}',
        '{answer}',
    ),
    Template(
        'Imagine an archive that keeps each fact only once, whatever the wording. It holds\n\n'
        '{sentence1}\n\nand now a clerk brings in\n\n{sentence2}\n\n'
        'Can the clerk be sent away, because this is there already?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Read both sentences to the end, and then decide if a summary of one would serve equally '
        'well for the other.\n\n{options_}\n\nOne: {sentence1}\nOther: {sentence2}\n\nDecision:',
        '{answer}',
    ),
    Template(
        'Rearrange the sentence below, or replace a few of its words.\n\n{sentence1}\n\n'
        'Keep the meaning: {answer}',
        '{sentence2}',
    ),
]

register(
    TaskSpec(
        name='paws_wiki',
        cluster='paraphrase',
        # The configuration that TFDS takes, as FLAN does, where none is named.
        source=tfds_source(
            'paws_wiki/labeled_final_tokenized:1.1.0', 'train', 'validation[:200]', 'test'
        ),
        fields=paws_wiki_fields,
        templates=PAWS_WIKI_TEMPLATES,
        continuations=[
            Template(
                '{sentence1}\n{sentence2}\n\nQ: Is that one fact, told twice?\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                'First: {sentence1}\nSecond: {sentence2}\nIn meaning, the two are',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=49_400,
        citation='Zhang et al. 2019, Paraphrase Adversaries from Word Scrambling',
        licence='free for any purpose, with acknowledgement of Google LLC',
    )
)


def qqp_fields(example):
  """Fields of QQP; the doubled quotation marks in its files become single ones, as in FLAN."""

  def question(key):
    return one_line(tf.strings.regex_replace(example[key], '""', "'"))

  return {
      'question1': question('question1'),
      'question2': question('question2'),
      **labels(QQP_OPTIONS, example['label'], LIKENESS),
  }


QQP_TEMPLATES = [
    Template(
        'Two people wrote to a question-and-answer site.\n\n{question1}\n{question2}\n\n'
        'Did they ask the same thing?\n{options_}',
        '{answer}',
    ),
    Template(
        'Would a single good answer satisfy whoever asked A as well as whoever asked B?\n\n'
        'A: {question1}\nB: {question2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'First question: {question1}\nSecond question: {question2}\n{options_}\nDuplicates:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nReply with one of these words. A visitor is about to post\n\n{question2}'
        '\n\non a forum that has a page for\n\n{question1}\n\n'
        'Should the visitor be taken to that page instead?',
        '{answer}',
    ),
    Template(
        '{question1}\n\nIf you asked the next question instead of this one, would you still '
        'get what you wanted?\n\n{question2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'The rule at this help desk: tickets that come down to one request are merged.\n\n'
        'Ticket 1: {question1}\nTicket 2: {question2}\n\nMerge them?\n{options_}',
        '{answer}',
    ),
    Template(
        'Rina: {question1}\nTom: {question2}\nRina: Oh, is that what you are wondering about '
        'too? So am I!\n\nIs Rina right to think so?\n{options_}',
        '{answer}',
    ),
    Template(
        'Disregard spelling, grammar and choice of words. Judge solely whether these questions '
        'are identical in intent.\n\n{options_}\n\n(a) {question1}\n(b) {question2}\n\nJudgement:',
        '{answer}',
    ),
    Template(
        'i answered this one last week: {question1}\nand today i got: {question2}\n'
        'can i just paste in my old reply?\n{options_}',
        '{answer}',
    ),
    Template(
        'Below is a question from the internet. Put one of your own beside it; the entry after '
        '"Equivalent" says if yours has to seek the same information.\n\n'
        'Question: {question1}\nEquivalent: {answer}',
        '{question2}',
    ),
]

register(
    TaskSpec(
        name='glue_qqp',
        cluster='paraphrase',
        source=held_back('glue/qqp:2.0.0', 200),
        fields=qqp_fields,
        templates=QQP_TEMPLATES,
        continuations=[
            Template(
                '{question1}\n{question2}\n\nQ: Is that one question, put in two ways?\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                'First: {question1}\nSecond: {question2}\nWhat they ask is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy, metrics.f1_binary],
        postprocess_fn=postprocessors.label_ids(QQP_OPTIONS, LIKENESS),
        suite=SUITE,
        num_train_examples=363_640,
        citation='Iyer et al. 2017, Quora Question Pairs; Wang et al. 2019, GLUE',
        licence="Quora's terms of service (non-commercial)",
    )
)
