"""Running mean and deviation of what comes in batches, and of rewards' discounted returns.

Variances are kept, not sums of squares: a sum of a billion squares in float32 would no longer grow
by a batch's, and the deviation would shrink as the count goes on; a mean just stays where it is.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Moments(NamedTuple):
    """What is known of all rows so far. Tensors, or variables that hold them."""

    count: Any  # [] int64, rows
    mean: Any  # [...] float32, the shape of a row
    variance: Any  # [...] float32, the mean squared distance from the mean


def no_moments(shape) -> Moments:
    """Returns the moments of no rows of a shape."""
    return Moments(tf.zeros([], tf.int64), tf.zeros(shape), tf.zeros(shape))


def moments_of(rows: tf.Tensor, valid: tf.Tensor) -> Moments:
    """Returns the moments of the valid rows.

    Args:
        rows: [B, ...] or [T, N, ...] float32, of any size where invalid.
        valid: [B] or [T, N] bool.
    """
    axes = list(range(len(valid.shape)))
    kept = tf.reshape(valid, (*valid.shape, *[1] * (len(rows.shape) - len(axes))))
    count = tf.math.count_nonzero(valid)

    def mean_row(rows):
        total = tf.reduce_sum(tf.where(kept, rows, 0.0), axis=axes)
        return total / tf.cast(tf.maximum(count, 1), tf.float32)

    mean = mean_row(rows)
    mean += tf.where(count > 0, mean_row(rows - mean), 0.0)  # the rounding of a large sum, undone
    return Moments(count, mean, mean_row(tf.math.squared_difference(rows, mean)))


def merged(one: Moments, other: Moments) -> Moments:
    """Returns the moments of the rows of both (Chan et al. 1983).

    See https://doi.org/10.1080/00031305.1983.10483115.
    """
    count = one.count + other.count
    total = tf.maximum(count, 1)
    share = tf.cast(other.count, tf.float32) / tf.cast(total, tf.float32)
    shift = other.mean - one.mean
    return Moments(
        count,
        one.mean + share * shift,
        one.variance
        + share * (other.variance - one.variance)
        + share * (1.0 - share) * tf.square(shift),
    )


def deviation(moments: Moments) -> tf.Tensor:
    """Returns the standard deviation [...], or 1 where rows differ by no more than rounding.

    So what was constant, or never seen, is neither divided by 0 nor blown up.
    """
    rounding = 1e-6 * tf.abs(moments.mean)
    varies = moments.variance > tf.square(rounding)
    return tf.where(varies, tf.sqrt(tf.where(varies, moments.variance, 1.0)), 1.0)


def normalized(x: tf.Tensor, moments: Moments, clip: float) -> tf.Tensor:
    """Returns x [..., *row] with mean 0 and deviation 1, within -clip..clip."""
    return tf.clip_by_value((x - moments.mean) / deviation(moments), -clip, clip)


def scaled(reward: tf.Tensor, moments: Moments, clip: float) -> tf.Tensor:
    """Returns rewards divided by the deviation of returns, within -clip..clip; 0 stays 0."""
    return tf.clip_by_value(reward / deviation(moments), -clip, clip)


class ReturnMoments(NamedTuple):
    """Moments of the discounted sum of the rewards up to each step, for `scaled`.

    As in Engstrom et al. 2020 (arXiv:2005.12729), algorithm 1.
    """

    returns: Any  # [N] float32, the sum of the episode that each environment is in
    moments: Moments  # of one number


def no_returns(num_envs: int) -> ReturnMoments:
    """Returns what is known before the first step."""
    return ReturnMoments(tf.zeros([num_envs]), no_moments(()))


def with_rewards(
    known: ReturnMoments, reward: tf.Tensor, last: tf.Tensor, valid: tf.Tensor, discount: float
) -> ReturnMoments:
    """Returns what is known after a chunk.

    Args:
        known: before it.
        reward: [T, N] float32.
        last: [T, N] bool, terminated or truncated: the sum begins anew after it.
        valid: [T, N] bool.
        discount: gamma.
    """

    def forwards(carry, step):
        (kept, _), (reward, last, valid) = carry, step
        returns = discount * kept + reward
        return tf.where(valid, tf.where(last, 0.0, returns), kept), returns

    steps, start = (reward, last, valid), (known.returns, tf.zeros_like(known.returns))
    kept, returns = tf.scan(forwards, steps, initializer=start)  # [T, N]
    return ReturnMoments(kept[-1], merged(known.moments, moments_of(returns, valid)))
