import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlzoo.envs import check_env, make_envs
from rlzoo.envs.spaces import learner_spec, reader, space_problems, warn_if_inexact
from rlzoo.spaces import MASK, Box, Discrete, EnvSpec, Mask, MultiDiscrete, items

BOX = spaces.Box(0, 1, (3,), np.float32)


def test_learner_spec():
    spec = learner_spec(spaces.Discrete(4, start=-2), spaces.Discrete(3, start=5), 9)
    assert spec == EnvSpec(Discrete(4), Discrete(3), 9)
    image = spaces.Box(0, 255, (10, 10, 2), np.uint8)
    assert learner_spec(image, spaces.Discrete(2), None) == EnvSpec(
        Box((10, 10, 2), "uint8", 0, 255), Discrete(2), None
    )


@pytest.mark.parametrize("high", [1, 2, 254, np.array([255, 254, 255])])
def test_bytes_are_pixels_only_where_all_may_be_255(high):
    codes = spaces.Box(0, np.broadcast_to(high, (3,)).astype(np.uint8), (3,), np.uint8)
    assert not learner_spec(codes, spaces.Discrete(2), None).obs.pixels
    for dtype in (np.int8, np.uint16, np.float32, np.bool_):
        other = spaces.Box(0, 1 if dtype == np.bool_ else 127, (3,), dtype)
        assert not learner_spec(other, spaces.Discrete(2), None).obs.pixels


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
    bounds = (-1.0, -2.0), (1.0, float(np.float32(0.1)))
    assert spec.action == Box((2,), "float32", *bounds)
    assert spec.action_dtype == "float32"
    with pytest.raises(ValueError, match="num_actions: expected Discrete actions, received Box"):
        spec.num_actions  # noqa: B018


@pytest.mark.parametrize(
    "action_space", [spaces.Box(-np.inf, 1, (2,)), spaces.Box(0, 9, (2,), np.int32)]
)
def test_unsupported_box_actions(action_space):
    with pytest.raises(ValueError, match="action space: expected a bounded Box of floats"):
        learner_spec(BOX, action_space, None)


@pytest.mark.parametrize(
    "obs_space",
    [
        spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])),
        spaces.Text(3),
        spaces.Sequence(BOX),
        spaces.Graph(BOX, None),
    ],
)
def test_unsupported_observations(obs_space):
    for space, where in (
        (obs_space, "observation space"),
        (spaces.Dict(a=spaces.Tuple((BOX, obs_space))), r"observation space\['a'\]\[1\]"),
    ):
        match = f"{where}: expected Box, Discrete, MultiDiscrete or MultiBinary, or a Dict"
        with pytest.raises(ValueError, match=match) as e:
            learner_spec(space, spaces.Discrete(2), None)
        assert type(obs_space).__name__ in str(e.value)
        assert "makes one array" in str(e.value) or "FlattenObservation" in str(e.value)


def test_both_are_reported():
    assert len(space_problems(spaces.Dict(a=spaces.Text(2)), spaces.Text(3))) == 2


NESTED = spaces.Dict(
    {
        "camera": spaces.Dict(left=spaces.Box(0, 255, (4, 4), np.uint8)),
        "goals/all": spaces.Tuple((spaces.Discrete(3, start=-1), BOX)),
        "flags": spaces.MultiBinary(2),
        "cards": spaces.MultiDiscrete([4, 2], start=[1, 0]),
    }
)
SEEN = {
    "camera": {"left": Box((4, 4), "uint8", 0, 255)},
    "goals_all": {"0": Discrete(3), "1": Box((3,))},  # Keras takes no slash in a name
    "flags": Box((2,), "int8"),
    "cards": MultiDiscrete((4, 2)),
}


def test_spaces_of_parts_are_nested_and_count_from_0():
    spec = learner_spec(NESTED, spaces.Discrete(2), None)
    assert spec.obs == SEEN
    read = reader(NESTED, SEEN)
    found = read(
        {
            "camera": {"left": np.full((4, 4), 9, np.uint8)},
            "goals/all": (1, np.ones(3, np.float32)),
            "flags": np.array([0, 1], np.int8),
            "cards": np.array([4, 1]),
        }
    )
    assert found["goals_all"]["0"] == 2 and found["cards"].tolist() == [3, 1]
    assert found["camera"]["left"].sum() == 16 * 9
    assert [path for path, _ in items(found)] == [
        "camera/left", "cards", "flags", "goals_all/0", "goals_all/1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cards": np.array([0, 0])}, r"obs\['cards'\] array\(\[0, 0\]\) is not in its space"),
        ({"cards": np.array([1.0, 0.0])}, "is not in its space"),
        (
            {"flags": np.zeros(3, np.int8)},
            r"obs\['flags'\] has shape \(3,\), its space says \(2,\)",
        ),
        ({"goals/all": (5, np.ones(3))}, r"obs\['goals/all'\]\[0\] 5 is not in its space"),
        ({"goals/all": (1,)}, r"obs\['goals/all'\] has \(1,\), its space says \[0, 1\]"),
        ({"camera": {}}, r"obs\['camera'\] has the parts \[\], its space says \['left'\]"),
        ({"more": 1}, "obs has the parts .*'more'"),
    ],
)
def test_a_part_that_is_another_is_named(change, words):
    obs = NESTED.sample()
    reader(NESTED, SEEN)(obs)
    with pytest.raises(ValueError, match=words) as caught:
        reader(NESTED, SEEN)({**obs, **change})
    assert "\n" not in str(caught.value)


def test_a_mask_is_a_part_of_the_observation():
    two = spaces.Discrete(2)
    assert learner_spec(BOX, two, None, masked=True).obs == {"obs": Box((3,)), MASK: Mask(2)}
    inside = spaces.Dict(a=BOX, action_mask=spaces.MultiBinary(2))
    assert learner_spec(inside, two, None).obs == {"a": Box((3,)), MASK: Mask(2)}
    beside = spaces.Dict(a=BOX)
    assert learner_spec(beside, two, None, masked=True).obs == {"a": Box((3,)), MASK: Mask(2)}
    with pytest.raises(ValueError, match=r"\['action_mask'\]: expected one 0 or 1 for each of 2"):
        learner_spec(spaces.Dict(a=BOX, action_mask=spaces.MultiBinary(3)), two, None)
    continuous = learner_spec(inside, spaces.Box(-1, 1, (1,)), None)  # there it says nothing
    assert continuous.obs["action_mask"] == Box((2,), "int8")


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
