"""The engine against the network run anew for every token, and against itself in other company."""

import functools
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
import toy_training

from flanjax.errors import UserError
from flanjax.inference import engine, pool
from flanjax.inference.requests import Request, Sampling
from flanjax.models import decoding, lora

EOS, STEPS = 3, 9
OPTIONS = {'num_decoder_layers': 2}
DRAWN = Sampling(STEPS, temperature=1.5, top_k=9, top_p=0.95, seed=4)


@functools.cache
def _params(**options):
  """Drawn without compiling an init; large, so that rows differ, and LoRA's factors do something."""
  rng, shapes = np.random.default_rng(1), toy_training.toy_model(**OPTIONS, **options).param_shapes()
  return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.6).astype(x.dtype), shapes)


# Two lengths of columns: 16 and 32.
INPUTS = [np.random.default_rng(n).integers(2, 16, n).tolist() + [1] for n in (3, 25, 9, 1, 13, 17, 6)]
SHORT = [x for x in INPUTS if len(x) <= 16]


def make(model=None, params=None, **settings):
  settings = {'slots': 4, 'max_decode_steps': 16, 'input_multiple': 16, 'eos_id': EOS,
              'steps_per_call': 4, **settings}
  return engine.Engine(model or toy_training.toy_model(**OPTIONS), params or _params(), **settings)


def answers(asked, made=None, **settings):
  """{id: completions} of (id, inputs, sampling)."""
  made = made or make(**settings)
  return {a.id: a.completions for a in made.run(Request(*one) for one in asked)}


def _without_cache(logits_of, params, inputs, steps):
  """Feeds the whole prefix anew at every place, through the training network -> (token, log p)."""
  made, log_probs = [], []
  for i in range(steps):
    given = np.zeros((1, steps), np.int32)
    given[0, 1 : i + 1] = made
    logits = np.asarray(logits_of(params, {
        'encoder_input_tokens': np.array([inputs + [0] * (20 - len(inputs))]), 'decoder_input_tokens': given,
        'decoder_target_tokens': np.ones_like(given)})[0, i])
    made.append(int(logits[1:].argmax()) + 1)
    log_probs.append(float(jax.nn.log_softmax(logits)[made[-1]]))
    if made[-1] == EOS:
      break
  return made, log_probs


@pytest.mark.parametrize('options', [
    {}, {'relpos_per_layer': True, 'logits_via_embedding': True, 'mlp_activations': ('relu',)},
    {'prompt_length': 3, 'lora': lora.Lora(4), 'vocab_padding': 2}])
def test_greedy_is_the_argmax_of_the_network_token_by_token(options):
  model, params = toy_training.toy_model(**OPTIONS, **options), _params(**options)
  inputs, logits_of = SHORT[:3], jax.jit(model.logits)
  found = answers([(i, x, Sampling(STEPS)) for i, x in enumerate(inputs)], make(model, params))
  for i, x in enumerate(inputs):
    tokens, log_probs = _without_cache(logits_of, params, x, STEPS)
    [completion] = found[i]
    ends = tokens[-1] == EOS
    assert completion.tokens == (tokens[:-1] if ends else tokens)
    assert completion.finish_reason == ('end' if ends else 'length')
    np.testing.assert_allclose(completion.log_probs, log_probs, atol=1e-4)
    assert completion.score == pytest.approx(sum(log_probs), abs=1e-3)


@pytest.fixture(scope='module')
def asked():
  """Greedy, drawn and filtered requests of several samples and lengths."""
  kinds = [Sampling(STEPS), DRAWN, Sampling(5, temperature=1.0, num_samples=3), Sampling(2)]
  return [(i, x, kinds[i % 4]) for i, x in enumerate(INPUTS)]


@pytest.fixture(scope='module')
def alone(asked):
  made = make(slots=1, steps_per_call=3)
  return {one[0]: answers([one], made)[one[0]] for one in asked}


@pytest.mark.parametrize(('slots', 'steps', 'order'), [
    (3, 4, 1), (8, 2, -1)])
def test_answers_do_not_depend_on_slots_neighbours_and_order(asked, alone, slots, steps, order):
  found = answers(asked[::order], slots=slots, steps_per_call=steps)
  assert set(found) == set(alone)
  for key, completions in found.items():
    assert [c.tokens for c in completions] == [c.tokens for c in alone[key]]
    assert [c.finish_reason for c in completions] == [c.finish_reason for c in alone[key]]
    for a, b in zip(completions, alone[key]):
      np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-4)


