"""`flanjax infer`: answers in order, restartable, whatever the batch; what cannot be used is told."""

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys

import jax
import numpy as np
import pytest

from flanjax import cli
from flanjax.commands import common, render
from flanjax.errors import UserError
from flanjax.evaluation import predict
from flanjax.inference import answer_file, answers, prompt_files, tokenizer
from flanjax.inference.requests import Sampling
from flanjax.inference.text import TextGenerator
from flanjax.interop import safetensors
from flanjax.models import t5

STEPS = 8
WORDS = 'the sea is blue and Ann has a red box of old books in her house'.split()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A small random model in a converted folder, with mini's vocabulary."""
  path = tmp_path_factory.mktemp('model')
  config = t5.T5Config(vocab_size=1664, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32,
                       num_encoder_layers=1, num_decoder_layers=1)
  params = t5.EncoderDecoderModel(config).init(jax.random.key(1))
  # Scaled up: a fresh model is nearly indifferent, and indifference hides mistakes.
  params = jax.tree.map(lambda p: 3.0 * np.asarray(p), params)
  safetensors.save_params(path / 'params.safetensors', params)
  (path / 'model.json').write_text(t5.to_json(config, vocabulary='mini'))
  return path


@pytest.fixture(scope='module')
def rows():
  rng = random.Random(0)
  return [{'id': i, 'inputs': ' '.join(rng.choices(WORDS, k=rng.randint(1, 30)))} for i in range(11)]


@pytest.fixture
def prompts(tmp_path, rows):
  return _write(tmp_path / 'prompts.jsonl', rows)


@pytest.fixture
def blocks_of_four(monkeypatch):
  monkeypatch.setattr(answers, 'BLOCK', 4)


def _write(path, rows):
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return path


def _argv(folder, source, out, *flags):
  return ['infer', f'--model_dir={folder}', f'--input={source}', f'--output={out}',
          f'--max_decode_steps={STEPS}', '--batch_size=4', *flags]


def _infer(folder, source, out, *flags):
  assert cli.main(_argv(folder, source, out, *flags)) == 0
  return [json.loads(line) for line in out.read_text().splitlines()]


def _fails(capsys, folder, source, out, *flags):
  assert cli.main(_argv(folder, source, out, *flags)) in (1, 2)
  return capsys.readouterr().err


@pytest.fixture(scope='module')
def generator(folder):
  return TextGenerator.open(str(folder), slots=4, max_decode_steps=STEPS)


def test_answers_are_those_of_evaluation_in_the_order_of_the_prompts(folder, prompts, rows, tmp_path, generator):
  found = _infer(folder, prompts, tmp_path / 'out.jsonl', '--scores')
  predictor = predict.Predictor(t5.from_folder(folder), generator.engine.params, batch_size=3)
  expected = predictor.generate([generator.encode(r['inputs']) for r in rows], STEPS)
  assert [a['tokens'] for a in found] == expected
  assert [a['prediction'] for a in found] == [generator.decode(t) for t in expected]
  assert [(a['id'], a['inputs']) for a in found] == [(r['id'], r['inputs']) for r in rows]
  pairs = [(generator.encode(r['inputs']), a['tokens'] + [1] * (a['finish_reason'] == 'end'))
           for r, a in zip(rows, found)]
  np.testing.assert_allclose([a['score'] for a in found], predictor.score(pairs), atol=1e-3)
  assert all(round(sum(a['log_probs']), 2) == round(a['score'], 2) for a in found)


def test_the_shipped_model_writes_what_it_wrote_in_evaluation(tmp_path):
  prompts = _write(tmp_path / 'p.jsonl', [{'inputs': 'Who are you?'}, {'inputs': 'The dragon lives in'}])
  found = _infer('mini', prompts, tmp_path / 'out.jsonl', '--max_decode_steps=16')
  # Equal to what `predict.Predictor` generates and SeqIO decodes.
  assert [a['prediction'] for a in found] == ['Who has the green box? Ann could tell.', 'the news.']
  assert [a['finish_reason'] for a in found] == ['end', 'end']


