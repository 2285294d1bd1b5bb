"""The report as a browser shows it. Skipped where there is no Chromium."""

import json

import browser
import experiment_page_test
import pytest
import report_runs

from flanjax import pages
from flanjax.evaluation import experiment_page
from flanjax.evaluation import records as records_lib
from flanjax.evaluation import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find() is None, reason='no Chromium (set CHROMIUM, or apt install chromium)')]

NUMBERS = ("[...document.querySelectorAll('[data-at]')].map("
           "e => [e.dataset.at, e.dataset.format, e.textContent])")
OPEN = "document.getElementById('details').parentElement.querySelectorAll('.sample:not([hidden])')"


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """(path of the page, report) of a run whose every text is hostile."""
  run = tmp_path_factory.mktemp('run')
  stamps = {c: {'model': 'f00d', 'split': 'test', 'sequence_length': {'inputs': 512, 'targets': 32}}
            for c in report_runs.PAIR['tuned']}
  report_runs.write(
      run, report_runs.PAIR, prompt=report_runs.HOSTILE, stamps=stamps, cut={'inputs': 7, 'targets': 0},
      holdout='nli', models=report_runs.ROLES, split='test', seed=3,
      checkpoints={'tuned': {'path': '/runs/a/checkpoints/300', 'step': 300}}, command=('flanjax', 'eval'))
  report_runs.write_training(run)
  _add_hostile_names(run)
  found = report.build(run, resamples=200)
  return run / 'report' / 'report.html', found


def _add_hostile_names(run):
  """A task in a cluster of its own; every name that a record holds is markup."""
  for model in report_runs.ROLES:
    rows = [
        {**report_runs.record(model, f'task {report_runs.HOSTILE}', f'cluster {report_runs.HOSTILE}', i,
                              i < 10, template_id=t), 'prediction': report_runs.HOSTILE}
        for i in range(20) for t in (0, 1)]
    path = run / 'eval' / 'records' / model / 'hostile.jsonl'
    records_lib.write_task(path, rows, {}, {})
  rows = [{**report_runs.record('x', 'nli_task', 'nli', i, i < 20), 'model': f'm {report_runs.HOSTILE}'}
          for i in range(40)]
  records_lib.write_task(run / 'eval' / 'records' / 'third' / 'nli.jsonl', rows, {}, {})


@pytest.fixture(scope='module')
def chromium():
  opened = browser.Browser()
  yield opened
  opened.close()


@pytest.fixture(scope='module')
def page(chromium, built):
  return chromium.page(built[0])


@pytest.fixture
def fresh(page, built):
  """The page as it is when it is opened."""
  page.size(1200, 900)
  page.emulate()
  page.open('/dev/null')
  page.open(built[0])
  return page


def _value(found, at):
  for key in at.split('/')[1:]:
    key = key.replace('~1', '/').replace('~0', '~')
    found = found[int(key)] if isinstance(found, list) else found[key]
  return found


def test_every_number_shown_is_that_of_report_json(fresh, built):
  found = json.loads(built[0].with_name('report.json').read_text())
  shown = fresh.run(NUMBERS)
  for at, form, text in shown:
    write = {'number': pages.number, 'signed': pages.signed}[form.rstrip('0123456789')]
    assert text == write(_value(found, at), int(form[-1])), at
  told = {at for at, _, _ in shown}
  assert {'/clusters/0/scores/tuned', '/clusters/0/difference/value', '/tasks/0/templates/0/scores/tuned',
          '/tasks/0/conventions/sum/tuned/value'} - told <= {'/tasks/0/templates/0/scores/tuned'}
  assert len(shown) > 40


def test_hostile_text_stays_text_and_no_request_leaves_the_page(fresh, built):
  fresh.run("document.getElementById('open-all').click()")
  for i in range(fresh.run("document.querySelectorAll('.n').length")):
    fresh.run(f"document.querySelectorAll('.n')[{i}].click(), document.getElementById('behind').close()")
  assert fresh.run('window.harmed') is None
  assert fresh.run("document.querySelectorAll('img, iframe, object, embed, link').length") == 0
  assert fresh.run("document.querySelectorAll('script').length") == 2
  assert fresh.run("document.body.textContent.split('<script>window.harmed = 1</script>').length") > 10
  assert '49' not in fresh.run("document.querySelector('details.task:last-of-type summary').textContent")
  sent = {e['request']['url'].partition('#')[0] for e in fresh.heard('Network.requestWillBeSent')}
  assert sent <= {f'file://{built[0]}', 'file:///dev/null'}
  assert not fresh.heard('Runtime.exceptionThrown')
  assert not [e['entry']['text'] for e in fresh.heard('Log.entryAdded')]


