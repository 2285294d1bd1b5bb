"""Tests for flanjax.serving, over real sockets."""

import concurrent.futures
import contextlib
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import fake_engine
import pytest

httpx = pytest.importorskip('httpx')
openai = pytest.importorskip('openai')
pytest.importorskip('uvicorn')

import jax  # noqa: E402
import numpy as np  # noqa: E402

from flanjax import cli  # noqa: E402
from flanjax.errors import UsageError, UserError  # noqa: E402
from flanjax.inference import engine, tokenizer  # noqa: E402
from flanjax.inference.buckets import Buckets  # noqa: E402
from flanjax.inference.requests import Sampling  # noqa: E402
from flanjax.inference.text import TextGenerator  # noqa: E402
from flanjax.models import t5  # noqa: E402
from flanjax.serving import scheduler, schemas, server, warming  # noqa: E402

WAIT_S = 60


def until(condition):
  """Waits for what another thread does."""
  ends = time.monotonic() + WAIT_S
  while not condition():
    assert time.monotonic() < ends, 'waited in vain'
    time.sleep(0.005)


@contextlib.contextmanager
def serving(load, limits=schemas.Limits(), **settings):
  """A server on a free port, in a thread."""
  ready = threading.Event()
  made = server.Server(load, server.Settings(**{'port': 0, 'slots': 4, 'max_queue': 8, **settings}),
                       limits, on_ready=lambda _: ready.set())
  thread = threading.Thread(target=made.run)
  thread.start()
  made.ready, made.thread = ready, thread
  try:
    yield made
  finally:
    made.stop(at_once=True)
    thread.join(WAIT_S)
    assert not thread.is_alive()


@contextlib.contextmanager
def fake(engine=None, limits=schemas.Limits(), generator=(), **settings):
  """-> (server, engine, a client of it)."""
  engine = engine or fake_engine.FakeEngine()
  with serving(lambda: fake_engine.generator(engine, **dict(generator)), limits, **settings) as made:
    assert made.ready.wait(WAIT_S)
    with httpx.Client(base_url=made.url, timeout=WAIT_S) as client:
      try:
        yield made, engine, client
      finally:
        engine.gate.set()


@pytest.fixture(scope='module')
def shared():
  with fake() as made:
    yield made


def complete(client, prompt='abc', **fields):
  return client.post('/v1/completions', json={'prompt': prompt, 'temperature': 0, **fields})


def events(response):
  lines = [line for line in response.iter_lines() if line]
  assert all(line.startswith('data: ') for line in lines)
  return [line.removeprefix('data: ') for line in lines]


def streamed(client, **fields):
  """-> (text of each choice, finish reasons, the events)."""
  with client.stream('POST', '/v1/completions', json={'stream': True, **fields}) as response:
    assert response.status_code == 200
    assert response.headers['content-type'].startswith('text/event-stream')
    *got, done = events(response)
  assert done == '[DONE]'
  got = [json.loads(x) for x in got]
  texts, reasons = {}, {}
  for choice in (c for x in got for c in x['choices']):
    texts[choice['index']] = texts.get(choice['index'], '') + choice['text']
    if choice['finish_reason']:
      reasons[choice['index']] = choice['finish_reason']
  return texts, reasons, got


def test_completion_has_the_shape_of_openais(shared):
  body = complete(shared[2]).json()
  assert body['object'] == 'text_completion' and body['model'] == 'fake'
  assert body['choices'] == [
      {'index': 0, 'text': 'cba', 'finish_reason': 'stop', 'logprobs': None}]
  assert body['usage'] == {'prompt_tokens': 4, 'completion_tokens': 4, 'total_tokens': 8}


def test_prompts_are_texts_or_ids_one_or_many(shared):
  ids = fake_engine.VOCABULARY.encode
  for prompt, texts in (
      ('ab', ['ba']), (['ab', 'cd'], ['ba', 'dc']), (ids('ab'), ['ba']),
      (ids('ab') + [1], ['ba']), ([ids('ab'), ids('cd')], ['ba', 'dc'])):
    got = complete(shared[2], prompt).json()['choices']
    assert [c['text'] for c in got] == texts and [c['index'] for c in got] == [*range(len(texts))]


def test_samples_of_several_prompts_are_numbered_prompt_by_prompt(shared):
  got = complete(shared[2], ['ab', 'cd'], n=2, temperature=1).json()['choices']
  assert [c['text'] for c in got] == ['ba', 'ba1', 'dc', 'dc1']


