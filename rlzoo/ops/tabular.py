"""What is done to a table of Q-values, in place: pure functions of it."""

import tensorflow as tf


def q_backup(q, valid, pair, reward, discount, next_obs, learning_rate):
    """Moves q[pair] towards reward + discount * max q[next_obs] (Watkins 1989).

    Args:
        q: [S * A] float32.
        valid: [S, A] bool, the actions that there are to choose from.
        pair: [] int32, obs * A + action.
        reward: [] float32.
        discount: [] float32, gamma, or 0 where the step terminated.
        next_obs: [] int32.
        learning_rate: alpha.

    Returns:
        The new value [] of q[pair] and the TD error [].
    """
    old, next_q = tf.gather(q, pair), tf.gather(tf.reshape(q, valid.shape), next_obs)
    next_q = tf.where(tf.gather(valid, next_obs), next_q, -float("inf"))
    error = reward + discount * tf.reduce_max(next_q) - old
    return old + learning_rate * error, error


def write(q, pair, value):
    """Returns the table [S * A] in which q[pair] is `value`."""
    return tf.tensor_scatter_nd_update(q, [[pair]], [value])


def learn_masks(valid, obs, mask, seen):
    """Returns the table [S, A] of valid actions after the masks of some observations.

    Args:
        valid: [S, A] bool.
        obs: [B] int32.
        mask: [B, A] bool; where it allows nothing, as it may at an episode's end, all is valid.
        seen: [B] bool, the rows that count.
    """
    mask |= ~tf.reduce_any(mask, axis=-1, keepdims=True)
    rows = tf.where(seen[:, None], mask, tf.gather(valid, obs))
    return tf.tensor_scatter_nd_update(valid, obs[:, None], rows)
