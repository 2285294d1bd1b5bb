"""Jinja templates of strangers: what is refused, and that the rest reads as in plain Jinja."""

import os
import pathlib
import tracemalloc

import jinja2
import pytest

from flanjax.data.template_libraries import jinja, promptsource, promptsource_files
from flanjax.data.template_libraries.jinja_allowance import MAX_WORK, Refused
from flanjax.errors import UserError

ROW = {
    'x': 'hello', 'n': 3, 'empty': '', 'label': 1, 'score': 2.5,
    'xs': ['b', 'a', 'c', 'a'], 'text': 'Call me Ishmael. Some years ago',
    'answers': {'text': ['Paris', 'paris'], 'answer_start': [3, 3]},
    'turns': [{'who': 'A', 'says': 'hi'}, {'who': 'B', 'says': ''}],
}
LONG = "{% for a in range(90000) %}"
END = '{% endfor %}'

ATTRIBUTES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x|attr('__class__') }}",
    "{{ x['__class__'] }}",
    "{{ xs|map(attribute='__class__')|list }}",
    "{{ xs|map(attribute='a.__class__')|list }}",
    "{{ xs|map('attr', '__class__')|list }}",
    "{{ xs|selectattr('__class__')|list }}",
    "{{ ().__class__.__base__ }}",
    '{{ __builtins__ }}',
    '{{ range.__self__ }}',
    '{{ namespace.__init__ }}',
    '{{ x.upper.__self__ }}',
    '{{ lipsum.__globals__ }}',
    '{{ self._TemplateReference__context }}',
]
STRANGE = [
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '%s'|format(x) }}",
    "{{ '%s' % x }}",
    '{{ lipsum() }}',
    "{{ cycler('a') }}",
    "{{ joiner(',') }}",
    '{{ self }}',
    '{{ x.encode() }}',
    '{{ xs.clear() }}',
    '{% set f = x.upper %}{{ f() }}',
    '{{ x.upper }}',
    '{{ range }}',
    '{{ range(*xs) }}',
    '{{ namespace(**answers) }}',
    '{{ x is callable }}',
    "{{ xs|map('up' ~ 'per')|list }}",
    '{{ x|safe }}',
    '{{ xs|tojson }}',
    '{% for a in xs %}{{ loop }}{% endfor %}',
    "{% for a in xs %}{{ loop.cycle('a') }}{% endfor %}",
    '{% for a in xs recursive %}{{ loop(xs) }}{% endfor %}',
    "{% include '/etc/passwd' %}",
    "{% extends 'base' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}',
    '{% block a %}{{ self.a() }}{% endblock %}',
    '{% call x() %}a{% endcall %}',
    '{% filter upper %}a{% endfilter %}',
    '{% set a %}b{% endset %}',
    '{% autoescape true %}{% endautoescape %}',
    '{% do xs %}',
    '{% debug %}',
]
LARGE = [
    "{{ 'a' * 10 ** 9 }}",
    "{{ 'a' * 999999999 }}",
    '{{ 999999999 * [0] }}',
    '{{ 10 ** 10 ** 10 }}',
    '{{ 2 ** 99999999 }}',
    '{{ 9999999999999 * 9999999999999 }}',
    "{{ 'a'|center(999999999) }}",
    "{{ 'a'.center(99999999) }}",
    "{{ 'a'|indent(99999999) }}",
    "{{ '%099999999d' % 1 }}",
    '{{ x|wordwrap(1) }}',
    '{{ range(999999999)|list }}',
    '{{ range(10 ** 18) }}',
    "{{ ('a' * 90000).replace('a', 'b' * 90000) }}",
    "{{ ('a' * 90000)|replace('a', 'b' * 90000) }}",
    "{{ x.replace('', 'y' * 90000) * 50 }}",
    "{{ range(50000)|join('a' * 90000) }}",
    "{{ ('a' * 90000).join(xs * 9000) }}",
    "{{ ('a' * 400000).strip('b' * 400000) }}",
    LONG * 8 + 'a' + END * 8,
    LONG * 9 + END * 9,
    LONG + LONG + END + END,
    LONG + 'a' * 200 + END,
    LONG + '{% if ' + ' and '.join(['x'] * 500) + ' %}{% endif %}' + END,
    LONG + "{% if x in 'a' * 1000 %}{% endif %}" + END,
    "{% set s = 'aaaaaaaaaa' %}" + '{% set s = s + s %}' * 40,
    "{% set s = 'aaaaaaaaaa' %}" + '{% set s = s ~ s %}' * 40,
    *("{% set n = namespace(s=" + start + ") %}{% for i in range(60) %}{% set n.s = " + step
      + ' %}{% endfor %}{{ n.s }}' for start, step in (
          ("'a'", 'n.s + n.s'), ("'a'", 'n.s ~ n.s'), ('[1]', 'n.s + n.s'), ('[1]', '[n.s, n.s]'),
          ('{}', "{'a': n.s, 'b': n.s}"), ('[1]', 'zip(n.s, n.s)'))),
    '{% set a = [] %}{{ a.append(a) }}',
    '{% set a = [] %}{% set b = [a] %}{{ a.append(b) }}{{ a }}',
    "{% set a = {} %}{{ a.update({'a': a}) }}",
    '{% set n = namespace() %}{% set n.n = n %}{{ n }}',
    # Lists that hold each other twice, filled from the far end: each step is small.
    ''.join(f'{{% set a{i} = [] %}}{{% set b{i} = [] %}}' for i in range(40))
    + ''.join(f'{{{{ {q}{i}.append({q}{i + 1}) }}}}' * 2 for i in range(39) for q in 'ab')
    + '{{ a0 == b0 }}',
    '(' * 30_000,
    '{{ ' + '(' * 3000 + '1' + ')' * 3000 + ' }}',
    '{{ ' + '[' * 2000 + ']' * 2000 + ' }}',
    '{{ ' + 'not ' * 4000 + '1 }}',
    '{{ ' + '1+' * 8000 + '1 }}',
    '{{ x' + '|trim' * 3000 + ' }}',
    '{% if x %}' * 1000 + '{% endif %}' * 1000,
    '{{ ' + '9' * 9000 + ' }}',
]


