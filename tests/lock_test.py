import json
import shutil

import pytest
import seqio
import tensorflow as tf

from flanjax import cli
from flanjax.data import TaskSpec, Template, metrics, mixtures, prepare, register, specs
from flanjax.errors import UserError
from flanjax.input import lock, manifest

LENGTHS = {'inputs': 64, 'targets': 16}
TEMPLATES = [Template('{text}: good?\n{options_}', '{answer}'), Template('Say it: {answer}', '{text}')]


def _source(rows):
  def dataset(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({'text': [f'{split} {i}' for i in range(rows)]})
  return seqio.FunctionDataSource(dataset, ['train', 'test'], num_input_examples={'train': rows, 'test': rows})


def _fields(example):
  return {'text': example['text'], 'options': ['no', 'yes'], 'answer': 'yes'}


def _register(rows=40, templates=TEMPLATES, licence='CC0', keep=40, tasks=('one', 'two')):
  for name in [s.name for s in specs.all_specs('lock')]:
    specs.unregister(name)
  few = lambda x: tf.strings.to_number(tf.strings.split(x['text'])[1]) < keep
  for name in tasks:
    register(TaskSpec(name, 'qa', _source(rows), _fields, templates, [metrics.accuracy], suite='lock',
                      licence=licence, filter_fn=few))
  mixtures.register_suite_mixtures('lock')


@pytest.fixture(autouse=True)
def clean():
  yield
  for spec in specs.all_specs('lock'):
    specs.unregister(spec.name)
  for name in [n for n in seqio.MixtureRegistry.names() if n.startswith('lock_')]:
    seqio.MixtureRegistry.remove(name)


def _prepare(root, **settings):
  return prepare.prepare('lock_all_train', LENGTHS, output_dir=root, vocabulary='bytes', num_workers=1,
                         **settings)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  _register()
  return _prepare(tmp_path_factory.mktemp('prepared'))


@pytest.fixture
def locked(prepared, tmp_path):
  """A lock, and the folder of prepared data."""
  _register()
  path, root = tmp_path / 'lock_all_train.lock.json', tmp_path / 'data'
  shutil.copytree(prepared.parents[1], root)
  path.write_text(lock.dumps(lock.lock(manifest.load(root / prepared.relative_to(prepared.parents[1])))))
  return path, root


def test_a_lock_says_what_the_data_came_from_and_came_to(locked):
  content = lock.load(locked[0])
  one = content['tasks']['one_10templates']
  assert (one['rows'], one['examples'], one['licence']) == (40, 40, 'CC0')
  assert one['source'] == 'FunctionDataSource' and one['rate'] == 40
  assert all(len(one[f'{name}_hash']) == 64 for name in ('source', 'templates', 'spec', 'vocabulary'))
  assert one['target_tokens'] > 40 and len(one['content']) == 64


def test_what_has_not_changed_passes(locked):
  path, root = locked
  _register()
  _prepare(root, lock=path)
  _prepare(root.with_name('anew'), lock=path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'rows': 44}, r'rows of the source 40 -> 44 \(\+10.00 %\)'),
        ({'templates': TEMPLATES[:1]}, 'one_10templates: templates changed'),
        ({'keep': 30}, 'fields, filters or steps changed'),
        ({'licence': 'MIT'}, 'licence CC0 -> MIT'),
        ({'tasks': ('one',)}, 'two_10templates: no longer in the mixture'),
        ({'tasks': ('one', 'two', 'three')}, 'three_10templates: new in the mixture'),
    ],
)
def test_what_drifted_is_refused_before_anything_is_prepared(locked, changes, message):
  path, root = locked
  _register(**changes)
  before = sorted(root.rglob('*'))
  with pytest.raises(UserError, match=message):
    _prepare(root, lock=path)
  assert sorted(root.rglob('*')) == before


def test_other_lengths_and_tokenizers_are_told(locked):
  path, root = locked
  _register()
  with pytest.raises(UserError, match='(?s)sequence_length:.*tokenizer changed'):
    prepare.prepare('lock_all_train', {'inputs': 32, 'targets': 16}, output_dir=root, vocabulary='mini',
                    num_workers=1, lock=path)


def test_another_policy_for_long_examples_is_told(locked):
  path, root = locked
  _register()
  with pytest.raises(UserError, match='too_long: truncate -> drop'):
    _prepare(root, lock=path, too_long='drop')


def test_content_that_differs_after_preparing_is_refused(locked):
  path, root = locked
  content = json.loads(path.read_text())
  content['tasks']['one_10templates']['examples'] = 39
  content['checksum'] = manifest.checksum(content)
  path.write_text(json.dumps(content))
  with pytest.raises(UserError, match=r'examples after filters 39 -> 40 \(\+2.56 %\)'):
    _prepare(root, lock=path)


def test_a_lock_that_was_altered_or_is_none_is_refused(locked, tmp_path):
  path, _ = locked
  text = path.read_text()
  for changed, message in (
      (text.replace('CC0', 'MIT'), 'altered'), (text[:100], 'truncated'), ('{"tasks": 3}', 'no lock'),
      (text.replace('"lock_version": 1', '"lock_version": 2'), 'newer flanjax')):
    path.write_text(changed)
    with pytest.raises(UserError, match=message):
      lock.load(path)
  with pytest.raises(UserError, match='cannot be read'):
    lock.load(tmp_path / 'none')


def test_two_locks_are_compared_on_the_command_line(locked, tmp_path, capsys):
  path, root = locked
  _register(rows=44, keep=44)
  new = tmp_path / 'new.json'
  new.write_text(lock.dumps(lock.lock(manifest.load(_prepare(root)))))
  assert cli.main(['mixtures', 'diff', str(path), str(path)]) == 0
  assert capsys.readouterr().out == 'no difference\n'
  assert cli.main(['mixtures', 'diff', str(path), str(new)]) == 1
  shown = capsys.readouterr().out
  assert 'two_10templates: examples after filters 40 -> 44 (+10.00 %)' in shown
  assert 'one_10templates: rate 40.0 -> 44.0' in shown
  assert cli.main(['mixtures', 'diff', str(path), str(tmp_path / 'no')]) == 1
  assert 'cannot be read' in capsys.readouterr().err
