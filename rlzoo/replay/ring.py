"""A ring of observations and of what was done there, from which transitions are read."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.replay.memory import check_free, places, write, zeros
from rlzoo.replay.priorities import Priorities
from rlzoo.spaces import EnvSpec, items, leaves, map_leaves
from rlzoo.types import Chunk, Transitions


class Replay:
    """The last `capacity` observations, each stored once, and the steps that start at them.

    A row is an observation and, if a step was taken there, its action, reward and discount, and
    the row of its successor. An episode's end is a row of its own. So is the observation at hand:
    the next chunk's first step starts there. A transition of n steps is read by following the
    rows.

    Everything lives in `tf.Variable`s, updated in place inside compiled functions, so the cost
    of a call does not grow with the capacity. Observations keep the environment's dtype.

    Args:
        spec: the environment's `EnvSpec`.
        capacity: C, the number of observations kept, >= 1.
        beside: bytes that learning from them will take.
        priority_exponent: how much likelier a step is drawn whose TD error was large (Schaul et
            al. 2016); 0 draws evenly.

    Raises:
        ValueError: it would take more than 80 % of the memory that is free now.
    """

    def __init__(
        self, spec: EnvSpec, capacity: int, beside: int = 0, priority_exponent: float = 0.0
    ):
        if capacity < 1:
            raise ValueError(f"replay_capacity must be at least 1, received {capacity}.")
        check_free(self.predicted_bytes(spec, capacity), capacity, beside)
        self.capacity = capacity
        self.obs = map_leaves(lambda leaf: zeros((capacity, *leaf.shape), leaf.dtype), spec.obs)
        self.action = zeros((capacity, *spec.action.shape), spec.action_dtype)
        self.reward = zeros([capacity], "float32")
        self.discount = zeros([capacity], "float32")
        self.successor = zeros([capacity], "int32")  # its row
        # Of the step that starts there; -1 - i where none does, i being the next step's.
        self.number = zeros([capacity], "int64")
        self.row = zeros([capacity], "int32")  # of step i, at i % C
        self.written = zeros([], "int64")  # rows in all
        self.open = zeros([], "int64")  # the newest rows from which no step was taken yet
        self.added = zeros([], "int64")  # steps in all
        self.dropped = zeros([], "int64")  # those of them that are held no more
        self.priorities = Priorities(capacity, priority_exponent) if priority_exponent else None

    @staticmethod
    def predicted_bytes(spec: EnvSpec, capacity: int) -> int:
        """Returns the memory in bytes that a ring of `capacity` observations takes."""
        sizes = (math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in leaves(spec.obs))
        return capacity * (sum(sizes) + math.prod(spec.action.shape) * 4 + 2 * 4 + 2 * 4 + 8)

    @property
    def size(self) -> tf.Tensor:
        """The number of steps held, [] int64."""
        return self.added - self.dropped

    def add(self, chunk: Chunk) -> None:
        """Adds the valid steps of a chunk [T, N], overwriting the oldest."""
        length, num_envs = chunk.reward.shape
        self._check_fits(length * num_envs, num_envs)
        always = tf.ones(chunk.valid.shape, tf.bool)
        goes_on = (self.open == num_envs) & ~chunk.first[0] & chunk.valid[0]  # [N]
        ends = chunk.last[:-1] | chunk.first[1:] | ~chunk.valid[1:]  # [T - 1, N]
        ends = chunk.valid & tf.concat([ends, always[:1]], axis=0)  # [T, N]: its successor, and
        starts = chunk.valid & tf.concat([~goes_on[None], always[1:]], axis=0)  # it, get a row

        new = tf.stack([starts, ends], axis=1)  # [T, 2, N]: a step's rows in the order of time
        place = places(tf.reshape(new, [-1])) + self.written
        index = tf.cast(place % self.capacity, tf.int32)  # [T * 2 * N]
        row, end = tf.unstack(tf.reshape(index, new.shape), axis=1)  # of step and successor, [T, N]
        at_hand = (self.written - num_envs + tf.range(num_envs, dtype=tf.int64)) % self.capacity
        row = tf.concat([tf.where(goes_on, tf.cast(at_hand, tf.int32), row[0])[None], row[1:]], 0)
        successor = tf.where(ends, end, tf.concat([row[1:], end[-1:]], axis=0))
        valid = tf.reshape(chunk.valid, [-1])
        number = places(valid) + self.added  # [T * N]

        def put(rows, index, values, mask):
            index, mask = tf.reshape(index, [-1]), tf.reshape(mask, [-1])
            write(rows, index, tf.reshape(values, (-1, *rows.shape[1:])), mask)

        both = map_leaves(lambda *x: tf.stack(x, axis=1), chunk.obs, chunk.next_obs)
        map_leaves(lambda rows, values: put(rows, index, values, new), self.obs, both)
        put(self.action, row, chunk.action, valid)
        put(self.reward, row, chunk.reward, valid)
        put(self.discount, row, chunk.discount, valid)
        put(self.successor, row, successor, valid)
        so_far = self.added + tf.cumsum(tf.math.count_nonzero(chunk.valid, axis=1))  # [T]
        ahead = tf.broadcast_to(-1 - so_far[:, None], row.shape)
        numbers = tf.stack([tf.reshape(number, row.shape), ahead], axis=1)
        put(self.number, tf.stack([row, end], 1), numbers, tf.stack([chunk.valid, ends], 1))
        put(self.row, tf.cast(number % self.capacity, tf.int32), row, valid)
        written = self.written + tf.math.count_nonzero(new)
        # Read after it is written, or XLA copies the ring. In a chunk's first row, where some steps
        # start at rows of the chunk before, numbers may be out of order: so N more are dropped.
        oldest = tf.gather(self.number, written % self.capacity)
        oldest = tf.maximum(oldest, -1 - oldest) + num_envs
        dropped = tf.maximum(self.dropped, tf.where(written > self.capacity, oldest, 0))
        if self.priorities is not None:
            most = min(self.capacity, 2 * (length + 1) * num_envs)
            self.priorities.replace(self.dropped, dropped, number, valid, most)
        self.written.assign(written)
        self.open.assign(num_envs * tf.cast(tf.reduce_all(chunk.valid[-1]), tf.int64))
        self.added.assign_add(tf.math.count_nonzero(valid))
        self.dropped.assign(dropped)

    def draw(
        self, batch_size: int, seed: tf.Tensor, importance_exponent: tf.Tensor | float = 1.0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws steps that are held, with replacement.

        Args:
            batch_size: B.
            seed: [2] int32.
            importance_exponent: beta, 1 makes up for likelier draws in full, 0 not at all.

        Returns:
            Their numbers [B] int64, and the weights [B] by which to learn from them: all 1 for
            even draws; else (size * probability) ** -beta, the largest of the batch being 1.
        """
        if self.priorities is None:
            chosen = rng.integers(seed, [batch_size], self.size)
            return self.dropped + tf.cast(chosen, tf.int64), tf.ones([batch_size])
        place, probability = self.priorities.draw(batch_size, seed)
        weight = (tf.cast(self.size, tf.float32) * probability) ** -importance_exponent
        number = self.dropped + (tf.cast(place, tf.int64) - self.dropped) % self.capacity
        return number, weight / tf.reduce_max(weight)

    def read(self, number: tf.Tensor, n_step: int = 1, discount: float = 1.0) -> Transitions:
        """Returns steps, each with those that came after it.

        Args:
            number: [B] int64, from `draw`.
            n_step: how many steps a transition is long; fewer where the episode, or what is
                known of it, ends before.
            discount: gamma, between one of its steps and the next.

        Returns:
            Transitions of k steps: `reward` is the sum of gamma ** i * reward, `discount` is
            gamma ** (k - 1), or 0 if the last of them terminated; `next_obs` comes after it.
        """
        start = at = tf.gather(self.row, tf.cast(number % self.capacity, tf.int32))  # [B]
        reward, scale = tf.gather(self.reward, at), tf.gather(self.discount, at)
        at = tf.gather(self.successor, at)
        for _ in range(n_step - 1):
            goes_on = tf.gather(self.number, at) >= 0
            further = discount * scale
            reward += tf.where(goes_on, further * tf.gather(self.reward, at), 0.0)
            scale = tf.where(goes_on, further * tf.gather(self.discount, at), scale)
            at = tf.where(goes_on, tf.gather(self.successor, at), at)
        return Transitions(
            obs=map_leaves(lambda rows: tf.gather(rows, start), self.obs),
            action=tf.gather(self.action, start),
            reward=reward,
            discount=scale,
            next_obs=map_leaves(lambda rows: tf.gather(rows, at), self.obs),
        )

    def sample(self, batch_size: int, seed: tf.Tensor) -> Transitions:
        """Returns `batch_size` transitions of one step, as `draw` draws them."""
        return self.read(self.draw(batch_size, seed)[0])

    def prioritize(self, number: tf.Tensor, error: tf.Tensor) -> None:
        """Lets the steps of these numbers [B] be drawn by their TD errors [B] from now on."""
        if self.priorities is not None:
            self.priorities.set(tf.cast(number % self.capacity, tf.int32), error)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        names = ("action", "reward", "discount", "successor", "number", "row")
        counts = ("written", "open", "added", "dropped")
        fields: dict[str, Any] = {name: getattr(self, name) for name in (*names, *counts)}
        named = dict(items({"obs": self.obs, **fields}))
        if self.priorities is not None:
            named |= {f"priorities/{k}": v for k, v in self.priorities.variables().items()}
        return named

    def _check_fits(self, steps: int, num_envs: int) -> None:
        least = 2 * steps + num_envs  # each may end an episode; and the observations at hand
        if self.capacity < least:
            raise ValueError(
                f"A chunk of {steps} steps, each of which may end an episode, does not fit "
                f"replay_capacity={self.capacity}: raise it to {least} or more, or lower "
                "train_every or num_envs."
            )
