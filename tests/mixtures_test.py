import re

import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, mixtures, register, specs, vocabularies
from flanjax.errors import UserError

SIDES = ('train', 'eval')
SIZES = {'small': 10, 'large': 40, 'held': 20}


def _source(count):
  def dataset(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({'q': [f'{split} {i}' for i in range(count)]})

  return seqio.FunctionDataSource(dataset, ['train', 'test'])


def make(name, cluster, count, **more):
  templates = [
      Template('{q}\n{options_}', '{answer}'),
      Template('{q}?', '{answer}'),
      Template('Ask: {answer}', '{q}'),
  ]
  fields = lambda x: {'q': x['q'], 'options': ['a', 'b'], 'answer': 'a'}
  source = _source(count)
  return register(
      TaskSpec(name, cluster, source, fields, templates, [metrics.accuracy], suite='mix', **more)
  )


@pytest.fixture(autouse=True)
def suite(monkeypatch):
  monkeypatch.setattr(mixtures, 'MIXING_RATE_CAP', 30)
  vocabularies.set_default('bytes')
  for name, count in SIZES.items():
    make(name, 'qa', count) if name != 'held' else make(
        name, 'nli', count, continuations=[
            Template('{q} is', '{answer}', ranks=True), Template('{q}:', '{answer}')])
  yield
  for spec in specs.all_specs('mix'):
    specs.unregister(spec.name)
  for name in [n for n in seqio.MixtureRegistry.names() if n.startswith(('mix_', 'mix:'))]:
    seqio.MixtureRegistry.remove(name)
  vocabularies.set_default(None)


def test_mixtures_hold_what_their_names_say():
  names = mixtures.register_suite_mixtures('mix')
  kinds = ['', '_no_instructions', '_dataset_name']
  stems = ['all', 'holdout_qa', 'holdout_nli']
  assert {n for n in names if not mixtures.is_few_shot(n)} == {
      *(f'mix{kind}_{stem}_{side}' for kind in kinds for stem in stems for side in SIDES),
      *(f'mix_only_{cluster}_{side}' for cluster in ('qa', 'nli') for side in SIDES),
      'mix_continuations_holdout_nli_eval',
  }
  assert mixtures.tasks_of('mix_holdout_nli_train') == ['large_10templates', 'small_10templates']
  assert mixtures.tasks_of('mix_holdout_nli_eval') == [
      'held_type_0', 'held_type_0_scoring_eval', 'held_type_1',
  ]  # fmt: skip
  assert mixtures.tasks_of('mix_holdout_nli_train_five_shot')[0] == 'large_10templates_five_shot'
  assert mixtures.tasks_of('mix_only_nli_train') == ['held_10templates']
  assert set(mixtures.tasks_of('mix_only_nli_eval')) == {
      f'{t}_type_{i}' for t in ('small', 'large') for i in ('0', '1', '0_scoring_eval')
  }
  every = mixtures.tasks_of('mix_only_nli_eval') + mixtures.tasks_of('mix_only_qa_eval')
  assert mixtures.tasks_of('mix_all_eval') == sorted(every)


def test_regimes_have_mixtures_of_their_own_tasks():
  names = mixtures.register_suite_mixtures('mix')
  for regime in ('no_instructions', 'dataset_name'):
    assert mixtures.tasks_of(f'mix_{regime}_holdout_nli_train') == [
        f'{regime}_large_10templates', f'{regime}_small_10templates',
    ]  # fmt: skip
    assert mixtures.tasks_of(f'mix_{regime}_holdout_nli_eval') == [
        f'{regime}_held_type_0', f'{regime}_held_type_0_scoring_eval',
    ]  # fmt: skip
    assert not [n for n in names if regime in n and mixtures.is_few_shot(n)]
  # Only the held-out task has continuations, one of which ranks its options.
  assert [n for n in names if 'continuations' in n] == [
      f'mix_continuations_holdout_nli_eval{shots}' for shots in specs.SHOTS
  ]
  assert mixtures.tasks_of('mix_continuations_holdout_nli_eval_five_shot') == [
      'continuations_held_type_0_five_shot', 'continuations_held_type_0_scoring_eval_five_shot',
      'continuations_held_type_1_five_shot',
  ]  # fmt: skip


def test_the_held_out_cluster_can_be_read_from_every_holdouts_name():
  for name in mixtures.register_suite_mixtures('mix'):
    if '_holdout_' in name and '_train' in name:
      found = re.search(r'_holdout_(\w+)_train', name)[1]
      assert found in ('nli', 'qa') and f'_{found}_' in name


def test_a_mixture_is_read_when_it_is_used_and_fails_again_when_it_failed():
  asked = []
  mixtures.add('mix_late_train', lambda: asked.append(1) or ['not_there'], 1.0)
  assert 'mix_late_train' in seqio.MixtureRegistry.names() and not asked
  for _ in range(2):
    with pytest.raises(ValueError, match='not_there'):
      mixtures.tasks_of('mix_late_train')
  assert len(asked) == 2


def test_rates_are_capped_and_shares_add_up():
  mixtures.register_suite_mixtures('mix')
  rates = mixtures.mixture_rates('mix_all_train')
  assert {n: r.rate for n, r in rates.items()} == {
      'small_10templates': 10,
      'large_10templates': 30,
      'held_10templates': 20,
  }
  assert rates['large_10templates'] == mixtures.MixRate(40, 30, 30, 0.5)
  assert sum(r.share for r in rates.values()) == pytest.approx(1)


def test_skipping_a_task_shares_its_part_among_the_rest():
  mixtures.register_suite_mixtures('mix')
  rates = mixtures.mixture_rates('mix_all_train', skip=['held_10templates'])
  assert {n: r.share for n, r in rates.items()} == {
      'large_10templates': 0.75,
      'small_10templates': 0.25,
  }


def test_a_single_task_is_a_mixture_of_one():
  assert mixtures.mixture_rates('small_type_0') == {'small_type_0': mixtures.MixRate(10, 30, 10, 1)}


@pytest.mark.parametrize('shots', [suffix for suffix in specs.SHOTS if suffix])
def test_few_shot_mixtures_have_rates_and_build(shots):
  mixtures.register_suite_mixtures('mix')
  rates = mixtures.mixture_rates(f'mix_all_train{shots}')
  assert rates[f'small_10templates{shots}'].rate == 10
  dataset = seqio.get_mixture_or_task(f'mix_holdout_nli_train{shots}').get_dataset(
      {'inputs': 128, 'targets': 8}, 'train', shuffle=True, seed=0
  )
  assert len(list(dataset.take(3))) == 3


def test_registering_again_takes_in_new_tasks():
  mixtures.register_suite_mixtures('mix')
  make('late', 'qa', 5)
  mixtures.register_suite_mixtures('mix')
  assert 'late_10templates' in mixtures.tasks_of('mix_all_train')


def test_a_suite_of_one_cluster_has_no_training_without_it():
  for name in ('small', 'large'):
    specs.unregister(name)
  names = mixtures.register_suite_mixtures('mix')
  assert 'mix_holdout_nli_eval' in names and 'mix_holdout_nli_train' not in names


def test_bad_names_and_empty_training_splits_are_told():
  mixtures.register_suite_mixtures('mix')
  with pytest.raises(UserError, match='did you mean mix_holdout_nli_train'):
    mixtures.mixture_rates('mix_holdout_nil_train')
  make('empty', 'qa', 0)
  with pytest.raises(UserError, match=r'(?s)empty\.\s+where: task empty_10templates'):
    mixtures.mixture_rates('empty_10templates')


def test_examples_of_a_users_text_file_are_counted_where_seqio_does_not_tell(tmp_path):
  (tmp_path / 'lines.txt').write_text('one\ntwo\nthree\n')
  source = seqio.TextLineDataSource({'train': str(tmp_path / 'lines.txt')})
  assert source.num_input_examples('train') is None
  seqio.TaskRegistry.add('lines', source=source, preprocessors=[], output_features={})
  try:
    assert mixtures.mixture_rates('lines')['lines'] == mixtures.MixRate(3, 30, 3.0, 1.0)
  finally:
    seqio.TaskRegistry.remove('lines')


def test_a_mixture_by_expression_holds_what_it_says():
  make('near', 'nli', 5, overlaps=['small'])
  tasks = lambda name: mixtures.tasks_of(f'mix:{name}')
  # What overlaps a held-out task leaves as well.
  assert tasks('without.nli') == ['large_10templates'] == tasks('only.qa.nli:without.nli')
  assert tasks('without.qa') == ['held_10templates'] != tasks('only.nli')
  assert tasks('task.held:templates.2') == ['held_2templates']
  assert tasks('only.qa:plus.held') == tasks('task.small.large.held')
  assert tasks('task.held:regime.dataset_name:templates.2') == ['dataset_name_held_10templates']
  assert mixtures.mixture_rates('mix:task.small.large')['large_10templates'].rate == 30


def test_the_first_examples_of_a_task_are_a_task():
  [name] = mixtures.tasks_of('mix:task.large:first.3')
  task = seqio.get_mixture_or_task(name)
  assert name == 'large_10templates_first_3' and task.num_input_examples('train') == 3
  assert mixtures.mixture_rates('mix:task.large:first.3')[name].rate == 3
  rows = task.get_dataset({'inputs': 32, 'targets': 8}, 'train', shuffle=False, num_epochs=1)
  assert sorted(int(r['example_id']) for r in rows) == [0, 1, 2]
  assert specs.parse_task_name(name).spec.name == 'large'
  specs.unregister('large')
  assert not specs.make_known(name)
  make('large', 'qa', 40)
  assert specs.make_known(name), 'a worker process makes it from its name'


@pytest.mark.parametrize('name, message', [
    ('mix:', 'cannot be read'), ('mix:onyl.qa', 'did you mean only'), ('mix:only.qe', 'known: nli, qa'),
    ('mix:first.0', 'at least 1'), ('mix:templates.3', 'known: 1, 2, 4'), ('mix:only.qa:only.nli', 'once'),
    ('mix:only.qa:without.qa', 'No task is left'), ('max:only.qa', "no suite 'max'")])
def test_an_expression_that_means_nothing_is_refused(name, message):
  with pytest.raises(UserError, match=message):
    mixtures.known(name)
