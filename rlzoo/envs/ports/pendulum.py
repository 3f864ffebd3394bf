"""Pendulum: swing up a rod and hold it, with a motor too weak to lift it at once."""

import math
from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.envs.ports.base import wrap_angle
from rlzoo.ops import rng

_START = (math.pi, 1.0)  # episodes start within +- these


class PendulumState(NamedTuple):
    """Angle from upright in +-pi rad and its rate (rad/s), each [N] float32.

    Gymnasium lets the angle grow with every turn; only its place in the turn ever matters.
    """

    theta: tf.Tensor
    theta_dot: tf.Tensor


class Pendulum:
    """Gymnasium's Pendulum-v1, `g` included."""

    def __init__(self, env: gymnasium.Env):
        self._source: Any = env

    def reset(self, seed, num_envs: int) -> PendulumState:
        """Returns states [N] with the angle drawn evenly from +-pi and the rate from +-1."""
        draws = tf.unstack(rng.uniform(seed, [2, num_envs]) * 2.0 - 1.0)
        return PendulumState(*(draw * reach for draw, reach in zip(draws, _START, strict=True)))

    def observe(self, state: PendulumState) -> tf.Tensor:
        """Returns [N, 3]: cosine and sine of the angle, rate (rad/s)."""
        return tf.stack([tf.cos(state.theta), tf.sin(state.theta), state.theta_dot], axis=-1)

    def step(self, state: PendulumState, action, seed):
        """Applies a torque [N, 1] float32 (N m), clipped to +-2, for one time step."""
        env = self._source
        theta, theta_dot = state
        torque = tf.clip_by_value(action[:, 0], -env.max_torque, env.max_torque)
        cost = tf.square(theta) + 0.1 * tf.square(theta_dot) + 0.001 * tf.square(torque)

        theta_acc = (1.5 * env.g / env.l) * tf.sin(theta) + 3.0 / (env.m * env.l**2) * torque
        theta_dot = tf.clip_by_value(theta_dot + theta_acc * env.dt, -env.max_speed, env.max_speed)
        state = PendulumState(wrap_angle(theta + theta_dot * env.dt), theta_dot)
        return state, -cost, tf.zeros_like(cost, tf.bool)
