"""Torsos: what they build, with which numbers, and what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks.layers import HalvingMaxPool, PatchConv2D
from rlzoo.networks.torsos import initializer
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import BOX, DISCRETE, IMAGE, graph, random_obs, xla

HEAD = 2


def build(torso, spec=BOX):
    return networks.build_network(spec, torso, networks.q_values(HEAD, seed=0))


def image(side, channels=1):
    return EnvSpec(Box((side, side, channels), "uint8", 0, 255), Discrete(HEAD), 5)


def layers(torso):
    return [type(layer).__name__ for layer in torso.layers]


def kernels(torso):
    return [layer.kernel for layer in torso.layers if hasattr(layer, "kernel")]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "elu"])
def test_dense_is_its_formula(activation):
    torso = networks.dense((4, 5), activation, seed=0)
    obs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    found = torso(obs)
    features = obs
    for kernel in kernels(torso):
        features = keras.activations.get(activation)(features @ kernel.numpy())
    np.testing.assert_allclose(found, features, atol=1e-5)
    assert found.shape == (6, 5)


def test_dense_normalises_before_each_activation_if_asked():
    torso = networks.dense((4, 5), layer_norm=True, seed=0)
    torso(tf.zeros((1, 3)))
    hidden = ["Dense", "LayerNormalization", "Activation"]
    assert layers(torso) == ["Flatten", *hidden, *hidden]


def test_dense_flattens_images():
    assert networks.dense((4,), seed=0)(tf.zeros((7, 2, 3, 2))).shape == (7, 4)


def test_one_size_may_stand_without_brackets():
    assert networks.dense(4)(tf.zeros((1, 3))).shape == (1, 4)


def test_orthogonal_kernels_have_their_gain():
    torso = networks.dense((8,), seed=0)
    torso(tf.zeros((1, 3)))
    (kernel,) = kernels(torso)
    np.testing.assert_allclose(kernel @ tf.transpose(kernel), 2.0 * np.eye(3), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "limit"), [("he", (6 / 200) ** 0.5), ("glorot", (6 / 500) ** 0.5)]
)
def test_uniform_initialisers_have_the_papers_range(name, limit):
    kernel = np.array(initializer(name, seed=0)((200, 300)))
    assert np.abs(kernel).max() <= limit
    assert np.abs(kernel).max() > 0.99 * limit
    assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.02)


def test_nature_is_the_papers_network():
    """Mnih et al. 2015, on their 84 x 84 x 4, less the head for 18 actions."""
    torso = networks.conv("nature", seed=0)
    torso(tf.zeros((1, 84, 84, 4)))
    convs = [layer for layer in torso.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(x.filters, x.kernel_size[0], x.strides[0]) for x in convs] == [
        (32, 8, 4),
        (64, 4, 2),
        (64, 3, 1),
    ]
    assert torso.count_params() == 1_693_362 - (512 + 1) * 18


@pytest.mark.parametrize("side", [10, 28])
@pytest.mark.parametrize("max_pool", [False, True])
def test_small_takes_small_images(side, max_pool):
    torso = networks.conv("small", size=6, max_pool=max_pool, seed=0)
    assert torso(tf.zeros((2, side, side, 3))).shape == (2, 6)
    assert layers(torso).count("HalvingMaxPool") == (2 if max_pool else 0)


@pytest.mark.parametrize(
    ("rows", "columns", "stride"), [(3, 3, 1), (8, 8, 4), (4, 2, 2), (1, 5, 3)]
)
@pytest.mark.parametrize("side", [8, 11])
def test_a_convolution_by_patches_is_keras_own(rows, columns, stride, side):
    obs = np.random.default_rng(0).normal(size=(2, side, side + 1, 3)).astype(np.float32)
    ours = PatchConv2D(5, (rows, columns), stride, activation="tanh", name="conv")
    theirs = keras.layers.Conv2D.from_config(ours.get_config())
    ours.build(obs.shape)
    theirs.build(obs.shape)
    theirs.set_weights(ours.get_weights())
    same_with_gradients(ours, theirs, obs)


@pytest.mark.parametrize("shape", [(4, 6), (5, 5), (4, 3), (1, 1)])
def test_halving_is_keras_own_pooling(shape):
    obs = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    theirs = keras.layers.MaxPooling2D(2, padding="same")
    same_with_gradients(HalvingMaxPool(), theirs, obs)


def same_with_gradients(ours, theirs, obs):
    """Asserts that two layers agree, in a plain graph and under XLA, where ours has no such op."""
    obs = tf.constant(obs)

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(obs)
            out = layer(obs)
            loss = tf.reduce_sum(tf.square(out - 1.0))
        return [out, *tape.gradient(loss, [obs, *layer.trainable_variables])]

    def in_a_loop(layer):
        """As the graph loop has it: what is traced is the body of a loop."""
        like = [tf.zeros_like(x) for x in gradients(layer)]
        return tf.while_loop(
            lambda *_: True, lambda *_: gradients(layer), like, maximum_iterations=1
        )

    wanted = gradients(theirs)
    for wrap in (gradients, in_a_loop):
        for compiler in (graph, xla):
            call = compiler(lambda wrap=wrap: wrap(ours))
            for one, other in zip(call(), wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)
            text = str(call.get_concrete_function().graph.as_graph_def())
            assert ('op: "Conv2D"' in text or 'op: "MaxPool"' in text) == (compiler is graph)


def test_conv_takes_images_without_a_channel_axis():
    torso = networks.conv("small", size=6, seed=0)
    obs = np.random.default_rng(0).random((2, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(torso(obs), torso(obs[..., None]))


# The smallest image that each kind of convolutions leaves a pixel of.
LIMITS = [("nature", False, 36), ("nature", True, 96), ("small", False, 5), ("small", True, 7)]


@pytest.mark.parametrize(("variant", "max_pool", "side"), LIMITS)
def test_an_image_that_is_too_small_is_refused_with_a_way_out(variant, max_pool, side):
    def make():
        return networks.conv(variant, size=4, max_pool=max_pool, seed=0)

    assert build(make(), image(side)).output_shape == (None, HEAD)
    wanted = rf"at least {side}x{side} .*received {side - 1}x{side - 1}.*torso"
    with pytest.raises(ValueError, match=wanted) as caught:
        build(make(), image(side - 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [BOX, DISCRETE, BOX._replace(obs=Box((2, 3, 4, 5)))])
def test_conv_refuses_what_is_no_image_in_one_clear_line(spec):
    with pytest.raises(ValueError, match=r"conv torso expects images.*received.*dense") as caught:
        build(networks.conv("small"), spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: networks.dense(()), "sizes"),
        (lambda: networks.dense((8, 0)), r"\(8, 0\)"),
        (lambda: networks.dense((8, 2.5)), "2.5"),
        (lambda: networks.dense((8,), init="zeros"), "'zeros'.*orthogonal, he, glorot"),
        (lambda: networks.dense((8,), activation="rellu"), "rellu"),
        (lambda: networks.conv("tiny"), "'nature' or 'small'.*'tiny'"),
        (lambda: networks.lstm(0), "positive"),
        (lambda: networks.lstm(4, encoder=(0,)), "sizes"),
        (lambda: networks.lstm(4, {"name": "cov"}), "encoder 'cov'. Did you mean 'conv'.*dense"),
        (lambda: networks.gru(4, {"name": "lstm"}), "encoder 'lstm'.*Known: conv, dense"),
        (lambda: networks.rnn(4, {"name": ["conv"]}), "Unknown encoder"),
        (lambda: networks.rnn(4, {"sizes": (4,)}), "Unknown encoder None.*Known: conv, dense"),
        (
            lambda: networks.gru(4, {"name": "conv", "maxpool": True}),
            r"encoder\.maxpool. Did you mean 'max_pool'",
        ),
        (lambda: networks.gru(4, {"name": "conv", "variant": "tiny"}), "'tiny'"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("make", networks.TORSOS.values(), ids=networks.TORSOS)
def test_the_seed_decides_the_weights(make):
    def weights(seed):
        torso = make(seed=seed)
        networks.build_torso(torso, (image(36) if make is networks.conv else BOX).obs)
        return torso.get_weights()

    same = zip(weights(1), weights(1), strict=True)
    assert all(np.array_equal(one, two) for one, two in same)
    kernels = [pair for pair in zip(weights(1), weights(2), strict=True) if pair[0].std() > 0.01]
    kernels = [pair for pair in kernels if pair[0].ndim > 1]
    assert kernels
    assert not any(np.array_equal(one, two) for one, two in kernels)


def test_layers_of_one_torso_have_different_weights():
    torso = networks.dense((8, 8), seed=0)
    torso(tf.zeros((1, 8)))
    one, other = kernels(torso)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    ("make", "num_states"),
    [(networks.lstm, 2), (networks.gru, 1), (networks.rnn, 1)],
    ids=["lstm", "gru", "rnn"],
)
def test_recurrent_torsos_carry_their_state_from_call_to_call(make, num_states):
    torso = make(4, encoder=(5,), seed=0)
    assert networks.is_recurrent(torso)
    network = build(torso)
    obs, state = tf.ones((2, 3)), networks.initial_state(network, 2)
    assert [tuple(x.shape) for x in state] == [(2, 4)] * num_states
    scores, *state = network([obs, *state])
    again, *_ = network([obs, *state])
    fresh, *_ = network([obs, *networks.initial_state(network, 2)])
    assert scores.shape == (2, HEAD)
    np.testing.assert_array_equal(scores, fresh)  # nothing is remembered inside the layer
    assert np.abs(scores - again).max() > 1e-4


def test_lstm_is_its_formula():
    """Hochreiter & Schmidhuber 1997 with forget gates; Keras orders input, forget, cell, output."""
    torso = networks.lstm(4, seed=0)
    random = np.random.default_rng(0)
    obs, h, c = (random.normal(size=(2, size)).astype(np.float32) for size in (3, 4, 4))
    found, (new_h, new_c) = torso(obs, [h, c])
    kernel, recurrent, bias = torso.get_weights()
    gates = np.split(obs @ kernel + h @ recurrent + bias, 4, axis=-1)
    i, f, o = (1 / (1 + np.exp(-gates[k])) for k in (0, 1, 3))
    want_c = f * c + i * np.tanh(gates[2])
    np.testing.assert_allclose(new_c, want_c, atol=1e-5)
    np.testing.assert_allclose(new_h, o * np.tanh(want_c), atol=1e-5)
    np.testing.assert_array_equal(found, new_h)
    np.testing.assert_array_equal(bias[4:8], 1.0)  # remembers at first


def test_rnn_is_its_formula():
    torso = networks.rnn(4, seed=0)
    random = np.random.default_rng(0)
    obs, h = (random.normal(size=(2, size)).astype(np.float32) for size in (3, 4))
    found, (new_h,) = torso(obs, [h])
    kernel, recurrent, bias = torso.get_weights()
    np.testing.assert_allclose(found, np.tanh(obs @ kernel + h @ recurrent + bias), atol=1e-5)
    np.testing.assert_array_equal(found, new_h)


CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(4),
    "gru": lambda: keras.layers.GRUCell(4),
    "simple": lambda: keras.layers.SimpleRNNCell(4),
    "stacked_gru": lambda: keras.layers.StackedRNNCells(
        [keras.layers.GRUCell(4), keras.layers.GRUCell(3)]
    ),
    "stacked_lstm": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(4), keras.layers.LSTMCell(3)]
    ),
    "stacked_mixed": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(4), keras.layers.GRUCell(3)]
    ),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_any_keras_cell_is_a_recurrent_torso(cell, wrapped):
    torso = networks.Recurrent(cell()) if wrapped else cell()
    assert networks.is_recurrent(torso)
    network = build(torso)
    state = networks.initial_state(network, 2)
    first = tf.constant([[True, True], [False, False], [False, True]])
    obs = random_obs(BOX, (3, 2), np.random.default_rng(0))
    scores, states = networks.unroll(network, tf.constant(obs), state, first)
    assert scores.shape == (3, 2, HEAD)
    assert all(x.shape[:2] == (3, 2) and np.abs(x[-1]).max() > 0 for x in states)


def test_a_convolution_can_stand_before_a_recurrent_cell():
    encoder = networks.conv("small", size=6, seed=0)
    network = build(networks.Recurrent(keras.layers.GRUCell(4), encoder), IMAGE)
    assert network.output_shape == [(None, HEAD), (None, 4)]


@pytest.mark.parametrize("make", [networks.lstm, networks.gru, networks.rnn])
def test_an_encoder_may_be_another_torso(make):
    params = {"variant": "small", "size": 6, "max_pool": True}
    torso = make(4, encoder={"name": "conv", **params}, seed=0)
    assert layers(torso.encoder) == layers(networks.conv(**params))
    assert build(torso, image(10)).output_shape[0] == (None, HEAD)
    network, same, other = (
        build(make(4, encoder={"name": "conv", **params}, seed=seed), image(10)).get_weights()
        for seed in (0, 0, 1)
    )
    assert all(map(np.array_equal, network, same))
    assert not np.array_equal(network[0], other[0])  # the first kernel of the encoder
    copy = networks.copy_torso(torso, image(10).obs)
    assert all(map(np.array_equal, copy.get_weights(), torso.get_weights()))


def test_sizes_are_short_for_a_dense_encoder():
    short = networks.gru(4, encoder=(5, 6), activation="tanh", seed=0)
    encoder = {"name": "dense", "sizes": [5, 6], "activation": "tanh"}
    long = networks.gru(4, encoder=encoder, seed=0)
    weights = (build(torso).get_weights() for torso in (short, long))
    assert all(map(np.array_equal, *weights))


@pytest.mark.parametrize(
    "make",
    [
        lambda: networks.dense((4,), layer_norm=True, seed=1),
        lambda: networks.lstm(4, encoder=(5,), seed=1),
        lambda: networks.gru(4, seed=1),
        lambda: keras.layers.Dense(4),
        lambda: networks.Recurrent(CELLS["stacked_mixed"]()),
    ],
)
def test_a_torso_can_be_copied_before_and_after_it_is_built(make):
    torso = make()
    early = networks.copy_torso(torso, BOX.obs)
    network = build(torso)
    for copy in (early, networks.copy_torso(torso, BOX.obs)):
        other = build(copy)
        assert [w.shape for w in other.weights] == [w.shape for w in network.weights]
        assert not {id(w) for w in other.weights} & {id(w) for w in network.weights}
        states = networks.initial_state(network, 1)
        inputs = [tf.ones((1, 3)), *states] if states else tf.ones((1, 3))
        other.set_weights(network.get_weights())
        one, two = (keras.tree.flatten(x(inputs))[0] for x in (network, other))
        np.testing.assert_array_equal(one, two)


class NoConfig(keras.layers.Layer):
    """A layer of a user who has not heard of get_config."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_torso_that_cannot_be_copied_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"torso cannot be copied.*NoConfig.*get_config\(\)"):
        networks.copy_torso(NoConfig(4), BOX.obs)
    inside = keras.Sequential([keras.layers.Dense(3), NoConfig(4)])
    with pytest.raises(ValueError, match=r"torso cannot be copied.*NoConfig.*get_config\(\)"):
        networks.copy_torso(inside, BOX.obs)


