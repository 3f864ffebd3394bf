import itertools

import gymnasium
import numpy as np
import pytest

from rlzoo.envs.deep_sea import DeepSea


def dive(env, choose):
    """Returns observations, return and end of an episode; `choose(obs)` gives actions."""
    obs, _ = env.reset()
    seen, total = [obs], 0.0
    while True:
        obs, reward, terminated, truncated, _ = env.step(choose(obs))
        assert not truncated
        seen.append(obs)
        total += reward
        if terminated:
            return seen, total


def always(env, right):
    actions = env.unwrapped.right if right else 1 - env.unwrapped.right
    return lambda obs: int(actions.ravel()[obs])


def test_the_treasure():
    env = gymnasium.make("rlzoo/DeepSea-v0")
    assert env.observation_space == gymnasium.spaces.Discrete(101)
    seen, total = dive(env, always(env, right=True))
    assert seen == [11 * t for t in range(10)] + [100]
    assert total == pytest.approx(0.99)
    seen, total = dive(env, always(env, right=False))
    assert seen == [10 * t for t in range(10)] + [100]
    assert total == 0


def test_one_sequence_of_moves_finds_it():
    env = DeepSea(4)
    returns = []
    for moves in itertools.product([False, True], repeat=4):
        left = iter(moves)
        _, total = dive(env, lambda obs, left=left: always(env, next(left))(obs))
        returns.append(total)
        cost = 0.01 / 4 * sum(moves)
        assert total == pytest.approx(1 - cost if all(moves) else -cost)
    assert sum(total > 0 for total in returns) == 1


def test_the_mapping_is_drawn_once_from_its_seed():
    one, same, other = DeepSea(mapping_seed=1), DeepSea(mapping_seed=1), DeepSea(mapping_seed=2)
    assert np.array_equal(one.right, same.right)
    assert not np.array_equal(one.right, other.right)
    kept = one.right.copy()
    one.reset(seed=7)
    assert np.array_equal(one.right, kept)
    assert set(one.right.ravel().tolist()) == {0, 1}
    assert DeepSea(mapping_seed=None).right.all()


@pytest.mark.parametrize("kwargs", [{"size": 0}, {"mapping_seed": -1}, {"render_mode": "human"}])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match="got"):
        DeepSea(**kwargs)


def test_bad_action_and_missing_reset():
    env = DeepSea(1)
    env.reset()
    with pytest.raises(ValueError, match="0 or 1, got 2"):
        env.step(2)
    env.step(0)
    with pytest.raises(ValueError, match="call reset first"):
        env.step(0)


def test_pictures():
    env = DeepSea(2, mapping_seed=None, render_mode="ansi")
    env.reset()
    assert env.render() == "A.\n..\n#G\n"
    env.step(1)
    assert env.render() == "..\n.A\n#G\n"
    env.step(1)
    assert env.render() == "..\n..\n#A\n"
    assert DeepSea(render_mode="rgb_array").render().shape == (11 * 32, 10 * 32, 3)
    assert DeepSea().render() is None
