"""Cluster `reading_comprehension_commonsense`: texts that do not say everything."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick


def cosmos_qa_fields(example):
  options = one_line(tf.stack([example[f'answer{i}'] for i in range(4)]))
  return {
      'context': one_line(example['context']),
      'question': one_line(example['question']),
      'options': options,
      'answer': pick(options, example['label']),
  }


def has_all_texts(example):
  names = ['context', 'question', 'answer0', 'answer1', 'answer2', 'answer3']
  return tf.reduce_all(one_line(tf.stack([example[name] for name in names])) != '')


# An answer may be "None of the above choices ."
COSMOS_QA_TEMPLATES = [
    Template(
        'Read between the lines of this story.\n\n{context}\n\n{question}\n{options_}',
        '{answer}',
    ),
    Template(
        'From somebody\'s blog: {context}\n\nQuestion: {question}\n{options_}\nLikeliest answer:',
        '{answer}',
    ),
    Template(
        'Here is a question to keep in mind: {question}\n{options_}\n\nNow that you know what to '
        'look out for, read on, and then choose.\n\n{context}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nAbove are four guesses about a personal experience. Keep the one that '
        'best settles what the reader asks.\n\nExperience: {context}\nReader: {question}',
        '{answer}',
    ),
    Template(
        'The following passage leaves a good deal unsaid. Supply it by thinking about motives, '
        'causes and effects.\n\n{context}\n\n{question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        "a friend sent me this:\n\n{context}\n\nwhat's your take? {question}\n{options_}",
        '{answer}',
    ),
    Template(
        'Exercise in inference. An attentive pupil was asked "{question}" Mark the reply that '
        'earns full marks.\n\nText: {context}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Ted has just heard this:\n\n{context}\n\nTed: {question}\n\n'
        'How would you respond to Ted?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Multiple choice\n\n{question}\n{options_}\n\n(This refers to the account below.)\n\n'
        '{context}',
        '{answer}',
    ),
    Template(
        '{context}\n\nThose who had read this were offered four statements, and it was right to '
        'tick this one:\n\n{answer}\n\nReconstruct what they had been asked.\n\n{options_}',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='cosmos_qa',
        cluster='reading_comprehension_commonsense',
        source=held_back('cosmos_qa:1.0.0', 200),
        fields=cosmos_qa_fields,
        filter_fn=has_all_texts,
        templates=COSMOS_QA_TEMPLATES,
        continuations=[Template('{context}\n\nQ: {question}\nA:', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=25_060,
        citation='Huang et al. 2019, Cosmos QA: Machine Reading Comprehension with Contextual '
        'Commonsense Reasoning',
        licence='CC BY 4.0',
    )
)

_GAP = '@placeholder'


def record_fields(example):
  """Fields of ReCoRD: `query` is a sentence with a gap, `opening` what stands before the gap, and
  `unfinished` the passage with the opening after it.

  An option is a name from the passage with the rest of the query after it, as FLAN has it; an
  example has as many as the passage has names. The summary after the passage is left out.
  """
  passage = one_line(tf.strings.regex_replace(example['passage'], r'(?s)\n@highlight.*', ''))
  opening = one_line(tf.strings.regex_replace(example['query'], rf'(?s){_GAP}.*', ''))
  rest = tf.strings.regex_replace(example['query'], rf'(?s)^.*?{_GAP}', '')
  options = one_line(tf.strings.join([example['entities'], rest]))
  answers = one_line(tf.strings.join([example['answers'], rest]))
  return {
      'passage': passage,
      'query': one_line(tf.strings.regex_replace(example['query'], _GAP, '___')),
      'opening': one_line(opening + ' ...'),
      'unfinished': tf.strings.strip(passage + '\n\n' + opening),
      'options': options,
      'answer': answers[0],
      'answers': answers,
  }


# An opening ends in three dots, and is nothing else where the gap comes first.
RECORD_TEMPLATES = [
    Template(
        '{passage}\n\nNow finish this sentence, which belongs to the same news story.\n\n'
        '{opening}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'After the article you will see a sentence from which somebody or something is missing. '
        'Say how it runs from the gap to its end.\n\n{passage}\n\n{query}\n\n{options_}',
        '{answer}',
    ),
    Template('News: {passage}\n\nNext: {opening}\n{options_}\nRest:', '{answer}'),
    Template(
        '{options_}\n\nEvery line above starts with one of the names in a report, but only one '
        'of them carries on from these words in keeping with the facts.\n\n{opening}\n\n'
        'Report: {passage}',
        '{answer}',
    ),
    Template(
        "There is a hole in a reporter's copy:\n\n{query}\n\nWhat belongs there can be told from "
        'what else was submitted:\n\n{passage}\n\nRestore the copy from the hole onwards.\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'just read this\n\n{passage}\n\nso how would you go on from here: {opening}\n{options_}',
        '{answer}',
    ),
    Template(
        'Cloze test\n\nText: {passage}\n\nItem: {query}\n\nFill in the blank and add whatever '
        'stands to the right of it.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Newsreader: {passage}\nCorrespondent: {opening}\n\nAt this moment the line goes dead. '
        'What was the correspondent going to tell us?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Use the background, and your own knowledge of the world, to select the completion that '
        'is true.\n\nIncomplete statement: {opening}\n{options_}\n\nBackground: {passage}',
        '{answer}',
    ),
    Template(
        'Who or what is hidden behind the three underscores? Consult the press cutting, then copy '
        'the right line from the list.\n\n{query}\n\n{options_}\n\nPress cutting: {passage}',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='record',
        cluster='reading_comprehension_commonsense',
        source=held_back('super_glue/record:1.0.2', 200),
        fields=record_fields,
        templates=RECORD_TEMPLATES,
        continuations=[Template('{unfinished}', '{answer}', ranks=True)],
        plain='{passage}\n{query}\n{options_}',
        # The options of an example differ in their first words only, so that token F1 is high
        # for any of them: exact match is the headline.
        metric_fns=[metrics.trivia_qa],
        suite=SUITE,
        # Its articles are from the CNN/Daily Mail corpus, and a query is a sentence of the
        # article with a name taken out.
        lineage=['cnn_dailymail'],
        overlaps=['cnn_dailymail'],
        num_train_examples=100_520,
        citation='Zhang et al. 2018, ReCoRD: Bridging the Gap between Human and Machine '
        'Commonsense Reading Comprehension; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)
