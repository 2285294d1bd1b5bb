"""Cluster `reading_comprehension`: questions about a given text."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, as_question, held_back, one_line, pick, tfds_source

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
        '{options_}\n\nReply with one of the two. According to the article that follows, is '
        '"{response}" a true answer to this question? {question}\n\n'
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
        continuations=[
            Template(
                '{paragraph}\n\nQuestion: {question}\nReply: {response}\nCorrect:',
                '{answer}',
                ranks=True,
            ),
        ],
        metric_fns=[metrics.multirc_f1],
        postprocess_fn=postprocessors.grouped_label_ids(MULTIRC_OPTIONS),
        suite=SUITE,
        num_train_examples=27_040,
        citation='Khashabi et al. 2018, Looking Beyond the Surface; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


BOOL_Q_OPTIONS = ['no', 'yes']


def bool_q_fields(example):
  return {
      'title': one_line(example['title']),
      'passage': one_line(example['passage']),
      'question': as_question(example['question']),
      'options': BOOL_Q_OPTIONS,
      'answer': pick(BOOL_Q_OPTIONS, tf.cast(example['answer'], tf.int32)),
  }


# The questions are in lower case.
BOOL_Q_TEMPLATES = [
    Template(
        '{title}\n\n{passage}\n\nAccording to this article, {question}\n{options_}',
        '{answer}',
    ),
    Template(
        'Decide from the passage whether the answer to the question is yes or no.\n\n'
        'Passage: {passage}\n\nQuestion: {question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Query: {question}\n{options_}\n\nAn encyclopedia has this under "{title}", and it '
        'should tell you what to reply.\n\n{passage}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nEither of these might be right, so please look it up for me in the text '
        'headed "{title}": {question}\n\n{passage}',
        '{answer}',
    ),
    Template(
        'Kim: {question}\nLee: Let me see, it says here: {passage}\n\n'
        'What does Lee go on to tell Kim?\n{options_}',
        '{answer}',
    ),
    Template(
        "i'm trying to find out something: {question} all i've got is this paragraph\n\n"
        '{passage}\n\nso is it a yes or a no?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Candidates shall read the extract and respond to the item below it. No knowledge from '
        'elsewhere is required.\n\nExtract ({title}):\n{passage}\n\nItem: {question}\n{options_}\n'
        'Response:',
        '{answer}',
    ),
    Template(
        'If everything in the following lines is correct, {question}\n\n{passage}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Read about {title}, and think of a yes/no question that the author would answer with '
        '"{answer}".\n\n{passage}',
        '{question}',
    ),
    Template(
        '{passage}\n\nSomebody searched the web for one particular point in this paragraph, and '
        'it turned out that the result was "{answer}". Guess what they had typed.',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='bool_q',
        cluster='reading_comprehension',
        source=held_back('bool_q:1.0.0', 200),
        fields=bool_q_fields,
        templates=BOOL_Q_TEMPLATES,
        continuations=[Template('{passage}\n\nQ: {question}\nA:', '{answer}', ranks=True)],
        plain='{passage}\n{question}\n{options_}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=9_220,
        citation='Clark et al. 2019, BoolQ: Exploring the Surprising Difficulty of Natural '
        'Yes/No Questions',
        licence='CC BY-SA 3.0',
    )
)


def squad_v1_fields(example):
  return _squad_fields(example, one_line(example['answers']['text']))


def _squad_fields(example, answers):
  return {
      'title': one_line(tf.strings.regex_replace(example['title'], '_', ' ')),
      'context': one_line(example['context']),
      'question': one_line(example['question']),
      'answer': answers[0],
      'answers': answers,
  }


SQUAD_V1_TEMPLATES = [
    Template('{context}\n\n{question} Take your answer from the text above.', '{answer}'),
    Template(
        'Find the exact words in the passage that answer the question.\n\nPassage: {context}\n\n'
        'Question: {question}',
        '{answer}',
    ),
    Template('Article: {title}\n\n{context}\n\nQ: {question}\nA:', '{answer}'),
    Template(
        '{question}\n\nThis paragraph from an article on {title} tells you. Copy out the part '
        'that does.\n\n{context}',
        '{answer}',
    ),
    Template(
        'You may quote nothing but a short phrase from this excerpt, to satisfy somebody who '
        'asks, "{question}"\n\nExcerpt: {context}',
        '{answer}',
    ),
    Template(
        'An expert on {title} has the following page open:\n\n{context}\n\n'
        'Interviewer: {question}\nExpert, in as few words as possible:',
        '{answer}',
    ),
    Template(
        'doing my homework and this is the bit we had to read\n\n{context}\n\n'
        'now they want to know: {question} can you spot it for me?',
        '{answer}',
    ),
    Template(
        'A highlighter pen is to be drawn across the few words that settle a point.\n\n'
        'Point to be settled: {question}\n\nPage:\n{context}\n\nHighlighted:',
        '{answer}',
    ),
    Template(
        'Write something that one could ask about the text below, in such a way that the answer '
        'is "{answer}".\n\n{context}',
        '{question}',
    ),
    Template(
        '{context}\n\nA reader of these lines was heard to reply: "{answer}". To which question?',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='squad_v1',
        cluster='reading_comprehension',
        source=held_back('squad/v1.1:3.0.0', 200),
        fields=squad_v1_fields,
        templates=SQUAD_V1_TEMPLATES,
        continuations=[Template('{context}\n\nQuestion: {question}\nAnswer:', '{answer}')],
        plain='{context}\n{question}',
        metric_fns=[metrics.squad],
        suite=SUITE,
        num_train_examples=87_390,
        citation='Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of '
        'Text',
        licence='CC BY-SA 4.0',
    )
)

UNANSWERABLE = 'unanswerable'


def squad_v2_fields(example):
  """Fields of SQuAD 2.0: where the text does not tell, the answer is 'unanswerable'."""
  answers = tf.cond(
      example['is_impossible'],
      lambda: tf.constant([UNANSWERABLE]),
      lambda: one_line(example['answers']['text']),
  )
  return _squad_fields(example, answers)


SQUAD_V2_TEMPLATES = [
    Template(
        'Answer the question from the text, or write "unanswerable" if the text does not tell.\n\n'
        'Text: {context}\n\nQuestion: {question}',
        '{answer}',
    ),
    Template(
        '{context}\n\n{question} (Should this passage leave it open, say "unanswerable".)',
        '{answer}',
    ),
    Template(
        'Topic: {title}\nSource: {context}\nQuery: {question}\n'
        'Result (put "unanswerable" for want of evidence):',
        '{answer}',
    ),
    Template(
        'Be careful, some of these questions are traps. Where the paragraph is silent, the only '
        'correct response is "unanswerable"; otherwise respond in its own words.\n\n{question}\n\n'
        'Paragraph: {context}',
        '{answer}',
    ),
    Template(
        'I show you a question first and a source afterwards. See if the source deals with it. '
        'Your verdict is either a brief quotation or the single word "unanswerable".\n\n'
        '{question}\n\n{context}',
        '{answer}',
    ),
    Template(
        'Pupil: {question}\nTeacher: Is that in the extract on {title} that I gave you?\n\n'
        '{context}\n\nWhat does the pupil put down, given that "unanswerable" is sometimes the '
        'right thing to put?',
        '{answer}',
    ),
    Template(
        "can you get this out of the snippet below? {question}\nif it isn't in there just go "
        'with unanswerable\n\n{context}',
        '{answer}',
    ),
    Template(
        'Fact sheet on {title}: {context}\n\nUsing the sheet and nothing else, complete this '
        'form.\n\nRequest: {question}\nReply ("unanswerable" where no fact applies):',
        '{answer}',
    ),
    Template(
        'Here is part of an encyclopedia.\n\n{context}\n\nNot all that people would like to know '
        'is covered by it, and for whatever is missing we note "unanswerable". '
        'What do we note for this one?\n\n{question}',
        '{answer}',
    ),
    Template(
        'Examination paper\n\nPart A. {context}\n\nPart B. {question}\n\nFull marks go to the '
        'shortest span of Part A that satisfies Part B, or to "unanswerable" if none exists.',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='squad_v2',
        cluster='reading_comprehension',
        source=held_back('squad/v2.0:3.0.0', 200),
        fields=squad_v2_fields,
        templates=SQUAD_V2_TEMPLATES,
        continuations=[
            Template('{context}\n\nQuestion: {question}\nAnswer, if there is one:', '{answer}'),
        ],
        plain='{context}\n{question}',
        metric_fns=[metrics.squad],
        suite=SUITE,
        num_train_examples=130_110,
        citation="Rajpurkar et al. 2018, Know What You Don't Know: Unanswerable Questions for "
        'SQuAD',
        licence='CC BY-SA 4.0',
    )
)


def _drop_answer(text: tf.Tensor) -> tf.Tensor:
  """TFDS writes dates as '2001-May-9'; DROP's own evaluation reads '9 May 2001'."""
  text = tf.strings.regex_replace(text, r'^(\d*)-([A-Z][a-z]*)-(\d+)$', r'\3 \2 \1')
  return one_line(text)


