"""REINFORCE of TF-Agents."""

import dataclasses

from tf_agents.agents.reinforce import reinforce_agent

from rlzoo import exploration
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, check_ranges
from rlzoo.interop.tf_agents.agents import (
    NOT_NEGATIVE,
    EpisodeBridge,
    adam,
    clipping,
    counter,
    loss_metrics,
)
from rlzoo.interop.tf_agents.trajectories import episodes


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


class TFAgentsREINFORCE(EpisodeBridge):
    """REINFORCE of TF-Agents, with an optional baseline."""

    Config = REINFORCEConfig

    def _make(self, torso, seed):
        if self.exploration != exploration.Softmax():
            raise ValueError(
                "tf_agents.reinforce does not correct for actions drawn by another policy than its "
                f"own, received {self.exploration}. Leave --exploration out, or use rlzoo's "
                "reinforce, which corrects."
            )
        config = self.config
        actor = self._network(torso, "logits", seed)
        value, trained = None, [*actor.trainable_variables]
        if config.baseline:
            value = self._network(self._copy(torso), "value", seed + 10)
            trained += value.trainable_variables
        optimizer = adam(config.learning_rate)
        agent = reinforce_agent.ReinforceAgent(
            self._time_step_spec,
            self._action_spec,
            actor_network=actor,
            value_network=value,
            optimizer=optimizer,
            value_estimation_loss_coef=config.value_cost,
            normalize_returns=config.normalize_returns,
            gamma=config.discount,
            entropy_regularization=config.entropy_cost,
            gradient_clipping=clipping(config.max_grad_norm),
            train_step_counter=counter(),
        )
        return agent, actor, [(optimizer, trained)]

    def _learn(self, state, chunk, seed):
        if self.config.normalize_returns and chunk.reward.shape[1] == 1:
            raise ValueError(
                "normalize_returns: expected 2 episodes at a time or more, received 1, which less "
                "its own mean teaches nothing. Use --num-envs 2 or more, or --set "
                "normalize_returns=false."
            )
        return 1, loss_metrics(self.tf_agent.train(episodes(chunk)))
