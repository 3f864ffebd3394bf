"""What the adapters of TF-Agents' agents are made of.

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
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from rlzoo import agents, exploration, networks
from rlzoo.agents import ActorState, Mode, Traits
from rlzoo.interop.tf_agents.networks import Head, TorsoNetwork
from rlzoo.interop.tf_agents.trajectories import pairs
from rlzoo.ops import rng
from rlzoo.replay import Replay
from rlzoo.spaces import EnvSpec, leaf_of, unmasked
from rlzoo.tables import BRIDGED
from rlzoo.types import Chunk, Memory, Transitions

NOT_NEGATIVE = (0.0, math.inf)
# Their functions fit in no program of the graph loop, and are compiled as plain graphs.
TRAITS = Traits(
    observations=("Discrete", "Box", "MultiDiscrete"),  # in one array
    recurrent=False,
    adapts_input=False,
    loops=("host",),
    xla=False,
)


class ScoresActor:
    """Chooses among Discrete actions by a network of theirs, as a strategy of ours has it.

    Args:
        spec: of the environment.
        network: of Q-values or logits.
        strategy: how to explore.
        policy: whether the scores are the logits of a policy, and no values.
    """

    def __init__(
        self,
        spec: EnvSpec,
        network: TorsoNetwork,
        strategy: exploration.Exploration,
        policy: bool = False,
    ):
        self.network = network
        self.exploration = strategy
        self.extras = exploration.extras(spec.num_actions)
        self._spec = spec
        self._policy = exploration.Softmax() if policy else exploration.Greedy()

    def init(self, num_envs: int) -> ActorState:
        """Returns the state before the first step."""
        return ActorState(Memory(), self.exploration.init(num_envs, self._spec))

    def act(self, state: ActorState, obs, first, step, seed, mode: Mode):
        """Chooses actions [N] by the strategy on Q-values or logits, or greedily."""
        known = {"explore": self.exploration, "policy": self._policy}
        strategy = known.get(mode, exploration.Greedy())
        output, _ = self.network(unmasked(obs))
        scores = networks.masked_scores(getattr(output, "logits", output), obs)  # [N, A]
        action, extras, explored = exploration.choose(
            strategy, scores, obs, state.exploration, first, step, seed
        )
        return action, extras, ActorState(Memory(), explored)

    def observe(self, state: ActorState, chunk: Chunk, step):
        """Lets the strategy observe the chunk; shows its rates and what it did."""
        shown = exploration.chunk_metrics(self.exploration, chunk, state.exploration, step)
        return ActorState(Memory(), self.exploration.observe(state.exploration, chunk)), shown

    def variables(self) -> dict[str, Any]:
        """Returns the variables of the network, by their paths."""
        return self.network.by_path()


class NoisyActor:
    """Acts on a Box by a network of theirs and its own noise; at random before learning starts.

    Args:
        network: of actions, or of distributions of them.
        spec: TF-Agents' of the actions.
        greedy: from its output to actions.
        explore: from its output and a seed to actions.
        learning_starts: environment steps before which actions are random.
    """

    exploration = None
    extras: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        network: TorsoNetwork,
        spec: Any,
        greedy: Callable,
        explore: Callable,
        learning_starts: int,
    ):
        self.network = network
        self._spec = spec
        self._greedy = greedy
        self._explore = explore
        self._learning_starts = learning_starts

    def init(self, num_envs: int) -> ActorState:
        """Returns the state before the first step: nothing."""
        return ActorState(Memory(), ())

    def act(self, state: ActorState, obs, first, step, seed, mode: Mode):
        """Chooses actions [N, ...]."""
        output, _ = self.network(unmasked(obs))
        if mode != "explore":
            return within(self._greedy(output), self._spec), {}, state
        draw, noise = rng.split(seed)
        action = self._explore(output, noise)
        reach = self._spec.maximum - self._spec.minimum
        uniform = self._spec.minimum + reach * rng.uniform(draw, tf.shape(action))
        action = tf.where(step < self._learning_starts, uniform, action)
        return within(action, self._spec), {}, state

    def observe(self, state: ActorState, chunk: Chunk, step):
        """Returns the state: there is nothing to remember, and to show."""
        return state, {}

    def variables(self) -> dict[str, Any]:
        """Returns the variables of the network, by their paths."""
        return self.network.by_path()


class Noise:
    """Where an agent's loss takes its seeds from, set anew for each gradient step."""

    source: Callable[[], tf.Tensor]


