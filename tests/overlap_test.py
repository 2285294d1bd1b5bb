"""What texts repeat of others, against sets of Python's own and against the theory of MinHash."""

import random

import numpy as np
import pytest

from flanjax.data import minhash, ngrams, overlap
from flanjax.data.overlap import EXACT, NEAR, NGRAM, Index, Settings

TEXTS = 120


def _corpus(seed):
  """Texts to be known and others to be looked up, that share runs, whole texts and near copies."""
  draw = random.Random(seed)
  vocabulary = [f'w{i}' for i in range(400)] + ['a', 'A,', 'été', 'ÉTÉ']
  words = lambda n: draw.choices(vocabulary, k=n)
  known = [words(draw.choice([0, 1, 3, 7, 8, 9, 12, 13, 14, 40, 90])) for _ in range(TEXTS)]
  known += [known[1], ['w1'] * 50, ['w1', 'w2'] * 30]
  other = []
  for text in known * 3:
    text = list(text)
    cut = draw.randrange(len(text) + 1)
    change = draw.randrange(6)
    if change == 0:
      text = words(20) + text[cut : cut + draw.choice([7, 8, 12, 13, 14])] + words(draw.choice([0, 9]))
    elif change == 1 and text:
      for _ in range(draw.randrange(1, 4)):
        text[draw.randrange(len(text))] = draw.choice(vocabulary)
    elif change == 2:
      text = text[:cut] + words(3) + text[cut:]
    elif change == 3:
      text = words(len(text))
    other.append(text)
  return [' '.join(t) for t in known], [' '.join(t) + '!' for t in other]


def _slow(known, other, settings):
  """{(other, known): (exact, words covered by shared runs, Jaccard similarity)} by plain loops."""
  words = lambda text: text.casefold().replace(',', '').replace('!', '').split()
  known, other = [[words(t) for t in texts] for texts in (known, other)]
  runs = lambda w, n: {tuple(w[i : i + n]) for i in range(len(w) - n + 1)}
  found = {}
  pairs_of = [runs(a, settings.shingle) for a in other]
  for j, b in enumerate(known):
    least = min(8, settings.ngram)
    size = 0 if len(b) < least else min(len(b), settings.ngram)
    runs_b, pairs_b = runs(b, size), runs(b, settings.shingle)
    for i, a in enumerate(other):
      shared = runs(a, size) & runs_b if size else set()
      covered = {k for s in range(len(b)) if tuple(b[s : s + size]) in shared for k in range(s, s + size)}
      both = len(pairs_of[i] & pairs_b)
      alike = both / max(len(pairs_of[i]) + len(pairs_b) - both, 1) if len(b) >= 8 else 0
      exact = bool(a) and ''.join(a) == ''.join(b)
      if exact or covered or alike >= settings.threshold:
        found[i, j] = exact, len(covered), alike if alike >= settings.threshold else 0
  return found


def _build(known, settings):
  texts = ngrams.normalise(known)
  return Index.build(texts, np.ones(len(texts), bool), settings)


@pytest.mark.parametrize('mask', [2**64 - 1, 0xFF, 0], ids=['64 bits', '8 bits', 'no bits'])
@pytest.mark.parametrize('settings', [Settings(), Settings(8, 3, 0.6), Settings(4, 1, 0.9)],
                         ids=['default', '8', '4'])
def test_matches_are_those_of_plain_loops_whatever_hashes_collide(monkeypatch, tmp_path, mask, settings):
  monkeypatch.setattr(ngrams, 'HASH_MASK', mask)
  known, other = _corpus(0)
  if mask == 0:
    known, other = known[:40], other[:60]
  expected = _slow(known, other, settings)
  _build(known, settings).save(tmp_path)
  index, texts = Index.load(tmp_path, settings), ngrams.normalise(other)
  found = index.match(texts, ngrams.hashes(texts))
  pairs = {(int(i), int(j)): (int(bits), float(n)) for i, j, bits, n in zip(
      found.text, found.known, found.kinds, found.covered)}
  assert len(pairs) == len(found.text)
  sizes = index.texts.num_words
  missed_near = 0
  for pair in expected.keys() | pairs.keys():
    exact, covered, alike = expected.get(pair, (False, 0, 0))
    bits, words = pairs.get(pair, (0, 0))
    assert bool(bits & EXACT) == exact, pair
    assert bool(bits & NGRAM) == (covered > 0), pair
    assert alike or not bits & NEAR, pair
    missed_near += bool(alike) and not bits & NEAR
    near_words = alike * sizes[pair[1]] if bits & NEAR else 0
    assert words == pytest.approx(max(covered, near_words, sizes[pair[1]] * exact)), pair
  close = sum(alike > 0 for _, _, alike in expected.values())
  assert min(sum(e for e, _, _ in expected.values()), sum(c > 0 for _, c, _ in expected.values())) >= 10
  assert close >= 10 and missed_near <= 1, f'{missed_near} of {close}'


