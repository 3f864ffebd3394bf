"""TD3 of TF-Agents, its noise drawn from the run's seed."""

import dataclasses

import tensorflow as tf
from tf_agents.agents.td3 import td3_agent

from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.agents import (
    NOT_NEGATIVE,
    ContinuousBridge,
    Noise,
    adam,
    clipping,
    counter,
    seeds,
)
from rlzoo.interop.tf_agents.networks import TorsoNetwork
from rlzoo.ops import rng


class _SmoothedTarget(TorsoNetwork):
    """TD3's target actor with its clipped noise, drawn with seeds."""

    noise: Noise
    scale: tuple[float, float]

    def call(self, inputs, step_type=None, network_state=(), training=False):
        action, state = super().call(inputs, step_type, network_state, training)
        deviation, limit = self.scale
        draws = tf.random.stateless_normal(tf.shape(action), self.noise.source())
        return action + tf.clip_by_value(deviation * draws, -limit, limit), state


@dataclasses.dataclass(frozen=True)
class TD3Config:
    """Hyperparameters of the TD3 of TF-Agents."""

    torso: str = "dense"  # default torso
    learning_rate: float = 1e-3  # of the actor's Adam, > 0
    critic_learning_rate: float = 1e-3  # of the critics' Adam, > 0
    discount: float = 0.99  # gamma, 0..1
    batch_size: int = 256  # steps per gradient step
    replay_capacity: int = 100_000  # steps kept
    learning_starts: int = 1_000  # steps taken at random before the first gradient step
    train_every: int = 1  # steps per environment between updates
    updates_per_chunk: int = 1  # gradient steps each time
    actor_update_period: int = 2  # gradient steps of the critics per one of the actor
    target_update_period: int | None = None  # gradient steps apart; null: 2, or 100 at rate 1
    target_update_rate: float = 0.005  # share by which the targets move
    exploration_noise: float = 0.1  # standard deviation, in units of the action
    target_noise: float = 0.2  # standard deviation of the target actor's noise
    target_noise_limit: float = 0.5  # clips it
    max_grad_norm: float = 0.0  # clips each gradient's norm; 0 does not

    def __post_init__(self):
        decide_target_period(self, moved=2)
        check_ranges(
            self,
            learning_rate=POSITIVE,
            critic_learning_rate=POSITIVE,
            discount=FRACTION,
            batch_size=COUNT,
            replay_capacity=COUNT,
            learning_starts=(1, self.replay_capacity),
            train_every=COUNT,
            updates_per_chunk=COUNT,
            actor_update_period=COUNT,
            target_update_period=COUNT,
            target_update_rate=SHARE,
            exploration_noise=NOT_NEGATIVE,
            target_noise=NOT_NEGATIVE,
            target_noise_limit=NOT_NEGATIVE,
            max_grad_norm=NOT_NEGATIVE,
        )


class TFAgentsTD3(ContinuousBridge):
    """TD3 of TF-Agents, for continuous actions."""

    Config = TD3Config
    _tags = ("loss/total", "loss/critic", "loss/actor")

    def _make(self, torso, seed):
        config, self._noise = self.config, Noise()
        actor = self._network(torso, "action", seed)
        target = _SmoothedTarget(self.spec, self._copy(torso), "action", seed, "target")
        target.noise, target.scale = self._noise, (config.target_noise, config.target_noise_limit)
        self._noise.source = seeds(rng.from_int(0))  # to build it
        target.create_variables()
        critics = [self._network(self._copy(torso), "critic", seed + 10 * i) for i in (1, 2)]
        rates = (config.learning_rate, config.critic_learning_rate)
        optimizers = [adam(rate) for rate in rates]
        agent = td3_agent.Td3Agent(
            self._time_step_spec,
            self._action_spec,
            actor_network=actor,
            critic_network=critics[0],
            critic_network_2=critics[1],
            target_actor_network=target,
            actor_optimizer=optimizers[0],
            critic_optimizer=optimizers[1],
            target_update_tau=config.target_update_rate,
            target_update_period=config.target_update_period,
            actor_update_period=config.actor_update_period,
            target_policy_noise=0.0,  # our target actor has it
            gamma=config.discount,
            gradient_clipping=clipping(config.max_grad_norm),
            train_step_counter=counter(),
        )
        trained = [
            actor.trainable_variables,
            [v for critic in critics for v in critic.trainable_variables],
        ]
        return agent, actor, list(zip(optimizers, trained, strict=True))

    def _greedy(self, output):
        return output

    def _explore(self, output, seed):
        draws = tf.random.stateless_normal(tf.shape(output), seed)
        return output + self.config.exploration_noise * draws
