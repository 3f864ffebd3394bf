"""Stacks read from the ring, against lists of each episode's observations."""

import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import rng, stacks
from rlzoo.replay import Replay
from rlzoo.spaces import Box, Discrete, EnvSpec, leaves
from rlzoo.types import Chunk, Memory
from tests.helpers import BOX, PARTS, random_chunk, tensors, xla
from tests.replay.test_ring import GAMMA, NUMBERS, held

LENGTH, NUM_ENVS = 3, 2


def least(frames: int, length: int = LENGTH) -> int:
    """Returns the rows that a chunk and the frames before it may need."""
    return NUM_ENVS * (2 * length + 1 + 2 * (frames - 1))


class Step:
    """A step, with the stacks that a network saw before and after it."""

    def __init__(self, env: int, seen: list, action, reward, discount, last, following: list):
        self.env, self.seen, self.action, self.reward = env, seen, action, reward
        self.discount, self.last, self.following = discount, last, following
        self.after: Step | None = None  # in its episode, if it was taken


class Past:
    """Environments whose observations count up, and every step that was taken in them.

    An environment may fail: that row is not valid, and it begins anew after it, as `Envs` do.
    """

    def __init__(self, frames: int, seed: int = 0, ends: float = 0.3, fails: float = 0.0):
        self.frames, self.ends, self.fails = frames, ends, fails
        self.random = np.random.default_rng(seed)
        self.seen = 0
        self.steps: list[Step] = []
        self.windows: list[list[Step | None]] = []  # of sequences, [L] each
        self.begin()

    def begin(self) -> None:
        """All environments begin an episode."""
        self.at = self._fresh()
        self.first = np.ones(NUM_ENVS, bool)
        self.episodes: list[list[float]] = [[] for _ in range(NUM_ENVS)]
        self.newest: list[Step | None] = [None] * NUM_ENVS

    def _fresh(self) -> np.ndarray:
        self.seen += NUM_ENVS
        return np.arange(self.seen - NUM_ENVS, self.seen, dtype=np.float32)

    def _stack(self, observations: list[float]) -> list[float]:
        return ([observations[0]] * (self.frames - 1) + observations)[-self.frames :]

    def chunk(self, length: int = LENGTH, valid: np.ndarray | None = None) -> Chunk:
        """Returns the next chunk; of what is said not to be valid nothing was taken."""
        rows, windows = [], [[None] * length for _ in range(NUM_ENVS)]
        for t in range(length):
            failed = self.random.random(NUM_ENVS) < self.fails
            taken = ~failed if valid is None else valid[t] & ~failed
            last = (self.random.random(NUM_ENVS) < self.ends) | failed
            terminated = last & ~failed & (self.random.random(NUM_ENVS) < 0.5)
            following = self._fresh()
            action = self.random.integers(2, size=NUM_ENVS).astype(np.int32)
            reward = self.random.normal(size=NUM_ENVS).astype(np.float32)
            discount = 1.0 - terminated.astype(np.float32)
            row = self.at, action, reward, discount, last, self.first, following, taken
            rows.append([x.copy() for x in row])
            for n in range(NUM_ENVS):
                if self.first[n]:
                    self.episodes[n], self.newest[n] = [], None
                self.episodes[n].append(self.at[n])
                if not taken[n]:
                    continue
                seen = self._stack(self.episodes[n])
                then = self._stack([*self.episodes[n], following[n]])
                step = Step(n, seen, action[n], reward[n], discount[n], last[n], then)
                if self.newest[n] is not None:
                    self.newest[n].after = step
                self.newest[n] = windows[n][t] = step
                self.steps.append(step)
            new = self._fresh()
            self.at, self.first = np.where(last, new, following), last.copy()
        self.windows += [window for window in windows if any(window)]
        return tensors(Chunk(*map(np.array, zip(*rows, strict=True)), extras={}))

    def events(self, add, events) -> None:
        """Adds a chunk for each event."""
        for event in ["chunk", *events]:
            valid = None
            if event == "begin":
                self.begin()
            elif event == "nothing":
                valid = np.zeros((LENGTH, NUM_ENVS), bool)
            elif event == "padded":  # as whole episodes are: valid up to some step
                valid = np.arange(LENGTH)[:, None] < self.random.integers(0, LENGTH + 1, NUM_ENVS)
            if valid is not None:
                self.begin()
            add(self.chunk(valid=valid))
            if valid is not None:
                self.begin()


