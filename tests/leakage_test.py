"""Leaks that were planted are found, and nothing else."""

import dataclasses
import json
import os
import time

import leakage_tasks
import pytest
import seqio
import tensorflow as tf

from flanjax import cli
from flanjax.commands import common
from flanjax.data import indexed_source, leakage, mixtures, specs, task_texts
from flanjax.data.overlap import Settings
from flanjax.errors import UserError
from flanjax.evaluation.clean import load_clean

TRAIN, EVAL = 'leak_suite_holdout_tests_train', 'leak_suite_holdout_tests_eval'


common.load_tasks()


@pytest.fixture(autouse=True)
def registry():
  """What a test registers is forgotten."""
  known = {s.name for s in specs.all_specs()}, set(seqio.TaskRegistry.names()), set(seqio.MixtureRegistry.names())
  yield
  for spec in specs.all_specs():
    if spec.name not in known[0]:
      specs.unregister(spec.name)
  for names, added in zip(known[1:], (seqio.TaskRegistry, seqio.MixtureRegistry)):
    for name in set(added.names()) - names:
      added.remove(name)


def _audit(*names, **changes):
  return leakage.audit(*(names or [TRAIN]), **{'num_workers': 1, **changes})


@pytest.fixture(scope='module')
def found():
  return _audit()


def _pairs(found, task):
  pairs = [p for p in found.pairs if p['task'] == task]
  assert len({(p['example_id'], p['train_task'], p['train_example_id']) for p in pairs}) == len(pairs)
  return {p['example_id']: p for p in pairs}


def _row(found, task):
  return next(r for r in found.tasks if r['task'] == task)


def test_every_planted_leak_is_found_with_its_kind_and_nothing_else(found):
  pairs = _pairs(found, 'leak_exam')
  expected = {i: (kind, given) for i, (_, kind, given) in leakage_tasks.PLANTS.items() if kind}
  assert {i: (p['kind'], p['answer_given']) for i, p in pairs.items()} == expected
  rows = leakage_tasks.library()
  for i, pair in pairs.items():
    assert pair['train_task'] == 'leak_library'
    planted = leakage_tasks.PLANTS[i][0]['text']
    assert rows[pair['train_example_id']]['text'] == planted, i
    assert pair['field'] == ('question' if i == 9 else 'passage')
  row = _row(found, 'leak_exam')
  assert (row['examples'], row['exact'], row['answer_given'], row['clean']) == (60, 4, 2, 60 - len(expected))
  # An exact copy is a near-duplicate too, and shares runs.
  assert row['near_duplicate'] == 6 and row['ngram'] == len(expected)
  assert found.clean['leak_exam'] == [i for i in range(60) if i not in expected]


def test_the_overlap_is_the_part_of_an_examples_words_that_stands_there(found):
  pairs = _pairs(found, 'leak_exam')
  own = 40 + 6 + 2  # Passage, question and answer.
  assert pairs[0]['overlap'] == pytest.approx(40 / own, abs=1e-4)
  assert pairs[3]['overlap'] == pytest.approx(13 / own, abs=1e-4)
  assert pairs[5]['overlap'] == pytest.approx(42 / own, abs=1e-4)
  assert pairs[3]['shared'].split() == leakage_tasks.passage(3).split()[5:21]


def test_a_label_is_given_away_only_with_all_the_texts_that_it_is_about(found):
  pairs = _pairs(found, 'leak_claims')
  assert {i: (p['kind'], p['answer_given'], p['overlap']) for i, p in pairs.items()} == {
      0: ('exact', True, 1.0), 1: ('exact', False, 1.0), 2: ('exact', False, 0.8),
      4: ('near_duplicate', False, 0.96)}
  assert pairs[2]['field'] == 'premise'