def test_max_tokens_ends_an_answer(shared):
  body = complete(shared[2], 'abcdef', max_tokens=5).json()
  assert body['choices'][0]['text'] == 'fedcb'
  assert body['choices'][0]['finish_reason'] == 'length'
  assert body['usage']['completion_tokens'] == 5


@pytest.mark.parametrize('fields', [
    {'prompt': 'abcdefgh'}, {'prompt': ['ab', 'xyz'], 'n': 2, 'temperature': 1},
    {'prompt': 'one two', 'stop': ['w', 'no']}, {'prompt': 'aé漢😀b'}, {'prompt': 'ab', 'echo': True},
    {'prompt': 'a漢b', 'logprobs': 0}, {'prompt': 'abcd', 'stop': 'bc', 'logprobs': 1}])
def test_a_stream_says_what_a_whole_answer_says(shared, fields):
  fields = {'temperature': 0, **fields}
  whole = complete(shared[2], **fields).json()
  texts, reasons, got = streamed(shared[2], **fields, stream_options={'include_usage': True})
  assert texts == {c['index']: c['text'] for c in whole['choices']}
  assert reasons == {c['index']: c['finish_reason'] for c in whole['choices']}
  assert got[-1]['usage'] == whole['usage'] and got[-1]['choices'] == []
  if 'logprobs' in fields:
    parts = [c['logprobs'] for x in got for c in x['choices']]
    for key, value in whole['choices'][0]['logprobs'].items():
      assert value == (None if value is None else [v for part in parts for v in part[key]])


def test_a_stop_string_is_found_across_tokens_and_ends_the_work():
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'ab STOP ' + 'x' * 900)
  engine.hold_at = 4
  with fake(engine) as (_, _, client):
    body = complete(client, stop=['STOP']).json()
    assert body['choices'][0]['text'] == 'ab '
    assert body['choices'][0]['finish_reason'] == 'stop'
    assert body['usage']['completion_tokens'] == 7
    engine.gate.set()
    until(lambda: engine.cancelled)
    assert engine.steps == 5


def test_a_stop_string_that_did_not_come_is_given_out(shared):
  assert complete(shared[2], 'abc', stop='ax').json()['choices'][0]['text'] == 'cba'


def test_characters_are_streamed_whole():
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'é漢😀' * 5)
  with fake(engine) as (_, _, client):
    texts, _, got = streamed(client, prompt='x')
    assert texts == {0: 'é漢😀' * 5} and len(got) > 5
    assert not any('\ufffd' in x['choices'][0]['text'] for x in got)


def test_log_probs_are_aligned_with_the_text(shared):
  choice = complete(shared[2], 'a漢', logprobs=1).json()['choices'][0]
  got = choice['logprobs']
  ids = fake_engine.VOCABULARY.encode(choice['text'])
  assert got['token_logprobs'] == [-t / 1000 for t in ids]
  assert ''.join(got['tokens']) == choice['text'] == '漢a'
  assert got['tokens'] == ['', '', '漢', 'a'] and got['text_offset'] == [0, 0, 0, 1]
  assert got['top_logprobs'] == [
      {t: p} for t, p in zip(got['tokens'], got['token_logprobs'])]


def test_hostile_prompts_stay_text(shared):
  for prompt in ('</s>{options_}{{7*7}}', '<extra_id_0>\u202e\x1b[2J', '\x00;$(id)', '%s%n'):
    assert complete(shared[2], prompt).json()['choices'][0]['text'] == prompt[::-1]


