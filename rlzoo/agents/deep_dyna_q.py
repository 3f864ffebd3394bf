"""Dyna-Q with networks: learning, model learning and planning on Box observations.

The Dyna architecture of Sutton 1990 (https://doi.org/10.1016/B978-1-55860-141-3.50030-4) with the
table replaced by a Q-network trained as in DQN (https://doi.org/10.1038/nature14236), and the
remembered transitions by a network that predicts next observation, reward and termination.

Deviations from tabular Dyna-Q:
1. A backup is a gradient step on a batch; it bootstraps from a target network.
2. Planning starts from observations in replay and tries uniformly random actions, also ones
   never taken there: the model generalises, a table cannot.
3. The model predicts the change of the observation, normalised by running moments, and the
   probability of termination, which scales the discount of a simulated step.
4. A time limit is no terminal state.
5. It learns and plans every `train_every` steps, not after each, and by double Q-learning; an
   observation is planned from as often as it was seen.
"""

import dataclasses
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, check_ranges
from rlzoo.networks.transition_model import TransitionModel
from rlzoo.ops import losses, rng
from rlzoo.replay import Replay
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk, Transitions


@dataclasses.dataclass(frozen=True)
class DeepDynaQConfig:
    """Hyperparameters of Dyna-Q with networks."""

    torso: str = "dense"  # default torso of the Q-network
    exploration: str = "epsilon_greedy"  # default strategy
    learning_rate: float = 5e-4  # of the Q-network's Adam
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 64  # transitions per gradient step, real or simulated
    replay_capacity: int = 50_000  # transitions kept
    learning_starts: int = 500  # transitions in replay before the first gradient step
    train_every: int = 4  # steps per environment between updates
    planning_steps: int = 8  # simulated gradient steps after each real one; 0 is Q-learning
    planning_starts: int = 1_000  # transitions in replay before planning
    target_update_period: int = 100  # gradient steps, real or simulated, between target copies
    double_q: bool = True  # choose the successor's action with the online network
    model_sizes: tuple[int, ...] = (128, 128)  # hidden units of the model
    model_learning_rate: float = 1e-3  # of the model's Adam
    model_updates: int = 4  # gradient steps of the model per update
    max_grad_norm: float = 10.0  # clips the norm of each gradient

    def __post_init__(self):
        check_ranges(
            self,
            learning_rate=POSITIVE,
            discount=FRACTION,
            batch_size=COUNT,
            replay_capacity=COUNT,
            learning_starts=(0, self.replay_capacity),
            train_every=COUNT,
            planning_steps=(0, COUNT[1]),
            planning_starts=(0, self.replay_capacity),
            target_update_period=COUNT,
            model_learning_rate=POSITIVE,
            model_updates=COUNT,
            max_grad_norm=POSITIVE,
        )


class DeepDynaQState(NamedTuple):
    """What changes while Dyna-Q runs, besides variables."""

    step: tf.Tensor  # [] int64, environment steps
    updates: tf.Tensor  # [] int64, gradient steps of the Q-network
    exploration: Any


def q_loss(network, target_network, batch: Transitions, config: DeepDynaQConfig):
    """Returns the mean TD loss and the mean Q-value of a real or simulated batch."""
    q = losses.select(network(batch.obs, training=True), batch.action)  # [B]
    penalty = networks.penalty(network)
    next_q = target_network(batch.next_obs, training=False)  # [B, A]
    selector = network(batch.next_obs, training=False) if config.double_q else next_q  # [B, A]
    discount = config.discount * batch.discount  # [B]
    target = losses.q_learning_targets(batch.reward, discount, next_q, selector)  # [B]
    return tf.reduce_mean(losses.huber(target - q)) + penalty, tf.reduce_mean(q)


