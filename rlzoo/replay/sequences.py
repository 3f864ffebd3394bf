"""A ring of sequences, each with the recurrent state that it began with."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.replay.memory import check_free, places, write, zeros
from rlzoo.spaces import EnvSpec, items, leaves, map_leaves
from rlzoo.types import Chunk, Sequences


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
        seen = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in leaves(spec.obs))
        remembered = 4 * sum(math.prod(x.shape) for x in state)
        per_step = 2 * seen + 4 * math.prod(spec.action.shape) + 2 * 4 + 2
        check_free(self.capacity * (length * per_step + remembered), capacity, beside)
        obs = map_leaves(lambda x: (x.shape, x.dtype), spec.obs)
        number, truth = ((), "float32"), ((), "bool")
        action = spec.action.shape, spec.action_dtype
        fields = obs, action, number, number, obs, truth, truth

        def ring(shape, dtype):
            return zeros((self.capacity, *shape), dtype)

        rows = (map_leaves(lambda x: ring((length, *x[0]), x[1]), field) for field in fields)
        self.rows = Sequences(*rows, state=tuple(ring(x.shape[1:], "float32") for x in state))
        self.written = zeros([], "int64")  # sequences in all

    @property
    def size(self) -> tf.Tensor:
        """The number of transitions held, [] int64."""
        return tf.minimum(self.written, self.capacity) * self.length

    @property
    def added(self) -> tf.Tensor:
        """The number of transitions added in all, [] int64."""
        return self.written * self.length

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
        valid = tf.reduce_any(chunk.valid, axis=0)  # [N]
        index = (self.written + places(valid)) % self.capacity
        for ring, values in zip(
            tf.nest.flatten(rows), tf.nest.flatten([*sequences, *state]), strict=True
        ):
            write(ring, index, values, valid)
        self.written.assign_add(tf.math.count_nonzero(valid))

    def draw(
        self, batch_size: int, seed: tf.Tensor, importance_exponent: tf.Tensor | float = 1.0
    ) -> tuple[tf.Tensor, float]:
        """Returns numbers of as many sequences as `batch_size` steps hold, at least of one.

        They are drawn evenly, with replacement, so there is nothing for weights to make up for:
        these are 1, and `importance_exponent` is not needed.
        """
        count = max(1, batch_size // self.length)
        return rng.integers(seed, [count], tf.minimum(self.written, self.capacity)), 1.0

    def read(self, number: tf.Tensor, n_step: int = 1, discount: float = 1.0) -> Sequences:
        """Returns sequences by their numbers. `n_step` must be 1: `check_sequences`."""
        batch = tf.nest.map_structure(lambda row: tf.gather(row, number), self.rows)
        steps = {k: map_leaves(_swap, x) for k, x in batch._asdict().items() if k != "state"}
        return Sequences(**steps, state=batch.state)

    def prioritize(self, number: tf.Tensor, error: tf.Tensor) -> None:
        """Does nothing: all sequences are as likely."""

    def sample(self, batch_size: int, seed: tf.Tensor) -> Sequences:
        """Returns sequences as `draw` draws them."""
        return self.read(self.draw(batch_size, seed)[0])

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        rows = self.rows._asdict()
        states = {f"state/{i}": row for i, row in enumerate(rows.pop("state"))}
        return {**dict(items(rows)), **states, "written": self.written}


def check_sequences(config: Any) -> None:
    """Raises a `ValueError` for what does not suit sequences of `train_every` steps.

    Args:
        config: with `train_every`, `batch_size`, `replay_capacity`, `learning_starts`, and what
            is for single steps alone: `n_step` and `priority_exponent`.
    """
    length, held = config.train_every, config.replay_capacity
    for name, value in (("n_step", 1), ("priority_exponent", 0.0)):
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}={getattr(config, name)} is for torsos without memory: a recurrent one "
                f"learns from whole sequences. Leave {name} at {value}."
            )
    if config.batch_size < length:
        raise ValueError(
            f"batch_size={config.batch_size} is less than one sequence of train_every={length} "
            "steps, which a recurrent torso learns from: raise batch_size to several times "
            "train_every, or lower train_every."
        )
    if config.learning_starts > held // length * length:
        raise ValueError(
            f"learning_starts={config.learning_starts} is more than the {held // length * length} "
            f"steps that replay_capacity={held} holds in whole sequences of train_every={length}: "
            "lower learning_starts, or raise replay_capacity."
        )


def _swap(x: tf.Tensor) -> tf.Tensor:
    """Returns [N, T, ...] of [T, N, ...], and back."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