@pytest.mark.parametrize('fields, param', [
    ({'prompt': ''}, 'prompt'), ({'prompt': ' \n'}, 'prompt'), ({'prompt': []}, 'prompt'),
    ({'prompt': 7}, 'prompt'), ({'prompt': ['a', 7]}, 'prompt'), ({'prompt': [[]]}, 'prompt'),
    ({'prompt': [5, True]}, 'prompt'), ({'prompt': [0]}, 'prompt'), ({'prompt': [-5]}, 'prompt'),
    ({'prompt': [10**30]}, 'prompt'), ({'prompt': 'x' * 64}, 'prompt'), ({'prompt': [5] * 64}, 'prompt'),
    ({'prompt': ['a'] * 65}, 'prompt'), ({'prompt': None}, 'prompt'),
    ({'prompt': '\ud800'}, 'prompt'),
    ({'max_tokens': 0}, 'max_tokens'), ({'max_tokens': '5'}, 'max_tokens'),
    ({'max_tokens': True}, 'max_tokens'), ({'max_tokens': 257}, 'max_tokens'),
    ({'temperature': -1}, 'temperature'), ({'temperature': 'hot'}, 'temperature'),
    ({'temperature': 10**400}, 'temperature'), ({'top_p': 0}, 'top_p'), ({'top_p': 1.5}, 'top_p'),
    ({'top_k': -1}, 'top_k'), ({'n': 0}, 'n'), ({'n': 17, 'temperature': 1}, 'n'), ({'n': 2}, 'n'),
    ({'best_of': 2}, 'best_of'), ({'beam_size': 2, 'temperature': 1}, 'beam_size'),
    ({'beam_size': 99}, 'beam_size'), ({'seed': 2**64}, 'seed'), ({'stop': ''}, 'stop'),
    ({'stop': ['a'] * 17}, 'stop'), ({'stop': 3}, 'stop'), ({'stream': 'yes'}, 'stream'),
    ({'stream_options': {'include_usage': True}}, 'stream_options'),
    ({'logprobs': 2}, 'logprobs'), ({'logprobs': 1, 'temperature': 1}, 'logprobs'),
    ({'logprobs': 0, 'echo': True}, 'echo'), ({'suffix': 'x'}, 'suffix'),
    ({'presence_penalty': 0.5}, 'presence_penalty'), ({'logit_bias': {'5': 1}}, 'logit_bias'),
    ({'max_token': 5}, 'max_token'), ({'user': 5}, 'user'),
    ({'\ud800': 5}, r'\ud800')])
def test_a_wrong_field_is_named(shared, fields, param):
  response = shared[2].post('/v1/completions', content=json.dumps(
      {'prompt': 'abc', 'temperature': 0, **fields}), headers={'content-type': 'application/json'})
  assert response.status_code == 400, response.text
  error = response.json()['error']
  assert error['param'] == param and param in error['message']
  assert error['type'] == 'invalid_request_error'


def test_fields_that_change_nothing_are_taken(shared):
  fields = dict(presence_penalty=0, frequency_penalty=0.0, logit_bias={}, suffix=None, best_of=1,
                user='u', stop=None, seed=-1, logprobs=None, stop_=None)
  fields.pop('stop_')
  assert complete(shared[2], **fields).status_code == 200


@pytest.mark.parametrize('content', [
    b'{"prompt": "\xff"}', b'', b'{', b'[]', b'7', b'"x"', b'{"prompt": NaN}', b'[' * 100_000,
    b'{"prompt": "a", "seed": ' + b'9' * 5000 + b'}', b'{"prompt": "a\x00b"}'])
def test_a_body_that_is_no_json_object_is_refused(shared, content):
  response = shared[2].post('/v1/completions', content=content,
                            headers={'content-type': 'application/json'})
  assert response.status_code == 400, response.text
  assert response.json()['error']['code'] in ('invalid_utf8', 'invalid_json')


def test_other_content_types_are_refused(shared):
  response = shared[2].post('/v1/completions', content=b'{"prompt": "a"}',
                            headers={'content-type': 'text/plain'})
  assert response.status_code == 415


def test_a_body_beyond_the_limit_is_refused_with_and_without_its_length():
  with fake(limits=schemas.Limits(max_body_bytes=1000)) as (_, _, client):
    assert complete(client, 'x' * 2000).status_code == 413
    chunks = (b'x' * 100 for _ in range(20))
    response = client.post('/v1/completions', content=chunks,
                           headers={'content-type': 'application/json'})
    assert response.status_code == 413


def test_a_long_prompt_is_cut_where_the_server_was_told_so():
  for rule, text in (('truncate', 'a' * 63), ('keep_end', 'b' + 'a' * 62)):
    with fake(generator={'too_long': rule}) as (_, _, client):
      ids = fake_engine.VOCABULARY.encode('a' * 63 + 'b')
      for prompt in ('a' * 63 + 'b', ids):
        assert complete(client, prompt).json()['choices'][0]['text'] == text


def test_another_model_and_other_urls_are_not_found(shared):
  response = complete(shared[2], model='gpt')
  assert response.status_code == 404 and 'fake' in response.json()['error']['message']
  assert shared[2].get('/v1/nothing').status_code == 404
  assert shared[2].get('/v1/completions').json()['error']['type'] == 'invalid_request_error'
  assert shared[2].get('/v1/models/gpt').status_code == 404
  assert shared[2].get('/v1/models/fake').json()['id'] == 'fake'


