"""The ring of sequences against a Python list that remembers everything."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.replay import SequenceReplay
from rlzoo.replay import sequences as sequences_module
from rlzoo.types import Sequences
from tests.helpers import BOX, chi_square_fits, random_chunk, tensors, xla

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
LENGTH, NUM_ENVS, CAPACITY = 3, 2, 7  # 6 steps a chunk: it wraps in the middle of one


def numbered(chunk, start):
    """Makes every step recognisable: its reward is its number."""
    shape = chunk.reward.shape
    return chunk._replace(reward=start + np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


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


def test_the_memory_that_sequences_take_is_predicted(monkeypatch):
    told = []
    monkeypatch.setattr(
        sequences_module, "check_free", lambda wanted, _, beside: told.append(wanted)
    )
    replay = sequences(3 * 100)
    held = sum(x.numpy().nbytes for x in [*replay.rows[:-1], *replay.rows.state])
    assert told == [held]


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
    assert int(other.written) == 6 and int(other.added) == 6 * LENGTH
