"""The learner of the host loop: one compiled call that learns from collected chunks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.loops.base import (
    Learning,
    chunk_fields,
    diverged,
    initial_acting,
    initial_learning,
    learn,
)
from rlzoo.loops.compiled import Compiled, tensor_specs
from rlzoo.loops.light import NumpyActor
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT, UPDATE
from rlzoo.spaces import Layout, map_leaves
from rlzoo.types import Chunk, Memory


class Collected(NamedTuple):
    """A chunk on the way from a collector to a learner: arrays or tensors."""

    rows: Any  # uint8, as `Packing` lays them out
    start: Any  # the tensors of a `Memory`, before the first row
    version: Any  # [] int64, updates of the learner before the weights that acted
    acting: Any  # the tensors of an `Acting`, after the last row


class Packing:
    """Lays the rows of a chunk out in one array of bytes.

    Handing an array over to TensorFlow costs as much as a layer of a small network: so one, not
    nine.

    Args:
        agent: whose chunks they are.
        num_envs: N.
    """

    def __init__(self, agent: Agent, num_envs: int):
        self._layout = Layout(chunk_fields(agent, num_envs))
        self.num_bytes = self._layout.num_bytes

    def views(self, rows: np.ndarray) -> Chunk:
        """Returns the fields as views of an array of `num_bytes` uint8."""
        return Chunk(**self._layout.views(rows))

    def unpack(self, rows: tf.Tensor) -> Chunk:
        """Returns the fields of such an array, in a compiled function."""

        def read(part: tuple[int, int, tuple[int, ...], np.dtype]):
            start, end, shape, dtype = part
            piece = rows[start:end]
            if dtype == np.bool_:
                return tf.reshape(piece, shape) != 0
            if dtype.itemsize > 1:
                piece = tf.reshape(piece, (-1, dtype.itemsize))
            return tf.reshape(tf.bitcast(piece, dtype), shape)

        return Chunk(**map_leaves(read, self._layout.parts))


class Learner:
    """Lets an agent learn from what one collector has collected, or several.

    Args:
        agent: which learns.
        num_envs: environments of each collector.
        seed: of the run.
        light: what acts in NumPy for the only collector, if anything: it gets what it needs for
            the next chunk from the same call.
    """

    def __init__(
        self, agent: Agent, num_envs: Sequence[int], seed: int, light: NumpyActor | None = None
    ):
        self.agent = agent
        self._num_envs = tuple(num_envs)
        self._seed = rng.from_int(seed)
        self._light = light
        self._tags: list[str] = []  # of the metrics, known when it is compiled
        self.state = initial_learning(agent, sum(num_envs))

    @property
    def state(self) -> Learning:
        """What is carried from chunk to chunk."""
        return tf.nest.pack_sequence_as(self._structure, self._tensors)

    @state.setter
    def state(self, state: Learning) -> None:
        self._structure = state
        self._tensors = tf.nest.flatten(state)

    @property
    def step(self) -> tf.Tensor:
        """[] int64, environment steps learned from."""
        return self._tensors[-2]

    @property
    def version(self) -> tf.Tensor:
        """[] int64, how often it has learned."""
        return self._tensors[-1]

    def compile(self) -> None:
        """Prepares the update; XLA compiles it when it is first called."""
        agent = self.agent
        packings = [Packing(agent, n) for n in self._num_envs]

        def update(learning: Learning, collected: list[Collected]):
            chunks, states, shown = [], [], []
            for packing, n, one in zip(packings, self._num_envs, collected, strict=True):
                version = tf.fill([n], one.version)
                start, acting = one.start, one.acting
                chunk = packing.unpack(one.rows)._replace(start=start, version=version)
                state, told = agent.actor.observe(acting.actor, chunk, learning.step)
                chunks.append(chunk)
                states.append(acting._replace(actor=state))
                shown.append(told)
            seed = rng.fold_in(rng.fold_in(self._seed, UPDATE), learning.chunks)
            learning, metrics = learn(agent, learning, side_by_side(chunks), seed)
            metrics |= {tag: tf.add_n([x[tag] for x in shown]) / len(shown) for tag in shown[0]}
            self._tags[:] = sorted(metrics)
            values = tf.stack([tf.cast(metrics[tag], tf.float32) for tag in self._tags])
            if self._light is not None:
                [acting] = states
                acting = acting._replace(acts=acting.acts + rows_taken(chunks[0].valid))
                stream = rng.fold_in(self._seed, ACT)
                packed = self._light.pack(learning.step, acting.acts, stream)
                values, states = tf.concat([values, packed], axis=0), [acting]
            return values, learning, states

        actings = [tensor_specs(initial_acting(agent, n)) for n in self._num_envs]
        self._sizes = [len(tf.nest.flatten(acting)) for acting in actings]
        number = tf.TensorSpec([], tf.int64)
        collected = [
            Collected(
                tf.TensorSpec([packing.num_bytes], tf.uint8), acting.actor.memory, number, acting
            )
            for packing, acting in zip(packings, actings, strict=True)
        ]
        learning = tensor_specs(self.state)
        self._update = Compiled(update, learning, collected, xla=agent.traits.xla)

    def learn(
        self, collected: Sequence[Collected]
    ) -> tuple[dict[str, float], list[list[tf.Tensor]], np.ndarray]:
        """Learns from one chunk of each collector.

        Returns:
            The metrics; `acting` of each collector to go on with; what `light` needs, if it is
            there.

        Raises:
            FloatingPointError: a metric is not finite.
        """
        tensors = list(self._tensors)
        for one in collected:
            tensors += [one.rows, *one.start, one.version, *one.acting]
        values, *tensors = self._update(*tensors)
        count = len(self._tensors)
        self._tensors, tensors = tensors[:count], tensors[count:]
        values = values.numpy()
        numbers = values[: len(self._tags)]
        metrics = dict(zip(self._tags, numbers.tolist(), strict=True))
        if not np.isfinite(numbers).all():
            bad = {tag: value for tag, value in metrics.items() if not np.isfinite(value)}
            raise diverged(str(bad), int(self.version))
        actings = []
        for size in self._sizes:
            actings.append(tensors[:size])
            tensors = tensors[size:]
        return metrics, actings, values[len(self._tags) :]


def rows_taken(valid: tf.Tensor) -> tf.Tensor:
    """Returns in how many rows [T, N] of a chunk any environment took a step, [] int64."""
    return tf.math.count_nonzero(tf.reduce_any(valid, axis=1))


def side_by_side(chunks: Sequence[Chunk]) -> Chunk:
    """Returns chunks of several collectors as one of all their environments."""
    if len(chunks) == 1:
        return chunks[0]
    per_env = [chunk._replace(start=Memory(), version=()) for chunk in chunks]
    rows = tf.nest.map_structure(lambda *x: tf.concat(x, axis=1), *per_env)
    start, version = (
        tf.nest.map_structure(lambda *x: tf.concat(x, axis=0), *parts)
        for parts in zip(*((chunk.start, chunk.version) for chunk in chunks), strict=True)
    )
    return rows._replace(start=start, version=version)
