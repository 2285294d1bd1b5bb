"""Cluster `coreference`: what does a pronoun, or a gap, stand for?"""

from __future__ import annotations

import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, labels, one_line, pick, tfds_source

WSC_OPTIONS = ['no', 'yes']
WSC_WORDS = ['wrong', 'right']


def definite_pronoun_resolution_fields(example):
  options = one_line(example['candidates'])
  return {
      'sentence': one_line(example['sentence']),
      'pronoun': one_line(example['pronoun']),
      'options': options,
      'answer': pick(options, example['label']),
  }


DEFINITE_PRONOUN_RESOLUTION_TEMPLATES = [
    Template(
        '{sentence}\n\nWhom or what does "{pronoun}" stand for here?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Swap the pronoun "{pronoun}" for the name or noun that it points back to.\n\n'
        '{sentence}\n{options_}\nReplacement:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nBy "{pronoun}", the sentence that follows means one of the above. '
        'Which one?\n\n{sentence}',
        '{answer}',
    ),
    Template(
        'A reader is puzzled.\nThe sentence: {sentence}\n'
        'The puzzle: who or what is meant by "{pronoun}"?\n{options_}',
        '{answer}',
    ),
    Template('Text: {sentence}\nPronoun: {pronoun}\n{options_}\nAntecedent:', '{answer}'),
    Template(
        'Two readings of this sentence are possible as far as grammar goes, but only one of '
        'them makes sense. What must "{pronoun}" be in the one that does?\n\n{sentence}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Somebody reads aloud to you: {sentence}\nYou interrupt: "Sorry, \'{pronoun}\'? '
        'Which one do you mean?"\nThey had better answer:\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Ask yourself what could sensibly have happened, and link "{pronoun}" to the right '
        'party.\n\n{options_}\n\n{sentence}',
        '{answer}',
    ),
    Template(
        'I want to get rid of the word "{pronoun}" in this line, so that nobody can '
        'misunderstand it.\n\n{sentence}\n\nWhat do I write instead?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Grammar workbook, pronouns\n\n{sentence}\n\n"{pronoun}" = ?\n{options_}',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='definite_pronoun_resolution',
        cluster='coreference',
        source=tfds_source(
            'definite_pronoun_resolution:1.1.0', 'train[:-200]', 'train[-200:]', 'test'
        ),
        fields=definite_pronoun_resolution_fields,
        templates=DEFINITE_PRONOUN_RESOLUTION_TEMPLATES,
        continuations=[Template('{sentence} Here "{pronoun}" refers to', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=1_120,
        citation='Rahman and Ng 2012, Resolving Complex Cases of Definite Pronouns',
        licence='not stated',
    )
)


def winogrande_fields(example):
  """Fields of WinoGrande: `context` is what stands before the gap.

  An option is a filling with the rest of the sentence after it, as FLAN has it, so that the
  options of an example differ only in their first words.
  """
  halves = tf.strings.split(example['sentence'], '_', maxsplit=1)
  fillings = tf.stack([example['option1'], example['option2']])
  options = one_line(tf.strings.join([fillings, halves[1]]))
  return {
      'context': one_line(halves[0]),
      'sentence': one_line(example['sentence']),
      'options': options,
      'answer': pick(options, example['label']),
  }


def has_context(example):
  """In a few training examples the gap comes first, and nothing is left to continue."""
  return one_line(tf.strings.split(example['sentence'], '_', maxsplit=1)[0]) != ''


WINOGRANDE_TEMPLATES = [
    Template(
        'Carry on from here in the way that makes sense.\n\n{context} ...\n\n{options_}',
        '{answer}',
    ),
    Template('{context}\n\nWhich continuation fits?\n{options_}', '{answer}'),
    Template(
        '{options_}\n\nOf the two endings above, one goes with this beginning. Which?\n\n'
        '{context}',
        '{answer}',
    ),
    Template(
        'A sentence has come apart. Find the end that belongs to the beginning.\n\n'
        'Beginning: {context}\n{options_}\nEnd:',
        '{answer}',
    ),
    Template(
        'There are two ways to go on after the words below, and one of them contradicts what '
        'they say. Take the other one.\n\n{context}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'For a short story I have got as far as this:\n\n{context}\n\n'
        'How should it go on if readers are to believe me?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Somebody has left a gap in a sentence:\n\n{sentence}\n\n'
        'How does the sentence read from the gap onwards?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Let common sense decide which ending is meant.\n\n{options_}\n\n'
        'Text: {context}\nEnding:',
        '{answer}',
    ),
    Template(
        'You can only half hear what a neighbour is saying. First comes "{context}", and then '
        'you are not sure about one word or two. What did the neighbour go on to say?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'An old letter is torn after the words\n\n{context}\n\nand the rest must be on one of '
        'these two scraps of paper:\n\n{options_}\n\nOn which one?',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='winogrande',
        cluster='coreference',
        # FLAN used 1.1.0, which TFDS no longer has.
        source=held_back('winogrande:1.2.0', 200, train='train_xl'),
        fields=winogrande_fields,
        filter_fn=has_context,
        templates=WINOGRANDE_TEMPLATES,
        continuations=[Template('{context}', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=40_190,
        citation='Sakaguchi et al. 2020, WinoGrande',
        licence='CC BY',
    )
)


def wsc_fields(example):
  """Fields of WSC: does the `pronoun`, set between asterisks in `text`, refer to `noun`?

  The pronoun is marked because one text in four has the same word in it twice.
  """
  words = tf.strings.split(example['text'], ' ')
  pronoun = one_line(example['span2_text'])
  at = example['span2_index']
  core = tf.strings.regex_replace(tf.strings.lower(words[at]), r'\W.*$', '')
  # One index of the training split is one too low.
  at += tf.cast(core != tf.strings.lower(pronoun), at.dtype)
  marked = tf.strings.regex_replace(words[at], r'^(\w+)', r'*\1*')
  words = tf.concat([words[:at], [marked], words[at + 1 :]], axis=0)
  return {
      'text': one_line(tf.strings.reduce_join(words, separator=' ')),
      'noun': one_line(example['span1_text']),
      'pronoun': pronoun,
      **labels(WSC_OPTIONS, example['label'], WSC_WORDS),
  }


WSC_TEMPLATES = [
    Template(
        '{text}\n\nIs the word between asterisks another way of saying "{noun}"?\n{options_}',
        '{answer}',
    ),
    Template(
        'Take this text:\n\n{text}\n\nIn it, does *{pronoun}* refer to "{noun}"?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Text: {text}\nSuggested reading: *{pronoun}* = {noun}\n{options_}\n'
        'Is the suggestion right?',
        '{answer}',
    ),
    Template(
        'If we wrote "{noun}" in place of the word in asterisks, would the following still '
        'tell the same story?\n\n{text}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nAnswer with one of these. When the author of the lines below writes '
        '*{pronoun}*, is "{noun}" what the author has in mind?\n\n{text}',
        '{answer}',
    ),
    Template(
        'A pupil was asked what the marked pronoun stands for, and said: "{noun}". '
        'Was that correct?\n\n{text}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Somebody is about to draw an arrow from *{pronoun}* back to "{noun}". '
        'Does the arrow belong there?\n\n{options_}\n\n{text}',
        '{answer}',
    ),
    Template(
        '{text}\n\nI took *{pronoun}* to be "{noun}". Did I understand it properly?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Read with care, for it is easy to get hold of the wrong person or thing.\n\n{text}\n\n'
        'Are "{noun}" and *{pronoun}* one and the same?\n\n{options_}\n\nAnswer:',
        '{answer}',
    ),
    Template(
        'Work out what the pronoun with the asterisks around it means in this passage: {text}\n'
        'Does it come out as "{noun}"?\n{options_}',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='wsc',
        cluster='coreference',
        source=held_back('super_glue/wsc:1.0.2', 50),
        fields=wsc_fields,
        templates=WSC_TEMPLATES,
        continuations=[
            Template(
                '{text}\n\nQ: Is *{pronoun}* the same as "{noun}" here?\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                '{text}\n\nTo take *{pronoun}* for "{noun}" in this text would be',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        plain='{text}\n{noun}\n{options_}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        # See wnli, in cluster nli: the same texts.
        lineage=['winograd_schema'],
        overlaps=['wnli'],
        num_train_examples=500,
        citation='Levesque et al. 2012, The Winograd Schema Challenge; '
        'Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def wsc273_fields(example):
  """Fields of WSC273: `context` is what stands before the pronoun, marked as *it* in `text`.

  As in WinoGrande, an option is a noun with the rest of the text after it.
  """
  characters = tf.strings.unicode_split(example['text'], 'UTF-8')
  before = tf.strings.reduce_join(characters[: example['pronoun_start']])
  after = tf.strings.reduce_join(characters[example['pronoun_end'] :])
  nouns = tf.stack([example['option1_normalized'], example['option2_normalized']])
  options = one_line(tf.strings.join([nouns, after]))
  return {
      'context': one_line(before),
      'text': one_line(tf.strings.join([before, '*', example['pronoun_text'], '*', after])),
      'pronoun': one_line(example['pronoun_text']),
      'options': options,
      'answer': pick(options, example['label']),
  }


WSC273_TEMPLATES = [
    Template(
        '{text}\n\nSubstitute what is meant for the pronoun between asterisks, and give the text '
        'from that point to the end.\n\n{options_}',
        '{answer}',
    ),
    Template('Finish the sentence.\n\n{context} ...\n\n{options_}', '{answer}'),
    Template(
        'Each of these two lines could follow grammatically, but one of them is absurd.\n\n'
        'Unfinished: {context}\n{options_}\nFinished sensibly:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWith which of those would a speaker proceed who had begun by saying '
        '"{context} ..."?',
        '{answer}',
    ),
    Template(
        'Readers might wonder whom or what *{pronoun}* denotes here.\n\n{text}\n\n'
        'Make it plain to them: from there on, what are they being told?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'I was taking dictation and got no further than this:\n\n{context}\n\n'
        'Which of the following did I miss?\n{options_}',
        '{answer}',
    ),
    Template('Winograd schema: {text}\n{options_}\nWithout the pronoun:', '{answer}'),
    Template(
        'Before translating the passage, a translator has to get *{pronoun}* right.\n\n{text}\n\n'
        'Spelled out, the part that begins with the pronoun is:\n\n{options_}',
        '{answer}',
    ),
    Template('Select the logical conclusion.\n\n{options_}\n\nBeginning: {context}', '{answer}'),
    Template(
        'Pat and Sam complete the same remark differently, and one of them has misunderstood it. '
        'Side with the other.\n\nThe remark starts like this: {context}\n\n{options_}',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='wsc273',
        cluster='coreference',
        # For evaluation alone.
        source=seqio.TfdsDataSource('wsc273:1.0.0', splits={'test': 'test'}),
        fields=wsc273_fields,
        templates=WSC273_TEMPLATES,
        continuations=[Template('{context}', '{answer}', ranks=True)],
        plain='{text}\n{options_}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        eval_only=True,
        # As wsc.
        lineage=['winograd_schema'],
        overlaps=['wnli'],
        citation='Levesque et al. 2012, The Winograd Schema Challenge',
        licence='CC BY 4.0',
    )
)