def drop_fields(example):
  """Fields of DROP; `answers` adds what a second and a third annotator found (test split).

  Of an answer that is a list, TFDS keeps the first item.
  """
  answer = _drop_answer(example['answer'])
  validated = _drop_answer(example['validated_answers'])
  return {
      'passage': one_line(example['passage']),
      'question': one_line(example['question']),
      'answer': answer,
      'answers': tf.concat([[answer], tf.boolean_mask(validated, validated != '')], axis=0),
  }


def has_answer(example):
  """TFDS leaves the answer empty where it is a date without a day."""
  return one_line(example['answer']) != ''


DROP_TEMPLATES = [
    Template('{passage}\n\nWork this out: {question}', '{answer}'),
    Template(
        'The answer to the question may have to be counted, calculated or compared.\n\n'
        'Passage: {passage}\nQuestion: {question}\nAnswer:',
        '{answer}',
    ),
    Template(
        'Here is what I need to know: {question}\n\nAnd here is the report:\n\n{passage}\n\n'
        'Keep to a number, a date, a name or a short phrase.',
        '{answer}',
    ),
    Template(
        'Put together the details given below, and you will be able to solve the riddle at the '
        'end.\n\n{passage}\n\nRiddle: {question}',
        '{answer}',
    ),
    Template(
        'Mia has read the following, and Ravi has not.\n\n{passage}\n\nRavi: {question}\nMia:',
        '{answer}',
    ),
    Template(
        "got a pop quiz and can't do the sums that fast, help?\n\n{question}\n\n"
        "it's about this paragraph\n\n{passage}",
        '{answer}',
    ),
    Template(
        'Arithmetic and reading, combined paper. Go through every line, do any reckoning in your '
        'head, and enter only the outcome.\n\nTask: {question}\n\nLines:\n{passage}\n\nOutcome:',
        '{answer}',
    ),
    Template(
        'Consider the record of events that you are about to see. How would you reply to someone '
        'who wonders, "{question}"\n\n{passage}',
        '{answer}',
    ),
    Template(
        'Set a question on this text that takes some thinking and comes out at "{answer}".\n\n'
        '{passage}',
        '{question}',
    ),
    Template(
        'Solution: {answer}\nTaken from: {passage}\nProblem to which this is the solution:',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='drop',
        cluster='reading_comprehension',
        source=held_back('drop:2.0.0', 200, test='dev'),
        fields=drop_fields,
        filter_fn=has_answer,
        templates=DROP_TEMPLATES,
        continuations=[Template('{passage}\n\nQ: {question}\nA:', '{answer}')],
        metric_fns=[metrics.squad],
        suite=SUITE,
        num_train_examples=77_200,
        citation='Dua et al. 2019, DROP: A Reading Comprehension Benchmark Requiring Discrete '
        'Reasoning Over Paragraphs',
        licence='CC BY-SA 4.0',
    )
)


