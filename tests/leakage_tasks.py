"""Tasks with planted leaks, in a module that worker processes can import.

`PLANTS` says what each of the first examples of `leak_exam` finds in `leak_library`; all other texts
are random words, which no two examples share.
"""

from __future__ import annotations

import random
import unicodedata

import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, mixtures, register

SUITE = 'leak_suite'
# Both sides use these words around their texts: what templates say is never compared.
WORDING = 'Please read all of the following text with the greatest care and then answer in one word: '
EXAMPLES = 60
ASK = 'Which of these words would you say fits best here'


def words(seed, count):
  draw = random.Random(seed)
  return [''.join(draw.choices('bcdfglmnprst', k=2)) + draw.choice('aeiou') + str(draw.randrange(10**6))
          for _ in range(count)]


def text(*seed, count=40):
  return ' '.join(words(str(seed), count))


def passage(i):
  return {8: '', 7: 'Łódź ﬁnds ' + text('exam', i) + ' Ａ１ cafe\u0301'}.get(i, text('exam', i))


def question(i):
  return text('question', i, count=10 if i == 9 else 6)


def answer(i):
  return text('answer', i, count=2)


def _changed(line, places):
  line = line.split()
  for place in places:
    line[place] = 'other'
  return ' '.join(line)


def _part(i, count, side=30):
  return f'{text("before", i, count=side)} {" ".join(passage(i).split()[5 : 5 + count])} {text("after", i, count=side)}'


# Example of leak_exam -> (fields of the training example, kind, whether its answer is given).
PLANTS = {
    0: ({'text': passage(0)}, 'exact', False),
    1: ({'text': passage(1).upper().replace(' ', ' -- ') + '!'}, 'exact', False),
    2: ({'text': _changed(passage(2), [12, 25])}, 'near_duplicate', False),
    3: ({'text': _part(3, 13)}, 'ngram', False),
    4: ({'text': _part(4, 12)}, None, False),
    5: ({'text': passage(5), 'answer': answer(5).title() + '.'}, 'exact', True),
    6: ({'text': f'{_part(6, 20)} {answer(6)}, then'}, 'ngram', True),
    7: ({'text': unicodedata.normalize('NFD', passage(7)).swapcase()}, 'exact', False),
    9: ({'text': f'{text("b9")} {question(9)} {text("a9")}'}, 'ngram', False),
    10: ({'text': text('t10'), 'answer': answer(10)}, None, False),
    11: ({'text': f'{passage(11)} \x00 {answer(10)}'}, 'near_duplicate', False),
}


def library():
  rows = [{'text': text('library', i), 'answer': text('title', i, count=3)} for i in range(150)]
  rows += [{'text': '', 'answer': 'x'}, {'text': '?!', 'answer': ''}]
  for i, (fields, *_) in PLANTS.items():
    rows.insert(7 * i, {'answer': text('own', i, count=3), **fields})
  return rows


def exam():
  return [{'passage': passage(i), 'question': question(i), 'answer': answer(i)} for i in range(EXAMPLES)]


def _claim(i, hypothesis, label):
  return {'premise': text('premise', i, count=20), 'hypothesis': text('claim', hypothesis, count=5), 'label': label}


def claims():
  """Example i: premise i, claim i; labels by turns."""
  return [_claim(i, i, ('no', 'yes')[i % 2]) for i in range(40)]


def rumours():
  """Of claims: 0 as it is, 1 with the other label, 2 with another claim and its label, 3's claim alone, 4 nearly."""
  rows = [_claim(i + 100, i + 100, 'yes') for i in range(30)]
  rows[5:5] = [_claim(0, 0, 'no'), _claim(1, 1, 'no'), _claim(2, 1000, 'no'), _claim(1003, 3, 'yes'),
                {**_claim(4, 4, 'no'), 'premise': _changed(text('premise', 4, count=20), [19])}]
  return rows


def snippets():
  """Of one text of four words each, but example 1: of two."""
  return [{'snippet': text('snippet', i, count=2 if i == 1 else 4)} for i in range(30)]


def notes():
  rows = [{'first': text('n', i, count=5), 'second': text('m', i, count=5)} for i in range(30)]
  rows[3] = {'first': snippets()[0]['snippet'].title(), 'second': 'x'}
  rows[4] = {'first': snippets()[1]['snippet'], 'second': 'x'}
  rows[5] = {'first': couples()[2]['two'], 'second': couples()[2]['one'].upper()}
  rows[6] = {'first': couples()[3]['two'], 'second': 'x'}
  return rows


def couples():
  return [{'one': text('one', i, count=3), 'two': text('two', i, count=4)} for i in range(30)]


def _source(rows, train=True):
  def dataset(split, shuffle_files=False, seed=None):
    found = rows()
    return tf.data.Dataset.from_tensor_slices({k: [r[k] for r in found] for k in found[0]})

  split = 'train' if train else 'test'
  return seqio.FunctionDataSource(dataset, [split], num_input_examples={split: len(rows())})


def _label(example):
  return {'premise': example['premise'], 'hypothesis': example['hypothesis'], 'ask': ASK, 'options': ['no', 'yes'],
          'answer': example['label']}


def plain(example):
  return {'answer': 'x', **example}


def _asked(example):
  return {'ask': ASK, **plain(example)}


def add(name, cluster, rows, fields=None, train=True, **changes):
  fields = fields or plain
  first = fields({k: tf.constant(v) for k, v in rows()[0].items()})
  slots = ' '.join(f'{{{k}}}' for k in first if k not in ('answer', 'options'))
  settings = {'source': _source(rows, train), 'fields': fields, 'metric_fns': [metrics.accuracy], 'suite': SUITE,
              'templates': [Template(f'{WORDING}{slots}', '{answer}'), Template(f'{slots} {WORDING}', '{answer}')]}
  return register(TaskSpec(name, cluster, **{**settings, 'eval_only': not train, **changes}))


def register_all():
  add('leak_library', 'books', library, _asked)
  add('leak_rumours', 'books', rumours, _label)
  add('leak_notes', 'books', notes, _asked)
  add('leak_exam', 'tests', exam, _asked, train=False, overlaps=['leak_cousin'])
  add('leak_claims', 'tests', claims, _label, train=False)
  add('leak_snippets', 'tests', snippets, _asked, train=False)
  add('leak_couples', 'tests', couples, _asked, train=False)
  mixtures.register_suite_mixtures(SUITE)


register_all()
