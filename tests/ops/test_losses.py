"""Losses and targets against numbers worked out by hand, and against plain Python."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlzoo.ops import losses

floats = st.floats(-100, 100, width=32, allow_subnormal=False)


def test_select_by_hand_for_every_rank():
    scores = tf.constant([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])  # [1, 2, 3]
    assert losses.select(scores, tf.constant([[2, 0]])).numpy().tolist() == [[3.0, 4.0]]
    assert losses.select(scores[0], tf.constant([1, 1])).numpy().tolist() == [2.0, 5.0]
    assert losses.select(scores[0, 0], tf.constant(0)).numpy() == 1.0


def test_q_learning_targets_by_hand():
    reward, discount = tf.constant([1.0, 1.0, -2.0]), tf.constant([0.9, 0.0, 0.5])
    next_q = tf.constant([[1.0, 3.0], [100.0, 50.0], [-4.0, -6.0]])
    target = losses.q_learning_targets(reward, discount, next_q, next_q)
    np.testing.assert_allclose(target, [1 + 0.9 * 3, 1.0, -2 + 0.5 * -4], rtol=1e-6)


def test_double_q_learning_targets_by_hand():
    """The selector chooses, the other values: 0.9 * 1, not 0.9 * 3."""
    next_q, online = tf.constant([[1.0, 3.0]]), tf.constant([[5.0, 4.0]])
    target = losses.q_learning_targets(tf.constant([1.0]), tf.constant([0.9]), next_q, online)
    np.testing.assert_allclose(target, [1.9], rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_targets_are_what_plain_python_says(data, batch, num_actions):
    rows = hnp.arrays(np.float32, (batch,), elements=floats)
    tables = hnp.arrays(np.float32, (batch, num_actions), elements=floats)
    reward, discount = data.draw(rows), data.draw(rows)
    next_q, selector = data.draw(tables), data.draw(tables)
    want = []
    for b in range(batch):
        best = 0
        for a in range(num_actions):
            if selector[b, a] > selector[b, best]:
                best = a
        want.append(float(reward[b]) + float(discount[b]) * float(next_q[b, best]))
    target = losses.q_learning_targets(reward, discount, next_q, selector)
    np.testing.assert_allclose(target, want, rtol=1e-5, atol=1e-3)


def test_no_gradient_goes_through_a_target():
    next_q = tf.Variable([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        target = losses.q_learning_targets(tf.ones(1), tf.ones(1), next_q, next_q)
    assert tape.gradient(target, next_q) is None


@pytest.mark.parametrize(
    ("error", "delta", "loss", "slope"),
    [
        (0.0, 1.0, 0.0, 0.0),
        (0.5, 1.0, 0.125, 0.5),
        (-0.5, 1.0, 0.125, -0.5),
        (2.0, 1.0, 1.5, 1.0),
        (-3.0, 1.0, 2.5, -1.0),
        (3.0, 2.0, 4.0, 2.0),
        (1e6, 1.0, 1e6 - 0.5, 1.0),
    ],
)
def test_huber_by_hand_with_its_slope(error, delta, loss, slope):
    error = tf.constant(error)
    with tf.GradientTape() as tape:
        tape.watch(error)
        value = losses.huber(error, delta)
    assert float(value) == pytest.approx(loss)
    assert float(tape.gradient(value, error)) == pytest.approx(slope)


@settings(max_examples=100, deadline=None)
@given(floats, st.floats(0.125, 10, width=32, allow_subnormal=False))
def test_huber_is_what_plain_python_says(error, delta):
    size = abs(error)
    want = 0.5 * error**2 if size <= delta else delta * (size - 0.5 * delta)
    assert float(losses.huber(tf.constant(error), delta)) == pytest.approx(want, rel=1e-5, abs=1e-6)


def test_squared_by_hand():
    np.testing.assert_allclose(losses.squared(tf.constant([3.0, -2.0])), [4.5, 2.0])


def test_the_table_of_losses():
    assert losses.TD_LOSSES["huber"] is losses.huber
    assert losses.TD_LOSSES["squared"] is losses.squared


def test_entropy_by_hand_also_where_actions_are_impossible():
    with np.errstate(divide="ignore"):
        log_probs = np.log(
            np.float32([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]])
        )
    want = [math.log(4), 0.0, math.log(2), 1.5 * math.log(2)]
    np.testing.assert_allclose(losses.entropy(tf.constant(log_probs)), want, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-20, 20, width=32, allow_subnormal=False)),
    hnp.arrays(np.bool_, (2, 3, 4)),
)
def test_entropy_is_what_plain_python_says(logits, impossible):
    impossible[..., 0] = False
    log_probs = tf.nn.log_softmax(np.where(impossible, -np.inf, logits)).numpy()
    entropy = losses.entropy(tf.constant(log_probs))
    assert entropy.shape == (2, 3)
    for index in np.ndindex(2, 3):
        probs = [math.exp(x) for x in log_probs[index]]
        want = -sum(p * math.log(p) for p in probs if p > 0)
        assert float(entropy[index]) == pytest.approx(want, abs=1e-5)


def test_the_gradient_of_entropy_is_finite_where_a_probability_is_tiny():
    logits = tf.constant([[0.0, -1e4, 50.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        entropy = losses.entropy(tf.nn.log_softmax(logits))
    assert np.isfinite(tape.gradient(entropy, logits)).all()


def test_masked_mean_by_hand():
    values = tf.constant([[1.0, 2.0], [3.0, 100.0]])
    assert losses.masked_mean(values, tf.constant([[True, True], [True, False]])).numpy() == 2.0
    assert losses.masked_mean(values, tf.fill((2, 2), False)).numpy() == 0.0