class DeepDynaQ:
    """The agent: Q-network, target network, model network and replay.

    Args:
        spec: of the environment, with Box observations.
        config: hyperparameters.
        strategy: how to explore.
        torso: any Keras layer from observations to features, not a recurrent one.
        seed: of the initial weights.
    """

    Config = DeepDynaQConfig
    acts_by_scores = True
    whole_episodes = False

    def __init__(
        self,
        spec: EnvSpec,
        config: DeepDynaQConfig,
        strategy: exploration.Exploration,
        torso: keras.Layer,
        seed: int,
    ):
        if networks.is_recurrent(torso):
            raise ValueError(
                "dyna_q cannot use a recurrent torso yet: its replay holds single steps, not "
                "sequences. Use --torso dense or conv, or the agent dqn or reinforce."
            )
        self.spec = spec
        self.config = config
        self.exploration = strategy
        self.extras = exploration.extras(spec.num_actions)
        self.chunk_length = config.train_every
        head = networks.q_values(spec.num_actions, seed)
        self.network = networks.build_network(spec, torso, head, seed=seed)
        beside = networks.learning_bytes(self.network, config.batch_size)
        self.replay = Replay(spec, config.replay_capacity, beside)
        self.target_network = networks.copy_network(self.network)
        self.optimizer = networks.adam(self.network, config.learning_rate)

        self.model = TransitionModel(spec, config.model_sizes, seed)
        self.model_optimizer = networks.adam(self.model.network, config.model_learning_rate)

    def init(self, num_envs: int) -> DeepDynaQState:
        """Returns the state before the first step."""
        zero = tf.zeros([], tf.int64)
        return DeepDynaQState(zero, zero, self.exploration.init(num_envs, self.spec.num_actions))

    def act(self, state: DeepDynaQState, obs, first, seed, explore: bool):
        """Chooses actions [N] by the exploration strategy on the Q-values, or greedily."""
        strategy = self.exploration if explore else exploration.Greedy()
        q = self.network(obs, training=False)  # [N, A]
        action, extras = exploration.choose(strategy, q, state.exploration, state.step, seed)
        return action, extras, state

    def update(self, state: DeepDynaQState, chunk: Chunk, seed):
        """Stores the chunk; then a real gradient step, model steps, simulated gradient steps."""
        config = self.config
        shown = exploration.chunk_metrics(self.exploration, chunk, state.exploration, state.step)
        self.replay.add(chunk)
        self.model.observe(chunk)
        seeds = rng.split(seed, 3)
        real = tf.where(self.replay.size >= config.learning_starts, 1, 0)
        planned = tf.where(self.replay.size >= config.planning_starts, config.planning_steps, 0)

        def learn(i, updates, sums):
            batch = self.replay.sample(config.batch_size, rng.fold_in(seeds[0], i))
            return i + 1, updates + 1, _add(sums, self._gradient_step(batch, updates))

        def learn_model(i, sums):
            batch = self.replay.sample(config.batch_size, rng.fold_in(seeds[1], i))
            return i + 1, _add(sums, self._model_step(batch))

        def plan(i, updates, sums):
            batch = self.replay.sample(config.batch_size, rng.fold_in(seeds[0], i))
            batch = self.model.simulate(batch.obs, rng.fold_in(seeds[2], i))
            return i + 1, updates + 1, _add(sums, self._gradient_step(batch, updates))

        zero = tf.constant(0)
        sums = {tag: tf.constant(0.0) for tag in ("loss/td", "value/q", "grad/norm")}
        model_sums = {tag: tf.constant(0.0) for tag in ("model/loss", "model/termination_loss")}
        _, updates, sums = tf.while_loop(lambda i, *_: i < real, learn, (zero, state.updates, sums))
        if config.planning_steps:
            model_updates = real * config.model_updates
            _, model_sums = tf.while_loop(
                lambda i, *_: i < model_updates, learn_model, (zero, model_sums)
            )
            _, updates, sums = tf.while_loop(
                lambda i, *_: i < 1 + planned * real, plan, (zero + 1, updates, sums)
            )
            model_sums = _divide(model_sums, tf.cast(model_updates, tf.float32))
        count = tf.cast(updates - state.updates, tf.float32)
        state = DeepDynaQState(
            state.step + tf.math.count_nonzero(chunk.valid),
            updates,
            self.exploration.update(state.exploration, chunk),
        )
        return state, {**shown, **_divide(sums, count), **model_sums, "updates": count}

    def _gradient_step(self, batch: Transitions, updates) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, q = q_loss(self.network, self.target_network, batch, self.config)
        norm = networks.descend(self.optimizer, tape, loss, self.network, self.config.max_grad_norm)
        due = (updates + 1) % self.config.target_update_period == 0
        networks.update_target(self.target_network, self.network, 1.0, due)
        return {"loss/td": loss, "value/q": q, "grad/norm": norm}

    def _model_step(self, batch: Transitions) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, surprise = self.model.loss(batch)
        limit = self.config.max_grad_norm
        networks.descend(self.model_optimizer, tape, loss, self.model.network, limit)
        return {"model/loss": loss, "model/termination_loss": surprise}

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint holds, by name."""
        return {
            **networks.named_variables("network", self.network),
            **networks.named_variables("target", self.target_network),
            **networks.named_variables("optimizer", self.optimizer),
            **networks.named_variables("model_optimizer", self.model_optimizer),
            **{f"model/{name}": value for name, value in self.model.variables().items()},
            **{f"replay/{name}": value for name, value in self.replay.variables().items()},
        }


def _add(sums: dict, values: dict) -> dict:
    return {tag: sums[tag] + values[tag] for tag in sums}


def _divide(sums: dict, count: tf.Tensor) -> dict:
    return {tag: tf.math.divide_no_nan(total, count) for tag, total in sums.items()}