def test_chat_says_why_there_is_none(shared):
  response = shared[2].post('/v1/chat/completions', json={'messages': []})
  assert response.status_code == 404 and '/v1/completions' in response.json()['error']['message']


def test_options_are_scored(shared):
  body = shared[2].post('/v1/score', json={'prompt': 'ab', 'options': ['long', 'no']}).json()
  assert body['best'] == 1
  assert body['scores'][1] == {'index': 1, 'option': 'no', 'log_likelihood': -3.0,
                               'num_tokens': 3, 'log_likelihood_per_token': -1.0}
  for fields, param in (({'options': []}, 'options'), ({'options': 'a'}, 'options'),
                        ({'options': ['x' * 256]}, 'options'), ({'prompt': ''}, 'prompt')):
    response = shared[2].post('/v1/score', json={'prompt': 'ab', 'options': ['a'], **fields})
    assert response.status_code == 400 and response.json()['error']['param'] == param


def test_requests_that_come_together_are_decoded_together():
  engine = fake_engine.FakeEngine()
  with fake(engine) as (made, _, client):
    engine.gate.clear()
    prompts = [c * 30 for c in 'abcd']
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      answers = [pool.submit(complete, client, p) for p in prompts]
      until(lambda: len(made.scheduler._running) + len(made.scheduler._waiting) == 4)
      engine.gate.set()
      got = [a.result().json()['choices'][0]['text'] for a in answers]
    assert got == prompts
    assert engine.steps <= 13 and max(engine.rows) == 4


def test_never_more_answers_run_than_there_are_slots():
  engine = fake_engine.FakeEngine()
  with fake(engine, slots=3) as (_, _, client):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      answers = [pool.submit(complete, client, 'abcdef', n=2, temperature=1) for _ in range(4)]
      assert all(a.result().status_code == 200 for a in answers)
  assert max(engine.rows) <= 3


def hang_up(made, path, when, **fields):
  """Sends a request, and closes the connection once `when` comes true."""
  body = json.dumps(fields).encode()
  with socket.create_connection(('127.0.0.1', made.port)) as client:
    client.sendall(b'POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
                   b'Content-Length: %d\r\n\r\n%b' % (path, len(body), body))
    until(when)
  until(lambda: not made.activity.count)


@pytest.mark.parametrize('stream', [False, True])
def test_a_client_that_hangs_up_frees_its_slots(stream):
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'x' * 900)
  with fake(engine, slots=1) as (made, _, client):
    engine.gate.clear()
    hang_up(made, b'/v1/completions', lambda: made.scheduler._running, prompt='a', stream=stream)
    engine.gate.set()
    assert complete(client, 'b', max_tokens=3).json()['choices'][0]['text'] == 'xxx'
    assert len(engine.cancelled) == 1 and engine.steps < 50
    assert 'flanjax_cancelled_total 1.0' in client.get('/metrics').text


def test_scoring_ends_with_the_batch_at_which_its_client_hangs_up():
  with fake() as (made, engine, client):
    engine.gate.clear()
    hang_up(made, b'/v1/score', lambda: made.scheduler._scoring, prompt='a', options=['b'] * 9)
    engine.gate.set()
    until(lambda: not made.scheduler._scoring)
    assert engine.scored <= 1
    assert client.post('/v1/score', json={'prompt': 'a', 'options': ['b']}).status_code == 200
    page = client.get('/metrics').text
    assert 'flanjax_cancelled_total 1.0' in page and 'endpoint="/v1/score",status="499"} 1.0' in page


def test_scoring_fails_alone():
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'x' * 60)
  score = lambda client: client.post('/v1/score', json={'prompt': 'a', 'options': ['b'] * 40})
  with fake(engine) as (made, _, client), concurrent.futures.ThreadPoolExecutor(2) as pool:
    engine.gate.clear()
    scored = pool.submit(score, client)
    until(lambda: made.scheduler._scoring)
    answered = pool.submit(complete, client)
    until(lambda: made.scheduler._waiting)
    engine.fail_scoring = True
    engine.gate.set()
    assert scored.result().status_code == 500
    assert answered.result().json()['choices'][0]['text'] == 'x' * 60


