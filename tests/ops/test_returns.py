"""Returns against numbers worked out by hand, and against plain Python."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops.returns import discounted_returns, generalized_advantages, n_step_returns
from tests.helpers import xla

GAMMA = 0.5


def reference(reward, discount, last, final_value):
    """Follows each step forwards to where its episode or the chunk ends."""
    length, num_envs = reward.shape
    returns = np.zeros((length, num_envs))
    for t, n in itertools.product(range(length), range(num_envs)):
        total, weight = 0.0, 1.0
        for k in range(t, length):
            total += weight * float(reward[k, n])
            weight *= float(discount[k, n])
            if last[k, n] or k == length - 1:
                total += weight * float(final_value[k, n])
                break
        returns[t, n] = total
    return returns


# Rewards 1, 2, 3, gamma 0.5, values of the successors 10, 20, 40. The flags are those of one
# step: in the middle (the chunk goes on) or the final one (the chunk ends there anyway).
@pytest.mark.parametrize(
    ("terminated", "truncated", "final", "want"),
    [
        (False, False, False, [7.75, 13.5, 23.0]),  # 3 + 0.5 * 40; 2 + 0.5 * 23; 1 + 0.5 * 13.5
        (True, False, False, [2.0, 2.0, 23.0]),  # nothing comes after the 2
        (False, True, False, [7.0, 12.0, 23.0]),  # 2 + 0.5 * 20
        (True, True, False, [2.0, 2.0, 23.0]),  # both: terminated
        (False, False, True, [7.75, 13.5, 23.0]),  # the chunk ends: bootstrapped
        (True, False, True, [2.75, 3.5, 3.0]),  # 3; 2 + 1.5; 1 + 1.75
        (False, True, True, [7.75, 13.5, 23.0]),  # truncated there: bootstrapped as well
        (True, True, True, [2.75, 3.5, 3.0]),
    ],
)
def test_the_eight_patterns_of_flags_by_hand(terminated, truncated, final, want):
    at = 2 if final else 1
    reward = np.array([[1.0], [2.0], [3.0]], np.float32)
    value = np.array([[10.0], [20.0], [40.0]], np.float32)
    discount = np.full((3, 1), GAMMA, np.float32)
    last = np.zeros((3, 1), bool)
    discount[at] *= not terminated
    last[at] = terminated or truncated
    returns = discounted_returns(reward, discount, last, value)
    np.testing.assert_allclose(returns[:, 0], want, atol=1e-6)


def random_chunk(random, length, num_envs):
    """All 8 patterns of (terminated, truncated) on two successive steps come up often."""
    shape = (length, num_envs)
    terminated, truncated = random.random((2, *shape)) < 0.25
    gamma = random.choice([0.0, 0.5, 0.9, 0.99, 1.0])
    return (
        random.normal(size=shape).astype(np.float32),
        (gamma * ~terminated).astype(np.float32),
        terminated | truncated,
        random.normal(size=shape).astype(np.float32),
    )


def test_a_thousand_random_chunks_compiled():
    compiled = xla(discounted_returns)
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(1_000):
        chunk = random_chunk(random, 8, 6)
        worst = max(worst, np.abs(compiled(*map(tf.constant, chunk)) - reference(*chunk)).max())
    assert worst <= 1e-5


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_shape(length, num_envs, seed):
    chunk = random_chunk(np.random.default_rng(seed), length, num_envs)
    np.testing.assert_allclose(discounted_returns(*chunk), reference(*chunk), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_what_comes_after_the_end_has_no_effect(length, padding, seed):
    """Rows after an episode's end may hold anything; the returns before are the same bits."""
    random = np.random.default_rng(seed)
    reward, discount, last, value = random_chunk(random, length, 3)
    last[-1] = True
    alone = discounted_returns(reward, discount, last, value)
    rows = random_chunk(random, padding, 3)
    padded = [np.concatenate(x) for x in zip((reward, discount, last, value), rows, strict=True)]
    np.testing.assert_array_equal(discounted_returns(*padded)[:length], alone)


def test_a_terminated_step_ignores_the_value_after_it():
    chunk = [np.float32([[1.0]]), np.float32([[0.0]]), np.array([[True]])]
    assert discounted_returns(*chunk, np.float32([[1e30]])).numpy() == 1.0


def test_the_callers_last_row_is_left_alone():
    last = tf.constant([[False], [False]])
    ones = tf.ones((2, 1))
    discounted_returns(ones, ones, last, ones)
    assert not last.numpy().any()


def test_shapes_that_differ_are_named():
    ones = tf.ones((3, 2))
    with pytest.raises(ValueError, match=r"final_value.*\(3,\)"):
        discounted_returns(ones, ones, tf.cast(ones, tf.bool), tf.ones(3))


