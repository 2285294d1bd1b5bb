"""Cluster `misc`: kinds of questions, acceptable sentences, senses of words."""

from __future__ import annotations

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line, pick, tfds_source

TREC_OPTIONS = ['description', 'entity', 'abbreviation', 'human', 'numeric', 'location']
COLA_OPTIONS = ['unacceptable', 'acceptable']
WIC_OPTIONS = ['different meanings', 'the same meaning']


def trec_fields(example):
  return {
      'question': one_line(example['text']),
      'options': TREC_OPTIONS,
      'answer': pick(TREC_OPTIONS, example['label-coarse']),
  }


TREC_TEMPLATES = [
    Template(
        'Question: {question}\n\nWhat kind of thing would answer it?\n{options_}',
        '{answer}',
    ),
    Template(
        'Sort this question by the type of reply that it calls for.\n\n{question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        '{options_}\n\nThose are the labels on six drawers. Into which drawer does the next '
        'question go, if questions are kept by the sort of information they ask for?\n\n'
        '{question}',
        '{answer}',
    ),
    Template(
        'Somebody asks: {question}\nAre they after a person, a place, a number, an explanation, '
        'a short form of words, or a thing of some other kind? Give the label that matches.\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Before a search engine starts to look for an answer, it has to know what to expect.\n\n'
        'Query: {question}\n{options_}\nType of answer to expect:',
        '{answer}',
    ),
    Template(
        '{question}\n\nDo not answer this question. Only name the class to which the answer '
        'belongs.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Label the question with its category: human (people and groups of people), location '
        '(places), numeric (amounts, dates and other numbers), abbreviation (short forms and '
        'what they stand for), description (definitions, reasons, explanations) or entity '
        '(anything else that has a name).\n\nQuestion: {question}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'A quiz master sorts her cards into piles, according to what the players will have to '
        'come up with. On which pile should she lay this card?\n\n{options_}\n\nCard: {question}',
        '{answer}',
    ),
    Template(
        'i typed "{question}" into the box. what sort of answer am i going to get?\n{options_}',
        '{answer}',
    ),
    Template(
        'Make up a trivia question. The type of its answer has to be: {answer}',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='trec',
        cluster='misc',
        source=tfds_source('trec:1.0.0', 'train[:-200]', 'train[-200:]', 'test'),
        fields=trec_fields,
        templates=TREC_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        citation='Li and Roth 2002, Learning Question Classifiers',
        licence='not stated',
    )
)


def cola_fields(example):
  return {
      'sentence': one_line(example['sentence']),
      'options': COLA_OPTIONS,
      'answer': pick(COLA_OPTIONS, example['label']),
  }


COLA_TEMPLATES = [
    Template(
        '{sentence}\n\nCould a native speaker of English have said this without a slip of the '
        'tongue? If so, call it acceptable; otherwise, unacceptable.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'For a study of grammar, people are asked to judge example sentences. '
        'How do you judge this one?\n\n{sentence}\n\n{options_}',
        '{answer}',
    ),
    Template('Sentence: {sentence}\n{options_}\nGrammar:', '{answer}'),
    Template(
        '{options_}\n\nWhich of these words describes the English of the line below?\n\n'
        '{sentence}',
        '{answer}',
    ),
    Template(
        'As long as nothing is wrong with the way it is put together, a teacher lets a sentence '
        'stand and marks it acceptable. How would this one be marked?\n\n{sentence}\n\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Say this to yourself and trust your ear: {sentence}\nAs a sentence of English, it is\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        'Never mind whether the sentence is true or sensible. Is it well formed?\n\n'
        '{options_}\n\n{sentence}\n\nAnswer:',
        '{answer}',
    ),
    Template(
        'I am still learning English and wrote the following.\n\n{sentence}\n\n'
        'Does it break any rule of grammar? If it does, say "unacceptable".\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Books on syntax are full of short sentences made up to show what one can say in a '
        'language, and what one cannot. Make up one that is {answer}.',
        '{sentence}',
    ),
    Template('Rating by native speakers: {answer}\nThe sentence that they rated:', '{sentence}'),
]

register(
    TaskSpec(
        name='cola',
        cluster='misc',
        source=held_back('glue/cola:2.0.0', 200),
        fields=cola_fields,
        templates=COLA_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        citation='Warstadt et al. 2019, Neural Network Acceptability Judgments; '
        'Wang et al. 2019, GLUE',
        licence='not stated',
    )
)


def wic_fields(example):
  return {
      'sentence1': one_line(example['sentence1']),
      'sentence2': one_line(example['sentence2']),
      'word': one_line(example['word']),
      'options': WIC_OPTIONS,
      'answer': pick(WIC_OPTIONS, example['label']),
  }


WIC_TEMPLATES = [
    Template(
        '1. {sentence1}\n2. {sentence2}\n\nIn these two sentences, "{word}" has\n{options_}',
        '{answer}',
    ),
    Template(
        'A dictionary numbers the senses of a word. Would it give the two uses of "{word}" '
        'below two numbers, since they have different meanings, or a single number, since they '
        'have the same meaning?\n\n{sentence1}\n{sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Word: {word}\nFirst use: {sentence1}\nSecond use: {sentence2}\n{options_}\nVerdict:',
        '{answer}',
    ),
    Template(
        '{options_}\n\nWhich of these do you find when you compare how the word "{word}" is '
        'used here and there?\n\nHere: {sentence1}\nThere: {sentence2}',
        '{answer}',
    ),
    Template(
        'I am learning English and keep running into "{word}". Today I saw it twice:\n\n'
        '{sentence1}\n{sentence2}\n\nWhat did I see, different meanings or the same meaning?\n'
        '{options_}',
        '{answer}',
    ),
    Template(
        '{sentence1}\n\nNow the same word, "{word}", in other company:\n\n{sentence2}\n\n'
        'Has its sense changed on the way? Answer "different meanings" if it has and '
        '"the same meaning" if it has not.\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Imagine a language with a separate word for every sense of "{word}". A translator '
        'into it needs to know whether these lines show the English word with different '
        'meanings or with the same meaning.\n\n{options_}\n\n{sentence1}\n{sentence2}',
        '{answer}',
    ),
    Template(
        'Same word, same idea? Compare "{word}" in A with "{word}" in B.\n\n'
        'A: {sentence1}\nB: {sentence2}\n{options_}\nResult:',
        '{answer}',
    ),
    Template(
        'Somebody explains "{word}" to a child by means of the first sentence. Would the '
        'explanation also serve for the second, because the word keeps the same meaning, or '
        'not, because there are different meanings at work?\n\nFirst: {sentence1}\n'
        'Second: {sentence2}\n\n{options_}',
        '{answer}',
    ),
    Template(
        'Here is a sentence with the word "{word}" in it:\n\n{sentence1}\n\nWrite another, so '
        'that the pair shows the word with {answer}.',
        '{sentence2}',
    ),
]

register(
    TaskSpec(
        name='wic',
        cluster='misc',
        source=held_back('super_glue/wic:1.0.2', 200),
        fields=wic_fields,
        templates=WIC_TEMPLATES,
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        citation='Pilehvar and Camacho-Collados 2019, WiC; Wang et al. 2019, SuperGLUE',
        licence='not stated',
    )
)