def test_a_full_queue_asks_to_come_again():
  engine = fake_engine.FakeEngine()
  with fake(engine, slots=1, max_queue=1) as (made, _, client):
    engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      answers = [pool.submit(complete, client, 'ab') for _ in range(2)]
      until(lambda: made.activity.count == 2 and made.scheduler._waiting)
      refused = complete(client, 'cd')
      assert refused.status_code == 429 and int(refused.headers['retry-after']) >= 1
      assert refused.json()['error']['code'] == 'queue_full'
      engine.gate.set()
      assert all(a.result().status_code == 200 for a in answers)
    assert complete(client, ['a', 'b', 'c']).status_code == 400
    assert complete(client, ['a', 'b']).status_code == 200


def test_a_request_that_takes_too_long_ends_whole_or_in_its_stream():
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'x' * 900)
  with fake(engine, limits=schemas.Limits(timeout_s=0.2)) as (made, _, client):
    engine.gate.clear()
    assert complete(client).status_code == 504
    assert complete(client, stream=True).status_code == 504
    assert client.post('/v1/score', json={'prompt': 'a', 'options': ['b']}).status_code == 504
    engine.gate.set()
    until(lambda: engine.cancelled and not made.scheduler._running)


def test_an_engine_that_fails_ends_what_runs_and_goes_on(capfd):
  engine = fake_engine.FakeEngine()
  with fake(engine) as (made, _, client):
    engine.errors = [RuntimeError('out of memory')]
    response = complete(client)
    assert response.status_code == 500
    assert response.json()['error']['code'] == 'engine_error'
    assert complete(client).json()['choices'][0]['text'] == 'cba'
    engine.fail_scoring = True
    assert client.post('/v1/score', json={'prompt': 'a', 'options': ['b']}).status_code == 500
    assert client.get('/health').status_code == 200
    assert complete(client).status_code == 200
    engine.errors = [RuntimeError('for good')] * scheduler.MAX_FAILURES
    while engine.errors:
      assert complete(client).status_code == 500
    until(lambda: made.scheduler.state == 'failed')
    health = client.get('/health')
    assert health.status_code == 503 and health.json() == {'status': 'failed'}
    assert complete(client).status_code == 503


def test_an_engine_that_fails_ends_a_stream_with_an_error():
  engine = fake_engine.FakeEngine(lambda prompt, sample: 'x' * 900)
  engine.hold_at = 2
  with fake(engine) as (_, _, client):
    with client.stream('POST', '/v1/completions', json={'prompt': 'a', 'stream': True}) as response:
      lines = response.iter_lines()
      assert json.loads(next(lines).removeprefix('data: '))['choices'][0]['text']
      engine.errors = [RuntimeError('gone')]
      engine.gate.set()
      last = [line for line in lines if line][-1]
    assert json.loads(last.removeprefix('data: '))['error']['code'] == 'engine_error'


def test_health_while_loading_ready_and_draining():
  engine, loading = fake_engine.FakeEngine(), threading.Event()

  def load():
    loading.wait(WAIT_S)
    return fake_engine.generator(engine)

  with serving(load) as made, httpx.Client(base_url=made.url, timeout=WAIT_S) as client:
    until(lambda: made._uvicorn.started)
    assert client.get('/health').json() == {'status': 'loading'}
    early = complete(client)
    assert early.status_code == 503 and 'retry-after' in early.headers
    assert client.get('/v1/models').json()['data'] == []
    loading.set()
    assert made.ready.wait(WAIT_S)
    assert client.get('/health').status_code == 200
    engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      answer = pool.submit(complete, client, 'abcdef')
      until(lambda: made.scheduler._running)
      made.stop()
      until(lambda: made.scheduler.state == 'draining')
      health = client.get('/health')
      assert health.status_code == 503 and health.json() == {'status': 'draining'}
      assert complete(client).status_code == 503
      engine.gate.set()
      assert answer.result().json()['choices'][0]['text'] == 'fedcba'
    made.thread.join(WAIT_S)
    assert not made.thread.is_alive()


def test_a_drain_gives_up_in_the_end():
  engine = fake_engine.FakeEngine()
  with fake(engine, drain_s=0.2) as (made, _, client):
    engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      answer = pool.submit(complete, client)
      until(lambda: made.scheduler._running)
      made.stop()
      until(lambda: made.scheduler.state == 'stopped')
      engine.gate.set()
      assert answer.result().status_code == 503


