"""Sequences in the ring against Python lists that remember every chunk."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import rng
from rlzoo.ops.returns import n_step_returns
from rlzoo.replay import Replay
from rlzoo.types import Chunk
from tests.helpers import chi_square_fits, tensors, xla
from tests.replay.test_ring import GAMMA, LEAST, LENGTH, NUM_ENVS, NUMBERS, Stream, held

STATE = tf.zeros((1, 4)), tf.zeros((1, 2))


def sequences(capacity: int, exponent: float = 0.0) -> Replay:
    return Replay(NUMBERS, capacity, 0, exponent, LENGTH, STATE)


class Sequence(NamedTuple):
    """What one environment did in one chunk, [L], and the memory it began with."""

    chunk: Chunk
    state: list[np.ndarray]


class Past:
    """A stream of chunks and memories, and the sequences that they are."""

    def __init__(self, seed: int = 0, ends: float = 0.3):
        self.stream = Stream(NUM_ENVS, seed, ends)
        self.chunks = 0
        self.sequences: list[Sequence] = []

    def chunk(self, valid: np.ndarray | None = None) -> tuple:
        """Returns the next chunk and the memory before it, as `Replay.add` takes them."""
        chunk = self.stream.chunk(LENGTH, valid)
        self.chunks += 1
        number = np.arange(NUM_ENVS, dtype=np.float32)[:, None] + 100 * self.chunks
        state = [number + np.zeros(x.shape[1], np.float32) for x in STATE]
        for n in range(NUM_ENVS):
            if chunk.valid[:, n].any():
                own = Chunk(*(x[:, n] for x in chunk[:8]), extras={})
                began = [np.where(chunk.first[0, n], 0.0, x[n]) for x in state]
                self.sequences.append(Sequence(own, began))
        return tensors((chunk, *state))


def assert_reads(replay: Replay, past: Past, n_step: int = 1) -> None:
    """Every sequence that is held comes back, with the n-step returns within it."""
    numbers = held(replay)
    assert int(replay.added) == len(past.sequences)
    assert len(numbers) == int(replay.size)
    if not len(numbers):
        return
    batch = replay.read(tf.constant(numbers, tf.int64), n_step, GAMMA)
    assert batch.reward.shape == (LENGTH, len(numbers))
    for b, number in enumerate(numbers):
        chunk, state = past.sequences[number]
        valid = chunk.valid
        for found, want in zip(batch.state, state, strict=True):
            np.testing.assert_array_equal(found[b], want)
        np.testing.assert_array_equal(batch.valid[:, b], valid)
        for name in ("obs", "action"):
            found, want = getattr(batch, name).numpy()[valid, b], getattr(chunk, name)[valid]
            np.testing.assert_array_equal(found, want)
        begins = chunk.first[1:] | ~valid[:-1]  # what comes after padding is not what was before
        np.testing.assert_array_equal(batch.first[1:, b].numpy()[valid[1:]], begins[valid[1:]])
        assert not batch.first[0, b], "the memory is that of an episode that begins there"
        last = chunk.last | np.append(begins | ~valid[1:], True)
        columns = chunk.reward, np.float32(GAMMA) * chunk.discount, last, chunk.next_obs
        returns = n_step_returns(*tensors([x[:, None] for x in columns]), n_step)
        found = (batch.reward + GAMMA * batch.discount * batch.next_obs)[:, b].numpy()
        np.testing.assert_allclose(found[valid], returns[:, 0].numpy()[valid], rtol=1e-5, atol=1e-5)
        for t in np.flatnonzero(valid):
            end = next(i for i in range(t, LENGTH) if last[i] or i == t + n_step - 1)
            assert batch.until[t, b] == end
            assert batch.next_obs[t, b] == chunk.next_obs[end]


@pytest.fixture(scope="module")
def rings():
    """Returns a ring of little more than a chunk's rows, compiled, for each number of rows."""
    made = {}

    def get(extra: int):
        if extra not in made:
            replay = sequences(LEAST + extra)
            fresh = {name: variable.numpy() for name, variable in replay.variables().items()}
            made[extra] = replay, xla(replay.add), fresh
        replay, add, fresh = made[extra]
        for name, variable in replay.variables().items():
            variable.assign(fresh[name])
        return replay, add

    return get


HISTORIES = {
    "seed": st.integers(0, 2**31),
    "extra": st.sampled_from([0, 1, 5, 40]),
    "ends": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "events": st.lists(
        st.sampled_from(["chunk", "interrupt", "lost", "padded", "nothing"]), max_size=12
    ),
    "n_step": st.sampled_from([1, 2, 3, 7]),
}


