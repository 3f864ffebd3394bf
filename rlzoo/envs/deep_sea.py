"""A task that cannot be done without deep exploration."""

from typing import Any

import gymnasium
import numpy as np

from rlzoo.envs.drawing import draw

_MOVE_COST = 0.01  # of a whole episode of moves to the right


class DeepSea(gymnasium.Env[int, int]):
    """Dive from the top left; the treasure lies at the bottom right, and the way there costs.

    Every step sinks one row, one column to the left or to the right; at the edges the diver
    sinks straight down. Which action is right differs from cell to cell. Of the `2**size`
    sequences of moves one finds the treasure, with a return of 0.99; a random policy finds
    it once in `2**size` episodes.

    Observation: `Discrete(size**2 + 1)`, the diver's cell as `row * size + column`; the last
    one is the sea floor, where an episode ends. A network sees it one-hot, a table as it is.
    Actions: `Discrete(2)`: left and right, in the order that the cell's mapping says.
    Reward: -0.01 / size for a move to the right, and +1 for the one in the bottom right cell.
    End: terminated after `size` steps.
    Source: Osband et al. (2019), Deep exploration via randomized value functions,
    arXiv:1703.07608; `bsuite` (Osband et al., 2020, arXiv:1908.03568) has it too.

    Args:
        size: number of rows and of columns, at least 1.
        mapping_seed: each cell's right action is drawn from it; None: 1 is right everywhere.
        render_mode: "ansi" (text), "rgb_array" (picture) or None.

    Attributes:
        right: [size, size] int64, the action that goes right in each cell.

    Raises:
        ValueError: a size below 1, a negative seed or an unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self, size: int = 10, mapping_seed: int | None = 0, render_mode: str | None = None
    ):
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if mapping_seed is not None and mapping_seed < 0:
            raise ValueError(f"mapping_seed must be 0 or more, or None, got {mapping_seed}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode must be 'ansi', 'rgb_array' or None, got {render_mode!r}"
            )
        self.size = size
        self.max_episode_steps = size  # how long every episode is
        self.move_cost = _MOVE_COST / size
        self.right = np.ones((size, size), np.int64)
        if mapping_seed is not None:
            self.right = np.random.default_rng(mapping_seed).integers(2, size=(size, size))
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Discrete(size**2 + 1)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._diver = (0, 0)  # row, column

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Puts the diver at the top left. Returns the observation and an empty info."""
        super().reset(seed=seed)
        self._diver = (0, 0)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Sinks one row. Returns observation, reward, terminated, truncated, info."""
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 or 1, got {action!r}")
        row, column = self._diver
        if row == self.size:
            raise ValueError("the episode is over: call reset first")
        reward = 0.0
        if action == self.right[row, column]:
            reward = float(column == self.size - 1) - self.move_cost
            column = min(column + 1, self.size - 1)
        else:
            column = max(column - 1, 0)
        self._diver = (row + 1, column)
        at_floor = row + 1 == self.size
        obs = self.size**2 if at_floor else (row + 1) * self.size + column
        return obs, reward, at_floor, False, {}

    def render(self) -> str | np.ndarray | None:  # type: ignore[override]
        """Returns the sea and its floor as text or as a picture.

        The picture is [(size + 1) * 32, size * 32, 3] uint8.
        """
        if self.render_mode is None:
            return None
        grid = [["."] * self.size for _ in range(self.size)] + [["#"] * self.size]
        grid[-1][-1] = "G"
        grid[self._diver[0]][self._diver[1]] = "A"
        return draw(grid, self.render_mode)
