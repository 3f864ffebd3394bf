"""Agents of TF-Agents in our trainer: each adapted to our `Agent` protocol.

Their networks have a Keras 3 torso of ours as their body, their losses and optimisers are theirs.
What they leave to drivers and replay buffers is ours: acting (their policies draw from random
numbers that no checkpoint can hold), replay, and the chunks they learn from.

Deviations from their examples:
1. DQN explores by our strategies on its Q-values.
2. A step in replay is a pair of frames with the true successor, so none is lost at an episode's
   end and no boundary is sampled.
3. REINFORCE and PPO learn from one whole episode per environment each time; their PPO takes a
   time limit for a termination, and so does their REINFORCE.
4. SAC and TD3 draw the noise in their losses from the run's seed, so a resumed run is exact.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import tensorflow as tf
from tf_agents.agents.dqn import dqn_agent
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.agents.reinforce import reinforce_agent
from tf_agents.agents.sac import sac_agent
from tf_agents.agents.td3 import td3_agent
from tf_agents.utils import common

from rlzoo import agents, exploration, networks
from rlzoo.agents.base import COUNT, FRACTION, POSITIVE, SHARE, check_ranges, decide_target_period
from rlzoo.interop.tf_agents.networks import Head, TorsoNetwork
from rlzoo.interop.tf_agents.specs import action_spec, time_step_spec
from rlzoo.interop.tf_agents.trajectories import episodes, pairs
from rlzoo.ops import rng
from rlzoo.replay import Replay
from rlzoo.spaces import EnvSpec, leaf_of, unmasked
from rlzoo.tables import BRIDGED
from rlzoo.types import Chunk, Transitions

_NOT_NEGATIVE = (0.0, math.inf)
_TD_LOSSES = {
    "huber": common.element_wise_huber_loss,
    "squared": common.element_wise_squared_loss,
}


class TFAgentState(NamedTuple):
    """What changes while an agent runs, besides variables."""

    step: tf.Tensor  # [] int64, environment steps
    updates: tf.Tensor  # [] int64, gradient steps
    exploration: Any


class TFAgentBridge:
    """What the bridged agents share.

    Subclasses write `_make(torso, seed)`, which returns their `TFAgent`, the network that acts
    and, for each optimiser, the variables it trains; and `_learn(state, chunk, seed)`.

    Args:
        spec: of the environment.
        config: hyperparameters.
        strategy: how to explore, None where the agent has its own way.
        torso: any feed-forward Keras layer from observations to features.
        seed: of the initial weights.
    """

    Config: type
    exploration: Any
    loops = ("host",)  # their functions do not fit in the graph loop's program
    xla = False  # their functions are compiled as plain graphs

    def __init__(self, spec: EnvSpec, config: Any, strategy: Any, torso: keras.Layer, seed: int):
        self.spec = spec
        self.extras = {} if strategy is None else exploration.extras(spec.num_actions)
        self.config = config
        self.exploration = strategy
        if any(hasattr(variable, "lr_scale") for variable in torso.trainable_variables):
            raise ValueError(
                "An agent of TF-Agents cannot learn its torso at a rate of its own. Set "
                "transfer.lr_scale to 1, or to 0 (frozen) with transfer.unfreeze_after at 0."
            )
        self._time_step_spec = time_step_spec(spec)
        self._action_spec = action_spec(spec)
        self.tf_agent, self.network, self._optimizers = self._make(torso, seed)
        self.tf_agent.initialize()
        for optimizer, variables in self._optimizers:
            build = getattr(optimizer, "build", None) or optimizer._create_all_weights
            build(variables)

    def _make(self, torso: keras.Layer, seed: int) -> tuple[Any, TorsoNetwork, list]:
        raise NotImplementedError

    def _learn(self, state: TFAgentState, chunk: Chunk, seed) -> tuple[Any, dict[str, tf.Tensor]]:
        """Returns the number of gradient steps taken and metrics."""
        raise NotImplementedError

    def _copy(self, torso: keras.Layer) -> keras.Layer:
        return networks.copy_torso(torso, leaf_of(self.spec.obs))

    def _network(self, torso: keras.Layer, head: Head, seed: int) -> TorsoNetwork:
        network = TorsoNetwork(self.spec, torso, head, seed, name=f"{head}_network")
        network.create_variables()
        return network

    def init(self, num_envs: int) -> TFAgentState:
        """Returns the state before the first step."""
        zero, strategy = tf.zeros([], tf.int64), self.exploration
        explored = () if strategy is None else strategy.init(num_envs, self.spec.num_actions)
        return TFAgentState(zero, zero, explored)

    def act(self, state: TFAgentState, obs, first, seed, explore: bool):
        """Chooses actions [N] by the strategy on Q-values or logits, or greedily."""
        strategy = self.exploration if explore else exploration.Greedy()
        scores = networks.masked_scores(self._scores(unmasked(obs)), obs)
        action, extras = exploration.choose(strategy, scores, state.exploration, state.step, seed)
        return action, extras, state

    def _scores(self, obs) -> tf.Tensor:
        output, _ = self.network(obs)
        return getattr(output, "logits", output)  # [N, A]

    def update(self, state: TFAgentState, chunk: Chunk, seed):
        """Learns from a chunk by `TFAgent.train`, which does not know of masks."""
        chunk = chunk._replace(obs=unmasked(chunk.obs), next_obs=unmasked(chunk.next_obs))
        shown, explored = {}, state.exploration
        if self.exploration is not None:
            shown = exploration.chunk_metrics(self.exploration, chunk, explored, state.step)
            explored = self.exploration.update(explored, chunk)
        count, metrics = self._learn(state, chunk, seed)
        steps = tf.math.count_nonzero(chunk.valid)
        updates = state.updates + tf.cast(count, tf.int64)
        metrics = {**shown, **metrics, "updates": tf.cast(count, tf.float32)}
        return TFAgentState(state.step + steps, updates, explored), metrics

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint holds, by name."""
        acting = self.network.variables
        known = {id(variable) for variable in acting}
        rest = [v for v in self.tf_agent.variables if id(v) not in known]
        named = {f"network/{i}": variable for i, variable in enumerate(acting)}
        named |= {f"agent/{i}": variable for i, variable in enumerate(rest)}
        for i, (optimizer, _) in enumerate(self._optimizers):
            # Beside moments, Keras 2 counts the rate among an optimiser's variables.
            named |= {f"optimizer_{i}/{j}": v for j, v in enumerate(optimizer.variables())}
        return named