@pytest.mark.parametrize('aliases', [('a cat;the black cat', 'x', 'y', 'z'), ('a cat;b', 'c;d', 'e;f', 'g;h')])
def test_any_of_several_answers_gives_an_example_away(aliases):
  def fields(x):
    answers = tf.strings.split(x['aliases'], ';')
    return {'text': x['text'], 'answer': answers[0], 'answers': answers}

  rows = [{'text': leakage_tasks.text('several', i), 'aliases': names} for i, names in enumerate(aliases)]
  leakage_tasks.add('leak_several', 'tests', lambda: rows, fields, train=False)
  last = aliases[0].split(';')[-1]
  for answer, given in ((last.upper(), True), ('a dog', False)):
    train = [{'text': rows[0]['text'], 'aliases': f'no;{answer};never'}, rows[3], {'text': 'q', 'aliases': 'z'}]
    leakage_tasks.add('leak_told', 'books', lambda: train, fields)
    found = _audit('leak_told_10templates', 'leak_several_type_0')
    assert {p['example_id']: p['answer_given'] for p in found.pairs} == {0: given, 3: True}
    specs.unregister('leak_told')


def test_short_texts_count_when_they_are_all_there_is(found):
  assert set(_pairs(found, 'leak_snippets')) == {0}
  pairs = _pairs(found, 'leak_couples')
  assert {i: (p['kind'], p['overlap']) for i, p in pairs.items()} == {2: ('exact', 1.0)}
  assert pairs[2]['shared'].split() == [*leakage_tasks.couples()[2]['one'].split(),
                                        *leakage_tasks.couples()[2]['two'].split()]


def test_words_of_templates_and_of_fixed_fields_never_count(found):
  # Every example of both sides holds ASK, and every template WORDING.
  assert len(leakage_tasks.WORDING.split()) >= 13 and len(leakage_tasks.ASK.split()) >= 8
  assert all(p['field'] != 'ask' for p in found.pairs)
  assert _row(found, 'leak_snippets')['clean'] == 29


def test_shorter_runs_are_found_when_asked_for(found):
  eight = _audit(settings=Settings(ngram=8))
  assert set(_pairs(eight, 'leak_exam')) - set(_pairs(found, 'leak_exam')) == {4}
  twenty = _audit(settings=Settings(ngram=20))
  assert set(_pairs(found, 'leak_exam')) - set(_pairs(twenty, 'leak_exam')) == {3}


def test_a_stricter_similarity_finds_fewer_near_duplicates():
  strict = _audit(settings=Settings(threshold=0.95))
  assert _pairs(strict, 'leak_exam')[2]['kind'] == 'ngram'


def test_the_answer_does_not_depend_on_workers_parts_or_batches(found, monkeypatch):
  same = lambda other: dataclasses.asdict(other) == dataclasses.asdict(found)
  assert same(_audit(num_workers=2, modules=('leakage_tasks',)))
  monkeypatch.setattr(leakage, '_WORDS_OF_A_PART', 1)
  monkeypatch.setattr(task_texts, '_READ_TOGETHER', 7)
  parts = _audit(num_workers=1)
  # With so few examples of a task at a time, wording is told by the same first ones.
  assert same(parts)


def test_pairs_are_capped_for_each_example_and_all_are_counted():
  rows = [{'text': leakage_tasks.passage(0) + ' more' * (i % 5)} for i in range(50)]
  leakage_tasks.add('leak_many', 'books', lambda: rows)
  found = _audit('leak_many_10templates', EVAL, max_pairs=3)
  assert [p['train_example_id'] for p in found.pairs] == [0, 5, 10]
  assert _row(found, 'leak_exam')['pairs'] == 50
  assert _audit('leak_many_10templates', EVAL, max_pairs=0).pairs == []
  assert found.kinships == [{
      'task': 'leak_exam', 'train_task': 'leak_many', 'leaked': 1, 'exact': 1, 'near_duplicate': 1, 'ngram': 1,
      'answer_given': 0, 'pairs': 50, 'declared': False}]


def test_what_training_never_draws_is_no_leak(monkeypatch):
  copy = {'text': leakage_tasks.passage(0)}
  rows = lambda: [{'text': leakage_tasks.text('own', i)} for i in range(9)] + [copy]
  leakage_tasks.add('leak_last', 'books', rows)
  leakage_tasks.add('leak_drops', 'books', rows, filter_fn=lambda x: x['text'] != copy['text'])
  names = ['leak_last_10templates', 'leak_drops_10templates']
  assert [len(_audit(name, EVAL).pairs) for name in names] == [1, 0]
  monkeypatch.setattr(indexed_source, 'MAX_TRAIN_EXAMPLES', 9)
  assert not _audit(names[0], EVAL).pairs


