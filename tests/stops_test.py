"""Stop strings in text that comes in pieces, and text from tokens that come one by one."""

import random

import pytest

from flanjax.errors import UserError
from flanjax.inference import stops, tokenizer
from flanjax.inference.requests import Update
from flanjax.inference.streams import TextCompletion, TextStream


def _fed(stop, pieces):
  found = stops.StopStrings(stop)
  out = ''
  for piece in pieces:
    text, ended = found.feed(piece)
    out += text
    if ended:
      return out, found.found
  return out + found.finish(), None


def test_a_stop_string_that_crosses_pieces_is_found_and_nothing_of_it_is_given_out():
  found = stops.StopStrings(('END',))
  assert [found.feed(p) for p in ('a E', 'N', 'D b', 'c')] == [
      ('a ', False), ('', False), ('', True), ('', True)]
  assert found.found == 'END' and found.finish() == ''


def test_what_only_looked_like_the_beginning_of_a_stop_string_is_given_out_later():
  found = stops.StopStrings(('aab',))
  assert [found.feed(p)[0] for p in ('xa', 'a', 'a', 'c')] == ['x', '', 'a', 'aac']
  assert _fed(('###',), ['one #', '#']) == ('one ##', None)


def test_it_does_not_matter_how_a_text_was_cut():
  rng = random.Random(0)
  ended = 0
  for _ in range(300):
    text = ''.join(rng.choices('abc', k=rng.randint(0, 30)))
    stop = tuple(''.join(rng.choices('abc', k=rng.randint(1, 4))) for _ in range(rng.randint(0, 3)))
    cuts = sorted(rng.choices(range(len(text) + 1), k=3))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
    expected = _fed(stop, list(text))
    assert _fed(stop, pieces) == expected
    assert not any(s in expected[0] for s in stop)
    assert text.startswith(expected[0]) and (expected[1] or expected[0] == text)
    ended += expected[1] is not None
  assert 50 < ended < 290


def test_the_string_that_is_complete_first_ends_the_text():
  assert _fed(('abc', 'b'), ['abc']) == ('a', 'b')
  assert _fed(('bc', 'abc'), ['xabc']) == ('x', 'abc')


@pytest.mark.parametrize('stop', [('',), (3,), ('a', None)])
def test_a_stop_string_must_be_a_text(stop):
  with pytest.raises(UserError, match='must be a text'):
    stops.StopStrings(stop)


@pytest.mark.parametrize('name', ['mini', 'bytes'])
def test_streamed_text_is_whole_characters_and_adds_up_to_the_decoded_text(name):
  vocabulary = tokenizer.get(name)
  for text in ('The sea is blue.', 'É à 中文 🙂 end', ' two  spaces', ''):
    tokens = vocabulary.encode(text)
    stream = TextStream(vocabulary)
    pieces = [stream.push(t) for t in tokens] + [stream.finish()]
    assert ''.join(pieces) == stream.text == vocabulary.decode(tokens)
    assert not any('\ufffd' in p for p in pieces)


def test_half_a_character_at_the_end_is_told_as_such_at_the_end_alone():
  vocabulary = tokenizer.get('mini')
  tokens = vocabulary.encode('a中')[:-1]
  stream = TextStream(vocabulary)
  assert '\ufffd' not in ''.join(stream.push(t) for t in tokens)
  assert stream.finish() and stream.text == vocabulary.decode(tokens)


def test_tokens_count_up_to_the_one_that_completes_a_stop_string_however_many_come_at_once():
  vocabulary = tokenizer.get('bytes')
  tokens = vocabulary.encode('one.two.')
  for size in (1, 3, 8):
    made = TextCompletion(vocabulary, ('.',))
    added = ''
    for i in range(0, len(tokens), size):
      part = tokens[i : i + size]
      added += made.take(Update('x', 0, part, [-0.5] * len(part)))
    assert (added, made.text, made.finish_reason) == ('one', 'one', 'stop')
    assert made.tokens == tokens[:4] and made.score == -2.0


def test_the_log_probability_of_the_end_counts_and_its_token_does_not():
  vocabulary = tokenizer.get('bytes')
  made = TextCompletion(vocabulary)
  assert made.take(Update('x', 0, vocabulary.encode('hi'), [-1.0, -1.0, -0.5], 'end', -2.5)) == 'hi'
  assert (made.finish_reason, made.score, made.log_probs) == ('end', -2.5, [-1.0, -1.0, -0.5])
