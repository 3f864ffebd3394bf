"""Temporally extended epsilon-greedy (Dabney et al. 2021, https://arxiv.org/abs/2006.01782)."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo.exploration.base import Exploration, check_range
from rlzoo.exploration.strategies import EpsilonGreedy
from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import Schedule, as_schedule
from rlzoo.spaces import EnvSpec


class EpsilonZState(NamedTuple):
    """What each environment is about."""

    left: tf.Tensor  # [N] int32, how often the action is still to be repeated
    action: tf.Tensor  # [N] int32


@dataclasses.dataclass(frozen=True)
class EpsilonZ(Exploration):
    """Epsilon-greedy, but a random action is kept up for n steps, n drawn by n ** -mu.

    So it gets further than single random actions do. Deviations: durations end at `longest`, and at
    the end of an episode, or where the action becomes invalid.
    """

    epsilon: float | Schedule = 0.1  # of a random action where none is being kept up, 0..1
    mu: float = 2.0  # the larger, the shorter; > 1
    longest: int = 1_000  # steps that an action is kept up at most, >= 1

    def __post_init__(self):
        check_range("EpsilonZ", "epsilon", self.epsilon, 0.0, 1.0)
        check_range("EpsilonZ", "mu", self.mu, 1.0 + 1e-6, 100.0)
        check_range("EpsilonZ", "longest", self.longest, 1, 1_000_000)

    def init(self, num_envs: int, spec: EnvSpec) -> EpsilonZState:
        """Returns a state in which nothing is kept up."""
        return EpsilonZState(tf.zeros([num_envs], tf.int32), tf.zeros([num_envs], tf.int32))

    def behave(self, scores, obs, state: EpsilonZState, first, step, seed) -> Any:
        """Goes on with a random action, or decides anew by epsilon-greedy."""
        draws, chance, length = rng.split(seed, 3)
        greedy = EpsilonGreedy(0.0).log_probs(scores, (), step)
        random = EpsilonGreedy(1.0).log_probs(scores, (), step)
        epsilon = as_schedule(self.epsilon)(step)
        explores = rng.uniform(chance, first.shape) < epsilon  # [N]
        new = rng.categorical(draws, tf.where(explores[:, None], random, greedy))
        keeps = (state.left > 0) & ~first & tf.math.is_finite(losses.select(scores, state.action))
        action = tf.where(keeps, state.action, new)
        mixed = EpsilonGreedy(self.epsilon).log_probs(scores, (), step)
        log_prob = tf.where(keeps, 0.0, losses.select(mixed, action))
        weights = np.arange(1, self.longest + 1, dtype=np.float64) ** -self.mu
        steps = rng.weighted(length, tf.constant(weights[None], tf.float32), first.shape[0])
        left = tf.where(keeps, state.left - 1, tf.where(explores, steps, 0))  # beyond this one
        return action, log_prob, EpsilonZState(left, action)