def test_a_dataset_is_read_once_however_many_seqio_tasks_use_it(monkeypatch):
  read, reads = task_texts.read, []
  monkeypatch.setattr(task_texts, 'read', lambda task, split: (reads.append((task, split)), read(task, split))[1])
  seqio.MixtureRegistry.add('leak_twice', [f'leak_library_{kind}' for kind in ('10templates', 'type_0', 'type_1')],
                            default_rate=1.0)
  found = _audit('leak_twice', EVAL)
  assert [task for task, split in reads if split == 'train'] in ([f'leak_library_{kind}'] for kind in (
      '10templates', 'type_0', 'type_1'))
  assert sorted(task.split('_type')[0] for task, split in reads if split == 'test') == [
      'leak_claims', 'leak_couples', 'leak_exam', 'leak_snippets']
  assert len(_pairs(found, 'leak_exam')) == 9


def test_a_task_that_seqio_alone_knows_is_read_by_the_texts_of_its_source():
  def dataset(split, shuffle_files=False, seed=None):
    return tf.data.Dataset.from_tensor_slices({
        'body': [leakage_tasks.text('foreign', i) for i in range(5)] + [leakage_tasks.passage(3)],
        'number': list(range(6))})

  seqio.TaskRegistry.add('leak_foreign', source=seqio.FunctionDataSource(dataset, ['train']), preprocessors=[],
                         output_features={})
  [pair] = _audit('leak_foreign', EVAL).pairs
  assert (pair['example_id'], pair['train_task'], pair['train_example_id']) == (3, 'leak_foreign', 5)


def test_declared_lineage_is_listed_and_undeclared_kinship_is_told_apart():
  leakage_tasks.add('leak_cousin', 'books', lambda: [{'text': leakage_tasks.passage(0)}], lineage=['a_corpus'])
  leakage_tasks.add('leak_sample', 'tests', lambda: [{'text': 'x'}], train=False, lineage=['a_corpus'])
  seqio.MixtureRegistry.add('leak_both', ['leak_cousin_10templates', 'leak_library_10templates'], default_rate=1.0)
  seqio.MixtureRegistry.add('leak_judged', ['leak_exam_type_0', 'leak_sample_type_0'], default_rate=1.0)
  found = _audit('leak_both', 'leak_judged')
  assert found.lineage == [
      {'task': 'leak_exam', 'train_task': 'leak_cousin', 'shared': [], 'overlaps': True, 'same_task': False},
      {'task': 'leak_sample', 'train_task': 'leak_cousin', 'shared': ['a_corpus'], 'overlaps': False,
       'same_task': False}]
  assert {(k['task'], k['train_task']): k['declared'] for k in found.kinships} == {
      ('leak_exam', 'leak_library'): False, ('leak_exam', 'leak_cousin'): True}


def test_a_task_of_empty_texts_is_clean():
  leakage_tasks.add('leak_void', 'tests', lambda: [{'text': ''}, {'text': ' …'}], train=False)
  found = _audit(TRAIN, 'leak_void_type_0')
  assert found.clean == {'leak_void': [0, 1]} and not found.pairs


@pytest.mark.parametrize('names, changes, message', [
    (['leak_suite_holdout_tset_train'], {}, 'did you mean leak_suite_holdout_tests_train'),
    ([TRAIN, 'leak_suite_evil'], {}, "no mixture or task 'leak_suite_evil'"),
    (['leak_library_10templates'], {}, 'name the evaluation mixture or task: --eval'),
    ([TRAIN], {'split': 'tset'}, "(?s)no split 'tset'.*did you mean test"),
    ([EVAL, TRAIN], {'split': 'train'}, "has no split 'train'"),
    ([TRAIN], {'settings': Settings(ngram=2)}, '(?s)ngram 2.*at least 3'),
    ([TRAIN], {'settings': Settings(threshold=0.0)}, 'similarity'),
    ([TRAIN], {'on_missing': 'no'}, "'error' or 'skip'"),
    ([TRAIN], {'num_workers': 0}, 'at least one worker'),
    ([TRAIN], {'max_pairs': -1}, 'below zero'),
])  # fmt: skip
def test_wrong_arguments_are_told(names, changes, message):
  with pytest.raises(UserError, match=message):
    _audit(*names, **changes)


