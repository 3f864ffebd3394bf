"""Draws in proportion to priorities, by their distribution and by hand-computed weights."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import rng
from rlzoo.replay import Replay
from tests.helpers import chi_square_fits, tensors, xla
from tests.replay.test_ring import LEAST, LENGTH, NUM_ENVS, NUMBERS, Stream, held

ALPHA = 0.6


def filled(capacity: int, chunks: int, seed: int = 0, ends: float = 0.3):
    replay = Replay(NUMBERS, capacity, priority_exponent=ALPHA)
    stream = Stream(NUM_ENVS, seed, ends)
    for _ in range(chunks):
        replay.add(tensors(stream.chunk(LENGTH)))
    return replay, stream


def priorities(replay: Replay) -> np.ndarray:
    """Returns the priority of each step that is held."""
    return replay.priorities.values.numpy()[held(replay) % replay.capacity]


@pytest.mark.parametrize(("capacity", "chunks"), [(100, 3), (LEAST, 20), (50, 20), (1_000, 30)])
def test_draws_have_the_probability_of_their_errors(capacity, chunks):
    replay, _ = filled(capacity, chunks)
    numbers = held(replay)
    errors = np.random.default_rng(1).exponential(size=len(numbers)).astype(np.float32)
    errors[::3] *= 100.0
    replay.prioritize(tf.constant(numbers, tf.int64), tf.constant(errors))
    want = (errors.astype(float) + 1e-6) ** ALPHA
    want /= want.sum()
    draw = xla(lambda seed: replay.draw(50_000, seed, 0.7))
    drawn, weights = (x.numpy() for x in draw(rng.from_int(2)))
    counts = np.bincount(drawn - numbers[0], minlength=len(numbers))
    assert drawn.min() >= numbers[0] and drawn.max() <= numbers[-1]
    assert chi_square_fits(counts, want)
    # (N p) ** -beta / max, of those that were drawn
    expected = (len(numbers) * want[drawn - numbers[0]]) ** -0.7
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-3)


def test_of_three_steps_by_hand():
    """Errors 1, 3 and 0 with alpha 1: probabilities 1/4, 3/4 and next to nothing.

    With beta 1 and N = 3 the weights are 4/3 and 4/9, divided by the larger: 1 and 1/3.
    """
    replay = Replay(NUMBERS, 9, priority_exponent=1.0)
    stream = Stream(1, 0, ends=0.0)
    replay.add(tensors(stream.chunk(3)))
    replay.prioritize(tf.range(3, dtype=tf.int64), tf.constant([1.0, -3.0, 0.0]))
    drawn, weights = (x.numpy() for x in replay.draw(4_000, rng.from_int(0), 1.0))
    assert chi_square_fits(np.bincount(drawn, minlength=3)[:2], [0.25, 0.75])
    np.testing.assert_allclose(weights[drawn == 0], 1.0, rtol=1e-4)
    np.testing.assert_allclose(weights[drawn == 1], 1 / 3, rtol=1e-4)


def test_what_is_new_is_as_likely_as_the_likeliest():
    replay, stream = filled(100, 1)
    np.testing.assert_array_equal(priorities(replay), 1.0)
    replay.prioritize(tf.constant([0, 1], tf.int64), tf.constant([8.0, 0.5]))
    replay.add(tensors(stream.chunk(LENGTH)))
    found = priorities(replay)
    np.testing.assert_allclose(found[:3], [8.0**ALPHA, 0.5**ALPHA, 1.0], rtol=1e-5)
    np.testing.assert_allclose(found[-LENGTH * NUM_ENVS :], 8.0**ALPHA, rtol=1e-5)


@pytest.fixture(scope="module")
def ring():
    replay = Replay(NUMBERS, LEAST + 3, priority_exponent=ALPHA)
    fresh = {name: variable.numpy() for name, variable in replay.variables().items()}
    return replay, xla(replay.add), xla(replay.prioritize), fresh


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    ends=st.sampled_from([0.0, 0.2, 1.0]),
    padded=st.lists(st.booleans(), min_size=1, max_size=8),
)
def test_the_sums_are_those_of_what_is_held_and_of_nothing_else(ring, seed, ends, padded):
    replay, add, prioritize, fresh = ring
    for name, variable in replay.variables().items():
        variable.assign(fresh[name])
    stream, known, largest = Stream(NUM_ENVS, seed, ends), {}, 1.0
    for short in padded:
        valid = None
        if short:
            valid = np.arange(LENGTH)[:, None] < stream.random.integers(0, LENGTH + 1, NUM_ENVS)
        before = len(stream.steps)
        add(tensors(stream.chunk(LENGTH, valid)))
        if short:
            stream.interrupt()
        known |= dict.fromkeys(range(before, len(stream.steps)), largest)
        if not int(replay.size):
            continue
        numbers, _ = replay.draw(4, rng.from_int(seed))
        errors = stream.random.normal(size=len(stream.steps)).astype(np.float32)
        prioritize(numbers, tf.constant(errors[numbers.numpy()]))
        for i in numbers.numpy():
            known[i] = (abs(errors[i]) + 1e-6) ** ALPHA
            largest = max(largest, known[i])
        want = [known[i] for i in held(replay)]
        np.testing.assert_allclose(priorities(replay), want, rtol=1e-5)
        sums = replay.priorities.sums.numpy()
        np.testing.assert_allclose(sums.sum(), np.sum(want), rtol=1e-5)
        values = replay.priorities.values.numpy().reshape(len(sums), -1)
        np.testing.assert_allclose(sums, values.sum(axis=1), rtol=1e-6)
        assert np.count_nonzero(values) == len(want)
