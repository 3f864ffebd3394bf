"""Replay against a Python list that remembers everything."""

import gc
import re

import numpy as np
import psutil
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo import replay as replay_module
from rlzoo.ops import rng
from rlzoo.replay import Replay, SequenceReplay
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.types import Sequences, Transitions
from tests.helpers import BOX, DISCRETE, IMAGE, chi_square_fits, random_chunk, tensors, xla

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
LENGTH, NUM_ENVS, CAPACITY = 3, 2, 7  # 6 steps a chunk: it wraps in the middle of one


def rows_of(chunk):
    """Yields the valid steps of a chunk in the order they belong in."""
    for t, n in np.ndindex(chunk.reward.shape):
        if chunk.valid[t, n]:
            yield tuple(getattr(chunk, field)[t, n] for field in Transitions._fields)


def assert_holds(replay, history):
    """Every place of the ring holds the newest transition that belongs there."""
    assert int(replay.added) == len(history)
    assert int(replay.size) == min(len(history), replay.capacity)
    rows = [row.numpy() for row in replay.rows]
    for number in range(max(0, len(history) - replay.capacity), len(history)):
        for row, want in zip(rows, history[number], strict=True):
            np.testing.assert_array_equal(row[number % replay.capacity], want)


def numbered(chunk, start):
    """Makes every step recognisable: its reward is its number."""
    shape = chunk.reward.shape
    return chunk._replace(reward=start + np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


@pytest.fixture(scope="module")
def ring():
    replay = Replay(BOX, CAPACITY)
    return replay, xla(replay.add)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2 ** (LENGTH * NUM_ENVS) - 1), min_size=1, max_size=8))
def test_the_ring_is_a_list_of_the_newest(ring, masks):
    """Whatever is valid, in compiled code: wraps, chunks with gaps, chunks of nothing."""
    replay, add = ring
    replay.added.assign(0)
    history = []
    for number, mask in enumerate(masks):
        chunk = numbered(random_chunk(BOX, LENGTH, NUM_ENVS, seed=number), 100 * number)
        bits = (mask >> np.arange(LENGTH * NUM_ENVS)) & 1
        chunk = chunk._replace(valid=bits.astype(bool).reshape(LENGTH, NUM_ENVS))
        add(tensors(chunk))
        history += rows_of(chunk)
        assert_holds(replay, history)


@pytest.mark.parametrize("capacity", [6, 8, 12, 13])
def test_a_ring_of_any_size_from_one_chunk_on(capacity):
    replay, history = Replay(BOX, capacity), []
    for number in range(6):
        chunk = numbered(random_chunk(BOX, LENGTH, NUM_ENVS, seed=number), 100 * number)
        replay.add(tensors(chunk))
        history += rows_of(chunk)
        assert_holds(replay, history)


def test_steps_that_are_not_valid_never_come_out():
    """Their rows hold NaN: one of them sampled would show."""
    replay = Replay(BOX, 20)
    for number in range(10):
        chunk = random_chunk(BOX, LENGTH, NUM_ENVS, seed=number)
        valid = np.random.default_rng(number).random((LENGTH, NUM_ENVS)) < 0.5
        for field in (chunk.obs, chunk.next_obs, chunk.reward):
            field[~valid] = np.nan
        replay.add(tensors(chunk._replace(valid=valid)))
        if int(replay.size):
            batch = replay.sample(200, rng.from_int(number))
            assert all(np.isfinite(field).all() for field in batch)
    assert all(np.isfinite(row).all() for row in replay.rows)


@pytest.mark.parametrize("held", [1, 5, 7, 10])
def test_samples_are_uniform_over_what_is_held(held):
    replay = Replay(BOX, CAPACITY)
    for number in range(held):
        chunk = random_chunk(BOX, 1, 1, seed=0)
        replay.add(tensors(chunk._replace(reward=np.full((1, 1), number, np.float32))))
    batch = replay.sample(20_000, rng.from_int(1))
    counts = np.bincount(batch.reward.numpy().astype(int), minlength=held)
    want = np.zeros(held)
    want[-CAPACITY:] = 1 / min(held, CAPACITY)
    assert chi_square_fits(counts, want)


def test_a_sample_is_whole_rows_that_the_seed_decides():
    replay = Replay(BOX, 20)
    chunk = numbered(random_chunk(BOX, 10, 2, seed=0), 0)
    replay.add(tensors(chunk))
    history = list(rows_of(chunk))
    sample = xla(lambda seed: replay.sample(30, seed))
    one, same, other = (sample(rng.from_int(number)) for number in (1, 1, 2))
    for number, row in enumerate(zip(*one, strict=True)):
        for found, want in zip(row, history[int(one.reward[number])], strict=True):
            np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(one.reward, same.reward)
    assert not np.array_equal(one.reward, other.reward)
    np.testing.assert_array_equal(one.reward, replay.sample(30, rng.from_int(1)).reward)


