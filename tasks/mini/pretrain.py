"""Batches of the world's plain text for pretraining the base model.

Three objectives on documents of `prose`, all of them encoder-decoder forms of
language modelling; none has seen a task or a template.

  prefix   "Ann has a red hat. Bob saw"        -> "the fox."
  spans    "Ann <extra_id_0> red hat. Bob ..." -> "<extra_id_0> has a"
  rebuild  "Ann has <extra_id_99> hat."        -> "Ann has a red hat."

`prefix` is T5's LM adaptation (arXiv 1910.10683, section 3.2.3, and 2104.08691,
section 3.1), `spans` its span corruption with fewer spans, since documents are
short, `rebuild` BART's (arXiv 1910.13461), which is what teaches a small
decoder to read its encoder at all.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import io
import pathlib
import random
import re
import tempfile

import numpy as np
import sentencepiece

from flanjax.input import packing
from flanjax.tasks.mini import prose
from flanjax.tasks.mini import world

BASE = pathlib.Path(__file__).parent / 'base'
EXTRA_IDS = 100
EOS = 1
_WORD = '\u2581[A-Za-z]+|[A-Za-z]{2,}'


def train_vocabulary(path: pathlib.Path, documents: int = 60_000, size: int = 1_500) -> None:
  """Trains the suite's SentencePiece model on its own text; T5's special ids.

  The words of this closed world are the seeds, so that each of them is one piece and
  none of the vocabulary is spent on parts of words; other text falls back to letters and bytes.
  """
  rng = random.Random(world.WORLD_SEED)
  texts = [prose.document(rng) for _ in range(documents)]
  words = collections.Counter(
      word for text in texts for word in re.findall(_WORD, f' {text}'.replace(' ', '\u2581')))
  model = io.BytesIO()
  with tempfile.NamedTemporaryFile('w', suffix='.tsv', encoding='utf-8') as seeds:
    seeds.writelines(f'{word}\t{count}\n' for word, count in words.items())
    seeds.flush()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type='unigram',
        vocab_size=size, hard_vocab_limit=False, seed_sentencepieces_file=seeds.name,
        byte_fallback=True, character_coverage=1.0, num_threads=1,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
  path.write_bytes(model.getvalue())


@dataclasses.dataclass(frozen=True)
class Shares:
  """How often each objective is drawn."""

  prefix: float = 0.45
  spans: float = 0.25
  rebuild: float = 0.30


class PretrainSource:
  """Batch t as a pure function of (seed, t): the trainer's `BatchSource`.

  Args:
    batch_size: rows of a batch; each holds several documents, packed.
    seed: seeds the documents and everything drawn about them.
    feature_lengths: tokens in a row of inputs and of targets.
    shares: how often each objective is drawn.
    vocabulary: a SentencePiece file.
  """

  def __init__(self, batch_size: int, seed: int, feature_lengths: Mapping[str, int],
               shares: Shares = Shares(),
               vocabulary: str | pathlib.Path = BASE / 'sentencepiece.model'):
    self._batch_size, self._seed = batch_size, seed
    self.feature_lengths = dict(feature_lengths)
    self.shares: Mapping[str, float] = dataclasses.asdict(shares)
    self._spm = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    self._sentinel = self._spm.vocab_size() + EXTRA_IDS - 1
    digest = hashlib.sha256(pathlib.Path(vocabulary).read_bytes())
    digest.update(repr((batch_size, seed, sorted(feature_lengths.items()), shares)).encode())
    self.fingerprint = digest.hexdigest()

  def tasks(self, step: int) -> dict[str, int]:
    return {'mini_prose': self._batch_size}

  def pair(self, rng: random.Random, text: str) -> tuple[list[int], list[int]]:
    """One document as inputs and targets, both ending in EOS."""
    ids = self._spm.encode(text)
    kinds, weights = zip(*self.shares.items())
    make = getattr(self, '_' + rng.choices(kinds, weights)[0])
    inputs, targets = make(rng, ids)
    return inputs + [EOS], targets + [EOS]

  def _prefix(self, rng: random.Random, ids: list[int]) -> tuple[list[int], list[int]]:
    if rng.random() < 0.5:  # Before one of the last words: mostly they follow from the text.
      cut = len(ids) - rng.randint(2, 6)
    else:
      cut = rng.randint(len(ids) // 4, len(ids) - 2)
    cut = min(max(cut, 1), len(ids) - 1)
    return ids[:cut], ids[cut:]

  def _spans(self, rng: random.Random, ids: list[int]) -> tuple[list[int], list[int]]:
    inputs, targets, i, n = [], [], 0, 0
    starts = set(rng.sample(range(len(ids)), max(1, len(ids) // 8)))
    while i < len(ids):
      if i in starts:
        length = rng.choice((1, 1, 2, 3))
        inputs.append(self._sentinel - n)
        targets += [self._sentinel - n] + ids[i:i + length]
        i, n = i + length, n + 1
        if i < len(ids):  # Two spans never touch.
          inputs.append(ids[i])
          i += 1
      else:
        inputs.append(ids[i])
        i += 1
    return inputs, targets

  def _rebuild(self, rng: random.Random, ids: list[int]) -> tuple[list[int], list[int]]:
    rate, mask = rng.uniform(0.0, 0.3), self._sentinel - (EXTRA_IDS - 1)
    return [mask if rng.random() < rate else i for i in ids], list(ids)

  def batch(self, step: int) -> dict[str, np.ndarray]:
    """[batch, length] arrays under SeqIO's feature-converter names."""
    rng = random.Random(f'{self._seed}/{step}')
    row = (self.feature_lengths['inputs'], self.feature_lengths['targets'])
    pairs, used = [], np.zeros(2, np.int64)
    while (used <= np.multiply(row, self._batch_size)).all():
      pair = self.pair(rng, prose.document(rng))
      lengths = list(map(len, pair))
      if all(np.less_equal(lengths, row)):
        pairs.append(pair)
        used += lengths
    lengths = np.array([list(map(len, pair)) for pair in pairs], np.int32)
    rows = packing.fill_rows(lengths, row, self._batch_size)
    order = np.argsort(rows, kind='stable')
    inputs, targets = (
        np.concatenate([np.array(pairs[i][side], np.int32) for i in order]) for side in (0, 1))
    starts = np.searchsorted(rows[order], np.arange(self._batch_size + 1))
    return packing.batch_arrays(inputs, targets, lengths[order], starts, row, packed=True)
