import base64
import csv
import doctest
import hashlib
import html.parser
import json
import subprocess
import sys

import pytest
from report_runs import HOSTILE, PAIR, ROLES, assembled, write, write_training

from flanjax import pages
from flanjax.errors import UserError
from flanjax.evaluation import clean, comparison, headline, page, report, task_records


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """(run, report) of a whole run, with everything that a report can show."""
  run = tmp_path_factory.mktemp('run')
  write(run, PAIR, prompt=HOSTILE, holdout='nli', models=ROLES, split='test', seed=3)
  write_training(run)
  return run, report.build(run, resamples=200)


def test_report_json_holds_what_was_promised(built):
  run, found = built
  assert json.loads((run / 'report' / 'report.json').read_text()) == json.loads(json.dumps(found))
  assert found['holdout'] == 'nli' and found['models'] == ['tuned', 'untuned']
  nli, sentiment = found['clusters']
  assert (nli['cluster'], nli['held_out'], sentiment['held_out']) == ('nli', True, False)
  assert nli['metric'] == 'accuracy' and nli['n_examples'] == 40
  assert nli['scores'] == {'tuned': 90.0, 'untuned': 50.0}
  assert nli['difference']['low'] < nli['difference']['value'] == 40.0 < nli['difference']['high']
  assert nli['baselines'] == {'majority': 50.0, 'chance': 50.0, 'copy': None, 'best': 50.0}
  assert found['loss'][0]['values'] == pytest.approx([3, 1.5, 1, 0.75, 0.25])
  assert [(t['dataset'], t['expected'], t['drawn']) for t in found['audit']['tasks']] == [
      ('x', 0.75, 0.75), ('y', 0.25, 0.25)]  # fmt: skip
  assert found['seeds'] == {'run': 3, 'bootstrap': 0}


def test_samples_show_right_and_wrong_answers_of_every_model(built):
  samples = [s for s in built[1]['samples'] if s['task'] == 'nli_task']
  # Tuned is right on the first 36 of 40, untuned on the first 20.
  assert [s['outcome'] for s in samples] == ['won'] * 3 + ['both right'] * 2 + ['neither'] * 2
  verdicts = {s['outcome']: [a['verdict'] for a in s['answers']] for s in samples}
  assert verdicts == {'won': ['right', 'wrong'], 'both right': ['right'] * 2, 'neither': ['wrong'] * 2}
  [task] = [t for t in built[1]['tasks'] if t['task'] == 'nli_task']
  assert task['outcomes'] == {'won': 16, 'both right': 20, 'neither': 4}
  assert all([a['model'] for a in s['answers']] == ['tuned', 'untuned'] for s in samples)


