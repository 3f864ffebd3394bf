"""Returns against numbers worked out by hand, and against plain Python (faults, row 14)."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops.returns import discounted_returns
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
