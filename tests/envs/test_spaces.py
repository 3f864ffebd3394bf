import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlzoo.envs import check_env, make_envs
from rlzoo.envs.spaces import learner_spec, space_problems, warn_if_inexact
from rlzoo.types import ActionBox, EnvSpec

BOX = spaces.Box(0, 1, (3,), np.float32)


def test_learner_spec():
    spec = learner_spec(spaces.Discrete(4, start=-2), spaces.Discrete(3, start=5), 9)
    assert spec == EnvSpec((), "int64", 4, 3, 9)
    image = spaces.Box(0, 255, (10, 10, 2), np.uint8)
    assert learner_spec(image, spaces.Discrete(2), None) == EnvSpec(
        (10, 10, 2), "uint8", None, 2, None, pixels=True
    )


@pytest.mark.parametrize("high", [1, 2, 254, np.array([255, 254, 255])])
def test_bytes_are_pixels_only_where_all_may_be_255(high):
    codes = spaces.Box(0, np.broadcast_to(high, (3,)).astype(np.uint8), (3,), np.uint8)
    assert not learner_spec(codes, spaces.Discrete(2), None).pixels
    for dtype in (np.int8, np.uint16, np.float32, np.bool_):
        other = spaces.Box(0, 1 if dtype == np.bool_ else 127, (3,), dtype)
        assert not learner_spec(other, spaces.Discrete(2), None).pixels


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])),
        spaces.MultiBinary(3),
        spaces.Tuple((spaces.Discrete(2),)),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Text(3),
    ],
)
def test_unsupported_actions(action_space):
    with pytest.raises(ValueError, match="action space: expected Discrete or Box; found") as caught:
        learner_spec(BOX, action_space, None)
    assert type(action_space).__name__ in str(caught.value)
    assert "fix: " in str(caught.value)


def test_box_actions():
    low, high = np.array([-1, -2], np.float32), np.array([1, 0.1], np.float32)
    spec = learner_spec(BOX, spaces.Box(low, high), 9)
    assert spec.num_actions == 0
    assert spec.action_box == ActionBox((2,), (-1.0, -2.0), (1.0, float(np.float32(0.1))))
    assert (spec.action_shape, spec.action_dtype) == ((2,), "float32")


@pytest.mark.parametrize(
    "action_space", [spaces.Box(-np.inf, 1, (2,)), spaces.Box(0, 9, (2,), np.int32)]
)
def test_unsupported_box_actions(action_space):
    with pytest.raises(ValueError, match="action space: expected a bounded Box of floats"):
        learner_spec(BOX, action_space, None)


@pytest.mark.parametrize(
    "obs_space",
    [
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Tuple((spaces.Discrete(2), BOX)),
        spaces.Dict(a=BOX),
        spaces.Text(3),
        spaces.Sequence(BOX),
        spaces.Graph(BOX, None),
    ],
)
def test_unsupported_observations(obs_space):
    with pytest.raises(ValueError, match="observation space: expected Box or Discrete; found") as e:
        learner_spec(obs_space, spaces.Discrete(2), None)
    assert type(obs_space).__name__ in str(e.value)
    assert "makes one array" in str(e.value) or "FlattenObservation" in str(e.value)


def test_both_are_reported():
    assert len(space_problems(spaces.Dict(a=BOX), spaces.Text(3))) == 2


@pytest.mark.parametrize(
    ("space", "warns"),
    [
        (spaces.Box(0, 2**24, (2,), np.int32), False),
        (spaces.Box(0, 2**24 + 1, (2,), np.int32), True),
        (spaces.Box(-(2**40), 0, (2,), np.int64), True),
        (spaces.Box(0, 2**32 - 1, (2,), np.uint32), True),
        (spaces.Box(0, 255, (2,), np.uint8), False),
        (spaces.Box(-np.inf, np.inf, (2,), np.float64), False),
        (spaces.Discrete(2**30), False),
    ],
)
def test_integers_that_float32_cannot_hold(space, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_inexact(space)
    assert len(caught) == warns
    assert all("16777216" in str(warning.message) for warning in caught)


class Growing(gymnasium.Env):
    """Observations in float64 that grow beyond what float32 holds."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2), {}

    def step(self, action):
        self.time += 1
        return np.array([0.0, 10.0 ** (13 * self.time)]), 0.0, False, self.time >= 5, {}


def test_numbers_beyond_float32_are_named_with_their_place():
    envs = make_envs(Growing, 2, 0, check=False)
    envs.reset()
    envs.step([0, 0]), envs.step([0, 0])
    with pytest.raises(ValueError, match=r"obs\[1\] is 1e\+39, expected what float32"):
        envs.step([0, 0])
    envs.close()
    (found,) = check_env(Growing())
    assert re.search(r"expected what float32 holds, up to 3.4e38.*fix: scale", found)
