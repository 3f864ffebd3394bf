"""Exploration: from what an agent knows to the actions to be tried.

A strategy sees *scores* (Q-values or logits, invalid actions at -inf), or the continuous action
that a policy would take, and decides what is done. Value, policy and model-based agents take the
same objects. Most are a distribution, and write `log_probs`; one that remembers what it did, or
looks at the observation, writes `behave`.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import as_schedule, is_rate, levels
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk


class Exploration:
    """What a strategy is. Subclass it as a frozen dataclass and write `log_probs`, or `behave`.

    A strategy that counts or remembers returns a state of its own from `init`, and from `behave` or
    `observe` what becomes of it.
    """

    actions = ("Discrete",)  # the kinds of actions that it is for

    def init(self, num_envs: int, spec: EnvSpec) -> Any:
        """Returns the strategy's state: tensors in (nested) tuples, `()` if it keeps none.

        Raises:
            ValueError: the strategy is not for such environments.
        """
        return ()

    def log_probs(self, scores: tf.Tensor, state: Any, step: tf.Tensor) -> tf.Tensor:
        """Returns the log-probabilities [..., N, A] of the behaviour, float32.

        Args:
            scores: [..., N, A] float32, Q-values or logits, -inf where an action is invalid.
            state: the strategy's.
            step: [] int64, environment steps taken so far.
        """
        raise TypeError(
            f"{type(self).__name__} must define log_probs(scores, state, step), or behave(...)."
        )

    def behave(
        self, scores: tf.Tensor, obs: Any, state: Any, first: tf.Tensor, step: tf.Tensor, seed
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Decides what N environments do: by default draws from `log_probs`.

        Args:
            scores: [N, A] float32 as in `log_probs`; the policy's own actions [N, ...] of a Box.
            obs: [N, ...], nested as the observation's space is.
            state: the strategy's.
            first: [N] bool, where an episode starts.
            step: [] int64, environment steps taken so far.
            seed: [2] int32.

        Returns:
            The actions [N] int32 or [N, ...] float32; the log-probability [N] with which each was
            chosen, given the past, 0 where none can be told; the next state.
        """
        log_probs = self.log_probs(scores, state, step)  # [N, A]
        action = rng.categorical(seed, log_probs)  # [N]
        return action, losses.select(log_probs, action), state

    def observe(self, state: Any, chunk: Chunk) -> Any:
        """Returns the state after a `Chunk` of experience."""
        return state

    def rates(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the current value of each of the strategy's rates, for the logs.

        Rates are its fields that hold a number or a schedule; texts, flags and the like are none.
        """
        fields = dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {name: as_schedule(x)(step) for name, x in values.items() if is_rate(x)}


def choose(
    strategy: Exploration, scores: tf.Tensor, obs: Any, state: Any, first, step: tf.Tensor, seed
) -> tuple[tf.Tensor, dict[str, tf.Tensor], Any]:
    """Lets a strategy decide, as `behave` says.

    Returns:
        The actions [N] int32, what `extras` names, and the strategy's next state.
    """
    action, log_prob, state = strategy.behave(scores, obs, state, first, step, seed)
    return action, {"log_prob": log_prob, "scores": scores}, state


def extras(num_actions: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns the shape and dtype, for one environment, of what `choose` tells of a choice.

    That is the log-probability with which the action was drawn, and the scores it was drawn by.
    """
    return {"log_prob": ((), "float32"), "scores": ((num_actions,), "float32")}


def check_strategy(strategy: Exploration, spec: EnvSpec) -> None:
    """Tries a strategy once, on scores that are made up if it has a distribution.

    Raises:
        ValueError: it is for other actions, or returns probabilities, say, or scores.
    """
    kind, owner = type(spec.action).__name__, type(strategy).__name__
    if kind not in strategy.actions:
        raise ValueError(
            f"exploration: {owner} is for {' or '.join(strategy.actions)} actions, and this "
            f"environment has {kind} ones. Take another strategy: rlzoo list explorations."
        )
    if hasattr(strategy, "update"):
        raise ValueError(f"exploration: {owner}.update(state, chunk) is called observe now.")
    state = strategy.init(2, spec)
    if not has_distribution(strategy):
        return
    num_actions, owner = spec.num_actions, f"{owner}.log_probs"
    scores = tf.reshape(tf.range(2.0 * num_actions) / num_actions, (2, num_actions))
    found = strategy.log_probs(scores, state, tf.zeros((), tf.int64))
    if (shape := tuple(found.shape)) != scores.shape:
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


def has_distribution(strategy: Exploration) -> bool:
    """Tells whether the scores alone say how likely each action is."""
    return type(strategy).log_probs is not Exploration.log_probs


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
        `exploration/entropy` in nats if the strategy has a distribution,
        `exploration/greedy_fraction`, and each rate.
    """
    scores = chunk.extras["scores"]
    greedy = tf.equal(losses.select(scores, chunk.action), tf.reduce_max(scores, axis=-1))
    shown = {}
    if has_distribution(strategy):
        entropy = losses.entropy(strategy.log_probs(scores, state, step))  # [T, N]
        shown["exploration/entropy"] = losses.masked_mean(entropy, chunk.valid)
    return {
        **shown,
        "exploration/greedy_fraction": losses.masked_mean(tf.cast(greedy, tf.float32), chunk.valid),
        **{f"exploration/{name}": rate for name, rate in strategy.rates(step).items()},
    }


def uniform(scores: tf.Tensor) -> tf.Tensor:
    """Returns the log-probabilities [..., A] of a draw among the valid actions."""
    valid = tf.math.is_finite(scores)
    count = tf.reduce_sum(tf.cast(valid, tf.float32), axis=-1, keepdims=True)
    return tf.where(valid, -tf.math.log(count), -float("inf"))


def mixed(weight: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Returns log-probabilities of one with probability `weight`, else of the other."""
    return tf.math.log(weight * tf.exp(one) + (1.0 - weight) * tf.exp(other))


def check_range(owner: str, field: str, value, low: float, high: float) -> None:
    """Raises a `ValueError` where a number, or a value of a schedule, is out of its range."""
    if not all(low <= level <= high for level in levels(value)):
        raise ValueError(f"{owner} expects {field} in [{low}, {high}], received {value}.")
