"""Stacks of frames against lists of each episode's observations, and Gymnasium's wrapper."""

import functools

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.wrappers import FrameStackObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo import networks
from rlzoo.envs.spaces import learner_space
from rlzoo.networks.preprocessing import Preprocess
from rlzoo.ops import stacks
from rlzoo.spaces import MASK, Box, Discrete, EnvSpec, Mask, MultiDiscrete, items, leaves
from rlzoo.types import Memory
from tests.helpers import BOX, DISCRETE, IMAGE, PARTS, random_chunk, random_obs, tensors, xla

LENGTH, NUM_ENVS = 3, 2
SPECS = {"box": BOX, "discrete": DISCRETE, "image": IMAGE, "parts": PARTS}


def of_list(leaf, observations: list, count: int) -> np.ndarray:
    """Returns the last `count` of an episode's observations, its first standing for those before.

    Whole numbers lie in a row; of masks there is one.
    """
    if isinstance(leaf, Mask):
        return observations[-1]
    frames = ([observations[0]] * (count - 1) + observations)[-count:]
    return np.stack(frames) if isinstance(leaf, Box) else np.ravel(frames)


def after(chunk, before):
    """Returns a chunk that starts after some frames."""
    return chunk._replace(start=Memory(frames=before))


@functools.cache
def compiled(name: str, frames: int):
    spec = SPECS[name]._replace(frames=frames)
    push = xla(lambda before, obs, first: stacks.push(spec, before, obs, first))
    return spec, push, xla(lambda chunk, before: stacks.stacked(spec, after(chunk, before)))


STREAMS = {
    "name": st.sampled_from(sorted(SPECS)),
    "frames": st.sampled_from([2, 4]),
    "seed": st.integers(0, 2**31),
    "ends": st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    "chunks": st.integers(1, 4),
}


@settings(max_examples=100, deadline=None)
@given(**STREAMS)
def test_stacks_are_the_last_frames_of_an_episode(name, frames, seed, ends, chunks):
    """Of chunks after each other, and as `push` sees each step."""
    assert_stacks(name, frames, seed, ends, chunks)


@pytest.mark.slow
@settings(max_examples=2_000, deadline=None)
@given(**STREAMS)
def test_so_they_are_in_thousands_of_streams(name, frames, seed, ends, chunks):
    assert_stacks(name, frames, seed, ends, chunks)


def assert_stacks(name, frames, seed, ends, chunks) -> None:
    spec, push, stacked = compiled(name, frames)
    random = np.random.default_rng(seed)
    episodes = [[[] for _ in range(NUM_ENVS)] for _ in leaves(spec.obs)]
    before = stacks.no_frames(spec, NUM_ENVS)
    for number in range(chunks):
        chunk = random_chunk(spec, LENGTH, NUM_ENVS, seed=seed + number)
        first = random.random((LENGTH, NUM_ENVS)) < ends
        first[0] |= number == 0
        chunk = tensors(chunk._replace(first=first))
        found = stacked(chunk, before)
        for t in range(LENGTH):
            obs = tf.nest.map_structure(lambda x, t=t: x[t], chunk.obs)
            seen, before = push(before, obs, chunk.first[t])
            rows = map(leaves, (seen, found.obs, found.next_obs, obs, chunk.next_obs, spec.seen))
            for past, leaf, *row in zip(episodes, leaves(spec.obs), *rows, strict=True):
                at_step, of_chunk, following, one, successor, space = row
                assert at_step.shape == (NUM_ENVS, *space.shape) and at_step.dtype == space.dtype
                assert following.shape == of_chunk.shape == (LENGTH, NUM_ENVS, *space.shape)
                for n in range(NUM_ENVS):
                    if first[t, n]:
                        past[n] = []
                    past[n].append(one[n].numpy())
                    want = of_list(leaf, past[n], frames)
                    then = of_list(leaf, [*past[n], successor[t, n].numpy()], frames)
                    np.testing.assert_array_equal(at_step[n], want)
                    np.testing.assert_array_equal(of_chunk[t, n], want)
                    np.testing.assert_array_equal(following[t, n], then)
        tf.nest.map_structure(np.testing.assert_array_equal, found[1:6], chunk[1:6])


class Wanders(gymnasium.Env):
    """Shows anything of its space; an episode ends after 1 to 6 steps."""

    def __init__(self):
        self.action_space = gymnasium.spaces.Discrete(2)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "camera": gymnasium.spaces.Box(0, 255, (4, 3), np.uint8),
                "cards": gymnasium.spaces.MultiDiscrete([3, 2]),
                "place": gymnasium.spaces.Discrete(4),
                "speed": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
            }
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(1, 7))
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), 0.0, self.left == 0, False, {}


