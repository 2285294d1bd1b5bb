"""Cluster `nli`: does one text follow from another?"""

from __future__ import annotations

from flanjax.data import TaskSpec, Template, metrics, postprocessors, register
from flanjax.tasks.flan2021._common import SUITE, held_back, labels, one_line, pick, tfds_source

RTE_OPTIONS, RTE_WORDS = ['yes', 'no'], ['true', 'false']
CB_OPTIONS, CB_WORDS = ['Yes', 'No', "It's impossible to say"], ['true', 'false', 'uncertain']
WNLI_OPTIONS, WNLI_WORDS = ['no', 'yes'], ['wrong', 'right']


def rte_fields(example):
  return {
      'premise': one_line(example['premise']),
      'hypothesis': one_line(example['hypothesis']),
      **labels(RTE_OPTIONS, example['label'], RTE_WORDS),
  }


RTE_TEMPLATES = [
    Template(
        '{premise}\n\nGoing only by the text above, can you be certain of what comes next?\n\n'
        '{hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Read a passage and then a claim. Does anyone who believes the passage have to accept '
        'the claim as well?\n\nPassage: {premise}\n\nClaim: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Claim: {hypothesis}\n\nEvidence: {premise}\n\n'
        'Is the evidence enough to establish the claim?\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nReply with one of the options above. A news report says: {premise}\n\n'
        'Does that establish the following? {hypothesis}',
        '{answer}',
    ),
    Template(
        'Statement to check: {hypothesis}\n{options_}\n\nUse nothing but the following source '
        'to decide whether the statement holds.\n\n{premise}',
        '{answer}',
    ),
    Template(
        'I read this in the paper:\n\n{premise}\n\nA friend who had read it too said to me:\n\n'
        '{hypothesis}\n\nDoes the report bear my friend out?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Premise: {premise}\nHypothesis: {hypothesis}\n{options_}\n'
        'Does the premise entail the hypothesis? Answer:',
        '{answer}',
    ),
    Template(
        'You are checking facts for a magazine, and you have a single source.\n\n'
        'Source: {premise}\nSentence to be printed: {hypothesis}\n\n'
        'Does the source back the sentence up?\n{options_}',
        '{answer}',
    ),
    Template(
        'Do you agree that the first of these texts proves the second?\n\n'
        '1. {premise}\n\n2. {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Here is a text:\n\n{premise}\n\nWrite one short sentence. If I ask whether it '
        'follows from the text, the correct reply should be "{answer}".',
        '{hypothesis}',
    ),
]

