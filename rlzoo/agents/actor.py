"""What acts: all of an agent that collecting, evaluation, `load` and samplers elsewhere need."""

from typing import Any, Literal, NamedTuple, Protocol

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.exploration import Exploration
from rlzoo.ops.stacks import no_frames, push
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk, Memory

Mode = Literal["explore", "policy", "greedy"]


class ActorState(NamedTuple):
    """What acting remembers from step to step."""

    memory: Memory  # what the network must know of the past
    exploration: Any  # the strategy's state


class Actor(Protocol):
    """The contract between what acts and what steps environments; nothing is inherited from it."""

    network: Any  # the Keras model from observations to scores or the like
    exploration: Any  # the strategy, None where it explores in its own way
    extras: dict[str, tuple[tuple[int, ...], str]]  # what `act` tells: shape and dtype by name

    def init(self, num_envs: int) -> ActorState:
        """Returns the state before the first step of N environments."""
        ...

    def act(
        self,
        state: ActorState,
        obs: Any,
        first: tf.Tensor,
        step: tf.Tensor,
        seed: tf.Tensor,
        mode: Mode,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], ActorState]:
        """Chooses one action per environment.

        Args:
            state: from `init`, `act` or `observe`.
            obs: [N, ...], nested as the observation's space is, in the environment's dtypes.
            first: [N] bool, True where an episode starts: recurrent state is reset there.
            step: [] int64, environment steps learned from so far.
            seed: [2] int32.
            mode: "explore" follows the strategy, "policy" draws from the policy of an agent that
                learns one and else is greedy, "greedy" takes the best action.

        Returns:
            The actions [N] int32, or [N, ...] float32 of a Box; a dict of what `extras` names
            [N, ...]; the next state.
        """
        ...

    def observe(
        self, state: ActorState, chunk: Chunk, step: tf.Tensor
    ) -> tuple[ActorState, dict[str, tf.Tensor]]:
        """Returns the state after a chunk of its experience, and what TensorBoard shows of it."""
        ...

    def variables(self) -> dict[str, Any]:
        """Returns every variable that acting needs, by its path."""
        ...


class ScoreActor:
    """Chooses among Discrete actions by the scores of a network, as a strategy has it.

    Args:
        spec: of the environment.
        network: from `networks.build_network`.
        strategy: how to explore.
        policy: whether the scores are the logits of a policy, and no values.
    """

    def __init__(
        self, spec: EnvSpec, network: keras.Model, strategy: Exploration, policy: bool = False
    ):
        self.network = network
        self.exploration = strategy
        self.extras = exploration.extras(spec.num_actions)
        self._spec = spec
        self._policy = exploration.Softmax() if policy else exploration.Greedy()

    def init(self, num_envs: int) -> ActorState:
        """Returns the state before the first step."""
        recurrent = networks.initial_state(self.network, num_envs)
        memory = Memory(recurrent, no_frames(self._spec, num_envs))
        return ActorState(memory, self.exploration.init(num_envs, self._spec))

    def act(self, state: ActorState, obs, first, step, seed, mode: Mode):
        """Chooses actions [N] by the scores [N, A]."""
        known = {"explore": self.exploration, "policy": self._policy}
        strategy = known.get(mode, exploration.Greedy())
        recurrent, frames = state.memory
        seen, frames = push(self._spec, frames, obs, first)
        scores, recurrent = networks.apply(self.network, seen, recurrent, first)
        action, extras, explored = exploration.choose(
            strategy, scores, obs, state.exploration, first, step, seed
        )
        return action, extras, ActorState(Memory(recurrent, frames), explored)

    def observe(self, state: ActorState, chunk: Chunk, step):
        """Lets network and strategy observe the chunk; shows rates and what was done."""
        networks.observe(self.network, chunk)
        strategy, explored = self.exploration, state.exploration
        shown = exploration.chunk_metrics(strategy, chunk, explored, step)
        return state._replace(exploration=strategy.observe(explored, chunk)), shown

    def variables(self) -> dict[str, Any]:
        """Returns the variables of the network, by their paths."""
        return networks.named_variables(self.network)
