"""The network as a whole: preprocessing, unrolling, target copies, gradient steps."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks.preprocessing import Preprocess
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import BOX, DISCRETE, IMAGE, random_obs, small_torso, xla

HEAD = 3
FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]


def build(spec, torso=None, head=None):
    torso = torso or small_torso(spec)
    return networks.build_network(spec, torso, head or networks.q_values(HEAD, seed=0))


@pytest.mark.parametrize("dtype", ["bool", *FLOATS, *INTEGERS])
def test_observations_of_any_dtype_are_cast_once(dtype):
    spec = BOX._replace(obs=Box((3,), dtype))
    obs = random_obs(spec, (6,), np.random.default_rng(0))
    found = Preprocess(spec.obs)(obs)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, obs.astype(np.float32))
    want = build(BOX)(obs.astype(np.float32))
    np.testing.assert_array_equal(build(spec)(obs), want)


def test_float64_is_not_rounded_before_the_network_sees_it():
    """1e9 + 1 has no float32: the cast is ours, at the boundary, not Keras's on the way in."""
    obs = np.array([[1e9 + 1, 0.1, 1 / 3]])
    np.testing.assert_array_equal(Preprocess(Box((3,), "float64"))(obs), obs.astype(np.float32))


def test_bytes_are_scaled_to_one():
    obs = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(
        Preprocess(Box((3,), "uint8", 0, 255))(obs), [[0.0, 0.2, 1.0]], rtol=1e-6
    )
    network = build(IMAGE)
    pixels = random_obs(IMAGE, (2,), np.random.default_rng(0))
    floats = build(IMAGE._replace(obs=Box((10, 10, 2))))((pixels / 255).astype(np.float32))
    np.testing.assert_allclose(network(pixels), floats, atol=1e-5)


def test_bytes_that_are_no_pixels_stay_as_they_are():
    obs = np.array([[0, 2, 255]], np.uint8)
    np.testing.assert_array_equal(Preprocess(Box((3,), "uint8"))(obs), [[0.0, 2.0, 255.0]])
    codes = BOX._replace(obs=Box((3,), "uint8"))
    board = np.array([[0, 1, 2]], np.uint8)
    np.testing.assert_array_equal(build(codes)(board), build(BOX)(board.astype(np.float32)))


def test_discrete_observations_become_one_hot():
    np.testing.assert_array_equal(Preprocess(Discrete(3))(np.array([2, 0])), [[0, 0, 1], [1, 0, 0]])
    network = networks.build_network(DISCRETE, keras.layers.Identity(), networks.q_values(HEAD))
    table = network.get_weights()[0]
    np.testing.assert_array_equal(network(np.arange(5)), table)


def test_preprocessing_survives_a_round_trip_through_its_config():
    layer = keras.layers.deserialize(keras.layers.serialize(Preprocess(Discrete(4))))
    assert layer(np.array([1])).shape == (1, 4)


@pytest.mark.parametrize(
    "torso",
    [
        keras.layers.Dense(4),
        keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5)]),
        keras.layers.Reshape((3, 1)),
    ],
    ids=["layer", "model", "not flat"],
)
def test_any_layer_or_model_is_a_torso(torso):
    assert build(BOX, torso)(tf.zeros((2, 3))).shape == (2, HEAD)


def test_a_scalar_box_is_an_observation():
    spec = EnvSpec(Box(()), Discrete(2), 5)
    assert build(spec, networks.dense((4,)))(tf.zeros([7])).shape == (7, HEAD)


def test_it_is_an_ordinary_keras_model_that_compiles_and_fits():
    network = build(BOX)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    obs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    history = network.fit(obs, (obs[:, 0] > 0).astype(int), epochs=20, verbose=0).history["loss"]
    assert history[-1] < history[0]


# Recurrent state

RECURRENT = {
    "lstm": lambda: networks.lstm(4, encoder=(5,), seed=0),
    "gru": lambda: networks.gru(4, seed=0),
    "stacked": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(3), keras.layers.LSTMCell(2)]
    ),
}
LENGTH, NUM_ENVS = 7, 3


