"""Experience replay: rings of transitions, or of sequences of them, in TensorFlow variables.

Lin 1992, https://doi.org/10.1007/BF00992699.
"""

import math
from typing import Any

import numpy as np
import psutil
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.spaces import EnvSpec, items, leaves, map_leaves
from rlzoo.types import Chunk, Sequences, Transitions


class Replay:
    """The last `capacity` transitions, sampled uniformly with replacement.

    Everything lives in `tf.Variable`s, updated in place inside compiled functions, so the cost
    of a call does not grow with the capacity. Observations keep the environment's dtype.

    Args:
        spec: the environment's `EnvSpec`.
        capacity: number of transitions kept, >= 1.
        beside: bytes that learning from them will take.

    Raises:
        ValueError: both would take more than 80 % of the memory that is free now.
    """

    def __init__(self, spec: EnvSpec, capacity: int, beside: int = 0):
        if capacity < 1:
            raise ValueError(f"replay_capacity must be at least 1, received {capacity}.")
        _check_memory(self.predicted_bytes(spec, capacity), capacity, beside)
        self.capacity = capacity
        obs = map_leaves(lambda x: ((capacity, *x.shape), x.dtype), spec.obs)
        number = ((capacity,), "float32")
        action = ((capacity, *spec.action.shape), spec.action_dtype)
        fields = Transitions(obs, action, number, number, obs)

        def ring(field):
            return tf.Variable(tf.zeros(*field), trainable=False)

        self.rows = Transitions._make(map_leaves(ring, field) for field in fields)
        self.added = tf.Variable(0, dtype=tf.int64, trainable=False)  # in all, not capped

    @staticmethod
    def predicted_bytes(spec: EnvSpec, capacity: int) -> int:
        """Returns the memory in bytes that a ring of `capacity` transitions takes."""
        sizes = (math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in leaves(spec.obs))
        obs, action = sum(sizes), math.prod(spec.action.shape) * 4
        return capacity * (2 * obs + action + 2 * 4)

    @property
    def size(self) -> tf.Tensor:
        """The number of transitions held, [] int64."""
        return tf.minimum(self.added, self.capacity)

    def add(self, chunk: Chunk) -> None:
        """Adds the valid steps of a chunk [T, N], overwriting the oldest."""
        count = chunk.reward.shape[0] * chunk.reward.shape[1]
        if count > self.capacity:
            raise ValueError(
                f"A chunk of {count} steps does not fit replay_capacity={self.capacity}: "
                "raise the capacity, or lower train_every or num_envs."
            )
        steps = [getattr(chunk, field) for field in Transitions._fields]
        _write(self, self.rows, steps, tf.reshape(chunk.valid, [count]))

    def sample(self, batch_size: int, seed: tf.Tensor) -> Transitions:
        """Returns `batch_size` transitions, each drawn uniformly from those held."""
        index = rng.integers(seed, [batch_size], self.size)
        return tf.nest.map_structure(lambda row: tf.gather(row, index), self.rows)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        return {**_named(self.rows._asdict()), "added": self.added}