def test_answers_do_not_depend_on_the_batch_size_or_on_each_other(folder, rows, tmp_path):
  made = {}
  for size, order in ((1, rows[:6]), (4, rows[5::-1])):
    source = _write(tmp_path / f'p{size}.jsonl', order)
    found = _infer(folder, source, tmp_path / f'{size}.jsonl', f'--batch_size={size}',
                   '--temperature=0.8', '--num_samples=2', '--seed=3')
    made[size] = {a['id']: a for a in found}
  for i, answer in made[1].items():
    other = made[4][i]
    assert other['predictions'] == answer['predictions']
    assert other['finish_reasons'] == answer['finish_reasons']
    np.testing.assert_allclose(other['scores'], answer['scores'], atol=1e-3)
  assert any(a['predictions'][0] != a['predictions'][1] for a in made[1].values())


def test_a_run_killed_at_any_moment_goes_on_to_the_same_file(folder, prompts, tmp_path, blocks_of_four):
  whole, cut = tmp_path / 'whole.jsonl', tmp_path / 'cut.jsonl'
  flags = ('--scores', '--stop=e')
  _infer(folder, prompts, whole, *flags)
  content = whole.read_bytes()
  ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
  for size in (0, ends[0] - 5, ends[4], ends[8] + 30, len(content)):
    cut.write_bytes(content[:size])
    answer_file.settings_path(cut).write_bytes(answer_file.settings_path(whole).read_bytes())
    _infer(folder, prompts, cut, *flags)
    assert cut.read_bytes() == content


def test_a_block_is_answered_to_the_last_bit_as_in_a_new_engine(generator, rows, monkeypatch):
  monkeypatch.setattr(answers, '_DIGITS', 17)
  records = [prompt_files.Record(i, r, r['inputs']) for i, r in enumerate(rows)]
  work = answers.Answering(generator, answers.Job(Sampling(max_decode_steps=STEPS), details=True))
  first = list(work.block(records[:6]))
  for earlier in (records[3:10], records[10:], records[:1]):
    list(work.block(earlier))
    assert list(work.block(records[:6])) == first


def test_only_what_is_missing_is_written_and_prompts_may_be_added(folder, rows, tmp_path, capsys):
  out = tmp_path / 'out.jsonl'
  first = _infer(folder, _write(tmp_path / 'p.jsonl', rows[:5]), out)
  capsys.readouterr()
  found = _infer(folder, _write(tmp_path / 'p.jsonl', rows), out, '--json')
  assert found[:5] == first and len(found) == len(rows)
  summary = json.loads(capsys.readouterr().out)
  assert (summary['there_before'], summary['written']) == (5, 6)


@pytest.mark.parametrize('flags, name', [
    (('--temperature=0.5',), 'sampling'), (('--stop=x',), 'stop'), (('--too_long=keep_end',), 'too_long')])
def test_a_file_that_other_settings_wrote_is_left_alone(folder, prompts, tmp_path, capsys, flags, name):
  out = tmp_path / 'out.jsonl'
  _infer(folder, prompts, out)
  before = out.read_bytes()
  assert f'got: {name}' in _fails(capsys, folder, prompts, out, *flags)
  assert out.read_bytes() == before


def test_a_file_of_other_prompts_or_of_nobody_is_left_alone(folder, prompts, rows, tmp_path, capsys):
  out = tmp_path / 'out.jsonl'
  _infer(folder, prompts, out)
  before = out.read_bytes()
  changed = [*rows[:2], {**rows[2], 'inputs': 'Another.'}, *rows[3:]]
  error = _fails(capsys, folder, _write(tmp_path / 'q.jsonl', changed), out)
  assert 'answers other prompts' in error and f'{out}:3' in error
  assert 'no prompt' in _fails(capsys, folder, _write(tmp_path / 'q.jsonl', rows[:9]), out)
  answer_file.settings_path(out).unlink()
  assert 'no run of this kind' in _fails(capsys, folder, prompts, out)
  assert out.read_bytes() == before


