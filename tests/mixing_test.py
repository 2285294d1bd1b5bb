import collections
import json

import numpy as np
import prepared_data
import pytest
from scipy import stats

from flanjax import cli
from flanjax.errors import UserError
from flanjax.input import draws, manifest as manifest_lib
from flanjax.input import plan as plan_lib
from flanjax.input.changing import ChangingSource
from flanjax.input.mixing import Mixing
from flanjax.input.mixture import open_mixture

SIZES = {'big_10templates': 4_000, 'mid_10templates': 1_000, 'few_10templates': 100}


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  root = tmp_path_factory.mktemp('mixing')
  means = {'big_10templates': (20, 2), 'mid_10templates': (30, 8), 'few_10templates': (10, 4)}
  tasks = {name: prepared_data.examples(size, means[name], (64, 16), seed=i)
           for i, (name, size) in enumerate(SIZES.items())}
  return prepared_data.write_mixture(root, tasks, {n: min(s, 500) for n, s in SIZES.items()})


def _open(path, batch_size=16, **settings):
  return open_mixture(path, batch_size=batch_size, seed=3, mixing=Mixing(**settings))


def _shares(path, **settings):
  manifest = manifest_lib.load(path)
  return dict(zip(('big', 'mid', 'few'), Mixing(**settings).shares(manifest).tolist()))


def test_rates_are_those_of_the_mixture_or_made_from_sizes(path):
  assert _shares(path) == pytest.approx({'big': 5 / 11, 'mid': 5 / 11, 'few': 1 / 11})
  assert _shares(path, size='examples') == pytest.approx({'big': 40 / 51, 'mid': 10 / 51, 'few': 1 / 51})
  capped = _shares(path, size='examples', cap=2_000)
  assert capped == pytest.approx({'big': 20 / 31, 'mid': 10 / 31, 'few': 1 / 31})


def test_temperature_evens_out_the_rates(path):
  even = _shares(path, size='examples', temperature=2.0)
  roots = np.sqrt([4_000, 1_000, 100])
  assert list(even.values()) == pytest.approx((roots / roots.sum()).tolist())
  assert max(_shares(path, size='examples', temperature=1e6).values()) == pytest.approx(1 / 3, rel=1e-4)


def test_a_cap_in_target_tokens_shares_out_target_tokens(path):
  manifest = manifest_lib.load(path)
  totals = np.array([t.tokens['targets'].total for t in manifest.tasks])
  means = np.array([t.tokens['targets'].mean for t in manifest.tasks])
  cap = float(np.median(totals))
  shares = Mixing(size='target_tokens', cap=cap).shares(manifest)
  tokens = shares * means / (shares * means).sum()
  assert tokens == pytest.approx(np.minimum(totals, cap) / np.minimum(totals, cap).sum())
  source = _open(path, size='target_tokens', cap=cap)
  drawn = collections.Counter()
  for step in range(40):
    rows = source.rows(step)
    lengths = source._planner.lengths_of(rows)[:, 1]
    for task in range(3):
      drawn[task] += int(lengths[rows.tasks == task].sum())
  assert [drawn[k] / sum(drawn.values()) for k in range(3)] == pytest.approx(tokens.tolist(), abs=0.02)


def test_groups_have_the_weights_they_are_given(path):
  fixed = _shares(path, weights={'big': 1, 'few_10templates': 3, '*': 4})
  assert fixed == pytest.approx({'big': 1 / 8, 'few': 3 / 8, 'mid': 4 / 8})
  # All three are of one cluster, and share inside it by their rates.
  assert _shares(path, weights={'c': 7}) == pytest.approx(_shares(path))


def test_drawn_shares_match_the_rates_within_sampling_error(path):
  source = _open(path, size='examples', temperature=2.0)
  counts = collections.Counter()
  for step in range(60):
    counts.update(prepared_data.drawn(source, step))
  expected = np.array([source.shares[n] for n in SIZES]) * sum(counts.values())
  observed = np.array([counts[n] for n in SIZES])
  # Stratified draws stray less than independent ones, for which this would be a test at 5 %.
  assert stats.chisquare(observed, expected).pvalue > 0.05


