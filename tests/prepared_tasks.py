"""Small tasks for tests of prepare, in a module that worker processes can import."""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, mixtures, register

SUITE = 'prepare_suite'
SIZES = {'prep_a': 57, 'prep_b': 230}
TEMPLATES = [
    Template('Repeat: {text}', '{answer}'),
    Template('{text}\n\nSay that again.', '{answer}'),
    Template('Guess what gives {answer}', '{text}'),
]


def texts(split, shuffle_files, seed=None, *, name, sizes):
  """Numbered sentences, of which some are long."""
  del shuffle_files, seed
  count = sizes[name] if split == 'train' else 10
  lines = [f'{name} {split} line {i}' + ' and so on' * (i % 7) for i in range(count)]
  return tf.data.Dataset.from_tensor_slices({'line': lines})


def fields(example):
  return {'text': example['line'], 'answer': tf.strings.upper(example['line'])}


def source(name, sizes=None):
  function = functools.partial(texts, name=name, sizes=sizes or SIZES)
  return seqio.FunctionDataSource(function, ['train', 'test'])


def add(name, **changes):
  settings = {
      'cluster': 'echo', 'source': source(name), 'fields': fields, 'templates': TEMPLATES,
      'metric_fns': [metrics.accuracy], 'suite': SUITE,
  }
  return register(TaskSpec(name, **{**settings, **changes}))


def register_all():
  for name in SIZES:
    add(name)
  mixtures.register_suite_mixtures(SUITE)


register_all()
