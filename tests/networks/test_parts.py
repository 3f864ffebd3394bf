"""Networks on observations of several parts, and their masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks import Parts
from rlzoo.networks.parts import input_shapes, joined
from rlzoo.spaces import MASK, Box, Discrete, EnvSpec, Mask, MultiDiscrete
from tests.helpers import random_obs, xla

ACTIONS = 3
PARTS = {
    "camera": {"left": Box((12, 12, 2), "uint8", 0, 255)},
    "cards": MultiDiscrete((4, 2)),
    "place": Discrete(5),
    "speed": Box((2,), "float64"),
}
SPEC = EnvSpec(PARTS, Discrete(ACTIONS), 6)
MASKED = SPEC._replace(obs={**PARTS, MASK: Mask(ACTIONS)})


def build(spec, torso, **kwargs):
    return networks.build_network(spec, torso, networks.q_values(ACTIONS, seed=0), **kwargs)


def draw(spec, *shape):
    return random_obs(spec, shape, np.random.default_rng(0))


def test_each_part_is_preprocessed_in_its_own_way():
    obs = draw(SPEC, 4)
    found = networks.Preprocess(PARTS)(obs)
    np.testing.assert_allclose(found["camera/left"], obs["camera"]["left"] / 255, rtol=1e-6)
    np.testing.assert_array_equal(found["speed"], obs["speed"].astype(np.float32))
    np.testing.assert_array_equal(found["place"], np.eye(5)[obs["place"]])
    cards = np.hstack([np.eye(4)[obs["cards"][:, 0]], np.eye(2)[obs["cards"][:, 1]]])
    np.testing.assert_array_equal(found["cards"], cards)
    shapes = {path: tuple(x.shape[1:]) for path, x in found.items()}
    assert shapes == input_shapes(PARTS)
    again = keras.layers.deserialize(keras.layers.serialize(networks.Preprocess(PARTS)))
    assert again.space == PARTS


def test_without_images_the_torso_sees_the_parts_side_by_side():
    spec = SPEC._replace(obs={key: PARTS[key] for key in ("cards", "place", "speed")})
    network = build(spec, keras.layers.Identity())
    obs = draw(spec, 4)
    parts = networks.Preprocess(spec.obs)(obs)
    flat = np.hstack([parts["cards"], parts["place"], parts["speed"]])
    kernel, bias = network.get_weights()
    np.testing.assert_allclose(network(obs), flat @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_images_among_the_parts_go_through_convolutions():
    network = build(SPEC, networks.dense((8,)))
    names = [layer.name for layer in network._flatten_layers()]
    assert "conv_torso" in names and "dense_torso" in names
    large = {"big": Box((84, 84, 4), "uint8", 0, 255), "tiny": Box((2, 2), "uint8", 0, 255)}
    found = joined(networks.dense((8,)), large)
    assert list(found.torsos) == ["big"]  # a tiny one is too small for any
    assert found.torsos["big"].get_layer("conv_0").kernel_size == (8, 8)  # of the Nature paper


def test_a_torso_for_each_part():
    torso = Parts({"camera/left": networks.conv("small", 8), "speed": networks.dense((3,))})
    network = build(SPEC, torso)
    assert network.layers[-1].kernel.shape == (8 + 6 + 5 + 3, ACTIONS)
    torso = Parts({"speed": networks.dense((3,))}, networks.dense((7,)))
    assert build(SPEC, torso).layers[-1].kernel.shape == (7, ACTIONS)
    with pytest.raises(ValueError, match=r"no part 'sound' .*Expected some of \['camera/left'"):
        build(SPEC, Parts({"sound": networks.dense((3,))}))


@pytest.mark.parametrize("spec", [SPEC, MASKED], ids=["plain", "masked"])
@pytest.mark.parametrize("torso", [networks.lstm(4), keras.layers.GRUCell(4)], ids=["lstm", "cell"])
def test_a_recurrent_torso_remembers_all_parts(torso, spec):
    network = build(spec, torso)
    length, num_envs = 3, 2
    obs = tf.nest.map_structure(tf.constant, draw(spec, length, num_envs))
    first = np.array([[True, True], [False, True], [False, False]])
    state = networks.initial_state(network, num_envs)
    together, _ = xla(lambda *x: networks.unroll(network, *x))(obs, state, first)
    for t in range(length):
        now = tf.nest.map_structure(lambda x, t=t: x[t], obs)
        scores, state = networks.apply(network, now, state, first[t])
        np.testing.assert_allclose(together[t], scores, rtol=1e-4, atol=1e-5)


def test_scores_of_invalid_actions_are_minus_infinity():
    network, free = build(MASKED, networks.dense((8,), seed=1)), build(SPEC, networks.dense((8,)))
    free.set_weights(network.get_weights())
    obs = draw(MASKED, 6)
    obs[MASK][0] = False  # at an episode's end, say: then all count
    bare = {key: x for key, x in obs.items() if key != MASK}
    wanted = np.where(obs[MASK] | ~obs[MASK].any(-1, keepdims=True), free(bare), -np.inf)
    np.testing.assert_allclose(network(obs), wanted, rtol=1e-6)
    assert np.isinf(wanted).any() and not np.isinf(wanted[0]).any()
    values = networks.build_network(MASKED, networks.dense((8,)), networks.value(0), masked=False)
    assert np.isfinite(values(obs)).all()


def test_gradients_of_masked_scores_are_finite():
    network = build(MASKED, networks.dense((8,)))
    obs = draw(MASKED, 6)
    with tf.GradientTape() as tape:
        log_probs = tf.nn.log_softmax(network(obs))
        chosen = tf.reduce_max(log_probs, axis=-1)
        loss = tf.reduce_sum(chosen)
    assert all(np.isfinite(x).all() for x in tape.gradient(loss, network.trainable_variables))


def test_a_copy_of_parts_is_equal_and_apart():
    torso = joined(networks.dense((4,)), PARTS)
    networks.build_torso(torso, PARTS)
    copy = networks.copy_torso(torso, PARTS)
    for one, other in zip(torso.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    copy.set_weights([x + 1 for x in copy.get_weights()])
    assert not np.array_equal(torso.get_weights()[0], copy.get_weights()[0])