@pytest.mark.parametrize("dtype", ["bool", *FLOATS, *INTEGERS])
def test_observations_keep_their_dtype_to_the_last_bit(dtype):
    """Faults, row 19: the largest and smallest values of each type come back."""
    spec = BOX._replace(obs=Box((3,), dtype))
    chunk = random_chunk(spec, LENGTH, NUM_ENVS, seed=0)
    if dtype != "bool":
        info = np.iinfo(dtype) if dtype in INTEGERS else np.finfo(dtype)
        chunk.obs[0, 0, :2] = chunk.next_obs[2, 1, :2] = info.min, info.max
    replay = Replay(spec, 6)
    xla(replay.add)(tensors(chunk))
    for rows, field in ((replay.rows.obs, chunk.obs), (replay.rows.next_obs, chunk.next_obs)):
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows.numpy(), field.reshape(6, 3))
    batch = replay.sample(4, rng.from_int(0))
    assert batch.obs.dtype == batch.next_obs.dtype == dtype


@pytest.mark.parametrize("spec", [BOX, DISCRETE, IMAGE, BOX._replace(obs=Box((3,), "float64"))])
def test_predicted_bytes_are_those_of_the_variables(spec):
    replay = Replay(spec, 1_000)
    held = sum(row.numpy().nbytes for row in replay.rows)
    assert held == Replay.predicted_bytes(spec, 1_000)


def test_the_process_keeps_no_second_copy():
    """TensorFlow's allocator rounds large blocks up by some percent; a copy would be 100."""
    spec = EnvSpec(Box((84, 84, 4), "uint8"), Discrete(2), 5)
    replay = Replay(spec, 8)  # whatever is loaded at the first use
    replay.add(tensors(random_chunk(spec, 4, 2, seed=0)))
    gc.collect()
    before = psutil.Process().memory_info().rss
    replay = Replay(spec, 4_000)
    replay.add(tensors(random_chunk(spec, 4, 2, seed=0)))
    taken = psutil.Process().memory_info().rss - before
    assert taken < 1.2 * Replay.predicted_bytes(spec, replay.capacity)


def test_a_ring_that_does_not_fit_the_free_memory_is_refused_with_one_that_does():
    spec = EnvSpec(Box((84, 84, 4), "uint8"), Discrete(2), 5)
    free = psutil.virtual_memory().available
    capacity = int(0.9 * free / Replay.predicted_bytes(spec, 1))
    with pytest.raises(ValueError, match=r"80 % of the .*lower replay_capacity to (\d+)") as caught:
        Replay(spec, capacity)
    offer = int(str(caught.value).split("lower replay_capacity to ")[1].split()[0])
    assert offer / capacity == pytest.approx(8 / 9, rel=0.1)
    assert str(capacity) in str(caught.value)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_of_nothing_is_refused(capacity):
    with pytest.raises(
        ValueError, match=f"replay_capacity must be at least 1, received {capacity}"
    ):
        Replay(BOX, capacity)


def test_a_chunk_larger_than_the_ring_is_refused_with_what_to_do():
    replay = Replay(BOX, 5)
    with pytest.raises(ValueError, match=r"6 steps.*replay_capacity=5.*train_every or num_envs"):
        replay.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=0)))


def test_its_variables_are_all_that_it_is():
    replay, other = Replay(BOX, CAPACITY), Replay(BOX, CAPACITY)
    for number in range(3):
        replay.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=number)))
    names = {*Transitions._fields, "added"}
    assert set(replay.variables()) == names
    for name, variable in other.variables().items():
        variable.assign(replay.variables()[name])
    for memory in (replay, other):
        memory.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=9)))
    one, two = (memory.sample(10, rng.from_int(0)) for memory in (replay, other))
    tf.nest.map_structure(np.testing.assert_array_equal, one, two)


# Sequences


def sequences(capacity=12):
    """Returns room for `capacity` // LENGTH sequences, with a memory of 4 and 2 numbers."""
    return SequenceReplay(BOX, capacity, LENGTH, (tf.zeros((1, 4)), tf.zeros((1, 2))))


def sequence_chunk(number):
    """Returns a chunk whose rewards, and the memory before it, tell which it is."""
    chunk = numbered(random_chunk(BOX, LENGTH, NUM_ENVS, seed=number), 100 * number)
    state = tuple(
        np.full((NUM_ENVS, size), number, np.float32) + np.arange(NUM_ENVS, dtype="f4")[:, None]
        for size in (4, 2)
    )
    return chunk, state


def rows_of_sequences(number):
    """Returns every field, [N, T, ...], and the memory, as they belong into the ring."""
    chunk, state = sequence_chunk(number)
    names = [name for name in Sequences._fields if name != "state"]
    return [getattr(chunk, name).swapaxes(0, 1) for name in names] + list(state)