@settings(max_examples=100, deadline=None)
@given(**HISTORIES)
def test_what_is_held_is_read_as_it_was(rings, seed, extra, ends, events, n_step):
    """Across ends, limits, interruptions, padding and the place where the ring is overwritten."""
    assert_history_is_read(rings, seed, extra, ends, events, n_step)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(**HISTORIES)
def test_so_it_is_in_thousands_of_histories(rings, seed, extra, ends, events, n_step):
    assert_history_is_read(rings, seed, extra, ends, events, n_step)


def assert_history_is_read(rings, seed, extra, ends, events, n_step) -> None:
    replay, add = rings(extra)
    past = Past(seed, ends)
    for event in ["chunk", *events]:
        valid = None
        if event == "interrupt":
            past.stream.interrupt()
        elif event == "nothing":
            valid = np.zeros((LENGTH, NUM_ENVS), bool)
        elif event == "lost":  # environments that fail in the middle, and begin anew
            valid = past.stream.random.random((LENGTH, NUM_ENVS)) < 0.6
        elif event == "padded":  # as whole episodes are: valid up to some step
            valid = np.arange(LENGTH)[:, None] < past.stream.random.integers(0, 4, NUM_ENVS)
        before = len(past.sequences)
        add(*past.chunk(valid))
        assert int(replay.dropped) <= before, "a chunk just added is held"
        if event in ("nothing", "padded"):
            past.stream.interrupt()
    assert_reads(replay, past, n_step)


@pytest.mark.parametrize("extra", [0, 1, 40])
def test_nothing_is_given_up_before_it_must_be(extra):
    """Beside the chunk that is being overwritten, and N sequences that go early."""
    for ends, rows in ((0.0, LENGTH), (1.0, 2 * LENGTH)):
        replay, past = sequences(LEAST + extra), Past(ends=ends)
        for _ in range(40):
            replay.add(*past.chunk())
        whole = (replay.capacity - NUM_ENVS) // (rows * NUM_ENVS)  # chunks that fit
        assert int(replay.size) >= NUM_ENVS * max(1, whole - 1)


def test_short_sequences_are_held_as_many_as_there_are_places_for():
    """Of one step and its end each: their rows are fewer than those of whole sequences."""
    replay, past = sequences(54), Past()
    for _ in range(20):
        replay.add(*past.chunk(np.arange(LENGTH)[:, None] < [1, 1]))
        past.stream.interrupt()
    assert int(replay.size) == replay.most == 18  # though 54 rows are those of 27
    assert_reads(replay, past)


def test_observations_are_stored_once():
    replay, past = sequences(100), Past(ends=0.0)
    for _ in range(5):
        replay.add(*past.chunk())
    assert int(replay.written) == 5 * LENGTH * NUM_ENVS + NUM_ENVS
    assert int(replay.steps) == 5 * LENGTH * NUM_ENVS


def test_sequences_of_one_step_are_sequences():
    replay, stream = Replay(NUMBERS, 40, 0, 0.0, 1, STATE), Stream(NUM_ENVS, 0, ends=0.0)
    for number in range(5):
        replay.add(
            *tensors((stream.chunk(1), *(np.full((2, x.shape[1]), number, "f4") for x in STATE)))
        )
    batch = replay.read(tf.constant([1, 8], tf.int64), 3, GAMMA)
    obs = [stream.steps[i][0] for i in (1, 8)]
    following = [stream.steps[i][4] for i in (1, 8)]  # no step after it: the sequence ends there
    np.testing.assert_array_equal(batch.obs, [obs])
    np.testing.assert_array_equal(batch.next_obs, [following])
    np.testing.assert_array_equal(batch.state[0], [[0.0] * 4, [4.0] * 4])


def test_a_sample_is_whole_sequences_time_first():
    replay, past = sequences(200), Past()
    for _ in range(4):
        replay.add(*past.chunk())
    batch = xla(lambda seed: replay.sample(3_000, seed))(rng.from_int(0))
    assert batch.reward.shape == (LENGTH, 1_000)
    begins = [sequence.chunk.obs[0] for sequence in past.sequences]
    found = np.searchsorted(begins, batch.obs[0])  # observations count up
    want = [sequence.chunk.obs for sequence in past.sequences]
    np.testing.assert_array_equal(batch.obs, np.stack([want[i] for i in found], axis=1))
    assert chi_square_fits(np.bincount(found, minlength=8), np.full(8, 1 / 8))
    again, other = (replay.sample(3_000, rng.from_int(number)) for number in (0, 1))
    np.testing.assert_array_equal(batch.reward, again.reward)
    assert not np.array_equal(batch.reward, other.reward)


