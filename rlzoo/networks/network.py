"""A network: preprocessing, torso and head as one Keras model from observation to scores.

A recurrent network takes its state as further inputs and returns the next state as further
outputs; nothing is remembered inside a layer.
"""

from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.copying import copy_torso, layers_of
from rlzoo.networks.layers import Recurrent, is_recurrent
from rlzoo.networks.normalize import Normalize, normalizer
from rlzoo.networks.parts import joined
from rlzoo.networks.preprocessing import MaskScores, Preprocess, inputs, masked_scores
from rlzoo.spaces import (
    MASK,
    EnvSpec,
    map_leaves,
    unmasked,
)

_OTHER_FLOATS = {"float16", "bfloat16", "float64"}


def build_network(
    spec: EnvSpec,
    torso: keras.Layer,
    head: keras.Layer,
    *,
    masked: bool = True,
    like: keras.Model | None = None,
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
        like: the agent's first network, with which this one shares what normalises observations.
        seed: of convolutions that images among several parts get.

    Raises:
        ValueError: the torso cannot be copied, or not be put to work.
    """
    check_precision(torso)
    torso = copy_torso(joined(torso, spec.seen, seed), spec.seen)
    torso.role = "torso"  # so begin the names of its variables, whatever its own is
    obs = inputs(spec.seen)
    features = Preprocess(unmasked(spec.seen), name="preprocess")(unmasked(obs))
    if spec.normalize.obs:
        shared = None if like is None else normalizer(like)
        features = (shared or Normalize(unmasked(spec.obs), name="normalize"))(features)
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
        return keras.Model(obs, scores, name="network")
    outputs = [scores, *keras.tree.flatten(next_states)]
    return keras.Model([obs, *states], outputs, name="network")


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


def successor_scores(network: keras.Model, next_obs, until, states: tuple) -> tf.Tensor:
    """Returns the scores [T, N, A] of the successors in a chunk, by the memory of their past.

    Args:
        network: from `build_network`, recurrent.
        next_obs: [T, N, ...], nested as its space is.
        until: [T, N] int32, the row of the chunk that each comes after.
        states: recurrent states [T, N, ...] after each row, from `unroll`.
    """
    rows = map_leaves(lambda x: tf.reshape(x, (-1, *x.shape[2:])), next_obs)
    place = tf.reshape(until * until.shape[1] + tf.range(until.shape[1]), [-1])  # [T * N]
    memory = [tf.gather(tf.reshape(x, (-1, *x.shape[2:])), place) for x in states]
    scores, *_ = network([rows, *memory], training=False)
    return tf.reshape(scores, (*states[0].shape[:2], -1))


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
        known = (keras.layers.InputLayer, Normalize)
        preprocess, cell, *head = (x for x in layers if not isinstance(x, known))
        mask_scores = head.pop() if isinstance(head[-1], MaskScores) else None
        inputs = preprocess(unmasked(rows))
        if (normalize := normalizer(self.network)) is not None:
            inputs = normalize(inputs)
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
