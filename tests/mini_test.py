"""The embedded world: its datasets, its prose and the base model that ships."""

from __future__ import annotations

import json
import pathlib
import re

import jax
import numpy as np
import pytest
import sentencepiece

import flanjax.tasks.mini as mini
from flanjax.data import clusters, specs
from flanjax.interop import safetensors
from flanjax.models import t5
from flanjax.tasks.mini import builders, nli, pretrain, prose, world

_BUILDERS = sorted(builders.MiniBuilder.__subclasses__(), key=lambda b: b.name)
_VOCABULARY = sentencepiece.SentencePieceProcessor(
    model_file=str(pathlib.Path(mini.__file__).parent / 'base' / 'sentencepiece.model'))


def _sample(builder, n):
  examples = builders.distinct(builder.draw, world.Rng(f'test/{builder.name}'))
  return [e for e, _ in zip(examples, range(n))]


def test_there_are_at_least_9_clusters_and_18_datasets():
  assert len(clusters.clusters('mini')) >= 9
  assert len(_BUILDERS) == len(specs.all_specs('mini')) >= 18


@pytest.mark.parametrize('builder', _BUILDERS, ids=lambda b: b.name)
def test_examples_have_their_features_and_options_hold_the_answer(builder):
  for example in _sample(builder, 50):
    assert set(example) == set(builder.FEATURES)
    assert all(text.strip() == text and text for k, text in example.items() if k != 'options')
    if 'options' in example:
      assert example['answer'] in example['options']
      assert len(set(example['options'])) == len(example['options']) >= 2


@pytest.mark.parametrize('builder', _BUILDERS, ids=lambda b: b.name)
def test_there_are_enough_distinct_examples_for_disjoint_splits(builder):
  wanted = sum(builder.SIZES.values())
  assert 1_000 <= builder.SIZES['train'] <= 5_000
  assert len(_sample(builder, wanted)) == wanted


def test_the_same_seed_draws_the_same_examples():
  for builder in _BUILDERS:
    assert json.dumps(_sample(builder, 5)) == json.dumps(_sample(builder, 5))


def test_a_built_dataset_has_its_sizes_and_no_example_in_two_splits(tmp_path):
  builder = next(b for b in _BUILDERS if b.name == 'mini_roles')(data_dir=str(tmp_path))
  builder.download_and_prepare(file_format='tfrecord')
  splits = {}
  for split, size in builder.SIZES.items():
    rows = [(e['text'].numpy(), tuple(e['options'].numpy())) for e in builder.as_dataset(split=split)]
    assert len(rows) == size
    splits[split] = set(rows)
  assert not splits['train'] & splits['test']
  assert not splits['train'] & splits['validation']
  assert not splits['validation'] & splits['test']


def test_every_dataset_has_at_least_five_templates_and_at_most_two_inverted():
  for spec in specs.all_specs('mini'):
    assert len(spec.templates) >= 5, spec.name
    assert sum(t.inverted for t in spec.templates) <= 2, spec.name


def test_no_run_of_words_of_a_template_is_in_the_pretraining_text():
  rng = world.Rng('leak')
  text = '\n'.join(prose.document(rng) for _ in range(20_000))
  words = lambda s: ' '.join(re.findall(r"[a-z']+", s.lower()))
  text = f' {words(text)} '
  for spec in specs.all_specs('mini'):
    for template in spec.templates:
      for literal in re.split(r'\{\w+\}', template.inputs):
        if len(words(literal).split()) >= 5:
          assert f' {words(literal)} ' not in text, (spec.name, literal)


def test_each_word_of_the_prose_is_one_token():
  rng = world.Rng('words')
  for _ in range(2_000):
    for word in re.findall(r'[A-Za-z]+', prose.document(rng)):
      assert len(_VOCABULARY.encode(word)) == 1 or word == 's', word


def test_lasting_facts_are_the_same_in_prose_and_in_questions():
  facts = world.facts()
  assert facts['lives'].keys() == set(world.PEOPLE)
  builder = next(b for b in _BUILDERS if b.name == 'mini_people_facts')
  table = {(s, o) for relation in facts.values() for s, o in relation.items()}
  for example in _sample(builder, 200):
    assert (example['subject'], example['answer']) in table


def test_a_claim_agrees_with_its_text_exactly_when_it_is_true():
  for answer in ('yes', 'no', 'maybe'):
    for seed in range(100):
      rng = world.Rng(seed)
      text, claim = nli.claim(rng, answer, 1, 2)
      named = [p for p in world.PEOPLE if re.search(rf'\b{p}\b', claim)]
      assert len(named) == 1
      assert (named[0] in text) == (answer != 'maybe')


def test_pretraining_runs_by_its_recipe_and_resumes(tmp_path):
  whole = pretrain.pretrain_base(tmp_path / 'whole', steps=3)
  assert pretrain.pretrain_base(tmp_path / 'whole', steps=3) == whole
  params, metadata = safetensors.load_params(whole)
  shipped, _ = safetensors.load_params(pretrain.BASE / 'model.safetensors')
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shipped)
  assert metadata['steps'] == '3'
  assert not np.array_equal(params['token_embedder']['embedding'], shipped['token_embedder']['embedding'])


def test_the_stages_of_pretraining_follow_each_other():
  source = pretrain.PretrainSource(4, seed=0)
  ends = [sum(s.steps for s in pretrain.STAGES[:i + 1]) for i in range(len(pretrain.STAGES) - 1)]
  lengths = [source.batch(step)['decoder_target_tokens'].shape[1] for step in (0, ends[0] - 1, ends[0], ends[-1])]
  assert lengths == [40, 40, 28, 28]
  first, again = source.batch(ends[1] + 1), source.batch(ends[1] + 1)
  assert all(np.array_equal(first[k], again[k]) for k in first)


def test_half_of_the_heads_find_equal_words_from_the_start():
  config = t5.T5Config(vocab_size=32, emb_dim=128, num_heads=4, head_dim=32, mlp_dim=8,
                       num_encoder_layers=1, num_decoder_layers=1, logits_via_embedding=True)
  drawn = t5.EncoderDecoderModel(config).init(jax.random.key(0))
  attention = pretrain.matching_heads(drawn, config)['decoder']['layers_0']['encoder_decoder_attention']
  words = np.random.default_rng(0).normal(size=(20, 128))
  query, key = ((words @ attention[k]['kernel']).reshape(20, 4, 32) for k in ('query', 'key'))
  found = np.einsum('qhd,khd->hqk', query, key).argmax(-1) == np.arange(20)
  assert found[:2].mean() > 0.95 and found[2:].mean() < 0.3
