"""REINFORCE of TF-Agents."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tf_agents.agents.reinforce import reinforce_agent

from rlzoo import exploration
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, check_ranges
from rlzoo.interop.tf_agents.parts import (
    NOT_NEGATIVE,
    TRAITS,
    ScoresActor,
    Trained,
    adam,
    check_limit,
    check_torso,
    clipping,
    copied,
    counter,
    loss_metrics,
    network,
    without_masks,
)
from rlzoo.interop.tf_agents.specs import action_spec, time_step_spec
from rlzoo.interop.tf_agents.trajectories import episodes
from rlzoo.spaces import EnvSpec


@dataclasses.dataclass(frozen=True)
class REINFORCEConfig:
    """Hyperparameters of the REINFORCE of TF-Agents."""

    torso: str = "dense"  # default torso
    exploration: str = "softmax"  # the policy itself; no other fits
    num_envs: int = 8  # default number of environments: episodes in each update's batch
    learning_rate: float = 1e-3  # of Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    baseline: bool = True  # subtract a learned value
    value_cost: float = 0.2  # weight of the baseline's loss
    normalize_returns: bool = True  # to mean 0 and deviation 1 over the batch
    entropy_cost: float = 0.0  # weight of the entropy bonus
    max_grad_norm: float = 10.0  # clips each gradient's norm; 0 does not

    def __post_init__(self):
        check_ranges(
            self,
            num_envs=COUNT,
            learning_rate=POSITIVE,
            discount=FRACTION,
            value_cost=NOT_NEGATIVE,
            entropy_cost=NOT_NEGATIVE,
            max_grad_norm=NOT_NEGATIVE,
        )


class TFAgentsREINFORCE:
    """REINFORCE of TF-Agents, with an optional baseline."""

    Config = REINFORCEConfig
    traits = dataclasses.replace(TRAITS, whole_episodes=True, policy=True)

    def __init__(
        self, spec: EnvSpec, config: REINFORCEConfig, strategy: Any, torso: keras.Layer, seed: int
    ):
        check_torso(torso)
        if strategy != exploration.Softmax():
            raise ValueError(
                "tf_agents.reinforce does not correct for actions drawn by another policy than its "
                f"own, received {strategy}. Leave --exploration out, or use rlzoo's reinforce, "
                "which corrects."
            )
        self.spec, self.config = spec, config
        self.chunk_length = check_limit(spec)
        logits = network(spec, torso, "logits", seed)
        self.actor = ScoresActor(spec, logits, strategy, policy=True)
        value, trained = None, [*logits.trainable_variables]
        if config.baseline:
            value = network(spec, copied(spec, torso), "value", seed + 10)
            trained += value.trainable_variables
        optimizer = adam(config.learning_rate)
        self.tf_agent = reinforce_agent.ReinforceAgent(
            time_step_spec(spec),
            action_spec(spec),
            actor_network=logits,
            value_network=value,
            optimizer=optimizer,
            value_estimation_loss_coef=config.value_cost,
            normalize_returns=config.normalize_returns,
            gamma=config.discount,
            entropy_regularization=config.entropy_cost,
            gradient_clipping=clipping(config.max_grad_norm),
            train_step_counter=counter(),
        )
        self.trained = Trained(self.tf_agent, logits, [(optimizer, trained)])

    def init(self, num_envs: int) -> tuple[()]:
        """Returns the state before the first update: all is in variables."""
        return ()

    def update(self, state: tuple[()], chunk, step, seed):
        """Learns from whole episodes by `TFAgent.train`."""
        if self.config.normalize_returns and chunk.reward.shape[1] == 1:
            raise ValueError(
                "normalize_returns: expected 2 episodes at a time or more, received 1, which less "
                "its own mean teaches nothing. Use --num-envs 2 or more, or --set "
                "normalize_returns=false."
            )
        metrics = loss_metrics(self.tf_agent.train(episodes(without_masks(chunk))))
        return (), {**metrics, "updates": tf.constant(1.0)}

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return self.trained.variables()
