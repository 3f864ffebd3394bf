"""A network: preprocessing, torso and head as one Keras model from observation to scores.

A recurrent network takes its state as further inputs and returns the next state as further
outputs; nothing is remembered inside a layer.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.copying import copy_torso, layers_of
from rlzoo.networks.parts import input_shapes, joined
from rlzoo.networks.torsos import PatchConv2D, Recurrent, is_recurrent
from rlzoo.spaces import (
    MASK,
    Box,
    Discrete,
    EnvSpec,
    Leaf,
    MultiDiscrete,
    Space,
    items,
    leaves,
    map_leaves,
    mask_of,
    plain,
    read_space,
    unmasked,
)

_OTHER_FLOATS = {"float16", "bfloat16", "float64"}


def build_network(
    spec: EnvSpec,
    torso: keras.Layer,
    head: keras.Layer,
    *,
    masked: bool = True,
    seed: int | None = None,
) -> keras.Model:
    """Returns the Keras model obs [B, ...] -> scores [B, A].

    For a recurrent torso the model maps [obs, *states] to [scores, *next states].

    Args:
        spec: of the environment; observations come nested and in the dtypes of its space.
        torso: any Keras layer, model or RNN cell. A copy of it is taken: it stays as it is.
        head: the layer from features to scores.
        masked: whether outputs are scores of actions, which are -inf where the observation's mask
            says that an action is not valid.
        seed: of convolutions that images among several parts get.

    Raises:
        ValueError: the torso cannot be copied, or not be put to work.
    """
    check_precision(torso)
    torso = copy_torso(joined(torso, spec.obs, seed), spec.obs)
    obs = inputs(spec.obs)
    features = Preprocess(unmasked(spec.obs), name="preprocess")(unmasked(obs))
    states = []
    if is_recurrent(torso):
        _check_cell(torso)
        nested = _state_inputs(_state_sizes(torso))
        features, next_states = torso(features, nested)
        states = keras.tree.flatten(nested)
    else:
        _check_axes(torso, features)
        features, next_states = torso(features), []
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="features")(features)
    scores = head(features)
    if masked:
        scores = masked_scores(scores, obs)
    if not states:
        return keras.Model(obs, scores)
    return keras.Model([obs, *states], [scores, *keras.tree.flatten(next_states)])


def inputs(space: Space, name: str = "obs") -> Any:
    """Returns a Keras input for each leaf of a space, nested as it is."""
    if isinstance(space, dict):
        return {key: inputs(part, key) for key, part in space.items()}
    return keras.Input(space.shape, dtype=space.dtype, name=name)


def masked_scores(scores: Any, obs: Any) -> Any:
    """Returns scores [B, A], -inf where the mask in the observations says so, if there is one."""
    mask = mask_of(obs)
    return scores if mask is None else MaskScores(name="mask_scores")([scores, mask])


def _state_sizes(cell: Any) -> list | tuple:
    """Returns the sizes of a cell's states, (nested) as `StackedRNNCells` has them."""
    sizes = cell.state_size
    return sizes if isinstance(sizes, (list, tuple)) else [sizes]


def _state_inputs(sizes):
    """Returns an input for each size in (nested) lists."""
    if isinstance(sizes, (list, tuple)):
        return [_state_inputs(size) for size in sizes]
    return keras.Input((sizes,))


def check_precision(torso: keras.Layer | None = None) -> None:
    """Raises a `ValueError` where Keras, or a torso, is set to other floats than float32."""
    layers = [] if torso is None else layers_of(torso)
    for policy in (keras.config.dtype_policy(), *(layer.dtype_policy for layer in layers)):
        if {policy.compute_dtype, policy.variable_dtype} & _OTHER_FLOATS:
            raise ValueError(
                f"Networks: expected Keras in single precision (float32), received the dtype "
                f"policy {policy.name!r}. Call keras.config.set_floatx('float32') and "
                "keras.config.set_dtype_policy('float32') before you make the torso and train."
            )


def _check_cell(torso: Any) -> None:
    """Refuses dropout inside a cell: its noise would have to last for an unknown sequence."""
    cells = [getattr(torso, "cell", torso)]
    for cell in cells:
        cells += getattr(cell, "cells", [])
        if getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0):
            raise ValueError(
                f"{type(cell).__name__}: expected dropout=0 and recurrent_dropout=0, which agents "
                f"cannot use in a cell, received dropout={cell.dropout} and recurrent_dropout="
                f"{cell.recurrent_dropout}. Put a Dropout layer into the encoder before it."
            )