def _drawn(source, steps):
  found = collections.Counter()
  for step in steps:
    rows = source.rows(step)
    found.update(zip(rows.tasks.tolist(), rows.examples.tolist()))
  return found


@pytest.mark.parametrize('pack', [False, True])
def test_a_stopping_mixture_gives_every_example_its_epochs_and_ends(path, pack):
  source = open_mixture(path, batch_size=16, seed=3, pack=pack,
                        mixing=Mixing(max_epochs={'few': 3, '*': 1}, at_end='stop'))
  found = _drawn(source, range(source.num_batches))
  sizes = list(SIZES.values())
  drawn = [sum(n for (task, _), n in found.items() if task == k) for k in range(3)]
  wanted = np.array(sizes) * [1, 1, 3]
  assert all(n <= (3 if task == 2 else 1) for (task, _), n in found.items())
  if pack:
    assert (np.array(drawn) >= 0.98 * wanted).all()
  else:
    assert drawn == wanted.tolist()
  with pytest.raises(IndexError, match=f'no batch {source.num_batches}'):
    source.batch(source.num_batches)
  last = source.batch(source.num_batches - 1)
  assert last['encoder_input_tokens'].shape == (16, 64)
  assert last['encoder_input_tokens'].any()


def test_a_task_that_had_its_epochs_gives_its_share_to_the_others(path):
  source = _open(path, max_epochs={'few': 2, '*': 100})
  parts = []
  for first in (0, 200):
    counts = collections.Counter()
    for step in range(first, first + 60):
      counts.update(prepared_data.drawn(source, step))
    parts.append({n: counts[n] / sum(counts.values()) for n in SIZES})
  assert parts[0]['few_10templates'] == pytest.approx(1 / 11, abs=0.02)
  assert parts[1]['few_10templates'] == 0
  assert parts[1]['big_10templates'] == pytest.approx(0.5, abs=0.02)


def test_a_repeating_mixture_begins_again_in_another_order(path):
  mixing = Mixing(max_epochs=1)
  source = open_mixture(path, batch_size=8, seed=3, pack=False, mixing=mixing)
  ending = open_mixture(path, batch_size=8, seed=3, pack=False,
                        mixing=Mixing(max_epochs=1, at_end='stop'))
  laps = [[_drawn(source, [n * ending.num_batches + step]) for step in range(ending.num_batches)]
          for n in range(3)]
  totals = [sum(lap, collections.Counter()) for lap in laps]
  assert totals[0] == totals[1] == totals[2] and set(totals[0].values()) == {1}
  assert laps[0] != laps[1] != laps[2]
  assert source.num_batches is None


def test_batches_with_ends_are_functions_of_their_number(path):
  settings = {'max_epochs': {'few': 2, '*': 1}}
  one, two = _open(path, **settings), _open(path, **settings)
  for step in (300, 7, 123, 0):
    for name, array in one.batch(step).items():
      assert np.array_equal(array, two.batch(step)[name]), (step, name)


def test_stretches_use_up_every_budget_exactly():
  rng = np.random.default_rng(0)
  for _ in range(20):
    number = int(rng.integers(1, 12))
    budgets = rng.integers(1, 30_000, number)
    found = draws.stretches(rng.dirichlet(np.ones(number)), budgets)
    used = sum(s.cycles * s.counts for s in found)
    assert used.tolist() == budgets.tolist()
    assert [s.start for s in found[1:]] == np.cumsum([s.cycles * s.size for s in found])[:-1].tolist()
    for earlier, later in zip(found, found[1:]):
      assert (later.before == earlier.before + earlier.cycles * earlier.counts).all()


def test_1836_tasks_of_all_sizes_are_laid_out_at_once(tmp_path):
  sizes = np.random.default_rng(1).integers(10, 3_000, 1_836)
  schedule = draws.DrawSchedule([str(k) for k in range(1_836)], sizes, sizes / sizes.sum(), 0,
                                budgets=(2 * sizes).tolist(), repeat=False)
  counts = np.zeros(1_836, np.int64)
  for start in range(0, schedule.end, 1 << 20):
    counts += np.bincount(schedule(start, min(start + (1 << 20), schedule.end)).tasks, minlength=1_836)
  assert counts.tolist() == (2 * sizes).tolist()


