"""A task that cannot be done without memory."""

from typing import Any

import gymnasium
import numpy as np

_PIXELS = 48  # side of a square in the picture


class Memory(gymnasium.Env[np.ndarray, int]):
    """See a cue, wait, then name it.

    Observation: `Box(0, 1, (num_cues + 1,), float32)`. The first one shows the cue, one-hot
    in the first `num_cues` entries; the next `delay` ones are all zero; the last one holds
    1 in the last entry: the go signal. Nothing in them tells the time.
    Actions: `Discrete(num_cues)`. Only the one taken on the go signal counts.
    Reward: +1 if that action is the cue, -1 if not; 0 before. A policy without memory
    has an expected return of `2 / num_cues - 1`, whatever it does.
    End: terminated after the action on the go signal, the step `delay + 2`.
    Source: after the T-maze of Bakker (2001), NeurIPS 14, without its corridor; `bsuite`'s
    `memory_len` (Osband et al., 2020, arXiv:1908.03568) is the same idea with a clock in view.

    Args:
        num_cues: number of different cues, at least 2.
        delay: number of blank observations between the cue and the go signal.
        render_mode: "rgb_array" (picture) or None.

    Raises:
        ValueError: fewer than 2 cues, a negative delay or an unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, num_cues: int = 2, delay: int = 10, render_mode: str | None = None):
        if num_cues < 2:
            raise ValueError(f"num_cues must be at least 2, got {num_cues}")
        if delay < 0:
            raise ValueError(f"delay must be 0 or more, got {delay}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.num_cues = num_cues
        self.delay = delay
        self.max_episode_steps = delay + 2  # how long every episode is
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (num_cues + 1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(num_cues)
        self._cue = 0
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draws a cue. Returns the observation that shows it and an empty info."""
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(self.num_cues))
        self._time = 0
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Waits or, on the go signal, answers. Returns obs, reward, terminated, truncated, info."""
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 to {self.num_cues - 1}, got {action!r}")
        answered = self._time == self.delay + 1
        reward = (1.0 if action == self._cue else -1.0) if answered else 0.0
        self._time += 1
        return self._obs(), reward, answered, False, {}

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Returns a row of squares [48, 48 * (num_cues + 1), 3] uint8: the observation."""
        if self.render_mode is None:
            return None
        picture = np.full((1, self.num_cues + 1, 3), 235, np.uint8)
        lit = self._obs() > 0
        picture[0, lit] = (60, 110, 220)
        if lit[-1]:
            picture[0, -1] = (90, 180, 100)
        return picture.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)

    def _obs(self) -> np.ndarray:
        obs = np.zeros(self.num_cues + 1, np.float32)
        if self._time == 0:
            obs[self._cue] = 1.0
        elif self._time == self.delay + 1:
            obs[-1] = 1.0
        return obs