def test_samples_differ_and_so_do_seeds(alone):
  samples = [tuple(c.tokens) for c in alone[2]]
  assert len(set(samples)) == 3
  made = make()
  drawn = [tuple(answers([(0, INPUTS[1], Sampling(STEPS, temperature=1.5, seed=seed))], made)[0][0].tokens)
           for seed in range(4)]
  assert len(set(drawn)) > 1


def test_log_probabilities_are_those_that_scoring_gives():
  made = make()
  [[completion]] = answers([(0, INPUTS[1], DRAWN)], made).values()
  target = completion.tokens + [EOS] * (completion.finish_reason == 'end')
  np.testing.assert_allclose(made.score([(INPUTS[1], target)])[0], completion.log_probs, atol=1e-4)


def test_a_prompt_is_encoded_once_for_all_its_samples(monkeypatch):
  encoded, original = [], pool.Device.encode
  monkeypatch.setattr(pool.Device, 'encode',
                      lambda self, tokens: encoded.append(tokens.shape) or original(self, tokens))
  found = answers([(0, INPUTS[0], Sampling(3, temperature=1.0, num_samples=7))], slots=2)
  assert len(found[0]) == 7 and encoded == [(1, 16)]


def test_a_slot_that_ends_is_filled_while_others_go_on():
  made = make(slots=2, steps_per_call=1)
  for key, steps in (('long', 9), ('short', 2), ('next', 2)):
    made.add(Request(key, [5, 6, 4], Sampling(steps, temperature=50.0)))
  seen = []
  while not made.idle:
    seen.append({u.id for u in made.step()})
  assert {'long', 'short'} in seen and {'long', 'next'} in seen
  assert not made.step()


def test_a_cache_that_grows_and_shrinks_keeps_what_rows_need():
  rng = np.random.default_rng(0)
  cache = [(rng.normal(size=(2, 1, 8, 2)), rng.normal(size=(2, 1, 8, 2)))]
  column = 5
  by_age = lambda cache, column, age: np.asarray(cache[0][0])[:, :, (column - age) % cache[0][0].shape[2]]
  for length in (4, 8, 12):
    other = decoding.resize(cache, column, length)
    for age in range(min(length, 8)):
      np.testing.assert_array_equal(by_age(other, column % length, age), by_age(cache, column, age).astype('f'))


def test_answers_are_the_same_while_the_cache_changes_its_length(monkeypatch):
  asked = [(i, x, Sampling(16 - 5 * i, temperature=1.0)) for i, x in enumerate(SHORT[:4])]
  expected = answers(asked, slots=2, eos_id=99)
  monkeypatch.setattr(pool, '_LEAST_CACHE', 4)
  lengths, original = [], pool.Pool._arrays
  monkeypatch.setattr(pool.Pool, '_arrays', lambda self: (
      lengths.append(self._cache[0][0].shape[2]), original(self))[1])
  found = answers(asked, slots=2, eos_id=99)
  assert {4, 16} <= set(lengths)
  assert {key: c[0].tokens for key, c in found.items()} == {key: c[0].tokens for key, c in expected.items()}


def test_cancelling_frees_the_slot_and_is_the_last_that_is_heard():
  made = make(slots=1, steps_per_call=1)
  made.add(Request('first', [5, 1], Sampling(16, temperature=50.0)))
  made.add(Request('queued', [5, 1], Sampling(2)))
  made.add(Request('last', [7, 1], Sampling(1)))
  assert {u.id for u in made.step()} == {'first'}
  made.cancel('first')
  made.cancel('queued')
  made.cancel('never heard of')
  assert {u.id for u in made.step()} == {'last'}
  assert made.idle and not made.step()
  made.add(Request('first', [5, 1], Sampling(1)))  # Its id is free again.
  assert {u.id for u in made.step()} == {'first'}


def test_one_sample_can_be_stopped_while_others_go_on():
  sampling = Sampling(6, temperature=1.5, num_samples=2, seed=1)
  whole = answers([(0, INPUTS[3], sampling)], steps_per_call=1)[0]
  made = make(steps_per_call=1)
  stop = lambda update: update.sample == 1
  [answer] = made.run([Request(0, INPUTS[3], sampling)], stop=stop)
  assert answer.completions[0] == whole[0]
  assert answer.completions[1].tokens == whole[1].tokens[:1]
  assert answer.completions[1].finish_reason == 'stop' and made.idle


def test_a_run_that_is_left_early_leaves_the_engine_empty():
  made = make(slots=2)
  run = made.run(Request(i, x, Sampling(4)) for i, x in enumerate(INPUTS))
  next(run)
  run.close()
  assert made.idle


def test_requests_are_drawn_as_room_comes_for_them():
  drawn = []

  def source():
    for i in range(50):
      drawn.append(i)
      yield Request(i, [5, 1], Sampling(1))

  made = make(slots=2, steps_per_call=1)
  run = made.run(source())
  next(run)
  assert len(drawn) <= 6
  assert [a.id for a in run] and len(drawn) == 50