def test_a_run_that_two_texts_make_together_is_not_found():
  run = [f'w{i}' for i in range(13)]
  index = _build([' '.join(run + ['and', 'more', 'words', 'after', 'it'])], Settings())
  texts = ngrams.normalise([' '.join(run[:6]), ' '.join(run[6:]), ' '.join(run[:12])])
  assert not len(index.match(texts, ngrams.hashes(texts)).text)


def test_a_word_repeated_without_end_meets_itself_once():
  index = _build(['ha ' * 20_000], Settings())
  texts = ngrams.normalise(['ha ' * 100_000, 'ho ' * 50 + 'ha ' * 13])
  found = index.match(texts, ngrams.hashes(texts))
  assert found.text.tolist() == [0, 1] and found.covered.tolist() == [20_000, 20_000]


def test_a_huge_text_is_searched_to_its_end():
  draw = random.Random(0)
  run = [f'w{i}' for i in range(13)]
  huge = [str(draw.randrange(10**6)) for _ in range(200_000)]
  index = _build(['x y z ' + ' '.join(run), ' '.join(huge[:-1] + ['end'])], Settings())
  texts = ngrams.normalise([' '.join(huge + run)])
  found = index.match(texts, ngrams.hashes(texts))
  assert found.known.tolist() == [0, 1] and found.kinds.tolist() == [NGRAM, NGRAM | NEAR]
  assert found.at.tolist() == [3, 0]


def test_the_prefilter_may_err_on_one_side_only():
  draw = np.random.Generator(np.random.PCG64(0))
  held, other = draw.integers(0, 2**63, (2, 50_000), np.uint64) * np.uint64(2)
  bits = overlap.Bits.of(held)
  assert bits.may_hold(held).all()
  assert bits.may_hold(other).mean() < 0.04


def _pairs_of_sets(draw, similarity, count, size=60):
  """`count` pairs of sets of numbers, each pair of the given Jaccard similarity."""
  shared = round(2 * size * similarity / (1 + similarity))
  numbers = draw.integers(0, 2**63, (count, 2 * size - shared), np.uint64) * np.uint64(2)
  return numbers[:, :size], numbers[:, -size:], shared / (2 * size - shared)


@pytest.mark.parametrize('similarity', [0.3, 0.5, 0.7, 0.8, 0.9])
def test_sets_become_candidates_as_often_as_minhash_promises(similarity):
  draw = np.random.Generator(np.random.PCG64(int(100 * similarity)))
  count = 4000
  a, b, exact = _pairs_of_sets(draw, similarity, count)
  hashes = [minhash.band_hashes(s.ravel(), np.full(count, s.shape[1]), 0.8) for s in (a, b)]
  found, others = minhash.Bands.of(hashes[0]).candidates(hashes[1])
  rate = (found == others).sum() / count
  num_bands, rows = minhash.bands(0.8)
  expected = 1 - (1 - exact**rows) ** num_bands
  # Four standard errors of n = 4,000 pairs, and one pair.
  assert abs(rate - expected) <= 4 * np.sqrt(expected * (1 - expected) / count) + 1 / count
  # Sets that have nothing in common are no candidates.
  assert (found != others).sum() == 0


@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_what_they_promise_within_their_hashes(threshold):
  num_bands, rows = minhash.bands(threshold)
  assert num_bands * rows <= minhash.MOST_HASHES
  promised = minhash.RECALL if threshold >= 0.3 else 0
  assert 1 - (1 - threshold**rows) ** num_bands >= promised