def test_two_runs_do_not_write_one_file(tmp_path):
  with answer_file.AnswerFile(tmp_path / 'out.jsonl', {}):
    with pytest.raises(UserError, match='Another run'):
      answer_file.AnswerFile(tmp_path / 'out.jsonl', {})
  answer_file.AnswerFile(tmp_path / 'out.jsonl', {}).__exit__()


def test_a_full_disk_is_told_and_leaves_whole_lines_to_go_on_from(tmp_path):
  path, limits = tmp_path / 'out.jsonl', resource.getrlimit(resource.RLIMIT_FSIZE)
  rows = [{'inputs': f'{i} ' + 'x' * 50} for i in range(20)]
  records = [prompt_files.Record(i + 1, r, r['inputs']) for i, r in enumerate(rows)]
  with answer_file.AnswerFile(path, {}) as file:
    try:
      resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
      with pytest.raises(UserError, match='no room for the answers') as error:
        for row in rows:
          file.write({**row, 'prediction': 'y'})
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'same command goes on' in str(error.value) and str(path) in str(error.value)
  with answer_file.AnswerFile(path, {}) as file:
    assert file.skip(records) == file.done == path.read_bytes().count(b'\n') == 6
    for row in rows[file.done:]:
      file.write({**row, 'prediction': 'y'})
  assert [json.loads(line)['inputs'] for line in path.read_bytes().splitlines()] == [r['inputs'] for r in rows]


