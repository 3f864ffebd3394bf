"""Acting in NumPy: for a small dense network a compiled call costs more than its arithmetic.

It mirrors `ScoreActor.act`. Weights, rates and random draws
come out of the compiled update, once per chunk.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, ScoreActor
from rlzoo.exploration import EXPLORATIONS
from rlzoo.networks.preprocessing import Preprocess
from rlzoo.ops import rng
from rlzoo.spaces import Box

_MAX_WEIGHTS = 100_000  # beyond, the arithmetic outweighs the call
_ZERO = np.float32(0.0)
# What each activation does, in place.
_ACTIVATIONS: dict[Callable, Callable[[np.ndarray], np.ndarray]] = {
    keras.activations.linear: lambda x: x,
    keras.activations.relu: lambda x: np.maximum(x, _ZERO, out=x),
    keras.activations.tanh: lambda x: np.tanh(x, x),
}
_LINEAR = _ACTIVATIONS[keras.activations.linear]


class NumpyActor:
    """Acts as the agent's compiled `act` does, for networks of dense layers.

    Args:
        agent: whose network and strategy fit (see `fits`).
        num_envs: N.
    """

    def __init__(self, agent: Any, num_envs: int):
        self._agent = agent
        self._num_envs = num_envs
        self._strategy: Any = agent.actor.exploration  # one of ours: it has `probabilities`
        self._layers = _dense_layers(agent.actor.network) or []
        self._variables = [w for layer, _ in self._layers for w in (layer.kernel, layer.bias)]
        self._rate_names = list(self._strategy.rates(tf.zeros([], tf.int64)))
        # The parts of what `pack` returns: draws, then kernel and bias of each layer.
        shapes = [(agent.chunk_length, num_envs), *(tuple(w.shape) for w in self._variables)]
        ends = np.cumsum([len(self._rate_names), *map(math.prod, shapes)]).tolist()
        self._parts = list(zip(itertools.pairwise(ends), shapes, strict=True))
        self._forward: list[
            tuple[np.ndarray, np.ndarray, Callable]
        ] = []  # kernel, bias, activation
        self.packed = np.zeros(0, np.float32)  # what was unpacked last
        self._rates: dict[str, float] = {}
        self._draws = np.zeros((0, num_envs), np.float32)
        self._rows = np.arange(num_envs)

    @staticmethod
    def fits(agent: Agent) -> bool:
        """Tells whether an agent's network and strategy have a mirror in NumPy."""
        actor = agent.actor
        return (
            isinstance(actor, ScoreActor)
            and type(actor.exploration) in EXPLORATIONS.values()
            and hasattr(actor.exploration, "probabilities")
            and agent.spec.frames == 1
            and isinstance(agent.spec.obs, Box)
            and np.dtype(agent.spec.obs.dtype).kind == "f"
            and _dense_layers(actor.network) is not None
            and actor.network.count_params() <= _MAX_WEIGHTS
        )

    def pack(self, step: tf.Tensor, acts: tf.Tensor, stream: tf.Tensor) -> tf.Tensor:
        """Returns, in a compiled function, what the next chunk needs as one float32 vector."""
        length, num_envs = self._agent.chunk_length, self._num_envs
        rates = [self._strategy.rates(step)[name] for name in self._rate_names]
        draws = tf.map_fn(
            lambda t: rng.uniform(rng.fold_in(stream, acts + t), [num_envs]),
            tf.range(length, dtype=tf.int64),
            fn_output_signature=tf.TensorSpec((num_envs,), tf.float32),
        )
        weights = [tf.convert_to_tensor(variable) for variable in self._variables]
        return tf.concat([tf.reshape(x, [-1]) for x in (*rates, draws, *weights)], axis=0)

    def unpack(self, packed: np.ndarray) -> None:
        """Takes what `pack` returned for the chunk to come."""
        self.packed = packed
        self._rates = dict(
            zip(self._rate_names, packed[: len(self._rate_names)].tolist(), strict=True)
        )
        parts = [packed[start:end].reshape(shape) for (start, end), shape in self._parts]
        self._draws, weights = parts[0] * np.float32(rng.ONE_BELOW), parts[1:]
        activations = [activation for _, activation in self._layers]
        self._forward = list(zip(weights[::2], weights[1::2], activations, strict=True))

    @np.errstate(over="ignore", invalid="ignore")  # the metrics tell when an agent diverges
    def __call__(self, obs: np.ndarray, t: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns actions [N] int32 and what acting knew, for row t of the chunk."""
        # Here microseconds count: methods and ufuncs without NumPy's own wrappers around them.
        scores = obs
        if obs.ndim != 2 or obs.dtype != np.float32:
            scores = obs.reshape(len(obs), -1).astype(np.float32)
        for kernel, bias, activation in self._forward:
            scores = scores.dot(kernel)
            scores += bias
            scores = activation(scores)
        probs = self._strategy.probabilities(scores, **self._rates)  # [N, A]
        cumulative = np.add.accumulate(probs, axis=-1)
        threshold = self._draws[t] * cumulative[:, -1]
        action = (cumulative > threshold[:, None]).argmax(axis=-1)
        log_prob = np.log(probs[self._rows, action])
        return action.astype(np.int32), {"log_prob": log_prob, "scores": scores}


def _dense_layers(network: keras.Model) -> list[tuple[Any, Callable]] | None:
    """Returns (Dense layer, activation) in order, None if the network has anything else."""
    found: list[list[Any]] = []
    flat = len(network.inputs[0].shape) <= 2
    for layer in _leaves(network):
        kind = type(layer)  # a subclass may do anything
        if kind in (keras.layers.InputLayer, keras.layers.Flatten, Preprocess):
            flat = flat or kind is keras.layers.Flatten
            continue
        if not flat or kind not in (keras.layers.Dense, keras.layers.Activation):
            return None
        activation = _ACTIVATIONS.get(layer.activation)
        if activation is None:
            return None
        if kind is keras.layers.Dense:
            if not layer.use_bias:
                return None
            found.append([layer, activation])
        elif not found or found[-1][1] is not _LINEAR:
            return None
        else:
            found[-1][1] = activation
    return [(layer, activation) for layer, activation in found] or None


def _leaves(model: Any) -> list[Any]:
    """Returns the layers of a network in the order of computation; nested models opened."""
    leaves = []
    for layer in model.layers:
        if type(layer) is keras.Sequential:
            leaves += _leaves(layer)
        else:
            leaves.append(layer)
    return leaves
