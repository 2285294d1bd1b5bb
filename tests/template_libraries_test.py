"""FLAN's and promptsource's files of templates as tasks: names, texts, what is refused, workers."""

import os
import pathlib
import subprocess
import sys
import threading
import time
import warnings

import flan2021_examples
import prepared_tasks
import pytest
import seqio
import tensorflow as tf

import flanjax.tasks.flan2021  # noqa: F401
from flanjax import cli
from flanjax.data import (
    Template,
    catalogue,
    clusters,
    fingerprints,
    metrics,
    mixtures,
    prepare,
    specs,
    template_libraries,
    vocabularies,
)
from flanjax.data.template_libraries import Binding, flan, hugging_face, jinja, rendering
from flanjax.errors import UserError
from flanjax.input import manifest as manifest_lib

LENGTHS = {'inputs': 200, 'targets': 60}
FLAN = r'''
"""Templates in the form of FLAN's."""
YESNO = "\n{options_}"
ONE = ("Text: {premise}\nSo: {hypothesis}n" + YESNO, "{answer}")

PATTERNS = {
    "rte": [
        ONE,
        ("{premise} {{sic}} Does it follow that "
         "\"{hypothesis}\"?" + YESNO, "{answer}"),
        ("Write two texts.", "{premise}\n{hypothesis}"),
    ],
    "wnli": [("{sentence1} {sentence2} {options_}", "{answer}")],
    "wsc": [("{context}: is {text2} the {text1}?\n{options_}", "{answer}")],
    "wmt16_translate": [
        ("Into {lang2}: {sent1}", "{sent2}"),
        ("From {lang2} into {lang1}: {sent2}", "{sent1}"),
        ("Is this {lang1}? {sent2}", "No, {lang2}: {sent2}"),
    ],
    "arc": [("{question}\n{options_}", "{answer}")],
    "record": [("{passage} {query}\n{options_str}", "{answer}")],
}
'''
PROMPTS = '''
dataset: super_glue
subset: rte
templates:
  1: !Template
    name: follows
    jinja: '{{premise}} Does it follow that "{{hypothesis}}"? ||| {{ answer_choices[label] }}'
    answer_choices: Yes ||| No
    reference: ''
    metadata: !TemplateMetadata {choices_in_prompt: false, original_task: true, metrics: [Accuracy]}
  2: !Template
    name: make one up
    jinja: "{% if label == 0 %}What follows from {{premise}}? ||| {{hypothesis}}{% endif %}"
    answer_choices: null
    metadata: !TemplateMetadata {original_task: false}
  3: !Template
    name: in words
    jinja: '{{hypothesis}} ||| It is {{ answer_choices[label] }}.'
    answer_choices: true ||| false
    metadata: !TemplateMetadata {original_task: true}
'''


@pytest.fixture(autouse=True)
def registry():
  known = {s.name for s in specs.all_specs()}
  names = set(seqio.MixtureRegistry.names())
  vocabularies.set_default('bytes')
  yield
  for spec in specs.all_specs():
    if spec.name not in known:
      specs.unregister(spec.name)
  for name in set(seqio.MixtureRegistry.names()) - names:
    seqio.MixtureRegistry.remove(name)
  vocabularies.set_default(None)


def written(folder, text, name='templates.py'):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return path


def prompts(folder, *templates, name='my/lines', file_name='templates.yaml'):
  """A promptsource file of (jinja, answer_choices, original_task)."""
  dataset, _, subset = name.partition('/')
  lines = [f'dataset: {dataset}', f'subset: {subset or "null"}', 'templates:']
  for k, (text, choices, original) in enumerate(templates):
    lines += [f'  t{k}: !Template', f'    name: number {k}', f'    jinja: {text!r}',
              f'    answer_choices: {choices!r}' if choices else '    answer_choices: null',
              f'    metadata: !TemplateMetadata {{original_task: {str(original).lower()}}}']
  return written(folder, '\n'.join(lines), file_name)


