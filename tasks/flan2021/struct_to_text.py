"""Cluster `struct_to_text`: data in, sentences out."""

from __future__ import annotations

import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, register
from flanjax.tasks.flan2021._common import SUITE, held_back, one_line


def gem_references(example):
  """`answer` and `answers` of a GEM dataset; training examples have one reference."""
  target = one_line(example['target'])
  references = tf.concat([[target], one_line(example['references'])], axis=0)
  return {'answer': target, 'answers': tf.unique(references).y}


def common_gen_fields(example):
  """Fields of CommonGen; only examples for evaluation have more than one reference."""
  concepts = example['concepts']
  return {
      'concepts': tf.strings.reduce_join(concepts, separator=', '),
      'bullets': tf.strings.join(['- ', tf.strings.reduce_join(concepts, separator='\n- ')]),
      'count': tf.strings.as_string(tf.size(concepts)),
      **gem_references(example),
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
        continuations=[Template('Words: {concepts}\nSentence:', '{answer}')],
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        num_train_examples=67_180,
        citation='Lin et al. 2020, CommonGen; Gehrmann et al. 2021, the GEM Benchmark',
        licence='MIT',
    )
)


def in_a_row_and_listed(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """['a', 'b'] -> ('a; b', '- a\\n- b')."""
  join = tf.strings.reduce_join
  return join(texts, separator='; '), tf.strings.join(['- ', join(texts, separator='\n- ')])


def dart_fields(example):
  """Fields of DART; the tags of titles and of tables as a whole are left out."""
  triples = tf.strings.regex_replace(example['tripleset'], r'\[(TABLECONTEXT|TITLE)\]', '')
  triples, bullets = in_a_row_and_listed(one_line(triples))
  return {'triples': triples, 'bullets': bullets, **gem_references(example)}


DART_TEMPLATES = [
    Template(
        'From a table come these entries, most with a subject, a relation and a value.\n\n'
        '{bullets}\n\nReport them in a sentence.',
        '{answer}',
    ),
    Template('Spell out what the following cells tell us: {triples}', '{answer}'),
    Template(
        'What do these records amount to, in plain words?\n\n{bullets}',
        '{answer}',
    ),
    Template(
        '{triples}\n\nThat is raw data, and readers would rather have prose. Oblige them.',
        '{answer}',
    ),
    Template(
        "Commentator's notes: {triples}\nOn the air, as a complete sentence:",
        '{answer}',
    ),
    Template(
        'You describe charts for people who cannot see them. Put this extract into words so that '
        'nothing is lost.\n\n{bullets}',
        '{answer}',
    ),
    Template(
        'Someone on the phone wants to know what is in the spreadsheet. These are the lines on '
        'your screen:\n\n{bullets}\n\nYou say:',
        '{answer}',
    ),
    Template(
        'Compose English text that asserts each of the statements given here and makes no '
        'further claim. Statements: {triples}',
        '{answer}',
    ),
    Template(
        '{answer}\n\nOn what data might that be based? Reply with brief entries, separated by '
        'semicolons, of a thing, a relation and a value.',
        '{triples}',
    ),
    Template(
        'Extract the facts from the sentence for a database, one to a line and with a dash in '
        'front.\n\nSentence: {answer}',
        '{bullets}',
    ),
]

register(
    TaskSpec(
        name='dart',
        cluster='struct_to_text',
        source=held_back('gem/dart:1.1.0', 200),
        fields=dart_fields,
        templates=DART_TEMPLATES,
        continuations=[Template('Data: {triples}\nIn a sentence:', '{answer}')],
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        num_train_examples=62_450,
        citation='Nan et al. 2021, DART; Gehrmann et al. 2021, the GEM Benchmark',
        licence='MIT',
    )
)


def e2e_nlg_fields(example):
  """Fields of E2E: 'name[Aromi], food[Thai]' -> 'name = Aromi, food = Thai', also as lines."""
  text = one_line(example['meaning_representation'])
  lines = tf.strings.regex_replace(text, r'\],\s*', ']\n')
  return {
      'data': tf.strings.regex_replace(text, r'\[([^\]]*)\]', r' = \1'),
      'lines': tf.strings.regex_replace(lines, r'\[([^\]]*)\]', r': \1'),
      **gem_references(example),
  }


E2E_NLG_TEMPLATES = [
    Template(
        '{lines}\n\nIntroduce this place to people who are looking for somewhere to eat.',
        '{answer}',
    ),
    Template(
        'Write a sentence or two with all of these details of a venue, and with no others: {data}',
        '{answer}',
    ),
    Template(
        'City guide, section "Eating and drinking"\nWhat we know: {data}\nEntry:',
        '{answer}',
    ),
    Template(
        'A number of attributes are listed with their values. Express all of them as ordinary '
        'prose.\n\n{lines}',
        '{answer}',
    ),
    Template(
        "I've found something for tonight! My notes say {data}. How do I put that in a message "
        'to my friends?',
        '{answer}',
    ),
    Template(
        'What should the voice assistant in a car say when its search returns this?\n\n{lines}',
        '{answer}',
    ),
    Template(
        'Visitor: Can you tell me about it?\nTourist office, with the file ({data}) open:',
        '{answer}',
    ),
    Template(
        'Generate a description from the meaning representation below. Every slot has to be '
        'realised.\n\n{data}',
        '{answer}',
    ),
    Template(
        'Read the advertisement and fill in the form for the restaurant: one line for each '
        'feature that is mentioned, with a colon after its name.\n\n{answer}',
        '{lines}',
    ),
    Template(
        'Advertising copy: {answer}\n\nSo which properties does the venue have? Answer in the '
        'style "food = Chinese, area = riverside".',
        '{data}',
    ),
]

register(
    TaskSpec(
        name='e2e_nlg',
        cluster='struct_to_text',
        source=held_back('gem/e2e_nlg:1.1.0', 200),
        fields=e2e_nlg_fields,
        templates=E2E_NLG_TEMPLATES,
        continuations=[Template('Data: {data}\nDescription:', '{answer}')],
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        num_train_examples=33_320,
        citation='Dušek et al. 2019, Semantic Noise Matters; Gehrmann et al. 2021, the GEM '
        'Benchmark',
        licence='CC BY-SA 4.0',
    )
)


def web_nlg_en_fields(example):
  """Fields of WebNLG: 'Ayam_penyet | region | Malaysia' -> 'Ayam penyet, region, Malaysia'."""
  triples = tf.strings.regex_replace(example['input'], '_', ' ')
  triples = one_line(tf.strings.regex_replace(triples, r'\s*\|\s*', ', '))
  triples, bullets = in_a_row_and_listed(triples)
  return {'triples': triples, 'bullets': bullets, **gem_references(example)}


WEB_NLG_EN_TEMPLATES = [
    Template(
        'Express in good English everything that is stated by these triples of subject, '
        'property and object.\n\n{bullets}',
        '{answer}',
    ),
    Template('Facts: {triples}\n\nA short text that covers them:', '{answer}'),
    Template(
        'An encyclopaedia is writing the opening of an article and has only this excerpt from a '
        'knowledge base. Help out.\n\n{bullets}',
        '{answer}',
    ),
    Template(
        '{triples}\n\nNobody talks like that. Could you rephrase it the way people do?',
        '{answer}',
    ),
    Template(
        'Each line stands for an edge of a graph: where it starts, its label, where it ends. '
        'Verbalise the graph.\n\n{bullets}',
        '{answer}',
    ),
    Template(
        'Found in DBpedia: {triples}\nThe same as running text:',
        '{answer}',
    ),
    Template(
        'Our quiz host reads information aloud in full sentences, never as a table. Prepare the '
        'script for this card: {triples}',
        '{answer}',
    ),
    Template(
        '{bullets}\n\nHow might a journalist work all of these points into a paragraph?',
        '{answer}',
    ),
    Template(
        'Break the text up into simple facts. For each, name the subject, the property and the '
        'object with commas in between, and put a semicolon before the next.\n\nText: {answer}',
        '{triples}',
    ),
    Template(
        '{answer}\n\nWhich statements would a knowledge base need to have in order to support '
        'this? Make a list.',
        '{bullets}',
    ),
]

register(
    TaskSpec(
        name='web_nlg_en',
        cluster='struct_to_text',
        source=held_back('gem/web_nlg_en:1.1.0', 200),
        fields=web_nlg_en_fields,
        templates=WEB_NLG_EN_TEMPLATES,
        continuations=[Template('Data: {triples}\nText:', '{answer}')],
        metric_fns=[metrics.rouge_multi],
        suite=SUITE,
        num_train_examples=35_220,
        citation='Gardent et al. 2017, Creating Training Corpora for NLG Micro-Planners; Gehrmann '
        'et al. 2021, the GEM Benchmark',
        licence='CC BY-NC 4.0',
    )
)
