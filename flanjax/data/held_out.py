"""The evaluation side of an audit: examples, the texts that are their own, and an index of them."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from flanjax.data import ngrams
from flanjax.data.ngrams import Texts
from flanjax.data.overlap import Index, Settings
from flanjax.data.task_texts import ANSWER, INPUT, Rows

# Wording is told by the first so many examples of a task, if they are not too few to tell.
_SAMPLE, _LEAST_SAMPLE = 1_024, 4
# An example of one short text, or of several, is looked for if it has so many words in all.
_LEAST_WHOLE = 3
# An answer of fewer letters is in most texts.
_LEAST_ANSWER = 4


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
  """Evaluation examples. `a` of example x is `a[a_start[x]:a_start[x + 1]]`, by text of the index.

  Attributes:
    index: of all their texts.
    tasks, fields: names.
    task, example_id: of each example.
    is_label: whether its answer is a label, the same words in many examples.
    own, own_field, own_input, own_evidence: its own texts; the fields they are; whether they are
      inputs; whether they are evidence by themselves.
    inputs, inputs_fixed: all its inputs; whether they are wording.
    is_whole: whether to look for all its inputs together, since no one is evidence by itself.
    answers, answers_searched: its answers, and whether finding one in some text means anything.
  """

  index: Index
  tasks: tuple[str, ...]
  fields: tuple[str, ...]
  task: np.ndarray
  example_id: np.ndarray
  is_label: np.ndarray
  own_start: np.ndarray
  own: np.ndarray
  own_field: np.ndarray
  own_input: np.ndarray
  own_evidence: np.ndarray
  inputs_start: np.ndarray
  inputs: np.ndarray
  inputs_fixed: np.ndarray
  is_whole: np.ndarray
  answers_start: np.ndarray
  answers: np.ndarray
  answers_searched: np.ndarray

  def __len__(self) -> int:
    return len(self.task)

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes everything, to be mapped into other processes."""
    folder = pathlib.Path(folder)
    (folder / 'index').mkdir(parents=True)
    self.index.save(folder / 'index')
    for name in _ARRAYS:
      np.save(folder / f'{name}.npy', getattr(self, name))
    settings = dataclasses.asdict(self.index.settings)
    names = {'tasks': self.tasks, 'fields': self.fields, 'settings': settings}
    (folder / 'names.json').write_text(json.dumps(names))

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> HeldOut:
    folder = pathlib.Path(folder)
    names = json.loads((folder / 'names.json').read_text())
    arrays = {name: np.load(folder / f'{name}.npy', allow_pickle=False) for name in _ARRAYS}
    index = Index.load(folder / 'index', Settings(**names['settings']))
    return cls(index, tuple(names['tasks']), tuple(names['fields']), **arrays)


_ARRAYS = tuple(f.name for f in dataclasses.fields(HeldOut))[3:]


