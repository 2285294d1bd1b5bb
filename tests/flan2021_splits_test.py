"""The mixtures of google-research/FLAN: counts, names, and members as its own code makes them."""

import importlib.util
import json
import pathlib
import re

import pytest
import seqio

import flanjax.tasks.flan2021  # noqa: F401
from flanjax.data import mixtures, specs
from flanjax.data.specs import SHOTS
from flanjax.tasks.flan2021 import splits

TESTS = pathlib.Path(__file__).parent
GOLDEN = json.loads((TESTS / 'golden/flan_splits.json').read_text())
SPLITS = {split.name.format(shots=''): split for split in splits.all_splits()}


def _tool():
  path = TESTS.parent / 'tools/make_flan_splits_golden.py'
  spec = importlib.util.spec_from_file_location('make_flan_splits_golden', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _sizes(pattern, side):
  """The number of tasks of the splits whose names match, in the order of their first number."""
  found = [(int(re.search(r'\d+', n)[0]), len(getattr(s, side)))
           for n, s in SPLITS.items() if re.fullmatch(pattern, n)]
  return [size for _, size in sorted(found)]


def test_every_split_has_the_members_that_flans_code_gives_it():
  tool = _tool()
  got = {name: tool.letters(GOLDEN['tasks'], s.train, s.eval) for name, s in SPLITS.items()}
  assert got == GOLDEN['splits']


def test_names_templates_and_exemplars_are_flans_under_every_number_of_exemplars():
  made = [(s.name.format(shots=shots), s.train_tasks(shots), s.eval)
          for s in SPLITS.values() for shots in SHOTS]
  assert len(made) == GOLDEN['number'] == 938
  assert _tool().members_sha256(made) == GOLDEN['members_sha256']


def test_1876_mixtures_are_registered():
  names = [f'{s.name.format(shots=shots)}_{side}'
           for s in SPLITS.values() for shots in SHOTS for side in ('train', 'eval')]
  assert len(set(names)) == 134 * 2 * 7 == 1876
  assert set(names) <= set(seqio.MixtureRegistry.names())
  for name in ('flan_inter_cluster_split_10_10templates_five_shot_train',
               'flan_superglue_split_five_shot_10templates_55train_tasks_eval',
               'flan_superglue_split_4templates_multi_shot_train',
               'flan_diversity_split3_7templates_15task_limit_one_shot_train',
               'flan_inter_split_1templates_2tpc_ten_shot_eval'):
    assert name in names


def test_the_17_clusters_hold_69_tasks_of_the_suite():
  assert [len(members) for members in splits.CLUSTERS.values()] == [
      11, 4, 6, 4, 4, 4, 3, 4, 8, 3, 10, 1, 2, 1, 1, 1, 2]
  suite = {s.name for s in specs.all_specs('flan2021')}
  assert suite - set(splits.TASKS) == {'wsc273', 'dialogsum'}
  assert len(set(splits.TASKS)) == len(splits.TASKS) == 69


@pytest.mark.parametrize('pattern, train, held_out', [
    (r'flan_inter_cluster_split_\d+_10templates',
     [58, 65, 61, 65, 55, 65, 66, 63, 61, 66, 55, 68, 67, 68, 68, 68, 57],
     [11, 4, 6, 4, 4, 4, 3, 4, 8, 3, 10, 1, 2, 1, 1, 1, 2]),
    (r'flan_all_overlap_10templates', [69], [69]),
    (r'flan_superglue_split_\d+templates', [61] * 5, [8] * 5),
    (r'flan_diversity_split\d_10templates', [11, 19, 25, 29, 33, 36, 38], [18] * 7),
    (r'flan_diversity_split\d_1templates_15task_limit', [11] + [15] * 6, [18] * 7),
])
def test_sizes_are_those_of_flan(pattern, train, held_out):
  assert _sizes(pattern, 'train') == train
  assert _sizes(pattern, 'eval') == held_out


def test_sizes_of_the_splits_by_number_of_tasks():
  superglue = [SPLITS[f'flan_superglue_split_10templates_{k}train_tasks'] for k in range(5, 56, 5)]
  assert [len(s.train) for s in superglue] == list(range(5, 56, 5))
  per_cluster = [SPLITS[f'flan_inter_split_2templates_{k}tpc'] for k in (1, 2, 3, 4)]
  assert [len(s.train) for s in per_cluster] == [7, 14, 20, 25]


def test_an_intra_cluster_split_parts_no_family_and_leaves_single_tasks_in_training():
  for i in range(10):
    split = SPLITS[f'flan_intra_cluster_split_{i}_10templates']
    assert 53 <= len(split.train) <= 56 and 13 <= len(split.eval) <= 16
    assert not set(split.train) & set(split.eval)
    assert {'math_dataset', 'wic', 'cola', 'trec'} <= set(split.train)
    for family in splits.FAMILIES.values():
      assert set(family) <= set(split.train) or set(family) <= set(split.eval)


def test_training_draws_the_named_number_of_templates_at_capped_rates():
  mixture = seqio.MixtureRegistry.get('flan_superglue_split_4templates_two_shot_train')
  assert len(mixture.tasks) == 61
  assert {t.name.partition('_4templates')[2] for t in mixture.tasks} == {'_two_shot'}
  assert set(mixture.rate_per_task_name.values()) == {mixtures.capped_rate}


def test_evaluation_is_under_every_template_but_the_inverted_ones():
  tasks = mixtures.tasks_of('flan_superglue_split_1templates_eval')
  assert tasks == mixtures.tasks_of('flan_superglue_split_10templates_eval')
  assert {specs.parse_task_name(t).spec.name for t in tasks} == splits.SUPERGLUE
  assert not any(t.inverted for task in tasks for t in specs.parse_task_name(task).templates)
  assert {'rte_type_0', 'rte_type_0_scoring_eval'} <= set(tasks)


def test_seqio_takes_every_mixture_with_all_its_tasks():
  for split in SPLITS.values():
    for shots in SHOTS:
      stem = split.name.format(shots=shots)
      assert mixtures.tasks_of(f'{stem}_train') == split.train_tasks(shots)
      # Of ten templates at most three are inverted.
      assert len(mixtures.tasks_of(f'{stem}_eval')) >= 7 * len(split.eval)


def test_flans_splits_keep_the_overlaps_that_the_papers_holdouts_take_out():
  ours = lambda name: {specs.parse_task_name(t).spec.name for t in mixtures.tasks_of(name)}
  entailment = SPLITS['flan_inter_cluster_split_10_10templates']
  assert 'wnli' in entailment.eval and 'wsc' in entailment.train
  assert 'wsc' not in ours('flan2021_holdout_nli_train')
  summarization = SPLITS['flan_inter_cluster_split_0_10templates']
  assert 'cnn_dailymail' in summarization.eval and 'record' in summarization.train
  assert 'record' not in ours('flan2021_holdout_summarization_train')
