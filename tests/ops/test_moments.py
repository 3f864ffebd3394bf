"""Running moments against numbers worked out by hand, and against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import moments
from rlzoo.ops.moments import Moments, merged, moments_of, no_moments
from tests.helpers import xla

add = xla(lambda known, rows, valid: merged(known, moments_of(rows, valid)))
with_rewards = xla(moments.with_rewards)


def numbers(found: Moments):
    return [x.numpy() for x in found]


def all_valid(rows):
    return tf.ones(len(rows), tf.bool)


def test_moments_by_hand():
    """Mean (1 + 2 + 3 + 6) / 4 = 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; of 5, 5, 5, 5: 5 and 0."""
    rows = tf.constant([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
    count, mean, variance = numbers(moments_of(rows, all_valid(rows)))
    assert count == 4 and count.dtype == np.int64
    np.testing.assert_allclose(mean, [3.0, 5.0])
    np.testing.assert_allclose(variance, [3.5, 0.0])


def test_merging_by_hand():
    """1 and 3: mean 2, variance 1. 8 alone: 8 and 0. Of the three: mean 4, (9 + 1 + 16) / 3."""
    one = moments_of(tf.constant([1.0, 3.0]), all_valid([0, 0]))
    other = moments_of(tf.constant([8.0]), all_valid([0]))
    for found in (merged(one, other), merged(other, one)):
        np.testing.assert_allclose(numbers(found), [3, 4.0, 26 / 3], rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.sampled_from([(), (2,), (2, 3)]),
    st.integers(0, 2**32 - 1),
)
def test_batches_of_any_size_are_what_numpy_says_of_their_valid_rows(sizes, shape, seed):
    """NaN where invalid is never seen. One environment more makes the batch time-major."""
    random = np.random.default_rng(seed)
    known, kept = no_moments(shape), [np.zeros((0, *shape))]
    for size in sizes:
        rows = random.normal(random.normal(), 2.0, (size, 2, *shape)).astype(np.float32)
        valid = random.random((size, 2)) < 0.6
        kept.append(rows[valid])
        rows[~valid] = np.nan
        known = merged(known, moments_of(tf.constant(rows), tf.constant(valid)))
    rows = np.concatenate(kept).astype(float)
    count, mean, variance = numbers(known)
    assert count == len(rows) and mean.shape == variance.shape == shape
    np.testing.assert_allclose(mean, rows.mean(0) if count else np.zeros(shape), atol=1e-5)
    np.testing.assert_allclose(variance, rows.var(0) if count else np.zeros(shape), atol=1e-4)


def test_a_mean_of_ten_thousand_leaves_the_deviation_right():
    """In float32 the square of 1e4 is known to 8 only: E[x^2] - E[x]^2 would be noise.

    The mean itself is known to 1e-3, and no longer moved by less than half of that.
    """
    random = np.random.default_rng(0)
    rows = random.normal(1e4, 1.0, (500, 256)).astype(np.float32)
    known = no_moments(())
    for batch in rows:
        known = add(known, tf.constant(batch), all_valid(batch))
    exact = rows.astype(float)
    assert known.count.numpy() == exact.size
    assert float(known.mean) == pytest.approx(exact.mean(), abs=0.02)
    assert float(moments.deviation(known)) == pytest.approx(exact.std(), rel=1e-4)
    found = moments.normalized(tf.constant(rows), known, 10.0).numpy().astype(float)
    assert abs(found.mean()) < 0.02 and found.std() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("size", [1, 64])
def test_a_count_of_a_billion_goes_on_and_moments_stay(size):
    """A float32 count would stop at 2**24, and a sum of 1e9 squares would not take in 1 more."""
    known = Moments(tf.constant(10**9, tf.int64), tf.constant(1e4), tf.constant(1.0))
    random = np.random.default_rng(0)
    for _ in range(200):
        rows = random.normal(1e4, 1.0, size).astype(np.float32)
        known = add(known, tf.constant(rows), all_valid(rows))
    count, mean, variance = numbers(known)
    assert count == 10**9 + 200 * size
    assert mean == pytest.approx(1e4, abs=1e-2) and variance == pytest.approx(1.0, abs=1e-3)


def test_two_equal_halves_of_a_billion_keep_their_distance():
    """Means 0 and 2, deviation 1: of both together mean 1, variance 1 + 1."""
    many = tf.constant(10**9, tf.int64)
    one, other = (Moments(many, tf.constant(x), tf.constant(1.0)) for x in (0.0, 2.0))
    np.testing.assert_allclose(numbers(merged(one, other)), [2e9, 1.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 1e-3, 0.1, -1e4, 1e30])
def test_a_constant_is_normalised_to_nothing_and_not_blown_up(constant):
    rows, known = np.full((97, 1), constant, np.float32), no_moments((1,))
    for _ in range(50):
        known = add(known, tf.constant(rows), all_valid(rows))
        found = moments.normalized(tf.constant(rows), known, 10.0).numpy()
        np.testing.assert_allclose(found, 0.0, atol=2e-7 * abs(constant))
    assert moments.deviation(known).numpy() == 1.0


def test_nothing_seen_normalises_nothing():
    nothing = add(no_moments((2,)), tf.fill((3, 2), np.nan), tf.zeros(3, tf.bool))
    x = tf.constant([[-0.5, 3.0]])
    for known in (no_moments((2,)), nothing):
        np.testing.assert_array_equal(moments.normalized(x, known, 2.0), [[-0.5, 2.0]])
        np.testing.assert_array_equal(moments.scaled(x, known, 2.0), [[-0.5, 2.0]])


def test_normalising_by_hand():
    """(7 - 3) / 2 = 2, (-1 - 3) / 2 = -2; clipped at 1.5; a row of its own for each place."""
    known = Moments(tf.constant(9, tf.int64), tf.constant([3.0, 0.0]), tf.constant([4.0, 0.25]))
    x = tf.constant([[[7.0, 0.5]], [[-1.0, -0.1]]])
    np.testing.assert_allclose(
        moments.normalized(x, known, 5.0), [[[2.0, 1.0]], [[-2.0, -0.2]]], rtol=1e-6
    )
    np.testing.assert_allclose(
        moments.normalized(x, known, 1.5), [[[1.5, 1.0]], [[-1.5, -0.2]]], rtol=1e-6
    )


def test_moments_of_returns_by_hand():
    """Rewards 1, 1, 1, 1 at gamma 0.5; the third is an episode's last.

    Returns so far: 1, 1.5, 1.75, and anew 1. Mean 5.25 / 4 = 1.3125; squares 1 + 2.25 + 3.0625 + 1
    = 7.3125, so variance 7.3125 / 4 - 1.3125^2 = 0.10546875. The next chunk begins with 0.5 * 1.
    """
    last = tf.constant([[False], [False], [True], [False]])
    valid = tf.ones((4, 1), tf.bool)
    known = with_rewards(moments.no_returns(1), tf.ones((4, 1)), last, valid, 0.5)
    np.testing.assert_allclose(numbers(known.moments), [4, 1.3125, 0.10546875], rtol=1e-5)
    np.testing.assert_allclose(known.returns, [1.0])
    scaled = moments.scaled(tf.constant([[1.0], [-100.0]]), known.moments, 10.0)
    np.testing.assert_allclose(scaled, [[1 / 0.10546875**0.5], [-10.0]], rtol=1e-5)
    known = with_rewards(known, tf.ones((1, 1)), last[:1], valid[:1], 0.5)
    np.testing.assert_allclose(known.returns, [1.5])  # 0.5 * 1 + 1


def returns_so_far(reward, last, valid, discount):
    """What each environment has got in its episode, in plain Python."""
    found = []
    for n in range(reward.shape[1]):
        total = 0.0
        for t in np.flatnonzero(valid[:, n]):
            total = discount * total + float(reward[t, n])
            found.append(total)
            total = 0.0 if last[t, n] else total
    return np.array(found)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_returns_are_what_plain_python_says_however_the_chunks_are_cut(
    length, num_envs, discount, seed
):
    """Padding in between is passed over, whatever it holds."""
    random = np.random.default_rng(seed)
    shape = (length, num_envs)
    reward = random.normal(size=shape).astype(np.float32)
    last, valid = random.random((2, *shape)) < [[[0.2]], [[0.8]]]
    want = returns_so_far(reward, last, valid, discount)
    reward[~valid] = np.nan
    cut = int(random.integers(1, length))
    for parts in ([slice(None)], [slice(cut), slice(cut, None)]):
        known = moments.no_returns(num_envs)
        for part in parts:
            steps = (tf.constant(x[part]) for x in (reward, last, valid))
            known = moments.with_rewards(known, *steps, discount)
        count, mean, variance = numbers(known.moments)
        assert count == len(want)
        np.testing.assert_allclose(mean, want.mean() if len(want) else 0.0, atol=1e-5)
        np.testing.assert_allclose(variance, want.var() if len(want) else 0.0, atol=1e-4)


@pytest.mark.parametrize("reward", [0.0, 1.0, -1e30])
def test_constant_rewards_are_scaled_to_finite_ones(reward):
    known = moments.no_returns(2)
    rewards, last = tf.fill((8, 2), reward), tf.zeros((8, 2), tf.bool)
    for _ in range(20):
        known = with_rewards(known, rewards, last, ~last, 0.0)
        found = moments.scaled(rewards, known.moments, 10.0).numpy()
        np.testing.assert_array_equal(found, np.clip(rewards, -10.0, 10.0))
