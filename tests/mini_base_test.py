"""The base model that ships: its hash, its curve, and that it copies, reads and remembers."""

from __future__ import annotations

import csv
import hashlib
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest
import sentencepiece

from flanjax import gin_files
from flanjax.evaluation import predict
from flanjax.interop import model_folders, safetensors
from flanjax.models import t5
from flanjax.tasks.mini import pretrain, prose, world

_EOS = 1
_VOCABULARY = sentencepiece.SentencePieceProcessor(
    model_file=str(pretrain.BASE / 'sentencepiece.model'))
_SENTINEL = _VOCABULARY.vocab_size() + pretrain.EXTRA_IDS - 1
_PROMPTS = 64


@pytest.fixture(scope='module')
def base():
  params, _ = safetensors.load_params(pretrain.BASE / 'model.safetensors')
  return predict.Predictor(t5.from_folder(pretrain.BASE), params, batch_size=_PROMPTS)


def _answers(base, texts: list[str]) -> list[str]:
  ids = [[*_VOCABULARY.encode(text), _EOS] for text in texts]
  return [_VOCABULARY.decode(answer) for answer in base.generate(ids, 24)]


def _right(base, draw: Callable[[world.Rng], tuple[str, str]]) -> float:
  """The share of prompts answered exactly."""
  rng = world.Rng('probe')
  prompts, expected = zip(*(draw(rng) for _ in range(_PROMPTS)))
  return float(np.mean([a == e for a, e in zip(_answers(base, list(prompts)), expected)]))


def _document(maker: Callable[[world.Rng], str]) -> Callable[[world.Rng], tuple[str, str]]:
  def draw(rng):
    head, _, tail = maker(rng).partition('|')
    return head, tail.strip()
  return draw


@pytest.mark.parametrize('folder, files', [('base', 2), ('base_64', 1), ('base_32', 1)])
def test_the_files_are_those_that_were_measured(folder, files):
  folder = pretrain.BASE.with_name(folder)
  lines = (folder / 'SHA256SUMS').read_text().splitlines()
  assert len(lines) == files
  for line in lines:
    digest, name = line.split()
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_the_weights_are_at_most_16_megabytes():
  weights = [model_folders.mini_base(name) / 'model.safetensors' for name in model_folders.BASES]
  assert sum(path.stat().st_size for path in weights) <= 16e6


@pytest.mark.parametrize('folder, last', [('base', 0.3), ('base_64', 0.4), ('base_32', 0.6)])
def test_the_loss_curve_is_that_of_the_recipe(folder, last):
  with open(pretrain.BASE.with_name(folder) / 'loss.csv') as f:
    rows = list(csv.DictReader(f))
  recipe = (pretrain.BASE / 'pretrain.gin').read_text()
  assert f"TRAIN_STEPS = {rows[-1]['step']}\n" in recipe
  assert float(rows[-1]['loss_per_target_token']) < last < float(rows[0]['loss_per_target_token'])


@pytest.mark.parametrize('name, millions', [('mini', 1.17), ('mini_64', 0.35), ('mini_32', 0.11)])
def test_a_name_stands_for_weights_of_the_model_file_of_that_name(name, millions):
  path = model_folders.find_checkpoint(name)
  gin_files.load([f'models/{name}.gin'], ['VOCAB_SIZE = 1664'])
  asked = gin_files.construct(t5.EncoderDecoderModel)
  params, _ = safetensors.load_params(path)
  found = t5.from_folder(pathlib.Path(path).parent)
  assert jax.tree.map(np.shape, params) == jax.tree.map(
      lambda x: x.shape, asked.param_shapes()) and found.config.emb_dim == asked.config.emb_dim
  assert t5.param_count(params) / 1e6 == pytest.approx(millions, abs=0.006)


def test_it_copies_names(base):
  def draw(rng):
    names = ', '.join(rng.sample(world.PEOPLE, 3)) + '.'
    reader, writer = rng.sample(world.PEOPLE, 2)
    return f'{reader} read it aloud: {names} {writer} wrote it down:', names
  assert _right(base, draw) > 0.95


def test_a_word_that_its_context_determines_costs_under_1_nat(base):
  rng, pairs, wrong = world.Rng('sentinel'), [], []
  for _ in range(_PROMPTS):
    episode = world.Episode.draw(rng, 3, 3)
    fact = rng.choice(episode.facts)
    said = fact.relation.statements[0].format(s=fact.subject, o=fact.object)
    ids = _VOCABULARY.encode(f'{episode.tell(rng)} Once more: {said[:-1]}')
    others = [i for i in _VOCABULARY.encode(' '.join(world.PEOPLE)) if i != ids[-1]]
    inputs = [*ids[:-1], _SENTINEL, *_VOCABULARY.encode('.')[-1:], _EOS]
    pairs.append((inputs, [_SENTINEL, ids[-1]]))
    wrong.append((inputs, [_SENTINEL, rng.choice(others)]))
  first = [(inputs, targets[:1]) for inputs, targets in pairs]
  cost = base.score(first) - base.score(pairs)
  assert cost.mean() < 1.0
  assert (base.score(first) - base.score(wrong)).mean() > 3.0


@pytest.mark.parametrize('maker', [prose.on_the_list, prose.in_the_book, prose.several_questions])
def test_it_looks_up_what_its_input_says(base, maker):
  assert _right(base, _document(maker)) > 0.9


def test_it_tells_true_claims_from_false_ones(base):
  assert _right(base, _document(prose.judged)) > 0.8


def test_it_remembers_lasting_facts(base):
  def draw(rng):
    relation, subject, obj = world.lasting(rng)
    return relation.ask(rng, subject), world.capital(obj) + '.'
  assert _right(base, draw) > 0.7


def test_parameters_have_stayed_finite():
  params, _ = safetensors.load_params(pretrain.BASE / 'model.safetensors')
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
