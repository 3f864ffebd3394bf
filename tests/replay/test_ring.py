"""The ring against Python lists that remember everything, each environment's and all together."""

import gc
import re

import numpy as np
import psutil
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import rng
from rlzoo.ops.returns import n_step_returns
from rlzoo.replay import Replay
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.types import Chunk
from tests.helpers import BOX, DISCRETE, IMAGE, chi_square_fits, random_chunk, tensors, xla

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
LENGTH, NUM_ENVS = 3, 2
LEAST = 2 * LENGTH * NUM_ENVS + NUM_ENVS  # rows that a chunk may need
NUMBERS = EnvSpec(Box((), "float32"), Discrete(2), 5)  # an observation is a number of its own
GAMMA = 0.9


class Stream:
    """Environments whose observations count up, so that each is recognisable; and their past."""

    def __init__(self, num_envs: int, seed: int, ends: float = 0.3):
        self.random = np.random.default_rng(seed)
        self.num_envs = num_envs
        self.ends = ends
        self.seen = 0.0
        self.at = self._fresh(num_envs)
        self.first = np.ones(num_envs, bool)
        self.steps: list[tuple] = []  # (env, obs, action, reward, discount, next_obs)
        self.paths: dict[int, list[list[int]]] = {n: [[]] for n in range(num_envs)}

    def _fresh(self, count: int) -> np.ndarray:
        self.seen += count
        return np.arange(self.seen - count, self.seen, dtype=np.float32)

    def chunk(self, length: int, valid: np.ndarray | None = None) -> Chunk:
        """Returns the next chunk; an environment that was not valid begins anew after it."""
        rows = []
        for t in range(length):
            alive = np.ones(self.num_envs, bool) if valid is None else valid[t]
            self.first |= ~alive if t and valid is not None and valid[t - 1].any() else False
            last = self.random.random(self.num_envs) < self.ends
            terminated = last & (self.random.random(self.num_envs) < 0.5)
            following = self._fresh(self.num_envs)
            action = self.random.integers(2, size=self.num_envs).astype(np.int32)
            reward = self.random.normal(size=self.num_envs).astype(np.float32)
            discount = 1.0 - terminated.astype(np.float32)
            row = self.at, action, reward, discount, last, self.first, following, alive
            rows.append([x.copy() for x in row])
            for n in np.flatnonzero(alive):
                if self.first[n] and self.paths[n][-1]:
                    self.paths[n].append([])
                self.paths[n][-1].append(len(self.steps))
                self.steps.append(
                    (self.at[n], action[n], reward[n], discount[n], following[n], last[n])
                )
                if last[n]:
                    self.paths[n].append([])
            new = self._fresh(self.num_envs)
            self.at = np.where(last, new, following)
            self.first = last.copy()
        return Chunk(*map(np.array, zip(*rows, strict=True)), extras={})

    def interrupt(self) -> None:
        """All environments begin anew, in the middle of their episodes."""
        self.at = self._fresh(self.num_envs)
        self.first = np.ones(self.num_envs, bool)


def held(replay: Replay) -> np.ndarray:
    return np.arange(int(replay.dropped), int(replay.added))


