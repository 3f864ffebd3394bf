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
6. With a recurrent torso replay holds sequences of `train_every` steps that do not overlap, drawn
   uniformly; every step of one is learned from, none only warms the memory up.
7. The streams of a dueling head are linear in the torso's features, without a layer of their own;
   the gradient that reaches the torso from them is not scaled by 1 / sqrt(2).
8. Optional: a target that moves by a share at each update (Lillicrap et al. 2016,
   arXiv:1509.02971) instead of copies.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import Schedule
from rlzoo.replay import Replay, SequenceReplay
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
    replay_capacity: int = 50_000  # transitions kept
    learning_starts: int = 500  # transitions in replay before the first gradient step
    train_every: int = 4  # steps per environment between updates; length of a recurrent sequence
    updates_per_chunk: int = 1  # gradient steps each time
    target_update_period: int | None = None  # gradient steps apart; null: 100, or 1 below rate 1
    target_update_rate: float = 1.0  # 1 copies the network, less moves the target by that share
    double_q: bool = False  # choose the successor's action with the online network
    dueling: bool = False  # value and advantage heads
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
            max_grad_norm=POSITIVE,
        )


class DQNState(NamedTuple):
    """What changes while DQN runs, besides variables."""

    step: tf.Tensor  # [] int64, environment steps
    updates: tf.Tensor  # [] int64, gradient steps
    recurrent: tuple  # state of a recurrent torso, () otherwise
    start: tuple  # the same before the chunk's first step
    exploration: Any


def dqn_loss(network, target_network, batch: Transitions, config: DQNConfig):
    """Returns the mean TD loss and the mean Q-value of a batch."""
    q = losses.select(network(batch.obs, training=True), batch.action)  # [B]
    penalty = networks.penalty(network)
    next_q = target_network(batch.next_obs, training=False)  # [B, A]
    selector = network(batch.next_obs, training=False) if config.double_q else next_q  # [B, A]
    discount = config.discount * batch.discount  # [B]
    target = losses.q_learning_targets(batch.reward, discount, next_q, selector)  # [B]
    loss = losses.TD_LOSSES[config.loss](target - q)  # [B]
    return tf.reduce_mean(loss) + penalty, tf.reduce_mean(q)


def recurrent_dqn_loss(network, target_network, batch: Sequences, config: DQNConfig):
    """Returns the same for sequences, along which the networks are unrolled."""
    q, states = networks.unroll(  # [T, B, A]
        network, batch.obs, batch.state, batch.first, learning=batch.valid
    )
    penalty = networks.penalty(network)
    _, target_states = networks.unroll(target_network, batch.obs, batch.state, batch.first)
    next_q = successor_values(target_network, batch, target_states)  # [T, B, A]
    selector = successor_values(network, batch, states) if config.double_q else next_q
    discount = config.discount * batch.discount  # [T, B]
    target = losses.q_learning_targets(batch.reward, discount, next_q, selector)  # [T, B]
    q = losses.select(q, batch.action)  # [T, B]
    loss = losses.TD_LOSSES[config.loss](target - q)  # [T, B]
    loss = losses.masked_mean(loss, batch.valid) + penalty
    return loss, losses.masked_mean(q, batch.valid)


def successor_values(network, batch: Sequences, states: tuple):
    """Returns the Q-values [T, B, A] of each true successor, by the memory of its past."""
    rows = tf.nest.map_structure(  # [T * B, ...]
        lambda x: tf.reshape(x, (-1, *x.shape[2:])), [batch.next_obs, *states]
    )
    scores, *_ = network(rows, training=False)
    return tf.reshape(scores, (*batch.reward.shape, -1))


def check_sequences(config: DQNConfig) -> None:
    """Raises a `ValueError` for hyperparameters that do not suit sequences of `train_every`."""
    length, held = config.train_every, config.replay_capacity
    if config.batch_size < length:
        raise ValueError(
            f"batch_size={config.batch_size} is less than one sequence of train_every={length} "
            "steps, which a recurrent torso learns from: raise batch_size to several times "
            "train_every, or lower train_every."
        )
    if config.learning_starts > held // length * length:
        raise ValueError(
            f"learning_starts={config.learning_starts} is more than the {held // length * length} "
            f"steps that replay_capacity={held} holds in whole sequences of train_every={length}: "
            "lower learning_starts, or raise replay_capacity."
        )


