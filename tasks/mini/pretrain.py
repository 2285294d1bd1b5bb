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

import argparse
import bisect
import collections
import dataclasses
import hashlib
import io
import itertools
import os
import pathlib
import random
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import jax
import numpy as np
import optax
import sentencepiece

from flanjax import errors
from flanjax import gin_files
from flanjax import terminal
from flanjax.input import packing
from flanjax.interop import safetensors
from flanjax.models import attention as attention_lib
from flanjax.models import t5
from flanjax.tasks.mini import prose
from flanjax.tasks.mini import world
from flanjax.training import loop, saving

BASE = pathlib.Path(__file__).parent / 'base'
EXTRA_IDS = 100
Pair = tuple[list[int], list[int]]
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
class Stage:
  """A part of pretraining.

  Attributes:
    steps: how long it lasts; None: to the end.
    prefix: how often the objective `prefix` is drawn.
    spans: how often `spans` is.
    rebuild: how often `rebuild` is.
    feature_lengths: tokens in a row of inputs and of targets.
    documents: how often each kind of document is.
  """

  steps: int | None
  prefix: float
  spans: float
  rebuild: float
  feature_lengths: tuple[int, int] = (64, 28)
  documents: prose.Weights = dataclasses.field(default_factory=lambda: prose.DOCUMENTS)

  @property
  def shares(self) -> dict[str, float]:
    return {'prefix': self.prefix, 'spans': self.spans, 'rebuild': self.rebuild}


# A curriculum. Rebuilding teaches to copy within some 50,000 documents; after that most of its
# tokens teach nothing. Whether a word stands elsewhere in the input is learned from lists where
# little else is drawn, and not soon where they are a fifth of the text; claims about facts, which
# need the same, then follow at once. So with pairs in a list, and questions about who did what.
STAGES = (
    Stage(1_200, 0.4, 0.2, 0.4, (64, 40)),
    Stage(1_800, 0.9, 0.05, 0.05, documents=prose.mostly(
        0.85, {prose.on_the_list: 2.0, prose.in_the_book: 1.0})),
    Stage(4_000, 0.9, 0.05, 0.05, documents=prose.mostly(0.8, {
        prose.judged: 4.0, prose.same_or_not: 3.0, prose.several_questions: 4.0, prose.in_the_book: 2.0,
        prose.roll_call: 2.0, prose.lookup: 2.0, prose.on_the_list: 1.0})),
    Stage(1_500, 0.9, 0.05, 0.05, documents=prose.mostly(0.85, {
        prose.in_the_book: 3.0, prose.several_questions: 1.0})),
    Stage(None, 0.75, 0.15, 0.1),
)