def assert_step(batch, place, step: Step, n_step: int, within=None) -> None:
    """A step is read with the n steps from it, none of them outside of what it is within."""
    np.testing.assert_array_equal(batch.obs[place], step.seen)
    assert batch.action[place] == step.action
    reward, scale, end = step.reward, step.discount, step
    for _ in range(n_step - 1):
        if end.last or end.after is None or (within is not None and end.after not in within):
            break
        end = end.after
        reward += GAMMA * scale * end.reward
        scale *= GAMMA * end.discount
    np.testing.assert_array_equal(batch.next_obs[place], end.following)
    np.testing.assert_allclose(batch.reward[place], reward, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(batch.discount[place], scale, rtol=1e-5, atol=1e-5)


def assert_reads(replay: Replay, past: Past, n_step: int = 1) -> None:
    """Every window that is held comes back with the stacks that were seen."""
    numbers = held(replay)
    windows = past.windows if replay.sequences else past.steps
    assert int(replay.added) == len(windows)
    if not len(numbers):
        return
    batch = replay.read(tf.constant(numbers, tf.int64), n_step, GAMMA)
    batch = tf.nest.map_structure(np.asarray, batch)
    for b, number in enumerate(numbers):
        if not replay.sequences:
            assert_step(batch, b, windows[number], n_step)
            continue
        for t, step in enumerate(windows[number]):
            assert batch.valid[t, b] == (step is not None)
            if step is not None:
                assert_step(batch, (t, b), step, n_step, windows[number])


def assert_draws_what_is_held(replay: Replay) -> None:
    assert np.count_nonzero(replay.priorities.values) == int(replay.size)


@pytest.fixture(scope="module")
def rings():
    """Returns a ring of little more than the least rows, compiled, for each kind of it."""
    made = {}

    def get(frames: int, extra: int, length: int | None):
        kind = frames, extra, length
        if kind not in made:
            spec = NUMBERS._replace(frames=frames)
            replay = Replay(spec, least(frames) + extra, 0, 0.6, length)
            fresh = {name: variable.numpy() for name, variable in replay.variables().items()}
            made[kind] = replay, xla(replay.add), fresh
        replay, add, fresh = made[kind]
        for name, variable in replay.variables().items():
            variable.assign(fresh[name])
        return replay, add

    return get


HISTORIES = {
    "seed": st.integers(0, 2**31),
    "frames": st.sampled_from([2, 4]),
    "extra": st.sampled_from([0, 31]),
    "length": st.sampled_from([None, LENGTH]),
    "ends": st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    "fails": st.sampled_from([0.0, 0.05]),
    "events": st.lists(st.sampled_from(["chunk", "begin", "padded", "nothing"]), max_size=6),
    "then": st.integers(0, 12),  # chunks
    "n_step": st.sampled_from([1, 2, 7]),
}


@settings(max_examples=100, deadline=None)
@given(**HISTORIES)
def test_stacks_are_read_as_they_were_seen(rings, **history):
    """Across ends, limits, failures, padding and the place where the ring is overwritten."""
    assert_history_is_read(rings, **history)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(**HISTORIES)
def test_so_they_are_in_thousands_of_histories(rings, **history):
    assert_history_is_read(rings, **history)


def assert_history_is_read(rings, seed, frames, extra, length, ends, fails, events, then, n_step):
    replay, add = rings(frames, extra, length)
    past = Past(frames, seed, ends, fails)

    def add_and_look(chunk):
        before = int(replay.added)
        add(chunk)
        assert int(replay.dropped) <= before, "a chunk just added is held"
        assert_draws_what_is_held(replay)

    past.events(add_and_look, [*events, *["chunk"] * then])
    assert_reads(replay, past, n_step)


@pytest.mark.parametrize("frames", [2, 4])
@pytest.mark.parametrize(("steps", "ends"), [(1, 0.0), (1, 0.1), (2, 0.1), (LENGTH, 0.1)])
def test_chunks_shorter_than_a_stack_are_parts_of_one_stream(frames, steps, ends):
    replay = Replay(NUMBERS._replace(frames=frames), least(frames, steps) + 7, 0, 0.6)
    past, add = Past(frames, seed=frames, ends=ends, fails=ends), xla(replay.add)
    for _ in range(40):
        add(past.chunk(steps))
        assert_reads(replay, past, n_step=3)
        assert_draws_what_is_held(replay)
    assert int(replay.size)


@pytest.mark.parametrize("extra", [0, 1, 40])
def test_nothing_is_given_up_before_it_must_be(extra):
    """Without ends C rows hold C - 2 N steps, and N less for each frame before the first."""
    frames = 4
    replay, past = Replay(NUMBERS._replace(frames=frames), least(frames) + extra), Past(frames)
    past.ends = 0.0
    for _ in range(40):
        replay.add(past.chunk())
    assert int(replay.size) >= replay.capacity - 2 * NUM_ENVS - 3 * NUM_ENVS
    assert_reads(replay, past)


def test_what_comes_after_padding_is_not_what_was_before():
    """Though no row says that an episode begins there; in a chunk, and from one to the next."""
    replay, past = Replay(NUMBERS._replace(frames=3), 60), Past(3, ends=0.0)
    replay.add(past.chunk(valid=np.array([[True, True], [False, True], [True, False]])))
    replay.add(past.chunk())
    batch = replay.read(tf.range(10, dtype=tf.int64))
    # One environment shows 0, 2 (padding), 6, then 10, 14, 18; the other 1, 3, 7 (padding), then
    # 11, 15, 19.
    np.testing.assert_array_equal(batch.obs[::2][:2], [[0, 0, 0], [1, 1, 3]])
    np.testing.assert_array_equal(batch.obs[3], [6, 6, 6])
    np.testing.assert_array_equal(batch.obs[4::2], [[6, 6, 10], [6, 10, 14], [10, 14, 18]])
    np.testing.assert_array_equal(batch.obs[5::2], [[11, 11, 11], [11, 11, 15], [11, 15, 19]])


def test_observations_are_stored_once():
    replay, past = Replay(NUMBERS._replace(frames=4), 100), Past(4, ends=0.0)
    for _ in range(5):
        replay.add(past.chunk())
    assert int(replay.written) == 5 * LENGTH * NUM_ENVS + NUM_ENVS


@pytest.mark.parametrize("length", [None, LENGTH])
def test_parts_are_stacked_as_networks_see_them(length):
    """Pixels, numbers, whole numbers of two kinds and a mask: as `stacked` makes them."""
    spec = PARTS._replace(frames=3)
    replay, before = Replay(spec, 100, length=length), stacks.no_frames(spec, NUM_ENVS)
    chunk = tensors(random_chunk(spec, LENGTH, NUM_ENVS, seed=0))
    xla(replay.add)(chunk)
    count = NUM_ENVS if length else LENGTH * NUM_ENVS
    batch = xla(replay.read)(tf.range(count, dtype=tf.int64))
    want = stacks.stacked(spec, chunk._replace(start=Memory(frames=before)))
    for found, wanted in ((batch.obs, want.obs), (batch.next_obs, want.next_obs)):
        for x, y, space in zip(*map(leaves, (found, wanted, spec.seen)), strict=True):
            assert x.dtype == space.dtype
            shape = (LENGTH, NUM_ENVS) if length else (LENGTH * NUM_ENVS,)
            np.testing.assert_array_equal(x, tf.reshape(y, (*shape, *space.shape)))


def test_steps_that_are_not_valid_never_come_out():
    """Their rows hold NaN: one of them in a stack would show."""
    spec = BOX._replace(frames=3)
    replay = Replay(spec, least(3) + 20)
    for number in range(10):
        chunk = random_chunk(spec, LENGTH, NUM_ENVS, seed=number)
        valid = np.random.default_rng(number).random((LENGTH, NUM_ENVS)) < 0.5
        for field in (chunk.obs, chunk.next_obs, chunk.reward):
            field[~valid] = np.nan
        replay.add(tensors(chunk._replace(valid=valid)))
        if int(replay.size):
            batch = replay.sample(200, rng.from_int(number))
            assert all(np.isfinite(field).all() for field in batch)
    assert np.isfinite(replay.obs).all() and np.isfinite(replay.reward).all()


@pytest.mark.parametrize("length", [None, LENGTH])
def test_xla_copies_no_observations(length):
    """Neither where they are written nor where they are read: else a call costs the whole ring."""
    spec = EnvSpec({"a": Box((5, 7), "uint8"), "b": Discrete(3)}, Discrete(3), 6, frames=4)
    replay = Replay(spec, 1_009, 0, 0.6, length)  # a number that nothing else has

    @xla
    def learn(chunk, seed):
        replay.add(chunk)
        number, _ = replay.draw(6, seed)
        batch = replay.read(number, 3, GAMMA)
        replay.prioritize(number, batch.reward)
        return batch

    chunk = tensors(random_chunk(spec, LENGTH, NUM_ENVS, seed=0))
    program = learn.experimental_get_compiler_ir(chunk, rng.from_int(0))(stage="optimized_hlo")
    made = re.findall(r"= (\w+\[1009[,\d]*\])\S* (\w+)\(", program)
    assert ("u8[1009,5,7]", "parameter") in made
    assert not [made for made in made if made[1].startswith("copy")]


def test_the_variables_are_all_that_it_is():
    spec = NUMBERS._replace(frames=3)
    replay, other = (Replay(spec, least(3) + 3, 0, 0.6) for _ in range(2))
    past = Past(3)
    for _ in range(4):
        replay.add(past.chunk())
    for name, variable in other.variables().items():
        variable.assign(replay.variables()[name])
    chunk = past.chunk()
    for memory in (replay, other):
        memory.add(chunk)
    one, two = (memory.sample(10, rng.from_int(0)) for memory in (replay, other))
    tf.nest.map_structure(np.testing.assert_array_equal, one, two)


def test_a_chunk_that_does_not_fit_with_its_frames_is_refused_with_what_to_do():
    replay = Replay(NUMBERS._replace(frames=4), least(4) - 1)
    with pytest.raises(
        ValueError, match=r"6 steps.*the frames before it.*replay_capacity=25: raise it to 26"
    ):
        replay.add(Past(4).chunk())
