"""REINFORCE: the Monte-Carlo policy gradient, with an optional learned baseline.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning", https://doi.org/10.1007/BF00992696; reward-to-go and baseline as in Sutton & Barto,
2nd ed., sections 13.3 and 13.4.

Each environment plays exactly one episode per update, from its start to its end, so short
episodes are not preferred to long ones.

Deviations from the paper:
1. Adam instead of plain gradient ascent; the gradient is clipped by its norm.
2. Without the factor gamma**t, so late steps of an episode count as much as early ones.
3. At a time limit the baseline's value of the last observation is bootstrapped; without a
   baseline the return ends there.
4. Optional: advantages normalised over the batch, where it has two episodes or more; an entropy
   bonus (Williams & Peng 1991).
5. Actions drawn by a strategy b other than the policy pi are weighted by pi / b, each step by its
   own ratio, not by the product over the episode.
6. One gradient step of the policy on `num_envs` episodes together, then `value_updates` of the
   baseline; the book takes one of each after every step.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.actor import ScoreActor
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, Traits, check_ranges
from rlzoo.ops import losses
from rlzoo.ops.distributions import Categorical
from rlzoo.ops.returns import discounted_returns
from rlzoo.ops.schedules import Schedule
from rlzoo.ops.stacks import stacked
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk


@dataclasses.dataclass(frozen=True)
class REINFORCEConfig:
    """Hyperparameters of REINFORCE."""

    torso: str = "dense"  # default torso
    exploration: str = "softmax"  # default strategy; at temperature 1 it is the policy itself
    num_envs: int = 8  # default number of environments: episodes in each update's batch
    learning_rate: float | Schedule = 3e-3  # of Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    baseline: bool = True  # subtract a learned value
    value_learning_rate: float = 3e-3  # of the baseline's Adam
    value_updates: int = 10  # gradient steps of the baseline per update
    normalize_advantages: bool = True  # to mean 0, deviation 1 over the batch, if of 2 episodes up
    entropy_cost: float = 0.0  # weight of the entropy bonus
    importance_correction: bool = True  # weight steps by pi / b
    max_grad_norm: float = 10.0  # clips the norm of the gradient

    def __post_init__(self):
        check_ranges(
            self,
            num_envs=COUNT,
            learning_rate=POSITIVE,
            discount=FRACTION,
            value_learning_rate=POSITIVE,
            value_updates=COUNT,
            entropy_cost=(0.0, math.inf),
            max_grad_norm=POSITIVE,
        )


class REINFORCEState(NamedTuple):
    """What changes while REINFORCE runs, besides variables."""

    updates: tf.Tensor  # [] int64, gradient steps of the policy


def reinforce_loss(logits, chunk: Chunk, advantage, config: REINFORCEConfig):
    """Returns the surrogate loss (sum over steps, mean over episodes) and the mean entropy."""
    policy = Categorical(logits)  # [T, N, A]
    log_prob = policy.log_prob(chunk.action)  # [T, N]
    ratio = tf.exp(tf.where(chunk.valid, log_prob - chunk.extras["log_prob"], 0.0))
    weight = ratio * advantage if config.importance_correction else advantage
    entropy = policy.entropy()  # [T, N]
    loss = -tf.stop_gradient(weight) * log_prob - config.entropy_cost * entropy
    loss = tf.reduce_sum(tf.where(chunk.valid, loss, 0.0), axis=0)  # [N]
    return tf.reduce_mean(loss), losses.masked_mean(entropy, chunk.valid)


def normalized(advantage, returns, valid):
    """Returns advantages [T, N] with mean 0 and deviation 1 over the valid steps.

    What differs by rounding only stays as small: it is nothing to learn from.
    """
    mean = losses.masked_mean(advantage, valid)
    deviation = tf.sqrt(losses.masked_mean(tf.square(advantage - mean), valid))
    size = losses.masked_mean(tf.abs(returns) + tf.abs(advantage), valid)
    return (advantage - mean) / (deviation + 1e-6 * size + 1e-30)


class REINFORCE:
    """The agent: a policy network, optionally a value network, and their optimisers."""

    Config = REINFORCEConfig
    traits = Traits(whole_episodes=True, policy=True)

    def __init__(
        self,
        spec: EnvSpec,
        config: REINFORCEConfig,
        strategy: exploration.Exploration,
        torso: keras.Layer,
        seed: int,
    ):
        if spec.max_episode_steps is None:
            raise ValueError(
                "reinforce learns from whole episodes and needs a time limit, which this "
                "environment lacks. Give one: --max-episode-steps 1000."
            )
        self.spec = spec
        self.config = config
        self.chunk_length = spec.max_episode_steps
        head = networks.policy_logits(spec.num_actions, seed)
        self.network = networks.build_network(spec, torso, head, seed=seed)
        self.actor = ScoreActor(spec, self.network, strategy, policy=True)
        self.policy = networks.Trainable(self.network, config.learning_rate, config.max_grad_norm)
        if config.baseline:
            self.value_network = networks.build_network(
                spec, torso, networks.value(seed), masked=False, like=self.network, seed=seed
            )
            rate = config.value_learning_rate
            self.baseline = networks.Trainable(self.value_network, rate, config.max_grad_norm)

    def init(self, num_envs: int) -> REINFORCEState:
        """Returns the state before the first update."""
        return REINFORCEState(tf.zeros([], tf.int64))

    def update(self, state: REINFORCEState, chunk: Chunk, step, seed):
        """Takes one gradient step on N whole episodes."""
        chunk = stacked(self.spec, chunk)
        values, returns = self._values_and_returns(chunk)  # [T, N]
        advantage = returns - values
        # A single episode has none to be better than: its own mean says how good it was.
        if self.config.normalize_advantages and advantage.shape[1] > 1:
            advantage = normalized(advantage, returns, chunk.valid)

        with tf.GradientTape() as tape:
            logits, _ = networks.unroll(  # [T, N, A]
                self.network, chunk.obs, chunk.start.recurrent, chunk.first, learning=chunk.valid
            )
            loss, entropy = reinforce_loss(logits, chunk, advantage, self.config)
            loss += networks.penalty(self.network)
        rate = self.policy.follow(step)
        norm = self.policy.descend(tape, loss)

        learned = {**rate, "loss/policy": loss, "loss/entropy": entropy, "grad/norm": norm}
        if self.config.baseline:
            learned |= self._fit_baseline(chunk, returns)
        return REINFORCEState(state.updates + 1), {**learned, "updates": tf.constant(1.0)}

    def _values_and_returns(self, chunk: Chunk) -> tuple[tf.Tensor, tf.Tensor]:
        reward = tf.where(chunk.valid, chunk.reward, 0.0)
        discount = self.config.discount * chunk.discount
        values = successor_values = tf.zeros_like(reward)
        if self.config.baseline:
            values, successor_values = self._values(chunk)
        return values, discounted_returns(reward, discount, chunk.last, successor_values)

    def _values(self, chunk: Chunk, learning: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the value of every observation and of its successor, each [T, N]."""
        obs = tf.nest.map_structure(  # [T + 1, N, ...]
            lambda obs, following: tf.concat([obs[:1], following], axis=0),
            chunk.obs,
            chunk.next_obs,
        )
        first = tf.concat([chunk.first[:1], tf.zeros_like(chunk.first)], axis=0)
        initial = networks.initial_state(self.value_network, first.shape[1])
        valid = tf.concat([chunk.valid[:1], chunk.valid], axis=0) if learning else None
        values, _ = networks.unroll(self.value_network, obs, initial, first, valid)
        values = values[..., 0]  # [T + 1, N]
        return values[:-1], values[1:]

    def _fit_baseline(self, chunk: Chunk, returns: tf.Tensor) -> dict[str, tf.Tensor]:
        def step(i):
            with tf.GradientTape() as tape:
                values, _ = self._values(chunk, learning=True)
                loss = losses.masked_mean(losses.squared(returns - values), chunk.valid)
                loss += networks.penalty(self.value_network)
            self.baseline.descend(tape, loss)
            return {"loss/value": loss, "value/baseline": losses.masked_mean(values, chunk.valid)}

        tags = ("loss/value", "value/baseline")
        return networks.repeat(self.config.value_updates, step, tags)

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        owners: dict[str, Any] = {"optimizer": self.policy.optimizer}
        if self.config.baseline:
            owners |= {"value_network": self.value_network}
            owners |= {"value_optimizer": self.baseline.optimizer}
        return networks.all_named(owners)
