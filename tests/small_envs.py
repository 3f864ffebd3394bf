"""Ten tasks so small that an agent with bare defaults has to learn them, and what is best in each.

All are callables, so that no preset is found for them. Most come as a `Box` and as `Discrete`
observations: the same task for networks and for a table.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from rlzoo.envs.catch import Catch
from rlzoo.envs.memory import Memory


class Cells(gymnasium.Env):
    """Walks over some cells; subclasses say what a move from `self.cell` brings in `_move`.

    Args:
        discrete: the observation is the number of the cell, else it is one-hot.
    """

    num_cells: int
    num_actions: int = 2
    start: int = 0

    def __init__(self, discrete: bool = False):
        box = gymnasium.spaces.Box(0.0, 1.0, (self.num_cells,), np.float32)
        self.observation_space = gymnasium.spaces.Discrete(self.num_cells) if discrete else box
        self.action_space = gymnasium.spaces.Discrete(self.num_actions)
        self.discrete = discrete

    def _obs(self) -> Any:
        return self.cell if self.discrete else np.eye(self.num_cells, dtype=np.float32)[self.cell]

    def _first(self) -> int:
        return self.start

    def _move(self, action: int) -> tuple[int, float, bool]:
        """Returns the next cell, the reward and whether the episode is over."""
        raise NotImplementedError

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = self._first()
        return self._obs(), {}

    def step(self, action):
        self.cell, reward, over = self._move(int(action))
        return self._obs(), reward, over, False, {}


class Bandit(Cells):
    """Eleven arms, the better the further right: 0 to 1, with noise; one step."""

    num_cells, num_actions = 1, 11

    def _move(self, action):
        return 0, action / 10 + 0.1 * float(self.np_random.normal()), True


class Contexts(Cells):
    """One step: the arm that belongs to the cell shown brings 1, another -1."""

    num_cells, num_actions = 4, 4

    def _first(self):
        return int(self.np_random.integers(4))

    def _move(self, action):
        return self.cell, 1.0 if action == (self.cell + 1) % 4 else -1.0, True


class Corridor(Cells):
    """1 at the right end of six cells, nothing before."""

    num_cells = 6

    def _move(self, action):
        cell = max(self.cell - 1, 0) if action == 0 else self.cell + 1
        over = cell == self.num_cells - 1
        return cell, float(over), over


class Costs(Corridor):
    """Each step costs 1 until the right end."""

    def _move(self, action):
        cell, _, over = super()._move(action)
        return cell, -1.0, over


class Chain(Cells):
    """Going back brings 2 at once, going on ten a step, but only at the end (Strens 2000)."""

    num_cells = 4

    def _move(self, action):
        if action == 0:
            return 0, 2.0, False
        at_end = self.cell == self.num_cells - 1
        return min(self.cell + 1, self.num_cells - 1), 10.0 * at_end, False


class Thermostat(Cells):
    """Stay in the middle of nine cells while chance pushes; for 500 steps."""

    num_cells, num_actions, start = 9, 3, 4

    def _move(self, action):
        cell = self.cell + action - 1 + int(self.np_random.integers(-1, 2))
        cell = min(max(cell, 0), self.num_cells - 1)
        return cell, 1.0 - abs(cell - 4) / 2.0, False


class Task(NamedTuple):
    """A task, how long to train on it, and what shows that it was learned."""

    env: Callable[..., gymnasium.Env]
    steps: int
    wanted: float  # mean return of an agent that has learned; a random one is far below
    limit: int | None = None  # steps of an episode, where the environment has none of its own
    torso: str | None = None
    kinds: tuple[str, ...] = ("box", "discrete")  # of observations that it comes with

    def make(self, kind: str) -> Callable[[], gymnasium.Env]:
        """Returns a callable that makes the environment."""
        both = len(self.kinds) == 2
        env = partial(self.env, discrete=kind == "discrete") if both else self.env
        return (lambda: TimeLimit(env(), self.limit)) if self.limit else (lambda: env())


TASKS = {
    "bandit": Task(Bandit, 2_000, 0.75, 1),
    "one-step": Task(Contexts, 2_000, 0.9, 1),
    "corridor": Task(Corridor, 3_000, 0.9, 30),
    "negative": Task(Costs, 4_000, -7.0, 50),
    "chain": Task(Chain, 5_000, 120.0, 20),
    "long": Task(Thermostat, 20_000, 50.0, 500),
    "image": Task(Catch, 8_000, 0.6, kinds=("box",)),
    "memory": Task(partial(Memory, delay=2), 8_000, 0.8, torso="lstm", kinds=("box",)),
    "cartpole": Task(partial(gymnasium.make, "CartPole-v1"), 15_000, 100.0, kinds=("box",)),
    "states": Task(
        partial(gymnasium.make, "FrozenLake-v1", is_slippery=False),
        8_000,
        0.9,
        kinds=("discrete",),
    ),
}