def _check_axes(torso: Any, features: Any) -> None:
    """Says what to do where a Keras RNN layer, which walks along an axis, finds none."""
    inner = torso.layers if type(torso) is keras.Sequential else [torso]
    walking = [layer for layer in inner if isinstance(layer, keras.layers.RNN)]
    if walking and len(features.shape) != 3 and walking[0] is inner[0]:
        name = type(walking[0]).__name__
        raise ValueError(
            f"keras.layers.{name} walks along an axis of one observation, expected of shape "
            f"[steps, size], received {list(features.shape[1:])}. To remember from step to step, "
            f"use a cell: keras.layers.{name if name != 'RNN' else 'LSTM'}Cell."
        )


@keras.saving.register_keras_serializable("rlzoo")
class Preprocess(keras.Layer):
    """Casts observations to float32, once: whole numbers one-hot, pixels divided by 255.

    The parts of a nested observation come out flat, by their paths ("camera/front").

    Args:
        space: of the observations, without a mask.
    """

    def __init__(self, space: Space, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.space = space

    def call(self, obs):
        """Returns [B, ...] float32, or a dict of them."""
        if isinstance(self.space, dict):
            pairs = zip(items(self.space), leaves(obs), strict=True)
            return {path: _as_floats(x, leaf) for (path, leaf), x in pairs}
        return _as_floats(obs, self.space)

    def compute_output_spec(self, obs):
        """Tells Keras the shapes and dtypes of the outputs."""
        shapes = input_shapes(self.space)
        if not isinstance(shapes, dict):
            return keras.KerasTensor((leaves(obs)[0].shape[0], *shapes), "float32")
        batch = leaves(obs)[0].shape[0]
        return {path: keras.KerasTensor((batch, *x), "float32") for path, x in shapes.items()}

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {**super().get_config(), "space": plain(self.space)}

    @classmethod
    def from_config(cls, config):
        """Builds the layer that `get_config` described."""
        return cls(**{**config, "space": read_space(config["space"])})


def _as_floats(x: Any, leaf: Leaf) -> Any:
    if isinstance(leaf, Discrete):
        return keras.ops.one_hot(x, leaf.n)
    if isinstance(leaf, MultiDiscrete):
        return keras.ops.concatenate(
            [keras.ops.one_hot(x[..., i], n) for i, n in enumerate(leaf.nvec)], axis=-1
        )
    scale = 1 / 255 if isinstance(leaf, Box) and leaf.pixels else 1.0
    return keras.ops.cast(x, "float32") * scale


@keras.saving.register_keras_serializable("rlzoo")
class MaskScores(keras.Layer):
    """Scores, -inf where an action is not valid; where none is said to be, all are."""

    def call(self, inputs):
        """Returns [B, A] of scores and a mask, both [B, A]."""
        scores, mask = inputs
        mask = keras.ops.logical_or(mask, ~keras.ops.any(mask, axis=-1, keepdims=True))
        return keras.ops.where(mask, scores, -math.inf)


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


def initial_state(network: keras.Model, num_envs: int) -> tuple[tf.Tensor, ...]:
    """Returns the recurrent state of N environments at an episode's start; () if none."""
    count = len(network.outputs) - 1
    sizes = [state.shape[-1] for state in network.inputs[len(network.inputs) - count :]]
    return tuple(tf.zeros((num_envs, size)) for size in sizes)


def apply(network: keras.Model, obs, state: tuple, first) -> tuple[tf.Tensor, tuple]:
    """Returns the scores [N, A] and the next recurrent state, of a network that only acts.

    Args:
        network: from `build_network`.
        obs: [N, ...].
        state: from `initial_state` or the last call.
        first: [N] bool, where the state is reset before use.
    """
    if not state:
        return network(obs, training=False), ()
    scores, *next_state = network([obs, *_reset(state, first)], training=False)
    return scores, tuple(next_state)


def unroll(
    network: keras.Model, obs, state: tuple, first, learning=None
) -> tuple[tf.Tensor, tuple]:
    """Returns the scores [T, N, A] along a chunk, and the recurrent states [T, N, ...] after each.

    Args:
        network: from `build_network`.
        obs: [T, N, ...], nested as its space is.
        state: recurrent state before the first row.
        first: [T, N] bool, where the state is reset.
        learning: [T, N] bool, the valid rows, where the network learns from them: its layers do
            then what they do in training. None if it only acts.
    """
    training = learning is not None
    rows = map_leaves(lambda x: tf.reshape(x, (-1, *x.shape[2:])), obs)  # [T * N, ...]
    if training and network.non_trainable_weights:
        order = _without_padding(tf.reshape(learning, [-1]))
        rows = map_leaves(lambda x: tf.gather(x, order), rows)
    if state:
        return _Unrolled(network)(rows, first, *state, training=training)
    scores = network(rows, training=training)
    return tf.reshape(scores, (*first.shape, scores.shape[-1])), ()


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


class _Unrolled(keras.Layer):
    """A recurrent network along a chunk.

    It is a layer so that all layers in it know whether they train, below those that do not ask too.
    """

    def __init__(self, network: keras.Model):
        super().__init__(autocast=False, name="unroll")
        self.network = network

    def call(self, rows, first, *state, training=False):
        """Returns what `unroll` does, of rows [T * N, ...]."""
        # All steps go through the encoder at once: only the cell needs them one by one.
        layers = self.network.layers
        preprocess, cell, *head = (x for x in layers if not isinstance(x, keras.layers.InputLayer))
        mask_scores = head.pop() if isinstance(head[-1], MaskScores) else None
        inputs = preprocess(unmasked(rows))
        if isinstance(cell, Recurrent):
            inputs, cell = cell.encoder(inputs), cell.cell
        inputs = tf.reshape(inputs, (*first.shape, *inputs.shape[1:]))

        def step(carry, row):
            fresh = keras.tree.pack_sequence_as(_state_sizes(cell), _reset(carry[1], row[1]))
            scores, next_state = cell(row[0], fresh)
            for layer in head:
                scores = layer(scores)
            return scores, tuple(keras.tree.flatten(next_state))

        like = tf.zeros((first.shape[1], self.network.outputs[0].shape[-1]))
        scores, states = tf.scan(step, (inputs, first), initializer=(like, state))
        if mask_scores is not None:
            mask = tf.reshape(rows[MASK], scores.shape)
            scores = mask_scores([scores, mask])
        return scores, states


def _without_padding(valid: tf.Tensor) -> tf.Tensor:
    """Returns which row [B] to take for each: valid ones, in turn, for those that are not.

    So batch statistics are those of real observations.
    """
    valid_first = tf.argsort(tf.cast(~valid, tf.int32), stable=True)
    count = tf.maximum(tf.math.count_nonzero(valid, dtype=tf.int32), 1)
    turn = tf.cumsum(tf.cast(~valid, tf.int32), exclusive=True) % count
    return tf.where(valid, tf.range(valid.shape[0]), tf.gather(valid_first, turn))


def _reset(state: tuple, first) -> list[tf.Tensor]:
    """Returns the recurrent state, 0 where an episode starts."""
    return [tf.where(first[:, None], tf.zeros_like(x), x) for x in state]


def update_target(target: keras.Model, source: keras.Model, rate: float, due: tf.Tensor) -> None:
    """Moves `target` towards `source` by `rate` (1 copies it) where `due`, a bool scalar."""

    def move():
        for old, new in zip(target.weights, source.weights, strict=True):
            whole = rate == 1.0 or not tf.as_dtype(old.dtype).is_floating  # a counter, say
            old.assign(new if whole else old + rate * (new - old))
        return tf.constant(True)

    tf.cond(due, move, lambda: tf.constant(False))


def adam(network: keras.Model, learning_rate: float) -> keras.optimizers.Optimizer:
    """Returns Adam (Kingma & Ba 2015, arXiv:1412.6980), built for a network's variables."""
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(network.trainable_variables)
    return optimizer


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


def named_variables(prefix: str, owner: keras.Model | keras.optimizers.Optimizer) -> dict:
    """Returns the variables of a model or optimiser by a name that is stable across processes.

    Layer names count up within a process ("dense_3"), so the position names a variable.
    """
    return {f"{prefix}/{i}": variable for i, variable in enumerate(owner.variables)}
