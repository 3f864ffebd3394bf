"""Catch a falling ball."""

from typing import Any

import gymnasium
import numpy as np

from rlzoo.envs.drawing import draw

_MOVES = (-1, 0, 1)  # left, stay, right


class Catch(gymnasium.Env[np.ndarray, int]):
    """A ball falls straight down, one row a step; be below it when it lands.

    Observation: `Box(0, 1, (rows, columns), float32)`, 1 where the ball or the paddle is.
    Actions: `Discrete(3)`: 0 left, 1 stay, 2 right; the paddle stops at the edges.
    Reward: +1 if the ball lands on the paddle, -1 beside it; 0 before.
    End: terminated when the ball is in the bottom row, the paddle's: the step `rows - 1`.
    Start: the ball in a column of the top row drawn evenly, the paddle in the middle.
    Source: Mnih et al. (2014), Recurrent models of visual attention, arXiv:1406.6247; this
    size in `bsuite` (Osband et al., 2020, arXiv:1908.03568).

    Args:
        rows: of the board, at least 2.
        columns: of the board, at least 1.
        render_mode: "ansi" (text), "rgb_array" (picture) or None.

    Raises:
        ValueError: a board too small or an unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(self, rows: int = 10, columns: int = 5, render_mode: str | None = None):
        if rows < 2:
            raise ValueError(f"rows must be at least 2, got {rows}")
        if columns < 1:
            raise ValueError(f"columns must be at least 1, got {columns}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode must be 'ansi', 'rgb_array' or None, got {render_mode!r}"
            )
        self.rows = rows
        self.columns = columns
        self.max_episode_steps = rows - 1  # how long every episode is
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (rows, columns), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(_MOVES))
        self._ball = (0, 0)  # row, column
        self._paddle = columns // 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Drops a ball. Returns the board and an empty info."""
        super().reset(seed=seed)
        self._ball = (0, int(self.np_random.integers(self.columns)))
        self._paddle = self.columns // 2
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Moves paddle, then ball. Returns board, reward, terminated, truncated, info."""
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 to {len(_MOVES) - 1}, got {action!r}")
        self._paddle = min(max(self._paddle + _MOVES[action], 0), self.columns - 1)
        row, column = self._ball[0] + 1, self._ball[1]
        self._ball = (row, column)
        landed = row == self.rows - 1
        reward = (1.0 if column == self._paddle else -1.0) if landed else 0.0
        return self._obs(), reward, landed, False, {}

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Returns the board as text or as a picture [rows * 32, columns * 32, 3] uint8."""
        if self.render_mode is None:
            return None
        grid = [["."] * self.columns for _ in range(self.rows)]
        grid[-1][self._paddle] = "A"
        grid[self._ball[0]][self._ball[1]] = "o"
        return draw(grid, self.render_mode)

    def _obs(self) -> np.ndarray:
        board = np.zeros((self.rows, self.columns), np.float32)
        board[self._ball] = board[-1, self._paddle] = 1.0
        return board
