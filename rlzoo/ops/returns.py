"""Returns along time, for chunks laid out time-major [T, N].

Where one has [T, N] or [T, N, S], S are several streams of reward, each with a discount of its
own; what cuts an episode may be one for all of them, [T, N].
"""

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
        reward: [T, N] or [T, N, S] float32.
        discount: the same shape, float32, gamma, or 0 where the step terminated.
        last: the same shape or [T, N], bool, terminated or truncated.
        final_value: the same shape, float32, value of the true successor of step t.

    Returns:
        [T, N] or [T, N, S] float32.
    """
    _check_shapes(last, reward=reward, discount=discount, final_value=final_value)
    ends = _ends(last, len(reward.shape))

    def backwards(following, step):
        reward, discount, ends, final_value = step
        return reward + discount * tf.where(ends, final_value, following)

    steps = (reward, discount, ends, final_value)
    return tf.scan(backwards, steps, initializer=tf.zeros_like(reward[0]), reverse=True)


def n_step_returns(
    reward: tf.Tensor,
    discount: tf.Tensor,
    last: tf.Tensor,
    next_value: tf.Tensor,
    num_steps: int,
) -> tf.Tensor:
    """Returns what `num_steps` steps bring and the value after them (Sutton 1988).

    G[t] = reward[t] + discount[t] * (reward[t + 1] + discount[t + 1] * (... next_value[t + k])),
    with k = num_steps - 1, or fewer steps where the episode or the chunk ends before: then the
    value at that end is taken, discounted by the steps there really were. See Sutton & Barto,
    2nd ed., equation 7.1.

    Args:
        reward: [T, N] or [T, N, S] float32.
        discount: the same shape, float32, gamma, or 0 where the step terminated.
        last: the same shape or [T, N], bool, terminated or truncated.
        next_value: the same shape, float32, value of the true successor of step t.
        num_steps: n, at least 1.

    Returns:
        [T, N] or [T, N, S] float32.
    """
    _check_shapes(last, reward=reward, discount=discount, next_value=next_value)
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, received {num_steps}.")
    ends = _ends(last, len(reward.shape))
    returns = one_step = reward + discount * next_value
    for _ in range(num_steps - 1):  # each turn looks one step further
        following = tf.concat([returns[1:], returns[-1:]], axis=0)
        returns = tf.where(ends, one_step, reward + discount * following)
    return returns


def generalized_advantages(
    reward: tf.Tensor,
    discount: tf.Tensor,
    last: tf.Tensor,
    value: tf.Tensor,
    next_value: tf.Tensor,
    gae_lambda: float,
) -> tf.Tensor:
    """Returns generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438).

    A[t] = delta[t] + discount[t] * lambda * A[t + 1], cut at an episode's end, with
    delta[t] = reward[t] + discount[t] * next_value[t] - value[t] (equations 11 and 16).

    Args:
        reward: [T, N] or [T, N, S] float32.
        discount: the same shape, float32, gamma, or 0 where the step terminated.
        last: the same shape or [T, N], bool, terminated or truncated.
        value: the same shape, float32, value of the observation of step t.
        next_value: the same shape, float32, value of its true successor.
        gae_lambda: 0 takes one step into account, 1 all of them.

    Returns:
        [T, N] or [T, N, S] float32. With `value` added they are the targets of the value.
    """
    _check_shapes(last, reward=reward, discount=discount, value=value, next_value=next_value)
    delta = reward + discount * next_value - value
    nothing = tf.zeros_like(delta)
    return discounted_returns(delta, discount * gae_lambda, last, nothing)


def _check_shapes(last: tf.Tensor, **tensors: tf.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shape, flags = shapes["reward"], tuple(last.shape)
    if len(set(shapes.values())) != 1 or flags not in (shape, shape[:2]):
        raise ValueError(
            "Expected tensors of one shape, [T, N] or [T, N, S], and `last` of that or of [T, N], "
            f"received {shapes | {'last': flags}}."
        )


def _ends(last: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns where nothing follows, the chunk's final row included, of this rank."""
    ends = tf.concat([last[:-1], tf.ones_like(last[-1:])], axis=0)
    return tf.reshape(ends, (*last.shape, *[1] * (rank - len(last.shape))))
