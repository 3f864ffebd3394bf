import gymnasium
import numpy as np


def test_it_is_cartpole_without_velocities():
    full = gymnasium.make("CartPole-v1")
    half = gymnasium.make("rlzoo/CartPoleNoVel-v1")
    assert half.observation_space.shape == (2,)
    full_obs, half_obs = full.reset(seed=7)[0], half.reset(seed=7)[0]
    for action in [0, 1, 1, 0, 1] * 30:
        np.testing.assert_array_equal(half_obs, full_obs[[0, 2]])
        assert half.observation_space.contains(half_obs)
        full_obs, *full_rest, _ = full.step(action)
        half_obs, *half_rest, _ = half.step(action)
        assert half_rest == full_rest
        if any(full_rest[1:]):
            break
    assert half.spec.max_episode_steps == 500


def test_rgb_array():
    env = gymnasium.make("rlzoo/CartPoleNoVel-v1", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    env.close()
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
