"""PPO of TF-Agents."""

import dataclasses

from tf_agents.agents.ppo import ppo_clip_agent

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
class PPOConfig:
    """Hyperparameters of the PPO of TF-Agents."""

    torso: str = "dense"  # default torso
    exploration: str = "softmax"  # at temperature 1 the policy itself
    num_envs: int = 8  # default number of environments: episodes in each update's batch
    learning_rate: float = 1e-3  # of Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    gae_lambda: float = 0.95  # of the generalised advantages, 0..1
    clip_ratio: float = 0.2  # clips the ratio of the policies to 1 plus or minus this
    num_epochs: int = 10  # gradient steps per update, each on all that was collected
    value_cost: float = 0.5  # weight of the value's loss
    entropy_cost: float = 0.0  # weight of the entropy bonus
    normalize_rewards: bool = False  # by their running deviation
    max_grad_norm: float = 0.5  # clips the norm of the gradient; 0 does not

    def __post_init__(self):
        check_ranges(
            self,
            num_envs=COUNT,
            learning_rate=POSITIVE,
            discount=FRACTION,
            gae_lambda=FRACTION,
            clip_ratio=POSITIVE,
            num_epochs=COUNT,
            value_cost=NOT_NEGATIVE,
            entropy_cost=NOT_NEGATIVE,
            max_grad_norm=NOT_NEGATIVE,
        )


class TFAgentsPPO(EpisodeBridge):
    """PPO of TF-Agents (clipped), on whole episodes."""

    Config = PPOConfig

    def _make(self, torso, seed):
        config = self.config
        actor = self._network(torso, "logits", seed)
        value = self._network(self._copy(torso), "value", seed + 10)
        optimizer = adam(config.learning_rate)
        agent = ppo_clip_agent.PPOClipAgent(
            self._time_step_spec,
            self._action_spec,
            actor_net=actor,
            value_net=value,
            optimizer=optimizer,
            importance_ratio_clipping=config.clip_ratio,
            lambda_value=config.gae_lambda,
            discount_factor=config.discount,
            entropy_regularization=config.entropy_cost,
            value_pred_loss_coef=config.value_cost,
            num_epochs=config.num_epochs,
            use_gae=True,
            use_td_lambda_return=True,
            normalize_rewards=config.normalize_rewards,
            normalize_observations=False,
            gradient_clipping=clipping(config.max_grad_norm),
            aggregate_losses_across_replicas=False,
            train_step_counter=counter(),
        )
        trained = [*actor.trainable_variables, *value.trainable_variables]
        return agent, actor, [(optimizer, trained)]

    def _learn(self, state, chunk, seed):
        # The distribution that it acted by.
        scores = chunk.extras["scores"]
        log_probs = self.exploration.log_probs(scores, state.exploration, state.step)
        experience = episodes(chunk, {"dist_params": {"logits": log_probs}})
        metrics = loss_metrics(self.tf_agent.train(experience))
        return self.config.num_epochs, metrics
