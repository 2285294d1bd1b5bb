"""The mixtures of google-research/FLAN's released code, under the names that its users know.

  flan_inter_cluster_split_{0..16}_10templates          a cluster held out, of the code's 17
  flan_intra_cluster_split_{0..9}_10templates           a task of each cluster held out
  flan_all_overlap_10templates                          nothing held out
  flan_superglue_split_{n}templates                     SuperGLUE held out, n of 1, 2, 4, 7, 10
  flan_superglue_split_10templates_{k}train_tasks       the same after k of 5, 10 .. 55 tasks
  flan_diversity_split{c}_{n}templates                  three clusters held out, after c of 1 .. 7
  flan_diversity_split{c}_{n}templates_15task_limit     the same, after 15 tasks of these
  flan_inter_split_{n}templates_{k}tpc                  the same after 7 clusters, k tasks of each

Each is `..._train` and `..._eval`, and has a few-shot version: `_five_shot` and the like before
that, but for `..._{k}train_tasks`, where it stands after `split`.

They hold what FLAN's hold, also the overlaps that `flan2021_holdout_*` take out: with entailment
(WNLI) held out, WSC, its source, still trains; summarization held out, ReCoRD trains on articles
of CNN/DailyMail; SuperGLUE held out, other entailment tasks train. Two things are ours: evaluation
is under every template that asks for the task's own answer, never an inverted one, whatever n;
and training mixtures with exemplars can be drawn from.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from flanjax.data import gc_pause, mixtures, specs
from flanjax.data.specs import SHOTS, TEMPLATE_COUNTS

# In the order of the code: a cluster's place is its number, and a task's decides what is drawn.
CLUSTERS: Mapping[str, tuple[str, ...]] = {
    name: tuple(members.split())
    for name, members in {
        'summarization': 'aeslc cnn_dailymail gigaword multi_news newsroom samsum xsum ag_news_subset '
                         'opinion_abstracts_rotten_tomatoes opinion_abstracts_idebate wiki_lingua_english_en',
        'structure_to_text': 'web_nlg_en common_gen e2e_nlg dart',
        'reading_comprehension': 'squad_v1 squad_v2 drop multirc openbookqa bool_q',
        'open_domain_qa': 'trivia_qa natural_questions arc_challenge arc_easy',
        'paraphrase': 'glue_mrpc glue_qqp paws_wiki stsb',
        'sentiment': 'imdb_reviews sentiment140 yelp_polarity_reviews sst2',
        'text_formatting': 'true_case fix_punct word_segment',
        'common_sense': 'copa hellaswag story_cloze piqa',
        'translation': 'para_crawl_enes wmt14_enfr wmt16_translate_deen wmt16_translate_tren wmt16_translate_csen '
                       'wmt16_translate_fien wmt16_translate_roen wmt16_translate_ruen',
        'coreference': 'definite_pronoun_resolution winogrande wsc',
        'entailment': 'anli_r1 anli_r2 anli_r3 cb rte mnli_matched mnli_mismatched qnli wnli snli',
        'math': 'math_dataset',
        'conversational_qa': 'quac coqa',
        'word_disambiguation': 'wic',
        'linguistic_acceptability': 'cola',
        'question_classification': 'trec',
        'read_comp_and_common_sense': 'record cosmos_qa',
    }.items()
}
TASKS = tuple(task for members in CLUSTERS.values() for task in members)
# Pairs of clusters of which neither trains when the other is held out.
EXCLUSIONS = (
    ('reading_comprehension', 'read_comp_and_common_sense'),
    ('common_sense', 'read_comp_and_common_sense'),
    ('paraphrase', 'entailment'),
)
# Tasks of one format, which an intra-cluster split keeps together. They are drawn after a
# cluster's other tasks, in the order of these names.
FAMILIES = {
    'anli': ('anli_r1', 'anli_r2', 'anli_r3'),
    'arc': ('arc_challenge', 'arc_easy'),
    'mnli': ('mnli_matched', 'mnli_mismatched'),
    'opinion_abstracts': ('opinion_abstracts_rotten_tomatoes', 'opinion_abstracts_idebate'),
    'squad': ('squad_v1', 'squad_v2'),
}
INTRA_CLUSTER_SPLITS = 10
SUPERGLUE = frozenset('bool_q cb copa multirc record rte wic wsc'.split())
SUPERGLUE_TRAIN_TASKS = range(5, 56, 5)
DIVERSITY_TRAIN = (
    'summarization', 'translation', 'reading_comprehension', 'sentiment', 'structure_to_text',
    'coreference', 'conversational_qa',
)
DIVERSITY_EVAL = ('entailment', 'common_sense', 'open_domain_qa')
DIVERSITY_TASK_LIMIT = 15
TASKS_PER_CLUSTER = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Split:
  """What one of FLAN's models trains on, and what it is evaluated on.

  Attributes:
    name: the name of its mixtures without `_train` and `_eval`; `{shots}` is where the few-shot
      suffix stands.
    num_templates: templates of each task in training.
    train: the tasks, sorted.
    eval: the tasks, sorted.
  """

  name: str
  num_templates: int
  train: tuple[str, ...]
  eval: tuple[str, ...]

  def train_tasks(self, shots: str = '') -> list[str]:
    """SeqIO tasks to train on. `shots` is a key of `specs.SHOTS`."""
    return [f'{task}_{self.num_templates}templates{shots}' for task in self.train]

  def eval_tasks(self, shots: str = '') -> list[str]:
    """SeqIO tasks to evaluate on, the same whatever `num_templates` is."""
    return [name + shots for t in self.eval for name in mixtures.eval_tasks(specs.get(t))]


def _split(name: str, num_templates: int, train: Iterable[str], held_out: Iterable[str]) -> Split:
  return Split(name, num_templates, tuple(sorted(train)), tuple(sorted(held_out)))


def _members(clusters: Iterable[str]) -> list[str]:
  return [task for cluster in clusters for task in CLUSTERS[cluster]]


def all_splits() -> Iterator[Split]:
  """FLAN's 134 splits."""
  yield from inter_cluster()
  yield from intra_cluster()
  yield _split('flan_all_overlap_10templates{shots}', 10, TASKS, TASKS)
  yield from superglue()
  yield from diversity()
  yield from tasks_per_cluster()