@pytest.mark.parametrize('number, status', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_between_answers_and_the_run_goes_on_later(
    folder, prompts, tmp_path, monkeypatch, capsys, blocks_of_four, number, status):
  out, write = tmp_path / 'out.jsonl', answer_file.AnswerFile.write

  def write_and_be_told(self, answer):
    write(self, answer)
    if self.written == 2:
      os.kill(os.getpid(), number)

  monkeypatch.setattr(answer_file.AnswerFile, 'write', write_and_be_told)
  assert cli.main(_argv(folder, prompts, out)) == status
  assert 'the same command goes on' in capsys.readouterr().err
  assert 2 <= len(out.read_text().splitlines()) < 11
  monkeypatch.setattr(answer_file.AnswerFile, 'write', write)
  assert [a['id'] for a in _infer(folder, prompts, out)] == list(range(11))


def test_a_bad_line_stops_the_run_before_the_model_is_opened(folder, prompts, tmp_path, capsys):
  with prompts.open('ab') as file:
    file.write(b'{"inputs": "caf\xe9"}\n')
  error = _fails(capsys, '/nowhere', prompts, tmp_path / 'out.jsonl')
  assert 'no valid UTF-8' in error and f'{prompts}:12' in error and '--on_bad_line=skip' in error
  assert not (tmp_path / 'out.jsonl').exists()


def test_an_error_takes_the_place_of_a_bad_line_where_that_is_asked_for(folder, rows, tmp_path, capsys):
  source = _write(tmp_path / 'p.jsonl', [rows[0], {'id': 7, 'inputs': ''}, rows[1]])
  found = _infer(folder, source, tmp_path / 'out.jsonl', '--on_bad_line=skip', '--json')
  assert found[1] == {'id': 7, 'inputs': '', 'error': 'The prompt is empty.', 'line': 2}
  assert 'prediction' in found[0] and found[2]['id'] == 1
  told = capsys.readouterr()
  assert json.loads(told.out)['errors'] == 1 and 'could not be used' in told.err


def test_options_are_ranked_and_the_best_is_the_prediction(folder, rows, tmp_path, generator):
  source = _write(tmp_path / 'p.jsonl', [
      {**rows[0], 'options': ['blue', 'a red box', 'no']}, rows[1], {**rows[2], 'mode': 'generate'}])
  found = _infer(folder, source, tmp_path / 'out.jsonl', '--options=yes | no')
  for answer, options in zip(found, (['blue', 'a red box', 'no'], ['yes', 'no'])):
    alone = [generator.score_options([generator.encode(answer['inputs'])], [[o]])[0][0] for o in options]
    np.testing.assert_allclose(answer['option_scores'], alone, atol=1e-3)
    assert answer['prediction'] == options[int(np.argmax(alone))]
    assert answer['score'] == max(answer['option_scores'])
  assert 'option_scores' not in found[2]


def test_an_answer_ends_before_a_stop_string(folder, prompts, tmp_path):
  plain = _infer(folder, prompts, tmp_path / 'a.jsonl', '--scores')
  letter = next(c for c in plain[0]['prediction'][1:] if c.isalpha())
  found = _infer(folder, prompts, tmp_path / 'b.jsonl', f'--stop={letter}', '--stop=zzzz', '--scores')
  for before, after in zip(plain, found):
    assert after['prediction'] == before['prediction'].split(letter)[0]
    assert (after['finish_reason'] == 'stop') == (letter in before['prediction'])
    assert before['tokens'][:len(after['tokens'])] == after['tokens']


def test_beams_are_answered_best_first(folder, rows, tmp_path):
  source = _write(tmp_path / 'p.jsonl', rows[:3])
  for answer in _infer(folder, source, tmp_path / 'o.jsonl', '--beam_size=3', '--num_samples=2'):
    assert len(answer['predictions']) == len(answer['finish_reasons']) == 2
    assert answer['scores'] == sorted(answer['scores'], reverse=True)


@pytest.mark.parametrize('policy, kept', [('truncate', slice(0, 5)), ('keep_end', slice(-5, None))])
def test_a_prompt_that_is_too_long_is_cut_as_the_policy_says(folder, policy, kept, generator):
  opened = TextGenerator(generator.engine, generator.vocabulary, max_inputs_length=6, too_long=policy)
  text = ' '.join(WORDS)
  tokens = generator.vocabulary.encode(text)
  prompt = opened.prompt(text)
  assert prompt.tokens == [*tokens[kept], 1] and prompt.dropped == len(tokens) - 5
  assert opened.prompt('the').dropped == 0 and opened.truncated == 1


def test_cut_prompts_are_counted_and_refused_ones_stop_the_run(folder, prompts, tmp_path, capsys):
  found = _infer(folder, prompts, tmp_path / 'a.jsonl', '--max_inputs_length=12')
  assert f"{sum('dropped_tokens' in a for a in found)} prompts were longer than 12" in capsys.readouterr().err
  error = _fails(capsys, folder, prompts, tmp_path / 'b.jsonl', '--max_inputs_length=12', '--too_long=refuse')
  assert 'too long' in error and f'{prompts}:' in error and 'at most 12' in error
  found = _infer(folder, prompts, tmp_path / 'b.jsonl', '--max_inputs_length=12', '--too_long=refuse',
                 '--on_bad_line=skip')
  assert {'The prompt is too long.'} == {a['error'] for a in found if 'error' in a}


def test_answers_flow_to_standard_output_as_prompts_come(folder, monkeypatch, capfdbinary):
  lines = io.BytesIO(b'The sea\n\nis blue\n')
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(lines))
  flags = ['--input=-', f'--model_dir={folder}', '--max_decode_steps=4', '--on_bad_line=skip']
  assert cli.main(['infer', *flags]) == 0
  found = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
  assert [a.get('inputs') for a in found] == ['The sea', None, 'is blue'] and found[1]['line'] == 2


