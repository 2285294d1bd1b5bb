import numpy as np
import pytest

from flanjax.input import draws, packing


def _schedule(sizes, shares, seed=0):
  return draws.DrawSchedule([f't{i}' for i in range(len(sizes))], sizes, shares, seed)


@pytest.mark.parametrize('size', [1, 2, 3, 7, 64, 1_000, 4_099])
def test_permute_is_a_bijection(size):
  images = draws.permute(np.arange(size), size, key=12)
  assert sorted(images.tolist()) == list(range(size))


def test_permute_sends_an_index_anywhere_with_equal_chance():
  keys = draws.mix64(np.arange(20_000))
  images = draws.permute(np.full(20_000, 5), 100, keys)
  counts = np.bincount(images, minlength=100)
  assert ((counts - 200) ** 2 / 200).sum() < 150  # 99 degrees of freedom: 0.9995 lie below


def test_permute_keeps_no_order():
  images = draws.permute(np.arange(30_000), 30_000, key=3)
  assert abs(np.corrcoef(np.arange(30_000), images)[0, 1]) < 0.03
  assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 0.03


def test_whole_draws_add_up_and_leave_nobody_out():
  shares = np.array([0.7, 0.2, 0.0999, 0.0001])
  counts = draws.whole_draws(shares, 4_096)
  assert counts.sum() == 4_096
  assert counts.min() == 1
  assert np.abs(counts - shares * 4_096).max() < 1.5


def test_a_cycle_is_longer_where_a_task_is_rare():
  assert draws.cycle_length([0.5, 0.5]) == draws.MIN_CYCLE
  assert draws.cycle_length([0.999, 0.001]) == 65_536


def test_draws_match_the_rates_in_every_window():
  shares = np.array([0.5, 0.3, 0.15, 0.05])
  schedule = _schedule([1_000] * 4, shares)
  for start in (0, 777, 10 * schedule.cycle - 100, 123_456_789):
    counts = np.bincount(schedule(start, start + 1_000).tasks, minlength=4)
    assert np.abs(counts - 1_000 * shares).max() <= 3
  a_cycle = np.bincount(schedule(0, schedule.cycle).tasks, minlength=4)
  assert np.allclose(a_cycle / schedule.cycle, schedule.shares)


