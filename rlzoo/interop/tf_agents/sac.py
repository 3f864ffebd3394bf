"""SAC of TF-Agents, its noise drawn from the run's seed."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tf_agents.agents.sac import sac_agent
from tf_agents.utils import common

from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.parts import (
    NOT_NEGATIVE,
    TRAITS,
    Noise,
    NoisyActor,
    Trained,
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
from rlzoo.spaces import EnvSpec

_TAGS = ("loss/total", "loss/critic", "loss/actor", "loss/alpha")


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


class TFAgentsSAC:
    """SAC of TF-Agents, for continuous actions: two critics, a learned entropy weight."""

    Config = SACConfig
    traits = dataclasses.replace(TRAITS, actions=("Box",))

    def __init__(
        self, spec: EnvSpec, config: SACConfig, strategy: None, torso: keras.Layer, seed: int
    ):
        check_torso(torso)
        self.spec, self.config = spec, config
        self.chunk_length = config.train_every
        self.replay = replay_of(spec, config.replay_capacity)
        self.noise = Noise()
        policy = network(spec, torso, "squashed_normal", seed)
        critics = [network(spec, copied(spec, torso), "critic", seed + 10 * i) for i in (1, 2)]
        self.actor = NoisyActor(
            policy,
            action_spec(spec),
            greedy=lambda output: output.mode(),
            explore=lambda output, seed: output.sample(seed=seed),
            learning_starts=config.learning_starts,
        )
        rates = (config.learning_rate, config.critic_learning_rate, config.alpha_learning_rate)
        # Of the newer kind it would train copies, out of our reach.
        optimizers = [tf.keras.optimizers.legacy.Adam(rate) for rate in rates]
        self.tf_agent = _SACAgent(
            time_step_spec(spec),
            action_spec(spec),
            actor_network=policy,
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
            noise=self.noise,
        )
        trained = [
            policy.trainable_variables,
            [v for critic in critics for v in critic.trainable_variables],
            [self.tf_agent._log_alpha],
        ]
        self.trained = Trained(self.tf_agent, policy, zip(optimizers, trained, strict=True))

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
