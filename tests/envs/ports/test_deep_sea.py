import numpy as np
import pytest

from rlzoo.envs.deep_sea import DeepSea
from tests.envs.ports.recorded import assert_same, assert_same_run, random_policy

SETTINGS = [{}, {"size": 25, "mapping_seed": 4}, {"size": 1, "mapping_seed": None}]


def state_of(env):
    return env._diver


def dive_right(env, obs, random):
    return int(env.right.ravel()[obs])


@pytest.mark.parametrize("policy", [random_policy, dive_right])
@pytest.mark.parametrize("env_kwargs", SETTINGS)
def test_same_steps(env_kwargs, policy):
    recorded = assert_same("rlzoo/DeepSea-v0", env_kwargs, state_of, policy)
    if policy is dive_right:
        assert (recorded.reward[recorded.terminated] > 0.9).all()


@pytest.mark.parametrize("env_kwargs", [*SETTINGS, {"max_episode_steps": 7}])
def test_same_runs(env_kwargs):
    right = DeepSea(**{k: v for k, v in env_kwargs.items() if k != "max_episode_steps"}).right
    right = np.append(right.ravel(), 0)
    assert_same_run("rlzoo/DeepSea-v0", env_kwargs, num_steps=100, policy=lambda obs: right[obs])