def test_every_example_is_used_once_before_any_is_used_twice():
  schedule = _schedule([700, 130], [0.6, 0.4])
  made = schedule(0, 3 * schedule.cycle)
  for task, size in enumerate([700, 130]):
    examples = made.examples[made.tasks == task]
    for epoch in range(len(examples) // size):
      part = examples[epoch * size : (epoch + 1) * size]
      assert sorted(part.tolist()) == list(range(size))
    first, second = examples[:size], examples[size : 2 * size]
    assert not np.array_equal(first, second)


def test_draws_do_not_depend_on_how_they_are_asked_for():
  schedule = _schedule([90, 500, 7], [0.2, 0.5, 0.3])
  whole = schedule(4_000, 9_000)
  again = _schedule([90, 500, 7], [0.2, 0.5, 0.3])
  parts = [again(a, a + 500) for a in range(8_500, 3_999, -500)][::-1]
  assert np.array_equal(whole.tasks, np.concatenate([p.tasks for p in parts]))
  assert np.array_equal(whole.examples, np.concatenate([p.examples for p in parts]))


def test_another_seed_gives_another_order():
  one, two = (_schedule([90, 500], [0.5, 0.5], seed)(0, 200) for seed in (1, 2))
  assert not np.array_equal(one.tasks, two.tasks)
  assert not np.array_equal(one.examples, two.examples)


def test_a_task_keeps_its_order_when_neighbours_change():
  alone = draws.DrawSchedule(['a'], [300], [1.0], seed=4)(0, 300).examples
  both = draws.DrawSchedule(['b', 'a'], [50, 300], [0.5, 0.5], seed=4)(0, 600)
  assert np.array_equal(both.examples[both.tasks == 1], alone[: (both.tasks == 1).sum()])


def _lengths(count, seed=0, mean=(160, 20), most=(512, 128)):
  rng = np.random.default_rng(seed)
  sides = [np.clip(rng.lognormal(np.log(m) - 0.3, 0.8, count), 1, c) for m, c in zip(mean, most)]
  return np.stack(sides, axis=1).astype(np.int64)


def _filled(lengths, rows, num_rows):
  return np.stack([np.bincount(rows, lengths[: len(rows), i], num_rows) for i in (0, 1)], axis=1)


def test_no_row_is_overfull_and_rows_are_nearly_full():
  lengths = _lengths(2_000)
  rows = packing.fill_rows(lengths, (512, 128), 256)
  tokens = _filled(lengths, rows, 256)
  assert (tokens <= [512, 128]).all()
  assert tokens[:, 0].mean() / 512 > 0.97


def test_both_sides_limit_where_both_are_long():
  lengths = _lengths(2_000, mean=(160, 45))
  rows = packing.fill_rows(lengths, (512, 128), 256)
  tokens = _filled(lengths, rows, 256)
  assert (tokens <= [512, 128]).all()
  assert (tokens.mean(axis=0) / [512, 128]).max() > 0.75


def test_what_is_left_out_is_the_end_whatever_its_length():
  lengths = _lengths(3_000)
  rows = packing.fill_rows(lengths, (512, 128), 256)
  assert (rows >= 0).all() and len(rows) < 3_000
  shorter = packing.fill_rows(lengths[: len(rows)], (512, 128), 256)
  assert np.array_equal(rows, shorter)


def test_some_way_fills_rows_of_many_examples_with_both_sides():
  lengths = _lengths(6_000, mean=(40, 8))
  rows = packing.fill_rows(lengths, (512, 128), 256)
  tokens = _filled(lengths, rows, 256)
  assert (tokens <= [512, 128]).all()
  assert (tokens.mean(axis=0) / [512, 128]).max() > 0.96


def test_best_fit_says_when_something_has_no_room():
  assert packing.best_fit(np.array([[5, 1], [6, 1]]), (10, 4), 1) is None
  assert packing.best_fit(np.array([[5, 3], [5, 2]]), (10, 4), 1) is None
  assert packing.best_fit(np.array([[5, 2], [5, 2]]), (10, 4), 1).tolist() == [0, 0]
  assert packing.best_fit(np.zeros((0, 2)), (10, 4), 1).tolist() == []


def test_batch_arrays_lay_out_two_examples_in_a_row():
  batch = packing.batch_arrays(
      inputs=np.array([7, 8, 1, 9, 1, 4, 1], np.int32),
      targets=np.array([5, 1, 6, 1, 3, 1], np.int32),
      lengths=np.array([[3, 2], [2, 2], [2, 2]]),
      row_starts=np.array([0, 2, 2, 3]),
      feature_lengths=(6, 5),
      packed=True,
  )
  rows = {key: value.tolist() for key, value in batch.items()}
  empty = [[0] * 6, [0] * 5]
  assert rows['encoder_input_tokens'] == [[7, 8, 1, 9, 1, 0], empty[0], [4, 1, 0, 0, 0, 0]]
  assert rows['encoder_segment_ids'] == [[1, 1, 1, 2, 2, 0], empty[0], [1, 1, 0, 0, 0, 0]]
  assert rows['encoder_positions'] == [[0, 1, 2, 0, 1, 0], empty[0], [0, 1, 0, 0, 0, 0]]
  assert rows['decoder_target_tokens'] == [[5, 1, 6, 1, 0], empty[1], [3, 1, 0, 0, 0]]
  assert rows['decoder_input_tokens'] == [[0, 5, 0, 6, 0], empty[1], [0, 3, 0, 0, 0]]
  assert rows['decoder_segment_ids'] == [[1, 1, 2, 2, 0], empty[1], [1, 1, 0, 0, 0]]
  assert rows['decoder_positions'] == [[0, 1, 0, 1, 0], empty[1], [0, 1, 0, 0, 0]]
  assert rows['decoder_loss_weights'] == [[1, 1, 1, 1, 0], empty[1], [1, 1, 0, 0, 0]]
  types = {key: value.dtype for key, value in batch.items()}
  assert types.pop('decoder_loss_weights') == np.float32
  assert set(types.values()) == {np.dtype(np.int32)}
