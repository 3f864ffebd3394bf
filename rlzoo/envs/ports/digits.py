"""The environments that show digits."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng


class BanditState(NamedTuple):
    """What is shown."""

    image: tf.Tensor  # [N] int32, its number


class DigitBandit:
    """rlzoo's DigitBandit."""

    def __init__(self, env: gymnasium.Env):
        self._images, self._labels = _tensors(env)

    def reset(self, seed, num_envs: int) -> BanditState:
        """Returns states [N] with images drawn evenly."""
        return BanditState(rng.integers(seed, [num_envs], len(self._labels)))

    def observe(self, state: BanditState) -> tf.Tensor:
        """Returns the images [N, 28, 28] uint8."""
        return tf.gather(self._images, state.image)

    def step(self, state: BanditState, action, seed):
        """Answers."""
        right = action == tf.gather(self._labels, state.image)
        return state, tf.cast(right, tf.float32), tf.ones_like(right)


class SequenceState(NamedTuple):
    """The images of an episode, and the steps since it began."""

    shown: tf.Tensor  # [N, length + 1] int32, their numbers in order
    time: tf.Tensor  # [N] int32


class DigitSequence:
    """rlzoo's DigitSequence (Kirchner 1958, doi:10.1037/h0043688)."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._images, self._labels = _tensors(env)
        self._delay, self._length = source.delay, source.max_episode_steps

    def reset(self, seed, num_envs: int) -> SequenceState:
        """Returns states [N] with images drawn evenly."""
        shown = rng.integers(seed, [num_envs, self._length + 1], len(self._labels))
        return SequenceState(shown, tf.zeros([num_envs], tf.int32))

    def observe(self, state: SequenceState) -> tf.Tensor:
        """Returns the images [N, 28, 28] uint8."""
        return tf.gather(self._images, tf.gather(state.shown, state.time, batch_dims=1))

    def step(self, state: SequenceState, action, seed):
        """Answers, and shows the next image."""
        asked = state.time - self._delay  # below 0 at first
        image = tf.gather(state.shown, tf.maximum(asked, 0), batch_dims=1)
        right = (asked >= 0) & (action == tf.gather(self._labels, image))
        state = state._replace(time=state.time + 1)
        return state, tf.cast(right, tf.float32), state.time == self._length


class MazeState(NamedTuple):
    """Where the agent is, and what it sees, each [N] int32."""

    digit: tf.Tensor
    image: tf.Tensor


class DigitMaze:
    """rlzoo's DigitMaze, as a table of successors."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._images, _ = _tensors(env)
        self._by_class = tf.constant(source.by_class, tf.int32)
        self._successors = tf.constant(source.successors, tf.int32)
        self._goal = source.goal

    def reset(self, seed, num_envs: int) -> MazeState:
        """Returns N agents, each on a cell other than the goal, drawn evenly."""
        cell_seed, image_seed = rng.split(seed)
        return self._at(1 + rng.integers(cell_seed, [num_envs], self._goal - 1), image_seed)

    def observe(self, state: MazeState) -> tf.Tensor:
        """Returns the images [N, 28, 28] uint8."""
        return tf.gather(self._images, state.image)

    def step(self, state: MazeState, action, seed):
        """Moves up (0), right (1), down (2) or left (3), and draws an image."""
        digit = tf.gather_nd(self._successors, tf.stack([state.digit, action], axis=-1))
        at_goal = digit == self._goal
        return self._at(digit, seed), tf.cast(at_goal, tf.float32), at_goal

    def _at(self, digit: tf.Tensor, seed: tf.Tensor) -> MazeState:
        number = rng.integers(seed, tf.shape(digit), self._by_class.shape[1])
        return MazeState(digit, tf.gather_nd(self._by_class, tf.stack([digit, number], axis=-1)))


def _tensors(env: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the images and their labels (int32).

    Made outside of any graph, they are inputs of the compiled loop, not constants in its code.
    """
    return tf.constant(env.images), tf.constant(env.labels, tf.int32)