def n_step_reference(reward, discount, last, next_value, num_steps):
    """Follows each step for at most `num_steps`, to where its episode or the chunk ends."""
    length, num_envs = reward.shape
    returns = np.zeros((length, num_envs))
    for t, n in itertools.product(range(length), range(num_envs)):
        weight = 1.0
        for k in range(t, length):
            returns[t, n] += weight * float(reward[k, n])
            weight *= float(discount[k, n])
            if last[k, n] or k == length - 1 or k == t + num_steps - 1:
                returns[t, n] += weight * float(next_value[k, n])
                break
    return returns


def gae_reference(reward, discount, last, value, next_value, gae_lambda):
    """Sums the discounted TD errors of each step's own episode."""
    length, num_envs = reward.shape
    advantages = np.zeros((length, num_envs))
    for t, n in itertools.product(range(length), range(num_envs)):
        weight = 1.0
        for k in range(t, length):
            delta = reward[k, n] + discount[k, n] * next_value[k, n] - value[k, n]
            advantages[t, n] += weight * float(delta)
            weight *= float(discount[k, n]) * gae_lambda
            if last[k, n]:
                break
    return advantages


# Rewards 1, 2, 3, gamma 0.5, values of the successors 10, 20, 40; the flags are the middle step's.
@pytest.mark.parametrize(
    ("terminated", "truncated", "want"),
    [
        (False, False, [7.0, 13.5, 23.0]),  # 1 + 0.5 * (2 + 0.5 * 20); 2 + 0.5 * (3 + 20); 3 + 20
        (True, False, [2.0, 2.0, 23.0]),  # 1 + 0.5 * 2
        (False, True, [7.0, 12.0, 23.0]),  # the same two steps; 2 + 0.5 * 20
        (True, True, [2.0, 2.0, 23.0]),
    ],
)
def test_two_step_returns_by_hand(terminated, truncated, want):
    discount = np.array([[GAMMA], [GAMMA * (not terminated)], [GAMMA]], np.float32)
    last = np.array([[False], [terminated or truncated], [False]])
    reward, value = np.float32([[1], [2], [3]]), np.float32([[10], [20], [40]])
    returns = n_step_returns(reward, discount, last, value, 2)
    np.testing.assert_allclose(returns[:, 0], want, atol=1e-6)


# The same, with values 4, 6, 8 of the observations and lambda 0.5. TD errors:
# 1 + 5 - 4 = 2; 2 + 10 - 6 = 6, or 2 - 6 = -4 if terminated; 3 + 20 - 8 = 15.
@pytest.mark.parametrize(
    ("terminated", "truncated", "want"),
    [
        (False, False, [4.4375, 9.75, 15.0]),  # 6 + 0.25 * 15; 2 + 0.25 * 9.75
        (True, False, [1.0, -4.0, 15.0]),  # 2 - 0.25 * 4
        (False, True, [3.5, 6.0, 15.0]),  # 2 + 0.25 * 6
        (True, True, [1.0, -4.0, 15.0]),
    ],
)
def test_generalized_advantages_by_hand(terminated, truncated, want):
    discount = np.array([[GAMMA], [GAMMA * (not terminated)], [GAMMA]], np.float32)
    last = np.array([[False], [terminated or truncated], [False]])
    reward, next_value = np.float32([[1], [2], [3]]), np.float32([[10], [20], [40]])
    value = np.float32([[4], [6], [8]])
    advantages = generalized_advantages(reward, discount, last, value, next_value, 0.5)
    np.testing.assert_allclose(advantages[:, 0], want, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 14), st.integers(0, 2**32 - 1))
