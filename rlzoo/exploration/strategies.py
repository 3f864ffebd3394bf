"""Strategies that are a distribution over actions, from the scores of the moment alone.

They also state it in NumPy (`probabilities`), for acting without TensorFlow where the network is
small.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from rlzoo.exploration.base import Exploration, check_range, mixed, uniform
from rlzoo.ops.schedules import Schedule, as_schedule


@dataclasses.dataclass(frozen=True)
class Greedy(Exploration):
    """The best action; among equals, each with the same probability."""

    def log_probs(self, scores, state, step):
        """Returns 0 for the best action, -inf for the others; ties share."""
        best = tf.equal(scores, tf.reduce_max(scores, axis=-1, keepdims=True))  # [N, A]
        share = tf.reduce_sum(tf.cast(best, tf.float32), axis=-1, keepdims=True)
        return tf.where(best, -tf.math.log(share), -float("inf"))

    @staticmethod
    def probabilities(scores: np.ndarray) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        best = scores == np.maximum.reduce(scores, axis=-1, keepdims=True)
        return best / np.add.reduce(best, axis=-1, keepdims=True, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class EpsilonGreedy(Exploration):
    """With probability `epsilon` a uniformly random valid action, else the best one."""

    epsilon: float | Schedule = 0.1  # of a random action, 0..1; an agent's own falls from 1 to 0.05

    def __post_init__(self):
        check_range("EpsilonGreedy", "epsilon", self.epsilon, 0.0, 1.0)

    def log_probs(self, scores, state, step):
        """Returns log(epsilon / |valid| + (1 - epsilon) * greedy)."""
        greedy = Greedy().log_probs(scores, state, step)
        return mixed(as_schedule(self.epsilon)(step), uniform(scores), greedy)

    @staticmethod
    def probabilities(scores: np.ndarray, epsilon: float) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        return epsilon / scores.shape[-1] + (1.0 - epsilon) * Greedy.probabilities(scores)


@dataclasses.dataclass(frozen=True)
class Softmax(Exploration):
    """Boltzmann exploration: probabilities proportional to exp(score / temperature)."""

    temperature: float | Schedule = 1.0  # in units of the scores, >= 1e-6

    def __post_init__(self):
        check_range("Softmax", "temperature", self.temperature, 1e-6, float("inf"))

    def log_probs(self, scores, state, step):
        """Returns log softmax(scores / temperature)."""
        return tf.nn.log_softmax(scores / as_schedule(self.temperature)(step))

    @staticmethod
    def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        odds = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
        return odds / odds.sum(axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class EpsilonSoftmax(Exploration):
    """With probability `epsilon` a uniformly random valid action, else a Boltzmann one."""

    epsilon: float | Schedule = 0.1  # probability of a random action, 0..1
    temperature: float | Schedule = 1.0  # in units of the scores, >= 1e-6

    def __post_init__(self):
        check_range("EpsilonSoftmax", "epsilon", self.epsilon, 0.0, 1.0)
        check_range("EpsilonSoftmax", "temperature", self.temperature, 1e-6, float("inf"))

    def log_probs(self, scores, state, step):
        """Returns log(epsilon / |valid| + (1 - epsilon) * softmax(scores / temperature))."""
        softmax = Softmax(self.temperature).log_probs(scores, state, step)
        return mixed(as_schedule(self.epsilon)(step), uniform(scores), softmax)

    @staticmethod
    def probabilities(scores: np.ndarray, epsilon: float, temperature: float) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        softmax = Softmax.probabilities(scores, temperature)
        return epsilon / scores.shape[-1] + (1.0 - epsilon) * softmax
