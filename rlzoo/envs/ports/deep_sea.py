"""The task that cannot be done without deep exploration."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf


class DeepSeaState(NamedTuple):
    """The diver, each [N] int32."""

    row: tf.Tensor
    column: tf.Tensor


class DeepSea:
    """rlzoo's DeepSea (Osband et al. 2019, arXiv:1703.07608)."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._size = source.size
        self._cost = source.move_cost
        self._right = source.right.ravel().astype(np.int32)

    def reset(self, seed, num_envs: int) -> DeepSeaState:
        """Returns N divers at the top left."""
        return DeepSeaState(tf.zeros([num_envs], tf.int32), tf.zeros([num_envs], tf.int32))

    def observe(self, state: DeepSeaState) -> tf.Tensor:
        """Returns the cells [N] int64."""
        cell = state.row * self._size + state.column
        return tf.cast(tf.minimum(cell, self._size**2), tf.int64)  # one number for the floor

    def step(self, state: DeepSeaState, action, seed):
        """Sinks one row, to the left or to the right."""
        edge = self._size - 1
        right = action == tf.gather(self._right, state.row * self._size + state.column)
        found = right & (state.column == edge)
        reward = tf.where(found, 1.0 - self._cost, tf.where(right, -self._cost, 0.0))
        column = tf.clip_by_value(state.column + tf.where(right, 1, -1), 0, edge)
        state = DeepSeaState(state.row + 1, column)
        return state, reward, state.row == self._size