register(
    TaskSpec(
        name='rte',
        cluster='nli',
        source=held_back('super_glue/rte:1.0.2', 200),
        fields=rte_fields,
        templates=RTE_TEMPLATES,
        continuations=[
            Template(
                '{premise}\n\nQ: Do we know from this that the following is so? {hypothesis}\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                'Text: {premise}\nStatement: {hypothesis}\nGiven the text, the statement is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=2_290,
        citation='Recognising Textual Entailment 1, 2, 3 and 5; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def cb_fields(example):
  return {
      'premise': one_line(example['premise']),
      'hypothesis': one_line(example['hypothesis']),
      **labels(CB_OPTIONS, example['label'], CB_WORDS),
  }


# The hypotheses are clauses: no capital at the start, no stop at the end.
CB_TEMPLATES = [
    Template(
        '{premise}\n\nJudging by what is said here, is it the case that {hypothesis}?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Extract: {premise}\n\nA reader of this extract concludes that {hypothesis}. '
        'Is that reader right?\n{options_}',
        '{answer}',
    ),
    Template(
        'Question: having read the text below, would you say that {hypothesis}?\n\n'
        'Text: {premise}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'You will see a text and a remark. Choose "Yes" if whoever produced the text stands by '
        'the remark, "No" if the text rules the remark out, and "It\'s impossible to say" if it '
        'leaves the matter open.\n\nText: {premise}\nRemark: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of these three is the answer to the question at the end?\n\n'
        '{premise}\n\nIs it true, then, that {hypothesis}?',
        '{answer}',
    ),
    Template(
        'Premise: {premise}\nHypothesis: {hypothesis}\n{options_}\n'
        'Is the hypothesis true, given the premise?',
        '{answer}',
    ),
    Template(
        'This is all I have, a few lines from the middle of something longer:\n\n{premise}\n\n'
        'Can you tell me whether {hypothesis}?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'A colleague has noted down that {hypothesis}. Is the note correct?\n\n'
        'Consult only these lines: {premise}\n\n{options_}\n\nYour verdict:',
        '{answer}',
    ),
    Template(
        'Somebody wants to know if {hypothesis}. The passage that follows may settle the '
        'question one way or the other, or it may not. What do you tell them?\n\n{premise}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Context: {premise}\n\nSomething is missing from the question "Is it true that ...?" '
        'Fill the gap so that, in this context, the answer is "{answer}". '
        'Give the missing words only.',
        '{hypothesis}',
    ),
]

register(
    TaskSpec(
        name='cb',
        cluster='nli',
        source=held_back('super_glue/cb:1.0.2', 50),
        fields=cb_fields,
        templates=CB_TEMPLATES,
        continuations=[
            Template(
                '{premise}\n\nQ: So is it the case that {hypothesis}?\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                '{premise}\n\nTo go by this, the claim that {hypothesis} is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy, metrics.mean_3class_f1],
        postprocess_fn=postprocessors.label_ids(CB_OPTIONS, CB_WORDS),
        suite=SUITE,
        num_train_examples=200,
        citation='de Marneffe et al. 2019, The CommitmentBank; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)


def wnli_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      **labels(WNLI_OPTIONS, example['label'], WNLI_WORDS),
  }


WNLI_TEMPLATES = [
    Template(
        '{sentence1}\n\nWith that in mind, would you call this sentence correct? {sentence2}\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Sentence A: {sentence1}\nSentence B: {sentence2}\n\nSentence B tries to say part of '
        'sentence A more plainly. Has it got the people and things the right way round?\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Story: {sentence1}\n\nHow a child retold it: {sentence2}\n\n'
        'Had the child understood the story?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Suppose that line 1 is correct. Must line 2 be correct too?\n\n'
        '1. {sentence1}\n2. {sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nOne of these is your answer. We are told: {sentence1}\n\n'
        'Does that amount to saying the following? {sentence2}',
        '{answer}',
    ),
    Template(
        'Conclusion: {sentence2}\nGrounds: {sentence1}\n{options_}\n'
        'Do the grounds justify the conclusion?',
        '{answer}',
    ),
    Template(
        'Someone wrote: {sentence1}\nI would put it like this: {sentence2}\n'
        'Is that what the writer meant?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Reading test. Study the text and mark the statement.\n\nText: {sentence1}\n'
        'Statement: {sentence2}\n{options_}\nIs the statement correct?',
        '{answer}',
    ),
    Template(
        'Think about who or what each pronoun stands for in this text:\n\n{sentence1}\n\n'
        'Would it be fair to claim the following?\n\n{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'If I know the first of these things, do I know the second one as well?\n\n'
        'First: {sentence1}\nSecond: {sentence2}\n\n{options_}\n\nAnswer:',
        '{answer}',
    ),
]

register(
    TaskSpec(
        name='wnli',
        cluster='nli',
        source=held_back('glue/wnli:2.0.0', 30),
        fields=wnli_fields,
        templates=WNLI_TEMPLATES,
        continuations=[
            Template(
                '{sentence1}\nQ: Does it follow that this is so? {sentence2}\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                '{sentence1}\nThat is to say: {sentence2}\nPut like that, it is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        # 324 of the 362 first sentences are texts of super_glue/wsc, training and validation
        # mixed, with the same thing asked of them. FLAN trains on one and tests on the other.
        lineage=['winograd_schema'],
        overlaps=['wsc'],
        num_train_examples=600,
        citation='Levesque et al. 2012, The Winograd Schema Challenge; Wang et al. 2019, GLUE',
        licence='not stated',
    )
)


ANLI_OPTIONS = ['Yes', "It's impossible to say", 'No']
# SNLI has the same options.
MNLI_OPTIONS = ['yes', 'it is not possible to tell', 'no']
THREE_WORDS = ['true', 'uncertain', 'false']
QNLI_OPTIONS = ['yes', 'no']


def anli_fields(example):
  return {
      'context': one_line(example['context']),
      'hypothesis': one_line(example['hypothesis']),
      **labels(ANLI_OPTIONS, example['label'], THREE_WORDS),
  }


ANLI_TEMPLATES = [
    Template(
        '{context}\n\nTaking this for granted and assuming no more than it says, would you '
        'call the sentence below true?\n\n{hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Statement: {hypothesis}\n\nBackground: {context}\n\n'
        'Is the statement true, to judge by the background?\n{options_}',
        '{answer}',
    ),
    Template(
        'Beware: the line at the end was written to catch out careless readers. Go through the '
        'paragraph slowly before you say whether the line is correct.\n\n{context}\n\n'
        'Line: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nThese are the possible replies in a quiz for people who have just read '
        'something. What they read was this:\n\n{context}\n\nThe quiz asks: right or not? '
        '{hypothesis}',
        '{answer}',
    ),
    Template(
        'The class reads this text aloud: {context}\nTeacher: What have we learnt?\n'
        'Pupil: {hypothesis}\nTeacher: Is that right, everybody?\n{options_}',
        '{answer}',
    ),
    Template(
        'Text:\n{context}\n\nProposition:\n{hypothesis}\n\nConfirm the proposition with '
        '"Yes" or refute it with "No"; where the text permits neither, reply "It\'s impossible '
        'to say".\n\n{options_}',
        '{answer}',
    ),
    Template(
        'could you have a look at this for me? {context}\n\n'
        'what i get out of it: {hypothesis}\n\nam i right?\n{options_}',
        '{answer}',
    ),
    Template(
        'Paragraph: {context}\nAssertion: {hypothesis}\n{options_}\nIs the assertion correct?',
        '{answer}',
    ),
    Template(
        'You sit on a jury, and one exhibit is all the evidence there is.\n\n'
        'Counsel asserts: {hypothesis}\nThe exhibit reads: {context}\n\n'
        'Do you find that counsel has told the truth?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Compose a sentence about the extract that follows. Anyone who wonders if your sentence '
        'is true, and has only the extract to consult, must arrive at "{answer}".\n\n{context}',
        '{hypothesis}',
    ),
]

for level, size in (('r1', 16_940), ('r2', 45_460), ('r3', 100_450)):
  register(
      TaskSpec(
          name=f'anli_{level}',
          cluster='nli',
          source=tfds_source(f'anli/{level}:0.1.0', 'train', 'validation[:200]', 'test'),
          fields=anli_fields,
          templates=ANLI_TEMPLATES,
          continuations=[
              Template(
                  '{context}\n\nQ: Is it correct to say this? {hypothesis}\nA:',
                  '{answer}',
                  ranks=True,
              ),
              Template(
                  'Context: {context}\nClaim: {hypothesis}\nIn this context, the claim is',
                  '{answer_word}',
                  ranks=True,
                  suffix='_word',
              ),
          ],
          metric_fns=[metrics.accuracy],
          suite=SUITE,
          num_train_examples=size,
          citation='Nie et al. 2020, Adversarial NLI',
          licence='CC BY-NC 4.0',
      )
  )


def mnli_fields(example):
  return {
      'premise': one_line(example['premise']),
      'hypothesis': one_line(example['hypothesis']),
      **labels(MNLI_OPTIONS, example['label'], THREE_WORDS),
  }


# Premises come from speech as well as from print.
MNLI_TEMPLATES = [
    Template(
        '{premise}\n\nIf that is so, is the following so as well?\n\n{hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Somebody says: {premise}\nWould the same person also say yes to this? {hypothesis}\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'First line: {premise}\nSecond line: {hypothesis}\n\nWrite "yes" if the first line '
        'guarantees the second, "no" if it excludes the second, and "it is not possible to '
        'tell" if it does neither.\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nAnswer with an item from this list. All that you know of some situation '
        'is this:\n\n{premise}\n\nIs a stranger who adds the following telling the truth?\n\n'
        '{hypothesis}',
        '{answer}',
    ),
    Template('Hypothesis: {hypothesis}\nPremise: {premise}\n{options_}\nVerdict:', '{answer}'),
    Template(
        'Here is a scrap of writing, or it may be of talk:\n\n{premise}\n\nI gather from it '
        'something else:\n\n{hypothesis}\n\nAm I right about that?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Comprehension, part B. Mark the numbered sentence on the strength of the extract '
        'alone; knowledge from elsewhere does not count.\n\nExtract: {premise}\n'
        '(1) {hypothesis}\n\nIs sentence (1) accurate?\n{options_}',
        '{answer}',
    ),
    Template(
        'A detective has a single note to go on.\n\nThe note: {premise}\n'
        'Her assistant concludes: {hypothesis}\n\nIs he right?\n{options_}',
        '{answer}',
    ),
    Template(
        'ok so this is what they told me: {premise}\nand now i wonder: {hypothesis}\n'
        'true?\n{options_}',
        '{answer}',
    ),
    Template(
        'Original text: {premise}\nReply to "Is the new sentence true as well?": {answer}\n'
        'New sentence:',
        '{hypothesis}',
    ),
]

for name in ('mnli_matched', 'mnli_mismatched'):
  register(
      TaskSpec(
          name=name,
          cluster='nli',
          source=held_back('glue/mnli:2.0.0', 200, test=name.replace('mnli', 'validation')),
          fields=mnli_fields,
          templates=MNLI_TEMPLATES,
          continuations=[
              Template(
                  '{premise}\nQ: Is this so as well? {hypothesis}\nA:',
                  '{answer}',
                  ranks=True,
              ),
              Template(
                  'Known: {premise}\nRumoured: {hypothesis}\nFrom what is known, the rumour is',
                  '{answer_word}',
                  ranks=True,
                  suffix='_word',
              ),
          ],
          metric_fns=[metrics.accuracy],
          suite=SUITE,
          num_train_examples=392_500,
          citation='Williams et al. 2018, MultiNLI; Wang et al. 2019, GLUE',
          licence="mixed: OANC's licence, CC BY 3.0, CC BY-SA 3.0, public domain",
      )
  )


def qnli_fields(example):
  return {
      'question': one_line(example['question']),
      'sentence': one_line(example['sentence']),
      'options': QNLI_OPTIONS,
      'answer': pick(QNLI_OPTIONS, example['label']),
  }


QNLI_TEMPLATES = [
    Template(
        'Question: {question}\nSentence: {sentence}\n\n'
        'Does the sentence contain the answer to the question?\n{options_}',
        '{answer}',
    ),
    Template(
        '{sentence}\n\nCould someone who has learnt this, and nothing else, tell you the answer '
        'to what comes next?\n\n{question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'I wanted to find this out: {question}\nMy search turned up this: {sentence}\n'
        'Can I stop searching?\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nPick one of the two. A pupil is told to underline the line of a text '
        'that answers\n\n{question}\n\nand underlines\n\n{sentence}\n\nIs that the right place?',
        '{answer}',
    ),
    Template(
        'Host: {question}\nGuest: {sentence}\n\nHas the host been given the information asked '
        'for, or has the guest talked about something else? Say "yes" for the former.\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Requested: {question}\nDelivered: {sentence}\n{options_}\nRequest met:',
        '{answer}',
    ),
    Template(
        'A good reference settles the query that it is attached to; a poor one merely mentions '
        'the same names. Is this reference good?\n\n{options_}\n\nQuery: {question}\n'
        'Reference: {sentence}',
        '{answer}',
    ),
    Template('{question}\n\n{sentence}\n\nNow do we know?\n{options_}', '{answer}'),
    Template(
        'Imagine that a whole article has been blotted out apart from\n\n{sentence}\n\n'
        'A reader turns to this page with one thing in mind:\n\n{question}\n\n'
        'Will the reader be able to work it out?\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Come up with a question on the topic of this sentence: {sentence}\n'
        'Answered by the sentence itself: {answer}',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='qnli',
        cluster='nli',
        source=held_back('glue/qnli:2.0.0', 200),
        fields=qnli_fields,
        templates=QNLI_TEMPLATES,
        continuations=[
            Template(
                '{sentence}\n\nQ: Does that tell us the answer to what follows? {question}\nA:',
                '{answer}',
                ranks=True,
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=104_540,
        citation='Rajpurkar et al. 2016, SQuAD; Wang et al. 2019, GLUE',
        licence='CC BY-SA 4.0',
    )
)


def has_gold_label(example):
  """Pairs on which the annotators did not agree have the label -1."""
  return example['label'] >= 0


# Premises are captions of photographs.
SNLI_TEMPLATES = [
    Template(
        'A photograph has this caption: {premise}\nSomebody proposes another: {hypothesis}\n\n'
        'Does the proposed caption fit the photograph?\n{options_}',
        '{answer}',
    ),
    Template(
        'Picture the scene: {premise}\n\nIs this part of what is going on there? {hypothesis}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        '{premise}\n\nIn those circumstances, can one affirm what comes next, or deny it?\n\n'
        '{hypothesis}\n\nAffirm it with "yes", deny it with "no", and where you can do neither, '
        'admit that "it is not possible to tell".\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of these should an officer write in the last box of the form?\n\n'
        'Witness reports: {premise}\nTo be verified: {hypothesis}\nVerified:',
        '{answer}',
    ),
    Template(
        'A blind friend wants to hear what is in a picture. I tell her: {premise}\n'
        'She says: {hypothesis}\nHas she got the right idea?\n\n{options_}',
        '{answer}',
    ),
    Template('Seen: {premise}\nClaimed: {hypothesis}\n{options_}\nClaim true?', '{answer}'),
    Template(
        'Planned for the next shot of our film: {premise}\n\nThe crew would like to know if the '
        'public is going to see this: {hypothesis}\n\nWhat should they be told?\n{options_}',
        '{answer}',
    ),
    Template(
        '{hypothesis}\n\nThat is what I would like to be sure of. The only thing I have heard, '
        'though, is this:\n\n{premise}\n\nWell, is it so?\n{options_}',
        '{answer}',
    ),
    Template(
        'Compare two descriptions of one moment. Granted that number 1 is faithful, is number 2 '
        'faithful too?\n\n1: {premise}\n2: {hypothesis}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'You cannot see the photo, but you are told what it shows: {premise}\n\nMake a short '
        'statement about the photo. When others check it against what you were told, their '
        'verdict on whether it is true should be "{answer}".',
        '{hypothesis}',
    ),
]

register(
    TaskSpec(
        name='snli',
        cluster='nli',
        source=tfds_source('snli:1.1.0', 'train', 'validation[:200]', 'test'),
        fields=mnli_fields,
        filter_fn=has_gold_label,
        templates=SNLI_TEMPLATES,
        continuations=[
            Template(
                '{premise}\nQ: Is this what one sees there? {hypothesis}\nA:',
                '{answer}',
                ranks=True,
            ),
            Template(
                'In the picture: {premise}\nSaid of it: {hypothesis}\nWhat is said is',
                '{answer_word}',
                ranks=True,
                suffix='_word',
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=549_360,
        citation='Bowman et al. 2015, the Stanford NLI corpus',
        licence='CC BY-SA 4.0',
    )
)
