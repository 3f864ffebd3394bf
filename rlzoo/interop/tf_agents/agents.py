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

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlzoo import agents, exploration, networks
from rlzoo.interop.tf_agents.networks import Head, TorsoNetwork
from rlzoo.interop.tf_agents.specs import action_spec, time_step_spec
from rlzoo.interop.tf_agents.trajectories import pairs
from rlzoo.ops import rng
from rlzoo.replay import Replay
from rlzoo.spaces import EnvSpec, leaf_of, unmasked
from rlzoo.tables import BRIDGED
from rlzoo.types import Chunk, Transitions

NOT_NEGATIVE = (0.0, math.inf)


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
        explored = () if strategy is None else strategy.init(num_envs, self.spec)
        return TFAgentState(zero, zero, explored)

    def act(self, state: TFAgentState, obs, first, seed, explore: bool):
        """Chooses actions [N] by the strategy on Q-values or logits, or greedily."""
        strategy = self.exploration if explore else exploration.Greedy()
        scores = networks.masked_scores(self._scores(unmasked(obs)), obs)
        action, extras, explored = exploration.choose(
            strategy, scores, obs, state.exploration, first, state.step, seed
        )
        return action, extras, state._replace(exploration=explored)

    def _scores(self, obs) -> tf.Tensor:
        output, _ = self.network(obs)
        return getattr(output, "logits", output)  # [N, A]

    def update(self, state: TFAgentState, chunk: Chunk, seed):
        """Learns from a chunk by `TFAgent.train`, which does not know of masks."""
        chunk = chunk._replace(obs=unmasked(chunk.obs), next_obs=unmasked(chunk.next_obs))
        shown, explored = {}, state.exploration
        if self.exploration is not None:
            shown = exploration.chunk_metrics(self.exploration, chunk, explored, state.step)
            explored = self.exploration.observe(explored, chunk)
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


class ReplayBridge(TFAgentBridge):
    """An agent that learns from single steps in a replay of ours."""

    whole_episodes = False

    def __init__(self, spec: EnvSpec, config: Any, strategy: Any, torso: keras.Layer, seed: int):
        super().__init__(spec, config, strategy, torso, seed)
        self.chunk_length = config.train_every
        bare = spec._replace(obs=leaf_of(spec.obs))
        self.replay = Replay(bare, config.replay_capacity)

    def _learn(self, state, chunk, seed):
        self.replay.add(chunk)
        ready = self.replay.added >= self.config.learning_starts
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
        return loss_metrics(self.tf_agent.train(pairs(batch)))

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint holds, by name."""
        replay = {f"replay/{name}": value for name, value in self.replay.variables().items()}
        return {**super().variables(), **replay}


class ContinuousBridge(ReplayBridge):
    """An agent on continuous actions, which explores by noise of its own."""

    action_spaces = ("Box",)
    _noise: "Noise"  # made by `_make`

    def act(self, state: TFAgentState, obs, first, seed, explore: bool):
        """Chooses actions [N, ...]: the policy's, random ones before learning starts."""
        output, _ = self.network(unmasked(obs))
        spec = self._action_spec
        if not explore:
            return within(self._greedy(output), spec), {}, state
        draw, noise = rng.split(seed)
        action = self._explore(output, noise)
        reach = spec.maximum - spec.minimum
        uniform = spec.minimum + reach * rng.uniform(draw, tf.shape(action))
        action = tf.where(state.step < self.config.learning_starts, uniform, action)
        return within(action, spec), {}, state

    def _greedy(self, output) -> tf.Tensor:
        raise NotImplementedError

    def _explore(self, output, seed) -> tf.Tensor:
        raise NotImplementedError

    def _train(self, batch, seed):
        self._noise.source = seeds(seed)
        return super()._train(batch, seed)


class Noise:
    """Where an agent's loss takes its seeds from, set anew for each gradient step."""

    source: Callable[[], tf.Tensor]


class EpisodeBridge(TFAgentBridge):
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


def register() -> None:
    """Adds the agents to rlzoo's table, so that `rlzoo.train("tf_agents.dqn", ...)` knows them."""
    agents.AGENTS.update(BRIDGED.data)


def adam(learning_rate: float) -> Any:
    """Returns Adam of Keras 2, which their agents take."""
    return tf.keras.optimizers.Adam(learning_rate)


def clipping(norm: float) -> float | None:
    """Returns what their agents clip the gradient's norm to, None for 0."""
    return norm or None


def counter() -> tf.Variable:
    """Returns a step counter of this agent's own: their default is one for the whole process."""
    return tf.Variable(0, dtype=tf.int64, trainable=False, name="train_step")


def seeds(seed: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Returns a function whose calls return seeds derived from one, in order."""
    count = itertools.count()
    return lambda: rng.fold_in(seed, next(count))


def within(action: tf.Tensor, spec: Any) -> tf.Tensor:
    """Returns actions cut to the bounds of a spec."""
    return tf.clip_by_value(action, spec.minimum, spec.maximum)


def loss_metrics(info: Any) -> dict[str, tf.Tensor]:
    """Returns the scalars of a `LossInfo` by tag; some of their parts are per example."""
    metrics = {"loss/total": info.loss}
    for name, value in info.extra._asdict().items():
        if tf.is_tensor(value) and value.shape.rank == 0:
            metrics[f"loss/{name.removesuffix('_loss')}"] = value
    return metrics
