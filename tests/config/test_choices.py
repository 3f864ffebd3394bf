"""Torsos and strategies as a configuration names them."""

import pytest

from rlzoo import networks
from rlzoo.config.choices import choice_of, filled, known_torsos, make_torso


def test_a_torso_for_each_part_is_a_torso_too():
    choice = choice_of({"camera/left": {"name": "conv", "size": 8}, "state": "dense"}, "torso")
    whole = filled(choice, known_torsos(), "torso")
    assert whole["name"] == "parts" and whole["then"] is None
    assert whole["torsos"]["camera/left"] == filled(
        {"name": "conv", "size": 8}, known_torsos(), "torso"
    )
    assert whole["torsos"]["state"]["sizes"] == [64, 64]
    assert filled(whole, known_torsos(), "torso") == whole, "as a file holds it"
    torso = make_torso(whole, 3)
    assert isinstance(torso, networks.Parts) and list(torso.torsos) == ["camera/left", "state"]


def test_something_may_come_after_the_parts():
    choice = {
        "name": "parts",
        "torsos": {"state": "dense"},
        "then": {"name": "dense", "sizes": [5]},
    }
    choice = filled(choice, known_torsos(), "torso")
    torso = make_torso(choice, 0)
    torso.build({"state": (None, 2), "other": (None, 3)})
    recurrent = make_torso({"name": "parts", "torsos": {"state": "dense"}, "then": "lstm"}, 0)
    assert networks.is_recurrent(recurrent)
    assert isinstance(recurrent.encoder, networks.Parts)
    assert torso.compute_output_shape({"state": (None, 2), "other": (None, 3)}) == (None, 5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"camera": {"name": "conv", "sizes": [3]}}, "Unknown setting torso.torsos.camera.sizes"),
        ({"name": "parts", "torsos": {"camera": "convv"}}, "Unknown torso.torsos.camera 'convv'"),
        ({"name": "parts"}, "torso.torsos is missing"),
        ({"name": "parts", "torsos": {}, "then": {"name": "x"}}, "Unknown torso.then 'x'"),
    ],
)
def test_a_bad_torso_of_a_part_is_named(given, words):
    with pytest.raises(ValueError, match=words):
        filled(choice_of(given, "torso"), known_torsos(), "torso")


@pytest.mark.parametrize(
    "given", [{}, {"sizes": [8]}, {"activation": "relu"}, {"encoder": {"name": "conv"}}]
)
def test_settings_of_a_torso_are_no_torsos_of_parts(given):
    assert choice_of(given, "torso") == given
