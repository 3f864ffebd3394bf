import gymnasium
import numpy as np
import pytest

from rlzoo.envs.catch import Catch


def test_an_episode():
    env = gymnasium.make("rlzoo/Catch-v0")
    assert env.observation_space == gymnasium.spaces.Box(0, 1, (10, 5), np.float32)
    for seed in range(20):
        for follow in (True, False):
            obs, _ = env.reset(seed=seed)
            column = int(obs[0].argmax())
            assert obs.sum() == 2
            assert obs[9, 2] == 1
            rewards = []
            for t in range(1, 10):
                away = 0 if column > 2 else 2
                paddle = env.unwrapped._paddle
                action = 1 + int(np.sign(column - paddle)) if follow else away
                obs, reward, terminated, truncated, _ = env.step(action)
                rewards.append(reward)
                assert obs[t, column] == 1
                assert obs.sum() == (1 if follow and t == 9 else 2)
                assert (terminated, truncated) == (t == 9, False)
            assert rewards == [0.0] * 8 + [1.0 if follow else -1.0]


def test_the_paddle_stops_at_the_edges():
    env = Catch(rows=6, columns=3)
    env.reset(seed=0)
    columns = []
    for action in (0, 0, 2, 2, 2):
        env.step(action)
        columns.append(env._paddle)
    assert columns == [0, 0, 1, 2, 2]


def test_columns_follow_the_seed_evenly():
    env = Catch()
    columns = [int(env.reset(seed=seed)[0][0].argmax()) for seed in range(500)]
    assert columns == [int(env.reset(seed=seed)[0][0].argmax()) for seed in range(500)]
    assert min(np.bincount(columns, minlength=5)) > 70


@pytest.mark.parametrize("kwargs", [{"rows": 1}, {"columns": 0}, {"render_mode": "human"}])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match="got"):
        Catch(**kwargs)


def test_bad_action():
    env = Catch()
    env.reset()
    with pytest.raises(ValueError, match="0 to 2, got 3"):
        env.step(3)


def test_pictures():
    env = Catch(rows=3, columns=3, render_mode="ansi")
    env.reset(seed=0)
    env._ball = (0, 2)
    env.step(2)
    assert env.render() == "...\n..o\n..A\n"
    picture = Catch(render_mode="rgb_array").render()
    assert picture.shape == (10 * 32, 5 * 32, 3)
    assert Catch().render() is None
