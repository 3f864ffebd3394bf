"""What trains a network: learning rates, gradient steps, target networks."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.copying import copy_network, layers_of
from rlzoo.networks.layers import PatchConv2D
from rlzoo.ops.schedules import Schedule, levels


def changing_rate(variables: Iterable[Any]) -> tf.Variable | None:
    """Returns the variable that `scale_learning_rate` was given for some of these, if any."""
    scales = (getattr(variable, "lr_scale", None) for variable in variables)
    return next((scale for scale in scales if isinstance(scale, tf.Variable)), None)


def scale_learning_rate(layer: keras.Layer, scale: float | tf.Variable) -> None:
    """Multiplies each step that `Trainable` takes for a layer's weights; 0 freezes them for good.

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


class Trainable:
    """A network and what trains it: Adam (Kingma & Ba 2015, arXiv:1412.6980), clipped gradients.

    Args:
        network: built.
        learning_rate: of Adam; `follow` sets one that is a schedule.
        max_norm: to which each gradient is clipped; inf for none.
    """

    def __init__(self, network: keras.Model, learning_rate: float | Schedule, max_norm: float):
        self.network = network
        self.learning_rate = learning_rate
        self.max_norm = max_norm
        self.optimizer: keras.optimizers.Optimizer = keras.optimizers.Adam(
            max(levels(learning_rate)), name="adam"
        )
        self.optimizer.build(network.trainable_variables)

    def follow(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sets the rate to that of an environment step.

        Returns:
            What TensorBoard shows of it: nothing of a rate that does not change.
        """
        if not callable(self.learning_rate):
            return {}
        rate = self.learning_rate(step)
        self.optimizer.learning_rate = rate
        return {"rate/learning_rate": rate}

    def descend(self, tape: tf.GradientTape, loss: tf.Tensor) -> tf.Tensor:
        """Takes one gradient step; returns the gradient's norm before it is clipped."""
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables)
        norm = tf.linalg.global_norm(gradients)
        if math.isfinite(self.max_norm):
            gradients, _ = tf.clip_by_global_norm(gradients, self.max_norm, norm)
        slower = [v for v in variables if hasattr(v, "lr_scale")]
        before = [tf.identity(variable) for variable in slower]
        self.optimizer.apply(gradients)
        for variable, old in zip(slower, before, strict=True):
            # Not its gradient: Adam's steps do not depend on the gradient's size.
            scaled = old + variable.lr_scale * (variable - old)
            constraint = variable.constraint
            variable.assign(scaled if constraint is None else constraint(scaled))
        return norm


class Target:
    """A copy of a network that follows it from afar.

    Args:
        source: the network.
        rate: the share of the way that it goes each time; 1 copies.
        period: gradient steps from one time to the next.
    """

    def __init__(self, source: keras.Model, rate: float, period: int):
        self.network = copy_network(source)
        self._source = source
        self._rate = rate
        self._period = period

    def follow(self, updates: tf.Tensor) -> None:
        """Moves after this many gradient steps, [] int, if it is time."""

        def move():
            for old, new in zip(self.network.weights, self._source.weights, strict=True):
                # What is no float is a counter, say.
                whole = self._rate == 1.0 or not tf.as_dtype(old.dtype).is_floating
                old.assign(new if whole else old + self._rate * (new - old))
            return tf.constant(True)

        tf.cond(updates % self._period == 0, move, lambda: tf.constant(False))


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
