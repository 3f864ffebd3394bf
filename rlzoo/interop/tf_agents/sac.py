"""SAC of TF-Agents, its noise drawn from the run's seed."""

import dataclasses
from typing import Any

import tensorflow as tf
from tf_agents.agents.sac import sac_agent
from tf_agents.utils import common

from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.agents import (
    NOT_NEGATIVE,
    ContinuousBridge,
    Noise,
    clipping,
    counter,
)


class _SACAgent(sac_agent.SacAgent):
    """SAC whose samples have seeds; TF-Agents' own draws have none."""

    def __init__(self, *args: Any, noise: Noise, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._noise = noise

    def _actions_and_log_probs(self, time_steps, training=False):
        policy = self._train_policy if training else self._policy
        distribution = policy.distribution(time_steps, ()).action
        action = distribution.sample(seed=self._noise.source())
        return action, common.log_probability(distribution, action, self.action_spec)


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """Hyperparameters of the SAC of TF-Agents."""

    torso: str = "dense"  # default torso
    learning_rate: float = 3e-4  # of the actor's Adam, > 0
    critic_learning_rate: float = 3e-4  # of the critics' Adam, > 0
    alpha_learning_rate: float = 3e-4  # of the entropy's weight, > 0
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 256  # steps per gradient step
    replay_capacity: int = 100_000  # steps kept
    learning_starts: int = 1_000  # steps taken at random before the first gradient step
    train_every: int = 1  # steps per environment between updates
    updates_per_chunk: int = 1  # gradient steps each time
    target_update_period: int | None = None  # gradient steps apart; null: 1, or 100 at rate 1
    target_update_rate: float = 0.005  # share by which the targets move
    reward_scale: float = 1.0  # factor on rewards, > 0
    max_grad_norm: float = 0.0  # clips each gradient's norm; 0 does not

    def __post_init__(self):
        decide_target_period(self)
        check_ranges(
            self,
            learning_rate=POSITIVE,
            critic_learning_rate=POSITIVE,
            alpha_learning_rate=POSITIVE,
            discount=FRACTION,
            batch_size=COUNT,
            replay_capacity=COUNT,
            learning_starts=(1, self.replay_capacity),
            train_every=COUNT,
            updates_per_chunk=COUNT,
            target_update_period=COUNT,
            target_update_rate=SHARE,
            reward_scale=POSITIVE,
            max_grad_norm=NOT_NEGATIVE,
        )


class TFAgentsSAC(ContinuousBridge):
    """SAC of TF-Agents, for continuous actions: two critics, a learned entropy weight."""

    Config = SACConfig
    _tags = ("loss/total", "loss/critic", "loss/actor", "loss/alpha")

    def _make(self, torso, seed):
        config, self._noise = self.config, Noise()
        actor = self._network(torso, "squashed_normal", seed)
        critics = [self._network(self._copy(torso), "critic", seed + 10 * i) for i in (1, 2)]
        rates = (config.learning_rate, config.critic_learning_rate, config.alpha_learning_rate)
        # Of the newer kind it would train copies, out of our reach.
        optimizers = [tf.keras.optimizers.legacy.Adam(rate) for rate in rates]
        agent = _SACAgent(
            self._time_step_spec,
            self._action_spec,
            actor_network=actor,
            critic_network=critics[0],
            critic_network_2=critics[1],
            actor_optimizer=optimizers[0],
            critic_optimizer=optimizers[1],
            alpha_optimizer=optimizers[2],
            target_update_tau=config.target_update_rate,
            target_update_period=config.target_update_period,
            gamma=config.discount,
            reward_scale_factor=config.reward_scale,
            gradient_clipping=clipping(config.max_grad_norm),
            train_step_counter=counter(),
            noise=self._noise,
        )
        trained = [
            actor.trainable_variables,
            [v for critic in critics for v in critic.trainable_variables],
            [agent._log_alpha],
        ]
        return agent, actor, list(zip(optimizers, trained, strict=True))

    def _greedy(self, output):
        return output.mode()

    def _explore(self, output, seed):
        return output.sample(seed=seed)