def test_missing_data_stops_the_audit_or_is_left_out_and_told():
  leakage_tasks.add('leak_absent', 'books', lambda: [{'text': 'x'}],
                    source=seqio.TfdsDataSource('wsc273:1.0.0', splits={'train': 'test'}),
                    fields=lambda x: {'text': x['text'], 'answer': 'x'})
  seqio.MixtureRegistry.add('leak_some', ['leak_absent_10templates', 'leak_library_10templates'], default_rate=1.0)
  with pytest.raises(UserError, match='(?s)1 task.*leak_absent.*--on_missing skip'):
    _audit('leak_some', EVAL)
  found = _audit('leak_some', EVAL, on_missing='skip')
  assert list(found.skipped['train']) == ['leak_absent'] and list(found.train) == ['leak_library']
  with pytest.raises(UserError, match='every task is missing'):
    _audit('leak_absent_10templates', EVAL, on_missing='skip')


def test_what_a_killed_audit_left_is_removed_after_a_day(tmp_path):
  for name, age in (('old', 2 * 24 * 3600), ('new', 60)):
    folder = tmp_path / f'.leakage-{name}'
    folder.mkdir()
    os.utime(folder, (time.time() - age,) * 2)
  _audit('leak_notes_10templates', EVAL, scratch=str(tmp_path))
  assert [p.name for p in tmp_path.iterdir()] == ['.leakage-new']


def test_a_task_that_cannot_be_read_is_named():
  def fields(x):
    number = tf.strings.to_number(tf.strings.substr(x['text'], 0, 1))
    return {'text': x['text'], 'answer': tf.strings.as_string(number)}

  source = leakage_tasks._source(lambda: [{'text': '1'}, {'text': 'x'}])
  leakage_tasks.add('leak_broken', 'books', lambda: [{'text': '1'}], fields, source=source)
  with pytest.raises(UserError, match='(?s)cannot be read.*task leak_broken_10templates, split train'):
    _audit('leak_broken_10templates', EVAL)


def _run(capsys, *argv):
  status = cli.main(['audit', 'leakage', *map(str, argv)])
  return status, *capsys.readouterr()


def test_the_command_prints_a_table_and_writes_pairs_and_clean_examples(capsys, tmp_path):
  folder = tmp_path / 'found'
  status, out, err = _run(capsys, TRAIN, '--output', folder, '--num_workers', 1)
  assert status == 0, err
  lines = out.splitlines()
  assert lines[0] == f'{EVAL}, split test, against 228 training examples of {TRAIN}, 3 task(s)'
  row = next(line for line in lines if line.startswith('leak_exam')).split()
  assert row == ['leak_exam', 'tests', '60', '4', '9', '6', '2', '85.0', '%', 'leak_library', '9']
  assert 'no kinship declared: leak_library and leak_exam (9)' in out
  assert sorted(p.name for p in folder.iterdir()) == ['clean.json', 'leakage.json']
  content = json.loads((folder / 'leakage.json').read_text())
  assert content['format'] == 'flanjax-leakage' and content['max_pairs'] == 5
  assert len(content['pairs']) == 15 and set(content['pairs'][0]) == {
      'task', 'example_id', 'train_task', 'train_example_id', 'kind', 'overlap', 'answer_given', 'field', 'shared'}
  clean = load_clean(folder / 'clean.json', split='test')
  assert clean['leak_exam'] == frozenset(range(60)) - {0, 1, 2, 3, 5, 6, 7, 9, 11}
  assert clean['leak_claims'] == frozenset(range(3, 40)) - {4}


