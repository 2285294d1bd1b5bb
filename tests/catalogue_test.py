import sys

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from flanjax.data import (
    TaskSpec,
    Template,
    availability,
    catalogue,
    metrics,
    mixtures,
    register,
    sources,
    specs,
    vocabularies,
)
from flanjax.errors import UserError
from flanjax.tasks import flan2021, mini  # noqa: F401 (their tasks)

GOOD = [Template('{q}\n{options_}', '{answer}'), Template('Ask: {answer}', '{q}')]


def _dataset(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'q': [f'{split} {i}' for i in range(4)]})


def _fields(example):
  return {'q': example['q'], 'options': ['aa', 'bb'], 'answer': 'bb'}


def make(name, templates=None, fields=_fields, cluster='qa'):
  source = seqio.FunctionDataSource(_dataset, ['train', 'test'])
  templates = templates or GOOD
  spec = TaskSpec(name, cluster, source, fields, templates, [metrics.accuracy], suite='cat')
  return register(spec)


@pytest.fixture(autouse=True)
def clean():
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs('cat'):
    specs.unregister(spec.name)
  vocabularies.set_default(None)


def test_list_tells_of_every_task_and_can_be_narrowed():
  make('one')
  make('two', cluster='nli')
  rows = catalogue.list_tasks('cat')
  assert [r['task'] for r in rows] == ['one', 'two']
  assert rows[0]['templates'] == 2 and rows[0]['inverted'] == 1 and rows[0]['classification']
  assert [r['task'] for r in catalogue.list_tasks('cat', 'nli')] == ['two']
  for wrong in (('cot', None), ('cat', 'nil')):
    with pytest.raises(UserError, match='did you mean'):
      catalogue.list_tasks(*wrong)


def test_a_task_of_a_function_is_made_here():
  make('one')
  row = catalogue.list_tasks('cat')[0]
  expected = {'source': 'FunctionDataSource', 'version': '', 'downloads': 'generated here', 'by_hand': '',
              'download_bytes': None, 'train_examples': None, 'prepared': True, 'missing': None}
  assert {k: row[k] for k in expected} == expected


# TFDS's own records: url_checksums/glue.txt and so on, and MANUAL_DOWNLOAD_INSTRUCTIONS.
@pytest.mark.parametrize(('task', 'expected'), [
    ('cola', ('glue/cola', '2.0.0', 'by itself', 376_971)),
    ('copa', ('super_glue/copa', '1.0.2', 'by itself', 43_986)),
    # Its configuration names no file: those that no other one names.
    ('glue_mrpc', ('glue/mrpc', '2.0.0', 'by itself', 1_494_541)),
    ('squad_v2', ('squad/v2.0', '3.0.0', 'by itself', 46_494_161)),
    ('hellaswag', ('hellaswag', '1.1.0', 'by itself', 71_494_896)),
    ('drop', ('drop', '2.0.0', 'by itself', None)),
    ('newsroom', ('newsroom', '1.0.0', 'by hand', None)),
    ('dialogsum', ('dialogsum', '1.0.0', 'by hand', None)),
    # All WMT builders speak of files by hand; only some pairs of languages need them.
    ('wmt16_translate_roen', ('wmt16_translate/ro-en', '1.0.0', 'by itself', 287_132_243)),
    ('wmt16_translate_csen', ('wmt16_translate/cs-en', '1.0.0', 'by hand', 1_689_776_739)),
    ('mini_kinds', ('mini_kinds', '1.1.0', 'generated here', 0)),
])  # fmt: skip
def test_it_tells_how_data_is_come_by(task, expected):
  row = catalogue.describe(specs.get(task))
  assert tuple(row[k] for k in ('source', 'version', 'downloads', 'download_bytes')) == expected
  assert bool(row['by_hand']) == (row['downloads'] == 'by hand')


