"""Tests of `flanjax train --show_batch`, and of a run from the command line without TensorFlow."""

import doctest
import hashlib
import io
import json
import re

import forked
import jax
import numpy as np
import prepared_data
import pytest
import seqio
from rich import console as rich_console

from flanjax.commands import show_batch
from flanjax.data import vocabularies
from flanjax.errors import UserError
from flanjax.input import detokenize
from flanjax.input.records import Example

TEXTS = ['Is it true?  Yes, it is.', 'Die Größe', 'no\nyes', '\U0001f600 [b]', 'a\x1b[2Jb', '']


@pytest.mark.parametrize('name', ['bytes', 'mini'])
@pytest.mark.parametrize('text', TEXTS)
def test_texts_are_decoded_as_seqio_decodes_them(name, text):
  vocabulary, decode = vocabularies.get(name), detokenize.decoder(name)
  ids = list(vocabulary.encode(text))
  assert decode(ids).removeprefix(' ' if name == 'mini' else '') == vocabulary.decode(ids)
  # Runs of tokens, put together, are the whole, but where they cut a letter of several bytes.
  if name == 'mini' and text.isascii():
    assert ''.join(decode(ids[i:i + 1]) for i in range(len(ids))) == decode(ids)


def test_sentinels_and_the_end_of_a_text_are_shown():
  vocabulary = vocabularies.get('mini')
  assert isinstance(vocabulary, seqio.SentencePieceVocabulary)
  decode = detokenize.decoder('mini')
  assert decode([vocabulary.vocab_size - 1]) == '<extra_id_0>'
  assert decode([vocabulary.vocab_size - 100]) == '<extra_id_99>'
  assert vocabulary.decode([vocabulary.vocab_size - 100]).strip() == '<extra_id_99>'
  assert decode([1]) == detokenize.decoder('bytes')([1]) == '</s>'
  assert detokenize.decoder('bytes')([0, 104 + 3, 2]) == '<pad>h<unk>'


def test_another_vocabulary_than_that_of_the_data_is_refused():
  right = hashlib.sha256(detokenize.mini_path().read_bytes()).hexdigest()
  assert detokenize.decoder('mini', right)([1]) == '</s>'
  with pytest.raises(UserError, match='not the one that the data was made with'):
    detokenize.decoder('mini', 'f00d')
  with pytest.raises(UserError, match='cannot be read'):
    detokenize.decoder('/no/such/file')


def _batch(first, second='ok', target='yes'):
  """A packed row of two examples, of bytes; the first token of the first target is not learnt."""
  def ids(text):
    return [b + 3 for b in text.encode()] + [1]

  rows = {}
  for side, name, texts in (('encoder', 'encoder_input_tokens', (first, second)),
                            ('decoder', 'decoder_target_tokens', (target, 'no'))):
    tokens = [i for text in texts for i in ids(text)] + [0, 0]
    rows[name] = np.array([tokens], np.int32)
    rows[f'{side}_segment_ids'] = np.array(
        [[1] * len(ids(texts[0])) + [2] * len(ids(texts[1])) + [0, 0]], np.int32)
  weights = (rows['decoder_target_tokens'] > 0).astype(np.float32)
  weights[0, 0] = 0
  return {**rows, 'decoder_loss_weights': weights}


def _found(batch):
  return {'step': 0, 'mixture': 'mix', **show_batch.describe(batch, detokenize.decoder('bytes'))}


def _printed(batch, **settings):
  stream = io.StringIO()
  show_batch.show(_found(batch), rich_console.Console(file=stream, highlight=False, **settings))
  return stream.getvalue()


def test_segments_and_loss_weights_are_told_apart():
  found = _found(_batch('in'))
  assert found['packed'] and found['lengths'] == {'inputs': 8, 'targets': 9}
  [row] = found['shown']
  assert row['padding'] == {'inputs': 2, 'targets': 2}
  assert row['segments'] == [
      {'segment': 1, 'inputs': {'tokens': 3, 'runs': [{'loss_weight': None, 'text': 'in</s>'}]},
       'targets': {'tokens': 4, 'runs': [{'loss_weight': 0.0, 'text': 'y'},
                                         {'loss_weight': 1.0, 'text': 'es</s>'}]}},
      {'segment': 2, 'inputs': {'tokens': 3, 'runs': [{'loss_weight': None, 'text': 'ok</s>'}]},
       'targets': {'tokens': 3, 'runs': [{'loss_weight': 1.0, 'text': 'no</s>'}]}}]


def test_rows_that_are_not_packed_are_one_segment():
  batch = {k: v for k, v in _batch('in').items() if not k.endswith('segment_ids')}
  found = _found(batch)
  assert not found['packed'] and [s['segment'] for s in found['shown'][0]['segments']] == [1]


HOSTILE = 'a\x1b[2J\x07[red]x[/red]\x9b31m\u202e:smile:\ntargets 1 | forged\r\nrow 7'


def test_plain_lines_say_what_they_are_whatever_the_text_says():
  out = _printed(_batch(HOSTILE, target='t\nu'))
  lines = out.splitlines()
  assert out.isascii()
  assert r'inputs    | a\x1b[2J\x07[red]x[/red]\x9b31m\u202e:smile:' in lines
  assert r'inputs    | targets 1 | forged\r' in lines and 'inputs    | row 7</s>' in lines
  assert 'targets 0 | t' in lines and 'targets 1 | u</s>' in lines
  body = lines[lines.index(next(line for line in lines if line.startswith('row 0'))):]
  assert all(re.match(r'row 0|segment [12]: |inputs    \| |targets [01] \| |$|batch 0 of mix', line)
             for line in body)


