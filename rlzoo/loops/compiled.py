"""Calls of compiled functions."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from rlzoo import compile_cache, quiet
from rlzoo.agents import Agent, Mode
from rlzoo.loops.base import Acting, initial_acting
from rlzoo.loops.naming import named_by_text
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT
from rlzoo.spaces import map_leaves


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


def compile_act(
    agent: Agent, num_envs: int, seed: int, mode: Mode, record: bool = False
) -> Compiled:
    """Compiles (Acting, step, obs, first) -> (action, Acting), or (action, extras, Acting).

    Args:
        agent: whose actor acts.
        num_envs: N.
        seed: of the run.
        mode: how to act.
        record: whether to return what acting knew, too.
    """
    stream, actor = rng.fold_in(rng.from_int(seed), ACT), agent.actor

    def act(acting: Acting, step, obs, first):
        seed = rng.fold_in(stream, acting.acts)
        action, extras, state = actor.act(acting.actor, obs, first, step, seed, mode)
        acting = Acting(state, acting.acts + 1)
        return (action, extras, acting) if record else (action, acting)

    acting = tensor_specs(initial_acting(agent, num_envs))
    obs = map_leaves(lambda x: tf.TensorSpec((num_envs, *x.shape), x.dtype), agent.spec.obs)
    step, first = tf.TensorSpec((), tf.int64), tf.TensorSpec((num_envs,), tf.bool)
    return Compiled(act, acting, step, obs, first, xla=agent.traits.xla)


def tensor_specs(structure: Any) -> Any:
    """Returns the shape and dtype of every tensor in a structure."""
    return tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), structure)


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
