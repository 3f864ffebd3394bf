"""Defaults for images: convolutions that fit, replay that fits."""

import pytest

from rlzoo.config.sizing import default_capacity, default_torso
from rlzoo.replay import Replay
from rlzoo.spaces import Box, Discrete, EnvSpec


def images(*shape, **changes):
    return EnvSpec(Box(shape, "uint8", 0, 255)._replace(**changes), Discrete(3), None)


@pytest.mark.parametrize(
    ("spec", "torso"),
    [
        (images(84, 84, 4), {"name": "conv", "variant": "nature"}),
        (images(4, 84, 84), {"name": "conv", "variant": "nature"}),
        (images(210, 160, 3), {"name": "conv", "variant": "nature"}),
        (images(4, 84, 84, 3), {"name": "conv", "variant": "nature"}),
        (images(28, 28), {"name": "conv", "variant": "small"}),
        (images(5, 5, 3), {"name": "conv", "variant": "small"}),
        (images(4, 4, 3), {"name": "dense"}),
        (images(128), {"name": "dense"}),
        (images(7, 7, 3, high=1), {"name": "dense"}),
        (images(84, 84, 4, dtype="float32"), {"name": "dense"}),
    ],
)
def test_images_get_convolutions_that_fit_them(spec, torso):
    assert default_torso("dense", spec) == torso
    assert default_torso("lstm", spec) == {"name": "lstm"}, "an agent's other default stays"


def test_replay_of_large_observations_takes_512_mebibytes_by_default():
    params = {"replay_capacity": 50_000, "learning_starts": 1_000, "batch_size": 128}
    assert default_capacity(images(28, 28), params) == 50_000
    spec = images(210, 160, 3)
    with pytest.warns(UserWarning, match=r"replay_capacity is 5,300 instead of 50,000.*512 MiB"):
        capacity = default_capacity(spec, params)
    assert 0.9 * 2**29 < Replay.predicted_bytes(spec, capacity) <= 2**29
    huge = images(4_000, 4_000, 3)
    with pytest.warns(UserWarning, match="replay_capacity is 1,000 instead"):
        assert default_capacity(huge, params) == 1_000, "the agent begins at learning_starts"
