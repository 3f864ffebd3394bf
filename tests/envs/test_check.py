import time
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    FlattenObservation,
    NormalizeObservation,
    NormalizeReward,
    ResizeObservation,
    TimeLimit,
)

from rlzoo.envs import ENVS, check_env, make_envs
from tests.env_doubles import ChainEnv, CountingEnv, FaultyEnv


class Good(gymnasium.Env):
    """Every broken one is this with one thing wrong."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def obs(self):
        return np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.obs(), {}

    def step(self, action):
        return self.obs(), 1.0, False, False, {}


def broken(**members):
    """Returns a subclass of `Good`; plain values replace parts of what `step` returns."""
    order = ["obs_out", "reward", "terminated", "truncated", "info"]
    parts = {name: members.pop(name) for name in list(members) if name in order}
    if parts:

        def step(self, action):
            result = [self.obs(), 1.0, False, False, {}]
            for name, value in parts.items():
                result[order.index(name)] = value
            return tuple(result)

        members["step"] = step
    return type("Broken", (Good,), members)


def returns(*values):
    return lambda self, *args, **kwargs: values if len(values) != 1 else values[0]


def raises(error):
    def method(self, *args, **kwargs):
        raise error

    return method


def reset_without_seed(self):
    return self.obs(), {}


class NotAnEnv:
    observation_space = Good.observation_space
    action_space = Good.action_space


BROKEN = {
    "not an environment": (NotAnEnv, "a gymnasium.Env"),
    "no observation space": (broken(observation_space=None), "observation_space"),
    "no action space": (broken(action_space=5), "action_space"),
    "unbounded actions": (broken(action_space=spaces.Box(-np.inf, 1)), "action space"),
    "Dict observations": (
        broken(observation_space=spaces.Dict(a=Good.observation_space)),
        "observation space",
    ),
    "reset returns obs alone": (broken(reset=returns(np.zeros(2, np.float32))), "(obs, info)"),
    "reset takes no seed": (broken(reset=reset_without_seed), "seed"),
    "reset raises": (broken(reset=raises(KeyError("x"))), "KeyError"),
    "reset info": (broken(reset=returns(np.zeros(2, np.float32), None)), "info of reset"),
    "4-tuple": (broken(step=returns(np.zeros(2, np.float32), 1.0, False, {})), "a tuple of 4"),
    "step returns None": (broken(step=returns(None)), "truncated, info"),
    "step raises": (broken(step=raises(ZeroDivisionError("x"))), "ZeroDivisionError"),
    "terminated int": (broken(terminated=0), "terminated of step"),
    "truncated None": (broken(truncated=None), "truncated of step"),
    "info a list": (broken(info=[]), "info of step"),
    "string reward": (broken(reward="1.0"), "'1.0' (str)"),
    "None reward": (broken(reward=None), "None (NoneType)"),
    "array reward": (broken(reward=np.ones(1)), "ndarray"),
    "NaN reward": (broken(reward=float("nan")), "finite"),
    "reward beyond float32": (broken(reward=1e300), "finite"),
    "wrong shape": (broken(obs_out=np.zeros(3, np.float32)), "shape (3,)"),
    "wrong dtype": (broken(obs_out=np.zeros(2)), "dtype float64"),
    "list observation": (broken(obs_out=[0.0, 0.0]), "(list)"),
    "no observation": (broken(obs_out=None), "None"),
    "out of bounds": (broken(obs_out=np.full(2, 2, np.float32)), "-1.0 to 1.0"),
    "NaN observation": (broken(obs_out=np.full(2, np.nan, np.float32)), "finite"),
    "Discrete out of range": (
        broken(observation_space=spaces.Discrete(2), obs=returns(2)),
        "2 (int)",
    ),
    "Discrete as a float": (
        broken(observation_space=spaces.Discrete(2), obs=returns(0.0)),
        "0.0 (float)",
    ),
    "wrapped 4-tuple": (
        lambda: TimeLimit(broken(step=returns(0, 1.0, False, {}))(), 5),
        "truncated, info",
    ),
    "cannot be made": (broken(__init__=raises(OSError("no device"))), "OSError: no device"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_environments_are_rejected(case):
    make, naming = BROKEN[case]
    problems = check_env(make)
    assert problems
    assert naming in problems[0]
    for sentence in problems:
        assert ": expected " in sentence
        assert "; found " in sentence
        assert "; fix: " in sentence


def test_it_is_made_as_it_will_be():
    """With its arguments, and with the limit on its episodes."""

    class Late(Good):
        def __init__(self, at):
            self.at = at

        def step(self, action):
            self.at -= 1
            return self.obs(), "late" if self.at == 0 else 1.0, False, False, {}

    assert "late" in check_env(Late, env_kwargs={"at": 3})[0]
    assert check_env(Late, env_kwargs={"at": 5}, max_episode_steps=2) == []
    assert "; fix: mend what the error names; it is made with env_kwargs {'on': 1}" in str(
        check_env(Late, env_kwargs={"on": 1})
    )


def test_every_problem_of_a_step_is_listed():
    problems = check_env(broken(reward="1", terminated=1, info=None))
    assert [text.partition(":")[0] for text in problems] == [
        "reward of step",
        "terminated of step",
        "info of step",
    ]


STANDARD = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    *ENVS,
]


@pytest.mark.parametrize("env", [*STANDARD, Good, ChainEnv, CountingEnv], ids=str)
def test_no_false_alarm_and_quick(env):
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_env(env) == []
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "int16", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_dtypes_and_shapes_of_box(dtype, shape):
    space = spaces.Box(0, 1, shape, np.dtype(dtype))
    assert check_env(broken(observation_space=space, obs=lambda self: np.ones(shape, dtype))) == []
    # What NumPy makes of an array of shape () is a scalar.
    assert (
        check_env(broken(observation_space=space, obs=lambda self: np.ones(shape, dtype)[()])) == []
    )


def test_numpy_scalars_are_fine():
    make = broken(reward=np.float32(1), terminated=np.False_, truncated=np.False_)
    assert check_env(make) == []
    make = broken(observation_space=spaces.Discrete(3), obs=returns(np.int64(2)))
    assert check_env(make) == []


def test_an_environment_that_does_not_follow_its_seed_warns():
    rng = np.random.default_rng(0)
    make = broken(obs=lambda self: rng.uniform(-1, 1, 2).astype(np.float32))
    with pytest.warns(UserWarning, match="not deterministic given its reset seed"):
        assert check_env(make) == []

    class Longer(ChainEnv):
        played = 0

        def reset(self, **kwargs):
            self.time_limit = 5 + Longer.played % 2
            Longer.played += 1
            return super().reset(**kwargs)

    with pytest.warns(UserWarning, match="not deterministic"):
        assert check_env(Longer) == []


def test_only_valid_actions_are_tried():
    class Strict(type(broken()())):
        def step(self, action):
            if action != 1:
                raise RuntimeError(f"{action} is not valid")
            return super().step(action)

    mask = np.array([0, 1, 0], np.int8)[: Good.action_space.n]

    class ByInfo(Strict):
        def reset(self, **kwargs):
            return super().reset(**kwargs)[0], {"action_mask": mask}

        def step(self, action):
            return *super().step(action)[:4], {"action_mask": mask}

    class ByMethod(Strict):
        def action_masks(self):
            return mask

    assert check_env(Strict) != []
    assert check_env(ByInfo) == [] and check_env(ByMethod) == []


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
def test_running_statistics_are_said_to_begin_anew(wrapper):
    with pytest.warns(UserWarning) as told:
        make_envs(lambda: TimeLimit(wrapper(Good()), 5), 1, 0).close()
    assert any(f"wrapped in {wrapper.__name__}, whose running" in str(w.message) for w in told)


@pytest.mark.parametrize("shape", [(120, 160, 3), (120, 160), (3, 120, 160)])
def test_large_images_are_named_with_what_shrinks_them(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    obs = np.zeros(shape, np.uint8)
    env = broken(observation_space=space, obs=lambda self: obs)
    with pytest.warns(UserWarning, match=r"images \[.*name: ResizeObservation, shape: \[84, 84\]"):
        assert check_env(env) == []
    if shape[0] == 120:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert check_env(lambda: ResizeObservation(env(), (84, 84))) == []


@pytest.mark.parametrize(
    ("space", "advice"),
    [
        (spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])), "FlattenObservation"),
        (spaces.Sequence(Good.observation_space), "ObservationWrapper"),
    ],
)
def test_the_advice_for_a_space_works(space, advice):
    """A space that rlzoo does not take is no breach of Gymnasium's rules."""
    obs = space.sample()
    env = broken(observation_space=space, obs=lambda self: obs)
    with pytest.raises(ValueError, match=r"cannot work with .*expected Box, Discrete") as caught:
        make_envs(env, 1, 0)
    assert advice in str(caught.value) and "rules" not in str(caught.value)
    if advice == "FlattenObservation":
        make_envs(lambda: FlattenObservation(env()), 1, 0).close()


