"""What an agent is: a Protocol, from which nothing is inherited; and how its config is checked."""

import math
from typing import Any, Protocol

import keras
import tensorflow as tf

from rlzoo.exploration import Exploration
from rlzoo.ops.schedules import levels
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk

POSITIVE = (1e-12, math.inf)  # ranges of hyperparameters
COUNT = (1, math.inf)
FRACTION = (0.0, 1.0)
SHARE = (1e-12, 1.0)  # a fraction that must not be nothing


def check_ranges(config: Any, **ranges: tuple[float, float]) -> None:
    """Raises a `ValueError` for the first field of a config that is out of its range.

    Of a schedule, no value may be; but one may end at 0.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if callable(value) and low == POSITIVE[0]:
            low = 0.0
        if not all(low <= level <= high for level in levels(value)):
            limits = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
            raise ValueError(f"{name}: expected {limits}, received {value}.")


def decide_target_period(config: Any, copied: int = 100, moved: int = 1) -> None:
    """Fills in the period of target updates that a config leaves open: its rate decides.

    Args:
        config: with `target_update_rate` and `target_update_period`.
        copied: gradient steps between updates where each copies the network.
        moved: the same where each moves the target by a share, which would take for ever at the
            pace of copies.
    """
    if config.target_update_period is None:
        period = copied if config.target_update_rate == 1.0 else moved
        object.__setattr__(config, "target_update_period", period)


class Agent(Protocol):
    """The contract between agents and loops.

    `act` and `update` are traced and compiled by the loop: they use TensorFlow operations only,
    and take every number that changes as a tensor. Learned values live in Keras variables and
    replay; whatever else changes lives in the state, a NamedTuple of tensors with a field `step`
    ([] int64, environment steps learned from).

    Args, of the constructor:
        spec: of the environment.
        config: hyperparameters, a `Config`.
        strategy: how to explore, from the scores that `act` has.
        torso: a Keras layer from observations to features or an RNN cell, which the agent copies;
            None for one that keeps a table.
        seed: of the initial weights.

    Raises:
        ValueError: this agent cannot learn in such environments, or with such a torso.
    """

    # Frozen dataclass with every hyperparameter and its default; among them what a run takes where
    # nobody says otherwise: `exploration`, `torso` if it has one, `num_envs` if not 1.
    Config: type
    spec: EnvSpec  # of the environments it acts in
    network: keras.Model  # observation -> scores, the part that supervised pretraining trains
    exploration: Exploration
    extras: dict[str, tuple[tuple[int, ...], str]]  # what `act` tells: shape and dtype by name
    chunk_length: int  # T, steps per environment between updates
    whole_episodes: bool  # each environment plays one episode per chunk, padded to T

    # An agent that takes other actions than Discrete ones says so, as in
    # `action_spaces = ("Discrete", "Box")`; one that does not fit in the graph loop has
    # `loops = ("host",)`, one that XLA cannot compile `xla = False`.
    # An agent may also set `acts_by_scores = True`: its act is exploration.choose on network(obs)
    # where the network is not recurrent, so that a loop may do the same in its own way;
    # `policy_scores = True`: its scores are the logits of a policy, which evaluation draws from.

    def init(self, num_envs: int) -> Any:
        """Returns the state of a learner that acts in N environments."""
        ...

    def act(
        self, state: Any, obs: tf.Tensor, first: tf.Tensor, seed: tf.Tensor, explore: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], Any]:
        """Chooses one action per environment.

        Args:
            state: from `init`, `act` or `update`.
            obs: [N, ...] nested as the observation's space is, in the environment's dtypes.
            first: [N] bool, True where an episode starts: recurrent state is reset there.
            seed: [2] int32.
            explore: whether to follow the exploration strategy, or be greedy.

        Returns:
            The actions [N] int32, a dict of what `extras` names [N, ...], the next state.
        """
        ...

    def update(self, state: Any, chunk: Chunk, seed: tf.Tensor) -> tuple[Any, dict[str, tf.Tensor]]:
        """Learns from a chunk.

        Returns:
            The next state, and metrics: float32 scalars by TensorBoard tag. `updates` is the
            number of gradient steps taken; what is under `loss/`, `value/`, `grad/` and `model/`
            is a mean over these, and means nothing if there were none.
        """
        ...

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint must hold, by a stable name."""
        ...
