"""Torsos as text: Keras's own layers and ours come back, nothing else is read."""

import json

import keras
import numpy as np
import pytest

from rlzoo import networks
from rlzoo.networks.described import describe_torso, described, first_unknown
from tests.helpers import BOX, IMAGE


def functional():
    inputs = keras.Input((3,))
    return keras.Model(
        inputs, keras.layers.Add()([keras.layers.Dense(4)(inputs), keras.layers.Dense(4)(inputs)])
    )


TORSOS = {
    "layer": lambda: keras.layers.Dense(4, "silu", kernel_regularizer="l2"),
    "sequential": lambda: keras.Sequential(
        [
            keras.layers.Dense(5, kernel_constraint="max_norm"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1, seed=123_456_789),
            keras.Sequential([keras.layers.ReLU()]),
        ]
    ),
    "functional": functional,
    "cell": lambda: keras.layers.StackedRNNCells(
        [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]
    ),
    "ours": lambda: networks.lstm(4, encoder=(3,), chrono=5),
}


def shapes(torso, spec=BOX):
    head = networks.q_values(3)
    return [w.shape for w in networks.build_network(spec, torso, head).weights]


@pytest.mark.parametrize("make", TORSOS.values(), ids=TORSOS)
def test_what_keras_has_comes_back_from_its_text(make):
    choice = describe_torso(make())
    assert choice["name"] == "keras"
    torso = described(choice["layers"])
    assert type(torso) is type(make())
    assert shapes(torso) == shapes(make())
    assert choice["trained"] == (make == TORSOS["functional"])


def test_convolutions_come_back_too():
    choice = describe_torso(networks.conv("small", size=4))
    assert shapes(described(choice["layers"]), IMAGE) == shapes(
        networks.conv("small", size=4), IMAGE
    )


@keras.saving.register_keras_serializable("rlzoo tests")
class Mine(keras.layers.Layer):
    """Registered, yet not ours to bring back."""

    def call(self, inputs):
        return 2.0 * inputs


@pytest.mark.parametrize(
    "layer",
    [
        Mine,
        lambda: keras.layers.Lambda(lambda x: x),
        lambda: keras.layers.Dense(4, activation=lambda x: x),
        lambda: keras.layers.Dense(20_000),
    ],
)
def test_anything_else_has_no_text(layer):
    assert describe_torso(keras.Sequential([keras.layers.Dense(3), layer()])) is None


def test_the_layer_in_the_way_is_named():
    inner = Mine()
    assert first_unknown(keras.Sequential([keras.layers.Dense(3), inner])) is inner


def text_with(**changes):
    """A Dense layer's text with other entries."""
    tree = json.loads(describe_torso(keras.layers.Dense(4))["layers"])
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = tree
        for name in parents:
            at = at[name]
        at[last] = value
    return json.dumps(tree)


LAMBDA = {
    "module": "keras.layers", "class_name": "Lambda", "registered_name": None,
    "config": {"function": {"class_name": "__lambda__", "config": {"value": "4wEA"}}},
}  # fmt: skip
HOSTILE = {
    "another module": text_with(module="os", class_name="system"),
    "a module of Keras": text_with(module="keras.src.saving.saving_lib", class_name="load_model"),
    "a user's class": text_with(registered_name="rlzoo tests>Mine"),
    "Lambda": json.dumps(LAMBDA),
    "a Lambda inside": text_with(config__activation=LAMBDA),
    "a function": text_with(
        config__activation={
            "module": "builtins", "class_name": "function", "config": "eval",
            "registered_name": "function",
        }
    ),
    "TFSMLayer": text_with(class_name="TFSMLayer", config={"filepath": "/tmp/model"}),
    "a vocabulary": text_with(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
    "the old form": json.dumps({"class_name": "Lambda", "config": {}}),
    "compiled": text_with(compile_config={"optimizer": "adam"}),
    "a shape to build": text_with(build_config={"input_shape": [None, 10]}),
    "too wide": text_with(config__units=10**9),
    "infinitely wide": text_with(config__units=float("inf")),
    "numbers": "[1, 2]",
    "nothing": "{}",
    "no JSON": "keras.layers.Dense(4)",
    "deep": "[" * 39_000,
    "deep enough": text_with(config__activation=json.loads("[" * 60 + "]" * 60)),
    "long": text_with(config__name="x" * 50_000),
    "bytes": text_with(config__name={"class_name": "__bytes__", "config": {"value": "x"}}),
    "a tensor": text_with(
        config__units={"class_name": "__tensor__", "config": {"value": 3, "dtype": "int32"}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^torso.layers") as caught:
        described(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_weights_are_not_in_the_text():
    torso = keras.Sequential([keras.layers.Dense(4)])
    networks.build_torso(torso, BOX.obs)
    choice = describe_torso(torso)
    assert choice["trained"] and len(choice["layers"]) < 2_000
    other = described(choice["layers"])
    assert not np.array_equal(other.get_weights()[0], torso.get_weights()[0])
