"""Losses and targets, each with its paper. All return one number per row, unreduced."""

import tensorflow as tf


def select(scores: tf.Tensor, action: tf.Tensor) -> tf.Tensor:
    """Returns the score of each row's action: [..., A] and [...] -> [...]."""
    return tf.gather(scores, action, axis=-1, batch_dims=len(action.shape))


def q_learning_targets(reward, discount, next_q, next_selector) -> tf.Tensor:
    """Returns reward + discount * next_q[argmax next_selector], cut off from the gradient.

    With `next_selector = next_q` this is Q-learning (Watkins 1989); with the online network's
    values it is double Q-learning (van Hasselt et al. 2016, arXiv:1509.06461).

    Args:
        reward: [B] float32.
        discount: [B] float32, 0 where the step terminated.
        next_q: [B, A] float32, values of the successor that are bootstrapped from.
        next_selector: [B, A] float32, values that choose the successor's action.

    Returns:
        [B] float32.
    """
    next_action = tf.argmax(next_selector, axis=-1, output_type=tf.int32)  # [B]
    return tf.stop_gradient(reward + discount * select(next_q, next_action))


def huber(error: tf.Tensor, delta: float = 1.0) -> tf.Tensor:
    """Returns the Huber loss: quadratic up to `delta`, linear beyond (Huber 1964)."""
    size = tf.abs(error)
    quadratic = tf.minimum(size, delta)
    return 0.5 * tf.square(quadratic) + delta * (size - quadratic)


def squared(error: tf.Tensor) -> tf.Tensor:
    """Returns half the squared error."""
    return 0.5 * tf.square(error)


TD_LOSSES = {"huber": huber, "squared": squared}


def entropy(log_probs: tf.Tensor) -> tf.Tensor:
    """Returns the entropy in nats of each row of log-probabilities; -inf counts as 0."""
    finite = tf.where(tf.math.is_inf(log_probs), 0.0, log_probs)
    return -tf.reduce_sum(tf.exp(log_probs) * finite, axis=-1)


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `values` where `mask` is true; 0 if it is true nowhere."""
    mask = tf.cast(mask, values.dtype)
    return tf.reduce_sum(values * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)
