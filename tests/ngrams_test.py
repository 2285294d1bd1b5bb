"""Words and their hashes, against strings and sets of Python's own."""

import random
import unicodedata

import numpy as np
import pytest

from flanjax.data import ngrams

ODD = ["It's 5 o'clock.", '', 'ﬁne  ＡＢＣ\u00a0straße', 'e\u0301té', 'ÉTÉ', '日本語 text ไทย',
       '\x00a\x00b', '—…!?', 'naïve\u200bcafé', 'x' * 70_000, 'İstanbul', '\U0001d400\U0001d401', '½ x²']


def _slow_words(text):
  """Runs of letters, marks and digits of the normalised text; a character a word where none are spaced."""
  text = unicodedata.normalize('NFKC', unicodedata.normalize('NFKC', text).casefold())
  words, word = [], ''
  for c in text:
    alone = unicodedata.category(c)[0] in 'LMN' and any(a <= ord(c) <= b for a, b in ngrams._UNSPACED)
    if alone or unicodedata.category(c)[0] not in 'LMN':
      words += [word] * bool(word) + [c] * alone
      word = ''
    else:
      word += c
  return words + [word] * bool(word)


def _random_texts(seed, count):
  draw = random.Random(seed)
  pools = ['abcde', 'AbÇdé ,.', 'straße İı', '日本 ไทย あ', '\u0301\u0308e o', "it's 5 - x",
           '\U0001d400\U0001f600 a']
  return [''.join(draw.choice(draw.choice(pools)) for _ in range(draw.randrange(60)))
          for _ in range(count)]


@pytest.mark.parametrize('texts', [ODD, ['only ascii, here', '', 'AND Here'], _random_texts(0, 500), [''], []],
                         ids=['odd', 'ascii', 'random', 'empty', 'none'])
def test_words_are_those_of_a_slow_loop(texts):
  found = ngrams.normalise([t.encode() for t in texts])
  assert len(found) == len(texts)
  for i, text in enumerate(texts):
    words = _slow_words(text.replace('\x00', ' '))
    assert found.words(i) == words, repr(text)
    assert found.string(i) == ''.join(words)
    assert found.words(i, 1, 2) == words[1:3]


def test_bytes_that_are_no_utf8_are_read_as_marks():
  found = ngrams.normalise([b'a\xffb', b'\xc3', b'c'])
  assert [found.words(i) for i in range(3)] == [['a', 'b'], [], ['c']]


def _hash_texts():
  draw = random.Random(1)
  vocabulary = ['a', 'b', 'ab', 'ba', 'x', 'xx', 'xxx', 'é', 'éé', 'word']
  texts = [' '.join(draw.choices(vocabulary, k=draw.randrange(40))) for _ in range(300)]
  return texts + ['word ' * 40_000 + 'end']


@pytest.mark.parametrize('n', [1, 2, 3, 13])
def test_hashes_of_runs_are_equal_where_the_runs_are_and_differ_where_they_differ(n):
  texts = ngrams.normalise(_hash_texts())
  grams = ngrams.hashes(texts).grams(n)
  by_hash, by_run = {}, {}
  for i in range(len(texts)):
    words, start = texts.words(i), texts.text_start[i]
    for k in range(len(words) - n + 1):
      run = tuple(words[k : k + n])
      assert by_hash.setdefault(int(grams[start + k]), run) == run
      assert by_run.setdefault(run, int(grams[start + k])) == grams[start + k]
  assert len(by_hash) == len(by_run) > 10


def test_the_hash_of_a_text_is_that_of_its_letters_wherever_it_stands():
  lines = _hash_texts()
  texts = ngrams.normalise(lines)
  found = {}
  for i, value in enumerate(ngrams.hashes(texts).texts.tolist()):
    assert found.setdefault(texts.string(i), value) == value
  assert len(set(found.values())) == len(found)
  [alone] = ngrams.hashes(ngrams.normalise([lines[7]])).texts
  assert alone == found[texts.string(7)]


def test_runs_are_compared_letter_by_letter():
  draw = np.random.Generator(np.random.PCG64(0))
  a, b = draw.integers(0, 2, 500_000, np.uint8), draw.integers(0, 2, 500_000, np.uint32)
  b[1000:401_000] = a[50_000:450_000]
  starts, others = draw.integers(0, 1000, (2, 3000))
  lengths = draw.integers(0, 8, 3000)
  starts = np.append(starts, [50_000, 50_000, 49_999])
  others = np.append(others, [1000, 1000, 999])
  lengths = np.append(lengths, [400_000, 300, 400_002])
  expected = [np.array_equal(a[i : i + n], b[j : j + n]) for i, j, n in zip(starts, others, lengths)]
  assert 100 < sum(expected) < 2900
  assert ngrams.same_runs(a, starts, b, others, lengths).tolist() == expected
