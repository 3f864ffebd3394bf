"""Catch a falling ball."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng


class CatchState(NamedTuple):
    """Ball and paddle, each [N] int32."""

    row: tf.Tensor
    column: tf.Tensor
    paddle: tf.Tensor


class Catch:
    """rlzoo's Catch (Mnih et al. 2014, arXiv:1406.6247)."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._rows, self._columns = source.rows, source.columns

    def reset(self, seed, num_envs: int) -> CatchState:
        """Returns states [N] with the ball in a column drawn evenly."""
        column = rng.integers(seed, [num_envs], self._columns)
        return CatchState(tf.zeros_like(column), column, tf.fill([num_envs], self._columns // 2))

    def observe(self, state: CatchState) -> tf.Tensor:
        """Returns the boards [N, rows, columns]."""
        bottom = tf.fill(tf.shape(state.row), self._rows - 1)
        ball = self._board(state.row, state.column)
        return tf.maximum(ball, self._board(bottom, state.paddle))

    def step(self, state: CatchState, action, seed):
        """Moves the paddle left (0), not (1) or right (2), then the ball down."""
        paddle = tf.clip_by_value(state.paddle + action - 1, 0, self._columns - 1)
        state = CatchState(state.row + 1, state.column, paddle)
        landed = state.row == self._rows - 1
        reward = tf.where(landed, tf.where(state.column == paddle, 1.0, -1.0), 0.0)
        return state, reward, landed

    def _board(self, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        cell = tf.one_hot(row * self._columns + column, self._rows * self._columns)
        return tf.reshape(cell, [-1, self._rows, self._columns])
