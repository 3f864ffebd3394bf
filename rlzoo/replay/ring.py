"""A ring of observations and of what was done there, from which steps and sequences are read."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.ops import rng, stacks
from rlzoo.replay.memory import check_free, places, write, zeros
from rlzoo.replay.priorities import Priorities
from rlzoo.spaces import EnvSpec, Mask, items, leaves, map_leaves
from rlzoo.types import Chunk, Sequences, Transitions

_LARGEST = 0.9  # share of the largest error in a sequence's priority, the mean has the rest


class Replay:
    """The last `capacity` observations, each stored once, and the steps that start at them.

    A row is an observation and, if a step was taken there, its action, reward and discount, and
    the row of its successor. An episode's end is a row of its own. So is the observation at hand:
    the next chunk's first step starts there. A transition of n steps is read by following the
    rows; a stack of frames, `spec.frames` of them, by following them backwards.

    What is drawn is a window of rows: one step; or a sequence, what one environment did in one
    chunk, with the recurrent state it began with (Kapturowski et al. 2019,
    https://openreview.net/forum?id=r1lyTjAqYX), so it may begin anywhere in an episode. A window
    is held as long as all its rows are, and those of the frames before it.

    Everything lives in `tf.Variable`s, updated in place inside compiled functions, so the cost
    of a call does not grow with the capacity. Observations keep the environment's dtype.

    Args:
        spec: the environment's `EnvSpec`.
        capacity: C, the number of observations kept, >= 1.
        beside: bytes that learning from them will take.
        priority_exponent: how much likelier a window is drawn whose TD error was large (Schaul et
            al. 2016); 0 draws evenly.
        length: L, the steps of a chunk, for sequences of them; None for single steps.
        state: the recurrent state of one environment, a tuple of [1, ...] float32.

    Raises:
        ValueError: not even one sequence fits, or it would take more than 80 % of the memory that
            is free now.
    """

    def __init__(
        self,
        spec: EnvSpec,
        capacity: int,
        beside: int = 0,
        priority_exponent: float = 0.0,
        length: int | None = None,
        state: tuple = (),
    ):
        if capacity < 1:
            raise ValueError(f"replay_capacity must be at least 1, received {capacity}.")
        self.spec = spec
        self.capacity = capacity
        self.sequences = length is not None
        self.length = length or 1  # of a window
        if self.sequences:
            self._check_fits(self.length, 1)
        wanted = self.predicted_bytes(spec, capacity, self.length, state)
        check_free(wanted, capacity, beside)
        self.obs = map_leaves(lambda leaf: zeros((capacity, *leaf.shape), leaf.dtype), spec.obs)
        self.action = zeros((capacity, *spec.action.shape), spec.action_dtype)
        self.reward = zeros([capacity], "float32")
        self.discount = zeros([capacity], "float32")
        self.successor = zeros([capacity], "int32")  # its row
        # The row of the observation before; its own where an episode begins. For stacks only.
        self.before = zeros([capacity], "int32") if spec.frames > 1 else None
        # Of the window that a step there is in; -1 - i where none starts, i being the next one's.
        self.number = zeros([capacity], "int64")
        self.most = capacity // self.length  # W, windows held at once
        self.window = zeros([self.most, self.length], "int32")  # window i's, at i % W; -1: none
        self.state = tuple(zeros((self.most, *x.shape[1:]), "float32") for x in state)
        self.written = zeros([], "int64")  # rows in all
        self.open = zeros([], "int64")  # the newest rows from which no step was taken yet
        self.added = zeros([], "int64")  # windows in all
        self.dropped = zeros([], "int64")  # those of them that are held no more
        self.priorities = Priorities(self.most, priority_exponent) if priority_exponent else None

    @staticmethod
    def predicted_bytes(spec: EnvSpec, capacity: int, length: int = 1, state: tuple = ()) -> int:
        """Returns the memory in bytes that a ring of `capacity` observations takes."""
        sizes = (math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in leaves(spec.obs))
        row = sum(sizes) + math.prod(spec.action.shape) * 4 + 2 * 4 + 4 + 8
        row += 4 * (spec.frames > 1)
        window = 4 * length + 4 * sum(math.prod(x.shape) for x in state)
        return capacity * row + capacity // length * window

    @property
    def size(self) -> tf.Tensor:
        """The number of windows held, [] int64."""
        return self.added - self.dropped

    @property
    def steps(self) -> tf.Tensor:
        """The number of steps added in all, [] int64; a sequence counts as whole."""
        return self.added * self.length

    def add(self, chunk: Chunk, *state: tf.Tensor) -> None:
        """Adds the valid steps of a chunk [T, N], overwriting the oldest.

        Args:
            chunk: of single observations, also where stacks are read; for sequences T is L.
            state: the recurrent state before it, each part of it [N, ...].
        """
        length, num_envs = chunk.reward.shape
        if self.sequences and length != self.length:
            raise ValueError(f"Expected chunks of {self.length} steps, received one of {length}.")
        self._check_fits(length * num_envs, num_envs)
        always = tf.ones(chunk.valid.shape, tf.bool)
        at_hand = (self.written - num_envs + tf.range(num_envs, dtype=tf.int64)) % self.capacity
        at_hand = tf.cast(at_hand, tf.int32)  # [N], if there is one of each environment
        goes_on = (self.open == num_envs) & ~chunk.first[0] & chunk.valid[0]  # [N]
        ends = chunk.last[:-1] | chunk.first[1:] | ~chunk.valid[1:]  # [T - 1, N]
        ends = chunk.valid & tf.concat([ends, always[:1]], axis=0)  # [T, N]: its successor, and
        if self.before is not None:
            # A row for each at hand, also where none was reached: else one environment that fails
            # would part the others from their frames.
            goes_on &= tf.gather(self.before, at_hand) != at_hand
            ends = tf.concat([ends[:-1], always[:1]], axis=0)
        starts = chunk.valid & tf.concat([~goes_on[None], always[1:]], axis=0)  # it, get a row

        new = tf.stack([starts, ends], axis=1)  # [T, 2, N]: a step's rows in the order of time
        reached = new if self.before is None else new & chunk.valid[:, None]
        place = places(tf.reshape(new, [-1])) + self.written
        index = tf.cast(place % self.capacity, tf.int32)  # [T * 2 * N]
        row, end = tf.unstack(tf.reshape(index, new.shape), axis=1)  # of step and successor, [T, N]
        row = tf.concat([tf.where(goes_on, at_hand, row[0])[None], row[1:]], axis=0)
        successor = tf.where(ends, end, tf.concat([row[1:], end[-1:]], axis=0))
        groups = tf.reshape(chunk.valid, [-1, self.length, num_envs])  # [G, L, N]
        taken = tf.reduce_any(groups, axis=1)  # [G, N]: windows that are not all padding
        valid = tf.reshape(taken, [-1])
        number = places(valid) + self.added  # [G * N]

        def put(rows, index, values, mask):
            index, mask = tf.reshape(index, [-1]), tf.reshape(mask, [-1])
            write(rows, index, tf.reshape(values, (-1, *rows.shape[1:])), mask)

        both = map_leaves(lambda *x: tf.stack(x, axis=1), chunk.obs, chunk.next_obs)
        map_leaves(lambda rows, values: put(rows, index, values, reached), self.obs, both)
        put(self.action, row, chunk.action, chunk.valid)
        put(self.reward, row, chunk.reward, chunk.valid)
        put(self.discount, row, chunk.discount, chunk.valid)
        put(self.successor, row, successor, chunk.valid)
        if self.before is not None:
            begins = tf.concat([always[:1], ends[:-1] | ~chunk.valid[:-1]], axis=0)
            before = tf.where(begins, row, tf.concat([row[:1], row[:-1]], axis=0))
            before = tf.stack([before, tf.where(chunk.valid, row, end)], axis=1)
            put(self.before, index, before, new)
        so_far = self.added + tf.cumsum(tf.math.count_nonzero(taken, axis=1))  # [G]
        ahead = tf.broadcast_to(-1 - so_far[:, None], taken.shape)
        numbers = tf.stack([tf.reshape(number, taken.shape), ahead], axis=1)
        numbers = tf.repeat(numbers, self.length, axis=0)  # [T, 2, N]
        put(self.number, tf.stack([row, end], 1), numbers, tf.stack([chunk.valid, ends], 1))
        place = tf.cast(number % self.most, tf.int32)
        rows = tf.reshape(tf.where(chunk.valid, row, -1), groups.shape)
        put(self.window, place, tf.transpose(rows, [0, 2, 1]), valid)
        for rows, x in zip(self.state, state, strict=True):
            put(rows, place, tf.where(chunk.first[0][:, None], 0.0, x), valid)
        written = self.written + tf.math.count_nonzero(new)
        # Read after it is written, or XLA copies the ring. In a chunk's first row, where some steps
        # start at rows of the chunk before, numbers may be out of order: so N more are dropped, and
        # those whose frames may be among what is gone. No row of this chunk is overwritten by it.
        oldest = tf.gather(self.number, written % self.capacity)
        more = num_envs * (1 + -(-(self.spec.frames - 1) // self.length))
        oldest = tf.minimum(tf.maximum(oldest, -1 - oldest) + more, self.added)
        dropped = tf.maximum(self.dropped, tf.where(written > self.capacity, oldest, 0))
        added = self.added + tf.math.count_nonzero(taken)
        dropped = tf.maximum(dropped, added - self.most)  # sequences that are padded are many
        if self.priorities is not None:
            most = min(self.most, 2 * (length + self.spec.frames) * num_envs)
            self.priorities.replace(self.dropped, dropped, number, valid, most)
        self.written.assign(written)
        self.open.assign(num_envs * tf.cast(tf.reduce_all(ends[-1]), tf.int64))
        self.added.assign(added)
        self.dropped.assign(dropped)

    def draw(
        self, batch_size: int, seed: tf.Tensor, importance_exponent: tf.Tensor | float = 1.0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws windows that are held, with replacement.

        Args:
            batch_size: their steps in all: B of length 1, as many whole sequences as it holds, at
                least one.
            seed: [2] int32.
            importance_exponent: beta, 1 makes up for likelier draws in full, 0 not at all.

        Returns:
            Their numbers [B] int64, and the weights [B] by which to learn from them: all 1 for
            even draws; else (size * probability) ** -beta, the largest of the batch being 1.
        """
        count = max(1, batch_size // self.length)
        if self.priorities is None:
            chosen = rng.integers(seed, [count], self.size)
            return self.dropped + tf.cast(chosen, tf.int64), tf.ones([count])
        place, probability = self.priorities.draw(count, seed)
        weight = (tf.cast(self.size, tf.float32) * probability) ** -importance_exponent
        number = self.dropped + (tf.cast(place, tf.int64) - self.dropped) % self.most
        return number, weight / tf.reduce_max(weight)

    def read(self, number: tf.Tensor, n_step: int = 1, discount: float = 1.0) -> Any:
        """Returns windows, each step with those that came after it.

        Args:
            number: [B] int64, from `draw`.
            n_step: how many steps a transition is long; fewer where the episode, the sequence, or
                what is known of it, ends before.
            discount: gamma, between one of its steps and the next.

        Returns:
            Transitions, or Sequences, of k steps: `reward` is the sum of gamma ** i * reward,
            `discount` is gamma ** (k - 1), or 0 if the last of them terminated; `next_obs` comes
            after it.
        """
        window = tf.gather(self.window, tf.cast(number % self.most, tf.int32))  # [B, L]
        window = tf.transpose(window)
        # Where there is none, another row: nobody learns from it.
        start = at = tf.maximum(window, 0) if self.sequences else window[0]
        reward, scale = tf.gather(self.reward, at), tf.gather(self.discount, at)
        following = at = tf.gather(self.successor, at)
        until = tf.broadcast_to(tf.range(self.length)[:, None], window.shape)
        for _ in range(n_step - 1):
            there = tf.gather(self.number, at)
            goes_on = there == number if self.sequences else there >= 0
            further = discount * scale
            reward += tf.where(goes_on, further * tf.gather(self.reward, at), 0.0)
            scale = tf.where(goes_on, further * tf.gather(self.discount, at), scale)
            at = tf.where(goes_on, tf.gather(self.successor, at), at)
            until += tf.cast(goes_on, tf.int32)
        steps = Transitions(
            obs=self._seen(start),
            action=tf.gather(self.action, start),
            reward=reward,
            discount=scale,
            next_obs=self._seen(at),
        )
        if not self.sequences:
            return steps
        goes_on = (window[1:] == following[:-1]) & (window[:-1] >= 0)  # [L - 1, B]
        place = tf.cast(number % self.most, tf.int32)
        return Sequences(
            **steps._asdict(),
            until=until,
            first=tf.pad(~goes_on, [[1, 0], [0, 0]]),
            valid=window >= 0,
            state=tuple(tf.gather(rows, place) for rows in self.state),
        )

    def _seen(self, row: tf.Tensor) -> Any:
        """Returns what networks see at rows [...]: observations, or stacks of them."""
        if self.before is None:
            return map_leaves(lambda rows: tf.gather(rows, row), self.obs)
        frames = [row]
        for _ in range(self.spec.frames - 1):
            frames.append(tf.gather(self.before, frames[-1]))
        stack = tf.stack(frames[::-1], axis=-1)  # [..., k]
        return stacks.seen(
            self.spec,
            map_leaves(
                lambda leaf, rows: tf.gather(rows, row if isinstance(leaf, Mask) else stack),
                self.spec.obs,
                self.obs,
            ),
        )

    def sample(self, batch_size: int, seed: tf.Tensor) -> Any:
        """Returns windows of `batch_size` steps in all, as `draw` draws them."""
        return self.read(self.draw(batch_size, seed)[0])

    def prioritize(self, number: tf.Tensor, error: tf.Tensor) -> None:
        """Lets windows be drawn by their TD errors from now on.

        Args:
            number: [B] int64.
            error: [B]; of sequences [L, B], 0 on padding. Of these the largest counts for 0.9 and
                the mean for 0.1, in size (Kapturowski et al. 2019).
        """
        if self.priorities is None:
            return
        if self.sequences:
            size = tf.abs(error)
            largest, mean = tf.reduce_max(size, axis=0), tf.reduce_mean(size, axis=0)
            error = _LARGEST * largest + (1.0 - _LARGEST) * mean
        self.priorities.set(tf.cast(number % self.most, tf.int32), error)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        names = ("action", "reward", "discount", "successor", "number", "window")
        counts = ("written", "open", "added", "dropped")
        fields: dict[str, Any] = {name: getattr(self, name) for name in (*names, *counts)}
        named = dict(items({"obs": self.obs, **fields}))
        if self.before is not None:
            named["before"] = self.before
        named |= {f"state/{i}": rows for i, rows in enumerate(self.state)}
        if self.priorities is not None:
            named |= {f"priorities/{k}": v for k, v in self.priorities.variables().items()}
        return named

    def _check_fits(self, steps: int, num_envs: int) -> None:
        # Each step may end an episode; and the observations at hand; and the frames before them.
        least = 2 * steps + num_envs + 2 * (self.spec.frames - 1) * num_envs
        if self.capacity < least:
            frames = ", and the frames before it" if self.spec.frames > 1 else ""
            raise ValueError(
                f"A chunk of {steps} steps, each of which may end an episode{frames}, does not fit "
                f"replay_capacity={self.capacity}: raise it to {least} or more, or lower "
                "train_every or num_envs."
            )
