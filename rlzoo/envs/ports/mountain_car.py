"""MountainCar: a car too weak for the hill has to swing up, by three actions or by any force."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng

_START = (-0.6, -0.4)  # episodes start at rest between these positions
_GRAVITY = 0.0025  # of the continuous one, where Gymnasium has no setting


class MountainCarState(NamedTuple):
    """The car, each [N] float32."""

    position: tf.Tensor
    velocity: tf.Tensor


class MountainCar:
    """Gymnasium's MountainCar-v0, `goal_velocity` included.

    Moore (1990), Efficient memory-based learning for robot control, PhD thesis, Cambridge.
    """

    def __init__(self, env: gymnasium.Env):
        self._source: Any = env

    def reset(self, seed, num_envs: int) -> MountainCarState:
        """Returns cars [N] at rest, in positions drawn evenly from -0.6..-0.4."""
        low, high = _START
        position = rng.uniform(seed, [num_envs]) * (high - low) + low
        return MountainCarState(position, tf.zeros_like(position))

    def observe(self, state: MountainCarState) -> tf.Tensor:
        """Returns [N, 2]: position, velocity."""
        return tf.stack(state, axis=-1)

    def step(self, state: MountainCarState, action, seed):
        """Pushes left (0), not at all (1) or right (2) for one time step."""
        env = self._source
        push = (tf.cast(action, tf.float32) - 1.0) * env.force
        state, terminated = self._move(state, push, env.gravity)
        return state, -tf.ones_like(push), terminated

    def _move(self, state: MountainCarState, push, gravity):
        """Returns the states after one time step, and whether they are at the goal."""
        env = self._source
        velocity = state.velocity + push - gravity * tf.cos(3.0 * state.position)
        velocity = tf.clip_by_value(velocity, -env.max_speed, env.max_speed)
        position = tf.clip_by_value(state.position + velocity, env.min_position, env.max_position)
        crash = (position <= env.min_position) & (velocity < 0.0)  # the wall takes all speed
        velocity = tf.where(crash, 0.0, velocity)
        terminated = (position >= env.goal_position) & (velocity >= env.goal_velocity)
        return MountainCarState(position, velocity), terminated


class MountainCarContinuous(MountainCar):
    """Gymnasium's MountainCarContinuous-v0, `goal_velocity` included."""

    def step(self, state: MountainCarState, action, seed):
        """Pushes with a force [N, 1] float32; beyond +-1 it costs more but pushes no harder."""
        env = self._source
        force = action[:, 0]
        push = tf.clip_by_value(force, env.min_action, env.max_action) * env.power
        state, terminated = self._move(state, push, _GRAVITY)
        return state, tf.where(terminated, 100.0, 0.0) - 0.1 * tf.square(force), terminated
