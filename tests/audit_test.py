import collections
import json

import numpy as np
import prepared_data
import pytest
from scipy import stats

from flanjax import cli
from flanjax.input import audit
from flanjax.input.mixing import Mixing
from flanjax.input.mixture import open_mixture
from flanjax.input.records import decode

SIZES = {'rte_10templates': 900, 'copa_10templates': 300}


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  tasks = {name: prepared_data.examples(size, (20, 4), (64, 16), seed=size)
           for name, size in SIZES.items()}
  return prepared_data.write_mixture(tmp_path_factory.mktemp('audit'), tasks)


def _counts(source, steps):
  total = collections.Counter()
  for step in steps:
    total.update(source.tally(step))
  return total


def test_an_audit_counts_what_the_batches_held(path):
  source = open_mixture(path, batch_size=8, seed=1)
  found = source.audit(_counts(source, range(25)))
  examples, tokens, loss_weight = 0, collections.Counter(), 0.0
  for step in range(25):
    batch = source.batch(step)
    examples += int(batch['encoder_segment_ids'].max(axis=1).sum())
    tokens['inputs'] += int((batch['encoder_segment_ids'] > 0).sum())
    tokens['targets'] += int((batch['decoder_segment_ids'] > 0).sum())
    loss_weight += batch['decoder_loss_weights'].sum()
  assert found['steps'] == 25 and found['examples'] == examples
  assert found['tokens'] == dict(tokens) and found['tokens']['targets'] == loss_weight
  assert found['padding']['inputs'] == pytest.approx(1 - tokens['inputs'] / (25 * 8 * 64))
  by_template = collections.Counter()
  for step in range(25):
    rows = source.rows(step)
    for record, task in zip(source._reader.read(rows.tasks, rows.examples), rows.tasks):
      by_template[list(SIZES)[task], str(decode(record).template_id)] += 1
  assert by_template == {(t['task'], n): row['examples'] for t in found['tasks']
                         for n, row in t['templates'].items()}
  for task in found['tasks']:
    assert task['epochs'] == pytest.approx(task['examples'] / SIZES[task['task']])


def test_tallies_add_up_in_any_order_and_survive_json(path):
  source = open_mixture(path, batch_size=8, seed=1)
  one = _counts(source, range(10))
  two = _counts(source, reversed(range(10, 20)))
  again = collections.Counter(json.loads(json.dumps(one)))
  assert source.audit(again + two) == source.audit(_counts(source, range(20)))


def test_an_ending_mixture_is_promised_what_its_stretches_hold(path):
  mixing = Mixing(max_epochs={'copa': 1, 'rte': 3}, at_end='stop', weights={'copa': 1, 'rte': 1})
  source = open_mixture(path, batch_size=8, seed=1, pack=False, mixing=mixing)
  half = source.audit(_counts(source, range(50)))
  assert [t['expected'] for t in half['tasks']] == pytest.approx([0.5, 0.5], abs=0.01)
  whole = source.audit(_counts(source, range(source.num_batches)))
  assert [t['expected'] for t in whole['tasks']] == pytest.approx([0.9, 0.1])
  assert [t['epochs'] for t in whole['tasks']] == [3.0, 1.0]


def test_the_chi_square_test_is_scipys_and_finds_a_bias():
  drawn, parts = [480, 330, 190], np.array([0.5, 0.3, 0.2])
  found = audit.chi_square(drawn, parts)
  expected = stats.chisquare(drawn, parts * 1_000)
  assert found['statistic'] == pytest.approx(expected.statistic)
  assert found['p'] == pytest.approx(expected.pvalue) and found['degrees_of_freedom'] == 2
  assert audit.chi_square([600, 250, 150], parts)['p'] < 1e-6
  assert audit.chi_square([2, 1, 0], parts) is None
  # Three tasks of one expected draw each are one of three.
  rare = audit.chi_square([994, 1, 4, 1], np.array([0.997, 0.001, 0.001, 0.001]))
  assert rare is None or rare['degrees_of_freedom'] == 1


def _cli(capsys, *argv):
  status = cli.main([*map(str, argv), '--json'])
  return status, json.loads(capsys.readouterr().out or 'null')


def test_the_verb_counts_steps_to_come_and_draws_them(path, tmp_path, capsys):
  plot = tmp_path / 'shares.png'
  status, found = _cli(capsys, 'audit', 'mixture', path, '--steps', 25, '--batch_size', 8, '--seed', 1,
                       '--plot', plot)
  source = open_mixture(path, batch_size=8, seed=1)
  assert status == 0 and found == json.loads(json.dumps(source.audit(_counts(source, range(25)))))
  assert plot.read_bytes().startswith(b'\x89PNG')
  assert cli.main(['audit', 'mixture', str(path), '--steps', '3', '--templates']) == 0
  assert '  template 7' in capsys.readouterr().out
  assert cli.main(['audit', 'mixture', str(tmp_path), '--steps', '3']) == 1
  assert 'run.json' in capsys.readouterr().err


def test_the_verb_tells_a_batch_that_every_host_has(path, capsys):
  argv = ['audit', 'batch', path, '--step', 7, '--batch_size', 8, '--seed', 1, '--ids', '--rows', 8]
  status, found = _cli(capsys, *argv)
  assert status == 0 and found == _cli(capsys, *argv)[1]
  batch = open_mixture(path, batch_size=8, seed=1).batch(7)
  shown = [i for e in found['rows'] if e['row'] == 0 for i in e['inputs']]
  assert shown == batch['encoder_input_tokens'][0][: len(shown)].tolist()
  assert not batch['encoder_input_tokens'][0][len(shown):].any()
  assert found['examples'] == len(found['rows'])
  assert _cli(capsys, *argv[:3], '--step', 8, *argv[5:])[1]['sha256'] != found['sha256']


def test_cut_examples_are_counted_by_side(tmp_path):
  from flanjax.input import manifest, writer

  examples = prepared_data.examples(60, (20, 4), (64, 16), seed=0)
  path = prepared_data.write_mixture(tmp_path, {'one_10templates': examples})
  task = manifest.load(path).tasks[0]
  for file in task.path.iterdir():
    file.unlink()
  made = writer.TaskWriter(task.path, 'train')
  for i, example in enumerate(examples):
    made.add(example, ['inputs'] * (i < 6) + ['targets'] * (i % 30 == 0))
  entry = json.loads(path.read_text())['tasks'][0] | made.close()
  prepared_data.edit_manifest(path, tasks=[entry])
  assert entry['truncated'] == 7 and entry['tokens']['inputs']['truncated'] == 6
  source = open_mixture(path, batch_size=60, seed=0, pack=False)
  found = source.audit(source.tally(0))['tasks'][0]
  assert (found['cut_inputs'], found['cut_targets'], found['truncated']) == (6, 2, 7)