def assert_reads(replay: Replay, stream: Stream, n_step: int = 1) -> None:
    """Every step that is held comes back, with the n-step return of its environment's stream."""
    numbers = held(replay)
    assert int(replay.added) == len(stream.steps)
    assert len(numbers) == int(replay.size)
    if not len(numbers):
        return
    batch = replay.read(tf.constant(numbers, tf.int64), n_step, GAMMA)
    obs, action, *_ = (np.array(x) for x in zip(*(stream.steps[i] for i in numbers), strict=True))
    np.testing.assert_array_equal(batch.obs, obs)
    np.testing.assert_array_equal(batch.action, action)
    want = {}
    for paths in stream.paths.values():
        for path in filter(None, paths):
            columns = zip(*(stream.steps[i][2:] for i in path), strict=True)
            reward, discount, following, last = (np.array(x)[:, None] for x in columns)
            returns = n_step_returns(  # the value of an observation is its number
                *tensors((reward, np.float32(GAMMA) * discount, last, following)), n_step
            )
            want |= dict(zip(path, returns.numpy()[:, 0], strict=True))
    found = batch.reward + GAMMA * batch.discount * batch.next_obs
    np.testing.assert_allclose(found, [want[i] for i in numbers], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def rings():
    """Returns a ring of little more than a chunk's rows, compiled, for each number of rows."""
    made = {}

    def get(extra: int):
        if extra not in made:
            replay = Replay(NUMBERS, LEAST + extra)
            made[extra] = replay, xla(replay.add), arrays_of(replay)
        replay, add, fresh = made[extra]
        for name, variable in replay.variables().items():
            variable.assign(fresh[name])
        return replay, add

    return get


def arrays_of(replay: Replay) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in replay.variables().items()}


HISTORIES = {
    "seed": st.integers(0, 2**31),
    "extra": st.sampled_from([0, 1, 5, 40]),
    "ends": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "events": st.lists(st.sampled_from(["chunk", "interrupt", "padded", "nothing"]), max_size=12),
    "n_step": st.sampled_from([1, 2, 3, 7]),
}


@settings(max_examples=100, deadline=None)
@given(**HISTORIES)
def test_what_is_held_is_read_with_its_n_step_return(rings, seed, extra, ends, events, n_step):
    """Across ends, limits, interruptions, padding and the place where the ring is overwritten."""
    assert_history_is_read(rings, seed, extra, ends, events, n_step)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(**HISTORIES)
def test_so_it_is_in_thousands_of_histories(rings, seed, extra, ends, events, n_step):
    assert_history_is_read(rings, seed, extra, ends, events, n_step)


def assert_history_is_read(rings, seed, extra, ends, events, n_step) -> None:
    replay, add = rings(extra)
    stream = Stream(NUM_ENVS, seed, ends)
    for event in ["chunk", *events]:
        valid = None
        if event == "interrupt":
            stream.interrupt()
        elif event == "nothing":
            valid = np.zeros((LENGTH, NUM_ENVS), bool)
        elif event == "padded":  # as whole episodes are: valid up to some step
            valid = np.arange(LENGTH)[:, None] < stream.random.integers(0, LENGTH + 1, NUM_ENVS)
        add(tensors(stream.chunk(LENGTH, valid)))
        if valid is not None:
            stream.interrupt()
    assert_reads(replay, stream, n_step)


@pytest.mark.parametrize("extra", [0, 1, 40])
def test_nothing_is_given_up_before_it_must_be(extra):
    """Without ends a ring of C rows holds C - 2 N steps: N wait for a step, N go early."""
    replay, stream = Replay(NUMBERS, LEAST + extra), Stream(NUM_ENVS, 0, ends=0.0)
    for _ in range(40):
        replay.add(tensors(stream.chunk(LENGTH)))
    assert int(replay.size) >= replay.capacity - 2 * NUM_ENVS
    stream = Stream(NUM_ENVS, 0, ends=1.0)
    replay = Replay(NUMBERS, LEAST + extra)
    for _ in range(40):  # each step has a row for its end
        replay.add(tensors(stream.chunk(LENGTH)))
    assert int(replay.size) >= replay.capacity // 2 - 2 * NUM_ENVS


@pytest.mark.parametrize(("steps", "num_envs"), [(1, 1), (1, 2), (2, 1), (LENGTH, NUM_ENVS)])
def test_a_chunk_just_added_is_held_in_the_smallest_ring(steps, num_envs):
    """Also where each step ends an episode: else there would be nothing to draw."""
    replay, stream = Replay(NUMBERS, (2 * steps + 1) * num_envs), Stream(num_envs, 0, ends=1.0)
    for _ in range(6):
        replay.add(tensors(stream.chunk(steps)))
        assert int(replay.size) >= steps * num_envs