@pytest.mark.parametrize('source', [*ATTRIBUTES, *STRANGE], ids=lambda s: s[:40])
def test_what_reaches_for_objects_or_statements_is_refused(source):
  with pytest.raises(Refused) as error:
    jinja.Program(source).render(ROW)
  assert error.value.got


@pytest.mark.parametrize('source', ATTRIBUTES)
def test_attribute_walks_are_refused_before_anything_is_rendered(source):
  with pytest.raises(Refused):
    jinja.Program(source)


@pytest.mark.parametrize('source', LARGE, ids=lambda s: s[:40])
def test_little_text_that_asks_for_much_is_refused_with_little_memory(source):
  tracemalloc.start()
  with pytest.raises(Refused):
    jinja.Program(source).render(ROW)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 40 * MAX_WORK


@pytest.mark.parametrize('source', [
    "{{ ''['__cl' ~ 'ass__'] }}",
    "{{ xs|map(attribute='__cl' ~ 'ass__')|join }}",
    "{{ xs|map(attribute='upper')|join }}",
    '{{ (1.0).real }}{{ x.nothing }}{{ nothing }}',
])
def test_an_attribute_that_is_no_column_is_nothing(source):
  assert jinja.Program(source).render(ROW) in ('', 'Undefined' * 4)


# Forms in which public templates are written.
PLAIN = [
    'Does {{x}} follow? ||| {{ ["no", "yes"][label] }}',
    '{% if label == 1 %}one{% elif label %}more{% else %}none{% endif %} {{ n }} {{ score }}',
    "{{ answers['text'][0] }} {{ answers.text | join(', ') }} {{ answers.text.0 }}",
    '{% for t in turns %}{{ loop.index }}. {{ t.who }}: {{ t["says"] }}{% if not loop.last %}\n'
    '{% endif %}{% endfor %}',
    '{% for w in text.split() if w|length > 2 %}{{ w.lower() }} {% else %}-{% endfor %}',
    "{{ text.split('.')[0] | trim | capitalize | replace('call', 'Phone') }} {{ text[:4] ~ '!' }}",
    '{% set ns = namespace(k=0, seen=[]) %}{% for a in xs %}{% set ns.k = ns.k + 1 %}'
    '{{ ns.seen.append(a) or "" }}{% endfor %}{{ ns.k }} {{ ns.seen }}',
    '{% set d = {} %}{% set _ = d.update({"k": xs}) %}{{ d }} {{ d.keys()|list }} {{ d.items()|list }}',
    '{{ xs|unique|list }} {{ xs|sort }} {{ xs|first }} {{ xs|last }} {{ xs|length }} {{ xs|min }}',
    "{{ turns|selectattr('says')|map(attribute='who')|list }} {{ xs|reject('equalto', 'a')|list }}",
    "{{ xs|select('!=', 'a')|list }} {{ xs|map('upper')|join('/') }} {{ xs.index('c') }}",
    '{{ score|round }} {{ (5 * score)|round / 5 }} {{ -n|abs }} {{ n % 2 }} {{ n // 2 }} {{ 2 ** n }}',
    "{{ empty|default('nothing', true) }} {{ gone|default('gone') }} {{ '7'|int + 1 }} {{ n|float }}",
    '{{ x if label else n }} {{ x in xs }} {{ xs[::-1] }} {{ 1 < n <= 3 and not empty }}',
    "{% for a, b in zip(xs, range(9)) %}{{ a }}{{ b }}{% endfor %} {{ [0] * n + [1] }} {{ 'ab' * n }}",
    '{{ range(2, 9, 3)|list }} {{ x.startswith("he") }} {{ x.replace("l", "") }} {{ x|string|upper }}',
    "{%- for a in xs -%} {{ a }} {%- endfor %}{# a comment #}{% raw %}{{ x }}{% endraw %}",
    '{{ ", ".join(xs) }} {{ x.title() }} {{ xs.pop() }}{{ xs|length }} {{ "|||".join(xs) }}',
]


