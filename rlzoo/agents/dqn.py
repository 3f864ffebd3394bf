"""DQN: Q-learning with a network, experience replay and a target network.

Mnih et al. 2015, "Human-level control through deep reinforcement learning",
https://doi.org/10.1038/nature14236. Double Q-learning: van Hasselt et al. 2016
(arXiv:1509.06461). Dueling heads: Wang et al. 2016 (arXiv:1511.06581). With a recurrent torso:
Hausknecht & Stone 2015 (arXiv:1507.06527), from stored states as in Kapturowski et al. 2019
(https://openreview.net/forum?id=r1lyTjAqYX).

Deviations from the paper:
1. Adam instead of RMSprop.
2. The gradient of the whole network is clipped by its norm.
3. The Huber loss stands for the paper's clipped error; `loss="squared"` is the plain one.
4. A time limit is no terminal state: the value of its last observation is bootstrapped.
5. Rewards are not clipped, frames not preprocessed: that is for environment wrappers.
6. With a recurrent torso replay is drawn from in sequences of `train_every` steps that do not
   overlap; every step of one is learned from, none only warms the memory up.
7. The streams of a dueling head are linear in the torso's features, without a layer of their own;
   the gradient that reaches the torso from them is not scaled by 1 / sqrt(2).
8. Optional: a target that moves by a share at each update (Lillicrap et al. 2016,
   arXiv:1509.02971) instead of copies.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.actor import ScoreActor
from rlzoo.agents.base import (
    COUNT,
    FRACTION,
    POSITIVE,
    SHARE,
    Traits,
    check_ranges,
    decide_target_period,
)
from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import Schedule, as_schedule
from rlzoo.replay import Replay, check_sequences
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk, Sequences, Transitions

LEARNED = ("loss/td", "value/q", "grad/norm")  # what `DQN.gradient_step` tells


@dataclasses.dataclass(frozen=True)
class DQNConfig:
    """Hyperparameters of DQN."""

    torso: str = "dense"  # default torso
    exploration: str = "epsilon_greedy"  # default strategy
    learning_rate: float | Schedule = 5e-4  # of Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 128  # transitions per gradient step, in whole sequences if recurrent
    replay_capacity: int = 50_000  # observations kept: one per step, one per episode's end
    learning_starts: int = 500  # transitions in replay before the first gradient step
    train_every: int = 4  # steps per environment between updates; length of a recurrent sequence
    updates_per_chunk: int = 1  # gradient steps each time
    target_update_period: int | None = None  # gradient steps apart; null: 100, or 1 below rate 1
    target_update_rate: float = 1.0  # 1 copies the network, less moves the target by that share
    double_q: bool = False  # choose the successor's action with the online network
    dueling: bool = False  # value and advantage heads
    n_step: int = 1  # rewards that a target sums before it bootstraps
    priority_exponent: float = 0.0  # of the TD error by which steps are drawn again; 0: evenly
    importance_exponent: float | Schedule = 0.4  # how far weights make up for that; 1: in full
    loss: Literal["huber", "squared"] = "huber"  # of the TD error
    max_grad_norm: float = 10.0  # clips the norm of the gradient

    def __post_init__(self):
        decide_target_period(self)
        check_ranges(
            self,
            learning_rate=POSITIVE,
            discount=FRACTION,
            batch_size=COUNT,
            replay_capacity=COUNT,
            learning_starts=(0, self.replay_capacity),
            train_every=COUNT,
            updates_per_chunk=COUNT,
            target_update_period=COUNT,
            target_update_rate=SHARE,
            n_step=COUNT,
            priority_exponent=FRACTION,
            importance_exponent=FRACTION,
            max_grad_norm=POSITIVE,
        )


class DQNState(NamedTuple):
    """What changes while DQN runs, besides variables."""

    updates: tf.Tensor  # [] int64, gradient steps


def dqn_loss(network, target_network, batch, config: DQNConfig, weight: Any = 1.0):
    """Returns the loss, the TD error of each row and the mean value of what was done.

    `batch` is Transitions [B], or Sequences [T, B]; `weight` is how much each row counts.
    """
    q, next_q, selector, penalty = evaluate(network, target_network, batch, config.double_q)
    q = losses.select(q, batch.action)
    discount = config.discount * batch.discount
    error = losses.q_learning_targets(batch.reward, discount, next_q, selector) - q
    valid = batch.valid if isinstance(batch, Sequences) else tf.ones_like(error, tf.bool)
    error = tf.where(valid, error, 0.0)
    loss = weight * losses.TD_LOSSES[config.loss](error)
    return losses.masked_mean(loss, valid) + penalty, error, losses.masked_mean(q, valid)


def evaluate(network, target_network, batch, double_q: bool):
    """Returns q, and next_q and selector of the successors, [..., A]; and the layers' penalty."""
    if isinstance(batch, Sequences):
        q, states = networks.unroll(network, batch.obs, batch.state, batch.first, batch.valid)
        penalty = networks.penalty(network)
        _, targets = networks.unroll(target_network, batch.obs, batch.state, batch.first)
        there = batch.next_obs, batch.until
        next_q = networks.successor_scores(target_network, *there, targets)
        selector = networks.successor_scores(network, *there, states) if double_q else next_q
        return q, next_q, selector, penalty
    q = network(batch.obs, training=True)
    penalty = networks.penalty(network)
    next_q = target_network(batch.next_obs, training=False)
    return q, next_q, network(batch.next_obs, training=False) if double_q else next_q, penalty