class PretrainSource:
  """Batch t as a pure function of (seed, t): the trainer's `BatchSource`.

  Args:
    batch_size: rows of a batch; each holds several documents, packed.
    seed: seeds the documents and everything drawn about them.
    vocabulary: a SentencePiece file.
    stages: one after the other.
  """

  def __init__(self, batch_size: int, seed: int,
               vocabulary: str | os.PathLike[str] = BASE / 'sentencepiece.model',
               stages: Sequence[Stage] = STAGES):
    self.batch_size, self._seed, self._stages = batch_size, seed, stages
    self._ends = list(itertools.accumulate(stage.steps for stage in stages[:-1]))
    self._spm = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    self._sentinel = self._spm.vocab_size() + EXTRA_IDS - 1
    self.vocab_size = self._spm.vocab_size() + EXTRA_IDS
    digest = hashlib.sha256(pathlib.Path(vocabulary).read_bytes())
    told = [(s.steps, s.shares, s.feature_lengths, {m.__name__: x for m, x in s.documents.items()})
            for s in stages]
    digest.update(repr((batch_size, seed, told)).encode())
    self.fingerprint = digest.hexdigest()

  def tally(self, step: int) -> dict[str, int]:
    return {'steps': 1, 'mini_prose/0/examples': self.batch_size}

  def audit(self, counts: Mapping[str, int]) -> dict[str, int]:
    return dict(counts)

  def pair(self, rng: random.Random, stage: Stage) -> Pair:
    """One document as inputs and targets, both ending in EOS."""
    head, tail = prose.parts(rng, stage.documents)
    kinds, weights = zip(*stage.shares.items())
    kind = rng.choices(kinds, weights)[0]
    if kind == 'prefix' and tail and rng.random() < 0.8:
      inputs, targets = self._spm.encode(head), self._spm.encode(tail)
    else:
      inputs, targets = getattr(self, '_' + kind)(rng, self._spm.encode(head + tail))
    return inputs + [EOS], targets + [EOS]

  def _prefix(self, rng: random.Random, ids: list[int]) -> Pair:
    cut = rng.randint(len(ids) // 4, len(ids) - 2) if len(ids) > 2 else 1
    return ids[:max(cut, 1)], ids[max(cut, 1):]

  def _spans(self, rng: random.Random, ids: list[int]) -> Pair:
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

  def _rebuild(self, rng: random.Random, ids: list[int]) -> Pair:
    rate, mask = rng.uniform(0.0, 0.3), self._sentinel - (EXTRA_IDS - 1)
    return [mask if rng.random() < rate else i for i in ids], list(ids)

  def batch(self, step: int, rows: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """[batch, length] arrays under SeqIO's feature-converter names, or the rows (first, stop)."""
    rng = random.Random(f'{self._seed}/{step}')
    stage = self._stages[bisect.bisect_right(self._ends, step)]
    row = stage.feature_lengths
    pairs, used = [], np.zeros(2, np.int64)
    while (used <= np.multiply(row, self.batch_size)).all():
      pair = self.pair(rng, stage)
      lengths = list(map(len, pair))
      if all(np.less_equal(lengths, row)):
        pairs.append(pair)
        used += lengths
    lengths = np.array([list(map(len, pair)) for pair in pairs], np.int32)
    placed = packing.fill_rows(lengths, row, self.batch_size)
    order = np.argsort(placed, kind='stable')
    inputs, targets = (
        np.concatenate([np.array(pairs[i][side], np.int32) for i in order]) for side in (0, 1))
    starts = np.searchsorted(placed[order], np.arange(self.batch_size + 1))
    batch = packing.batch_arrays(inputs, targets, lengths[order], starts, row, packed=True)
    return {k: v[slice(*(rows or (None,)))] for k, v in batch.items()}


@dataclasses.dataclass
class PretrainRun:
  """A pretraining run as gin configures it: `base/pretrain.gin`."""

  model: t5.EncoderDecoderModel
  optimizer: optax.GradientTransformation
  total_steps: int
  batch_size: int
  random_seed: int = 0
  checkpoint_period: int = 1_000


def matching_heads(params: Mapping[str, Any], config: t5.T5Config) -> dict[str, Any]:
  """Parameters as drawn, but for attention that finds equal words and neighbours from the start.

  In each attention the queries of the first half of the heads equal their keys (but for the
  1/sqrt(head_dim) that T5 has in its initial query), so that a token attends to others of its kind;
  "mimetic initialization", Trockman and Kolter 2023, arXiv 2305.09828. Of the others, relative
  position biases let one head look at the token before and, in the encoder, one at that behind.
  """
  params = jax.tree.map(np.array, dict(params))
  heads, half = config.num_heads, config.num_heads // 2

  def tie(attention: dict[str, Any]) -> None:
    query, key = (attention[k]['kernel'].reshape(-1, heads, config.head_dim) for k in ('query', 'key'))
    query[:, :half] = key[:, :half] / np.sqrt(config.head_dim)

  for side in ('encoder', 'decoder'):
    for name, layer in params[side].items():
      for part in layer if name.startswith('layers_') else ():
        if part.endswith('attention'):
          tie(layer[part])
    bias = params[side]['relpos_bias']['rel_embedding']
    bias[:half, attention_lib.relative_position_bucket(np.array(0), side == 'encoder')] -= 3.0
    bias[-2, attention_lib.relative_position_bucket(np.array(-1), side == 'encoder')] += 4.0
    if side == 'encoder':
      bias[-1, attention_lib.relative_position_bucket(np.array(1), True)] += 4.0
  return params


def pretrain_base(
    workdir: str | os.PathLike[str], steps: int | None = None, seed: int | None = None,
    model: str = 'models/mini.gin',
) -> pathlib.Path:
  """Trains a base model by the recipe that the shipped one was trained by.

  Started again with the same folder it goes on where it was.

  Args:
    workdir: the run's folder: checkpoints, logs and in the end `model.safetensors`.
    steps: steps in place of the recipe's; its stages and the learning rate's schedule shrink or
      grow with them.
    seed: in place of the recipe's.
    model: its gin file.

  Returns:
    the weights.
  """
  gin_files.load([model, str(BASE / 'pretrain.gin')],
                 [] if seed is None else [f'RANDOM_SEED = {seed}'])
  stages = STAGES
  if steps is not None:
    scale = steps / gin_files.macro('TRAIN_STEPS')
    gin_files.set_macro('TRAIN_STEPS', steps)
    for name in ('WARMUP_STEPS', 'DECAY_STEPS'):
      gin_files.set_macro(name, int(scale * gin_files.macro(name)))
    stages = [dataclasses.replace(s, steps=s.steps and max(1, round(scale * s.steps))) for s in STAGES]
  run = gin_files.construct(PretrainRun)
  source = PretrainSource(run.batch_size, run.random_seed, stages=stages)
  folder = pathlib.Path(workdir)
  trainer = loop.Trainer(
      run.model, run.optimizer, model_dir=folder, total_steps=run.total_steps,
      batch_source=source, seed=run.random_seed, initial_params=matching_heads(
          run.model.init(jax.random.key(run.random_seed)), run.model.config),
      saving=saving.Saving(period=run.checkpoint_period),
      log_period=100, label='pretrain', model_info={
          'vocabulary': 'mini',
          'vocabulary_fingerprint': hashlib.sha256(
              (BASE / 'sentencepiece.model').read_bytes()).hexdigest()})
  state = trainer.run()
  if trainer.interrupted:
    raise KeyboardInterrupt(trainer.interrupted)
  (folder / 'config.gin').write_text(gin.operative_config_str())
  path = folder / 'model.safetensors'
  safetensors.save_params(path, state.params, {'steps': str(run.total_steps)})
  return path


def main() -> int:
  parser = argparse.ArgumentParser(
      prog='tools/pretrain_mini', description='Trains the base model of the suite `mini` again.',
      epilog='example: tools/pretrain_mini --output /tmp/mini_base')
  parser.add_argument('--output', required=True, metavar='DIR', help='the folder of the run')
  parser.add_argument('--steps', type=int, metavar='N', help="in place of the recipe's")
  parser.add_argument('--seed', type=int, metavar='N', help="in place of the recipe's")
  parser.add_argument('--model', metavar='GIN_FILE', default='models/mini.gin',
                      help='models/mini.gin, or a narrower one: models/mini_64.gin, models/mini_32.gin')
  args = parser.parse_args()
  try:
    path = pretrain_base(args.output, args.steps, args.seed, args.model)
  except errors.UserError as e:
    terminal.print_error(e)
    return 1
  except KeyboardInterrupt:
    return 130
  print(f'{path}\nsha256 {hashlib.sha256(path.read_bytes()).hexdigest()}')
  return 0


if __name__ == '__main__':
  from flanjax.tasks.mini import pretrain  # Gin knows the module by this name.

  sys.exit(pretrain.main())