def test_an_unknown_id_is_refused_as_everywhere():
    with pytest.raises(ValueError, match=r"unknown env 'CartPol-v1'. Did you mean 'CartPole-v1'"):
        check_env("CartPol-v1")


@pytest.mark.parametrize("method", ["__init__", "reset", "step", "close"])
def test_an_exit_that_the_environment_asks_for_is_a_problem_of_it(method):
    problems = check_env(broken(**{method: raises(SystemExit(0))}))
    assert [text for text in problems if "sys.exit(0)" in text] or method == "close"


def test_an_instance_is_reset_but_not_closed():
    closed = []
    env = broken(close=lambda self: closed.append(self))()
    assert check_env(env) == []
    assert closed == []
    make = type(env)
    assert check_env(make) == []
    assert len(closed) == 1


def test_it_stops_in_time():
    calls = []
    make = broken(reset=lambda self, seed=None, options=None: (calls.clear(), (self.obs(), {}))[1])
    make.step = lambda self, action: (calls.append(action), (self.obs(), 0.0, False, False, {}))[1]
    assert check_env(make, max_steps=30) == []
    assert len(calls) == 30


def test_make_envs_refuses_a_broken_environment():
    with pytest.raises(ValueError, match=r"cannot work with .*: terminated of step: exp"):
        make_envs(broken(terminated=0), 1, 0)
    make_envs(broken(terminated=0), 1, 0, check=False).close()


@pytest.mark.parametrize("kind", ["raise", "nan_obs", "inf_reward", "raise_reset"])
def test_faults_are_left_to_on_env_error(kind):
    assert check_env(lambda: FaultyEnv(kind))
    assert check_env(lambda: FaultyEnv(kind), faults=False) == []