class _ReplayBridge(TFAgentBridge):
    """An agent that learns from single steps in a replay of ours."""

    whole_episodes = False

    def __init__(self, spec: EnvSpec, config: Any, strategy: Any, torso: keras.Layer, seed: int):
        super().__init__(spec, config, strategy, torso, seed)
        self.chunk_length = config.train_every
        bare = spec._replace(obs=leaf_of(spec.obs))
        self.replay = Replay(bare, config.replay_capacity)

    def _learn(self, state, chunk, seed):
        self.replay.add(chunk)
        ready = self.replay.size >= self.config.learning_starts
        count = tf.where(ready, self.config.updates_per_chunk, 0)
        zeros = dict.fromkeys(self._tags, tf.constant(0.0))

        def body(i, sums):
            draws, noise = rng.split(rng.fold_in(seed, i))
            batch = self.replay.sample(self.config.batch_size, draws)
            metrics = self._train(batch, noise)
            return i + 1, {tag: sums[tag] + metrics[tag] for tag in self._tags}

        _, sums = tf.while_loop(lambda i, _: i < count, body, (tf.constant(0), zeros))
        total = tf.cast(count, tf.float32)
        return count, {tag: tf.math.divide_no_nan(value, total) for tag, value in sums.items()}

    _tags: tuple[str, ...] = ("loss/total",)

    def _train(self, batch: Transitions, seed) -> dict[str, tf.Tensor]:
        return _loss_metrics(self.tf_agent.train(pairs(batch)))

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint holds, by name."""
        replay = {f"replay/{name}": value for name, value in self.replay.variables().items()}
        return {**super().variables(), **replay}


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
            max_grad_norm=_NOT_NEGATIVE,
        )


class TFAgentsDQN(_ReplayBridge):
    """DQN of TF-Agents (`DqnAgent`, `DdqnAgent`); explores by our strategies."""

    Config = DQNConfig
    action_spaces = ("Discrete",)

    def _make(self, torso, seed):
        config = self.config
        network = self._network(torso, "q", seed)
        optimizer = _adam(config.learning_rate)
        make = dqn_agent.DdqnAgent if config.double_q else dqn_agent.DqnAgent
        agent = make(
            self._time_step_spec,
            self._action_spec,
            q_network=network,
            optimizer=optimizer,
            gamma=config.discount,
            td_errors_loss_fn=_TD_LOSSES[config.loss],
            target_update_tau=config.target_update_rate,
            target_update_period=config.target_update_period,
            gradient_clipping=_clipping(config.max_grad_norm),
            train_step_counter=_counter(),
        )
        return agent, network, [(optimizer, network.trainable_variables)]


class _ContinuousBridge(_ReplayBridge):
    """An agent on continuous actions, which explores by noise of its own."""

    action_spaces = ("Box",)
    _noise: "_Noise"  # made by `_make`

    def act(self, state: TFAgentState, obs, first, seed, explore: bool):
        """Chooses actions [N, ...]: the policy's, random ones before learning starts."""
        output, _ = self.network(unmasked(obs))
        spec = self._action_spec
        if not explore:
            return _within(self._greedy(output), spec), {}, state
        draw, noise = rng.split(seed)
        action = self._explore(output, noise)
        reach = spec.maximum - spec.minimum
        uniform = spec.minimum + reach * rng.uniform(draw, tf.shape(action))
        action = tf.where(state.step < self.config.learning_starts, uniform, action)
        return _within(action, spec), {}, state

    def _greedy(self, output) -> tf.Tensor:
        raise NotImplementedError

    def _explore(self, output, seed) -> tf.Tensor:
        raise NotImplementedError

    def _train(self, batch, seed):
        self._noise.source = _seeds(seed)
        return super()._train(batch, seed)


