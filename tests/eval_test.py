"""`flanjax eval`: what it evaluates when it is not told, and how much of it."""

import pytest

import flanjax.tasks.flan2021  # noqa: F401
import flanjax.tasks.mini  # noqa: F401
from flanjax.commands import eval as eval_script
from flanjax.commands import eval_plan
from flanjax.data import clusters, mixtures, specs
from flanjax.errors import UserError


@pytest.mark.parametrize('mixture, holdout, expected', [
    ('flan2021_holdout_nli_train', 'nli', 'flan2021_holdout_nli_eval'),
    ('flan2021_holdout_nli_train_five_shot', 'nli', 'flan2021_holdout_nli_eval'),
    ('flan2021_no_instructions_holdout_nli_train', 'nli', 'flan2021_no_instructions_holdout_nli_eval'),
    ('mini_only_topic_train', None, 'mini_only_topic_eval'),
    ('flan2021_all_train', None, 'flan2021_all_eval'),
    ('flan_inter_cluster_split_10_10templates_train', None,
     'flan_inter_cluster_split_10_10templates_eval'),
    ('flan_superglue_split_two_shot_10templates_5train_tasks_train', None,
     'flan_superglue_split_two_shot_10templates_5train_tasks_eval'),
])
def test_a_run_is_evaluated_on_what_its_mixture_holds_out(mixture, holdout, expected):
  assert eval_plan.default_tasks(mixture, holdout) == mixtures.tasks_of(expected)


def test_a_run_on_one_task_is_evaluated_on_each_of_its_own_templates():
  found = eval_plan.default_tasks('rte_10templates_two_shot', None)
  assert {'rte_type_0', 'rte_type_0_scoring_eval'} <= set(found)
  assert all(name.startswith('rte_type_') for name in found)
  assert eval_plan.default_tasks('dataset_name_rte_10templates', None) == [
      'dataset_name_rte_type_0', 'dataset_name_rte_type_0_scoring_eval']


def test_nothing_follows_from_an_unknown_mixture():
  with pytest.raises(UserError, match='Nothing to evaluate'):
    eval_plan.default_tasks('someones_own', None)
  with pytest.raises(UserError, match='did you mean mini_holdout_nli_eval'):
    eval_plan.default_tasks('mini_holdout_nil_train', 'nil')


def test_a_number_of_templates_is_of_each_task_in_each_mode():
  tasks = mixtures.tasks_of('mini_holdout_nli_eval')
  kept = eval_plan._first(1, tasks)
  assert len(kept) == len({(n.split('_type_')[0], n.endswith('scoring_eval')) for n in tasks})
  assert all('_type_0' in name for name in kept)
  assert eval_plan._first(None, tasks) == tasks


def test_a_run_on_one_cluster_tells_which_clusters_it_did_not_tune_on():
  settings = eval_script.EvalRun(
      checkpoint_path='/runs/x', num_templates=1, seen_templates=1)
  plan = eval_plan.make(settings, {'mixture': 'mini_only_topic_train', 'holdout': None})
  assert plan.trained == ('topic',) and plan.excluded == ()
  cluster_of = lambda name: specs.parse_task_name(name).spec.cluster
  assert {cluster_of(t) for t in plan.seen} == {'topic'}
  assert {cluster_of(t) for t in plan.tasks} == set(clusters.clusters('mini')) - {'topic'}
  changed = eval_plan.make(settings, {'mixture': 'mini_only_topic_train'}, ['rte_10templates'])
  assert changed.trained == ('nli', 'topic')
