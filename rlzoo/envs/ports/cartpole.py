"""CartPole, with and without the velocities in view."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng

_START = 0.05  # episodes start within +- this, in every component


class CartPoleState(NamedTuple):
    """Cart and pole, each [N] float32."""

    x: tf.Tensor
    x_dot: tf.Tensor
    theta: tf.Tensor
    theta_dot: tf.Tensor


class CartPole:
    """Gymnasium's CartPole-v1 (Barto, Sutton & Anderson 1983, doi:10.1109/TSMC.1983.6313077)."""

    def __init__(self, env: gymnasium.Env):
        self._source: Any = env

    def reset(self, seed, num_envs: int) -> CartPoleState:
        """Returns states [N] with every component drawn evenly from +-0.05."""
        draws = rng.uniform(seed, [4, num_envs]) * (2 * _START) - _START
        return CartPoleState(*tf.unstack(draws))

    def observe(self, state: CartPoleState) -> tf.Tensor:
        """Returns [N, 4]: position, velocity, angle (rad), angular velocity."""
        return tf.stack(state, axis=-1)

    def step(self, state: CartPoleState, action, seed):
        """Pushes left (0) or right (1) for one time step."""
        env = self._source
        force = tf.where(action == 1, env.force_mag, -env.force_mag)
        cos, sin = tf.cos(state.theta), tf.sin(state.theta)
        push = (force + env.polemass_length * tf.square(state.theta_dot) * sin) / env.total_mass
        theta_acc = (env.gravity * sin - cos * push) / (
            env.length * (4.0 / 3.0 - env.masspole * tf.square(cos) / env.total_mass)
        )
        x_acc = push - env.polemass_length * theta_acc * cos / env.total_mass
        x_dot = state.x_dot + env.tau * x_acc
        theta_dot = state.theta_dot + env.tau * theta_acc
        euler = env.kinematics_integrator == "euler"  # else semi-implicit: the new velocities
        x = state.x + env.tau * (state.x_dot if euler else x_dot)
        theta = state.theta + env.tau * (state.theta_dot if euler else theta_dot)
        state = CartPoleState(x, x_dot, theta, theta_dot)
        terminated = (tf.abs(state.x) > env.x_threshold) | (
            tf.abs(state.theta) > env.theta_threshold_radians
        )
        reward = tf.ones_like(state.x)
        if env._sutton_barto_reward:
            reward = tf.where(terminated, -1.0, 0.0)
        return state, reward, terminated


class CartPoleNoVel(CartPole):
    """CartPole with both velocities hidden."""

    def observe(self, state: CartPoleState) -> tf.Tensor:
        """Returns [N, 2]: position, angle (rad)."""
        return tf.stack([state.x, state.theta], axis=-1)