class Trained:
    """An agent of theirs, ready to train, with all that a checkpoint must hold of it.

    Args:
        tf_agent: the agent.
        acting: the network whose variables are the actor's.
        optimizers: each with the variables that it trains.
    """

    def __init__(self, tf_agent: Any, acting: TorsoNetwork, optimizers: Iterable[tuple[Any, Any]]):
        self.tf_agent = tf_agent
        self._acting = acting
        self._optimizers = list(optimizers)
        tf_agent.initialize()
        for optimizer, variables in self._optimizers:
            build = getattr(optimizer, "build", None) or optimizer._create_all_weights
            build(variables)

    def variables(self) -> dict[str, Any]:
        """Returns its variables but those that act, by name."""
        known = {id(variable) for variable in self._acting.variables}
        rest = [v for v in self.tf_agent.variables if id(v) not in known]
        named = networks.under("agent", numbered(rest))
        for i, (optimizer, _) in enumerate(self._optimizers):
            # Beside moments, Keras 2 counts the rate among an optimiser's variables.
            named |= networks.under(f"optimizer_{i}", numbered(optimizer.variables()))
        return named


def replay_of(spec: EnvSpec, capacity: int) -> Replay:
    """Returns a replay of single steps, without masks, which theirs do not know."""
    return Replay(spec._replace(obs=leaf_of(spec.obs)), capacity)


def learn_from(
    replay: Replay,
    config: Any,
    chunk: Chunk,
    seed: tf.Tensor,
    tags: tuple[str, ...],
    train: Callable[[Transitions, tf.Tensor], dict[str, tf.Tensor]],
) -> dict[str, tf.Tensor]:
    """Stores a chunk, then takes `updates_per_chunk` gradient steps on replay; returns metrics.

    Args:
        replay: of single steps.
        config: with `learning_starts`, `updates_per_chunk` and `batch_size`.
        chunk: whose masks are left out.
        seed: [2] int32.
        tags: of the metrics.
        train: from a batch and a seed to metrics under these tags, at least.
    """
    replay.add(without_masks(chunk))
    count = tf.where(replay.added >= config.learning_starts, config.updates_per_chunk, 0)

    def learn(i):
        draws, noise = rng.split(rng.fold_in(seed, i))
        metrics = train(replay.sample(config.batch_size, draws), noise)
        return {tag: metrics[tag] for tag in tags}

    learned = networks.repeat(count, learn, tags)
    return {**learned, "updates": tf.cast(count, tf.float32)}


def trained_on(tf_agent: Any, batch: Transitions) -> dict[str, tf.Tensor]:
    """Takes a gradient step of theirs on a batch; returns its metrics."""
    return loss_metrics(tf_agent.train(pairs(batch)))


def without_masks(chunk: Chunk) -> Chunk:
    """Returns a chunk without masks, which `TFAgent.train` does not know."""
    return chunk._replace(obs=unmasked(chunk.obs), next_obs=unmasked(chunk.next_obs))


def check_torso(torso: keras.Layer) -> None:
    """Refuses a torso that learns at a rate of its own."""
    if any(hasattr(variable, "lr_scale") for variable in torso.trainable_variables):
        raise ValueError(
            "An agent of TF-Agents cannot learn its torso at a rate of its own. Set "
            "transfer.lr_scale to 1, or to 0 (frozen) with transfer.unfreeze_after at 0."
        )


def check_limit(spec: EnvSpec) -> int:
    """Returns the time limit, which agents need that learn from whole episodes."""
    if spec.max_episode_steps is None:
        raise ValueError(
            "This agent learns from whole episodes and needs a time limit, which this "
            "environment lacks. Give one: --max-episode-steps 1000."
        )
    return spec.max_episode_steps


def network(spec: EnvSpec, torso: keras.Layer, head: Head, seed: int) -> TorsoNetwork:
    """Returns a network of theirs with a torso of ours as its body."""
    made = TorsoNetwork(spec, torso, head, seed, name=f"{head}_network")
    made.create_variables()
    return made


def copied(spec: EnvSpec, torso: keras.Layer) -> keras.Layer:
    """Returns another torso with the same weights."""
    return networks.copy_torso(torso, leaf_of(spec.obs))


def numbered(variables: Iterable[Any]) -> dict[str, Any]:
    """Returns variables of theirs by their numbers: their names are not the same in each run."""
    return {str(i): variable for i, variable in enumerate(variables)}


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