def test_answers_to_all_before_a_bad_line_of_standard_input_are_given(folder, monkeypatch, capfdbinary):
  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'{"inputs": "a"}\n{"inputs"\n')))
  assert cli.main(['infer', '--input=-', f'--model_dir={folder}', '--max_decode_steps=4']) == 1
  told = capfdbinary.readouterr()
  assert json.loads(told.out)['inputs'] == 'a' and b'standard input:2' in told.err


@pytest.mark.parametrize('flags, message', [
    ([], 'come from one place'), (['--input=p', '--task=rte'], 'come from one place'),
    (['--input=p', '--json'], 'where the answers are'), (['--input=p', '--batch_size=0'], 'at least 1'),
    (['--input=p', '--temperature=-1'], 'temperature is not possible'),
    (['--input=p', '--num_samples=2'], 'would all be the same'),
    (['--input=p', '--output=gs://b/x'], 'written to a disk'),
    (['--input=p.txt', '--output=p.txt'], 'the same file'), (['--input=p', '--options=a||b'], 'must not be empty')])
def test_flags_that_make_no_sense_are_refused_at_once(tmp_path, monkeypatch, capsys, flags, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'p.txt').write_text('x\n')
  flags = [f.replace('=p', '=p.txt') if f == '--input=p' else f for f in flags]
  assert cli.main(['infer', '--model_dir=/nowhere', *flags]) in (1, 2)
  assert message in capsys.readouterr().err


def test_a_task_is_rendered_by_its_templates_and_ranks_where_it_is_one_that_ranks(
    folder, tmp_path, monkeypatch):
  """The process that renders is this one here: it has TensorFlow already."""
  from cli_test import TASKS

  from flanjax.data import specs

  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / 'infer_user_tasks.py').write_text(TASKS.replace('my_', 'own_'))

  def in_place(argv, module):
    assert module == render.__name__
    with contextlib.redirect_stdout(io.StringIO()) as out:
      assert render.main([*argv, '--json']) == 0
    return json.loads(out.getvalue())

  monkeypatch.setattr(common, 'run_child', in_place)
  try:
    for name, ranks in (('own_fruit_0_type_1', False), ('own_fruit_0_type_1_scoring_eval', True)):
      out = tmp_path / f'{name}.jsonl'
      assert cli.main(['infer', f'--model_dir={folder}', f'--task={name}', '--num_examples=3',
                       f'--output={out}', '--module=infer_user_tasks', '--max_decode_steps=4']) == 0
      found = [json.loads(line) for line in out.read_text().splitlines()]
      assert [a['inputs'].split('\n')[0] for a in found] == [f'Choose for own_fruit_0 {i}.' for i in range(3)]
      assert [a['targets'] for a in found] == ['red', 'blue', 'red']
      assert all(('option_scores' in a) == ranks for a in found)
      assert not ranks or {a['prediction'] for a in found} <= {'red', 'blue'}
    template = render.template_in_a_child('own_tools_1', 0, ['infer_user_tasks'])
    assert template['fields'] == ['text', 'options_'] and template['count'] == 2
  finally:
    import seqio

    for spec in specs.all_specs('user'):
      specs.unregister(spec.name)
    for name in [n for n in seqio.MixtureRegistry.names() if n.startswith('user_')]:
      seqio.MixtureRegistry.remove(name)
    from flanjax.data import vocabularies

    vocabularies.set_default(None)


@pytest.mark.parametrize('name', ['mini', 'bytes'])
def test_tokens_and_text_are_those_of_seqio(name):
  from flanjax.data import vocabularies

  ours, theirs = tokenizer.get(name), vocabularies.get(name)
  for text in ('The sea, é 中 🙂.', 'a <extra_id_0> b', ' x\n\ty  z ', 'OPTIONS:\n- yes'):
    tokens = ours.encode(text)
    assert tokens == list(theirs.encode(text))
    for ids in (tokens, [*tokens, 1, 5], [2, 200, 201, *tokens, 1600], []):
      assert ours.decode(ids) == theirs.decode(ids)
  assert ours.eos_id == theirs.eos_id