def openbookqa_fields(example):
  question = example['question']
  options = one_line(tf.stack([question[f'choice_{letter}'] for letter in 'ABCD']))
  return {
      'fact': one_line(example['fact1']),
      'question': one_line(question['stem']),
      'options': options,
      'answer': pick(options, example['answerKey']),
  }


# Many of the questions are sentences to be completed. Facts are clauses without a capital.
OPENBOOKQA_TEMPLATES = [
    Template('It is known that {fact}. With that in mind:\n\n{question}\n\n{options_}', '{answer}'),
    Template('Fact: {fact}\nQuestion: {question}\n{options_}\nAnswer:', '{answer}'),
    Template(
        'Apply what the science book says to a new case.\n\nThe book: {fact}\n\n'
        'The case: {question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nPick one of these to answer the following or, if it breaks off, to complete '
        'it.\n\n{question}\n\nUseful to know: {fact}',
        '{answer}',
    ),
    Template(
        'The principle that {fact} helps with this problem. Solve it.\n\n{question}\n{options_}',
        '{answer}',
    ),
    Template(
        'our teacher just told us "{fact}" and then put this on the board: {question}\n'
        'what should i write?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Open-book test in elementary science\n\n{question}\n\n{options_}\n\n'
        'A sentence found in the book: {fact}\n\nMark the best choice.',
        '{answer}',
    ),
    Template(
        'Once you accept that {fact}, three of the four replies can be ruled out. Which is left?'
        '\n\n{options_}\n\nThey are replies to: {question}',
        '{answer}',
    ),
    Template(
        'Knowing that {fact}, think up a question, or the beginning of a sentence, to which a '
        'clever child would respond with this:\n\n{answer}',
        '{question}',
    ),
    Template(
        'Name, in a single line, the scientific fact by which this exercise is solved.\n\n'
        'Exercise: {question}\nSolution: {answer}',
        '{fact}',
    ),
]

register(
    TaskSpec(
        name='openbookqa',
        cluster='reading_comprehension',
        source=tfds_source('openbookqa:0.1.0', 'train', 'validation[:200]', 'test'),
        fields=openbookqa_fields,
        templates=OPENBOOKQA_TEMPLATES,
        continuations=[
            Template('As we know, {fact}.\n\nQuestion: {question}\nAnswer:', '{answer}', ranks=True),
            Template('{question}', '{answer}', ranks=True),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=4_950,
        citation='Mihaylov et al. 2018, Can a Suit of Armor Conduct Electricity?',
        licence='not stated',
    )
)
