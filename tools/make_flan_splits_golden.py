#!/usr/bin/env python3
"""Writes the splits that FLAN's own code makes, for tests/flan2021_splits_test.py to compare with.

  git clone https://github.com/google-research/FLAN
  tools/make_flan_splits_golden.py FLAN tests/golden/flan_splits.json

A developer's tool: it imports `flan.task_splits` and `flan.few_shot` from that checkout, which is
to say that it runs them. Of the tasks themselves, which need packages of 2021, only the numbers of
templates are read, as text. In the file, a split is a row of letters, one for each of `tasks`:
T trained on, E evaluated, B both, - neither. The hash is over the members of every split
under every number of exemplars, as `members_sha256` here makes it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import pathlib
import re
import sys
import types
from collections.abc import Iterable
from typing import Any
from unittest import mock


def members_sha256(splits: Iterable[tuple[str, Iterable[str], Iterable[str]]]) -> str:
  """A hash of (name, SeqIO tasks to train on, tasks to evaluate), whatever their order."""
  lines = [f'{n}\t{" ".join(sorted(t))}\t{" ".join(sorted(e))}\n' for n, t, e in splits]
  return hashlib.sha256(''.join(sorted(lines)).encode()).hexdigest()


def letters(tasks: Iterable[str], train: Iterable[str], held_out: Iterable[str]) -> str:
  """What each task does in a split: T trains, E is evaluated, B both, - neither."""
  train, held_out = set(train), set(held_out)
  return ''.join('-TEB'[(task in train) + 2 * (task in held_out)] for task in tasks)


def _template_counts(checkout: pathlib.Path) -> list[int]:
  """NUM_TEMPLATES_LIST of flan/tasks.py."""
  for statement in ast.parse((checkout / 'flan/tasks.py').read_text()).body:
    if isinstance(statement, ast.Assign) and statement.targets[0].id == 'NUM_TEMPLATES_LIST':
      return ast.literal_eval(statement.value)
  raise SystemExit('flan/tasks.py has no NUM_TEMPLATES_LIST')


def _splits(checkout: pathlib.Path) -> list[Any]:
  """All splits of flan/mixtures.py."""
  import seqio

  sys.path.insert(0, str(checkout))
  sys.modules['flan.preprocessors'] = types.ModuleType('flan.preprocessors')
  sys.modules['flan.tasks'] = types.ModuleType('flan.tasks')
  sys.modules['flan.tasks'].NUM_TEMPLATES_LIST = _template_counts(checkout)
  from flan import task_splits

  made = []
  # It only asks whether its tasks are there.
  with mock.patch.object(seqio.TaskRegistry, 'get'):
    for shots in task_splits.ShotConfig:
      made.append(task_splits.generate_all_overlap_split(shot_config=shots))
      for generate in (
          task_splits.generate_inter_cluster_splits, task_splits.generate_intra_cluster_splits,
          task_splits.generate_superglue_num_templates_ablation,
          task_splits.generate_superglue_num_tasks_ablation, task_splits.generate_inter_ablation,
      ):
        made += generate(shot_config=shots)
  return made


def _plain(names: Iterable[str]) -> list[str]:
  """SeqIO tasks as the tasks they come from: 'rte_10templates_five_shot' -> 'rte'."""
  return sorted({re.sub(r'_\d+templates.*', '', name) for name in names})


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('checkout', type=pathlib.Path, help='of github.com/google-research/FLAN')
  parser.add_argument('output', type=pathlib.Path)
  args = parser.parse_args(argv)
  splits = _splits(args.checkout)
  tasks = sorted({t for s in splits for t in _plain(s.train_tasks + s.test_tasks)})
  golden = {
      'tasks': tasks,
      'splits': {
          s.name: letters(tasks, _plain(s.train_tasks), _plain(s.test_tasks))
          for s in splits if not s.name.endswith('_shot') and '_shot_' not in s.name
      },
      'number': len(splits),
      'members_sha256': members_sha256(
          (s.name, s.train_tasks, _plain(s.test_tasks)) for s in splits),
  }
  args.output.write_text(json.dumps(golden, indent=1) + '\n')


if __name__ == '__main__':
  main(sys.argv[1:])