def test_a_mixture_that_takes_over_begins_with_its_own_first_batch(path):
  one, two = _open(path), _open(path, weights={'few': 1, '*': 1})
  both = ChangingSource({0: one, 30: two})
  for step, expected in ((0, one.batch(0)), (29, one.batch(29)), (30, two.batch(0)), (45, two.batch(15))):
    for name, array in both.batch(step).items():
      assert np.array_equal(array, expected[name])
  assert both.batch(31, (2, 4))['encoder_input_tokens'].shape == (2, 64)
  assert both.fingerprint != ChangingSource({0: one, 31: two}).fingerprint
  counts = collections.Counter()
  for step in range(60):
    counts.update(both.tally(step))
  found = both.audit(counts)
  assert found['steps'] == 60 and found['test']['p'] > 0.01
  few = next(t for t in found['tasks'] if t['dataset'] == 'few')
  assert few['drawn'] == pytest.approx(few['expected'], abs=0.03) and 0.2 < few['expected'] < 0.4


@pytest.mark.parametrize('settings', [{}, {'size': 'examples', 'temperature': 3.0},
                                      {'max_epochs': {'few': 2, '*': 1}, 'at_end': 'stop'}])
def test_a_plan_foretells_what_an_audit_finds(path, settings):
  source = _open(path, **settings)
  foretold = plan_lib.plan(source, 80)
  counts = collections.Counter()
  for step in range(foretold['steps']):
    counts.update(source.tally(step))
  found = source.audit(counts)
  assert foretold['steps'] == min(80, source.num_batches or 80)
  assert foretold['examples'] == pytest.approx(found['examples'], rel=0.04)
  assert foretold['targets'] == pytest.approx(found['tokens']['targets'], rel=0.06)
  for row in foretold['tasks']:
    task = next(t for t in found['tasks'] if t['task'] == row['task'])
    assert row['epochs'] == pytest.approx(task['epochs'], rel=0.1)
  assert sum(r['target_share'] for r in foretold['tasks']) == pytest.approx(1)


def test_the_plan_verb_reads_a_manifest_without_preparing(path, capsys):
  argv = ['mixtures', 'plan', str(path), '--steps', '20', '--batch_size', '16', '--inputs_length', '64',
          '--targets_length', '16', '--weights', 'few=1', '--weights', '*=1', '--json']
  assert cli.main(argv) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['tasks'][0]['dataset'] == 'few' and found['tasks'][0]['share'] == pytest.approx(0.5)
  assert cli.main([*argv, '--max_epochs', 'few=x']) == 2
  assert 'expected: NAME=NUMBER' in capsys.readouterr().err


def test_mixtures_that_cannot_follow_each_other_are_refused(path):
  one = _open(path)
  with pytest.raises(UserError, match='first step'):
    ChangingSource({5: one})
  with pytest.raises(UserError, match='same batch_size'):
    ChangingSource({0: one, 5: _open(path, batch_size=8)})
  with pytest.raises(UserError, match='ends before'):
    ChangingSource({0: _open(path, max_epochs=1, at_end='stop'), 10_000: one})


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'size': 'example'}, 'did you mean examples'),
        ({'at_end': 'halt'}, 'no at_end'),
        ({'cap': 0}, 'cap must be a number above zero'),
        ({'temperature': -1.0}, 'temperature must be'),
        ({'weights': {'big': 0}}, 'weights of big must be'),
        ({'max_epochs': {'*': float('nan')}}, 'max_epochs of \\* must be'),
        ({'weights': [1, 2]}, 'must be a dict'),
        ({'weights': {'bug': 1, '*': 1}}, 'did you mean big'),
        ({'weights': {'big': 1}}, 'leave out tasks'),
        ({'max_epochs': {'big': 1}}, 'max_epochs leaves out'),
    ],
)
def test_mixing_that_cannot_be_is_refused(path, settings, message):
  with pytest.raises(UserError, match=message):
    _open(path, **settings)