def test_csv_has_a_row_for_every_score(built):
  with open(built[0] / 'report' / 'results.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  levels = [r['level'] for r in rows]
  assert [levels.count(level) for level in ('cluster', 'task', 'template')] == [4, 4, 4]
  first = rows[0]
  assert (first['cluster'], first['model'], first['score']) == ('nli', 'tuned', '90.0')


def test_plots_are_pictures(built):
  plots = sorted((built[0] / 'report' / 'plots').iterdir())
  assert [p.name for p in plots] == ['clusters.png', 'loss.png', 'shares.png']
  assert all(p.read_bytes().startswith(b'\x89PNG') for p in plots)


class _Page(html.parser.HTMLParser):
  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text, self.scripts, self.numbers = [], [], '', [], {}
    self._open = self._at = None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    self._open, attributes = tag, dict(attrs)
    if tag == 'script':
      self.scripts.append('')
    self._at = (attributes['data-at'], attributes['data-format']) if 'data-at' in attributes else None

  def handle_endtag(self, tag):
    self._open = self._at = None

  def handle_data(self, data):
    if self._open == 'script':
      self.scripts[-1] += data
    elif self._at:
      self.numbers[self._at] = data
    else:
      self.text += data


@pytest.fixture(scope='module')
def parsed(built):
  return _Page((built[0] / 'report' / 'report.html').read_text())


def test_text_from_data_stays_text_and_nothing_is_fetched(parsed):
  assert not {'img', 'link', 'iframe', 'object', 'base', 'form'} & set(parsed.tags)
  assert parsed.text.count('<script>window.harmed = 1</script>') >= 3  # a prompt, the gin file, versions
  names = {name for name, _ in parsed.attributes}
  assert not {'src', 'srcset', 'action'} & names and not [n for n in names if n.startswith('on')]
  links = [v for n, v in parsed.attributes if n in ('href', 'xlink:href')]
  assert all(link.startswith('#') for link in links)
  assert parsed.tags.count('svg') == 3


def test_the_policy_allows_one_script_and_it_is_the_pages_own(parsed):
  data, script = parsed.scripts
  assert json.loads(data)['models'] == ['tuned', 'untuned'] and 'harmed' not in script
  [allowed] = [v for n, v in parsed.attributes if n == 'content' and 'script-src' in v]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"script-src 'sha256-{digest}'" in allowed and "default-src 'none'" in allowed
  assert allowed == pages.policy(script)


def _at(found, pointer):
  for key in pointer.split('/')[1:]:
    found = found[int(key)] if isinstance(found, list) else found[key.replace('~1', '/').replace('~0', '~')]
  return found


def test_numbers_of_the_page_are_those_of_report_json(built, parsed):
  found = json.loads((built[0] / 'report' / 'report.json').read_text())
  for (at, form), text in parsed.numbers.items():
    write = {'number': pages.number, 'signed': pages.signed}[form[:6]]
    assert text == write(_at(found, at), int(form[-1])), at
  told = {at for at, _ in parsed.numbers}
  for at in ('/clusters/0/scores/tuned', '/clusters/1/difference/value', '/tasks/1/scores/untuned',
             '/tasks/0/conventions/per_character/tuned/value', '/tasks/0/baselines/chance'):
    assert at in told


def test_ids_of_the_page_are_unique_and_links_resolve(parsed):
  ids = [v for n, v in parsed.attributes if n == 'id']
  assert len(ids) == len(set(ids))
  assert {v[1:] for n, v in parsed.attributes if n in ('href', 'xlink:href')} <= set(ids)


def test_the_same_records_give_the_same_page(built, tmp_path):
  run, _ = built
  report.build(run, tmp_path, resamples=200)
  for name in ('report.html', 'report.json', 'results.csv', 'plots/clusters.png'):
    assert (tmp_path / name).read_bytes() == (run / 'report' / name).read_bytes(), name


def test_headline_claims_what_the_intervals_show(built, tmp_path):
  text = built[1]['headline']
  assert text == headline.of(built[1])
  assert 'On held-out nli, tuning raised accuracy: 50.0 before, 90.0 after (+40.0 points' in text
  assert 'above the best trivial baseline of 50.0' in text

  rights = {'tuned': {'nli': 0.5, 'a': 0.9, 'b': 0.1}, 'untuned': {'nli': 0.5, 'a': 0.1, 'b': 0.9}}
  run = write(tmp_path, rights, holdout='nli', models=ROLES)
  text = report.build(run, resamples=200)['headline']
  assert 'did not clearly move accuracy' in text and 'not above the best' in text
  assert '1 of the 2 clusters seen in tuning is clearly better for it, 1 clearly worse.' in text


def test_clusters_not_tuned_on_are_told_apart_from_those_seen(tmp_path):
  rights = {
      'tuned': {'sentiment': 0.9, 'nli': 0.2, 'topic': 0.3, 'misc': 0.5},
      'untuned': {'sentiment': 0.5, 'nli': 0.9, 'topic': 0.8, 'misc': 0.5},
  }
  found = report.build(write(tmp_path, rights, models=ROLES, trained=('sentiment',)), resamples=200)
  assert [(c['cluster'], c['status']) for c in found['clusters']] == [
      ('sentiment', 'seen'), ('misc', 'unseen'), ('nli', 'unseen'), ('topic', 'unseen')]  # fmt: skip
  first, second = found['headline'].split('. ')
  assert first.startswith('On sentiment, tuning raised accuracy: 50.0 before, 90.0 after')
  assert second == 'None of the 3 clusters not tuned on are clearly better for it, 2 clearly worse.'
  text = (tmp_path / 'report' / 'report.html').read_text()
  assert 'clusters not tuned on, clearly worse' in text


def test_reporting_needs_no_tensorflow(built):
  code = ('import sys; from flanjax import cli; status = cli.main(["report", sys.argv[1]])\n'
          'sys.exit(status or "tensorflow" in sys.modules)')
  run, _ = built
  done = subprocess.run([sys.executable, '-c', code, run], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'report.html' in done.stdout


def test_one_model_alone_has_no_difference(tmp_path):
  run = write(tmp_path, {'base': {'nli': 0.6}})
  found = assembled(run)
  assert found['clusters'][0]['difference'] is None and found['holdout'] is None
  assert found['headline'].startswith('On nli, base scores 60.0 (accuracy, n = 40), ')


def test_two_runs_stand_side_by_side(tmp_path):
  first = write(tmp_path / 'first', PAIR, holdout='nli', models=ROLES)
  second = write(tmp_path / 'second', {'tuned': {'nli': 0.6, 'sentiment': 0.8}}, models=ROLES)
  found = assembled(first, second)
  assert found['models'] == ['tuned', 'untuned', 'tuned [second]']
  nli = found['clusters'][0]
  assert nli['difference']['value'] == pytest.approx(40)
  assert [d['value'] for d in nli['differences']] == pytest.approx([40, 30])


def test_a_corrupt_line_is_named_and_a_cut_off_last_one_left_out(tmp_path):
  run = write(tmp_path, PAIR, holdout='nli', models=ROLES)
  path = run / 'eval' / 'records' / 'tuned' / 'nli_task_type_0.jsonl'
  whole = path.read_text()
  path.write_text(whole[:-20])
  found = assembled(run)
  assert found['clusters'][0]['n_examples'] == 39
  assert 'nli_task_type_0.jsonl:40: the last record is cut off' in found['warnings'][0]

  lines = whole.splitlines(keepends=True)
  path.write_text(''.join(lines[:4]) + '{"model": \n' + ''.join(lines[4:]))
  with pytest.raises(UserError, match=r'nli_task_type_0\.jsonl:5'):
    report.build(run)
  path.write_text('{"model": "tuned"}\n')
  with pytest.raises(UserError, match=r'jsonl:1(?s:.)*no task, cluster'):
    report.build(run)


def test_records_of_two_checkpoints_under_one_name_are_told(tmp_path):
  stamps = {'nli': {'model': 'step 100'}, 'sentiment': {'model': 'step 200'}}
  run = write(tmp_path, {'tuned': PAIR['tuned']}, stamps=stamps)
  found = assembled(run)
  assert 'tuned come from more than one set of parameters' in found['warnings'][0]


def test_a_run_without_records_is_an_error(tmp_path):
  with pytest.raises(UserError, match='no evaluation records'):
    report.build(tmp_path)
  with pytest.raises(UserError, match='no such run folder'):
    report.build(tmp_path / 'nowhere')


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
  run = write(tmp_path / 'run', PAIR, holdout='nli', models=ROLES)
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError, match='cannot write'):
    report.build(run, tmp_path / 'file', resamples=100)


def test_scores_on_clean_examples_stand_beside_those_on_all(tmp_path):
  run = write(tmp_path, PAIR, models=ROLES, holdout='nli', split='test')
  # Untuned is right on the first 20 of 40, tuned on the first 36: 10 to 29 hold half and all.
  clean.write_clean(run / 'eval' / 'clean.json', {'nli_task': range(10, 30)}, {'nli_task': 40}, split='test')
  found = {c['cluster']: c for c in report.build(run, resamples=200)['clusters']}
  part = found['nli']['clean']
  assert (part['n_examples'], part['of'], part['tasks']) == (20, 40, ['nli_task'])
  assert part['scores'] == {'tuned': 100.0, 'untuned': 50.0} and part['difference']['value'] == 50.0
  assert found['nli']['scores'] == {'tuned': 90.0, 'untuned': 50.0} and found['sentiment']['clean'] is None
  text = (run / 'report' / 'report.html').read_text()
  assert 'On clean examples alone' in text and '<td>20<small>of 40</small></td>' in text


def test_a_task_without_a_clean_example_and_a_list_of_another_split(tmp_path):
  run = write(tmp_path, PAIR, models=ROLES, holdout='nli', split='test')
  path = tmp_path / 'clean.json'
  clean.write_clean(path, {'nli_task': []}, {'nli_task': 40}, split='test')
  found = report.build(run, clean=path, resamples=100)
  assert found['clusters'][0]['clean'] == {
      'tasks': [], 'n_examples': 0, 'of': 40, 'difference': None,
      'scores': dict.fromkeys(ROLES), 'intervals': dict.fromkeys(ROLES)}
  clean.write_clean(path, {}, {}, split='validation')
  with pytest.raises(UserError, match='another split'):
    report.build(run, clean=path, resamples=100)


@pytest.mark.parametrize('module', [pages, page, comparison, task_records])
def test_the_examples_in_docstrings_are_true(module):
  assert doctest.testmod(module).failed == 0 and doctest.testmod(module).attempted > 0