def test_other_threads_add_and_cancel_while_one_steps():
  made, done, over = make(slots=3, steps_per_call=2), set(), threading.Event()

  def client(number):
    for i in range(8):
      made.add(Request((number, i), INPUTS[i % 7], Sampling(3, temperature=1.0, seed=i)))
      if i % 4 == 3:
        made.cancel((number, i))

  def drive():
    while not (over.is_set() and made.idle):
      done.update(u.id for u in made.step() if u.finish_reason)

  driver = threading.Thread(target=drive)
  driver.start()
  clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
  for thread in clients:
    thread.start()
  for thread in clients:
    thread.join()
  over.set()
  driver.join()
  assert done >= {(n, i) for n in range(4) for i in range(8) if i % 4 != 3}


def test_an_engine_that_failed_goes_on_with_what_was_not_begun(monkeypatch):
  made = make(slots=1)
  made.add(Request('lost', [5, 1], Sampling(4)))
  made.add(Request('kept', [6, 1], Sampling(4)))
  with monkeypatch.context() as patch:
    patch.setattr(pool.Pool, 'advance', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      made.step()
  while not made.idle:
    assert {u.id for u in made.step()} == {'kept'}


@pytest.mark.parametrize(('request_', 'message'), [
    (lambda: Request(0, [5, 1], Sampling(17)), 'max_decode_steps is more'),
    (lambda: Request(0, [5, 16, 1], Sampling(2)), 'does not know'),
    (lambda: Request(0, [], Sampling(2)), 'without inputs'),
    (lambda: Request(0, [5, 0, 1], Sampling(2)), 'no token'),
    (lambda: Request(0, 'text', Sampling(2)), 'not token ids'),
    (lambda: Request(0, [5], Sampling(0)), 'max_decode_steps'),
    (lambda: Request(0, [5], Sampling(temperature=-1)), 'temperature'),
    (lambda: Request(0, [5], Sampling(temperature=float('nan'))), 'temperature'),
    (lambda: Request(0, [5], Sampling(top_p=0.0)), 'top_p'),
    (lambda: Request(0, [5], Sampling(top_k=True)), 'top_k'),
    (lambda: Request(0, [5], Sampling(seed=-1)), 'seed'),
    (lambda: Request(0, [5], Sampling(num_samples=2)), 'would all be the same'),
    (lambda: Request(0, [5], Sampling(beam_size=2, temperature=1.0)), 'draws nothing'),
    (lambda: Request(0, [5], Sampling(beam_size=2, num_samples=3)), 'fewer beams'),
])
def test_what_cannot_be_answered_is_refused(request_, message):
  with pytest.raises(UserError, match=message):
    make().add(request_())


def test_an_id_is_refused_while_it_is_not_answered():
  made = make()
  made.add(Request('a', [5, 1], Sampling(2)))
  with pytest.raises(UserError, match='not answered yet'):
    made.add(Request('a', [5, 1], Sampling(2)))
  with pytest.raises(UserError, match='slots must'):
    make(slots=0)


def test_columns_of_inputs_are_few_and_hold_them():
  found = [engine.input_columns(n, 32) for n in range(1, 2049)]
  assert all(n <= columns < max(2 * n, 33) for n, columns in enumerate(found, start=1))
  assert len(set(found)) == 12 and all(columns % 32 == 0 for columns in found)


_ON_EIGHT_DEVICES = """
import engine_test as tests, jax
from flanjax import partitioning
from flanjax.inference.requests import Sampling
kinds = [Sampling(tests.STEPS), tests.DRAWN, Sampling(4, beam_size=2)]
asked = [(i, x, kinds[i % 3]) for i, x in enumerate(tests.SHORT)]
alone = tests.answers(asked, slots=3)
spread = tests.make(slots=3, mesh=partitioning.make_mesh(data=2, fsdp=2, model=2))
assert spread.slots == 4
found = tests.answers(asked, spread)
assert len(jax.devices()) == 8
assert {k: [c.tokens for c in v] for k, v in found.items()} == {k: [c.tokens for c in v] for k, v in alone.items()}
print('same')
"""


def test_a_mesh_of_eight_devices_gives_the_same_answers():
  environment = os.environ | {
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0',
      'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': os.pathsep.join([os.path.dirname(__file__), *sys.path])}
  found = subprocess.run(
      [sys.executable, '-c', _ON_EIGHT_DEVICES], env=environment, capture_output=True, text=True, check=False)
  assert found.stdout.strip() == 'same', found.stderr
