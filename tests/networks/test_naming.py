"""Names of variables: the same in every process, and readable."""

import keras
import numpy as np
import pytest

from rlzoo import networks
from tests.helpers import BOX, IMAGE, PARTS, small_torso

HEAD = 3


def names(spec, torso, head=networks.q_values):
    network = networks.build_network(spec, torso, head(HEAD))
    found = networks.named_variables(network)
    assert sorted(map(id, found.values())) == sorted(map(id, network.variables)), "each once"
    return list(found)


def test_they_are_paths_that_count_within_what_holds_them():
    """Keras counts layer names up within a process, so they differ from run to run."""
    for _ in range(2):
        assert names(BOX, networks.dense((8, 4), layer_norm=True)) == [
            "torso/dense/kernel",
            "torso/dense/bias",
            "torso/norm/gamma",
            "torso/norm/beta",
            "torso/dense_1/kernel",
            "torso/dense_1/bias",
            "torso/norm_1/gamma",
            "torso/norm_1/beta",
            "q_values/kernel",
            "q_values/bias",
        ]


def test_a_torso_is_named_so_whatever_it_is():
    own = keras.layers.Dense(4, name="of mine")
    assert names(BOX, own)[:2] == ["torso/kernel", "torso/bias"]
    assert own.name == "of mine"
    cell = networks.Recurrent(keras.layers.GRUCell(4), keras.layers.Dense(5))
    found = set(names(BOX, cell, networks.dueling))
    assert {"torso/dense/kernel", "torso/gru_cell/kernel", "dueling/value/kernel"} <= found
    assert {name.split("/")[0] for name in found} == {"torso", "dueling"}


def test_a_copy_has_the_same_names():
    network = networks.build_network(BOX, networks.dense((8,)), networks.dueling(HEAD))
    copy = networks.copy_network(network)
    assert list(networks.named_variables(copy)) == list(networks.named_variables(network))


@pytest.mark.parametrize("spec", [IMAGE, PARTS], ids=["image", "parts"])
def test_a_torso_alone_has_the_names_that_it_has_in_a_network(spec):
    """So a run finds the torso that another has left."""
    torso = networks.joined(small_torso(spec), spec.obs)
    networks.build_torso(torso, spec.obs)
    alone = networks.under("torso", networks.named_variables(torso))
    inside = [name for name in names(spec, torso) if name.startswith("torso/")]
    assert list(alone) == inside


def test_two_layers_of_a_name_and_odd_names_stay_apart():
    """A checkpoint takes no name that is no path."""
    inner = [keras.layers.Dense(4, name=name) for name in ("a b", "a?b_7", "a_b")]
    found = names(BOX, keras.Sequential(inner))
    assert found[:6:2] == ["torso/a_b/kernel", "torso/a_b_1/kernel", "torso/a_b_2/kernel"]


def test_a_layer_used_twice_is_named_once():
    shared = keras.layers.Dense(3)
    inputs = keras.Input((3,))
    found = names(BOX, keras.Model(inputs, shared(shared(inputs))))
    assert found == ["torso/dense/kernel", "torso/dense/bias", "q_values/kernel", "q_values/bias"]


def test_those_of_an_optimiser_are_numbered():
    network = networks.build_network(BOX, networks.dense((8,)), networks.q_values(HEAD))
    optimizer = networks.Trainable(network, 1e-3, 10.0).optimizer
    found = networks.named_variables(optimizer)
    assert list(found) == [str(i) for i in range(len(optimizer.variables))]
    assert [np.size(v) for v in found.values()] == [np.size(v) for v in optimizer.variables]