class DQN:
    """The agent: replay, network, target network and optimiser.

    Args:
        spec: of the environment.
        config: hyperparameters.
        strategy: how to explore.
        torso: any Keras layer from observations to features, or RNN cell.
        seed: of the initial weights.
    """

    Config = DQNConfig
    acts_by_scores = True
    whole_episodes = False

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
        self.exploration = strategy
        self.extras = exploration.extras(spec.num_actions)
        self.chunk_length = config.train_every
        self.network = networks.build_network(spec, torso, head(spec.num_actions, seed), seed=seed)
        beside = networks.learning_bytes(self.network, config.batch_size)
        capacity = config.replay_capacity
        self.loss: Callable[..., tuple]
        if networks.is_recurrent(torso):
            check_sequences(config)
            state = networks.initial_state(self.network, 1)
            self.loss = recurrent_dqn_loss
            self.replay = SequenceReplay(spec, capacity, config.train_every, state, beside)
        else:
            self.loss = dqn_loss
            self.replay = Replay(spec, capacity, beside)
        self.target_network = networks.copy_network(self.network)
        self.optimizer = networks.adam(self.network, config.learning_rate)

    def init(self, num_envs: int) -> DQNState:
        """Returns the state before the first step."""
        zero = tf.zeros([], tf.int64)
        recurrent = networks.initial_state(self.network, num_envs)
        explored = self.exploration.init(num_envs, self.spec.num_actions)
        return DQNState(zero, zero, recurrent, recurrent, explored)

    def act(self, state: DQNState, obs, first, seed, explore: bool):
        """Chooses actions [N] by the exploration strategy on the Q-values, or greedily."""
        strategy = self.exploration if explore else exploration.Greedy()
        q, recurrent = networks.apply(self.network, obs, state.recurrent, first)  # [N, A]
        action, extras = exploration.choose(strategy, q, state.exploration, state.step, seed)
        return action, extras, state._replace(recurrent=recurrent)

    def update(self, state: DQNState, chunk: Chunk, seed):
        """Stores the chunk, then takes `updates_per_chunk` gradient steps on replay."""
        shown = exploration.chunk_metrics(self.exploration, chunk, state.exploration, state.step)
        self.replay.add(chunk, *state.start)
        shown |= networks.follow_rate(self.optimizer, self.config.learning_rate, state.step)
        ready = self.replay.size >= self.config.learning_starts
        count = tf.where(ready, self.config.updates_per_chunk, 0)

        def step(i):
            batch = self.replay.sample(self.config.batch_size, rng.fold_in(seed, i))
            return self.gradient_step(batch, state.updates + tf.cast(i, tf.int64))

        learned = networks.repeat(count, step, LEARNED)
        state = state._replace(
            step=state.step + tf.math.count_nonzero(chunk.valid),
            updates=state.updates + tf.cast(count, tf.int64),
            start=state.recurrent,
            exploration=self.exploration.update(state.exploration, chunk),
        )
        return state, {**shown, **learned, "updates": tf.cast(count, tf.float32)}

    def gradient_step(self, batch: Transitions | Sequences, updates) -> dict[str, tf.Tensor]:
        """Learns from a batch, for `update` or a replay of another's; returns metrics.

        Args:
            batch: steps from any replay; sequences of them if the torso is recurrent.
            updates: [] int64, gradient steps before this one, for the target's period.
        """
        with tf.GradientTape() as tape:
            loss, q = self.loss(self.network, self.target_network, batch, self.config)
        norm = networks.descend(self.optimizer, tape, loss, self.network, self.config.max_grad_norm)
        due = (updates + 1) % self.config.target_update_period == 0  # pyright: ignore[reportOptionalOperand]
        networks.update_target(
            self.target_network, self.network, self.config.target_update_rate, due
        )
        return {"loss/td": loss, "value/q": q, "grad/norm": norm}

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint holds, by name."""
        return {
            **networks.named_variables("network", self.network),
            **networks.named_variables("target", self.target_network),
            **networks.named_variables("optimizer", self.optimizer),
            **{f"replay/{name}": value for name, value in self.replay.variables().items()},
        }
