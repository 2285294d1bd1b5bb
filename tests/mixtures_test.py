import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, metrics, mixtures, register, specs, vocabularies
from flanjax.errors import UserError

SIZES = {'small': 10, 'large': 40, 'held': 20}


def _source(count):
  def dataset(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({'q': [f'{split} {i}' for i in range(count)]})

  return seqio.FunctionDataSource(dataset, ['train', 'test'])


def make(name, cluster, count):
  templates = [
      Template('{q}\n{options_}', '{answer}'),
      Template('{q}?', '{answer}'),
      Template('Ask: {answer}', '{q}'),
  ]
  fields = lambda x: {'q': x['q'], 'options': ['a', 'b'], 'answer': 'a'}
  spec = TaskSpec(name, cluster, _source(count), fields, templates, [metrics.accuracy], suite='mix')
  return register(spec)


@pytest.fixture(autouse=True)
def suite(monkeypatch):
  monkeypatch.setattr(mixtures, 'MIXING_RATE_CAP', 30)
  vocabularies.set_default('bytes')
  for name, count in SIZES.items():
    make(name, 'nli' if name == 'held' else 'qa', count)
  yield
  for spec in specs.all_specs('mix'):
    specs.unregister(spec.name)
  for name in [n for n in seqio.MixtureRegistry.names() if n.startswith('mix_')]:
    seqio.MixtureRegistry.remove(name)
  vocabularies.set_default(None)


def test_mixtures_hold_what_their_names_say():
  names = mixtures.register_suite_mixtures('mix')
  zero_shot = [n for n in names if not n.endswith('_shot')]
  assert zero_shot == [
      'mix_all_train', 'mix_holdout_qa_train', 'mix_holdout_nli_train', 'mix_holdout_qa_eval',
      'mix_holdout_nli_eval',
  ]  # fmt: skip
  assert mixtures.tasks_of('mix_holdout_nli_train') == ['large_10templates', 'small_10templates']
  assert mixtures.tasks_of('mix_holdout_nli_eval') == [
      'held_type_0', 'held_type_0_scoring_eval', 'held_type_1',
  ]  # fmt: skip
  assert mixtures.tasks_of('mix_holdout_nli_train_five_shot')[0] == 'large_10templates_five_shot'


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


def test_few_shot_mixtures_have_rates_and_build():
  mixtures.register_suite_mixtures('mix')
  assert mixtures.mixture_rates('mix_all_train_five_shot')['small_10templates_five_shot'].rate == 10
  dataset = seqio.get_mixture_or_task('mix_holdout_nli_train_five_shot').get_dataset(
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
