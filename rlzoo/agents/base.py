"""What an agent is: a Protocol, from which nothing is inherited; and how its config is checked."""

import dataclasses
import math
from typing import Any, Protocol

import tensorflow as tf

from rlzoo.agents.actor import Actor
from rlzoo.networks import under
from rlzoo.ops.schedules import levels
from rlzoo.spaces import EnvSpec
from rlzoo.types import Chunk

POSITIVE = (1e-12, math.inf)  # ranges of hyperparameters
COUNT = (1, math.inf)
FRACTION = (0.0, 1.0)
SHARE = (1e-12, 1.0)  # a fraction that must not be nothing

ACTOR = "actor"  # so begin the names, in checkpoints, of all that acting needs


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


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is true of all agents of a class, whatever the environment and the settings."""

    actions: tuple[str, ...] = ("Discrete",)  # kinds of actions that it takes
    # Kinds of observations, besides their masks; dict: of several parts.
    observations: tuple[str, ...] = ("Discrete", "Box", "MultiDiscrete", "dict")
    recurrent: bool = True  # whether its torso may be recurrent
    adapts_input: bool = True  # whether normalize.obs and frame_stack are for its networks
    loops: tuple[str, ...] = ("host", "graph")  # that it fits in
    xla: bool = True  # whether XLA compiles its functions; else they are plain graphs
    whole_episodes: bool = False  # each environment plays one per chunk, padded to its length
    policy: bool = False  # learns a policy, which evaluation draws from; else is greedy


class Agent(Protocol):
    """The contract between agents and loops: an actor, and what learns from its chunks.

    `actor.act`, `actor.observe` and `update` are traced and compiled by the loop: they use
    TensorFlow operations only, and take every number that changes as a tensor. Learned values live
    in Keras variables and replay; whatever else changes lives in the state, tensors in (nested)
    tuples.

    Args, of the constructor:
        spec: of the environment.
        config: hyperparameters, a `Config`.
        strategy: how to explore, from the scores that the actor has.
        torso: a Keras layer from observations to features or an RNN cell, which the agent copies;
            None for one that keeps a table.
        seed: of the initial weights.

    Raises:
        ValueError: this agent cannot learn in such environments, or with such a torso.
    """

    # Frozen dataclass with every hyperparameter and its default; among them what a run takes where
    # nobody says otherwise: `exploration`, `torso` if it has one, `num_envs` if not 1.
    Config: type
    traits: Traits
    config: Any  # a `Config`
    spec: EnvSpec  # of the environments it acts in
    actor: Actor
    chunk_length: int  # T, steps per environment between updates

    def init(self, num_envs: int) -> Any:
        """Returns the learner's state before the first update on chunks of N environments."""
        ...

    def update(
        self, state: Any, chunk: Chunk, step: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Any, dict[str, tf.Tensor]]:
        """Learns from a chunk.

        Args:
            state: from `init` or `update`.
            chunk: T steps of N environments.
            step: [] int64, environment steps learned from before, which schedules go by.
            seed: [2] int32.

        Returns:
            The next state, and metrics: float32 scalars by TensorBoard tag. `updates` is the
            number of gradient steps taken; what is under `loss/`, `value/`, `grad/` and `model/`
            is a mean over these, and means nothing if there were none.
        """
        ...

    def variables(self) -> dict[str, Any]:
        """Returns every variable that a checkpoint must hold besides the actor's, by its path."""
        ...


def variables(agent: Agent) -> dict[str, Any]:
    """Returns every variable of an agent, each once; those of its actor under `actor/`."""
    acting = acting_variables(agent)
    known = {id(variable) for variable in acting.values()}
    others = agent.variables().items()
    return {**acting, **{path: x for path, x in others if id(x) not in known}}


def acting_variables(agent: Agent) -> dict[str, Any]:
    """Returns the variables that acting needs, by the names that checkpoints have for them."""
    return under(ACTOR, agent.actor.variables())
