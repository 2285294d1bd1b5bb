import html.parser
import re

import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, lint, metrics, register, specs, task_page, vocabularies
from flanjax.data.specs import REGIMES
from flanjax.errors import UserError

HOSTILE = '</pre><script>alert(1)</script>"\'&{{ 7 * 7 }}'


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('pages'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def _texts(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'q': [HOSTILE, 'second question', 'third']})


def _fields(example):
  return {'q': example['q'], 'options': ['aa', 'bb'], 'answer': 'bb', 'options_word': ['ja', 'nein'],
          'answer_word': 'nein'}


def make(**changes):
  settings = dict(
      name='one', cluster='qa', source=seqio.FunctionDataSource(_texts, ['train', 'test']),
      fields=_fields, metric_fns=[metrics.accuracy], suite='pages', licence=HOSTILE, citation='Somebody',
      templates=[Template('Say <b>{q}</b>\n{options_}', '{answer}'), Template('Ask for {answer}', '{q}')],
      continuations=[Template('{q} The answer is', '{answer_word}', ranks=True, suffix='_word')])
  return register(TaskSpec(**{**settings, **changes}))


class _Page(html.parser.HTMLParser):
  """The texts of <pre>, all other text, and the names of tags."""

  def __init__(self, page):
    super().__init__()
    self.pre, self.text, self.tags, self._inside = [], '', [], False
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag == 'pre':
      self.pre.append('')
      self._inside = True

  def handle_endtag(self, tag):
    self._inside = self._inside and tag != 'pre'

  def handle_data(self, data):
    if self._inside:
      self.pre[-1] += data
    else:
      self.text += data


def test_every_template_is_shown_as_written_and_on_each_example():
  spec = make()
  examples = lint.fields_of(spec, 2, 'train')
  page = _Page(task_page.render('one', 2))
  for regime in ('', *REGIMES):
    for template in spec.templates_of(regime):
      assert {template.inputs, template.targets} <= set(page.pre)
      for _, fields in examples:
        assert set(template.render(fields)) <= set(page.pre)
  assert f"{len(examples[1][1]['q']) + 1} tokens" in page.text
  assert 'of the options ja | nein' in page.text and 'inverted' in page.text


def test_hostile_text_is_shown_and_not_run():
  make()
  source = task_page.render('one_type_0', 1)
  page = _Page(source)
  assert any(HOSTILE in text for text in page.pre) and HOSTILE in page.text
  tags = {tag for tag, _ in page.tags}
  assert not tags & {'script', 'img', 'link', 'iframe'} and '49' not in source
  assert not [a for _, attrs in page.tags for a in attrs if a.startswith('on') or a in ('src', 'href')]
  assert "default-src 'none'" in source


def test_long_texts_are_folded_and_whole():
  long = 'word ' * 400
  make(fields=lambda x: _fields(x) | {'q': long})
  page = _Page(task_page.render('one', 1))
  assert f'Say <b>{long}</b>\nOPTIONS:\n- aa\n- bb' in page.pre
  assert re.search(r'2,0\d\d characters', page.text)


def test_without_data_there_are_facts_and_format_strings(tmp_path):
  source = seqio.TfdsDataSource(
      'newsroom:1.0.0', splits={'train': 'train', 'test': 'test[:90%]'}, tfds_data_dir=str(tmp_path))
  spec = make(source=source)
  page = _Page(task_page.render('one'))
  assert {t.inputs for t in spec.templates} <= set(page.pre)
  for fact in ('newsroom:1.0.0', 'not here', 'by hand', 'manual_dir', 'test[:90%]', 'Somebody', 'accuracy'):
    assert fact in page.text
  assert 'example 0' not in page.text


def test_without_a_vocabulary_there_are_no_token_counts():
  vocabularies.set_default('/no/such.model')
  make()
  page = _Page(task_page.render('one', 1))
  assert 'tokens' not in page.text and any(HOSTILE in text for text in page.pre)


def test_an_example_that_a_template_leaves_out_is_told():
  make(fields=lambda x: _fields(x) | {'q': ''}, drop_empty=True)
  assert 'left out' in _Page(task_page.render('one', 1)).text


def test_a_split_of_its_own_is_taken_where_there_is_no_training():
  make(source=seqio.FunctionDataSource(_texts, ['test']), eval_only=True)
  assert 'The first of split test' in _Page(task_page.render('one')).text
  with pytest.raises(UserError, match='did you mean test'):
    task_page.render('one', split='tset')
  with pytest.raises(UserError, match='did you mean one'):
    task_page.render('ones')