def test_observations_are_stored_once():
    replay, stream = Replay(NUMBERS, 100), Stream(NUM_ENVS, 0, ends=0.0)
    for _ in range(5):
        replay.add(tensors(stream.chunk(LENGTH)))
    assert int(replay.written) == 5 * LENGTH * NUM_ENVS + NUM_ENVS


def test_another_number_of_environments_goes_on_with_what_there_is():
    """As when a run goes on with another num_envs: the last observations stay successors."""
    replay, one = Replay(NUMBERS, 200), Stream(2, 0)
    for _ in range(3):
        replay.add(tensors(one.chunk(LENGTH)))
    other = Stream(3, 1)
    other.seen, other.at = 1_000.0, np.arange(900, 903, dtype=np.float32)
    for _ in range(3):
        replay.add(tensors(other.chunk(LENGTH)))
    batch = replay.read(tf.constant(held(replay), tf.int64))
    for i, want in enumerate(one.steps + other.steps):
        found = [x.numpy()[i] for x in batch]
        np.testing.assert_array_equal(found, want[:5])


def test_steps_that_are_not_valid_never_come_out():
    """Their rows hold NaN: one of them sampled would show."""
    replay = Replay(BOX, 40)
    for number in range(10):
        chunk = random_chunk(BOX, LENGTH, NUM_ENVS, seed=number)
        valid = np.random.default_rng(number).random((LENGTH, NUM_ENVS)) < 0.5
        for field in (chunk.obs, chunk.next_obs, chunk.reward):
            field[~valid] = np.nan
        replay.add(tensors(chunk._replace(valid=valid)))
        if int(replay.size):
            batch = replay.sample(200, rng.from_int(number))
            assert all(np.isfinite(field).all() for field in batch)
    assert np.isfinite(replay.obs).all() and np.isfinite(replay.reward).all()


@pytest.mark.parametrize("steps", [1, 5, 7, 10, 30])
def test_samples_are_uniform_over_what_is_held(steps):
    replay, stream = Replay(NUMBERS, 9), Stream(1, 0)
    for _ in range(steps):
        replay.add(tensors(stream.chunk(1)))
    numbers, weights = replay.draw(20_000, rng.from_int(1))
    assert np.all(weights.numpy() == 1.0)
    counts = np.bincount(numbers.numpy(), minlength=steps)
    want = np.zeros(steps)
    want[held(replay)] = 1 / int(replay.size)
    assert chi_square_fits(counts, want)


def test_the_seed_decides_a_sample():
    replay, stream = Replay(NUMBERS, 100), Stream(2, 0)
    replay.add(tensors(stream.chunk(10)))
    sample = xla(lambda seed: replay.sample(30, seed))
    one, same, other = (sample(rng.from_int(number)) for number in (1, 1, 2))
    tf.nest.map_structure(np.testing.assert_array_equal, one, same)
    tf.nest.map_structure(np.testing.assert_array_equal, one, replay.sample(30, rng.from_int(1)))
    assert not np.array_equal(one.obs, other.obs)


@pytest.mark.parametrize("dtype", ["bool", *FLOATS, *INTEGERS])
def test_observations_keep_their_dtype_to_the_last_bit(dtype):
    """The largest and smallest values of each type come back."""
    spec = BOX._replace(obs=Box((3,), dtype))
    chunk = random_chunk(spec, LENGTH, NUM_ENVS, seed=0)
    chunk.last[2, 1] = True
    if dtype != "bool":
        info = np.iinfo(dtype) if dtype in INTEGERS else np.finfo(dtype)
        chunk.obs[0, 0, :2] = chunk.next_obs[2, 1, :2] = info.min, info.max
    replay = Replay(spec, LEAST)
    xla(replay.add)(tensors(chunk))
    batch = replay.read(tf.range(6, dtype=tf.int64))
    for field, want in ((batch.obs, chunk.obs), (batch.next_obs, chunk.next_obs)):
        assert field.dtype == dtype
        np.testing.assert_array_equal(field.numpy()[[0, 5]], want.reshape(6, 3)[[0, 5]])