def test_a_model_that_cannot_be_loaded_ends_the_server():
  def load():
    raise UserError('no model')

  made = server.Server(load, server.Settings(port=0), schemas.Limits())
  with pytest.raises(UserError, match='no model'):
    made.run()


def test_a_key_is_asked_for_where_one_is_set(tmp_path):
  (tmp_path / 'keys').write_text('first-key\n\nsecond-key\n')
  keys = server.read_keys(str(tmp_path / 'keys'), {})
  assert keys == ('first-key', 'second-key')
  with fake(api_keys=keys) as (_, _, client):
    for header in ({}, {'authorization': 'Bearer x'}, {'authorization': 'Bearer'},
                   {'authorization': 'first-key'}, {'authorization': b'Bearer \xff'}):
      refused = client.post('/v1/completions', json={'prompt': 'a'}, headers=header)
      assert refused.status_code == 401
      assert refused.json()['error']['code'] == 'invalid_api_key'
    assert client.get('/metrics').status_code == 401
    assert client.get('/health').status_code == 200
    for key in keys:
      client.headers['authorization'] = f'Bearer {key}'
      assert complete(client).status_code == 200


def test_keys_that_cannot_be_sent_are_refused(tmp_path):
  assert server.read_keys(None, {}) == ()
  assert server.read_keys(None, {server.KEY_VARIABLE: 'k'}) == ('k',)
  for text in ('', '\n', 'a b', 'schlüssel'):
    with pytest.raises(UserError, match='no API key'):
      server.read_keys(None, {server.KEY_VARIABLE: text})
  with pytest.raises(UserError, match='cannot be read'):
    server.read_keys(str(tmp_path / 'none'), {})


def test_a_strangers_name_for_this_machine_is_refused(shared):
  made, _, client = shared
  for host, status in (('evil.example', 421), ('localhost:80', 200), (f'127.0.0.1:{made.port}', 200),
                       ('localhost.evil.example', 421)):
    assert client.get('/health', headers={'host': host}).status_code == status


def test_metrics_count_what_happened():
  engine = fake_engine.FakeEngine()
  with fake(engine) as (made, _, client):
    complete(client, 'abcdef')
    complete(client, max_tokens=0)
    client.get('/v1/' + 'x' * 50)
    engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
      answers = [pool.submit(complete, client, 'ab', n=4, temperature=1)]
      until(lambda: made.scheduler._running)
      answers += [pool.submit(complete, client, 'ab') for _ in range(2)]
      until(lambda: len(made.scheduler._waiting) == 2)
      page = client.get('/metrics')
      engine.gate.set()
      assert all(a.result().status_code == 200 for a in answers)
    assert page.headers['content-type'].startswith('text/plain')
    values = dict(line.rsplit(' ', 1) for line in page.text.splitlines() if line[0] != '#')
    expected = {
        'requests_total{endpoint="/v1/completions",status="200"}': 1,
        'requests_total{endpoint="/v1/completions",status="400"}': 1,
        'requests_total{endpoint="other",status="404"}': 1,
        'queue_length': 2, 'running_slots': 4, 'slots': 4, 'ready': 1, 'completion_tokens_total': 7,
        'first_token_seconds_count': 1, 'token_seconds_count': 1, 'engine_steps_total': 3}
    assert {k: float(values[f'flanjax_{k}']) for k in expected} == expected
    assert 'xxxxx' not in page.text


def test_the_log_has_short_lines_without_prompts(capfd, monkeypatch):
  for name in ('flanjax.serving', 'uvicorn'):
    logger = logging.getLogger(name)
    for attribute in ('handlers', 'propagate', 'level'):
      monkeypatch.setattr(logger, attribute, getattr(logger, attribute))
  server.log_to_stderr()
  with fake() as (_, _, client):
    complete(client, 'secret')
    client.get('/v1/%1b%5b2J')
    client.get('/health')
  lines = [x for x in capfd.readouterr().err.splitlines() if '127.0.0.1' in x]
  assert re.fullmatch(r'\d\d:\d\d:\d\d 127.0.0.1 POST /v1/completions 200 \d+\.\d+s 7\+7 tokens', lines[0])
  assert r'/v1/\x1b[2J 404' in lines[1] and len(lines) == 2


def test_a_taken_port_is_a_users_error(shared):
  with pytest.raises(UserError, match='cannot listen'):
    server.Server(None, server.Settings(port=shared[0].port), schemas.Limits())
  with pytest.raises(UserError, match='cannot listen'):
    server.Server(None, server.Settings(host='no.such.host.invalid'), schemas.Limits())


