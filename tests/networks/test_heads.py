"""Heads against their formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks

FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("head", "units", "gain"),
    [
        (networks.q_values(3, seed=0), 3, 1.0),
        (networks.policy_logits(3, seed=0), 3, 0.01),
        (networks.value(seed=0), 1, 1.0),
        (networks.linear(4, 0.5, seed=0), 4, 0.5),
    ],
    ids=["q_values", "policy_logits", "value", "linear"],
)
def test_linear_heads(head, units, gain):
    scores = head(FEATURES)
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(scores, FEATURES @ kernel + bias, atol=1e-5)
    np.testing.assert_allclose(kernel.T @ kernel, gain**2 * np.eye(units), atol=1e-6)
    np.testing.assert_array_equal(bias, 0.0)


def test_a_policy_starts_near_the_uniform_one():
    probabilities = tf.nn.softmax(networks.policy_logits(4, seed=0)(FEATURES))
    np.testing.assert_allclose(probabilities, 0.25, atol=0.02)


def test_dueling_adds_a_value_and_centred_advantages():
    """Wang et al. 2016, equation 9."""
    head = networks.dueling(3, seed=0)
    q = head(FEATURES).numpy()
    value, advantage = head.value(FEATURES).numpy(), head.advantage(FEATURES).numpy()
    np.testing.assert_allclose(
        q, value + advantage - advantage.mean(axis=1, keepdims=True), atol=1e-5
    )
    np.testing.assert_allclose(q.mean(axis=1), value[:, 0], atol=1e-5)  # the value is the mean
    assert q.shape == (5, 3)


def test_dueling_streams_start_from_different_draws():
    head = networks.dueling(1, seed=0)
    head(FEATURES)
    assert not np.allclose(head.value.kernel, head.advantage.kernel)


def test_dueling_survives_a_round_trip_through_its_config():
    head = networks.dueling(3, seed=0)
    head(FEATURES)
    copy = keras.layers.deserialize(keras.layers.serialize(head))
    copy(FEATURES)
    copy.set_weights(head.get_weights())
    np.testing.assert_array_equal(copy(FEATURES), head(FEATURES))