@pytest.mark.parametrize(
    "spec",
    [BOX, DISCRETE, IMAGE, BOX._replace(obs=Box((3,), "float64")), IMAGE._replace(frames=4)],
)
def test_predicted_bytes_are_those_of_the_variables(spec):
    replay = Replay(spec, 1_000)
    rows = [x.numpy().nbytes for x in replay.variables().values() if len(x.shape)]
    assert sum(rows) == Replay.predicted_bytes(spec, 1_000)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_hundred_thousand_frames_take_less_than_eight_tenths_of_a_gigabyte(frames):
    """Counted from the variables of a ring of a hundredth of them."""
    spec = EnvSpec(Box((84, 84), "uint8"), Discrete(18), 5, frames=frames)
    rows = [x.numpy().nbytes for x in Replay(spec, 1_000).variables().values() if len(x.shape)]
    assert 100 * sum(rows) == Replay.predicted_bytes(spec, 100_000) <= 0.8e9


def test_the_process_keeps_no_second_copy():
    """TensorFlow's allocator rounds large blocks up by some percent; a copy would be 100."""
    spec = EnvSpec(Box((84, 84, 4), "uint8"), Discrete(2), 5)
    replay = Replay(spec, 20)  # whatever is loaded at the first use
    replay.add(tensors(random_chunk(spec, 4, 2, seed=0)))
    gc.collect()
    before = psutil.Process().memory_info().rss
    replay = Replay(spec, 8_000)
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


def test_what_learning_takes_counts_and_the_largest_ring_that_fits_is_named():
    spec = EnvSpec(Box((84, 84, 4), "uint8"), Discrete(2), 5)
    free = psutil.virtual_memory().available
    beside = int(0.7 * free)
    with pytest.raises(
        ValueError, match=r"learning from it \d+ MiB.*lower replay_capacity to"
    ) as told:
        Replay(spec, free // (5 * 84 * 84 * 4), beside)  # a fifth of what is free
    largest = int(re.findall(r"to (\d+) or less", str(told.value))[0])
    taken = Replay.predicted_bytes(spec, largest)
    assert 0.05 * free < taken < 0.15 * free
    with pytest.raises(ValueError, match="lower batch_size, or take a smaller torso"):
        Replay(spec, 10, free)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_ring_of_nothing_is_refused(capacity):
    with pytest.raises(
        ValueError, match=f"replay_capacity must be at least 1, received {capacity}"
    ):
        Replay(BOX, capacity)


def test_a_chunk_larger_than_the_ring_is_refused_with_what_to_do():
    replay = Replay(BOX, LEAST - 1)
    with pytest.raises(ValueError, match=r"6 steps.*replay_capacity=13.*raise it to 14"):
        replay.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=0)))


@pytest.mark.parametrize("exponent", [0.0, 0.6])
def test_its_variables_are_all_that_it_is(exponent):
    replay, other = (Replay(BOX, 20, priority_exponent=exponent) for _ in range(2))
    for number in range(3):
        replay.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=number)))
        numbers, _ = replay.draw(5, rng.from_int(number))
        replay.prioritize(numbers, tf.range(5.0))
    for name, variable in other.variables().items():
        variable.assign(replay.variables()[name])
    for memory in (replay, other):
        memory.add(tensors(random_chunk(BOX, LENGTH, NUM_ENVS, seed=9)))
    one, two = (memory.sample(10, rng.from_int(0)) for memory in (replay, other))
    tf.nest.map_structure(np.testing.assert_array_equal, one, two)
