"""Returns along time, for chunks laid out time-major [T, N]."""

import tensorflow as tf


def discounted_returns(
    reward: tf.Tensor,
    discount: tf.Tensor,
    last: tf.Tensor,
    final_value: tf.Tensor,
) -> tf.Tensor:
    """Returns the discounted reward-to-go of every step, never across an episode's end.

    G[t] = reward[t] + discount[t] * (final_value[t] if last[t] else G[t + 1]).

    The chunk's final row counts as last. A terminated step has discount 0, so `final_value`
    matters only where an episode was truncated or the chunk ended.

    Args:
        reward: [T, N] float32.
        discount: [T, N] float32, gamma, or 0 where the step terminated.
        last: [T, N] bool, terminated or truncated.
        final_value: [T, N] float32, value of the true successor of step t.

    Returns:
        [T, N] float32.
    """
    _check_same_shape(reward=reward, discount=discount, last=last, final_value=final_value)
    last = tf.concat([last[:-1], tf.ones_like(last[-1:])], axis=0)

    def backwards(following, step):
        reward, discount, last, final_value = step
        return reward + discount * tf.where(last, final_value, following)

    steps = (reward, discount, last, final_value)
    return tf.scan(backwards, steps, initializer=tf.zeros_like(reward[0]), reverse=True)


def _check_same_shape(**tensors: tf.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"Expected tensors of one shape [T, N], received {shapes}.")
