"""Writes docs/tasks.md: FLAN-2021's tasks as this library has them, and how they differ from FLAN's.

    .venv/bin/python tools/make_tasks_doc.py

What it writes does not depend on which data is on the machine.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

from flanjax import terminal
from flanjax.data import catalogue, clusters, indexed_source, mixtures, sources
from flanjax.data.specs import TaskSpec
from flanjax.tasks.flan2021 import _common

PAGE = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'tasks.md'
_COLUMNS = ('task', 'what it asks', 'source', 'train', 'metrics', 'licence', 'download')
_HEAD = """\
# The tasks of `flan2021`

{tasks} tasks in {clusters} clusters, with {templates} templates, {inverted} of them inverted: they ask for an input, given the
answer. Made by `tools/make_tasks_doc.py`; `flanjax tasks list --suite flan2021` tells the same, and what of it is on your
machine. `flanjax tasks show rte --html rte.html` makes a page of a task, with all of its templates side by side.

* **What it asks** is the shortest of a task's templates, ` / ` for a line break. `{{options_}}` stands for the answers to choose from.
* **Train** is the size of the training split as it is published, after filters, rounded down to tens. Of each, 30,000 examples
  are kept, and in a mixture a task's rate is at most {cap:,}. Without DialogSum, the rates add up to {rates:,} and the
  examples to {examples:,}.
* **Licence** is what the makers of a dataset say, as far as public pages tell; "not stated" where they say nothing. It is
  theirs to tell: look before you redistribute.
* **Download** is *by itself* where TFDS fetches the data when it is first needed, with the bytes at most; *by hand* where you
  have to, for which `flanjax tasks show` says what to fetch and where to put it.
"""
_DIFFERENCES = """\
## How they differ from FLAN's

The clusters are the 12 of the paper. Splits, options and metrics are FLAN's; the templates are this library's own.

Versions and sources that TFDS no longer has, or that need more than TFDS:

| task | FLAN | here | what changed |
|---|---|---|---|
| `cnn_dailymail` | `cnn_dailymail:3.1.0` | `3.4.0` | no space before the full stops that are added to highlights; a publisher and an id with each example |
| `multi_news` | `multi_news:1.0.0` | `2.1.0` | the authors' cleaned files, from a new address |
| `winogrande` | `winogrande:1.1.0` | `1.2.0` | a new source file; `train_xl` and `validation` have as many examples as before |
| `xsum` | `huggingface:xsum` | `gem/xsum:1.1.0` | 23,206 of the 204,045 training examples: those whose summary a classifier found to be borne out by the document |
| `trivia_qa` | `trivia_qa/rc:1.1.0` | `trivia_qa/rc.nocontext:1.1.0` | the same questions without their pages of evidence (15 GB), which no template uses |
| `cola` | `glue/cola`, no version | `glue/cola:2.0.0` | a version |

Examples:

* `sentiment140`: the neutral tweets of the test split are left out. The training split has none, and no option names them.
* `record` takes its articles from CNN and the Daily Mail, and says so: neither it nor `cnn_dailymail` trains a model that is
  judged on the other. The same holds for `wnli` on one side and `wsc` and `wsc273` on the other, which share their sentences.
* `dialogsum`, a sibling of SAMSum, is not one of FLAN's. `wsc273` is for evaluation alone, as in FLAN.
* `para_crawl_enes` keeps its last 1,200 sentences for validation and testing, as FLAN does, and has the rest for training.
"""


def page() -> str:
  """The text of docs/tasks.md."""
  table = clusters.clusters(_common.SUITE)
  found = [spec for members in table.values() for spec in members]
  sizes = [s.num_train_examples for s in found if s.num_train_examples and s.name != 'dialogsum']
  head = _HEAD.format(
      tasks=len(found), clusters=len(table),
      templates=sum(len(s.templates) for s in found),
      inverted=sum(t.inverted for s in found for t in s.templates),
      cap=mixtures.MIXING_RATE_CAP,
      rates=sum(min(n, mixtures.MIXING_RATE_CAP) for n in sizes),
      examples=sum(min(n, indexed_source.MAX_TRAIN_EXAMPLES) for n in sizes))
  parts = [head]
  for cluster, members in table.items():
    parts.append('\n'.join([f'## {cluster}', '', *_table(members), '']))
  return '\n'.join([*parts, _DIFFERENCES])


def _table(members: Sequence[TaskSpec]) -> Iterator[str]:
  yield f'| {" | ".join(_COLUMNS)} |'
  yield '|---|---|---|--:|---|---|---|'
  for spec in members:
    yield f'| {" | ".join(_escaped(cell) for cell in _cells(spec))} |'


def _cells(spec: TaskSpec) -> Iterator[str]:
  origin = sources.origin(spec.source)
  size = f', {terminal.size(origin.download_bytes)}' if origin.download_bytes else ''
  yield f'`{spec.name}`'
  yield f'`{_shortest_template(spec)}`'
  yield f'`{origin.name}:{origin.version}`'
  yield '' if spec.num_train_examples is None else f'{spec.num_train_examples:,}'
  yield ', '.join(catalogue.metric_names(spec))
  yield spec.licence
  yield origin.obtained + size


def _shortest_template(spec: TaskSpec) -> str:
  texts = [spec.templates[i].inputs for i in spec.zero_shot_templates]
  return ' / '.join(filter(None, min(texts, key=len).split('\n')))


def _escaped(cell: str) -> str:
  return cell.replace('|', '\\|').replace('\n', ' ')


if __name__ == '__main__':
  PAGE.write_text(page(), encoding='utf-8')
  print(PAGE)