@pytest.mark.parametrize('source', PLAIN)
def test_what_is_allowed_reads_as_in_plain_jinja(source):
  environment = jinja2.Environment()
  environment.globals.update(zip=zip)
  row = {**ROW, 'xs': list(ROW['xs'])}
  assert jinja.Program(source).render(ROW) == environment.from_string(source).render(**row)
  assert ROW['xs'] == ['b', 'a', 'c', 'a']


def test_a_choice_depends_on_template_and_example_alone():
  source = '{{ range(1000)|choice }} {{ range(1000)|random }}'
  rows = [{'x': i} for i in range(50)]
  first = [jinja.Program(source).render(row) for row in rows]
  assert first == [jinja.Program(source).render(row) for row in rows]
  assert len(set(first)) == 50
  assert all(a != b for a, b in map(str.split, first[:5]))
  assert jinja.Program('{{ [] | choice }}').render({}) == ''
  assert jinja.Program("{{ ['b', 'a', 'b', 'a'] | most_frequent }}").render({}) == "['b', 'a']"


def test_columns_are_what_a_template_reads_and_never_sets():
  source = '{% if a %}{% set b = 1 %}{% endif %}{% for c in d %}{{ c.e }}{{ b }}{{ range(2) }}{% endfor %}'
  assert jinja.Program(source).columns == {'a', 'd'}


def test_a_failure_in_a_template_is_named():
  with pytest.raises(Refused, match='ZeroDivisionError'):
    jinja.Program('{{ 1 // (label - 1) }}').render(ROW)
  with pytest.raises(Refused, match='UndefinedError.*gone'):
    jinja.Program('{{ gone.text }}').render(ROW)
  with pytest.raises(Refused, match='line 2'):
    jinja.Program('a\n{{ b')


