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
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, Traits, check_ranges
from rlzoo.agents.dqn import DQN, LEARNED, DQNConfig, DQNState
from rlzoo.networks.transition_model import TransitionModel
from rlzoo.ops import rng
from rlzoo.ops.schedules import Schedule
from rlzoo.ops.stacks import stacked
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk

MODELLED = ("model/loss", "model/termination_loss")  # what a step of the model tells


@dataclasses.dataclass(frozen=True)
class DeepDynaQConfig:
    """Hyperparameters of Dyna-Q with networks."""

    torso: str = "dense"  # default torso of the Q-network
    exploration: str = "epsilon_greedy"  # default strategy
    learning_rate: float | Schedule = 5e-4  # of the Q-network's Adam
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 64  # transitions per gradient step, real or simulated
    replay_capacity: int = 50_000  # observations kept: one per step, one per episode's end
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


class DeepDynaQ:
    """The agent: a DQN and a model network."""

    Config = DeepDynaQConfig
    traits = Traits(recurrent=False)

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
                "dyna_q cannot use a recurrent torso yet: it learns from single steps, not from "
                "sequences. Use --torso dense or conv, or the agent dqn or reinforce."
            )
        self.spec = spec
        self.config = config
        self.chunk_length = config.train_every
        names = {field.name for field in dataclasses.fields(DQNConfig)}
        shared = {name: value for name, value in vars(config).items() if name in names}
        self.dqn = DQN(spec, DQNConfig(**shared), strategy, torso, seed)
        self.actor = self.dqn.actor
        seen = spec._replace(obs=spec.seen, frames=1)
        self.model = TransitionModel(seen, config.model_sizes, seed)
        rate, limit = config.model_learning_rate, config.max_grad_norm
        self.model_trainer = networks.Trainable(self.model.network, rate, limit)

    def init(self, num_envs: int) -> DQNState:
        """Returns the state before the first update."""
        return self.dqn.init(num_envs)

    def update(self, state: DQNState, chunk: Chunk, step, seed):
        """Stores the chunk; then a real gradient step, model steps, simulated gradient steps."""
        config = self.config
        rate = self.dqn.trainer.follow(step)
        replay = self.dqn.replay
        replay.add(chunk)
        self.model.observe(stacked(self.spec, chunk))
        seeds = rng.split(seed, 3)
        real = tf.where(replay.added >= config.learning_starts, 1, 0)
        planned = tf.where(replay.added >= config.planning_starts, config.planning_steps, 0)

        def learn_model(i):
            return self._model_step(replay.sample(config.batch_size, rng.fold_in(seeds[1], i)))

        def learn(i):
            """Takes the real step, then simulated ones."""
            batch = replay.sample(config.batch_size, rng.fold_in(seeds[0], i))
            simulated = self.model.simulate(batch.obs, rng.fold_in(seeds[2], i))
            batch = tf.nest.map_structure(partial(tf.where, i == 0), batch, simulated)
            return self.dqn.gradient_step(batch, state.updates + tf.cast(i, tf.int64))[0]

        model_updates = config.model_updates if config.planning_steps else 0
        modelled = networks.repeat(real * model_updates, learn_model, MODELLED)
        count = real * (1 + planned)
        learned = networks.repeat(count, learn, LEARNED)
        state = DQNState(state.updates + tf.cast(count, tf.int64))
        return state, {**rate, **learned, **modelled, "updates": tf.cast(count, tf.float32)}

    def _model_step(self, batch: Any) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, surprise = self.model.loss(batch)
        self.model_trainer.descend(tape, loss)
        return {"model/loss": loss, "model/termination_loss": surprise}

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return {
            **self.dqn.variables(),
            **networks.under("model", self.model.variables()),
            **networks.all_named({"model_optimizer": self.model_trainer.optimizer}),
        }
