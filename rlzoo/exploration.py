"""Exploration strategies: from an agent's scores to a behaviour distribution.

A strategy sees *scores* (Q-values or logits, invalid actions at -inf) and returns the
log-probabilities of the actions to be tried. Value, policy and model-based agents take the same
objects. Sampling happens in one place, `choose`. Our own also state their distribution in NumPy
(`probabilities`), for acting without TensorFlow where the network is small.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import Schedule, as_schedule, is_rate, levels
from rlzoo.tables import EXPLORATIONS as EXPLORATIONS
from rlzoo.types import Chunk


class Exploration:
    """What a strategy is. Subclass it as a frozen dataclass and write `log_probs`.

    A strategy that counts or learns also returns its own state from `init` and `update`.
    """

    def init(self, num_envs: int, num_actions: int):
        """Returns the strategy's state: tensors in (nested) tuples, `()` if it keeps none."""
        return ()

    def log_probs(self, scores: tf.Tensor, state, step: tf.Tensor) -> tf.Tensor:
        """Returns the log-probabilities [..., N, A] of the behaviour, float32.

        Args:
            scores: [..., N, A] float32, Q-values or logits, -inf where an action is invalid.
            state: what `init` or `update` returned last.
            step: [] int64, environment steps taken so far.
        """
        raise TypeError(f"{type(self).__name__} must define log_probs(scores, state, step).")

    def update(self, state, chunk):
        """Returns the state after a `Chunk` of experience."""
        return state

    def rates(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the current value of each of the strategy's rates, for the logs.

        Rates are its fields that hold a number or a schedule; texts, flags and the like are none.
        """
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {name: as_schedule(x)(step) for name, x in values.items() if is_rate(x)}


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
        _check_range("EpsilonGreedy", "epsilon", self.epsilon, 0.0, 1.0)

    def log_probs(self, scores, state, step):
        """Returns log(epsilon / |valid| + (1 - epsilon) * greedy)."""
        greedy = Greedy().log_probs(scores, state, step)
        return _mix(as_schedule(self.epsilon)(step), _uniform(scores), greedy)

    @staticmethod
    def probabilities(scores: np.ndarray, epsilon: float) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        return epsilon / scores.shape[-1] + (1.0 - epsilon) * Greedy.probabilities(scores)


@dataclasses.dataclass(frozen=True)
class Softmax(Exploration):
    """Boltzmann exploration: probabilities proportional to exp(score / temperature)."""

    temperature: float | Schedule = 1.0  # in units of the scores, >= 1e-6

    def __post_init__(self):
        _check_range("Softmax", "temperature", self.temperature, 1e-6, float("inf"))

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
        _check_range("EpsilonSoftmax", "epsilon", self.epsilon, 0.0, 1.0)
        _check_range("EpsilonSoftmax", "temperature", self.temperature, 1e-6, float("inf"))

    def log_probs(self, scores, state, step):
        """Returns log(epsilon / |valid| + (1 - epsilon) * softmax(scores / temperature))."""
        softmax = Softmax(self.temperature).log_probs(scores, state, step)
        return _mix(as_schedule(self.epsilon)(step), _uniform(scores), softmax)

    @staticmethod
    def probabilities(scores: np.ndarray, epsilon: float, temperature: float) -> np.ndarray:
        """Returns the same in NumPy, as probabilities, for finite scores [N, A]."""
        softmax = Softmax.probabilities(scores, temperature)
        return epsilon / scores.shape[-1] + (1.0 - epsilon) * softmax


def choose(
    strategy: Exploration, scores: tf.Tensor, state, step: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Draws one action per row from a strategy's distribution.

    Returns:
        The actions [N] int32, and what `extras` names.
    """
    log_probs = strategy.log_probs(scores, state, step)  # [N, A]
    action = rng.categorical(seed, log_probs)  # [N]
    return action, {"log_prob": losses.select(log_probs, action), "scores": scores}


def extras(num_actions: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns the shape and dtype, for one environment, of what `choose` tells of a choice.

    That is the log-probability with which the action was drawn, and the scores it was drawn by.
    """
    return {"log_prob": ((), "float32"), "scores": ((num_actions,), "float32")}


def check_log_probs(strategy: Exploration, num_actions: int) -> None:
    """Tries a strategy once on scores that are made up.

    Raises:
        ValueError: it returns probabilities, say, or scores.
    """
    scores = tf.reshape(tf.range(2.0 * num_actions) / num_actions, (2, num_actions))
    found = strategy.log_probs(scores, strategy.init(2, num_actions), tf.zeros((), tf.int64))
    shape, owner = tuple(found.shape), f"{type(strategy).__name__}.log_probs"
    if shape != scores.shape:
        raise ValueError(
            f"{owner}: expected one number for each action, of shape {tuple(scores.shape)} for "
            f"such scores, received {shape}."
        )
    total = float(tf.reduce_sum(tf.exp(found)[0]))
    if not abs(total - 1.0) < 0.01:
        raise ValueError(
            f"{owner}: expected log-probabilities, whose exponentials sum to 1, received a sum of "
            f"{total:.4g}. tf.math.log makes them of probabilities, tf.nn.log_softmax of scores."
        )


def chunk_metrics(
    strategy: Exploration, chunk: Chunk, state, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Returns what TensorBoard shows of a strategy over a chunk.

    Args:
        strategy: the strategy that acted.
        chunk: what was done, with the scores [T, N, A] it was done by; only valid rows count.
        state: the strategy's state.
        step: [] int64, environment steps.

    Returns:
        `exploration/entropy` in nats, `exploration/greedy_fraction`, and each rate.
    """
    scores = chunk.extras["scores"]
    entropy = losses.entropy(strategy.log_probs(scores, state, step))  # [T, N]
    greedy = tf.equal(losses.select(scores, chunk.action), tf.reduce_max(scores, axis=-1))
    return {
        "exploration/entropy": losses.masked_mean(entropy, chunk.valid),
        "exploration/greedy_fraction": losses.masked_mean(tf.cast(greedy, tf.float32), chunk.valid),
        **{f"exploration/{name}": rate for name, rate in strategy.rates(step).items()},
    }


def _uniform(scores: tf.Tensor) -> tf.Tensor:
    valid = tf.math.is_finite(scores)
    count = tf.reduce_sum(tf.cast(valid, tf.float32), axis=-1, keepdims=True)
    return tf.where(valid, -tf.math.log(count), -float("inf"))


def _mix(weight: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.math.log(weight * tf.exp(one) + (1.0 - weight) * tf.exp(other))


def _check_range(owner: str, field: str, value, low: float, high: float) -> None:
    if not all(low <= level <= high for level in levels(value)):
        raise ValueError(f"{owner} expects {field} in [{low}, {high}], received {value}.")
