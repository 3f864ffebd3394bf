"""Observations normalised at the input of a network, by what was seen so far."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks.normalize import normalizer
from rlzoo.spaces import Normalization
from tests.helpers import BOX, IMAGE, PARTS, random_chunk, small_torso, tensors, xla

HEAD = 3
OBS = Normalization(obs=True)


def build(spec=BOX, torso=None, **kwargs):
    torso = torso or small_torso(spec)
    head = networks.q_values(HEAD)
    return networks.build_network(spec._replace(normalize=OBS), torso, head, **kwargs)


def seen(network) -> list[np.ndarray]:
    return [weight.numpy() for weight in normalizer(network).weights]


def test_it_is_of_all_valid_rows_seen_so_far():
    network, rows = build(), []
    observe = xla(lambda chunk: networks.observe(network, chunk))
    for number in range(5):
        chunk = random_chunk(BOX, 8, 4, number, whole=True)
        chunk.obs[...] = 3.0 * chunk.obs + [1.0, -2.0, 100.0]
        rows.append(chunk.obs[chunk.valid])
        chunk.obs[~chunk.valid] = 1e9
        observe(tensors(chunk))
    rows = np.concatenate(rows)
    count, mean, variance = seen(network)
    assert count == len(rows) < 5 * 8 * 4
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-3)
    plain = networks.build_network(BOX, small_torso(BOX), networks.q_values(HEAD))
    layers = (layer for layer in network.layers if layer is not normalizer(network))
    plain.set_weights([weight for layer in layers for weight in layer.get_weights()])
    normal = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    np.testing.assert_allclose(network(rows), plain(normal.astype(np.float32)), atol=1e-3)


def test_nothing_was_seen_yet_so_all_stays():
    network = build()
    layer = normalizer(network)
    x = np.float32([[1.0, -2.0, 30.0]])
    np.testing.assert_array_equal(layer(x), [[1.0, -2.0, 10.0]])  # cut at 10 deviations


def test_only_numbers_are_normalised():
    """No one-hot, no pixels; the mask is none of the observation."""
    layer = normalizer(network := build(PARTS))
    networks.observe(network, tensors(random_chunk(PARTS, 8, 4, 0)))
    assert [weight.name for weight in layer.weights] == [
        "speed_count",
        "speed_mean",
        "speed_variance",
    ]
    shapes = {"camera/left": (6, 6), "cards": (5,), "place": (4,), "speed": (2,)}
    before = {path: np.full((2, *shape), 0.7, np.float32) for path, shape in shapes.items()}
    after = layer(before)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {"speed"}
    assert normalizer(build(IMAGE)).weights == []


def test_acting_training_and_gradients_leave_it():
    network = build()
    networks.observe(network, tensors(random_chunk(BOX, 8, 4, 0)))
    before = seen(network)
    trainer = networks.Trainable(network, 0.1, 10.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(tf.ones((4, 3)), training=True))
    trainer.descend(tape, loss)
    network(tf.ones((4, 3)) * 50.0, training=False)
    for old, new in zip(before, seen(network), strict=True):
        np.testing.assert_array_equal(old, new)


def test_networks_of_an_agent_share_it():
    network = build()
    target = networks.Target(network, 1.0, 1)
    value = build(like=network)
    layers = [normalizer(x) for x in (network, target.network, value)]
    assert layers[0] is layers[1] is layers[2]
    own = {id(x) for x in network.trainable_variables}
    assert not own & {id(x) for x in target.network.trainable_variables}
    networks.observe(network, tensors(random_chunk(BOX, 8, 4, 0)))
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(network(obs), target.network(obs))


@pytest.mark.parametrize("make", [networks.lstm, networks.gru])
def test_a_recurrent_network_sees_the_same_step_by_step_and_along_a_chunk(make):
    network = build(torso=make(4, seed=0))
    chunk = tensors(random_chunk(BOX, 6, 2, 0))
    networks.observe(network, chunk._replace(obs=50.0 * chunk.obs + 7.0))
    state = networks.initial_state(network, 2)
    along, _ = networks.unroll(network, chunk.obs, state, chunk.first)
    for t in range(6):
        scores, state = networks.apply(network, chunk.obs[t], state, chunk.first[t])
        np.testing.assert_allclose(scores, along[t], atol=1e-5)
    plain = networks.build_network(BOX, make(4, seed=0), networks.q_values(HEAD, 0))
    other, _ = networks.unroll(plain, chunk.obs, networks.initial_state(plain, 2), chunk.first)
    assert np.abs(other - along).max() > 1e-3


def test_keras_saves_and_loads_it(tmp_path):
    network = build(PARTS)
    networks.observe(network, tensors(random_chunk(PARTS, 8, 4, 0)))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    for old, new in zip(seen(network), seen(loaded), strict=True):
        np.testing.assert_array_equal(old, new)