def yaml_of(jinja_text='{{x}} ||| {{n}}', **entry):
  lines = [f'      {k}: {v}' for k, v in {'name': 't', 'answer_choices': 'null', **entry}.items()]
  return '\n'.join([
      'dataset: d', 'templates:', '  one: !Template', *lines, f'    {"":2}jinja: {jinja_text!r}', ''])


def written(folder, text):
  path = folder / 'templates.yaml'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


BOMB = 'a: &a [x, x]\n' + ''.join(f'{b}: &{b} [*{a}, *{a}]\n' for a, b in zip('abcdefg', 'bcdefgh'))
HOSTILE_FILES = {
    'billion laughs': BOMB,
    'an alias of itself': 'a: &a [*a]\n',
    'merged keys': 'a: &a {x: 1}\nb: &b\n  <<: *a\n  <<: *a\nc:\n  <<: [*b, *b]\n',
    'python object': yaml_of() + 'more: !!python/object/apply:os.system ["true"]\n',
    'python name': yaml_of() + 'more: !!python/name:os.system\n',
    'unknown tag': yaml_of() + 'more: !Secret x\n',
    'a set': yaml_of() + 'more: !!set {a, b}\n',
    'deep': '[' * 5000,
    'deep and closed': '[' * 900 + ']' * 900,
    'large': 'a: ' + 'b' * 1_100_000,
    'many templates': 'dataset: d\ntemplates:\n' + ''.join(
        f'  t{i}: !Template {{name: t, jinja: "a ||| b", answer_choices: null}}\n' for i in range(300)),
    'no text': b'\xff\xfe\x00',
    'no yaml': 'a: [b\n',
    'a list': '- a\n- b\n',
    'no dataset': 'templates: {}\n',
    'a number for a name': yaml_of(name='[1, 2]'),
    'a bool for jinja': 'dataset: d\ntemplates:\n  a: !Template {name: a, jinja: true, answer_choices: null}\n',
    'a text for a template': 'dataset: d\ntemplates:\n  a: b\n',
}


@pytest.mark.parametrize('name', HOSTILE_FILES)
def test_a_hostile_or_broken_file_is_refused_by_its_name(name, tmp_path):
  path = written(tmp_path, HOSTILE_FILES[name])
  with pytest.raises(UserError) as error:
    promptsource_files.read_set(path)
  assert str(path) in error.value.where


def test_a_hostile_template_is_refused_by_file_name_and_reason(tmp_path):
  path = written(tmp_path, yaml_of("{{ ''.__class__ }} ||| {{n}}"))
  with pytest.raises(UserError) as error:
    promptsource.templates_of(promptsource_files.read_set(path))
  assert error.value.where == f"{path}, template 't'"
  assert error.value.got == "the attribute '__class__'"


def test_an_alias_for_one_mapping_is_no_bomb(tmp_path):
  text = yaml_of(metadata='&m {original_task: false}') + (
      '  two: !Template {name: u, jinja: "a ||| b", answer_choices: null, metadata: *m}\n')
  found = promptsource.templates_of(promptsource_files.read_set(written(tmp_path, text)))
  assert [t.inverted for t in found] == [True, True]


PUBLIC = os.environ.get('PROMPTSOURCE_TEMPLATES')


@pytest.mark.skipif(not PUBLIC, reason='PROMPTSOURCE_TEMPLATES names no folder of templates')
def test_nearly_all_public_templates_are_allowed():
  counts = {True: 0, False: 0}
  for path in promptsource_files.files_of(pathlib.Path(PUBLIC)):
    for entry in promptsource_files.read_set(path).entries:
      try:
        promptsource._template(entry, str(path))
        counts[True] += 1
      except UserError:
        counts[False] += 1
  assert counts[False] < 0.05 * counts[True]
