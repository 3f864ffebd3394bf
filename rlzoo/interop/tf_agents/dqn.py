"""DQN of TF-Agents."""

import dataclasses
from typing import Any, Literal

import keras
from tf_agents.agents.dqn import dqn_agent
from tf_agents.utils import common

from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.parts import (
    NOT_NEGATIVE,
    TRAITS,
    ScoresActor,
    Trained,
    adam,
    check_torso,
    clipping,
    counter,
    learn_from,
    network,
    replay_of,
    trained_on,
)
from rlzoo.interop.tf_agents.specs import action_spec, time_step_spec
from rlzoo.networks import under
from rlzoo.spaces import EnvSpec

_TD_LOSSES = {
    "huber": common.element_wise_huber_loss,
    "squared": common.element_wise_squared_loss,
}


@dataclasses.dataclass(frozen=True)
class DQNConfig:
    """Hyperparameters of the DQN of TF-Agents."""

    torso: str = "dense"  # default torso
    exploration: str = "epsilon_greedy"  # default strategy
    learning_rate: float = 1e-3  # of Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 64  # steps per gradient step
    replay_capacity: int = 100_000  # steps kept
    learning_starts: int = 500  # steps in replay before the first gradient step
    train_every: int = 4  # steps per environment between updates
    updates_per_chunk: int = 1  # gradient steps each time
    target_update_period: int | None = None  # gradient steps apart; null: 100, or 1 below rate 1
    target_update_rate: float = 1.0  # 1 copies the network, less moves the target by that share
    double_q: bool = False  # their DdqnAgent
    loss: Literal["huber", "squared"] = "huber"  # of the TD error
    max_grad_norm: float = 10.0  # clips each gradient's norm; 0 does not

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
            max_grad_norm=NOT_NEGATIVE,
        )


class TFAgentsDQN:
    """DQN of TF-Agents (`DqnAgent`, `DdqnAgent`); explores by our strategies."""

    Config = DQNConfig
    traits = TRAITS

    def __init__(
        self, spec: EnvSpec, config: DQNConfig, strategy: Any, torso: keras.Layer, seed: int
    ):
        check_torso(torso)
        self.spec, self.config = spec, config
        self.chunk_length = config.train_every
        self.replay = replay_of(spec, config.replay_capacity)
        q = network(spec, torso, "q", seed)
        self.actor = ScoresActor(spec, q, strategy)
        optimizer = adam(config.learning_rate)
        make = dqn_agent.DdqnAgent if config.double_q else dqn_agent.DqnAgent
        self.tf_agent = make(
            time_step_spec(spec),
            action_spec(spec),
            q_network=q,
            optimizer=optimizer,
            gamma=config.discount,
            td_errors_loss_fn=_TD_LOSSES[config.loss],
            target_update_tau=config.target_update_rate,
            target_update_period=config.target_update_period,
            gradient_clipping=clipping(config.max_grad_norm),
            train_step_counter=counter(),
        )
        self.trained = Trained(self.tf_agent, q, [(optimizer, q.trainable_variables)])

    def init(self, num_envs: int) -> tuple[()]:
        """Returns the state before the first update: all is in variables."""
        return ()

    def update(self, state: tuple[()], chunk, step, seed):
        """Learns from steps in replay by `TFAgent.train`."""

        def train(batch, seed):
            return trained_on(self.tf_agent, batch)

        return (), learn_from(self.replay, self.config, chunk, seed, ("loss/total",), train)

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return {**self.trained.variables(), **under("replay", self.replay.variables())}