class Builder:
  """Gathers examples for an index."""

  def __init__(self, settings: Settings):
    self._settings = settings
    self._texts: dict[bytes, bytes] = {}  # Digest of the words -> the text.
    self._number: dict[bytes, int] = {}
    self._lists = collections.defaultdict(list)
    self._tasks: dict[str, int] = {}
    self._fields: dict[str, int] = {}
    self.num_words = 0

  def __len__(self) -> int:
    return len(self._lists['task'])

  def add(self, task: str, rows: Rows, wording: frozenset[bytes]) -> None:
    """Adds examples of a task, of which some texts are known to be wording."""
    seen = _Seen(ngrams.normalise(rows.texts), wording)
    order = np.argsort(rows.row, kind='stable')
    bounds = np.searchsorted(rows.row[order], np.arange(len(rows.ids) + 1))
    columns = [getattr(rows, name)[order].tolist() for name in ('text', 'role', 'field')]
    for x, (start, end) in enumerate(itertools.pairwise(bounds.tolist())):
      self._lists['task'].append(self._tasks.setdefault(task, len(self._tasks)))
      self._lists['example_id'].append(int(rows.ids[x]))
      self._add(seen, list(zip(*(c[start:end] for c in columns))), rows)

  def _add(self, seen: _Seen, places: list[tuple[int, int, int]], rows: Rows) -> None:
    """An example by its (text, role, field)."""
    lists, least = self._lists, self._settings.least_words
    own = list(_own_texts(seen, places))
    inputs = [text for text, role, _ in own if role == INPUT]
    alone = inputs[0] if len(inputs) == 1 and seen.words[inputs[0]] >= _LEAST_WHOLE else None
    known = False
    for text, role, field in own:
      evidence = bool(seen.words[text] >= least or text == alone)
      known |= evidence and role == INPUT
      lists['own'].append(self._text(seen, text, rows))
      lists['own_field'].append(self._fields.setdefault(rows.fields[field], len(self._fields)))
      lists['own_input'].append(role == INPUT)
      lists['own_evidence'].append(evidence)
    every = [text for text, role, _ in places if role == INPUT and seen.words[text]]
    lists['inputs'] += [self._text(seen, text, rows) for text in every]
    lists['inputs_fixed'] += [text in seen.wording for text in every]
    lists['is_whole'].append(not known and sum(seen.words[t] for t in every) >= _LEAST_WHOLE)
    answers = dict.fromkeys(t for t, role, _ in places if role == ANSWER and seen.words[t])
    for text in answers:
      letters = seen.letters[text]
      told = any(letters in seen.letters[i] for i in inputs)
      lists['answers'].append(self._text(seen, text, rows))
      lists['answers_searched'].append(
          text not in seen.wording and len(letters) >= _LEAST_ANSWER and not told)
    lists['is_label'].append(bool(answers) and all(text in seen.wording for text in answers))
    for name in ('own', 'inputs', 'answers'):
      lists[f'{name}_end'].append(len(lists[name]))

  def _text(self, seen: _Seen, text: int, rows: Rows) -> int:
    digest = seen.digests[text]
    if digest not in self._number:
      self._number[digest] = len(self._texts)
      self._texts[digest] = rows.texts[text]
      self.num_words += int(seen.words[text])
    return self._number[digest]

  def build(self) -> HeldOut:
    """The examples so far."""
    lists, texts = self._lists, ngrams.normalise(list(self._texts.values()))
    kinds = {'task': np.int32, 'example_id': np.int64, 'is_label': bool, 'own_input': bool,
             'own_evidence': bool, 'answers_searched': bool, 'own': np.int32, 'own_field': np.int32,
             'inputs': np.int32, 'inputs_fixed': bool, 'is_whole': bool, 'answers': np.int32}
    arrays = {name: np.array(lists[name], kind) for name, kind in kinds.items()}
    for name in ('own', 'inputs', 'answers'):
      arrays[f'{name}_start'] = np.append(0, lists[f'{name}_end']).astype(np.int64)
    wanted = np.zeros(len(texts), bool)
    wanted[arrays['own'][arrays['own_evidence']]] = True
    index = Index.build(texts, wanted, self._settings)
    return HeldOut(index, tuple(self._tasks), tuple(self._fields), **arrays)


class _Seen:
  """What is asked of the texts of some rows again and again."""

  def __init__(self, texts: Texts, wording: frozenset[bytes] = frozenset()):
    every = range(len(texts))
    self.words = texts.num_words.tolist()
    self.letters = [texts.string(i) for i in every]
    # Texts of one digest are one text.
    self.digests = [_digest(texts.words(i)) for i in every]
    self.wording = {i for i in every if self.digests[i] in wording}


def _digest(words: list[str]) -> bytes:
  return hashlib.blake2b(' '.join(words).encode(), digest_size=16).digest()


def _own_texts(
    seen: _Seen, places: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int]]:
  """The texts that say what no other one of the example says, and that are no wording.

  winogrande's `context` is the beginning of its `sentence`, an extracted answer is in its passage.
  """
  inputs: list[str] = []
  others: set[str] = set()
  order = sorted(places, key=lambda p: (p[1], -len(seen.letters[p[0]]) if p[1] == INPUT else 0))
  for text, role, field in order:
    letters = seen.letters[text]
    if not letters or text in seen.wording or letters in others:
      continue
    if any(letters in longer for longer in inputs):
      continue
    if role == INPUT:
      inputs.append(letters)
    else:
      others.add(letters)
    yield text, role, field


def wording(batches: Iterable[Rows]) -> frozenset[bytes]:
  """Digests of fixed phrases and labels, as some examples of a task tell them.

  They are texts that stand in more than half of the examples, and answers that more than one in
  twenty share.
  """
  everywhere, answers = collections.Counter(), collections.Counter()
  total = 0
  for rows in batches:
    total += len(rows.ids)
    digests = _Seen(ngrams.normalise(rows.texts)).digests
    for counts, chosen in ((everywhere, rows.role >= INPUT), (answers, rows.role == ANSWER)):
      pairs = zip(rows.row[chosen].tolist(), rows.text[chosen].tolist())
      counts.update(digest for _, digest in {(row, digests[text]) for row, text in pairs})
  if total < _LEAST_SAMPLE:
    return frozenset()
  labels = {digest for digest, n in answers.items() if n > max(total / 20, _LEAST_SAMPLE)}
  return frozenset(labels | {digest for digest, n in everywhere.items() if 2 * n > total})


def with_wording(batches: Iterator[Rows]) -> Iterator[tuple[Rows, frozenset[bytes]]]:
  """Each batch of a task, with the wording that the first examples tell."""
  sample: list[Rows] = []
  for rows in batches:
    sample.append(rows)
    if sum(len(r.ids) for r in sample) >= _SAMPLE:
      break
  found = wording(sample)
  for rows in itertools.chain(sample, batches):
    yield rows, found
