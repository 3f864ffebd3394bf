"""The mazes of the Dyna papers, as Gymnasium environments."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from rlzoo.envs.drawing import draw

Cell = tuple[int, int]

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
_WALL = tuple((3, column) for column in range(9))  # across the mazes that change


class DynaMaze(gymnasium.Env[int, int]):
    """A grid with walls; the shortest way from start to goal is 14 steps.

    Observation: `Discrete(rows * columns)`, the agent's cell as `row * columns + column`.
    Actions: `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the
    grid leaves the agent where it is.
    Reward: 1 on reaching the goal, 0 otherwise.
    End: terminated at the goal. The book has no time limit; the registered one is 10,000 steps.
    Source: Sutton & Barto, Reinforcement Learning, 2nd ed. (2018), example 8.1 and figure 8.2;
    Sutton (1990), doi:10.1016/B978-1-55860-141-3.50030-4.

    Args:
        start: cell (row, column) where every episode starts, counted from the top left.
        goal: cell that ends the episode.
        walls: cells that cannot be entered.
        shape: number of rows and columns.
        render_mode: "ansi" (text), "rgb_array" (picture) or None.
        later_walls: the walls after the change; None if they stay. An agent caught inside a
            new wall can walk out.
        change_after: number of steps, over the life of the environment, before the change.

    Attributes:
        lifetime_steps: of a maze that changes: number of steps since it was made. Episodes come
            and go; the vector layer sets it, so that a resumed run finds the maze it left, and
            an evaluation plays in the maze of its day.

    Raises:
        ValueError: a cell is off the grid, start, goal and walls overlap, or a negative time.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        start: Sequence[int] = (2, 0),
        goal: Sequence[int] = (0, 8),
        walls: Sequence[Sequence[int]] = ((1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)),
        shape: Sequence[int] = (6, 9),
        render_mode: str | None = None,
        later_walls: Sequence[Sequence[int]] | None = None,
        change_after: int = 0,
    ):
        self.rows, self.columns = _pair(shape, "shape")
        if min(self.rows, self.columns) < 1:
            raise ValueError(f"shape must be at least (1, 1), got {tuple(shape)}")
        self.start = self._cell(start, "start")
        self.goal = self._cell(goal, "goal")
        self.walls = self._cells(walls, "walls")
        self.later_walls = self.walls
        if later_walls is not None:
            self.later_walls = self._cells(later_walls, "later_walls")
        all_walls = self.walls | self.later_walls
        if self.start == self.goal or all_walls & {self.start, self.goal}:
            raise ValueError(
                f"start {self.start}, goal {self.goal} and walls {sorted(all_walls)} must differ"
            )
        if change_after < 0:
            raise ValueError(f"change_after must be 0 or more steps, got {change_after}")
        self.change_after = change_after
        self._changes = later_walls is not None
        if self._changes:
            self.lifetime_steps = 0
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode must be 'ansi', 'rgb_array' or None, got {render_mode!r}"
            )
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Discrete(self.rows * self.columns)
        self.action_space = gymnasium.spaces.Discrete(len(_MOVES))
        self._agent = self.start

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Puts the agent on the start cell. Returns its observation and an empty info."""
        super().reset(seed=seed)
        self._agent = self.start
        return self._obs(), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Moves the agent. Returns observation, reward, terminated, truncated, info."""
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 to {len(_MOVES) - 1}, got {action!r}")
        self._agent = self.successor(self._agent, action, self._walls_now())
        if self._changes:
            self.lifetime_steps += 1
        at_goal = self._agent == self.goal
        return self._obs(), float(at_goal), at_goal, False, {}

    def successor(self, cell: Cell, action: int, walls: frozenset[Cell]) -> Cell:
        """Returns the cell that a move from `cell` leads to."""
        down, right = _MOVES[action]
        row, column = cell[0] + down, cell[1] + right
        on_grid = 0 <= row < self.rows and 0 <= column < self.columns
        return (row, column) if on_grid and (row, column) not in walls else cell

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Returns the maze as text or as a picture [rows * 32, columns * 32, 3] uint8."""
        if self.render_mode is None:
            return None
        grid = [["."] * self.columns for _ in range(self.rows)]
        walls = ((wall, "#") for wall in self._walls_now())
        for (row, column), mark in [*walls, (self.goal, "G"), (self._agent, "A")]:
            grid[row][column] = mark
        return draw(grid, self.render_mode)

    def _walls_now(self) -> frozenset[Cell]:
        changed = self._changes and self.lifetime_steps >= self.change_after
        return self.later_walls if changed else self.walls

    def _obs(self) -> int:
        return self._agent[0] * self.columns + self._agent[1]

    def _cells(self, cells: Sequence[Sequence[int]], name: str) -> frozenset[Cell]:
        return frozenset(self._cell(cell, name) for cell in cells)

    def _cell(self, cell: Sequence[int], name: str) -> Cell:
        row, column = _pair(cell, name)
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise ValueError(
                f"{name} must lie on the grid of {self.rows} x {self.columns}, got {(row, column)}"
            )
        return row, column


class BlockingMaze(DynaMaze):
    """A maze whose short way is blocked after a while, when a longer one opens.

    Observation: `Discrete(54)`, the agent's cell as `row * 9 + column`.
    Actions: `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the
    grid leaves the agent where it is.
    Reward: 1 on reaching the goal, 0 otherwise.
    End: terminated at the goal. The book has no time limit; the registered one is 10,000 steps.
    Change: in the first 1,000 steps of the environment's life, however many episodes they make,
    the wall is open on the right: 10 steps to the goal. Then only on the left: 16 steps.
    A new environment is of age 0; an evaluation plays in a maze as old as those of training.
    Source: Sutton & Barto, Reinforcement Learning, 2nd ed. (2018), example 8.2 and figure 8.4.

    Args:
        change_after: number of steps before the change; 0 for the later maze from the start.
        render_mode: "ansi" (text), "rgb_array" (picture) or None.
    """

    def __init__(self, change_after: int = 1_000, render_mode: str | None = None):
        super().__init__(
            start=(5, 3),
            walls=_WALL[:8],
            render_mode=render_mode,
            later_walls=_WALL[1:],
            change_after=change_after,
        )


class ShortcutMaze(DynaMaze):
    """A maze in which a shorter way opens after a while, beside the one already known.

    Observation: `Discrete(54)`, the agent's cell as `row * 9 + column`.
    Actions: `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the
    grid leaves the agent where it is.
    Reward: 1 on reaching the goal, 0 otherwise.
    End: terminated at the goal. The book has no time limit; the registered one is 10,000 steps.
    Change: in the first 3,000 steps of the environment's life, however many episodes they make,
    the wall is open on the left: 16 steps to the goal. Then on the right too: 10 steps.
    A new environment is of age 0; an evaluation plays in a maze as old as those of training.
    Source: Sutton & Barto, Reinforcement Learning, 2nd ed. (2018), example 8.3 and figure 8.5.

    Args:
        change_after: number of steps before the change; 0 for the later maze from the start.
        render_mode: "ansi" (text), "rgb_array" (picture) or None.
    """

    def __init__(self, change_after: int = 3_000, render_mode: str | None = None):
        super().__init__(
            start=(5, 3),
            walls=_WALL[1:],
            render_mode=render_mode,
            later_walls=_WALL[1:8],
            change_after=change_after,
        )


def _pair(value: Sequence[int], name: str) -> Cell:
    try:
        first, second = value
        return int(first), int(second)
    except (TypeError, ValueError):
        raise ValueError(f"{name} takes [row, column] pairs of integers, got {value!r}") from None
