"""TD3 of TF-Agents, its noise drawn from the run's seed."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tf_agents.agents.td3 import td3_agent

from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.networks import TorsoNetwork
from rlzoo.interop.tf_agents.parts import (
    NOT_NEGATIVE,
    TRAITS,
    Noise,
    NoisyActor,
    Trained,
    adam,
    check_torso,
    clipping,
    copied,
    counter,
    learn_from,
    network,
    replay_of,
    seeds,
    trained_on,
)
from rlzoo.interop.tf_agents.specs import action_spec, time_step_spec
from rlzoo.networks import under
from rlzoo.ops import rng
from rlzoo.spaces import EnvSpec

_TAGS = ("loss/total", "loss/critic", "loss/actor")


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


class TFAgentsTD3:
    """TD3 of TF-Agents, for continuous actions."""

    Config = TD3Config
    traits = dataclasses.replace(TRAITS, actions=("Box",))

    def __init__(
        self, spec: EnvSpec, config: TD3Config, strategy: None, torso: keras.Layer, seed: int
    ):
        check_torso(torso)
        self.spec, self.config = spec, config
        self.chunk_length = config.train_every
        self.replay = replay_of(spec, config.replay_capacity)
        self.noise = Noise()
        policy = network(spec, torso, "action", seed)
        target = _SmoothedTarget(spec, copied(spec, torso), "action", seed, "target")
        target.noise, target.scale = self.noise, (config.target_noise, config.target_noise_limit)
        self.noise.source = seeds(rng.from_int(0))  # to build it
        target.create_variables()
        critics = [network(spec, copied(spec, torso), "critic", seed + 10 * i) for i in (1, 2)]
        self.actor = NoisyActor(
            policy,
            action_spec(spec),
            greedy=lambda output: output,
            explore=self._explore,
            learning_starts=config.learning_starts,
        )
        rates = (config.learning_rate, config.critic_learning_rate)
        optimizers = [adam(rate) for rate in rates]
        self.tf_agent = td3_agent.Td3Agent(
            time_step_spec(spec),
            action_spec(spec),
            actor_network=policy,
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
            policy.trainable_variables,
            [v for critic in critics for v in critic.trainable_variables],
        ]
        self.trained = Trained(self.tf_agent, policy, zip(optimizers, trained, strict=True))

    def _explore(self, output, seed):
        draws = tf.random.stateless_normal(tf.shape(output), seed)
        return output + self.config.exploration_noise * draws

    def init(self, num_envs: int) -> tuple[()]:
        """Returns the state before the first update: all is in variables."""
        return ()

    def update(self, state: tuple[()], chunk, step, seed):
        """Learns from steps in replay by `TFAgent.train`, its noise drawn from the seed."""

        def train(batch, seed):
            self.noise.source = seeds(seed)
            return trained_on(self.tf_agent, batch)

        return (), learn_from(self.replay, self.config, chunk, seed, _TAGS, train)

    def variables(self) -> dict[str, Any]:
        """Returns every variable of the learner, by name."""
        return {**self.trained.variables(), **under("replay", self.replay.variables())}
