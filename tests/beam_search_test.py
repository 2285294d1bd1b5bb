"""Beam search: against T5X's own, whose answers golden/beams.npz keeps, and against all texts."""

import itertools
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy_training

from flanjax.inference import beam, engine
from flanjax.inference.requests import Request, Sampling

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = ROOT / 'tests' / 'golden' / 'beams.npz'
EOS = 1


class _Table:
  """A model whose next token depends on the place and on the last token alone.

  `table` is [prompts, length, vocab, vocab]; its cache is the number of the prompt.
  """

  def __init__(self, table):
    self.table = table

  def decode_step(self, params, tokens, column, ages, cache, context):
    prompts = np.repeat(np.arange(len(self.table)), tokens.shape[0] // len(self.table))
    return jax.numpy.asarray(self.table)[prompts, ages, tokens], cache


def _search(table, beams, steps, alpha, calls=3):
  """-> tokens and ranks of what has ended, and of what lives."""
  from flanjax.inference import programs

  prompts = len(table)
  state = beam.start(prompts, beams, steps, np.ones(prompts, bool))
  model = programs.Static.of(_Table(table))
  limits, alphas = np.full(prompts, steps, np.int32), np.full(prompts, alpha, np.float32)
  cache = [(np.zeros((prompts * beams, 1, 1, 1), np.float32),) * 2]
  for _ in range(-(-steps // calls)):
    cache, state = beam.advance('cpu')(
        {}, cache, state, None, limits, alphas, model=model, steps=calls, eos_id=EOS)
  assert state.over.all()
  return jax.tree.map(np.asarray, state)


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDEN) as file:
    return dict(file)


@pytest.mark.parametrize('case', range(6))
def test_beams_are_t5xs(golden, case):
  beams, alpha = int(golden[f'{case}/beams']), float(golden[f'{case}/alpha'])
  table = golden[f'{case}/table']
  tokens, scores = golden[f'{case}/tokens'], golden[f'{case}/scores']
  state = _search(table, beams, table.shape[1], alpha)
  for row in range(len(table)):
    # T5X's are from the worst to the best; of places that none has taken the rest says nothing.
    real = scores[row][::-1] > -1e6
    if not np.asarray(state.ended.rank[row] > -1e6).any():
      np.testing.assert_allclose(state.live.rank[row], scores[row][::-1], rtol=1e-5)
      np.testing.assert_array_equal(state.live.tokens[row], tokens[row][::-1])
      continue
    np.testing.assert_allclose(state.ended.rank[row][real], scores[row][::-1][real], rtol=1e-5)
    np.testing.assert_array_equal(state.ended.tokens[row][real], tokens[row][::-1][real])
    assert (state.ended.rank[row][~real] < -1e6).all()


def test_golden_beams_are_what_t5x_gives_now(golden, tmp_path):
  pytest.importorskip('t5x.decoding', reason='T5X is not installed')
  path = tmp_path / 'beams.npz'
  subprocess.run([sys.executable, ROOT / 'tools' / 'make_beam_golden.py', path], check=True)
  with np.load(path) as now:
    for key, value in golden.items():
      np.testing.assert_allclose(now[key], value, rtol=1e-5)


def _all_texts(table, alpha):
  """Every text that ends within the table, the best first: [(score, tokens)]."""
  steps, vocab, _ = table.shape
  log_probs = np.asarray(jax.nn.log_softmax(table), np.float64)
  found = []
  for length in range(1, steps + 1):
    for body in itertools.product([t for t in range(1, vocab) if t != EOS], repeat=length - 1):
      text = (*body, EOS)
      total = sum(log_probs[i, last, token] for i, (last, token) in enumerate(zip((0, *text), text)))
      found.append((total / ((5 + length) / 6) ** alpha, list(text)))
  return sorted(found, reverse=True)


@pytest.mark.parametrize('alpha', [0.0, 0.6, 2.0])
def test_as_many_beams_as_texts_find_the_best_of_all_texts(alpha):
  table = np.random.default_rng(5).normal(size=(1, 4, 5, 5), scale=2).astype(np.float32)
  expected = _all_texts(table[0], alpha)
  # So many that nothing is ever dropped.
  state = _search(table, 60, 4, alpha)
  assert len(expected) == 40
  for i in range(40):
    assert [t for t in state.ended.tokens[0, i].tolist() if t] == expected[i][1]
    assert state.ended.rank[0, i] == pytest.approx(expected[i][0], rel=1e-4)


def test_a_search_does_not_depend_on_its_neighbours():
  table = np.random.default_rng(9).normal(size=(3, 9, 6, 6), scale=2).astype(np.float32)
  together = _search(table, 3, 9, 0.6)
  for row in range(3):
    alone = _search(table[row : row + 1], 3, 9, 0.6, calls=4)
    np.testing.assert_array_equal(together.ended.tokens[row], alone.ended.tokens[0])


@pytest.fixture(scope='module')
def toy():
  model = toy_training.toy_model(num_decoder_layers=2)
  params = jax.tree.map(lambda p: 1.7 * p, toy_training.toy_params(5, num_decoder_layers=2))
  return model, params


def _inputs(n):
  source = toy_training.ToySource(rows=n).batch(0)['encoder_input_tokens']
  return [[int(t) for t in row if t] for row in source]


def _answers(toy, asked, **settings):
  made = engine.Engine(*toy, eos_id=3, max_decode_steps=16, **settings)
  return {a.id: a.completions for a in made.run(Request(i, x, s) for i, x, s in asked)}


def test_beams_of_an_engine_are_scored_as_the_model_scores_them(toy):
  asked = [(i, x, Sampling(6, beam_size=3, num_samples=3, length_penalty=0.9))
           for i, x in enumerate(_inputs(4))]
  found = _answers(toy, asked, slots=4)
  scorer = engine.Engine(*toy, eos_id=3)
  for i, x, _ in asked:
    assert len({tuple(c.tokens) for c in found[i]}) == 3
    texts = [c.tokens + [3] * (c.finish_reason == 'end') for c in found[i]]
    for completion, log_probs in zip(found[i], scorer.score([(x, text) for text in texts])):
      np.testing.assert_allclose(completion.log_probs, log_probs, atol=1e-4)
      length = len(log_probs)
      assert completion.score == pytest.approx(sum(log_probs) / ((5 + length) / 6) ** 0.9, rel=1e-3)
    ended = [c.score for c in found[i] if c.finish_reason == 'end']
    assert ended == sorted(ended, reverse=True)


def test_beams_and_other_requests_share_an_engine(toy):
  beams, greedy = Sampling(6, beam_size=2), Sampling(6)
  inputs = _inputs(6)
  asked = [(i, x, beams if i % 2 else greedy) for i, x in enumerate(inputs)]
  together = _answers(toy, asked, slots=2, steps_per_call=3)
  for i, x, sampling in asked:
    alone = _answers(toy, [(i, x, sampling)], slots=4)
    assert together[i][0].tokens == alone[i][0].tokens
  wider = _answers(toy, [(i, x, Sampling(6, beam_size=2)) for i, x in enumerate(inputs)])
  narrow = _answers(toy, [(i, x, greedy) for i, x in enumerate(inputs)])
  total = lambda answer: sum(answer[0].log_probs)
  assert all(total(wider[i]) >= total(narrow[i]) - 1e-4 or len(wider[i][0].tokens) != len(narrow[i][0].tokens)
             for i in range(6))