def test_offline_only_what_is_made_from_files_by_hand_is_tried():
  """TFDS asks for the others' files for minutes, also where some are fetched by hand."""
  found = {name: sources.downloads_nothing(specs.get(name).source) for name in (
      'newsroom', 'dialogsum', 'wmt16_translate_csen', 'rte', 'mini_moods')}
  assert found == {'newsroom': True, 'dialogsum': True, 'wmt16_translate_csen': False, 'rte': False,
                   'mini_moods': False}


def test_missing_data_says_what_to_download_by_hand(monkeypatch, tmp_path):
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  expected = rf'newsroom: not prepared at {tmp_path}.*; download by hand: .*summari\.es'
  with pytest.raises(UserError, match=expected):
    catalogue.show_task('newsroom')
  assert 'by hand' not in availability.check_available(specs.get('cola'))


def test_every_task_of_flan_has_its_terms_and_its_size():
  rows = catalogue.list_tasks('flan2021')
  assert len(rows) == 71 and all(r['licence'] and r['citation'] and r['version'] for r in rows)
  assert {r['downloads'] for r in rows} == {'by itself', 'by hand'}
  sizes = {r['task']: r['train_examples'] for r in rows}
  assert sizes.pop('wsc273') is None and sizes.pop('dialogsum') == 12_460
  assert len(sizes) == 69
  assert sum(min(n, 3_000) for n in sizes.values()) == 188_330  # FLAN's rates.
  # FLAN read all of XSum, of which GEM has the trustworthy part.
  assert sizes.pop('xsum') == 23_200
  sizes['xsum'] = 203_560
  assert sum(min(n, 30_000) for n in sizes.values()) == 1_489_980


def test_the_catalogue_asks_nobody_and_opens_no_data(monkeypatch, tmp_path):
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  watching, touched = [True], []  # A hook cannot be removed.

  def watch(event, args):
    code = str(args[0] if args else '').endswith(('.py', '.pyc', 'checksums.tsv', '.txt'))
    if watching and (event.startswith('socket.') or event == 'open' and not code):
      touched.append((event, args))

  sys.addaudithook(watch)
  catalogue.list_tasks('flan2021')
  watching.clear()
  assert touched == []


def test_show_gives_text_and_token_counts():
  make('one')
  rows = catalogue.show_task('one', num_examples=1, split='test')
  assert [(r['template_id'], r['inverted']) for r in rows] == [(0, False), (1, True)]
  assert rows[0]['inputs'] == 'test 0\nOPTIONS:\n- aa\n- bb' and rows[0]['targets'] == 'bb'
  assert rows[0]['input_tokens'] == len(rows[0]['inputs']) + 1 and rows[0]['target_tokens'] == 3
  rows = catalogue.show_task('one_type_0_scoring_eval', num_examples=2)
  assert [(r['option'], r['is_correct']) for r in rows] == [(0, False), (1, True)]
  with pytest.raises(UserError, match='no split'):
    catalogue.show_task('one', split='trian')
  with pytest.raises(UserError, match='did you mean one'):
    catalogue.show_task('ones')


def test_show_explains_an_answer_outside_the_options():
  make('one', fields=lambda x: _fields(x) | {'answer': 'cc'})
  with pytest.raises(UserError, match=r'(?s)task one, example 0.*cc'):
    catalogue.show_task('one')


def test_mixture_table_has_the_columns_a_person_reads():
  make('one')
  make('two', cluster='nli')
  names = mixtures.register_suite_mixtures('cat')
  rows = catalogue.mixture_table('cat_all_train')
  assert [(r['task'], r['cluster'], r['num_examples'], r['rate'], r['share']) for r in rows] == [
      ('one_10templates', 'qa', 4, 4, 0.5),
      ('two_10templates', 'nli', 4, 4, 0.5),
  ]
  shown = [r['mixture'] for r in catalogue.list_mixtures() if r['mixture'].startswith('cat_')]
  assert 'cat_holdout_nli_train' in shown and not any(n.endswith('_shot') for n in shown)
  for name in names:
    seqio.MixtureRegistry.remove(name)
