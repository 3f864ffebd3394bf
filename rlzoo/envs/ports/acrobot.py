"""Acrobot: two links that hang, with a motor at the joint between them only."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.envs.ports.base import wrap_angle
from rlzoo.ops import rng

_START = 0.1  # episodes start within +- this, in every component
_GRAVITY = 9.8  # m/s^2; no setting in Gymnasium


class AcrobotState(NamedTuple):
    """Angles in +-pi rad (the second from the first link) and their rates, each [N] float32."""

    theta1: tf.Tensor
    theta2: tf.Tensor
    theta1_dot: tf.Tensor
    theta2_dot: tf.Tensor


class Acrobot:
    """Gymnasium's Acrobot-v1, with all its settings (noise of the torque, "book" or "nips").

    Sutton (1996), Generalization in reinforcement learning: successful examples using sparse
    coarse coding, NIPS 8.
    """

    def __init__(self, env: gymnasium.Env):
        self._source: Any = env

    def reset(self, seed, num_envs: int) -> AcrobotState:
        """Returns states [N] with every component drawn evenly from +-0.1."""
        draws = rng.uniform(seed, [4, num_envs]) * (2 * _START) - _START
        return AcrobotState(*tf.unstack(draws))

    def observe(self, state: AcrobotState) -> tf.Tensor:
        """Returns [N, 6]: cosine and sine of each angle, then both rates (rad/s)."""
        theta1, theta2, *rates = state
        angles = [tf.cos(theta1), tf.sin(theta1), tf.cos(theta2), tf.sin(theta2)]
        return tf.stack([*angles, *rates], axis=-1)

    def step(self, state: AcrobotState, action, seed):
        """Applies a torque of -1 (0), 0 (1) or 1 (2) N m for one time step."""
        env = self._source
        torque = tf.gather(tf.constant(env.AVAIL_TORQUE, tf.float32), action)
        if env.torque_noise_max > 0:
            noise = rng.uniform(seed, tf.shape(torque)) * 2.0 - 1.0
            torque += noise * env.torque_noise_max

        theta1, theta2, theta1_dot, theta2_dot = tf.unstack(
            runge_kutta(lambda y: self._slope(y, torque), tf.stack(state), env.dt)
        )
        state = AcrobotState(
            wrap_angle(theta1),
            wrap_angle(theta2),
            tf.clip_by_value(theta1_dot, -env.MAX_VEL_1, env.MAX_VEL_1),
            tf.clip_by_value(theta2_dot, -env.MAX_VEL_2, env.MAX_VEL_2),
        )
        terminated = -tf.cos(state.theta1) - tf.cos(state.theta1 + state.theta2) > 1.0
        return state, tf.where(terminated, 0.0, -1.0), terminated

    def _slope(self, y, torque):
        """Returns the time derivative [4, N] of a state [4, N]."""
        env = self._source
        theta1, theta2, rate1, rate2 = tf.unstack(y)
        mass2, arm = env.LINK_MASS_2, env.LINK_COM_POS_2
        lever = mass2 * env.LINK_LENGTH_1 * arm
        coupling = lever * tf.sin(theta2)

        own2 = mass2 * arm**2 + env.LINK_MOI
        shared = own2 + lever * tf.cos(theta2)
        own1 = env.LINK_MASS_1 * env.LINK_COM_POS_1**2 + mass2 * env.LINK_LENGTH_1**2
        inertia1 = own1 + env.LINK_MOI + own2 + 2 * lever * tf.cos(theta2)

        weight1 = env.LINK_MASS_1 * env.LINK_COM_POS_1 + mass2 * env.LINK_LENGTH_1
        pull2 = mass2 * arm * _GRAVITY * tf.sin(theta1 + theta2)
        pull1 = weight1 * _GRAVITY * tf.sin(theta1) + pull2
        load1 = pull1 - coupling * rate2 * (rate2 + 2 * rate1)

        drive = torque + shared / inertia1 * load1 - pull2
        if env.book_or_nips != "nips":  # the paper leaves this force out
            drive -= coupling * tf.square(rate1)
        acc2 = drive / (own2 - tf.square(shared) / inertia1)
        acc1 = -(shared * acc2 + load1) / inertia1
        return tf.stack([rate1, rate2, acc1, acc2])


def runge_kutta(slope, y: tf.Tensor, dt: float) -> tf.Tensor:
    """Returns `y` after `dt` of y' = slope(y), by one step of the classical fourth order."""
    k1 = slope(y)
    k2 = slope(y + dt / 2 * k1)
    k3 = slope(y + dt / 2 * k2)
    k4 = slope(y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