def test_the_command_answers_as_json(capsys, tmp_path):
  status, out, _ = _run(capsys, TRAIN, '--eval', 'leak_exam_type_0', '--output', tmp_path, '--json', '--num_workers', 1)
  answer = json.loads(out)
  assert status == 0 and answer['clean'] == str(tmp_path / 'clean.json') and 'pairs' not in answer
  assert [r['task'] for r in answer['tasks']] == ['leak_exam']


def test_nothing_found_is_valid_json_too(capsys, tmp_path):
  assert _run(capsys, 'leak_notes_10templates', '--eval', 'leak_exam_type_0', '--output', tmp_path, '--num_workers',
              1)[0] == 0
  assert json.loads((tmp_path / 'leakage.json').read_text())['pairs'] == []


@pytest.mark.parametrize('argv, status, message', [
    ([TRAIN, '--ngram', '2'], 2, '--ngram must be at least 3'),
    ([TRAIN, '--threshold', '1.5'], 2, '--threshold'),
    ([TRAIN, '--num_workers', '0'], 2, '--num_workers'),
    (['leak_suite_holdout_tset_train'], 1, 'did you mean leak_suite_holdout_tests_train'),
    ([TRAIN, '--output', '/proc/no'], 1, 'cannot be written'),
    ([TRAIN, '--evil', 'x'], 2, "does not take '--evil'"),
])  # fmt: skip
def test_mistakes_on_the_command_line_are_told_before_any_work(capsys, argv, status, message, tmp_path, monkeypatch):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path))
  code, out, err = _run(capsys, *argv)
  assert code == status and message in err and not out


def test_the_default_folder_is_named_after_the_mixture(capsys, tmp_path, monkeypatch):
  monkeypatch.setenv('FLANJAX_CACHE', str(tmp_path))
  assert _run(capsys, 'leak_notes_10templates', '--eval', 'leak_exam_type_0', '--num_workers', 1)[0] == 0
  assert (tmp_path / 'audits/leak_notes_10templates/clean.json').is_file()


def _sentences(task, split, names):
  """Example id -> the letters and digits of some fields, read without any of this library's matching."""
  spec = specs.get(task)
  source = seqio.TaskRegistry.get(f'{task}_type_0').source
  for x in source.get_dataset(split, shuffle=False).as_numpy_iterator():
    fields = spec.fields(x['example'])
    yield int(x['example_id']), [''.join(c for c in tf.get_static_value(fields[n]).decode().lower() if c.isalnum())
                                 for n in names]


@pytest.mark.real_data
def test_wnli_and_wsc_are_found_to_be_made_of_the_same_sentences():
  train = {text for _, texts in _sentences('wsc', 'train', ['text']) for text in texts}
  copied = {i for i, texts in _sentences('wnli', 'test', ['sentence1', 'sentence2']) if set(texts) & train}
  found = _audit('wsc_10templates', 'wnli_type_0')
  [row] = found.tasks
  assert row['exact'] == len(copied) > 40 and row['examples'] == 71
  assert copied <= {p['example_id'] for p in found.pairs if p['kind'] == 'exact'}
  assert [(k['shared'], k['overlaps']) for k in found.lineage] == [(['winograd_schema'], True)]


def _runs(texts, n=13):
  """The runs of n words of some texts, by plain loops."""
  split = [''.join(c if c.isalnum() else ' ' for c in text.lower()).split() for text in texts]
  return {tuple(words[i : i + n]) for words in split for i in range(len(words) - n + 1)}


@pytest.mark.real_data
def test_winograd_like_training_tasks_share_no_run_with_wnli():
  trained = [n for n in mixtures.tasks_of('flan2021_holdout_nli_train') if n.startswith(('winogrande', 'definite'))]
  assert len(trained) == 2 and 'wsc_10templates' not in mixtures.tasks_of('flan2021_holdout_nli_train')
  texts = lambda task, split: [t.decode() for rows in task_texts.read(task, split) for t in rows.texts]
  held = _runs(texts('wnli_type_0', 'test'))
  seqio.MixtureRegistry.add('leak_kin', trained, default_rate=1.0)
  found = _audit('leak_kin', 'wnli_type_0')
  assert len(held) > 300 and not held & _runs(text for task in trained for text in texts(task, 'train'))
  assert found.kinships == [] and found.clean == {'wnli': list(range(71))}