@pytest.mark.parametrize("frames", [2, 4])
def test_they_are_those_of_gymnasium(frames):
    """Twelve episodes, played at the same time without and with `FrameStackObservation`."""
    bare, wrapped = Wanders(), FrameStackObservation(Wanders(), frames)
    spec = EnvSpec(learner_space(bare.observation_space), Discrete(2), None, frames=frames)
    push = xla(lambda before, obs, first: stacks.push(spec, before, obs, first))
    before = stacks.no_frames(spec, 1)
    for seed in range(12):
        (obs, _), (want, _) = bare.reset(seed=seed), wrapped.reset(seed=seed)
        first, ended = True, False
        while True:
            rows = {key: tf.constant(np.asarray(x)[None]) for key, x in obs.items()}
            seen, before = push(before, rows, tf.constant([first]))
            for key, leaf in items(spec.seen):
                np.testing.assert_array_equal(seen[key][0], want[key].reshape(leaf.shape))
            if ended:
                break
            (obs, *_), (want, _, ended, *_) = bare.step(0), wrapped.step(0)
            first = False


def test_frames_before_a_first_row_are_not_looked_at():
    spec = BOX._replace(frames=3)
    chunk = tensors(random_chunk(spec, LENGTH, NUM_ENVS, seed=0))
    found = stacks.stacked(spec, after(chunk, tf.fill((NUM_ENVS, 2, 3), np.nan)))
    assert np.isfinite(found.obs).all() and np.isfinite(found.next_obs).all()


def test_of_a_mask_there_is_always_one():
    spec = PARTS._replace(frames=3)
    chunk = tensors(random_chunk(spec, LENGTH, NUM_ENVS, seed=0))
    before = stacks.no_frames(spec, NUM_ENVS)
    assert before[MASK] == ()
    found = stacks.stacked(spec, after(chunk, before))
    np.testing.assert_array_equal(found.obs[MASK], chunk.obs[MASK])
    np.testing.assert_array_equal(found.next_obs[MASK], chunk.next_obs[MASK])


def test_without_stacks_everything_is_as_it_was():
    chunk = tensors(random_chunk(PARTS, LENGTH, NUM_ENVS, seed=0))
    before = stacks.no_frames(PARTS, NUM_ENVS)
    assert before == () and stacks.stacked(PARTS, chunk) is chunk
    assert stacks.push(PARTS, before, chunk.obs, chunk.first[0]) == (chunk.obs, ())


def test_frames_go_through_a_loop_that_xla_compiles():
    """Observations 0, 1, ... 9 of an episode that begins at 0 and of one that begins at 7."""
    spec = BOX._replace(obs=Box(()), frames=4)

    def body(t, frames, _):
        obs = tf.fill([2], tf.cast(t, tf.float32))
        seen, frames = stacks.push(spec, frames, obs, tf.stack([t == 0, t == 7]))
        return t + 1, frames, seen

    @xla
    def run():
        state = 0, stacks.no_frames(spec, 2), tf.zeros([2, 4])
        return tf.while_loop(lambda t, *_: t < 10, body, state)

    np.testing.assert_array_equal(run()[2], [[6, 7, 8, 9], [7, 7, 8, 9]])


def test_a_network_sees_the_whole_numbers_of_a_stack_one_hot():
    """2 then 0 of 3; and the pairs (1, 0), (2, 1) of 3 and 2."""
    spec = EnvSpec({"a": Discrete(3), "b": MultiDiscrete((3, 2))}, Discrete(2), None, frames=2)
    assert spec.seen == {"a": MultiDiscrete((3, 3)), "b": MultiDiscrete((3, 2, 3, 2))}
    before = {"a": tf.constant([[2]], tf.int64), "b": tf.constant([[[1, 0]]], tf.int64)}
    obs = {"a": tf.constant([0], tf.int64), "b": tf.constant([[2, 1]], tf.int64)}
    seen, _ = stacks.push(spec, before, obs, tf.constant([False]))
    floats = Preprocess(spec.seen)(seen)
    np.testing.assert_array_equal(floats["a"], [[0, 0, 1, 1, 0, 0]])
    np.testing.assert_array_equal(floats["b"], [[0, 1, 0, 1, 0, 0, 0, 1, 0, 1]])


@pytest.mark.filterwarnings("ignore:.* are taken for 4 channels")  # as stacks of grey images are
@pytest.mark.parametrize("name", ["box", "discrete", "parts"])
def test_a_network_is_built_for_what_is_seen(name):
    spec = SPECS[name]._replace(frames=4)
    shown = spec._replace(obs=spec.seen, frames=1)
    network = networks.build_network(shown, networks.dense((8,), seed=0), keras.layers.Dense(3))
    obs = tensors(random_obs(spec, (NUM_ENVS,), np.random.default_rng(0)))
    first = tf.ones([NUM_ENVS], tf.bool)
    seen, _ = stacks.push(spec, stacks.no_frames(spec, NUM_ENVS), obs, first)
    scores, _ = networks.apply(network, seen, (), first)
    assert scores.shape == (NUM_ENVS, 3)
