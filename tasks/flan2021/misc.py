"""Cluster `misc`: kinds of questions, acceptable sentences, senses of words, conversations, equations,
and the form of a text."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, numbered, one_line, pick, tfds_source

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
        continuations=[Template('Question: {question}\nKind of answer:', '{answer}', ranks=True)],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=5_250,
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
        'Never mind whether the sentence is true or sensible. Rate its form alone.\n\n'
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
        continuations=[
            Template(
                '{sentence}\n\nBy the rules of English grammar, this sentence is',
                '{answer}',
                ranks=True,
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=8_350,
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
        continuations=[
            Template(
                '{sentence1}\n{sentence2}\n\nIn the two lines above, the word "{word}" has',
                '{answer}',
                ranks=True,
            ),
        ],
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=5_220,
        citation='Pilehvar and Camacho-Collados 2019, WiC; Wang et al. 2019, SuperGLUE',
        licence='CC BY-NC 4.0',
    )
)


def coqa_fields(example):
  """Fields of CoQA: all questions on one story, and all answers, each on a line of its own."""
  return {
      'story': one_line(example['story']),
      'questions': numbered(one_line(example['questions'])),
      'answer': numbered(one_line(example['answers']['input_text'])),
  }


COQA_TEMPLATES = [
    Template(
        '{story}\n\nAnswer each of these questions about the text on a numbered line.\n\n'
        '{questions}',
        '{answer}',
    ),
    Template(
        'Do you know the following?\n{questions}\n\nThe passage below will tell you. Write down '
        'short answers, with their numbers.\n\n{story}',
        '{answer}',
    ),
    Template(
        'Two friends have read this: {story}\n\nOne of them asks:\n{questions}\n\n'
        'What does the other say?',
        '{answer}',
    ),
    Template(
        'You are sitting an oral exam, and the examiner hands you a page.\n\n{story}\n\nThen '
        'comes a series of questions, some of which take up the one before.\n\n{questions}\n\n'
        'Your replies, in order:',
        '{answer}',
    ),
    Template(
        'I read a story to my daughter, and she would not stop asking. Help me out with a list '
        'of quick answers!\n\nThe story: {story}\n\nWhat she wants to know:\n{questions}',
        '{answer}',
    ),
    Template('{questions}\n\nSource: {story}\n\nAnswer key:', '{answer}'),
    Template('Story: {story}\n\nQ:\n{questions}\n\nA:', '{answer}'),
    Template(
        'The conversation that follows lacks one side. Complete it from the text, giving the '
        'missing turns as a list and wasting no words.\n\nText: {story}\n\nConversation:\n'
        '{questions}',
        '{answer}',
    ),
    Template(
        'Dear colleague,\nsince I have no time to read the text enclosed, please deal with these '
        'points one by one.\n{questions}\n\nEnclosed: {story}',
        '{answer}',
    ),
    Template(
        'Someone was interviewed about what is told here.\n\n{story}\n\nOnly the answers were '
        'taken down:\n\n{answer}\n\nReconstruct what the interviewer asked, line by line.',
        '{questions}',
    ),
]

register(
    TaskSpec(
        name='coqa',
        cluster='misc',
        source=tfds_source('coqa:1.0.0', 'train[:-100]', 'train[-100:]', 'test'),
        fields=coqa_fields,
        templates=COQA_TEMPLATES,
        continuations=[Template('{story}\n\nQuestions:\n{questions}\n\nAnswers:', '{answer}')],
        metric_fns=[metrics.squad],
        suite=SUITE,
        num_train_examples=7_090,
        citation='Reddy et al. 2019, CoQA: A Conversational Question Answering Challenge',
        licence='mixed: CC BY-SA 4.0, Apache 2.0, MSR-LA, the terms of RACE',
    )
)


def quac_fields(example):
  """Fields of QuAC; a text ends in CANNOTANSWER, the answer to what it does not tell."""
  answer = one_line(example['orig_answer']['text'])
  references = tf.concat([[answer], one_line(example['answers']['text'])], axis=0)
  return {
      'title': one_line(example['title']),
      'section': one_line(example['section_title']),
      'background': one_line(example['background']),
      'context': one_line(example['context']),
      'question': one_line(example['question']),
      'answer': answer,
      'answers': tf.unique(references).y,
  }


QUAC_TEMPLATES = [
    Template(
        'Article: {title}\nSection: {section}\n\n{context}\n\n{question}\nCopy the answer out of '
        'the section, or write CANNOTANSWER if the section does not give it.',
        '{answer}',
    ),
    Template(
        'A student who may see no more than the introduction asks a teacher who has the whole '
        'text. The teacher replies in the words of the text.\n\nIntroduction: {background}\n'
        'Text: {context}\n\nStudent: {question}\nTeacher:',
        '{answer}',
    ),
    Template(
        '{question}\n\nThis came up in a conversation about {title}. Quote the part of the '
        'following lines that deals with it.\n\n{context}',
        '{answer}',
    ),
    Template(
        'Here is what an encyclopedia has under "{section}" in its entry for {title}:\n\n'
        '{context}\n\nWhich of these words would you read out to a person who asks you this?\n\n'
        '{question}',
        '{answer}',
    ),
    Template(
        'In a chat about {title}, people have got to the subject "{section}". The next message '
        'may hang on earlier ones that you cannot see; go by this page all the same:\n\n'
        '{context}\n\nMessage: {question}\nReply:',
        '{answer}',
    ),
    Template('Context: {context}\nQuestion: {question}\nAnswer:', '{answer}'),
    Template(
        'Exercise: underline whatever responds to the question. Where nothing does, underline '
        'the last word, CANNOTANSWER.\n\nQuestion: {question}\n\nExtract: {context}\n\n'
        'Underlined:',
        '{answer}',
    ),
    Template(
        "I'm reading up on {title}. There is this bit at the start: {background}\n\nAnd later "
        'on there is this: {context}\n\nSo, can you tell me? {question}',
        '{answer}',
    ),
    Template(
        'Text on {title}: {context}\n\nThink of a question that someone might put, to which the '
        'text replies:\n\n{answer}',
        '{question}',
    ),
    Template(
        'Topic: {title} ({section})\nIn general: {background}\nThe expert quotes: {answer}\n'
        'The layman had asked:',
        '{question}',
    ),
]

register(
    TaskSpec(
        name='quac',
        cluster='misc',
        source=held_back('quac:1.0.0', 200),
        fields=quac_fields,
        templates=QUAC_TEMPLATES,
        continuations=[
            Template('{title}\n{section}\n\n{context}\n\nQ: {question}\nA:', '{answer}'),
        ],
        metric_fns=[metrics.trivia_qa],
        suite=SUITE,
        num_train_examples=83_360,
        citation='Choi et al. 2018, QuAC: Question Answering in Context',
        licence='CC BY-SA 4.0',
    )
)


def math_dataset_fields(example):
  """Fields: 'Solve 2*x = 6 for x.' is taken apart into the equation and the variable."""
  question = one_line(example['question'])
  parts = r'Solve (.*) for (\w+)\.'
  return {
      'question': question,
      'equation': tf.strings.regex_replace(question, parts, r'\1'),
      'variable': tf.strings.regex_replace(question, parts, r'\2'),
      'answer': one_line(example['answer']),
  }


MATH_DATASET_TEMPLATES = [
    Template('{question} Give the result without the working.', '{answer}'),
    Template('What number does {variable} stand for, if {equation}?', '{answer}'),
    Template('{equation}\n\nFind {variable}.', '{answer}'),
    Template(
        'Work out the unknown in this equation and write down nothing but its value.\n\n'
        '{equation}',
        '{answer}',
    ),
    Template(
        'Maths homework\n\nGiven: {equation}\nTo be determined: {variable}\nResult:',
        '{answer}',
    ),
    Template(
        "I'm stuck. It says here that {equation} and they ask me what {variable} is. "
        'What do I put?',
        '{answer}',
    ),
    Template(
        'For which integer {variable} do the two sides come to the same?\n\n{equation}',
        '{answer}',
    ),
    Template(
        'Teacher: {question} Who can do it in their head?\nPupil: I can! The solution is',
        '{answer}',
    ),
    Template(
        'Collect the terms in {variable} on one side and the constants on the other. After '
        'dividing, what are you left with on the right?\n\n{equation}',
        '{answer}',
    ),
    Template(
        'Make up a linear equation with one unknown, {variable}, that holds only if the unknown '
        'equals {answer}.',
        '{equation}',
    ),
]

register(
    TaskSpec(
        name='math_dataset',
        cluster='misc',
        source=held_back('math_dataset/algebra__linear_1d:1.0.0', 200, test='test'),
        fields=math_dataset_fields,
        templates=MATH_DATASET_TEMPLATES,
        continuations=[Template('{equation}\n{variable} =', '{answer}')],
        plain='{equation}',
        metric_fns=[metrics.accuracy],
        suite=SUITE,
        num_train_examples=1_999_780,
        citation='Saxton et al. 2019, Analysing Mathematical Reasoning Abilities of Neural Models',
        licence='Apache 2.0',
    )
)


def _without_capitals(text: tf.Tensor) -> tf.Tensor:
  return tf.strings.lower(text, encoding='utf-8')


def true_case_fields(example):
  text = one_line(example['en'])
  return {'lower': _without_capitals(text), 'answer': text}


def has_capitals(example):
  text = one_line(example['en'])
  return _without_capitals(text) != text


TRUE_CASE_TEMPLATES = [
    Template('Put the capital letters back into this text.\n\n{lower}', '{answer}'),
    Template(
        '{lower}\n\nWrite the above once more, using upper case wherever English spelling '
        'requires it.',
        '{answer}',
    ),
    Template('All small: {lower}\nMixed case:', '{answer}'),
    Template(
        'The shift key on my laptop is broken, so this is the best I can type:\n\n{lower}\n\n'
        'Please send it back to me the way it should look.',
        '{answer}',
    ),
    Template(
        'A program for dictation wrote down what it heard, but it knows nothing of capitals. '
        'Mend names, headings, abbreviations and the beginnings of sentences.\n\n{lower}',
        '{answer}',
    ),
    Template('How would a careful writer capitalise the following?\n\n{lower}', '{answer}'),
    Template(
        'Proofreading. Correct the case of letters and leave everything else alone.\n\n'
        'Draft: {lower}\nFinal:',
        '{answer}',
    ),
    Template(
        'Some of the letters in the next line ought to be big. Copy it and make them so.\n\n'
        '{lower}',
        '{answer}',
    ),
    Template(
        'ugh, somebody ran lower() on my file and now it says\n\n{lower}\n\ncan you undo that?',
        '{answer}',
    ),
    Template('Rewrite this without a single capital.\n\n{answer}', '{lower}'),
]

register(
    TaskSpec(
        name='true_case',
        cluster='misc',
        source=tfds_source(
            'para_crawl/enda:1.2.0', 'train[:30000]', 'train[30000:30200]', 'train[-3000:]'
        ),
        fields=true_case_fields,
        filter_fn=has_capitals,
        templates=TRUE_CASE_TEMPLATES,
        continuations=[Template('Without capitals: {lower}\nWith capitals:', '{answer}')],
        metric_fns=[metrics.edit_distance],
        suite=SUITE,
        num_train_examples=29_260,
        citation='Esplà et al. 2019, ParaCrawl',
        licence='CC0 1.0 (the collection, not the texts)',
    )
)


def _without_punctuation(text: tf.Tensor) -> tf.Tensor:
  """Keeps letters and digits of any script."""
  return one_line(tf.strings.regex_replace(text, r'[^\p{L}\p{M}\p{N}_\s]', ''))


def fix_punct_fields(example):
  text = one_line(example['en'])
  return {'no_punct': _without_punctuation(text), 'answer': text}


def has_punctuation(example):
  """Whether there is punctuation in the text, and something else besides."""
  text = one_line(example['en'])
  rest = _without_punctuation(text)
  return (rest != text) & (rest != '')


FIX_PUNCT_TEMPLATES = [
    Template('The punctuation here has been lost. Supply it.\n\n{no_punct}', '{answer}'),
    Template(
        '{no_punct}\n\nCopy out these words and add the commas, full stops and other signs that '
        'belong among them.',
        '{answer}',
    ),
    Template('Unpunctuated: {no_punct}\nPunctuated:', '{answer}'),
    Template(
        'This reached us as a telegram, in a single breath. Set it as it would stand in a '
        'newspaper.\n\n{no_punct}',
        '{answer}',
    ),
    Template(
        'Where would you pause, ask, exclaim or quote if you had to read this aloud? Show it '
        'with the usual marks.\n\n{no_punct}',
        '{answer}',
    ),
    Template(
        'I never know where commas go, so I left them all out. Would you fix that for me?\n\n'
        '{no_punct}',
        '{answer}',
    ),
    Template(
        'English paper, question 4. Insert any punctuation that is missing, hyphens and '
        'apostrophes included. Do not touch words or capitals.\n\nGiven: {no_punct}\n'
        'Your version:',
        '{answer}',
    ),
    Template(
        'A scanner skipped every symbol that was neither a letter nor a digit. It read '
        '"{no_punct}", but what must have been printed on the page?',
        '{answer}',
    ),
    Template(
        'Subtitles come in like this:\n\n{no_punct}\n\nMake them fit for the screen, properly '
        'punctuated.',
        '{answer}',
    ),
    Template('Strip the punctuation from what follows.\n\n{answer}', '{no_punct}'),
]

register(
    TaskSpec(
        name='fix_punct',
        cluster='misc',
        source=tfds_source(
            'para_crawl/enda:1.2.0', 'train[30200:60200]', 'train[60200:60400]', 'train[-3000:]'
        ),
        fields=fix_punct_fields,
        filter_fn=has_punctuation,
        templates=FIX_PUNCT_TEMPLATES,
        continuations=[Template('Without punctuation: {no_punct}\nWith punctuation:', '{answer}')],
        metric_fns=[metrics.edit_distance],
        suite=SUITE,
        num_train_examples=28_070,
        citation='Esplà et al. 2019, ParaCrawl',
        licence='CC0 1.0 (the collection, not the texts)',
    )
)


def word_segment_fields(example):
  text = one_line(example['en'])
  return {'no_space': tf.strings.regex_replace(text, ' ', ''), 'answer': text}


WORD_SEGMENT_TEMPLATES = [
    Template('Break this string up into words.\n\n{no_space}', '{answer}'),
    Template('{no_space}\n\nWhat does it say? Leave gaps between the words.', '{answer}'),
    Template('Run together: {no_space}\nSpaced out:', '{answer}'),
    Template(
        "My space bar doesn't work any more. What did I mean to type just now?\n\n{no_space}",
        '{answer}',
    ),
    Template(
        'Scribes of antiquity wrote without interruption, and so is this line written. '
        'Transcribe it for modern readers.\n\n{no_space}',
        '{answer}',
    ),
    Template(
        'Segment the input at word boundaries by inserting single blanks; alter no character '
        'of it.\n\nInput: {no_space}\nOutput:',
        '{answer}',
    ),
    Template(
        'can you make any sense of this?\n\n{no_space}\n\nif so please write it properly for me',
        '{answer}',
    ),
    Template(
        'Someone copied a sentence from a PDF, and all the white space vanished on the way.\n\n'
        'Result: {no_space}\n\nRecover the original.',
        '{answer}',
    ),
    Template(
        'Puzzle corner: find out where one word stops and the next one begins.\n\n{no_space}\n\n'
        'Solution:',
        '{answer}',
    ),
    Template('Delete every space.\n\n{answer}', '{no_space}'),
]

register(
    TaskSpec(
        name='word_segment',
        cluster='misc',
        source=tfds_source(
            'para_crawl/enda:1.2.0', 'train[60400:90400]', 'train[90400:90600]', 'train[-3000:]'
        ),
        fields=word_segment_fields,
        templates=WORD_SEGMENT_TEMPLATES,
        continuations=[Template('Without spaces: {no_space}\nWith spaces:', '{answer}')],
        metric_fns=[metrics.edit_distance],
        suite=SUITE,
        num_train_examples=30_000,
        citation='Esplà et al. 2019, ParaCrawl',
        licence='CC0 1.0 (the collection, not the texts)',
    )
)
