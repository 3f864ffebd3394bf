from collections import deque

import gymnasium
import numpy as np
import pytest

from rlzoo.envs.maze import DynaMaze


def shortest_path(env: DynaMaze) -> int:
    """Breadth-first search through `step` itself."""
    todo, seen = deque([(env.start, 0)]), {env.start}
    while todo:
        cell, length = todo.popleft()
        for action in range(4):
            env.reset()
            env._agent = cell
            env.step(action)
            if env._agent == env.goal:
                return length + 1
            if env._agent not in seen:
                seen.add(env._agent)
                todo.append((env._agent, length + 1))
    raise ValueError("no way to the goal")


def test_the_maze_of_the_book():
    env = DynaMaze()
    assert env.observation_space == gymnasium.spaces.Discrete(54)
    assert env.action_space == gymnasium.spaces.Discrete(4)
    assert env.reset(seed=0) == (18, {})
    assert shortest_path(env) == 14


def test_walls_edges_and_goal():
    env = DynaMaze()
    env.reset()
    assert env.step(3)[0] == 18  # off the grid on the left
    assert env.step(1)[0] == 19
    assert env.step(1)[0] == 19  # the wall at (2, 2)
    env._agent = (1, 8)
    obs, reward, terminated, truncated, _ = env.step(0)
    assert (obs, reward, terminated, truncated) == (8, 1.0, True, False)
    env._agent = (5, 0)
    assert env.step(2)[:3] == (45, 0.0, False)


def test_start_goal_walls_and_shape_are_arguments():
    env = gymnasium.make(
        "rlzoo/DynaMaze-v0", start=[0, 0], goal=[1, 1], walls=[[0, 1]], shape=[2, 2]
    )
    assert env.reset()[0] == 0
    assert env.step(1)[0] == 0
    assert env.step(2)[:3] == (2, 0.0, False)
    assert env.step(1)[:3] == (3, 1.0, True)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"start": [9, 0]},
        {"goal": [0, -1]},
        {"start": [0, 8]},
        {"walls": [[2, 0]]},
        {"walls": [3]},
        {"start": "ab"},
        {"shape": [0, 3]},
        {"render_mode": "human"},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match=r"got|differ|must"):
        DynaMaze(**kwargs)


def test_bad_action():
    env = DynaMaze()
    env.reset()
    with pytest.raises(ValueError, match="0 to 3, got 4"):
        env.step(4)


def test_ansi():
    env = DynaMaze(render_mode="ansi")
    env.reset()
    assert env.render() == (".......#G\n..#....#.\nA.#....#.\n..#......\n.....#...\n.........\n")


def test_rgb_array():
    env = DynaMaze(render_mode="rgb_array")
    env.reset()
    before = env.render()
    assert before.shape == (6 * 32, 9 * 32, 3)
    assert before.dtype == np.uint8
    env.step(0)
    assert not np.array_equal(before, env.render())
    assert DynaMaze().render() is None