class Doubled(keras.layers.Layer):
    """A layer of a user who has not registered it."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def doubled(x):
    return 2.0 * x


def test_layers_and_functions_of_the_users_own_need_not_be_registered():
    torso = keras.Sequential([Doubled(3.0), keras.layers.Dense(4, activation=doubled)])
    network = build(torso, BOX)
    copy = networks.copy_network(network)
    np.testing.assert_array_equal(copy(tf.ones((1, 3))), network(tf.ones((1, 3))))
    assert not torso.built, "what is given stays as it is"


def test_a_copy_has_the_weights_of_those_layers_that_have_some():
    """As where a trained layer is put before new ones."""
    trained = keras.layers.Dense(4)
    trained.build((None, 3))
    trained.trainable = False
    torso = keras.Sequential([trained, keras.layers.Dense(5)])
    copies = [networks.copy_torso(torso, BOX.obs) for _ in range(2)]
    for copy in copies:
        np.testing.assert_array_equal(copy.layers[0].kernel, trained.kernel)
        assert len(copy.trainable_weights) == 2
    assert not np.array_equal(copies[0].layers[1].kernel, copies[1].layers[1].kernel)
    assert not torso.layers[1].built


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_a_keras_rnn_layer_is_no_cell(layer):
    """It walks along an axis of one observation, if there is one."""
    make = getattr(keras.layers, layer)
    assert not networks.is_recurrent(make(4))
    for torso in (make(4), keras.Sequential([make(4)])):
        with pytest.raises(
            ValueError, match=rf"received \[3\].*use a cell: keras.layers.{layer}Cell"
        ):
            build(torso, BOX)
    history = BOX._replace(obs=Box((5, 3)))
    assert build(make(4), history)(tf.ones((2, 5, 3))).shape == (2, HEAD)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_floats_than_float32_are_refused(policy):
    with pytest.raises(
        ValueError, match=rf"single precision.*received the dtype policy '{policy}'"
    ):
        build(keras.layers.Dense(4, dtype=policy), BOX)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(ValueError, match=rf"single precision.*'{policy}'.*set_dtype_policy"):
            build(networks.dense((4,)), BOX)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.LSTMCell(4, dropout=0.5),
        lambda: networks.Recurrent(keras.layers.GRUCell(4, recurrent_dropout=0.5)),
        lambda: keras.layers.StackedRNNCells([keras.layers.SimpleRNNCell(4, dropout=0.5)]),
    ],
)
def test_dropout_in_a_cell_is_refused(make):
    with pytest.raises(ValueError, match=r"expected dropout=0.*received.*0.5.*Dropout layer"):
        build(make(), BOX)


def test_chrono_spreads_how_long_an_lstm_remembers():
    """Tallec & Ollivier 2018: forget = log(u), u in [1, longest - 1], input = -forget."""
    torso = networks.lstm(1_000, chrono=100, seed=0)
    networks.build_torso(torso, BOX.obs)
    entry, forget, cell, out = np.split(torso.cell.bias.numpy(), 4)
    pace = np.exp(forget)
    assert 1.0 <= pace.min() < 2.0
    assert 98.0 < pace.max() <= 99.0
    assert pace.mean() == pytest.approx(50.0, rel=0.05)
    np.testing.assert_array_equal(entry, -forget)
    assert not np.any(cell) and not np.any(out)


def test_without_chrono_an_lstm_starts_with_a_forget_bias_of_1():
    torso = networks.lstm(5, seed=0)
    networks.build_torso(torso, BOX.obs)
    np.testing.assert_array_equal(torso.cell.bias, np.repeat([0.0, 1.0, 0.0, 0.0], 5))


def test_a_chrono_lstm_survives_its_config():
    torso = networks.lstm(5, chrono=30, seed=0)
    copy = keras.layers.deserialize(keras.layers.serialize(torso))
    networks.build_torso(torso, BOX.obs), networks.build_torso(copy, BOX.obs)
    np.testing.assert_array_equal(copy.cell.bias, torso.cell.bias)


def test_chrono_refuses_a_wait_that_is_none():
    with pytest.raises(ValueError, match="chrono: expected at least 3 steps or null, received 2"):
        networks.lstm(chrono=2)


# Axes of images


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((4, 12, 12), 4), ((5, 12, 12), 5), ((3, 12, 9), 3), ((4, 12, 12, 3), 12)],
)
def test_frames_and_channels_in_front_become_the_last_axis(shape, channels):
    spec = BOX._replace(obs=Box(shape, "uint8", 0, 255))
    torso = networks.conv("small", size=4, seed=0)
    if len(shape) == 3:
        with pytest.warns(UserWarning, match=rf"taken for {channels} channels of 12x"):
            network = build(torso, spec)
    else:
        network = build(torso, spec)
    assert network.get_weights()[0].shape == (3, 3, channels, 16)
    front = np.random.default_rng(0).integers(0, 255, (2, *shape)).astype(np.uint8)
    last = np.moveaxis(front, 1, 3)  # [B, height, width, frames, ...]
    last = last.reshape(2, *last.shape[1:3], channels)
    other = build(networks.conv("small", size=4, seed=0, channels="last"), spec_of_images(last))
    np.testing.assert_allclose(network(front), other(last), atol=1e-6)


def spec_of_images(images):
    return BOX._replace(obs=Box(images.shape[1:], "uint8", 0, 255))


@pytest.mark.parametrize("shape", [(12, 12, 4), (12, 12, 20), (6, 7, 8), (12, 9, 3)])
def test_channels_at_the_end_stay_there(shape):
    spec = BOX._replace(obs=Box(shape, "uint8", 0, 255))
    network = build(networks.conv("small", size=4), spec)
    assert network.get_weights()[0].shape == (3, 3, shape[-1], 16)


def test_which_axis_holds_the_channels_can_be_said():
    spec = BOX._replace(obs=Box((6, 12, 12), "uint8", 0, 255))
    network = build(networks.conv("small", size=4, channels="last"), spec)
    assert network.get_weights()[0].shape == (3, 3, 12, 16)
    spec = spec._replace(obs=Box((20, 12, 12), "uint8", 0, 255))
    network = build(networks.conv("small", size=4, channels="first"), spec)
    assert network.get_weights()[0].shape == (3, 3, 20, 16)
    with pytest.raises(ValueError, match="expects channels auto, first or last, received 'end'"):
        networks.conv(channels="end")
