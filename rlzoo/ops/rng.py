"""Stateless random numbers that are the same in eager, graph and XLA code.

A seed is an int32 tensor of shape [2] with non-negative entries. Integer draws agree between
plain TensorFlow and XLA, float draws do not: every float here is built from 24 integer bits.
"""

import math
from typing import Any

import tensorflow as tf

_NON_NEGATIVE = 0x7FFFFFFF
_PHILOX = "philox"  # named, XLA generates it eight times faster than when left to choose it
ONE_BELOW = 1.0 - 2.0**-23  # keeps a threshold under the total in float32


def from_int(seed: int) -> tf.Tensor:
    """Returns the seed [2] that stands for a Python integer in 0..2**62-1."""
    if not 0 <= seed < 2**62:
        raise ValueError(f"A seed must be in 0..2**62-1, received {seed}.")
    return tf.constant([seed & _NON_NEGATIVE, seed >> 31], tf.int32)


def fold_in(seed: tf.Tensor, data) -> tf.Tensor:
    """Returns a seed [2] derived from `seed` and an integer, such as a counter."""
    data = tf.cast(data, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, data, alg=_PHILOX) & _NON_NEGATIVE


def split(seed: tf.Tensor, num: int = 2) -> list[tf.Tensor]:
    """Returns `num` independent seeds [2] derived from `seed`."""
    return tf.unstack(_bits(seed, [num, 2]) & _NON_NEGATIVE)


def uniform(seed: tf.Tensor, shape) -> tf.Tensor:
    """Returns float32 draws from [0, 1), multiples of 2**-24."""
    return tf.cast(_bits(seed, shape) & 0xFFFFFF, tf.float32) * 2.0**-24


def normal(seed: tf.Tensor, shape) -> tf.Tensor:
    """Returns float32 draws from the standard normal distribution (Box & Muller 1958)."""
    one, other = split(seed)
    radius = tf.sqrt(-2.0 * tf.math.log1p(-uniform(one, shape)))
    return radius * tf.cos(2.0 * math.pi * uniform(other, shape))


def integers(seed: tf.Tensor, shape, limit) -> tf.Tensor:
    """Returns int32 draws from 0..limit-1; `limit` may be a tensor."""
    limit = tf.cast(limit, tf.int32)
    return tf.random.stateless_uniform(
        shape, seed, minval=0, maxval=limit, dtype=tf.int32, alg=_PHILOX
    )


def categorical(seed: tf.Tensor, log_probs: tf.Tensor) -> tf.Tensor:
    """Returns one index per row, drawn by inverting the cumulative distribution.

    An index of probability zero (log-probability -inf, or so low that float32 has no other number
    for it) is never drawn.

    Args:
        seed: [2] int32.
        log_probs: [N, A] float32, normalised over the last axis.

    Returns:
        [N] int32.
    """
    return weighted(seed, tf.exp(log_probs), tf.shape(log_probs)[0])


def weighted(seed: tf.Tensor, weights: tf.Tensor, count: Any) -> tf.Tensor:
    """Returns `count` indices, each in proportion to the weights of its row; never one of weight 0.

    Args:
        seed: [2] int32.
        weights: [count, A] float32, or [1, A] for draws by the same weights; need not sum to 1.
        count: N.

    Returns:
        [N] int32.
    """
    possible = weights > 0.0
    # XLA adds up in blocks: a sum may be a little less than the one before it, and one that grows
    # where nothing was added. So impossible places take no part, and the total is the largest sum.
    cumulative = tf.where(possible, tf.cumsum(weights, axis=-1), 0.0)
    total = tf.reduce_max(cumulative, axis=-1, keepdims=True)
    threshold = uniform(seed, [count, 1]) * ONE_BELOW * total  # [N, 1]
    return tf.argmax(cumulative > threshold, axis=-1, output_type=tf.int32)


def _bits(seed: tf.Tensor, shape) -> tf.Tensor:
    return tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=_PHILOX
    )