def test_the_policy_keeps_scripts_and_requests_out_even_if_one_got_in(fresh):
  fresh.run("""(async () => {
    const script = document.createElement('script'); script.textContent = 'window.harmed = 2';
    document.body.append(script);
    const image = document.createElement('img'); image.setAttribute('onerror', 'window.harmed = 3');
    image.src = 'data:image/png;base64,x'; document.body.append(image);
    await new Promise(done => setTimeout(done, 100));
  })()""")
  assert fresh.run('window.harmed') is None
  assert fresh.run("fetch('https://example.com').then(() => 'sent', () => 'refused')") == 'refused'


def _column(page, table, column):
  return page.run(f"[...document.querySelectorAll('{table} tbody tr')].map(r => r.cells[{column}])"
                  ".map(c => (c.querySelector('.n') || c).textContent.trim())")


def test_a_heading_sorts_both_ways_and_back_and_keys_do_it_too(fresh):
  heading = "document.querySelectorAll('#clusters ~ .scroll table thead th')[5]"
  table = '#clusters ~ .scroll table'
  first = _column(fresh, '#clusters + .scroll table', 5)
  as_numbers = lambda: [float(x) for x in _column(fresh, '#clusters + .scroll table', 5) if x != '–']
  fresh.run(f"{heading}.querySelector('button').click()")
  assert as_numbers() == sorted(as_numbers(), reverse=True) and len(as_numbers()) == 3
  assert fresh.run(f"{heading}.getAttribute('aria-sort')") == 'descending'
  fresh.run(f"{heading}.querySelector('button').focus()")
  fresh.key('Enter', 13)
  assert as_numbers() == sorted(as_numbers())
  assert fresh.run(f"{heading}.getAttribute('aria-sort')") == 'ascending'
  fresh.key('Enter', 13)
  assert _column(fresh, '#clusters + .scroll table', 5) == first
  assert fresh.run(f"document.querySelector('{table} [aria-sort=ascending]')") is None


def _search(page, text):
  page.run(f"document.getElementById('search').value = {json.dumps(text)},"
           "document.getElementById('search').dispatchEvent(new Event('input'))")


def test_searching_shows_the_tasks_and_answers_that_hold_the_words(fresh):
  tasks = lambda: fresh.run("[...document.querySelectorAll('details.task:not([hidden]) > summary')].map("
                            "s => s.firstChild.textContent)")
  rows = lambda: fresh.run("document.querySelectorAll('table.searched tbody tr:not([hidden])').length")
  every = tasks()
  _search(fresh, 'NLI_task')
  assert tasks() == ['nli_task'] and rows() == 1
  assert fresh.run("document.getElementById('found').textContent").startswith('1 tasks, ')
  _search(fresh, 'example 3')
  texts = fresh.run(f'[...{OPEN}].filter(s => s.checkVisibility()).map(s => s.textContent)')
  assert texts and all('example 3' in text for text in texts)
  _search(fresh, 'nothing has these words')
  assert tasks() == [] and rows() == 0
  _search(fresh, '')
  assert tasks() == every and rows() == len(every)


def test_answers_that_one_model_won_are_found_by_the_filter(fresh):
  fresh.run("""for (const [id, value] of [['first-is', 'right'], ['second-is', 'not']]) {
    const select = document.getElementById(id);
    select.value = value; select.dispatchEvent(new Event('change'));
  }""")
  shown = fresh.run(f'[...{OPEN}].filter(s => s.checkVisibility()).map(s => s.dataset.verdicts.trim().split(" "))')
  assert shown and all(v[0] == 'right' and v[1] == 'wrong' for v in shown)
  fresh.run("document.getElementById('reset').click()")
  assert fresh.run(f'{OPEN}.length') > len(shown)


def test_a_number_tells_what_stands_behind_it(fresh):
  fresh.run("document.querySelector('[data-at=\"/tasks/0/scores/tuned\"]').click()")
  text = fresh.run("document.getElementById('behind').innerText")
  for part in ('tuned, on nli_task', '90.0', '/runs/a/checkpoints/300, step 300, fingerprint f00d',
               '40, test split', '512 tokens read, 32 answered', '7 prompts, 0 targets', 'nli_task_type_0',
               'sum of the tokens', 'Wilson', 'run 3, bootstrap 0', 'flanjax eval', '/tasks/0/scores/tuned'):
    assert part in text, part
  assert fresh.run("document.getElementById('behind').open")
  fresh.key('Escape', 27)
  assert not fresh.run("document.getElementById('behind').open")
  fresh.run("document.querySelector('[data-at=\"/clusters/0/difference/value\"]').click()")
  text = fresh.run("document.getElementById('behind').innerText")
  for part in ('tuned − untuned, on nli', '+40.0', 'its place was not kept', "after Holm's correction", 'won 16'):
    assert part in text, part


