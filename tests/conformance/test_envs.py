"""What every environment in `ENVS` promises. Being in the table puts it under these tests.

Those of tests/envs/test_registration.py run over the table too.
"""

import gymnasium
import numpy as np
import pytest

from rlzoo.agents import AGENTS
from rlzoo.envs import ENVS, make_env, make_envs
from rlzoo.loops.host import HostLoop
from tests.helpers import collect, make_agent


@pytest.fixture(params=ENVS)
def env_id(request):
    return request.param


@pytest.fixture
def env(env_id):
    env = make_env(env_id)
    yield env
    env.close()


def play(env, seed, steps=300):
    """Returns everything that some random actions bring, with resets at the ends."""
    random = np.random.default_rng(seed)
    obs, _ = env.reset(seed=seed)
    seen = [(obs, 0.0, False, False)]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(int(random.integers(env.action_space.n)))
        seen.append((obs, reward, terminated, truncated))
        if terminated or truncated:
            seen.append((env.reset()[0], 0.0, False, False))
    return seen


def test_it_is_registered_under_our_name_with_a_version(env_id):
    assert env_id in gymnasium.registry
    assert env_id.startswith("rlzoo/")
    assert env_id.rpartition("-v")[2].isdigit()
    assert gymnasium.registry[env_id].entry_point == ENVS[env_id]


def test_what_it_returns_is_what_its_spaces_say(env):
    for obs, reward, terminated, truncated in play(env, seed=0):
        assert env.observation_space.contains(obs)
        assert isinstance(reward, float)
        assert np.isfinite(reward)
        assert isinstance(terminated, bool)
        assert isinstance(truncated, bool)


def test_seed_and_actions_decide_everything(env_id):
    one, same = (play(make_env(env_id), seed=5) for _ in range(2))
    for old, new in zip(one, same, strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        assert old[1:] == new[1:]


def test_a_returned_observation_is_not_written_to_later(env):
    if not isinstance(env.observation_space, gymnasium.spaces.Box):
        return
    obs, _ = env.reset(seed=0)
    kept = obs.copy()
    env.step(0)
    np.testing.assert_array_equal(obs, kept)


def test_episodes_end(env):
    """By themselves or by a registered time limit."""
    limit = env.spec.max_episode_steps or 1_000
    env.reset(seed=0)
    steps = (env.step(0) for _ in range(limit))
    assert any(terminated or truncated for *_, terminated, truncated, _ in steps)


def test_every_render_mode_gives_a_picture(env_id):
    for mode in gymnasium.make(env_id).unwrapped.metadata["render_modes"]:
        if mode == "human":
            continue
        env = make_env(env_id, {"render_mode": mode})
        env.reset(seed=0)
        picture = env.render()
        if mode == "rgb_array":
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
            assert picture.shape[-1] == 3
        else:
            assert isinstance(picture, str)
        env.close()


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_can_act_in_it(env_id, agent):
    limited = {"max_episode_steps": 20}  # reinforce needs one, and plays to its end
    envs = make_envs(env_id, 2, 0, env_kwargs=limited, check=False)
    loop = HostLoop(make_agent(agent, envs.spec), envs, 0)
    chunk = collect(loop)
    assert chunk.valid[0].all()
    assert np.isfinite(chunk.obs).all()
    envs.close()