def rows_of(columns, **ragged):
  """A source of rows given by columns."""
  data = {**columns, **{k: tf.ragged.constant(v) for k, v in ragged.items()}}

  def dataset(split, shuffle_files=False, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices(data)

  return seqio.FunctionDataSource(dataset, ['train', 'test'])


def rendered(task, split='train'):
  dataset = seqio.TaskRegistry.get(task).get_dataset(None, split, shuffle=False)
  return [(x['inputs_pretokenized'].decode(), x['targets_pretokenized'].decode())
          for x in dataset.as_numpy_iterator()]


def test_a_flan_file_gives_tasks_under_the_usual_names(tmp_path):
  library = template_libraries.register_flan(written(tmp_path, FLAN))
  names = {t.name for t in library.tasks}
  assert names == {'flan_rte', 'flan_wnli', 'flan_wsc', 'flan_arc_easy', 'flan_arc_challenge', 'flan_record'} | {
      f'flan_wmt16_translate_{c}en' for c in ('de', 'tr', 'cs', 'fi', 'ro', 'ru')}
  for name in ('flan_rte_10templates', 'flan_rte_type_1_scoring_eval', 'flan_rte_type_2_five_shot',
               'flan_record_type_0_scoring_eval', 'flan_templates_holdout_nli_train',
               'flan_templates_all_train'):
    assert mixtures.known(name)
  ours, theirs = specs.get('rte'), specs.get('flan_rte')
  for attribute in ('cluster', 'source', 'fields', 'metric_fns', 'filter_fn', 'licence'):
    assert getattr(theirs, attribute) == getattr(ours, attribute)
  assert 'no_instructions_flan_rte_10templates' not in seqio.TaskRegistry.names()


def test_flans_wording_stays_and_its_slots_are_ours(tmp_path):
  template_libraries.register_flan(written(tmp_path, FLAN))
  rte, deen = specs.get('flan_rte').templates, specs.get('flan_wmt16_translate_deen').templates
  assert rte[0] == Template('Text: {premise}\nSo: {hypothesis}n\n{options_}', '{answer}')
  assert rte[1].inputs.startswith('{premise} {{sic}} Does it follow that "{hypothesis}"?')
  assert [t.inverted for t in rte] == [False, False, True]
  assert [t.inverted for t in deen] == [False, True, True]
  assert deen[0] == Template('Into {language}: {english}', '{answer}')
  assert deen[2].targets == 'No, {language}: {answer}'
  assert specs.get('flan_record').templates[0].ranks
  fields = flan2021_examples.fields('wsc')
  assert specs.get('flan_wsc').templates[0].render(fields)[0] == (
      f"{fields['text']}: is {fields['pronoun']} the {fields['noun']}?\nOPTIONS:\n- no\n- yes")


def test_what_excludes_each_other_in_flan2021_does_so_here(tmp_path):
  text = FLAN.replace('"arc"', '"glue_mrpc": [("{sentence1} {sentence2}", "{answer}")], "arc"')
  template_libraries.register_flan(written(tmp_path, text))
  holdout = clusters.holdout('flan_templates', 'nli')
  assert {'flan_glue_mrpc', 'flan_wsc'} <= {s.name for s in holdout.excluded}
  assert 'flan_arc_easy' in {s.name for s in holdout.train}


NOT_LITERAL = {
    'a call': 'PATTERNS = dict(a=1)',
    'an import': 'import os',
    'a function': 'def f():\n  pass',
    'an f-string': 'A = "b"\nPATTERNS = {"rte": [(f"{A}", "c")]}',
    'a name from nowhere': 'PATTERNS = {"rte": [(other, "c")]}',
    'a comprehension': 'PATTERNS = {k: [] for k in ["a"]}',
    'an attribute': 'PATTERNS = "".__class__',
    'an item': 'A = {"a": "b"}\nPATTERNS = A["a"]',
    'an assignment to an item': 'PATTERNS = {}\nPATTERNS["a"] = "b"',
    'a product': 'PATTERNS = "a" * 10 ** 9',
    'a sum of lists': 'PATTERNS = {"rte": [("a", "b")] + [("c", "d")]}',
    'an unpacking': 'A = {}\nPATTERNS = {**A}',
    'a star': 'A = []\nPATTERNS = {"rte": [*A]}',
    'a loop': 'for a in []:\n  pass',
    'two targets': 'A = B = "a"',
    'bytes': 'PATTERNS = {"rte": [(b"a", "b")]}',
    'a walrus': '(a := "b")',
    'a number as key': 'PATTERNS = {1: []}',
    'an annotation': 'PATTERNS: print("run") = {}',
}


@pytest.mark.parametrize('name', NOT_LITERAL)
def test_anything_but_texts_is_refused_with_its_line(name, tmp_path):
  path = written(tmp_path, '"""Templates."""\n\n' + NOT_LITERAL[name])
  with pytest.raises(UserError, match='read, not run') as error:
    flan.read_patterns(path)
  line = 2 + len(NOT_LITERAL[name].split('\n')) if name in (
      'an f-string', 'an item', 'an assignment to an item', 'an unpacking', 'a star') else 3
  assert error.value.where == f'{path}:{line}'


def test_a_flan_file_is_never_run(tmp_path):
  marker = tmp_path / 'was_run'
  path = written(tmp_path, f'import pathlib\npathlib.Path({str(marker)!r}).touch()\nPATTERNS = {{}}')
  with pytest.raises(UserError):
    template_libraries.register_flan(path)
  assert not marker.exists()


@pytest.mark.parametrize('text', [
    'PATTERNS = {',
    'A = "a" + "a"\n' + 'A = A + A\n' * 60,
    'PATTERNS = {"rte": [("' + 'a' * 1_000_001 + '", "b")]}',
    'A = [' + '("a", "b"),' * 3000 + ']\nPATTERNS = {' + ''.join(f'"t{i}": A,' for i in range(3000)) + '}',
    'PATTERNS = ' + '(' * 5000 + ')' * 5000,
    'PATTERNS = ' + '"a" + ' * 5000 + '"a"',
    'PATTERNS = {"rte": [("a", "b", "c")]}',
    'PATTERNS = {"rte": []}',
    'TEMPLATES = {"rte": [("a", "b")]}',
    'PATTERNS = {"rte": [("{premise", "b")]}',
    'PATTERNS = "\0"',
], ids=range(11))
def test_a_broken_or_huge_flan_file_is_refused(text, tmp_path):
  with pytest.raises(UserError):
    template_libraries.register_flan(written(tmp_path, text))
  assert not specs.all_specs('flan_templates')


def test_a_slot_that_nothing_serves_is_named(tmp_path):
  path = written(tmp_path, 'PATTERNS = {"rte": [("{premise}", "{answer}"), ("{premis}", "{answer}")]}')
  with pytest.raises(UserError, match='premis') as error:
    template_libraries.register_flan(path)
  assert error.value.where == "set 'rte', task rte, template 1" and 'did you mean premise' in error.value.hint


def test_a_set_without_a_task_is_named(tmp_path):
  with pytest.raises(UserError, match="no task 'rtee'"):
    template_libraries.register_flan(written(tmp_path, 'PATTERNS = {"rtee": [("{premise}", "{answer}")]}'))


def test_a_library_that_cannot_be_registered_leaves_nothing_behind(tmp_path):
  template_libraries.register_flan(written(tmp_path, FLAN))
  before = set(seqio.TaskRegistry.names())
  with pytest.raises(UserError, match='already registered'):
    template_libraries.register_flan(
        written(tmp_path, 'PATTERNS = {"cb": [("{premise}", "{answer}")], "rte": [("a", "b")]}'))
  assert set(seqio.TaskRegistry.names()) == before


def test_every_alias_is_served_by_the_tasks_of_its_set():
  for key, aliases in flan.ALIASES.items():
    text = ' '.join(f'{{{slot}}}' for slot in aliases)
    for name in flan.TASKS.get(key, (key,)):
      assert flan.translated(text, aliases, flan._fields(specs.get(name)), name)


PUBLIC_FLAN = os.environ.get('FLAN_TEMPLATES')


@pytest.mark.skipif(not PUBLIC_FLAN, reason='FLAN_TEMPLATES names no templates.py')
def test_flans_own_file_serves_every_task_of_flan_2021():
  patterns = flan.read_patterns(PUBLIC_FLAN)
  assert len(patterns) == 61 and sum(map(len, patterns.values())) == 610
  library = template_libraries.register_flan(PUBLIC_FLAN)
  assert len(library.tasks) == 70 and all(len(t.templates) == 10 for t in library.tasks)
  assert sum(t.inverted for task in library.tasks for t in task.templates) == 122
  assert sum(task.is_classification for task in library.tasks) == 37
  for task in library.tasks:
    fields = flan2021_examples.fields(task.name.removeprefix('flan_'))
    for template in task.templates:
      assert all(side.strip() for side in template.render(fields))


def test_a_promptsource_file_gives_tasks_under_the_usual_names(tmp_path):
  library = template_libraries.register_promptsource(written(tmp_path, PROMPTS, 'rte.yaml'))
  (spec,) = library.tasks
  assert spec.name == 'promptsource_super_glue_rte' and not library.left_out
  assert library.templates == {spec.name: ('follows', 'make one up', 'in words')}
  assert (spec.cluster, spec.source, spec.suite) == ('nli', specs.get('rte').source, 'promptsource')
  assert [t.inverted for t in spec.templates] == [False, True, False]
  assert spec.scoring_templates == (0,)
  for name in ('promptsource_super_glue_rte_10templates', 'promptsource_super_glue_rte_type_1',
               'promptsource_super_glue_rte_type_0_scoring_eval_two_shot', 'promptsource_all_train'):
    assert mixtures.known(name)


def test_promptsource_texts_and_options_are_rendered(tmp_path):
  template_libraries.register_promptsource(written(tmp_path, PROMPTS, 'rte.yaml'))
  spec = specs.get('promptsource_super_glue_rte')
  fields = [{k: flan2021_examples.plain(v.numpy()) for k, v in
             spec.fields(flan2021_examples.tensors('rte', label=label)).items()} for label in (0, 1)]
  row = flan2021_examples.EXAMPLES['rte']
  assert fields[1]['inputs_0'] == f'{row["premise"]} Does it follow that "{row["hypothesis"]}"?'
  assert (fields[1]['answer_0'], fields[1]['options_0']) == ('No', ['Yes', 'No'])
  assert (fields[0]['inputs_1'], fields[0]['answer_1']) == (
      f'What follows from {row["premise"]}?', row['hypothesis'])
  assert (fields[1]['inputs_1'], fields[1]['answer_1']) == ('', '')
  assert fields[1]['answer_2'] == 'It is false.' and 'options_2' not in fields[1]


COLUMNS = {
    'text': ['one ||| two', 'three', 'four\nfive', ''],
    'label': [0, 1, 1, 2],
    'good': [True, False, True, False],
    'nested': {'name': ['a', 'b', 'c', 'd'], 'list': [['x', 'y']] * 4},
    'odd-name': [1.5, 2.0, 0.0, 3.0],
}
RAGGED = {'words': [[['a', 'b'], ['c']], [], [['d']], [['e'], []]]}


def bound(folder, *templates, columns=None, **changes):
  source = rows_of(COLUMNS, **RAGGED)
  binding = Binding(source, 'echo', columns=columns or {}, **changes)
  return template_libraries.register_promptsource(
      prompts(folder, *templates), bindings={'my/lines': binding})


def test_columns_come_as_hugging_face_gives_them(tmp_path):
  bound(tmp_path, (
      '{{ text }};{{ label + 1 }};{{ good }};{{ nested.name }};{{ nested["list"] }};{{ odd_name }};{{ words }}'
      ' ||| {{ first }}{{ words[0] }}', None, True), columns={'first': "text[:1] ~ '-'"})
  found = rendered('promptsource_my_lines_type_0')
  assert found[0] == ("one ||| two;1;True;a;['x', 'y'];1.5;[['a', 'b'], ['c']]", "o-['a', 'b']")
  assert found[1] == ("three;2;False;b;['x', 'y'];2.0;[]", 't-')
  assert found[2][0].startswith('four\nfive;2;True;c')


def test_an_example_for_which_a_template_has_nothing_is_left_out_under_it(tmp_path):
  bound(tmp_path, ('{% if good %}{{ text }} ||| {{ label }}{% endif %}', None, True),
        ('{{ label }} ||| {{ text }}', None, True))
  assert rendered('promptsource_my_lines_type_0') == [('one ||| two', '0'), ('four\nfive', '1')]
  assert len(rendered('promptsource_my_lines_type_1')) == 3
  assert 0 < len(rendered('promptsource_my_lines_10templates')) < 4


def test_several_targets_are_references(tmp_path):
  bound(tmp_path, ('{{ label }}{% for w in nested.list %} ||| {{ w }}{{ label }}{% endfor %}', None, True),
        metric_fns=[metrics.squad])
  task = seqio.TaskRegistry.get('promptsource_my_lines_type_0')
  row = next(task.get_dataset(None, 'test', shuffle=False).as_numpy_iterator())
  assert row['answers'].tolist() == [b'x0', b'y0'] and row['targets_pretokenized'] == b'x0'
  assert task.postprocess_fn('x0', example=row, is_target=True) == ['x0', 'y0']


def test_choices_are_ranked_and_a_target_that_is_none_of_them_is_told_of(tmp_path):
  bound(tmp_path, ('{{ text }} ||| {{ nested.name }}', 'a ||| b ||| {{ nested.name|upper }}', True))
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    assert [target for _, target in rendered('promptsource_my_lines_type_0')] == ['a', 'b']
  assert any("template 'number 0'" in str(w.message) for w in caught)
  task = seqio.TaskRegistry.get('promptsource_my_lines_type_0_scoring_eval')
  rows = list(task.get_dataset(None, 'test', shuffle=False).as_numpy_iterator())
  assert [(r['targets_pretokenized'], bool(r['is_correct'])) for r in rows] == [
      (b'a', True), (b'b', False), (b'A', False), (b'a', False), (b'b', True), (b'B', False)]


def test_choice_picks_the_same_in_every_run(tmp_path):
  bound(tmp_path, ('{{ range(1000)|choice }} {{ text }} ||| {{ words|random }}', None, True))
  assert rendered('promptsource_my_lines_type_0') == rendered('promptsource_my_lines_type_0')


def test_exemplars_are_never_empty(tmp_path):
  bound(tmp_path, ('{% if good %}{{ text }} ||| {{ label }}{% endif %}', None, True))
  found = rendered('promptsource_my_lines_type_0_ten_shot', 'test')
  assert found == [('four\nfive\n1\n\none ||| two', '0'), ('one ||| two\n0\n\nfour\nfive', '1')]


def test_a_column_that_the_data_lacks_is_named(tmp_path):
  bound(tmp_path, ('{{ text }} ||| {{ lable }}', None, True))
  with pytest.raises(UserError, match="'lable'") as error:
    rendered('promptsource_my_lines_type_0')
  assert "template 'number 0'" in error.value.where and 'did you mean label' in error.value.hint


def test_a_template_that_fails_on_an_example_is_named(tmp_path):
  bound(tmp_path, ('{{ text }} ||| {{ 1 // label }}', None, True))
  with pytest.raises(UserError, match='ZeroDivisionError') as error:
    list(catalogue.show_task('promptsource_my_lines_type_0', 4))
  assert "template 'number 0'" in error.value.where


def test_what_grows_with_the_data_is_refused_while_it_runs(tmp_path):
  bound(tmp_path, ("{% for a in range(90000) %}{{ text }}{% endfor %} ||| b", None, True))
  with pytest.raises(UserError, match='characters and steps'):
    list(catalogue.show_task('promptsource_my_lines_type_0', 1))


def test_templates_can_be_left_out_by_name(tmp_path):
  path = prompts(tmp_path, ('{{premise}} ||| b', None, True), ('{{gone}} ||| b', None, True),
                 name='super_glue/rte')
  library = template_libraries.register_promptsource(path, leave_out=['number 1'])
  assert library.templates == {'promptsource_super_glue_rte': ('number 0',)}
  assert list(library.left_out.values()) == ['left out by name']


def test_of_a_folder_sets_without_data_are_left_out_and_told_of(tmp_path):
  for name in ('super_glue/rte', 'glue/cola', 'nowhere/known', 'imdb', 'story_cloze/2016', 'anli'):
    column = {'story_cloze/2016': 'input_sentence_1', 'imdb': 'text', 'glue/cola': 'sentence'}
    prompts(tmp_path, (f'{{{{ {column.get(name, "premise")} }}}} ||| b', None, True), name=name,
            file_name=f'{name}/templates.yaml')
  library = template_libraries.load(tmp_path)
  assert [t.name.removeprefix('promptsource_') for t in library.tasks] == [
      'anli_r1', 'anli_r2', 'anli_r3', 'glue_cola', 'imdb', 'super_glue_rte']
  assert sorted(library.left_out.values()) == [
      "no registered task reads 'nowhere/known'", "the data here has no column 'input_sentence_1'"]
  with pytest.raises(UserError, match='gives no task'):
    template_libraries.load(tmp_path / 'nowhere')
  with pytest.raises(UserError, match='no library of templates'):
    template_libraries.load(written(tmp_path / 'empty', '', 'a.txt').parent)


@pytest.mark.parametrize('name', hugging_face.SETS)
def test_columns_of_hugging_face_can_be_made_of_those_of_tfds(name):
  known = hugging_face.SETS[name]
  for task in known.tasks:
    row = flan2021_examples.EXAMPLES[task]
    row = {k.replace('-', '_'): v for k, v in row.items()}
    for expression in filter(None, known.columns.values()):
      program = jinja.expression(expression)
      assert program.columns <= set(row)
      assert program.value('result', row) not in (None, '')


def test_hugging_faces_labels_are_those_of_the_same_answer():
  def column(name, column, task):
    row = {k.replace('-', '_'): v for k, v in flan2021_examples.EXAMPLES[task].items()}
    return jinja.expression(hugging_face.SETS[name].columns[column]).value('result', row)

  choices = column('ai2_arc/ARC-Challenge', 'choices', 'arc_challenge')
  answer = column('ai2_arc/ARC-Challenge', 'answerKey', 'arc_challenge')
  fields = flan2021_examples.fields('arc_challenge')
  assert choices['text'][choices['label'].index(answer)] == fields['answer']
  order = ['abbreviation', 'entity', 'description', 'human', 'location', 'numeric']
  for label, wanted in enumerate(['description', 'entity', 'abbreviation', 'human', 'numeric', 'location']):
    program = jinja.expression(hugging_face.SETS['trec'].columns['coarse_label'])
    assert order[program.value('result', {'label_coarse': label})] == wanted


def fingerprint(name='promptsource_my_lines_type_0'):
  task = seqio.TaskRegistry.get(name)
  return fingerprints.of_task(task, 'train')


def test_a_change_of_the_jinja_changes_the_fingerprint_and_its_place_does_not(tmp_path):
  found = []
  for folder, text, choices, columns in [
      ('a', '{{ text }} ||| {{ label }}', '0 ||| 1', {}), ('b', '{{ text }} ||| {{ label }}', '0 ||| 1', {}),
      ('c', '{{ text }}: ||| {{ label }}', '0 ||| 1', {}), ('d', '{{ text }} ||| {{ label }}', '0 ||| 2', {}),
      ('e', '{{ text }} ||| {{ label }}', '0 ||| 1', {'text': 'nested.name'})]:
    bound(tmp_path / folder, (text, choices, True), columns=columns)
    found.append(fingerprint()['spec'])
    specs.unregister('promptsource_my_lines')
  assert found[0] == found[1] and len(set(found)) == 4


def test_workers_know_the_libraries_of_their_parent(tmp_path):
  path = written(tmp_path, 'PATTERNS = {"prep_a": [("Say {text}", "{answer}")], "prep_b": [("{text}", "{answer}")]}')
  template_libraries.register_flan(path, prefix='mine_', suite='mine')
  lines = prompts(tmp_path, ('Repeat: {{ line|trim }} ||| {{ line|upper }}', None, True))
  template_libraries.register_promptsource(
      lines, prefix='theirs_', suite='mine', bindings={'my/lines': 'prep_a'})
  made = {}
  for workers in (1, 2):
    manifest = manifest_lib.load(prepare.prepare(
        'mine_all_train', LENGTHS, output_dir=tmp_path / str(workers), num_workers=workers))
    made[workers] = {t.name: (t.fingerprint, t.num_examples, [s.sha256 for s in t.shards])
                     for t in manifest.tasks}
  assert made[1] == made[2]
  assert {n: k for n, (_, k, _) in made[1].items()} == {
      'mine_prep_a_10templates': 57, 'mine_prep_b_10templates': 230, 'theirs_my_lines_10templates': 57}
  assert prepared_tasks.SIZES['prep_a'] == 57


def test_a_process_ends_while_an_iterator_is_alive(tmp_path):
  path = prompts(tmp_path, ('{{ line }} ||| {{ line }}', None, True))
  program = ('import prepared_tasks\n'
             'from flanjax.data import template_libraries, vocabularies\n'
             'import seqio\n'
             'vocabularies.set_default("bytes")\n'
             f'template_libraries.register_promptsource({str(path)!r}, bindings={{"my/lines": "prep_b"}})\n'
             'task = seqio.TaskRegistry.get("promptsource_my_lines_type_0")\n'
             'alive = iter(task.get_dataset(None, "train", shuffle=False))\n'
             'next(alive)\n')
  folder = str(pathlib.Path(__file__).parent)
  done = subprocess.run([sys.executable, '-c', program], cwd=folder, timeout=300, check=False)
  assert done.returncode == 0


def test_the_end_waits_for_a_call_that_runs_and_lets_no_other_begin():
  calls, done = rendering._Calls(), []

  def slow():
    with calls.one():
      begun.set()
      time.sleep(0.3)
      done.append(1)

  begun = threading.Event()
  thread = threading.Thread(target=slow)
  thread.start()
  begun.wait()
  calls.end(quiet_s=0.01)
  assert done == [1]
  with pytest.raises(RuntimeError, match='ending'), calls.one():
    done.append(2)
  assert done == [1]


def test_the_command_line_takes_a_library(tmp_path, capsys):
  path = written(tmp_path, FLAN)
  assert cli.main(['tasks', 'list', '--suite', 'flan_templates', '--templates', str(path)]) == 0
  assert 'flan_wsc' in capsys.readouterr().out
  for spec in specs.all_specs('flan_templates'):
    specs.unregister(spec.name)
  bad = written(tmp_path, 'import os\n', 'bad.py')
  assert cli.main(['tasks', 'list', '--templates', str(bad)]) == 1
  assert f'{bad}:1' in capsys.readouterr().err


def test_a_module_can_register_a_library_for_other_verbs(tmp_path, monkeypatch, capsys):
  rte = written(tmp_path, PROMPTS, 'rte.yaml')
  written(tmp_path, 'from flanjax.data import template_libraries\n'
          f'template_libraries.register_promptsource({str(rte)!r})\n', 'my_own_templates.py')
  monkeypatch.chdir(tmp_path)
  assert cli.main(['mixtures', 'list', 'promptsource_holdout', '--module', 'my_own_templates']) == 0
  assert 'promptsource_holdout_nli_eval' in capsys.readouterr().out