class _Noise:
    """Where an agent's loss takes its seeds from, set anew for each gradient step."""

    source: Callable[[], tf.Tensor]


class _SACAgent(sac_agent.SacAgent):
    """SAC whose samples have seeds; TF-Agents' own draws have none."""

    def __init__(self, *args: Any, noise: _Noise, **kwargs: Any):
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
            max_grad_norm=_NOT_NEGATIVE,
        )


class TFAgentsSAC(_ContinuousBridge):
    """SAC of TF-Agents, for continuous actions: two critics, a learned entropy weight."""

    Config = SACConfig
    _tags = ("loss/total", "loss/critic", "loss/actor", "loss/alpha")

    def _make(self, torso, seed):
        config, self._noise = self.config, _Noise()
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
            gradient_clipping=_clipping(config.max_grad_norm),
            train_step_counter=_counter(),
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


class _SmoothedTarget(TorsoNetwork):
    """TD3's target actor with its clipped noise, drawn with seeds."""

    noise: _Noise
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
            exploration_noise=_NOT_NEGATIVE,
            target_noise=_NOT_NEGATIVE,
            target_noise_limit=_NOT_NEGATIVE,
            max_grad_norm=_NOT_NEGATIVE,
        )


class TFAgentsTD3(_ContinuousBridge):
    """TD3 of TF-Agents, for continuous actions."""

    Config = TD3Config
    _tags = ("loss/total", "loss/critic", "loss/actor")

    def _make(self, torso, seed):
        config, self._noise = self.config, _Noise()
        actor = self._network(torso, "action", seed)
        target = _SmoothedTarget(self.spec, self._copy(torso), "action", seed, "target")
        target.noise, target.scale = self._noise, (config.target_noise, config.target_noise_limit)
        self._noise.source = _seeds(rng.from_int(0))  # to build it
        target.create_variables()
        critics = [self._network(self._copy(torso), "critic", seed + 10 * i) for i in (1, 2)]
        rates = (config.learning_rate, config.critic_learning_rate)
        optimizers = [_adam(rate) for rate in rates]
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
            gradient_clipping=_clipping(config.max_grad_norm),
            train_step_counter=_counter(),
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