def test_addresses_that_other_machines_reach_are_known():
  assert server.is_local('127.0.0.1') and server.is_local('::1') and server.is_local('127.9.9.9')
  assert not server.is_local('0.0.0.0') and not server.is_local('::') and not server.is_local('10.0.0.1')


@pytest.fixture
def compiled():
  """-> the programs that were compiled so far, by their time."""
  found = []

  def listen(event, seconds, **unused):
    if event == '/jax/core/compile/backend_compile_duration':
      found.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


def test_nothing_is_compiled_once_the_server_is_ready(compiled):
  config = t5.T5Config(vocab_size=384, emb_dim=8, num_heads=1, head_dim=8, mlp_dim=8,
                       num_encoder_layers=1, num_decoder_layers=1)
  model, vocabulary = t5.EncoderDecoderModel(config), tokenizer.get('bytes')
  rng = np.random.default_rng(0)

  def load():
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), model.param_shapes())
    made = engine.Engine(model, params, slots=2, max_decode_steps=16,
                         buckets=Buckets((16, 32), (8, 16), (256,)))
    generator = TextGenerator(made, vocabulary, max_inputs_length=32, name='toy')
    warming.warm(generator, (2,), lambda *unused: None)
    return generator

  def ask(i):
    prompt = 'x' * int(rng.integers(1, 31))
    if i % 5 == 4:
      options = ['y' * int(n) for n in rng.integers(1, 16, 1 + i % 7)]
      return client.post('/v1/score', json={'prompt': prompt, 'options': options})
    how = [{'temperature': 0}, {'temperature': 1, 'n': 2}, {'top_p': 0.5, 'top_k': 7},
           {'beam_size': 2, 'n': 2}][i % 5]
    return client.post('/v1/completions', json={
        'prompt': [prompt] * (1 + i % 3 // 2), 'max_tokens': int(rng.integers(1, 17)), **how})

  limits = schemas.Limits(max_tokens=16, max_rows=2, beam_sizes=(2,))
  with serving(load, limits, slots=2, max_queue=100) as made:
    assert made.ready.wait(600)
    with httpx.Client(base_url=made.url, timeout=WAIT_S) as client:
      before = len(compiled)
      assert before > 20
      for workers in (1, 8):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
          assert {r.status_code for r in pool.map(ask, range(30))} == {200}
      assert len(compiled) == before
      refused = client.post('/v1/completions', json={'prompt': 'a', 'beam_size': 3})
      assert refused.status_code == 400 and refused.json()['error']['param'] == 'beam_size'


@pytest.fixture(scope='module')
def mini():
  """The shipped model behind the client that others use; -> (server, client)."""
  load = lambda: TextGenerator.open(
      'mini', slots=4, max_decode_steps=24, max_inputs_length=32, too_long='refuse')
  limits = schemas.Limits(max_tokens=24, max_rows=4)
  with serving(load, limits) as made:
    assert made.ready.wait(120)
    client = openai.OpenAI(base_url=f'{made.url}/v1', api_key='none', max_retries=0, timeout=60)
    yield made, client


def create(client, prompt, **fields):
  return client.completions.create(
      model='mini', prompt=prompt, **{'temperature': 0, **fields})


PROMPTS = ['The river is', 'Who lives in the town?', 'A', 'It was a long and cold day for the']


def test_openais_client_gets_what_the_engine_says(mini):
  made, client = mini
  generator = made.service.generator
  assert [m.id for m in client.models.list()] == ['mini']
  got = create(client, PROMPTS, max_tokens=16)
  requests = [generator.request(i, x, Sampling(16)) for i, x in enumerate(PROMPTS)]
  # The engine is the server's own; nothing else is asked of it meanwhile.
  alone = {a.id: a.completions[0] for r in requests for a in generator.engine.run([r])}
  assert [c.text for c in got.choices] == [generator.decode(alone[i].tokens) for i in range(4)]
  assert any(c.text for c in got.choices)
  assert got.usage.prompt_tokens == sum(len(r.inputs) for r in requests)


def test_openais_client_reads_the_stream(mini):
  whole = create(mini[1], PROMPTS[0], temperature=1, seed=5, n=3).choices
  parts = {}
  for chunk in create(mini[1], PROMPTS[0], temperature=1, seed=5, n=3, stream=True):
    for c in chunk.choices:
      parts[c.index] = parts.get(c.index, '') + c.text
  assert parts == {c.index: c.text for c in whole}
  assert len({c.text for c in whole}) > 1


def test_concurrent_requests_share_steps_and_get_what_they_get_alone(mini):
  made, client = mini
  steps = lambda: made.metrics.engine_steps._value.get()
  asked = [dict(prompt=p, temperature=t, seed=7) for p in PROMPTS for t in (0, 1)]
  before = steps()
  alone = [create(client, **fields).choices[0].text for fields in asked]
  between = steps()
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    together = list(pool.map(lambda fields: create(client, **fields).choices[0].text, asked))
  assert together == alone
  assert steps() - between < between - before


def test_a_stop_string_cuts_the_models_text(mini):
  whole = create(mini[1], PROMPTS[1]).choices[0].text
  assert len(whole) > 4
  got = create(mini[1], PROMPTS[1], stop=whole[2:4]).choices[0]
  assert got.text == whole[: whole.index(whole[2:4])] and got.finish_reason == 'stop'


def test_log_probs_and_beams_of_the_model(mini):
  got = create(mini[1], PROMPTS[0], logprobs=1).choices[0]
  assert ''.join(got.logprobs.tokens) == got.text
  assert all(p <= 0 for p in got.logprobs.token_logprobs)
  beams = create(mini[1], PROMPTS[0], n=2, extra_body={'beam_size': 4}).choices
  assert beams[0].score >= beams[1].score and beams[0].text != beams[1].text


def test_scores_of_the_model_are_those_of_its_generator(mini):
  made, client = mini
  generator, options = made.service.generator, ['cold', 'a long way']
  body = client.post('/score', body={'prompt': 'The river is', 'options': options}, cast_to=object)
  [expected] = generator.score_options([generator.encode('The river is')], [options])
  assert [s['log_likelihood'] for s in body['scores']] == pytest.approx(expected)


def test_openais_client_raises_what_it_is_told(mini):
  client = mini[1]
  with pytest.raises(openai.BadRequestError) as error:
    create(client, 'x', max_tokens=99)
  assert error.value.param == 'max_tokens'
  with pytest.raises(openai.BadRequestError, match='too long'):
    create(client, 'word ' * 99)
  with pytest.raises(openai.NotFoundError, match='no chat template'):
    client.chat.completions.create(model='mini', messages=[{'role': 'user', 'content': 'x'}])


def test_sigterm_lets_running_answers_end(tmp_path):
  command = [sys.executable, '-m', 'flanjax.cli', 'serve', '--model_dir=mini', '--port=0', '--json',
             '--max_inputs_length=32', f'--workdir={tmp_path}']
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
    try:
      facts = json.loads(child.stdout.readline())
      assert facts['model'] == 'mini' and str(facts['port']) in facts['url']
      with httpx.Client(base_url=facts['url'], timeout=60) as client:
        body = {'prompt': 'The river', 'seed': 1, 'stream': True, 'n': 8}
        with client.stream('POST', '/v1/completions', json=body) as response:
          lines = response.iter_lines()
          first = next(lines)
          child.send_signal(signal.SIGTERM)
          rest = [line for line in lines if line]
      assert first.startswith('data: {') and rest[-1] == 'data: [DONE]'
      assert child.wait(60) == 0
      errors = child.stderr.read()
    finally:
      child.kill()
  assert 'Traceback' not in errors and 'SIGTERM' in errors and 'loading mini' in errors


def test_a_missing_extra_is_said(monkeypatch):
  monkeypatch.setitem(sys.modules, 'starlette', None)
  for name in [n for n in sys.modules if n.startswith('flanjax.serving') or n.startswith('starlette.')]:
    monkeypatch.delitem(sys.modules, name)
  args = cli.parse(['serve', '--model_dir=none'])
  with pytest.raises(UserError, match=r"pip install 'flanjax\[serve\]'"):
    args.run(args)


def test_impossible_flags_are_a_users_error():
  for flag in ('--port=70000', '--slots=0', '--max_tokens=0', '--timeout_s=nan', '--drain_s=0'):
    args = cli.parse(['serve', '--model_dir=none', flag])
    with pytest.raises(UsageError, match=flag[2:].partition('=')[0]):
      args.run(args)


def test_a_folder_without_a_model_ends_the_command(tmp_path):
  args = cli.parse(['serve', f'--model_dir={tmp_path}', '--port=0'])
  with pytest.raises(UserError, match='model'):
    args.run(args)