@pytest.fixture(scope="module", params=RECURRENT.values(), ids=RECURRENT)
def recurrent(request):
    network = build(BOX, request.param())
    random = np.random.default_rng(0)
    obs = tf.constant(random_obs(BOX, (LENGTH, NUM_ENVS), random))
    first = random.random((LENGTH, NUM_ENVS)) < 0.3
    first[0, :2] = True, False
    state = tuple(
        tf.constant(random.normal(size=x.shape), tf.float32)
        for x in networks.initial_state(network, NUM_ENVS)
    )
    return network, obs, first, state


def step_by_step(network, obs, first, state):
    scores, states = [], []
    for t in range(len(obs)):
        out, state = networks.apply(network, obs[t], state, tf.constant(first[t]))
        scores.append(out)
        states.append(state)
    return np.stack(scores), [np.stack(x) for x in zip(*states, strict=True)]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
def test_unrolling_is_acting_step_by_step(recurrent, compiled):
    network, obs, first, state = recurrent
    unroll = lambda *args: networks.unroll(network, *args)  # noqa: E731
    scores, states = (xla(unroll) if compiled else unroll)(obs, state, tf.constant(first))
    want, want_states = step_by_step(network, obs, first, state)
    np.testing.assert_allclose(scores, want, atol=1e-5)
    for one, two in zip(states, want_states, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_encoder_takes_all_steps_of_a_chunk_at_once():
    seen = []

    class Watched(keras.layers.Dense):
        def call(self, inputs):
            seen.append(inputs.shape[0])
            return super().call(inputs)

    torso = networks.Recurrent(keras.layers.GRUCell(4), Watched(5))
    network = build(BOX, torso)
    seen.clear()
    obs = tf.constant(random_obs(BOX, (LENGTH, NUM_ENVS), np.random.default_rng(0)))
    state = networks.initial_state(network, NUM_ENVS)
    networks.unroll(network, obs, state, tf.fill((LENGTH, NUM_ENVS), False))
    assert seen == [LENGTH * NUM_ENVS]


def test_a_state_is_reset_where_an_episode_starts_and_only_there(recurrent):
    network, obs, _, state = recurrent
    first = tf.constant([True, False, True])
    scores, next_state = networks.apply(network, obs[0], state, first)
    fresh, fresh_state = networks.apply(
        network, obs[0], networks.initial_state(network, NUM_ENVS), tf.fill([NUM_ENVS], False)
    )
    kept, kept_state = networks.apply(network, obs[0], state, tf.fill([NUM_ENVS], False))
    for found, clean, old in zip(
        [scores, *next_state], [fresh, *fresh_state], [kept, *kept_state], strict=True
    ):
        np.testing.assert_allclose(found.numpy()[[0, 2]], clean.numpy()[[0, 2]], atol=1e-6)
        np.testing.assert_allclose(found[1], old[1], atol=1e-6)
        assert np.abs(found[0] - old[0]).max() > 1e-4


def test_nothing_from_before_an_episode_reaches_into_it(recurrent):
    """A sequence with a start in its middle scores as the part from there on its own."""
    network, obs, _, state = recurrent
    first = np.zeros((LENGTH, NUM_ENVS), bool)
    first[3] = True
    scores, _ = networks.unroll(network, obs, state, tf.constant(first))
    fresh = networks.initial_state(network, NUM_ENVS)
    alone, _ = networks.unroll(network, obs[3:], fresh, tf.constant(first[3:] & False))
    np.testing.assert_allclose(scores[3:], alone, atol=1e-6)


def test_a_feed_forward_network_has_no_state():
    network = build(BOX)
    assert networks.initial_state(network, 4) == ()
    obs = tf.constant(random_obs(BOX, (5, 2), np.random.default_rng(0)))
    scores, state = networks.unroll(network, obs, (), tf.zeros((5, 2), tf.bool))
    assert state == ()
    for t in range(5):
        one, _ = networks.apply(network, obs[t], (), tf.zeros(2, tf.bool))
        np.testing.assert_allclose(scores[t], one, atol=1e-6)


# Target networks

TRICKY = {
    "dense": lambda: networks.dense((4,), layer_norm=True, seed=0),
    "batch norm": lambda: keras.Sequential(
        [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    ),
    "dropout": lambda: keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5)]),
    "functional": lambda: functional(),
}


def functional():
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(4)(inputs) + keras.layers.Dense(4)(inputs))


