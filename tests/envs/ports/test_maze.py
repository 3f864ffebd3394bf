import numpy as np
import pytest

from rlzoo.envs import make_env
from rlzoo.envs.maze import DynaMaze
from tests.envs.ports.recorded import assert_same, assert_same_run, random_policy

MAZES = [
    ("rlzoo/DynaMaze-v0", {}),
    ("rlzoo/DynaMaze-v0", {"start": [0, 0], "goal": [2, 3], "walls": [[1, 0]], "shape": [3, 4]}),
    ("rlzoo/BlockingMaze-v0", {"change_after": 4_000}),
    ("rlzoo/ShortcutMaze-v0", {"change_after": 4_000}),
]


def state_of(env):
    row, column = env._agent
    return row * env.columns + column, min(getattr(env, "lifetime_steps", 0), env.change_after)


def shortest_way(env: DynaMaze, walls) -> np.ndarray:
    """Returns the action [S] that leads nearer to the goal in each cell."""
    distance = {env.goal: 0}
    best = np.zeros(env.rows * env.columns, np.int64)
    cells = list(np.ndindex(env.rows, env.columns))
    for length in range(1, len(cells)):
        near = [cell for cell, at in distance.items() if at == length - 1]
        for cell in cells:
            for action in range(4):
                if cell not in distance and env.successor(cell, action, walls) in near:
                    distance[cell] = length
                    best[cell[0] * env.columns + cell[1]] = action
    return best


def competent(env_id, env_kwargs):
    env = make_env(env_id, env_kwargs).unwrapped
    ways = [shortest_way(env, walls) for walls in (env.walls, env.later_walls)]

    def policy(env, obs, random):
        if random.random() < 0.1:
            return random_policy(env, obs, random)
        changed = getattr(env, "lifetime_steps", 0) >= env.change_after
        return int(ways[changed][obs])

    return policy


@pytest.mark.parametrize("choose", ["random", "competent"])
@pytest.mark.parametrize(("env_id", "env_kwargs"), MAZES)
def test_same_steps(env_id, env_kwargs, choose):
    policy = competent(env_id, env_kwargs) if choose == "competent" else random_policy
    recorded = assert_same(env_id, {**env_kwargs, "max_episode_steps": 500}, state_of, policy)
    assert recorded.terminated.any()
    if choose == "competent":
        assert recorded.terminated.sum() > 300


@pytest.mark.parametrize(("env_id", "env_kwargs"), MAZES)
def test_same_runs_across_episodes_and_the_change(env_id, env_kwargs):
    """A change in the middle of the run, which knows both ways."""
    if "change_after" in env_kwargs:
        env_kwargs = {"change_after": 125}
    env = make_env(env_id, env_kwargs).unwrapped
    ways = np.array([shortest_way(env, walls) for walls in (env.walls, env.later_walls)])
    takes = np.arange(8) % 2
    limited = {**env_kwargs, "max_episode_steps": 50}
    assert_same_run(env_id, limited, num_steps=250, policy=lambda obs: ways[takes, obs])
