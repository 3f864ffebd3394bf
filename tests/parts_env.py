"""A task that takes every part of a nested observation, as an environment and in TensorFlow ops."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlzoo.ops import rng

LENGTH = 8  # steps of an episode


class Parts(gymnasium.Env):
    """Says in `where` which part tells the answer: a picture's bright column, or the larger number.

    One of three actions is not valid at each step, and the mask says which.

    Args:
        tells: which part tells always, 0 the picture, 1 the numbers; None for either.
    """

    def __init__(self, tells=None):
        self.tells = tells
        self.observation_space = spaces.Dict(
            camera=spaces.Box(0, 255, (6, 6), np.uint8),
            numbers=spaces.Box(-1, 1, (2,), np.float32),
            where=spaces.Discrete(2, start=1),
        )
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._next()

    def _next(self):
        self.where, self.column, self.larger = self.np_random.integers(2, size=3)
        self.where = self.where if self.tells is None else self.tells
        self.never = 2 if self.time % 2 else 1 - self._answer()
        camera = np.zeros((6, 6), np.uint8)
        camera[:, 4 * self.column : 4 * self.column + 2] = 255
        numbers = np.where(np.arange(2) == self.larger, 1.0, -1.0).astype(np.float32)
        obs = {"camera": camera, "numbers": numbers, "where": np.int64(self.where + 1)}
        return obs, {"action_mask": np.arange(3) != self.never}

    def _answer(self):
        return int(self.larger if self.where else self.column)

    def step(self, action):
        if action == self.never:
            raise RuntimeError(f"action {action} is not valid")
        reward = float(action == self._answer())
        self.time += 1
        obs, info = self._next()
        return obs, reward, self.time == LENGTH, False, info


class PartsState(NamedTuple):
    """Each [N] int32; `invalid` counts invalid actions over all episodes."""

    where: Any
    column: Any
    larger: Any
    time: Any
    invalid: Any


class PartsPort:
    """`Parts` in TensorFlow ops."""

    def __init__(self, env: gymnasium.Env):
        self.tells = env.unwrapped.tells

    def reset(self, seed, num_envs):
        zero = tf.zeros([num_envs], tf.int32)
        return PartsState(*self._draw(seed, num_envs), zero, zero)

    def keep(self, fresh, old):
        return fresh._replace(invalid=old.invalid)

    def _draw(self, seed, num_envs):
        where, column, larger = tf.unstack(rng.integers(seed, [3, num_envs], 2))
        where = where if self.tells is None else tf.fill([num_envs], self.tells)
        return where, column, larger

    def observe(self, state):
        bright = tf.range(6)[None] // 2 == 2 * state.column[:, None]  # [N, 6]
        camera = tf.where(bright[:, None], tf.constant(255, tf.uint8), tf.constant(0, tf.uint8))
        numbers = tf.where(tf.range(2)[None] == state.larger[:, None], 1.0, -1.0)
        obs = {
            "camera": tf.tile(camera, [1, 6, 1]),
            "numbers": numbers,
            "where": tf.cast(state.where, tf.int64),
        }
        return {**obs, "action_mask": tf.range(3)[None] != self._never(state)[:, None]}

    def _answer(self, state):
        return tf.where(state.where == 1, state.larger, state.column)

    def _never(self, state):
        return tf.where(state.time % 2 == 1, 2, 1 - self._answer(state))

    def step(self, state, action, seed):
        reward = tf.cast(action == self._answer(state), tf.float32)
        invalid = state.invalid + tf.cast(action == self._never(state), tf.int32)
        time = state.time + 1
        drawn = self._draw(seed, state.time.shape[0])
        return PartsState(*drawn, time, invalid), reward, time == LENGTH
