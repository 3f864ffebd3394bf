"""What both loops share: what they are, what goes round in them, and what they tell."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from rlzoo.agents import ActorState, Agent, variables
from rlzoo.ops.moments import no_returns, scaled, with_rewards
from rlzoo.spaces import map_leaves
from rlzoo.types import Chunk, TimeStep

_CLIP = 10.0  # deviations of returns, beyond which rewards are cut


class Acting(NamedTuple):
    """What a collector carries from step to step."""

    actor: ActorState
    acts: tf.Tensor  # [] int64, calls of act: the counter of their random stream


class Learning(NamedTuple):
    """What a learner carries from chunk to chunk, besides variables."""

    learner: Any  # the agent's own state
    returns: Any  # `ReturnMoments` where rewards are normalised, () otherwise
    step: tf.Tensor  # [] int64, environment steps learned from
    chunks: tf.Tensor  # [] int64, calls of update: the version of the weights


class LoopState(NamedTuple):
    """The tensors that a loop carries from call to call."""

    acting: Acting
    learning: Learning


class Episodes(NamedTuple):
    """Episodes that ended: one, or the means of several."""

    mean_return: float
    mean_length: float
    num_episodes: int = 1


class Report(NamedTuple):
    """What a stretch of training brought."""

    steps: int  # environment steps taken, summed over environments
    episodes: list[Episodes]  # those that ended
    metrics: dict[str, float]  # means of what `Agent.update` returned; `updates` is a sum
    chunks: int = 1  # how many it was


class Loop(Protocol):
    """Environments and an agent that learns in them.

    Give `agent.actor.exploration` another strategy at any time: the next run follows it.
    """

    agent: Agent

    def run(self, until: float, seconds: float) -> Report:
        """Learns from one chunk at least, and begins none after `until` steps or `seconds`.

        Raises:
            FloatingPointError: a metric, a reward or an observation is not finite.
        """
        ...

    def compile(self) -> Any:
        """Prepares the programs."""
        ...

    @property
    def step(self) -> int:
        """Environment steps that the agent has learned from."""
        ...

    def lifetime_steps(self) -> list[int]:
        """Returns the age of each environment, where they change over their life; else []."""
        ...

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns all that a checkpoint needs to go on from here: arrays, and plain values."""
        ...

    def template(self, meta: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns shape and dtype of each array of a state whose plain values are `meta`."""
        ...

    def set_state(
        self, arrays: dict[str, np.ndarray], meta: dict[str, Any], on_step: Callable[[int], None]
    ) -> None:
        """Goes back to what `get_state` returned.

        Args:
            arrays: that fit `template(meta)`.
            meta: the plain values.
            on_step: called with the number of each step that is replayed.
        """
        ...

    def template_to_adopt(self, num_envs: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns what `template` does, of a state of so many environments."""
        ...

    def adopt(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Goes on with what was learned with another number of environments; episodes anew."""
        ...


def chunk_fields(agent: Agent, num_envs: int) -> dict[str, Any]:
    """Returns the shape and dtype of every field of the rows of an agent's chunk."""
    spec, shape = agent.spec, (agent.chunk_length, num_envs)
    obs = map_leaves(lambda leaf: ((*shape, *leaf.shape), leaf.dtype), spec.obs)
    action = ((*shape, *spec.action.shape), spec.action_dtype)
    number, flag = (shape, "float32"), (shape, "bool")
    extras = map_leaves(lambda field: ((*shape, *field[0]), field[1]), agent.actor.extras)
    return {
        "obs": obs,
        "action": action,
        "reward": number,
        "discount": number,
        "last": flag,
        "first": flag,
        "next_obs": obs,
        "valid": flag,
        "extras": extras,
    }


def chunk_row(obs, first, action, extras, step: TimeStep, last, valid) -> Chunk:
    """Returns one row of a chunk, [N, ...] of each field, arrays or tensors.

    Args:
        obs: before the step.
        first: [N] bool, whether it is the first of an episode.
        action: what was done.
        extras: what acting told.
        step: what came of it.
        last: [N] bool, whether the episode ends for the learner.
        valid: [N] bool, whether there was a step.
    """
    return Chunk(
        obs=obs,
        action=action,
        reward=step.reward,
        discount=~step.terminated,
        last=last,
        first=first,
        next_obs=step.final_obs,
        valid=valid,
        extras=extras,
    )


def initial_acting(agent: Agent, num_envs: int) -> Acting:
    """Returns the state of a collector of N environments before their first step."""
    return Acting(agent.actor.init(num_envs), tf.zeros([], tf.int64))


def initial_state(agent: Agent, num_envs: int) -> LoopState:
    """Returns the state of a loop before its first step."""
    return LoopState(initial_acting(agent, num_envs), initial_learning(agent, num_envs))


def initial_learning(agent: Agent, num_envs: int) -> Learning:
    """Returns the state of a learner before its first chunk, of N environments."""
    zero = tf.zeros([], tf.int64)
    returns = no_returns(num_envs) if agent.spec.normalize.reward else ()
    return Learning(agent.init(num_envs), returns, zero, zero)


def learn(
    agent: Agent, learning: Learning, chunk: Chunk, seed: tf.Tensor
) -> tuple[Learning, dict[str, tf.Tensor]]:
    """Lets an agent learn from a chunk, in a compiled function; returns what it tells, too."""
    returns = learning.returns
    if agent.spec.normalize.reward:
        discount = agent.config.discount
        returns = with_rewards(returns, chunk.reward, chunk.last, chunk.valid, discount)
        chunk = chunk._replace(reward=scaled(chunk.reward, returns.moments, _CLIP))
    learner, metrics = agent.update(learning.learner, chunk, learning.step, seed)
    step = learning.step + tf.math.count_nonzero(chunk.valid)
    return Learning(learner, returns, step, learning.chunks + 1), metrics


def adopt(agent: Agent, num_envs: int, arrays: Mapping[str, np.ndarray]) -> LoopState:
    """Returns the state of a loop that goes on with another number of environments.

    What each environment has of its own (recurrent and exploration state) begins anew.

    Args:
        agent: the learner, whose variables take what was learned.
        num_envs: N from now on.
        arrays: of a checkpoint, `state/i` and the variables.
    """
    for name, variable in variables(agent).items():
        variable.assign(arrays[name])
    fresh = initial_state(agent, num_envs)
    tensors = [
        tf.constant(arrays[f"state/{i}"]) if arrays[f"state/{i}"].shape == x.shape else x
        for i, x in enumerate(tf.nest.flatten(fresh))
    ]
    return tf.nest.pack_sequence_as(fresh, tensors)


def is_learned(tag: str) -> bool:
    """Tells whether a metric is a mean over gradient steps; the others are means over chunks."""
    return tag.startswith(("loss/", "value/", "grad/", "model/"))


def diverged(what: str, update: int) -> FloatingPointError:
    """Returns the error that ends a run in which numbers are no longer finite."""
    return FloatingPointError(
        f"The agent diverged: {what} at update {update}. The last checkpoint is good. A lower "
        "learning_rate, or smaller rewards, may help."
    )
