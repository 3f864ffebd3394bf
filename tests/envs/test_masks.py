"""Masks of valid actions, wherever an environment tells them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlzoo.envs import make_envs
from rlzoo.spaces import MASK, Box, Discrete, Mask


class Turns(gymnasium.Env):
    """Only action `time % 3` and the one after it are valid; any other ends in an error."""

    action_space = spaces.Discrete(3, start=1)

    def __init__(self, told="info", empty_at=-1, length=5):
        self.told, self.empty_at, self.length = told, empty_at, length
        bare = spaces.Box(0, 99, (1,), np.float32)
        self.observation_space = bare
        if told == "obs":
            self.observation_space = spaces.Dict(time=bare, action_mask=spaces.MultiBinary(3))
        if told == "method":
            self.action_masks = self.mask

    def mask(self):
        mask = np.zeros(3, np.int8)
        if self.time != self.empty_at:
            mask[[self.time % 3, (self.time + 1) % 3]] = 1
        return mask

    def seen(self):
        obs = np.full(1, self.time, np.float32)
        obs = {"time": obs, MASK: self.mask()} if self.told == "obs" else obs
        return obs, {MASK: self.mask()} if self.told == "info" else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.seen()

    def step(self, action):
        if not self.mask()[action - 1]:
            raise RuntimeError(f"{action} is not valid")
        self.time += 1
        obs, info = self.seen()
        return obs, 1.0, self.time == self.length, False, info


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("told", ["info", "method", "obs"])
def test_a_mask_travels_with_the_observation(told, mode):
    envs = make_envs(Turns, 2, 0, mode=mode, env_kwargs={"told": told})
    try:
        name = "time" if told == "obs" else "obs"
        assert envs.spec.obs == {name: Box((1,)), MASK: Mask(3)}
        assert envs.spec.action == Discrete(3)
        obs = envs.reset()
        for time in range(12):
            place = time % 5
            assert obs[name].tolist() == [[place], [place]]
            wanted = [i in (place % 3, (place + 1) % 3) for i in range(3)]
            assert obs[MASK].dtype == bool and obs[MASK].tolist() == [wanted, wanted]
            step = envs.step(obs[MASK].argmax(axis=-1))
            assert step.final_obs[name].tolist() == [[place + 1], [place + 1]]
            obs = step.obs
    finally:
        envs.close()


@pytest.mark.parametrize("told", ["info", "method", "obs"])
def test_a_mask_without_a_valid_action_stops_with_env_episode_and_step(told):
    envs = make_envs(Turns, 1, 0, env_kwargs={"told": told, "empty_at": 2}, check=False)
    obs = envs.reset()
    obs = envs.step(obs[MASK].argmax(axis=-1)).obs
    words = r"Turns, environment 0, episode 0 \(seed \d+\), step 2, on action 2: "
    with pytest.raises(ValueError, match=words + "action_mask allows none of the 3 actions"):
        envs.step(obs[MASK].argmax(axis=-1))


@pytest.mark.parametrize("told", ["info", "method", "obs"])
def test_at_an_episodes_end_there_need_be_no_valid_action(told):
    envs = make_envs(Turns, 1, 0, env_kwargs={"told": told, "empty_at": 2, "length": 2})
    obs = envs.reset()
    for _ in range(2):
        step = envs.step(obs[MASK].argmax(axis=-1))
        obs = step.obs
    assert step.terminated.all() and not step.final_obs[MASK].any() and obs[MASK].any()


class Forgetful(Turns):
    def step(self, action):
        return *super().step(action)[:4], {}


class Short(Turns):
    def mask(self):
        return super().mask()[:2]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Forgetful, "action_mask is None, expected one 0 or 1 for each of 3 actions"),
        (Short, r"action_mask is \[1, 1\], expected one 0 or 1 for each of 3 actions"),
    ],
)
def test_a_mask_that_is_missing_or_of_another_size_is_named(env, words):
    with pytest.raises(ValueError, match=words):
        envs = make_envs(env, 1, 0, check=False)
        envs.reset()
        envs.step([0])


def test_a_mask_of_continuous_actions_is_no_mask():
    class Continuous(Turns):
        action_space = spaces.Box(-1, 1, (1,), np.float32)

    assert make_envs(Continuous, 1, 0, check=False).spec.obs == Box((1,))