def inter_cluster() -> Iterator[Split]:
  """Each cluster held out, with the clusters that `EXCLUSIONS` pairs it with out of training."""
  for i, held in enumerate(CLUSTERS):
    near = {cluster for pair in EXCLUSIONS if held in pair for cluster in pair} | {held}
    train = _members(c for c in CLUSTERS if c not in near)
    yield _split(f'flan_inter_cluster_split_{i}_10templates{{shots}}', 10, train, CLUSTERS[held])


def intra_cluster() -> Iterator[Split]:
  """One task, or family of tasks, of each cluster of several held out, another in each split."""
  for i in range(INTRA_CLUSTER_SPLITS):
    held = [task for j, cluster in enumerate(CLUSTERS) for task in _held_in_cluster(i, j, cluster)]
    train = set(TASKS) - set(held)
    yield _split(f'flan_intra_cluster_split_{i}_10templates{{shots}}', 10, train, held)


def _held_in_cluster(split: int, index: int, cluster: str) -> tuple[str, ...]:
  """The tasks of a cluster that an intra-cluster split holds out; none of a cluster of one.

  FLAN goes through a permutation that NumPy draws with the cluster's number for a seed.
  """
  members = CLUSTERS[cluster]
  families = {name: group for name, group in FAMILIES.items() if group[0] in members}
  grouped = {task for group in families.values() for task in group}
  units = [(task,) for task in members if task not in grouped]
  units += [families[name] for name in sorted(families)]
  if len(units) < 2:
    return ()
  order = np.random.RandomState(seed=index).permutation(len(units))
  return units[order[split % len(units)]]


def superglue() -> Iterator[Split]:
  """SuperGLUE's tasks held out, after more or fewer templates or tasks. Not cluster-clean."""
  train = [task for task in TASKS if task not in SUPERGLUE]
  for n in TEMPLATE_COUNTS:
    yield _split(f'flan_superglue_split_{n}templates{{shots}}', n, train, SUPERGLUE)
  order = list(TASKS)
  random.Random(42).shuffle(order)
  train = [task for task in order if task not in SUPERGLUE]
  for k in SUPERGLUE_TRAIN_TASKS:
    name = f'flan_superglue_split{{shots}}_10templates_{k}train_tasks'
    yield _split(name, 10, train[:k], SUPERGLUE)


def diversity() -> Iterator[Split]:
  """DIVERSITY_EVAL held out, after the first c clusters of DIVERSITY_TRAIN, or 15 tasks of them.

  The 15 are the clusters' first tasks, then their second ones, and so on.
  """
  for c in range(1, len(DIVERSITY_TRAIN) + 1):
    chosen = [CLUSTERS[name] for name in CLUSTERS if name in DIVERSITY_TRAIN[:c]]
    longest = max(map(len, chosen))
    by_turns = [members[i] for i in range(longest) for members in chosen if i < len(members)]
    for n in TEMPLATE_COUNTS:
      name, held = f'flan_diversity_split{c}_{n}templates', _members(DIVERSITY_EVAL)
      yield _split(f'{name}{{shots}}', n, by_turns, held)
      limit = DIVERSITY_TASK_LIMIT
      yield _split(f'{name}_{limit}task_limit{{shots}}', n, by_turns[:limit], held)


def tasks_per_cluster() -> Iterator[Split]:
  """DIVERSITY_EVAL held out, after the first k tasks of each cluster of DIVERSITY_TRAIN."""
  for k in TASKS_PER_CLUSTER:
    train = [task for name in DIVERSITY_TRAIN for task in CLUSTERS[name][:k]]
    for n in TEMPLATE_COUNTS:
      yield _split(
          f'flan_inter_split_{n}templates_{k}tpc{{shots}}', n, train, _members(DIVERSITY_EVAL))


@gc_pause.paused()
def register_mixtures() -> list[str]:
  """Registers `_train` and `_eval` of every split and number of exemplars; their 1,876 names."""
  names = []
  for split in all_splits():
    for shots in SHOTS:
      stem = split.name.format(shots=shots)
      sides = {
          f'{stem}_train': (functools.partial(split.train_tasks, shots), mixtures.capped_rate),
          f'{stem}_eval': (functools.partial(split.eval_tasks, shots), 1.0),
      }
      names += [mixtures.add(name, *side) for name, side in sides.items()]
  return names
