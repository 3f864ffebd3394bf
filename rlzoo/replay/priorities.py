"""Draws in proportion to priorities (Schaul et al. 2016, https://arxiv.org/abs/1511.05952)."""

import math

import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.replay.memory import write, zeros

_LEAST = 1e-6  # added to an error: a step without one is seen again some time


class Priorities:
    """Priorities of `capacity` places, in blocks whose sums are kept: a draw looks at one of each.

    Args:
        capacity: C.
        exponent: alpha, the power that is taken of an error; 0 would draw evenly.
    """

    def __init__(self, capacity: int, exponent: float):
        self.exponent = exponent
        self._capacity = capacity
        self._width = math.isqrt(capacity - 1) + 1
        blocks = -(-capacity // self._width)
        self.values = zeros([blocks * self._width], "float32")  # (|error| + 1e-6) ** alpha, 0: none
        self.sums = zeros([blocks], "float32")
        self.largest = tf.Variable(1.0, trainable=False)  # so far; what is new is drawn by it

    def replace(self, old, dropped, number, valid, most: int) -> None:
        """Forgets the steps that are held no more, and takes in new ones.

        Args:
            old: [] int64, the first step held so far.
            dropped: [] int64, the first held from now on.
            number: [B] int64, new steps, those that are not valid behind the others.
            valid: [B] bool.
            most: how many steps may be dropped at once.
        """
        gone = old + tf.range(most, dtype=tf.int64)
        self._write(gone % self._capacity, tf.zeros([most]), gone < dropped)
        fresh = tf.fill(tf.shape(valid), self.largest)
        self._write(number % self._capacity, fresh, valid)

    def set(self, place: tf.Tensor, error: tf.Tensor) -> None:
        """Gives places [B] int32 the priority of their errors [B]."""
        value = (tf.abs(error) + _LEAST) ** self.exponent
        self.values.scatter_nd_update(place[:, None], value)
        self._add_up(place)
        self.largest.assign(tf.maximum(self.largest, tf.reduce_max(value)))

    def draw(self, batch_size: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns places [B] int32 and the probability [B] with which each is drawn."""
        seeds = rng.split(seed)
        block = rng.weighted(seeds[0], self.sums[None], batch_size)  # [B]
        within = tf.gather(tf.reshape(self.values, [-1, self._width]), block)  # [B, W]
        place = block * self._width + rng.weighted(seeds[1], within, batch_size)
        return place, tf.gather(self.values, place) / tf.reduce_sum(self.sums)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns the state to be saved, by name."""
        return {"values": self.values, "sums": self.sums, "largest": self.largest}

    def _write(self, place, values, mask) -> None:
        place = tf.cast(place, tf.int32)
        write(self.values, place, values, mask)
        self._add_up(place)

    def _add_up(self, place) -> None:
        """Sums the blocks of some places anew, so that no rounding gathers."""
        block = place // self._width
        sums = tf.reduce_sum(tf.gather(tf.reshape(self.values, [-1, self._width]), block), axis=-1)
        self.sums.scatter_nd_update(block[:, None], sums)