@pytest.mark.parametrize("capacity", [6, 7, 12, 15])
def test_the_ring_of_sequences_is_a_list_of_the_newest(capacity):
    replay = sequences(capacity)
    add = xla(replay.add)
    history = []
    assert replay.capacity == capacity // LENGTH
    for number in range(5):
        chunk, state = sequence_chunk(number)
        add(tensors(chunk), *map(tf.constant, state))
        history += zip(*rows_of_sequences(number), strict=True)
        assert int(replay.size) == LENGTH * min(len(history), replay.capacity)
        rows = [*replay.rows[:-1], *replay.rows.state]
        for i in range(max(0, len(history) - replay.capacity), len(history)):
            for row, want in zip(rows, history[i], strict=True):
                np.testing.assert_array_equal(row[i % replay.capacity], want)


def test_a_sample_is_whole_sequences_time_first():
    replay = sequences(60)
    for number in range(4):
        chunk, state = sequence_chunk(number)
        replay.add(tensors(chunk), *map(tf.constant, state))
    history = [row for i in range(4) for row in zip(*rows_of_sequences(i), strict=True)]
    batch = xla(lambda seed: replay.sample(3_000, seed))(rng.from_int(0))
    assert batch.reward.shape == (LENGTH, 1_000)
    found = (batch.reward[0].numpy() // 100 * NUM_ENVS + batch.reward[0].numpy() % 100).astype(int)
    for b in range(1_000):
        fields = [x[:, b] for x in batch[:-1]] + [x[b] for x in batch.state]
        for field, want in zip(fields, history[found[b]], strict=True):
            np.testing.assert_array_equal(field, want)
    assert chi_square_fits(np.bincount(found, minlength=8), np.full(8, 1 / 8))
    again, other = (replay.sample(3_000, rng.from_int(number)) for number in (0, 1))
    np.testing.assert_array_equal(batch.reward, again.reward)
    assert not np.array_equal(batch.reward, other.reward)


def test_a_sequence_of_padding_takes_no_place():
    replay = sequences()
    chunk, state = sequence_chunk(1)
    valid = np.stack([np.zeros(LENGTH, bool), np.arange(LENGTH) == 0], axis=1)
    xla(replay.add)(tensors(chunk._replace(valid=valid)), *map(tf.constant, state))
    assert int(replay.size) == LENGTH
    np.testing.assert_array_equal(replay.rows.reward[0], chunk.reward[:, 1])
    np.testing.assert_array_equal(replay.rows.state[0][0], state[0][1])
    assert not np.any(replay.rows.reward[1:])


def test_what_learning_takes_counts_and_the_largest_ring_that_fits_is_named():
    spec = EnvSpec(Box((84, 84, 4), "uint8"), Discrete(2), 5)
    free = psutil.virtual_memory().available
    beside = int(0.7 * free)
    with pytest.raises(
        ValueError, match=r"learning from it \d+ MiB.*lower replay_capacity to"
    ) as told:
        Replay(spec, free // (5 * 2 * 84 * 84 * 4), beside)  # a fifth of what is free
    largest = int(re.findall(r"to (\d+) or less", str(told.value))[0])
    taken = Replay.predicted_bytes(spec, largest)
    assert 0.05 * free < taken < 0.15 * free
    with pytest.raises(ValueError, match="lower batch_size, or take a smaller torso"):
        Replay(spec, 10, free)


def test_the_memory_that_sequences_take_is_predicted(monkeypatch):
    told = []
    monkeypatch.setattr(
        replay_module, "_check_memory", lambda wanted, _, beside: told.append(wanted)
    )
    replay = sequences(3 * 100)
    held = sum(x.numpy().nbytes for x in [*replay.rows[:-1], *replay.rows.state])
    assert told[0] == pytest.approx(held, rel=0.05)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (5, 1), (6, 2), (8, 2)])
def test_a_sample_is_at_least_one_sequence(asked, given):
    replay = sequences()
    replay.add(tensors(sequence_chunk(0)[0]), *map(tf.constant, sequence_chunk(0)[1]))
    assert replay.sample(asked, rng.from_int(0)).reward.shape == (LENGTH, given)


def test_sequences_that_do_not_fit_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"replay_capacity=2 .*train_every=3.*lower train_every"):
        sequences(2)
    replay = sequences(4)
    chunk, state = sequence_chunk(0)
    with pytest.raises(ValueError, match=r"2 environments, 3 steps.*replay_capacity=3.*num_envs"):
        replay.add(tensors(chunk), *map(tf.constant, state))
    with pytest.raises(ValueError, match=r"replay_capacity=3000000000000 needs .* lower"):
        sequences(3 * 10**12)


def test_the_variables_of_sequences_are_all_that_they_are():
    replay, other = sequences(), sequences()
    for number in range(3):
        chunk, state = sequence_chunk(number)
        replay.add(tensors(chunk), *map(tf.constant, state))
    for name, variable in other.variables().items():
        variable.assign(replay.variables()[name])
    one, two = (memory.sample(9, rng.from_int(0)) for memory in (replay, other))
    tf.nest.map_structure(np.testing.assert_array_equal, one, two)
    assert int(other.added) == 6