def test_a_link_opens_the_task_that_it_points_into(chromium, built):
  opened = chromium.page(built[0], fragment='#task-sentiment_task-rank')
  assert opened.run("document.getElementById('task-sentiment_task-rank').open")
  assert abs(opened.run("document.getElementById('task-sentiment_task-rank').getBoundingClientRect().top")) < 200
  opened.close()


def test_dark_and_light_follow_the_system_until_the_reader_says_otherwise(fresh):
  ground = lambda: fresh.run('getComputedStyle(document.body).backgroundColor')
  assert ground() == 'rgb(253, 252, 249)'
  fresh.emulate(dark=True)
  assert ground() == 'rgb(22, 24, 27)'
  fresh.run("document.getElementById('theme').click()")
  assert ground() == 'rgb(253, 252, 249)'
  fresh.run("document.getElementById('theme').click(), localStorage.clear()")
  fresh.emulate(media='print', dark=True)
  assert ground() == 'rgb(253, 252, 249)'


def test_on_paper_everything_is_open_and_nothing_is_to_be_clicked(fresh):
  hidden = "[...document.querySelectorAll('.sample, .group pre')].filter(e => !e.checkVisibility()).length"
  assert fresh.run(hidden) > 0
  fresh.emulate(media='print')
  fresh.run('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
  assert fresh.run(hidden) == 0
  for shown in ('.bar', '#filter', 'dialog'):
    assert fresh.run(f"getComputedStyle(document.querySelector('{shown}')).display") == 'none'
  assert fresh.pdf().startswith(b'%PDF')
  fresh.emulate()
  fresh.run('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
  assert fresh.run(hidden) > 0


def test_a_narrow_screen_needs_no_scrolling_to_the_side(fresh):
  fresh.size(400, 800)
  fresh.run("document.getElementById('open-all').click()")
  assert fresh.run('document.documentElement.scrollWidth') <= 400


def test_without_scripts_the_page_still_tells_its_numbers(chromium, built):
  plain = chromium.page('/dev/null')
  plain.call('Emulation.setScriptExecutionDisabled', value=True)
  plain.open(built[0])
  tree = plain.call('DOM.getDocument', depth=-1)
  assert 'nli_task' in json.dumps(tree)
  assert plain.run(NUMBERS)
  assert plain.run("getComputedStyle(document.getElementById('filter')).display") == 'none'
  plain.close()


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
  """(path of the page of an experiment whose prompts are hostile, its data)."""
  root = experiment_page_test.evaluated(tmp_path_factory.mktemp('loo'), prompt=report_runs.HOSTILE)
  experiment_page.build(root)
  return root / 'report' / 'report.html', json.loads((root / 'experiment.json').read_text())


def test_each_number_of_an_experiment_opens_what_stands_behind_it(chromium, experiment):
  path, data = experiment
  opened = chromium.page(path)
  shown = opened.run(NUMBERS)
  assert sorted(at for at, _, _ in shown) == ['/differences/0/value', '/scores/0/value']
  for at, form, text in shown:
    write = {'number': pages.number, 'signed': pages.signed}[form.rstrip('0123456789')]
    assert text == write(_value(data, at), int(form[-1]))
  opened.run("document.querySelector('[data-at=\"/scores/0/value\"]').click()")
  panel = opened.run("document.getElementById('behind').innerText")
  for part in ('tuned, on nli', '61.7', '400, test split', 'step 300, fingerprint f00d', 'mix-1234abcd.json',
               'a prompt of nli_task_type_0', '</pre></script><script>window.harmed = 1</script>', '{{ 7 * 7 }}'):
    assert part in panel, part
  link = opened.run("document.querySelector('#behind a').href")
  assert link == f'file://{path.parent.parent}/trainings/a/report/report.html'
  assert opened.run("document.querySelectorAll('#behind script, #behind img').length") == 0
  opened.key('Escape', 27)
  opened.run("document.querySelector('[data-at=\"/differences/0/value\"]').click()")
  assert 'nli-untuned' in opened.run("document.getElementById('behind').innerText")
  assert opened.run('window.harmed') is None and not opened.heard('Runtime.exceptionThrown')
  opened.size(400, 800)
  assert opened.run('document.documentElement.scrollWidth') <= 400
  opened.run("document.querySelector('#behind a').click()")
  opened._browser.wait('Page.loadEventFired', opened._session)
  assert opened.run('document.body.innerText') == 'the report of this run'
  opened.close()