class SequenceReplay:
    """The last sequences of `length` steps, sampled uniformly with replacement.

    A sequence is what one environment did in one chunk, with the recurrent state it began with
    (Kapturowski et al. 2019), so it may start anywhere in an episode.

    Args:
        spec: the environment's `EnvSpec`.
        capacity: number of transitions kept, at least `length`; of whole sequences.
        length: T, steps of a sequence.
        state: the recurrent state of one environment, a tuple of [1, ...].
        beside: bytes that learning from them will take.

    Raises:
        ValueError: not even one sequence fits, or both would take more than 80 % of the memory
            that is free now.
    """

    def __init__(self, spec: EnvSpec, capacity: int, length: int, state: tuple, beside: int = 0):
        if capacity < length:
            raise ValueError(
                f"replay_capacity={capacity} holds no sequence of train_every={length} steps: "
                "raise the capacity, or lower train_every."
            )
        self.capacity = capacity // length  # of sequences
        self.length = length
        remembered = sum(int(np.prod(x.shape)) for x in state)
        wanted = Replay.predicted_bytes(spec, 1) + 2 + -(-4 * remembered // length)  # per step
        _check_memory(wanted * capacity, capacity, beside)
        obs = map_leaves(lambda x: (x.shape, x.dtype), spec.obs)
        number, truth = ((), "float32"), ((), "bool")
        action = spec.action.shape, spec.action_dtype
        fields = obs, action, number, number, obs, truth, truth

        def ring(shape, dtype):
            return tf.Variable(tf.zeros((self.capacity, *shape), dtype), trainable=False)

        rows = (map_leaves(lambda x: ring((length, *x[0]), x[1]), field) for field in fields)
        self.rows = Sequences(*rows, state=tuple(ring(x.shape[1:], "float32") for x in state))
        self.added = tf.Variable(0, dtype=tf.int64, trainable=False)  # sequences in all

    @property
    def size(self) -> tf.Tensor:
        """The number of transitions held, [] int64."""
        return tf.minimum(self.added, self.capacity) * self.length

    def add(self, chunk: Chunk, *state: tf.Tensor) -> None:
        """Adds a chunk [T, N] as N sequences, overwriting the oldest, but for those all padding.

        Args:
            chunk: T is the length of the sequences.
            state: the recurrent state before it, each part of it [N, ...].
        """
        count = chunk.reward.shape[1]
        if count > self.capacity:
            raise ValueError(
                f"The sequences of {count} environments, {self.length} steps each, do not fit "
                f"replay_capacity={self.capacity * self.length}: raise the capacity, or lower "
                "train_every or num_envs."
            )
        names = (name for name in Sequences._fields if name != "state")
        sequences = [map_leaves(_swap, getattr(chunk, name)) for name in names]  # [N, T, ...]
        rows = [*self.rows[:-1], *self.rows.state]
        _write(self, rows, [*sequences, *state], tf.reduce_any(chunk.valid, axis=0))

    def sample(self, batch_size: int, seed: tf.Tensor) -> Sequences:
        """Returns as many sequences as `batch_size` steps hold, at least one, drawn uniformly."""
        count = max(1, batch_size // self.length)
        index = rng.integers(seed, [count], tf.minimum(self.added, self.capacity))
        batch = tf.nest.map_structure(lambda row: tf.gather(row, index), self.rows)
        steps = {k: map_leaves(_swap, x) for k, x in batch._asdict().items() if k != "state"}
        return Sequences(**steps, state=batch.state)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        rows = self.rows._asdict()
        states = {f"state/{i}": row for i, row in enumerate(rows.pop("state"))}
        return {**_named(rows), **states, "added": self.added}


def _named(rows: dict[str, Any]) -> dict[str, tf.Variable]:
    """Returns the rings by name; of a nested observation "obs/camera"."""
    return dict(items(rows))


def _write(ring: Replay | SequenceReplay, rows, new, valid: tf.Tensor) -> None:
    """Writes those of the new rows [B, ...] that are `valid` [B] to the next places of a ring."""
    num_valid = tf.math.count_nonzero(valid)
    # Valid rows take the next places in order; the others come after them and write back what is
    # there.
    among_valid = tf.cumsum(tf.cast(valid, tf.int64), exclusive=True)
    among_others = tf.cumsum(tf.cast(~valid, tf.int64), exclusive=True)
    place = tf.where(valid, among_valid, num_valid + among_others)
    index = (ring.added + place) % ring.capacity  # [B]
    for row, values in zip(tf.nest.flatten(rows), tf.nest.flatten(new), strict=True):
        values = tf.reshape(values, (-1, *row.shape[1:]))
        mask = tf.reshape(valid, (-1, *[1] * (len(row.shape) - 1)))
        row.scatter_nd_update(index[:, None], tf.where(mask, values, tf.gather(row, index)))
    ring.added.assign_add(num_valid)


def _swap(x: tf.Tensor) -> tf.Tensor:
    """Returns [N, T, ...] of [T, N, ...], and back."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def _check_memory(wanted: int, capacity: int, beside: int) -> None:
    free = psutil.virtual_memory().available
    if wanted + beside > 0.8 * free:
        fitting = int((0.8 * free - beside) * capacity / wanted)
        advice = f"lower replay_capacity to {fitting} or less"
        if fitting < 1:
            advice = "lower batch_size, or take a smaller torso"
        raise ValueError(
            f"replay_capacity={capacity} needs {wanted / 2**20:.0f} MiB, and learning from it "
            f"{beside / 2**20:.0f} MiB, together more than 80 % of the {free / 2**20:.0f} MiB that "
            f"are free: {advice}."
        )
