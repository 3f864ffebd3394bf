"""PPO of TF-Agents."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent

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


class TFAgentsPPO:
    """PPO of TF-Agents (clipped), on whole episodes."""

    Config = PPOConfig
    traits = dataclasses.replace(TRAITS, whole_episodes=True, policy=True)

    def __init__(
        self, spec: EnvSpec, config: PPOConfig, strategy: Any, torso: keras.Layer, seed: int
    ):
        check_torso(torso)
        if not exploration.has_distribution(strategy) or strategy.init(1, spec) != ():
            raise ValueError(
                "tf_agents.ppo learns from the distribution that was drawn from, which must be one "
                f"of the scores alone, received {strategy}. Leave --exploration out."
            )
        self.spec, self.config = spec, config
        self.chunk_length = check_limit(spec)
        logits = network(spec, torso, "logits", seed)
        value = network(spec, copied(spec, torso), "value", seed + 10)
        self.actor = ScoresActor(spec, logits, strategy, policy=True)
        optimizer = adam(config.learning_rate)
        self.tf_agent = ppo_clip_agent.PPOClipAgent(
            time_step_spec(spec),
            action_spec(spec),
            actor_net=logits,
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
        trained = [*logits.trainable_variables, *value.trainable_variables]
        self.trained = Trained(self.tf_agent, logits, [(optimizer, trained)])

    def init(self, num_envs: int) -> tuple[()]:
        """Returns the state before the first update: all is in variables."""
        return ()

    def update(self, state: tuple[()], chunk, step, seed):
        """Learns from whole episodes, and the distribution acted by, by `TFAgent.train`."""
        log_probs = self.actor.exploration.log_probs(chunk.extras["scores"], (), step)
        told = {"dist_params": {"logits": log_probs}}
        metrics = loss_metrics(self.tf_agent.train(episodes(without_masks(chunk), told)))
        return (), {**metrics, "updates": tf.constant(float(self.config.num_epochs))}

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return self.trained.variables()
