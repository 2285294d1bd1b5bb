"""`flanjax vocab`: models trained on texts, and what is shown of one."""

import hashlib
import json

import pytest

from flanjax import cli
from flanjax.data import vocabulary_training as training
from flanjax.input import pieces


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """A file of lines, and the same as JSON lines."""
  folder = tmp_path_factory.mktemp('corpus')
  lines = [f'{animal} number {i} sat on the mat' for i in range(60) for animal in ('a cat', 'a dog')]
  (folder / 'texts.txt').write_text('\n'.join(lines) + '\n')
  (folder / 'texts.jsonl').write_text(''.join(json.dumps({'body': line}) + '\n' for line in lines))
  return folder


def _train(*args):
  return cli.main(['vocab', 'train', '--vocab_size', '34', *map(str, args)])


def test_a_trained_model_has_t5s_ids_and_a_card_that_says_what_it_is(corpus, tmp_path, capsys):
  model = tmp_path / 'my.model'
  assert _train(corpus / 'texts.txt', '--output', model, '--user_symbol', '<sep>') == 0
  assert "--gin.VOCABULARY" in capsys.readouterr().out
  found = pieces.read(str(model))
  special = found.processor
  assert [special.pad_id(), special.eos_id(), special.unk_id(), special.bos_id()] == [0, 1, 2, -1]
  assert special.id_to_piece(3) == '<sep>' and found.size == 134
  card = json.loads((tmp_path / 'my.model.json').read_text())
  assert card['sha256'] == hashlib.sha256(model.read_bytes()).hexdigest()
  assert (card['pieces'], card['extra_ids'], card['vocab_size'], card['lines_seen']) == (34, 100, 134, 120)
  assert card['settings']['user_symbols'] == ['<sep>']
  assert _train(corpus / 'texts.txt', '--output', model) == 1
  assert 'a file already' in capsys.readouterr().err


def test_the_same_texts_and_seed_give_the_same_model(corpus, tmp_path):
  sampled = ['--max_lines', '90', '--model_type', 'bpe']
  for name, source, flags in (('a', 'texts.txt', []), ('b', 'texts.jsonl', ['--field', 'body']),
                              ('c', 'texts.txt', ['--seed', '1'])):
    assert _train(corpus / source, '--output', tmp_path / name, *sampled, *flags) == 0
  a, b, c = ((tmp_path / name).read_bytes() for name in 'abc')
  assert a == b != c


def test_a_sample_gives_every_line_the_same_chance():
  counts = [0] * 20
  for seed in range(600):
    sample = training.Sample(5, seed)
    for i in range(20):
      sample.add(i)
    for i in sample.lines:
      counts[i] += 1
  assert sample.seen == 20 and len(sample.lines) == 5
  assert 110 < min(counts) and max(counts) < 190


def test_long_lines_are_cut_and_empty_ones_left_out():
  found = list(training.lines_of(['a\n\n b \0', 'word ' * 2_000, 'ä' * 5_000]))
  assert found[:2] == ['a', 'b']
  assert max(len(line.encode()) for line in found) <= training.MAX_LINE_BYTES
  assert ''.join(found[2:]).replace(' ', '') == 'word' * 2_000 + 'ä' * 5_000


@pytest.mark.parametrize('content, flags, message', [
    (b'caf\xe9\n', [], 'not UTF-8'), (b'', [], 'no texts'), (b'a cat\n', [], 'of this size')])
def test_texts_that_give_no_vocabulary(content, flags, message, tmp_path, capsys):
  (tmp_path / 'texts.txt').write_bytes(content)
  assert _train(tmp_path / 'texts.txt', '--output', tmp_path / 'x.model', *flags) == 1
  assert message in capsys.readouterr().err
  assert [p.name for p in tmp_path.iterdir()] == ['texts.txt']


def test_wrong_files_and_fields_are_named(corpus, tmp_path, capsys):
  for source, message in ((corpus / 'texts.jsonl', "no text 'text'"), ('nowhere.txt', 'nowhere.txt')):
    assert _train(source, '--output', tmp_path / 'x.model') == 1
    assert message in capsys.readouterr().err
  assert _train('--output', tmp_path / 'x.model') == 2
  assert 'nothing to train on' in capsys.readouterr().err


def test_what_is_shown_of_a_vocabulary(capsys):
  assert cli.main(['vocab', 'show', 'mini', 'A dog.', 'x\x1b[1m', '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert (found['ids'], found['rows_of_a_model'], found['end_id']) == (1579, 1664, 1)
  assert found['extra_ids'] == '100, added' and len(found['sha256']) == 64
  dog = found['texts'][0]
  assert dog['same'] and ''.join(dog['pieces']).replace('▁', ' ') == ' A dog.'
  assert dog['characters_per_token'] == len('A dog.') / len(dog['ids'])
  assert cli.main(['vocab', 'show', 'bytes', 'x\x1b[1m']) == 0
  out = capsys.readouterr().out
  assert '\x1b' not in out and 'ids: 259' in out
