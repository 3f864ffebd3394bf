"""The maze of the Dyna papers, as a Gymnasium environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

Cell = tuple[int, int]

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
_PIXELS = 32  # side of a cell in the picture
_COLOURS = {".": (245, 245, 245), "#": (70, 70, 70), "G": (90, 180, 100), "A": (60, 110, 220)}


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

    Raises:
        ValueError: a cell is off the grid, or start, goal and walls overlap.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        start: Sequence[int] = (2, 0),
        goal: Sequence[int] = (0, 8),
        walls: Sequence[Sequence[int]] = ((1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)),
        shape: Sequence[int] = (6, 9),
        render_mode: str | None = None,
    ):
        self.rows, self.columns = _pair(shape, "shape")
        if min(self.rows, self.columns) < 1:
            raise ValueError(f"shape must be at least (1, 1), got {tuple(shape)}")
        self.start = self._cell(start, "start")
        self.goal = self._cell(goal, "goal")
        self.walls = frozenset(self._cell(wall, "walls") for wall in walls)
        if self.start == self.goal or self.walls & {self.start, self.goal}:
            raise ValueError(
                f"start {self.start}, goal {self.goal} and walls {sorted(self.walls)} must differ"
            )
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
        down, right = _MOVES[action]
        row, column = self._agent[0] + down, self._agent[1] + right
        on_grid = 0 <= row < self.rows and 0 <= column < self.columns
        if on_grid and (row, column) not in self.walls:
            self._agent = (row, column)
        at_goal = self._agent == self.goal
        return self._obs(), float(at_goal), at_goal, False, {}

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Returns the maze as text or as a picture [rows * 32, columns * 32, 3] uint8."""
        if self.render_mode is None:
            return None
        grid = [["."] * self.columns for _ in range(self.rows)]
        marks = [*((wall, "#") for wall in self.walls), (self.goal, "G"), (self._agent, "A")]
        for (row, column), mark in marks:
            grid[row][column] = mark
        if self.render_mode == "ansi":
            return "\n".join("".join(line) for line in grid) + "\n"
        colours = np.array([[_COLOURS[mark] for mark in line] for line in grid], np.uint8)
        picture = colours.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)
        picture[::_PIXELS] = picture[:, ::_PIXELS] = 200  # grid lines
        return picture

    def _obs(self) -> int:
        return self._agent[0] * self.columns + self._agent[1]

    def _cell(self, cell: Sequence[int], name: str) -> Cell:
        row, column = _pair(cell, name)
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise ValueError(
                f"{name} must lie on the grid of {self.rows} x {self.columns}, got {(row, column)}"
            )
        return row, column


def _pair(value: Sequence[int], name: str) -> Cell:
    try:
        first, second = value
        return int(first), int(second)
    except (TypeError, ValueError):
        raise ValueError(f"{name} takes [row, column] pairs of integers, got {value!r}") from None
