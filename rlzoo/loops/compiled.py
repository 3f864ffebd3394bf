"""What both loops share: calls of compiled functions, and what goes round in a loop."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo import compile_cache, quiet
from rlzoo.agents import Agent
from rlzoo.loops.naming import named_by_text
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT
from rlzoo.spaces import map_leaves
from rlzoo.types import Chunk, TimeStep


class LoopState(NamedTuple):
    """The tensors that the loop carries from call to call."""

    agent: Any  # the agent's own state
    acts: tf.Tensor  # [] int64, calls of act: the act stream's counter
    chunks: tf.Tensor  # [] int64, calls of update: the update stream's counter


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


class Compiled:
    """A function compiled for one signature, called with tensors and nothing around them.

    TensorFlow's checks and packing of arguments would cost more than a small network does, so a
    call takes the tensors of all arguments in a row and returns those of the result in a row.

    Args:
        function: of tensors and (nested) tuples of tensors, returning the like.
        specs: a `tf.TensorSpec`, or tuples of them, for each argument.
        xla: whether XLA compiles it; else it is a plain TensorFlow graph.
    """

    def __init__(self, function: Callable, *specs: Any, xla: bool = True):
        traced = tf.function(function, jit_compile=xla or None, autograph=False)
        self._concrete = traced.get_concrete_function(*specs)  # keeps what is captured alive
        self._captured = self._concrete.captured_inputs
        self._call: Callable = self._concrete.inference_fn.call_flat
        if xla:
            self._call = partial(self._first_call, function.__name__)  # then without a detour

    def __call__(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """Returns the tensors of the result, in order.

        Raises:
            ValueError: at the first call, where XLA cannot compile the function.
        """
        return self._call(*tensors, *self._captured)

    def _first_call(self, name: str, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """Calls it by a name that finds it among the programs compiled before, if it is there.

        If that fails, it is called by TensorFlow's own name: compiled anew, in case that the
        stored program could not be read; else it fails again and tells where the op was made.
        """
        try:
            with quiet.loading():
                call: Callable = named_by_text(self._concrete, name).call_flat
                result = call(*tensors)
        except tf.errors.OpError as error:
            if "tf2xla conversion failed" not in error.message:
                compile_cache.clear()
            self._call = self._concrete.inference_fn.call_flat
            return self._recompiled(*tensors)
        compile_cache.seal()
        self._call = call
        return result

    def _recompiled(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        try:
            return self._call(*tensors)
        except tf.errors.OpError as error:
            if "tf2xla conversion failed" in error.message:
                raise ValueError(not_compilable(error.message)) from error
            raise


def chunk_fields(agent: Agent, num_envs: int) -> dict[str, Any]:
    """Returns the shape and dtype of every field of an agent's chunk."""
    spec, shape = agent.spec, (agent.chunk_length, num_envs)
    obs = map_leaves(lambda leaf: ((*shape, *leaf.shape), leaf.dtype), spec.obs)
    action = ((*shape, *spec.action.shape), spec.action_dtype)
    number, flag = (shape, "float32"), (shape, "bool")
    extras = map_leaves(lambda field: ((*shape, *field[0]), field[1]), agent.extras)
    chunk = Chunk(obs, action, number, number, flag, flag, obs, flag, extras)
    return chunk._asdict()


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


def initial_state(agent: Agent, num_envs: int) -> LoopState:
    """Returns the state of a loop before its first step."""
    zero = tf.zeros([], tf.int64)
    return LoopState(agent.init(num_envs), zero, zero)


def adopt(agent: Agent, num_envs: int, arrays: Mapping[str, np.ndarray]) -> LoopState:
    """Returns the state of a loop that goes on with another number of environments.

    What each environment has of its own (recurrent and exploration state) begins anew.

    Args:
        agent: the learner, whose variables take what was learned.
        num_envs: N from now on.
        arrays: of a checkpoint, `state/i` and the variables.
    """
    for name, variable in agent.variables().items():
        variable.assign(arrays[name])
    fresh = initial_state(agent, num_envs)
    tensors = [
        tf.constant(arrays[f"state/{i}"]) if arrays[f"state/{i}"].shape == x.shape else x
        for i, x in enumerate(tf.nest.flatten(fresh))
    ]
    return tf.nest.pack_sequence_as(fresh, tensors)


def compile_act(
    agent: Agent, num_envs: int, seed: int, explore: bool, record: bool = False
) -> Compiled:
    """Compiles (LoopState, obs, first) -> (action, LoopState), or (action, extras, LoopState).

    Args:
        agent: who acts.
        num_envs: N.
        seed: of the run.
        explore: whether to follow the exploration strategy, or be greedy.
        record: whether to return what acting knew, too.
    """
    stream = rng.fold_in(rng.from_int(seed), ACT)

    def act(state: LoopState, obs, first):
        seed = rng.fold_in(stream, state.acts)
        action, extras, agent_state = agent.act(state.agent, obs, first, seed, explore)
        state = state._replace(agent=agent_state, acts=state.acts + 1)
        return (action, extras, state) if record else (action, state)

    state = tensor_specs(initial_state(agent, num_envs))
    obs = map_leaves(lambda x: tf.TensorSpec((num_envs, *x.shape), x.dtype), agent.spec.obs)
    return Compiled(act, state, obs, tf.TensorSpec((num_envs,), tf.bool), xla=uses_xla(agent))


def uses_xla(agent: Agent) -> bool:
    """Tells whether XLA compiles an agent's functions: yes, unless the agent says otherwise."""
    return getattr(agent, "xla", True)


def tensor_specs(structure: Any) -> Any:
    """Returns the shape and dtype of every tensor in a structure."""
    return tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), structure)


def is_learned(tag: str) -> bool:
    """Tells whether a metric is a mean over gradient steps; the others are means over chunks."""
    return tag.startswith(("loss/", "value/", "grad/", "model/"))


def not_compilable(message: str) -> str:
    """Returns what to do about a failure of XLA, naming what TensorFlow's message names."""
    found = re.search(r"on XLA_\w+: (\w+) \(.*?\{\{node ([^}]*)\}\}", message)
    what, node = found.groups() if found else (message.splitlines()[0], "")
    *_, layer = ["", *node.split("/")[:-1]]
    where = [f"layer {layer!r}"] if layer else []
    created = message.partition("The op is created at")[2].partition("tf2xla")[0]
    if lines := re.findall(r'File "(.*)", line (\d+), in (\w+)', created):
        where.append("{} line {}, in {}".format(*lines[-1]))
    place = f" ({', '.join(where)})" if where else ""
    return (
        f"XLA cannot compile {what}{place}. Whatever acts and learns is compiled, in both loops: "
        "write torsos and strategies in keras.ops or TensorFlow operations, without "
        "tf.py_function, tf.numpy_function or strings."
    )


def diverged(what: str, update: int) -> FloatingPointError:
    """Returns the error that ends a run in which numbers are no longer finite."""
    return FloatingPointError(
        f"The agent diverged: {what} at update {update}. The last checkpoint is good. A lower "
        "learning_rate, or smaller rewards, may help."
    )
