"""Noise on continuous actions, as in Lillicrap et al. 2016 (https://arxiv.org/abs/1509.02971)."""

import dataclasses
from typing import Any

import tensorflow as tf

from rlzoo.exploration.base import Exploration, check_range
from rlzoo.ops import rng
from rlzoo.ops.schedules import Schedule, as_schedule
from rlzoo.spaces import EnvSpec


@dataclasses.dataclass(frozen=True)
class OrnsteinUhlenbeck(Exploration):
    """The policy's action and noise that wanders: x' = (1 - theta) x + sigma * normal.

    It begins at 0 with each episode. What leaves the bounds of the space is clipped by the agent.
    """

    sigma: float | Schedule = 0.2  # of each step, in units of the action, >= 0
    theta: float = 0.15  # share by which it returns to 0 at each step, 0..1; 1: white noise
    actions = ("Box",)

    def __post_init__(self):
        check_range("OrnsteinUhlenbeck", "sigma", self.sigma, 0.0, float("inf"))
        check_range("OrnsteinUhlenbeck", "theta", self.theta, 0.0, 1.0)

    def init(self, num_envs: int, spec: EnvSpec) -> tf.Tensor:
        """Returns the noise [N, ...] of each environment, 0."""
        return tf.zeros([num_envs, *spec.action.shape])

    def behave(self, scores, obs, state: tf.Tensor, first, step, seed) -> Any:
        """Adds the noise to the policy's actions [N, ...]; no log-probability is told."""
        start = tf.reshape(first, (-1, *[1] * (len(state.shape) - 1)))
        noise = (1.0 - self.theta) * tf.where(start, 0.0, state)
        noise += as_schedule(self.sigma)(step) * rng.normal(seed, state.shape)
        return scores + noise, tf.zeros(first.shape), noise