class _EpisodeBridge(TFAgentBridge):
    """An agent that learns from the episodes just played, by its own policy."""

    whole_episodes = True
    policy_scores = True
    action_spaces = ("Discrete",)

    def __init__(self, spec: EnvSpec, config: Any, strategy: Any, torso: keras.Layer, seed: int):
        if spec.max_episode_steps is None:
            raise ValueError(
                "This agent learns from whole episodes and needs a time limit, which this "
                "environment lacks. Give one: --max-episode-steps 1000."
            )
        super().__init__(spec, config, strategy, torso, seed)
        self.chunk_length = spec.max_episode_steps


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
            value_cost=_NOT_NEGATIVE,
            entropy_cost=_NOT_NEGATIVE,
            max_grad_norm=_NOT_NEGATIVE,
        )


class TFAgentsREINFORCE(_EpisodeBridge):
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
        optimizer = _adam(config.learning_rate)
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
            gradient_clipping=_clipping(config.max_grad_norm),
            train_step_counter=_counter(),
        )
        return agent, actor, [(optimizer, trained)]

    def _learn(self, state, chunk, seed):
        if self.config.normalize_returns and chunk.reward.shape[1] == 1:
            raise ValueError(
                "normalize_returns: expected 2 episodes at a time or more, received 1, which less "
                "its own mean teaches nothing. Use --num-envs 2 or more, or --set "
                "normalize_returns=false."
            )
        return 1, _loss_metrics(self.tf_agent.train(episodes(chunk)))


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
            value_cost=_NOT_NEGATIVE,
            entropy_cost=_NOT_NEGATIVE,
            max_grad_norm=_NOT_NEGATIVE,
        )


class TFAgentsPPO(_EpisodeBridge):
    """PPO of TF-Agents (clipped), on whole episodes."""

    Config = PPOConfig

    def _make(self, torso, seed):
        config = self.config
        actor = self._network(torso, "logits", seed)
        value = self._network(self._copy(torso), "value", seed + 10)
        optimizer = _adam(config.learning_rate)
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
            gradient_clipping=_clipping(config.max_grad_norm),
            aggregate_losses_across_replicas=False,
            train_step_counter=_counter(),
        )
        trained = [*actor.trainable_variables, *value.trainable_variables]
        return agent, actor, [(optimizer, trained)]

    def _learn(self, state, chunk, seed):
        # The distribution that it acted by.
        scores = chunk.extras["scores"]
        log_probs = self.exploration.log_probs(scores, state.exploration, state.step)
        experience = episodes(chunk, {"dist_params": {"logits": log_probs}})
        metrics = _loss_metrics(self.tf_agent.train(experience))
        return self.config.num_epochs, metrics


def register() -> None:
    """Adds the agents to rlzoo's table, so that `rlzoo.train("tf_agents.dqn", ...)` knows them."""
    agents.AGENTS.update(BRIDGED.data)


def _adam(learning_rate: float) -> Any:
    return tf.keras.optimizers.Adam(learning_rate)


def _clipping(norm: float) -> float | None:
    return norm or None


def _counter() -> tf.Variable:
    """Returns a step counter of this agent's own: their default is one for the whole process."""
    return tf.Variable(0, dtype=tf.int64, trainable=False, name="train_step")


def _seeds(seed: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Returns a function whose calls return seeds derived from one, in order."""
    count = itertools.count()
    return lambda: rng.fold_in(seed, next(count))


def _within(action: tf.Tensor, spec: Any) -> tf.Tensor:
    return tf.clip_by_value(action, spec.minimum, spec.maximum)


def _loss_metrics(info: Any) -> dict[str, tf.Tensor]:
    """Returns the scalars of a `LossInfo` by tag; some of their parts are per example."""
    metrics = {"loss/total": info.loss}
    for name, value in info.extra._asdict().items():
        if tf.is_tensor(value) and value.shape.rank == 0:
            metrics[f"loss/{name.removesuffix('_loss')}"] = value
    return metrics