def test_a_sequence_of_padding_takes_no_place():
    replay, past = sequences(40), Past(ends=0.0)
    valid = np.stack([np.zeros(LENGTH, bool), np.arange(LENGTH) == 0], axis=1)
    xla(replay.add)(*past.chunk(valid))
    assert int(replay.size) == 1 and int(replay.written) == 2
    assert_reads(replay, past)


def test_the_memory_that_sequences_take_is_predicted():
    replay = sequences(100)
    rows = [x.numpy().nbytes for x in replay.variables().values() if len(x.shape)]
    assert sum(rows) == Replay.predicted_bytes(NUMBERS, 100, LENGTH, STATE)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (5, 1), (6, 2), (8, 2)])
def test_a_sample_is_at_least_one_sequence(asked, given):
    replay = sequences(40)
    replay.add(*Past().chunk())
    assert replay.sample(asked, rng.from_int(0)).reward.shape == (LENGTH, given)


def test_sequences_that_do_not_fit_are_refused_with_what_to_do():
    with pytest.raises(
        ValueError, match=r"3 steps.*replay_capacity=6: raise it to 7 .*train_every"
    ):
        sequences(6)
    with pytest.raises(ValueError, match=r"6 steps.*replay_capacity=13: raise it to 14.*num_envs"):
        sequences(LEAST - 1).add(*Past().chunk())
    with pytest.raises(ValueError, match=r"replay_capacity=3000000000000 needs .* lower"):
        sequences(3 * 10**12)
    with pytest.raises(ValueError, match="Expected chunks of 3 steps, received one of 2"):
        chunk, *state = Past().chunk()
        sequences(40).add(tf.nest.map_structure(lambda x: x[:2], chunk), *state)


def test_the_priority_of_a_sequence_is_most_of_its_largest_error_and_some_of_its_mean():
    """Errors 1, -4, 1: 0.9 * 4 + 0.1 * 2 = 3.8. None but 0.6: 0.9 * 0.6 + 0.1 * 0.2 = 0.56."""
    replay = sequences(40, exponent=1.0)
    replay.add(*Past().chunk())
    errors = tf.constant([[1.0, 0.0], [-4.0, 0.6], [1.0, 0.0]])
    replay.prioritize(tf.constant([0, 1], tf.int64), errors)
    np.testing.assert_allclose(replay.priorities.values[:2], [3.8, 0.56], rtol=1e-4)
    drawn, weights = (x.numpy() for x in replay.draw(3 * 4_000, rng.from_int(0), 1.0))
    likely = 3.8 / (3.8 + 0.56)
    assert chi_square_fits(np.bincount(drawn, minlength=2), [likely, 1 - likely])
    np.testing.assert_allclose(weights[drawn == 1], 1.0, rtol=1e-4)
    np.testing.assert_allclose(weights[drawn == 0], 0.56 / 3.8, rtol=1e-4)


@pytest.mark.parametrize("capacity", [LEAST, 50])
def test_sequences_are_drawn_by_the_errors_of_those_that_are_held(capacity):
    replay, past = sequences(capacity, exponent=1.0), Past()
    add = xla(replay.add)
    for _ in range(20):
        add(*past.chunk())
        numbers = held(replay)
        error = np.broadcast_to(1.0 + numbers % 3, (LENGTH, len(numbers))).astype(np.float32)
        replay.prioritize(tf.constant(numbers, tf.int64), tf.constant(error))
    want = (1.0 + numbers % 3) / np.sum(1.0 + numbers % 3)
    drawn, _ = replay.draw(3 * 20_000, rng.from_int(1))
    assert chi_square_fits(np.bincount(drawn.numpy() - numbers[0], minlength=len(numbers)), want)


@pytest.mark.parametrize("exponent", [0.0, 0.6])
def test_the_variables_of_sequences_are_all_that_they_are(exponent):
    replay, other, past = sequences(20, exponent), sequences(20, exponent), Past()
    for number in range(3):
        replay.add(*past.chunk())
        numbers, _ = replay.draw(9, rng.from_int(number))
        replay.prioritize(numbers, tf.reshape(tf.range(9.0), (3, 3)))
    for name, variable in other.variables().items():
        variable.assign(replay.variables()[name])
    chunk = past.chunk()
    for memory in (replay, other):
        memory.add(*chunk)
    one, two = (memory.sample(9, rng.from_int(0)) for memory in (replay, other))
    tf.nest.map_structure(np.testing.assert_array_equal, one, two)
