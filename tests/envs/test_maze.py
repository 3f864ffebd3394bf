import json
from collections import deque

import gymnasium
import numpy as np
import pytest

from rlzoo.envs import make_envs
from rlzoo.envs.maze import BlockingMaze, DynaMaze, ShortcutMaze


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


# Mazes that change

TO_THE_LEFT = [0, 3, 3, 3, 0, 0]  # from the start of the changing mazes through the gap there
TO_THE_RIGHT = [0, 1, 1, 1, 1, 1, 0, 0]
INSIDE, LEFT_OPEN, RIGHT_OPEN = (4, 0), (2, 0), (2, 8)


def walk(env, actions):
    """Returns the cell that some actions lead to from the start."""
    env.reset()
    for action in actions:
        env.step(action)
    return env._agent


@pytest.mark.parametrize(
    ("maze", "first", "later", "lengths"),
    [
        (BlockingMaze, "########.", ".########", (10, 16)),
        (ShortcutMaze, ".########", ".#######.", (16, 10)),
    ],
)
def test_the_changing_mazes_of_the_book(maze, first, later, lengths):
    for change_after, wall, length in zip((10**9, 0), (first, later), lengths, strict=True):
        env = maze(change_after, render_mode="ansi")
        assert env.reset()[0] == 5 * 9 + 3
        blank = "........."
        rows = ["........G", blank, blank, wall, blank, "...A....."]
        assert env.render().split() == rows
        assert shortest_path(env) == length


def test_they_change_in_the_step_after_so_many_of_their_life():
    assert (BlockingMaze().change_after, ShortcutMaze().change_after) == (1_000, 3_000)
    env = BlockingMaze(change_after=14)
    assert walk(env, TO_THE_RIGHT) == RIGHT_OPEN
    assert walk(env, TO_THE_LEFT) == INSIDE
    assert env.lifetime_steps == 14  # episodes do not count
    assert walk(env, TO_THE_LEFT) == LEFT_OPEN
    assert walk(env, TO_THE_RIGHT) == (4, 8)
    env = BlockingMaze(change_after=5)
    assert walk(env, TO_THE_LEFT[:5]) == INSIDE  # its fifth step
    assert env.step(0)[0] == 3 * 9


def test_an_agent_caught_in_a_new_wall_can_leave():
    env = BlockingMaze(change_after=7)
    assert walk(env, TO_THE_RIGHT[:7]) == (3, 8)
    assert env.step(3)[0] == 3 * 9 + 8  # the wall goes on to its left
    assert env.step(0)[0] == 2 * 9 + 8
    assert env.step(2)[0] == 2 * 9 + 8


@pytest.mark.parametrize("kwargs", [{"later_walls": [[0, 8]]}, {"change_after": -1}])
def test_bad_changes(kwargs):
    with pytest.raises(ValueError, match=r"got|differ"):
        DynaMaze(**kwargs)


def play(envs, start, steps):
    """Returns what goes left in episodes of 6 steps, from step `start` on, bring."""
    actions = [TO_THE_LEFT[t % 6] for t in range(start, start + steps)]
    return [envs.step([action] * envs.num_envs) for action in actions]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_resume_is_exact_across_the_change(mode):
    made = []

    def make():
        kwargs = {"change_after": 60, "max_episode_steps": 6}
        made.append(make_envs("rlzoo/BlockingMaze-v0", 2, 0, mode=mode, env_kwargs=kwargs))
        return made[-1]

    try:
        envs = make()
        envs.reset()
        rows = play(envs, 0, 90)
        ends = [int(row.final_obs[0]) for row in rows[5::6]]
        assert ends == [4 * 9] * 10 + [2 * 9] * 5
        for stop in (33, 57, 62, 75):  # before it, in the same episode, at once after it, later
            part, resumed = make(), make()
            part.reset()
            obs = play(part, 0, stop)[-1].obs
            state = json.loads(json.dumps(part.get_state()))
            np.testing.assert_array_equal(resumed.set_state(state, obs), obs)
            assert resumed.get_state() == state
            for expected, found in zip(rows[stop:], play(resumed, stop, 90 - stop), strict=True):
                for a, b in zip(expected, found, strict=True):
                    np.testing.assert_array_equal(a, b)
    finally:
        for envs in made:
            envs.close()


class BreaksOnce(BlockingMaze):
    broken = False

    def step(self, action):
        if self.lifetime_steps == 20 and not BreaksOnce.broken:
            BreaksOnce.broken = True
            raise RuntimeError("once")
        return super().step(action)


def test_an_environment_made_anew_is_as_old_as_before():
    BreaksOnce.broken = False
    envs = make_envs(BreaksOnce, 1, 0, on_env_error="restart", check=False)
    envs.reset()
    with pytest.warns(RuntimeWarning, match="Restarting"):
        play(envs, 0, 21)
    assert envs._slots[0].env.lifetime_steps == 20
    envs.close()


def test_a_state_from_before_lifetimes_were_counted():
    envs = make_envs("rlzoo/DynaMaze-v0", 1, 0)
    envs.reset()
    state = envs.get_state()
    del state["lifetime"]
    assert envs.set_state(state).tolist() == [18]
    with pytest.raises(ValueError, match="lifetime"):
        envs.set_state({**state, "lifetime": [-1]})
    envs.close()
