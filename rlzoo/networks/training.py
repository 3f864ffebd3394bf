"""What trains a network: learning rates, gradient steps, target networks."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.copying import layers_of
from rlzoo.networks.layers import PatchConv2D
from rlzoo.ops.schedules import Schedule, levels


def changing_rate(network: keras.Model) -> tf.Variable | None:
    """Returns the variable that `scale_learning_rate` was given for a part of a network, if any."""
    scales = (getattr(variable, "lr_scale", None) for variable in network.trainable_variables)
    return next((scale for scale in scales if isinstance(scale, tf.Variable)), None)


def scale_learning_rate(layer: keras.Layer, scale: float | tf.Variable) -> None:
    """Multiplies every step that `descend` takes for a layer's weights; 0 freezes them for good.

    Args:
        layer: built; not yet part of a network that an optimiser was made for.
        scale: a number, or a variable that may change while an agent learns.
    """
    if not isinstance(scale, tf.Variable) and scale == 0.0:
        layer.trainable = False  # the layer too: batch statistics stay as they are
    for variable in layer.trainable_variables:
        if isinstance(scale, tf.Variable):
            variable.lr_scale = scale
        elif scale != 1.0:
            variable.lr_scale = tf.constant(scale)


def penalty(network: keras.Model) -> tf.Tensor | float:
    """Returns what the layers of a network add to the loss, by its last call.

    That is their regularisers and what they gave to `add_loss`.
    """
    here = (None, tf.compat.v1.get_default_graph())
    if any(getattr(loss, "graph", None) not in here for loss in network.losses):
        raise ValueError(
            "add_loss and activity_regularizer cannot be used inside a recurrent cell, whose steps "
            "are a loop of their own. Put them into the encoder before it."
        )
    return tf.add_n(network.losses) if network.losses else 0.0


def update_target(target: keras.Model, source: keras.Model, rate: float, due: tf.Tensor) -> None:
    """Moves `target` towards `source` by `rate` (1 copies it) where `due`, a bool scalar."""

    def move():
        for old, new in zip(target.weights, source.weights, strict=True):
            whole = rate == 1.0 or not tf.as_dtype(old.dtype).is_floating  # a counter, say
            old.assign(new if whole else old + rate * (new - old))
        return tf.constant(True)

    tf.cond(due, move, lambda: tf.constant(False))


def adam(network: keras.Model, learning_rate: float | Schedule) -> keras.optimizers.Optimizer:
    """Returns Adam (Kingma & Ba 2015, arXiv:1412.6980), built for a network's variables.

    A rate that is a schedule is set by `follow_rate`.
    """
    optimizer = keras.optimizers.Adam(max(levels(learning_rate)), name="adam")
    optimizer.build(network.trainable_variables)
    return optimizer


def follow_rate(optimizer: Any, learning_rate: float | Schedule, step: tf.Tensor) -> dict:
    """Sets an optimiser's rate to that of an environment step, if it is a schedule.

    Returns:
        What TensorBoard shows of it: nothing of a rate that does not change.
    """
    if not callable(learning_rate):
        return {}
    rate = learning_rate(step)
    optimizer.learning_rate = rate
    return {"rate/learning_rate": rate}


def repeat(
    count: tf.Tensor | int, step: Callable[[tf.Tensor], dict[str, tf.Tensor]], tags: Iterable[str]
) -> dict[str, tf.Tensor]:
    """Takes `count` steps, in a loop that XLA compiles once, and returns the mean of each metric.

    Args:
        count: how many; may be a tensor. After none all means are 0.
        step: of its number, [] int32; returns metrics under all `tags`.
        tags: of the metrics.
    """

    def body(i, sums):
        metrics = step(i)
        return i + 1, {tag: sums[tag] + metrics[tag] for tag in sums}

    loop = (tf.constant(0), {tag: tf.constant(0.0) for tag in tags})
    _, sums = tf.while_loop(lambda i, _: i < count, body, loop)
    return {tag: tf.math.divide_no_nan(x, tf.cast(count, tf.float32)) for tag, x in sums.items()}


def descend(optimizer, tape: tf.GradientTape, loss, network: keras.Model, max_norm) -> tf.Tensor:
    """Takes one gradient step, clipped to `max_norm`; returns the norm before clipping."""
    gradients = tape.gradient(loss, network.trainable_variables)
    norm = tf.linalg.global_norm(gradients)
    if math.isfinite(max_norm):
        gradients, _ = tf.clip_by_global_norm(gradients, max_norm, norm)
    slower = [v for v in network.trainable_variables if hasattr(v, "lr_scale")]
    before = [tf.identity(variable) for variable in slower]
    optimizer.apply(gradients)
    for variable, old in zip(slower, before, strict=True):
        # Not its gradient: Adam's steps do not depend on the gradient's size.
        scaled = old + variable.lr_scale * (variable - old)
        variable.assign(scaled if variable.constraint is None else variable.constraint(scaled))
    return norm


def learning_bytes(network: keras.Model, rows: int) -> int:
    """Returns about the memory in bytes that Q-learning takes beside a network and its replay.

    That is a target network, Adam's moments, gradients, and what each layer computes for a batch:
    of it and its successors, and again on the way back.

    Args:
        network: from `build_network`.
        rows: observations in a batch.
    """
    numbers = 0  # that layers compute for one observation
    for layer in layers_of(network):
        for output in keras.tree.flatten(getattr(layer, "output", ())):
            size = math.prod(x or 1 for x in output.shape)
            if isinstance(layer, PatchConv2D):  # its patches are many times its output
                size += size // layer.filters * math.prod(layer.kernel.shape[:3])
            numbers += size
    return 4 * (5 * network.count_params() + 3 * rows * numbers)
