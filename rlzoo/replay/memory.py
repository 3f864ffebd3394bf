"""What a replay takes: variables of a given size, and whether the machine has room for them."""

import psutil
import tensorflow as tf


def zeros(shape, dtype) -> tf.Variable:
    """Returns a variable of zeros that no optimiser trains."""
    return tf.Variable(tf.zeros(shape, dtype), trainable=False)


def write(rows: tf.Variable, index: tf.Tensor, values: tf.Tensor, mask: tf.Tensor) -> None:
    """Writes rows in place where `mask` says so; elsewhere writes back what is there.

    Args:
        rows: [C, ...].
        index: [B], no place twice.
        values: [B, ...].
        mask: [B] bool.
    """
    mask = tf.reshape(mask, (-1, *[1] * (len(rows.shape) - 1)))
    rows.scatter_nd_update(index[:, None], tf.where(mask, values, tf.gather(rows, index)))


def places(wanted: tf.Tensor) -> tf.Tensor:
    """Returns [B] int64: 0, 1, 2, ... for those rows [B] that are wanted, then for the others."""
    among_wanted = tf.cumsum(tf.cast(wanted, tf.int64), exclusive=True)
    among_others = tf.cumsum(tf.cast(~wanted, tf.int64), exclusive=True)
    return tf.where(wanted, among_wanted, tf.math.count_nonzero(wanted) + among_others)


def check_free(wanted: int, capacity: int, beside: int) -> None:
    """Raises a `ValueError` if replay and what learning takes do not fit the free memory.

    Args:
        wanted: bytes of the replay.
        capacity: what the user asked for.
        beside: bytes that learning takes.
    """
    free = psutil.virtual_memory().available
    if wanted + beside > 0.8 * free:
        fitting = int((0.8 * free - beside) * capacity / wanted)
        advice = f"lower replay_capacity to {fitting} or less"
        if fitting < 1:
            advice = "lower batch_size, or take a smaller torso"
        raise ValueError(
            f"replay_capacity={capacity} needs {wanted / 2**20:.0f} MiB, and learning from it "
            f"{beside / 2**20:.0f} MiB, together more than 80 % of the {free / 2**20:.0f} MiB that "
            f"are free: {advice}."
        )


def check_sequences(batch_size: int, length: int) -> None:
    """Raises a `ValueError` if a batch has less steps than a sequence."""
    if batch_size < length:
        raise ValueError(
            f"batch_size={batch_size} is less than one sequence of train_every={length} "
            "steps, which a recurrent torso learns from: raise batch_size to several times "
            "train_every, or lower train_every."
        )
