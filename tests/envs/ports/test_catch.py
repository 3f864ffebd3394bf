import numpy as np
import pytest

from rlzoo.envs import make_env
from rlzoo.envs.ports import make_port
from rlzoo.ops import rng
from tests.envs.ports.recorded import assert_same, fit, random_policy
from tests.helpers import xla


def state_of(env):
    return *env._ball, env._paddle


def follow(env, obs, random):
    return 1 + int(np.sign(env._ball[1] - env._paddle))


@pytest.mark.parametrize("policy", [random_policy, follow])
@pytest.mark.parametrize(
    "env_kwargs", [{}, {"rows": 6, "columns": 8}, {"columns": 1, "max_episode_steps": 5}]
)
def test_same_steps(env_kwargs, policy):
    recorded = assert_same("rlzoo/Catch-v0", env_kwargs, state_of, policy)
    if "max_episode_steps" in env_kwargs:
        assert recorded.truncated.any()
    else:
        caught = recorded.reward[recorded.terminated] == 1
        assert caught.all() == (policy is follow)


def test_columns_are_drawn_evenly():
    port = make_port(make_env("rlzoo/Catch-v0"))
    obs = xla(lambda: port.observe(port.reset(rng.from_int(0), 10_000)))().numpy()
    assert obs.dtype == np.float32
    assert fit(obs[:, 0].sum(axis=0), [0.2] * 5) > 0.01
