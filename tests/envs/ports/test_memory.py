import numpy as np
import pytest

from rlzoo.envs import make_env
from rlzoo.envs.ports import make_port
from rlzoo.ops import rng
from tests.envs.ports.recorded import assert_same, fit, random_policy
from tests.helpers import xla


def state_of(env):
    return env._cue, env._time


def recall(env, obs, random):
    return env._cue


@pytest.mark.parametrize("policy", [random_policy, recall])
@pytest.mark.parametrize(
    "env_kwargs", [{}, {"num_cues": 4, "delay": 0}, {"delay": 5, "max_episode_steps": 4}]
)
def test_same_steps(env_kwargs, policy):
    recorded = assert_same("rlzoo/Memory-v0", env_kwargs, state_of, policy)
    if "max_episode_steps" in env_kwargs:
        assert recorded.truncated.any()
    else:
        assert (recorded.reward[recorded.terminated] == 1).all() == (policy is recall)


def test_cues_are_drawn_evenly():
    port = make_port(make_env("rlzoo/Memory-v0", {"num_cues": 3}))
    obs = xla(lambda: port.observe(port.reset(rng.from_int(0), 10_000)))().numpy()
    assert obs.dtype == np.float32
    assert fit(obs.sum(axis=0), [1 / 3] * 3 + [0]) > 0.01