def test_n_step_returns_of_any_shape(length, num_envs, num_steps, seed):
    chunk = random_chunk(np.random.default_rng(seed), length, num_envs)
    returns = n_step_returns(*chunk, num_steps)
    np.testing.assert_allclose(returns, n_step_reference(*chunk, num_steps), atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_generalized_advantages_of_any_shape(length, num_envs, gae_lambda, seed):
    random = np.random.default_rng(seed)
    reward, discount, last, next_value = random_chunk(random, length, num_envs)
    value = random.normal(size=reward.shape).astype(np.float32)
    steps = (reward, discount, last, value, next_value, gae_lambda)
    np.testing.assert_allclose(generalized_advantages(*steps), gae_reference(*steps), atol=1e-5)


def random_streams(random, length, num_envs, num_streams):
    """Columns of one chunk, dealt to streams: each has its own rewards, discounts and ends."""
    chunk = random_chunk(random, length, num_envs * num_streams)
    value = random.normal(size=chunk[0].shape).astype(np.float32)
    shape = (length, num_envs, num_streams)
    reward, discount, last, value, next_value = (
        x.reshape(shape) for x in (*chunk[:3], value, chunk[3])
    )
    return reward, discount, last, value, next_value


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_streams_of_reward_are_what_each_is_alone(length, num_envs, num_streams, seed):
    """One environment's episodes end for all its streams; but a stream may go on across them."""
    random = np.random.default_rng(seed)
    reward, discount, last, value, next_value = random_streams(
        random, length, num_envs, num_streams
    )
    for ends in (last[..., 0], last):
        own = np.broadcast_to(ends.reshape(length, num_envs, -1), reward.shape)
        together = (
            discounted_returns(reward, discount, ends, next_value),
            n_step_returns(reward, discount, ends, next_value, 3),
            generalized_advantages(reward, discount, ends, value, next_value, 0.9),
        )
        for s in range(num_streams):
            steps = (reward[..., s], discount[..., s], own[..., s])
            alone = (
                discounted_returns(*steps, next_value[..., s]),
                n_step_returns(*steps, next_value[..., s], 3),
                generalized_advantages(*steps, value[..., s], next_value[..., s], 0.9),
            )
            for many, one in zip(together, alone, strict=True):
                np.testing.assert_array_equal(many[..., s], one)


def test_two_streams_by_hand():
    """The second is discounted by 0.9, and its episode does not end where it is truncated.

    Stream 1 with lambda 0.5: TD errors 1 + 0.5 * 4 - 2 = 1 and 1 + 0.5 * 6 - 3 = 1; the first is
    cut off: 1, 1. Stream 2: 0.9 * 1 - 0 = 0.9 and 2 - 1 = 1; 0.9 + 0.9 * 0.5 * 1 = 1.35, 1.
    """
    reward = np.float32([[[1, 0]], [[1, 2]]])
    discount = np.float32([[[0.5, 0.9]], [[0.5, 0.0]]])
    last = np.array([[[True, False]], [[False, False]]])
    value, next_value = np.float32([[[2, 0]], [[3, 1]]]), np.float32([[[4, 1]], [[6, 9]]])
    advantages = generalized_advantages(reward, discount, last, value, next_value, 0.5)
    np.testing.assert_allclose(advantages[:, 0], [[1.0, 1.35], [1.0, 1.0]], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_advantages_before_an_end_know_nothing_of_what_comes_after(length, padding, seed):
    """Rows of padding may hold anything, NaN too; the advantages before are the same bits."""
    random = np.random.default_rng(seed)
    steps = [x[..., 0] for x in random_streams(random, length, 3, 1)]
    steps[2][-1] = True
    rows = [x[..., 0] for x in random_streams(random, padding, 3, 1)]
    rows[0][:] = np.nan
    padded = [np.concatenate(x) for x in zip(steps, rows, strict=True)]
    np.testing.assert_array_equal(
        generalized_advantages(*padded, 0.95)[:length], generalized_advantages(*steps, 0.95)
    )


@pytest.mark.slow
def test_two_thousand_random_chunks_have_the_advantages_of_plain_python():
    compiled = xla(generalized_advantages)
    random, worst = np.random.default_rng(1), 0.0
    for _ in range(2_000):
        steps = [x[..., 0] for x in random_streams(random, 16, 6, 1)]
        want = gae_reference(*steps, 0.95)
        worst = max(worst, np.abs(compiled(*map(tf.constant, steps), 0.95) - want).max())
    assert worst <= 1e-5


def test_they_compile_and_bad_arguments_are_named():
    chunk = [*map(tf.constant, random_chunk(np.random.default_rng(0), 5, 2))]
    np.testing.assert_allclose(
        xla(lambda *x: n_step_returns(*x, 3))(*chunk), n_step_returns(*chunk, 3), atol=1e-6
    )
    with pytest.raises(ValueError, match="num_steps: expected at least 1, received 0"):
        n_step_returns(*chunk, 0)
    with pytest.raises(ValueError, match=r"value.*\(2,\)"):
        generalized_advantages(*chunk[:3], chunk[3][0], chunk[3], 0.9)
    with pytest.raises(
        ValueError, match=r"`last` of that or of \[T, N\], received .*'last': \(2,\)"
    ):
        n_step_returns(*chunk[:2], chunk[2][0], chunk[3], 3)
    streams = [*map(tf.constant, random_streams(np.random.default_rng(0), 5, 2, 3))]
    np.testing.assert_allclose(
        xla(lambda *x: generalized_advantages(*x, 0.9))(*streams),
        generalized_advantages(*streams, 0.9),
        atol=1e-6,
    )