def pair(torso, head=None, rate=1.0):
    """Returns a network and what follows it every second time, after it has learned something."""
    network = build(BOX, torso, head)
    follower = networks.Target(network, rate, period=2)
    target = follower.network
    shared = {id(v) for v in network.variables} & {id(v) for v in target.variables}
    assert not shared
    for one, two in zip(network.weights, target.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    random = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(variable + random.random(variable.shape).astype(np.float32))
    return network, follower


@pytest.mark.parametrize("dueling", [False, True], ids=["plain", "dueling"])
@pytest.mark.parametrize("torso", TRICKY.values(), ids=TRICKY)
def test_a_copy_is_equal_disjoint_and_exact_after_a_hard_update(torso, dueling):
    network, follower = pair(torso(), networks.dueling(HEAD) if dueling else None)
    target = follower.network
    before = target.get_weights()
    follower.follow(tf.constant(3))
    for one, two in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    follower.follow(tf.constant(4))
    for one, two in zip(network.weights, target.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    obs = tf.constant(random_obs(BOX, (4,), np.random.default_rng(1)))
    np.testing.assert_array_equal(network(obs), target(obs))


@pytest.mark.parametrize("torso", TRICKY.values(), ids=TRICKY)
def test_a_soft_update_moves_every_weight_by_its_share(torso):
    """Also the moving statistics of a BatchNormalization."""
    network, follower = pair(torso(), rate=0.1)
    target, update = follower.network, xla(follower.follow)
    old, new = target.get_weights(), network.get_weights()
    update(tf.constant(3))
    for one, two in zip(old, target.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    update(tf.constant(4))
    for was, to, found in zip(old, new, target.get_weights(), strict=True):
        assert np.abs(found - (was + 0.1 * (to.astype(np.float64) - was))).max() <= 1e-7 * 4
        assert not np.array_equal(found, was)


# Gradient steps


def test_a_step_is_clipped_and_its_norm_reported():
    network = networks.build_network(
        EnvSpec(Box((2,)), Discrete(1), 5), keras.layers.Identity(), networks.linear(1, 1.0, 0)
    )
    for limit, share in ((10.0, 1.0), (1.0, 0.2)):
        trainer = networks.Trainable(network, 1.0, limit)
        trainer.optimizer = keras.optimizers.SGD(1.0)
        trainer.optimizer.build(network.trainable_variables)
        before = network.get_weights()
        with tf.GradientTape() as tape:  # gradient: 3 and 0 of the kernel, 4 ... of the bias
            kernel, bias = network.trainable_variables
            loss = 3.0 * kernel[0, 0] + 4.0 * bias[0]
        norm = trainer.descend(tape, loss)
        assert float(norm) == pytest.approx(5.0)
        moved = [a - b for a, b in zip(before, network.get_weights(), strict=True)]
        np.testing.assert_allclose(moved[0], [[3.0 * share], [0.0]], atol=1e-6)
        np.testing.assert_allclose(moved[1], [4.0 * share], atol=1e-6)


@pytest.mark.slow
def test_keras_loads_a_network_of_ours_after_import_rlzoo(tmp_path):
    network = networks.build_network(IMAGE, small_torso(IMAGE), networks.dueling(HEAD))
    network.save(tmp_path / "network.keras")
    code = (
        "import sys, keras, rlzoo, numpy as np\n"
        "network = keras.saving.load_model(sys.argv[1])\n"
        "print(float(np.sum(network(np.full((1, 10, 10, 2), 255, np.uint8)))))"
    )
    command = [sys.executable, "-c", code, tmp_path / "network.keras"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    want = float(np.sum(network(np.full((1, 10, 10, 2), 255, np.uint8))))
    assert float(done.stdout) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    "torso",
    [
        lambda: networks.dense((8,)),
        lambda: networks.lstm(4, encoder=(5,)),
        lambda: keras.layers.StackedRNNCells([keras.layers.LSTMCell(3)]),
        lambda: networks.Recurrent(
            keras.layers.GRUCell(4), keras.Sequential([keras.layers.ReLU()])
        ),
    ],
)
def test_what_learning_takes_is_known_of_any_network_and_grows_with_the_batch(torso):
    network = build(BOX, torso())
    few, many = (networks.learning_bytes(network, rows) for rows in (8, 1_000))
    assert 20 * network.count_params() < few < many