class DQN:
    """The agent: replay, network, target network and optimiser."""

    Config = DQNConfig
    traits = Traits()

    def __init__(
        self,
        spec: EnvSpec,
        config: DQNConfig,
        strategy: exploration.Exploration,
        torso: keras.Layer,
        seed: int,
    ):
        head = networks.dueling if config.dueling else networks.q_values
        self.spec = spec
        self.config = config
        self.chunk_length = config.train_every
        self.network = networks.build_network(spec, torso, head(spec.num_actions, seed), seed=seed)
        self.actor = ScoreActor(spec, self.network, strategy)
        beside = networks.learning_bytes(self.network, config.batch_size)
        capacity = config.replay_capacity
        length = config.train_every if networks.is_recurrent(torso) else None
        check_sequences(config.batch_size, length or 1)
        state = networks.initial_state(self.network, 1)
        exponent = config.priority_exponent
        self.replay = Replay(spec, capacity, beside, exponent, length, state)
        self.trainer = networks.Trainable(self.network, config.learning_rate, config.max_grad_norm)
        rate, period = config.target_update_rate, config.target_update_period
        self.target = networks.Target(self.network, rate, period or 1)

    def init(self, num_envs: int) -> DQNState:
        """Returns the state before the first update."""
        return DQNState(tf.zeros([], tf.int64))

    def update(self, state: DQNState, chunk: Chunk, step, seed):
        """Stores the chunk, then takes `updates_per_chunk` gradient steps on replay."""
        replay, config = self.replay, self.config
        replay.add(chunk, *chunk.start.recurrent)
        rate = self.trainer.follow(step)
        count = tf.where(replay.steps >= config.learning_starts, config.updates_per_chunk, 0)
        importance = as_schedule(config.importance_exponent)(step)

        def learn(i):
            number, weight = replay.draw(config.batch_size, rng.fold_in(seed, i), importance)
            batch = replay.read(number, config.n_step, config.discount)
            updates = state.updates + tf.cast(i, tf.int64)
            metrics, error = self.gradient_step(batch, updates, weight)
            replay.prioritize(number, error)
            return metrics

        learned = networks.repeat(count, learn, LEARNED)
        state = DQNState(state.updates + tf.cast(count, tf.int64))
        return state, {**rate, **learned, "updates": tf.cast(count, tf.float32)}

    def gradient_step(self, batch: Transitions | Sequences, updates, weight: Any = 1.0):
        """Learns from a batch, for `update` or another agent; returns metrics and TD errors.

        Args:
            batch: steps from any replay; sequences of them if the torso is recurrent.
            updates: [] int64, gradient steps before this one, for the target's period.
            weight: [B], how much each row counts.
        """
        with tf.GradientTape() as tape:
            loss, error, q = dqn_loss(self.network, self.target.network, batch, self.config, weight)
        norm = self.trainer.descend(tape, loss)
        self.target.follow(updates + 1)
        return {"loss/td": loss, "value/q": q, "grad/norm": norm}, error

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return {
            **networks.all_named(
                {"target": self.target.network, "optimizer": self.trainer.optimizer}
            ),
            **networks.under("replay", self.replay.variables()),
        }