def test_colours_tell_inputs_targets_weights_and_segments():
  out = _printed(_batch('in'), force_terminal=True, color_system='standard', width=80,
                 legacy_windows=False, _environ={'TERM': 'xterm'})
  assert '\x1b[36min</s>\x1b[0m' in out  # Inputs are cyan,
  assert '\x1b[1;32mes</s>\x1b[0m' in out  # what is learnt green,
  assert '\x1b[7;33my\x1b[0m' in out  # what is not yellow, inverse;
  assert out.count('\x1b[35m▌') > 2 and out.count('\x1b[34m▌') > 2  # the bar is of the segment.
  legend = out[:out.index('row 0')]
  assert all(word in legend for word in ('inputs', 'loss weight 1', 'loss weight 0', 'segments'))


def test_hostile_text_moves_no_terminal():
  out = _printed(_batch(HOSTILE), force_terminal=True, color_system='standard', width=200,
                 legacy_windows=False, _environ={'TERM': 'xterm'})
  left = re.sub(r'\x1b\[[0-9;]*m', '', out)
  assert not [c for c in left if not c.isprintable() and c != '\n']
  assert r'a\x1b[2J\x07[red]x[/red]\x9b31m\u202e:smile:' in left


def test_without_colours_a_terminal_gets_words():
  out = _printed(_batch('in'), force_terminal=True, no_color=True, _environ={'TERM': 'xterm'})
  assert 'targets 0 | y' in out


def test_the_example_is_true():
  assert doctest.testmod(show_batch).failed == 0


_PROGRAM = '''
import sys
from flanjax import cli
status = cli.main(sys.argv[1:])
found = {'tensorflow', 'seqio', 'tensorflow_datasets'} & set(sys.modules)
sys.exit(f'imported: {found}' if found else status)
'''


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  vocabulary, root = vocabularies.get('mini'), tmp_path_factory.mktemp('prepared')
  ids = lambda text: np.array([*vocabulary.encode(text), 1], np.int32)
  examples = [Example(ids(f'Does Ann live here? {n}'), ids('yes' if n % 2 else 'no'), n, 0)
              for n in range(40)]
  return prepared_data.write_mixture(
      root, {'ann_10templates': examples}, lengths=(32, 8), vocabulary='mini',
      vocabulary_fingerprint=vocabularies.fingerprint('mini'), vocab_size=vocabulary.vocab_size)


def _train(manifest, folder, *flags):
  argv = ['train', '--gin_file=models/t5_1_1/tiny.gin', '--gin_file=runs/finetune.gin',
          f"--gin.MIXTURE_OR_TASK_NAME='{manifest}'", f"--gin.MODEL_DIR='{folder}'",
          "--gin.TASK_FEATURE_LENGTHS={'inputs': 32, 'targets': 8}", '--gin.BATCH_SIZE=2',
          '--gin.TRAIN_STEPS=4', '--gin.loop.Trainer.log_period=2', *flags]
  return forked.run(['-c', _PROGRAM, *argv])


def test_a_batch_is_shown_without_training_and_without_tensorflow(manifest, tmp_path):
  done = _train(manifest, tmp_path / 'run', '--show_batch=3', '--show_rows=1', '--json')
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found['step'] == 3 and found['rows'] == 2 and len(found['shown']) == 1
  texts = [run['text'] for s in found['shown'][0]['segments'] for run in s['inputs']['runs']]
  assert texts and all(re.fullmatch(r' Does Ann live here\? \d+</s>', text) for text in texts)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('flags, expected', [
    (['--show_batch=-1'], 'There is no such batch'), (['--profile=3:9'], 'steps 1 to 4'),
    (['--profile=x'], 'FIRST:LAST')])
def test_what_cannot_be_looked_at_is_wrong_usage(manifest, tmp_path, flags, expected):
  done = _train(manifest, tmp_path / 'run', *flags)
  assert done.returncode == 2 and expected in done.stderr and 'Traceback' not in done.stderr
  assert not (tmp_path / 'run').exists()


def test_a_run_is_profiled_and_described_without_tensorflow(manifest, tmp_path):
  done = _train(manifest, tmp_path / 'run', '--profile=2:3')
  assert done.returncode == 0, done.stderr
  assert 'xprof --logdir' in done.stderr and 'ui.perfetto.dev' in done.stderr
  [trace] = (tmp_path / 'run/profile').rglob('*.xplane.pb')
  planes = jax.profiler.ProfileData.from_file(str(trace)).planes
  steps = {dict(event.stats)['step_num'] for plane in planes for line in plane.lines
           for event in line.events if event.name == 'train' and 'step_num' in dict(event.stats)}
  assert steps == {2, 3}
  assert '% of' in done.stderr and 'in steps; ' in done.stderr
  environment = json.loads((tmp_path / 'run/environment.json').read_text())
  assert '--profile=2:3' in environment['command'] and environment['mesh']['data'] == 1
  assert 'reporting.Reporting' in (tmp_path / 'run/config.gin').read_text()
  lines = [json.loads(line) for line in (tmp_path / 'run/train/log.jsonl').open()]
  assert [line['step'] for line in lines] == [2, 4]
  assert all(0 < line['goodput'] < 1 and line['mfu'] is None for line in lines)
  assert all(line['memory_bytes'] > 0 and line['step_seconds'] > 0 for line in lines)
