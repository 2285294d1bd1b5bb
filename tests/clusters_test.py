import pytest
import seqio
import tensorflow as tf

from flanjax.data import TaskSpec, Template, clusters, metrics, mixtures, register, specs
from flanjax.errors import UserError


def _dataset(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices({'q': ['x']})


def make(name, cluster, suite='clu', **changes):
  source = changes.pop('source', None) or seqio.FunctionDataSource(_dataset, ['train'])
  templates = [Template('?', '{answer}')]
  fields = lambda x: {'answer': x['q']}
  return register(
      TaskSpec(name, cluster, source, fields, templates, [metrics.accuracy], suite, **changes)
  )


@pytest.fixture(autouse=True)
def clean():
  yield
  for suite in ('clu', 'flan2021_clu'):
    for spec in specs.all_specs(suite):
      specs.unregister(spec.name)
    clusters.EXCLUSIONS.pop(suite, None)


def _names(found):
  return [s.name for s in found]


def test_holding_out_a_cluster_divides_all_tasks():
  for name, cluster in [('a', 'nli'), ('b', 'qa'), ('c', 'nli'), ('d', 'para')]:
    make(name, cluster)
  clusters.set_exclusions('clu', [('nli', 'para')])
  split = clusters.holdout('clu', 'nli')
  assert [_names(s) for s in (split.train, split.eval, split.excluded)] == [['b'], ['a', 'c'], ['d']]
  assert _names(clusters.holdout('clu', 'para').excluded) == ['a', 'c']
  assert _names(clusters.holdout('clu', 'qa').train) == ['a', 'c', 'd']


def test_a_task_for_evaluation_alone_is_in_no_training_mixture():
  make('a', 'nli', eval_only=True)
  make('b', 'qa')
  make('c', 'nli')
  assert _names(clusters.holdout('clu', 'qa').train) == ['c']
  assert _names(clusters.holdout('clu', 'nli').eval) == ['a', 'c']
  mixtures.register_suite_mixtures('clu')
  assert mixtures.tasks_of('clu_holdout_nli_eval_one_shot') == ['c_type_0_one_shot']
  assert mixtures.tasks_of('clu_all_train') == ['b_10templates', 'c_10templates']


def test_flan2021_excludes_what_the_paper_excludes():
  excluded = {c: clusters.excluded_clusters('flan2021', c) for c in (
      'nli', 'paraphrase', 'commonsense', 'reading_comprehension',
      'reading_comprehension_commonsense', 'sentiment',
  )}  # fmt: skip
  assert excluded == {
      'nli': {'paraphrase'},
      'paraphrase': {'nli'},
      'commonsense': {'reading_comprehension_commonsense'},
      'reading_comprehension': {'reading_comprehension_commonsense'},
      'reading_comprehension_commonsense': {'reading_comprehension', 'commonsense'},
      'sentiment': set(),
  }


def test_shared_lineage_between_train_and_held_out_is_refused():
  make('a', 'nli', lineage=['news'])
  make('b', 'qa', lineage=['news', 'other'])
  with pytest.raises(UserError, match=r"(?s)'b'.*'a'.*shared data news"):
    clusters.holdout('clu', 'nli')


def test_the_same_source_in_two_clusters_is_refused():
  source = seqio.FunctionDataSource(_dataset, ['train'])
  make('a', 'nli', source=source)
  make('b', 'qa', source=source)
  with pytest.raises(UserError, match='the same source'):
    clusters.holdout('clu', 'nli')


def test_declared_overlap_leaves_training_quietly_in_both_directions():
  make('a', 'nli', lineage=['news'])
  make('b', 'qa', lineage=['news'], overlaps=['a'])
  make('c', 'qa')
  split = clusters.holdout('clu', 'nli')
  assert (_names(split.train), _names(split.excluded)) == (['c'], ['b'])
  assert _names(clusters.holdout('clu', 'qa').excluded) == ['a']


def test_unknown_suites_and_clusters_name_the_nearest():
  make('a', 'nli')
  with pytest.raises(UserError, match='did you mean nli'):
    clusters.holdout('clu', 'nil')
  with pytest.raises(UserError, match='did you mean clu'):
    clusters.clusters('clue')
